"""Services in the foreground: started in order, ended together, by a signal or because one of them failed.

Owns the signal handlers of the process, and its end when a shutdown hangs.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple, Protocol, TypeVar

import anyio
from anyio.abc import TaskStatus

from bus.bootstrap import UnsafeSync
from bus.embedded import ServerFailed, ServerMissing
from bus.errors import Denied, Unavailable
from bus.foreground import ConnectionLost, loop_options, spare_collector
from bus_schemas.reasons import Reason
from cli.exits import DATA_IN_USE, UNEXPECTED, UNREACHABLE, UNSAFE_SYNC, Exit
from cli.failure import Failure
from cli.output import Output

STOP_S_MAX = 9.0
"""SIGTERM is promised to end everything within 10 s."""

Result = TypeVar("Result")


class Serve(Protocol):
    """How a service is run: until it is cancelled; it says when it has started."""

    def __call__(self, *, task_status: TaskStatus[None]) -> Awaitable[None]:
        """Run."""


class Part(NamedTuple):
    """A service, and what it is called."""

    name: str
    serve: Serve


class PartFailed(Exception):
    """A service ended though nobody asked it to; the others were ended with it."""

    def __init__(self, part: str, error: BaseException | None) -> None:
        """Keep what it was and why."""
        reasons = "; ".join(str(leaf) or type(leaf).__name__ for leaf in leaves(error)) if error else "it ended by itself"
        super().__init__(f"{part} ended: {reasons}")
        self.part, self.error = part, error


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the exceptions of a group, nested groups opened; one that is no group alone."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


async def run_parts(parts: Sequence[Part], body: Callable[[], Awaitable[Result]]) -> Result:
    """Start the parts in their order, run `body` beside them, then end them; return what `body` returned. Raises PartFailed."""
    failed: list[PartFailed] = []
    results: list[Result] = []
    async with anyio.create_task_group() as tasks:

        async def guard(part: Part, *, task_status: TaskStatus[None]) -> None:
            error: Exception | None = None
            try:
                await part.serve(task_status=task_status)
            except Exception as caught:  # whatever it is, it ends all parts and is told
                error = caught
                logging.getLogger(part.name).debug("ended", exc_info=caught)
            failed.append(PartFailed(part.name, error))
            tasks.cancel_scope.cancel()

        try:
            for part in parts:
                await tasks.start(guard, part)
            results.append(await body())
        except RuntimeError:  # what `start` raises for a part that ended before it had started
            if not failed:
                raise
        tasks.cancel_scope.cancel()
    if failed:
        raise failed[0]
    return results[0]


async def _until_signal(service: Callable[[], Awaitable[Result]], on_signal: Callable[[], None] | None) -> Result | None:
    results: list[Result] = []
    async with anyio.create_task_group() as tasks:

        async def listen() -> None:
            with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
                count = 0
                async for _ in received:
                    count += 1
                    if count > 2:
                        os._exit(Exit.INTERRUPTED)
                    if count == 1 and on_signal is not None:
                        on_signal()
                        continue
                    _end_by_force_later()
                    tasks.cancel_scope.cancel()

        tasks.start_soon(listen)
        results.append(await service())
        tasks.cancel_scope.cancel()
    return results[0] if results else None


def _end_by_force_later() -> None:
    def end() -> None:
        print(f"the shutdown took longer than {STOP_S_MAX:g} s; ended by force", file=sys.stderr, flush=True)
        os._exit(Exit.UNEXPECTED)

    timer = threading.Timer(STOP_S_MAX, end)
    timer.daemon = True
    timer.start()


def run(out: Output, service: Callable[[], Awaitable[Result]], *, with_duckdb: bool, on_signal: Callable[[], None] | None = None) -> Result | None:
    """Run a service until it ends or a signal comes; return its result, None after a signal.

    `with_duckdb` says whether a timeline is part of it. With `on_signal` the first signal calls that and the second one ends.
    Raises Failure for what services end with.
    """
    gc.enable()
    spare_collector()
    level = logging.INFO if out.options.verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    options = loop_options(with_duckdb=with_duckdb)
    try:
        return anyio.run(partial(_until_signal, service, on_signal), backend_options=options)
    except BaseException as error:
        failure = failure_of(error)
        if failure is None or (failure.code == UNEXPECTED and out.options.verbose):
            raise
        raise failure from error


def failure_of(error: BaseException) -> Failure | None:
    """Return what the end of a service is to an operator, or None for what must not be swallowed."""
    found = list(leaves(error))
    causes = [leaf for known in found for leaf in (leaves(known.error) if isinstance(known, PartFailed) and known.error else [known])]
    text = str(found[0]) or type(found[0]).__name__
    for cause in causes:
        if isinstance(cause, Failure):
            return cause
        code = _code_of(cause)
        if code is not None:
            return Failure(code, text)
    if not all(isinstance(known, Exception) for known in found):
        return None
    text = text if isinstance(found[0], PartFailed) else f"{type(found[0]).__name__}: {text}"
    return Failure(UNEXPECTED, text, hint="Run it again with --verbose to see its log.")


def _code_of(cause: BaseException) -> str | None:
    match cause:
        case UnsafeSync():
            return UNSAFE_SYNC
        case Denied():
            return Reason.NOT_AUTHORIZED
        case ConnectionLost() | Unavailable():
            return UNREACHABLE
        case ServerMissing() | ServerFailed():
            return UNEXPECTED
        case _:
            pass
    return DATA_IN_USE if type(cause).__name__ == "DataInUse" else None
