"""One run of the client: its options, its output, and its connection, which is opened when it is first needed.

Owns the connection. Reading imports no more than `bus.connection`: what commands need comes with `cli.writing`.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Coroutine
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from bus_schemas.reasons import Reason
from cli.exits import UNREACHABLE
from cli.failure import Failure
from cli.options import Options
from cli.output import Output

if TYPE_CHECKING:
    from bus.connection import Bus
    from cli.endpoint import Endpoint

Result = TypeVar("Result")

QUERY_TIMEOUT_S = 10.0
WAIT_MARGIN_S = 5.0
"""On top of what a query is asked to wait for news."""

TIMELINE_QUERIES = frozenset({"timeline", "past-actions", "attempts", "report", "sql", "tables", "logs", "audit", "timeline-status"})


class Session:
    """What a verb is given. Use as an async context manager."""

    def __init__(self, options: Options, output: Output) -> None:
        """Nothing is opened yet."""
        self.options, self.out = options, output
        self._endpoint: Endpoint | None = None
        self._bus: Bus | None = None

    async def __aenter__(self) -> Session:
        """Open nothing: a verb may end before it needs the bus."""
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the connection, if there is one."""
        if self._bus is not None:
            await self._bus.close()

    def stay(self) -> None:
        """Prepare for a long run: garbage is collected from here on, which the start of a client leaves for later."""
        gc.enable()

    def use(self, endpoint: Endpoint) -> None:
        """Go there, whatever the options say."""
        self._endpoint = endpoint

    @property
    def endpoint(self) -> Endpoint:
        """Where the bus is and as whom we go there. Raises Failure."""
        if self._endpoint is None:
            from cli import endpoint, folders

            self._endpoint = endpoint.resolve(self.options, folders.state_dir())
        return self._endpoint

    async def bus(self) -> Bus:
        """Return the open connection. Raises Failure: unreachable, or not authorized."""
        if self._bus is None:
            self._bus = await self.connect()
        return self._bus

    async def connect(self) -> Bus:
        """Return a new connection, which the caller closes. Raises Failure: unreachable, or not authorized."""
        from bus.connection import connect
        from bus.errors import Denied, Unavailable

        try:
            return await connect(self.endpoint.url, "qd", self.endpoint.credentials)
        except Denied as error:
            raise Failure(Reason.NOT_AUTHORIZED, str(error)) from error
        except Unavailable as error:
            raise Failure(UNREACHABLE, str(error)) from error

    async def ask_all(self, name: str, /, **params: Any) -> dict[str, Any]:
        """Return the items of all pages of a list as one answer. Raises Failure."""
        from bus.paging import all_pages

        return await all_pages(partial(self.ask, name, **params))

    async def ask(self, name: str, /, *, wait_s: float | None = None, **params: Any) -> dict[str, Any]:
        """Return the answer of a query; parameters that are None are left out. `wait_s` lets it wait for news.

        Raises Failure with the reason code of the answer, or unreachable.
        """
        from bus.errors import NotSent, Unavailable
        from bus_schemas import subjects

        bus = await self.bus()
        sent = {key: value for key, value in params.items() if value is not None}
        timeout_s = self.options.timeout_s or QUERY_TIMEOUT_S
        if wait_s is not None:
            sent["wait_s"] = wait_s
            timeout_s = wait_s + WAIT_MARGIN_S
        request = bus.request_raw(subjects.query(name), msgspec.json.encode(sent), timeout_s=timeout_s)
        try:
            reply = await unless_refused(bus, request)
        except NotSent as error:
            who = "the timeline" if name in TIMELINE_QUERIES else "a controller"
            raise Failure(UNREACHABLE, f"the bus at {bus.url} is there, and {who} that answers {name!r} is not") from error
        except Unavailable as error:
            raise Failure(UNREACHABLE, str(error)) from error
        return _decoded(name, reply.data)

    async def find(self, query: str, name: str) -> dict[str, Any]:
        """Return the one thing that is called `name`. Raises Failure, with what may have been meant when it does not exist."""
        try:
            return await self.ask(query, id=name)
        except Failure as failure:
            if failure.code != Reason.ENTITY_NOT_FOUND:
                raise
            from cli.suggestions import nearest

            raise Failure(failure.code, failure.message, hint=await nearest(self, failure.message)) from failure

    def more(self, answer: dict[str, Any]) -> None:
        """Say that a list goes on, if it does."""
        if answer.get("next"):
            self.out.note(f"there are more: --after {answer['next']}")


async def unless_refused(bus: Bus, work: Coroutine[Any, Any, Result]) -> Result:
    """Return what `work` on a connection returns; ends it at once when the server refuses us, which it says without an answer.

    Raises Failure (not authorized) then, and else what `work` raises.
    """
    task, closed = asyncio.ensure_future(work), asyncio.ensure_future(bus.closed.wait())
    try:
        await asyncio.wait((task, closed), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Failure(Reason.NOT_AUTHORIZED, f"the bus at {bus.url} refused it: {bus.failure}")
        return task.result()
    finally:
        closed.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait((task,))


def _decoded(name: str, data: bytes) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise Failure("unexpected", f"the answer to {name!r} is not one that this client understands: {error}") from error
    refusal = answer.get("error")
    if isinstance(refusal, dict) and "code" in refusal:
        raise Failure(str(refusal["code"]), str(refusal.get("message", "")))
    return answer
