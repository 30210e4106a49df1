"""Following an orchestration to its end: its view from the controller, its rows from the timeline, both asked again and again.

Either may be away for a while (a take-over, a restart): the follower goes on, and gives up only after `AWAY_S_MAX`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from bus_schemas.decisions import Position
from bus_schemas.reasons import Reason
from cli.exits import UNREACHABLE, WAITED_TOO_LONG
from cli.failure import Failure
from cli.render import history, orchestrations
from cli.session import Session

AWAY_S_MAX = 30.0
NEWS_WAIT_S = 2.0
RETRY_S = 0.5
BEHIND_RETRY_S = 0.05
ROWS_MAX = 500


class Step(NamedTuple):
    """What is known now, and the rows that came since the step before."""

    view: dict[str, Any]
    rows: list[dict[str, Any]]


class _Patience:
    """How long something has not answered."""

    def __init__(self, session: Session, deadline: float | None, orchestration: str) -> None:
        self._session, self._deadline, self._orchestration = session, deadline, orchestration
        self._away_since: float | None = None

    def answered(self) -> None:
        self._away_since = None

    async def missed(self, failure: Failure) -> None:
        """Wait a little. Raises the failure when it lasted too long."""
        now = time.monotonic()
        if failure.code != UNREACHABLE:
            raise failure
        if self._away_since is None:
            self._away_since = now
            self._session.out.note(f"{failure.message}; asking again")
        if now - self._away_since > AWAY_S_MAX:
            raise failure
        self.check()
        await asyncio.sleep(RETRY_S)

    def check(self) -> None:
        """Raise Failure when the wait is over its limit."""
        if self._deadline is not None and time.monotonic() >= self._deadline:
            text = f"{self._orchestration} has not ended in the time that --timeout gives; it goes on"
            raise Failure(WAITED_TOO_LONG, text, hint=f"`qd watch {self._orchestration}` follows it again.")


async def follow(session: Session, orchestration: str, *, after: str | None = None, timeout_s: float | None = None) -> AsyncIterator[Step]:
    """Yield a step for each change until the orchestration has ended and its last row was given.

    Raises Failure: not found, waited too long, unreachable.
    """
    session.stay()
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    patience = _Patience(session, deadline, orchestration)
    timeline = _Rows(session, orchestration, after)
    last: dict[str, Any] | None = None
    while True:
        try:
            view = await session.find("orchestration", orchestration)
        except Failure as failure:
            await patience.missed(failure)
            continue
        patience.answered()
        ended, moved = view["status"] in orchestrations.ENDED, _differs(view, last)
        left_s = NEWS_WAIT_S if deadline is None else min(NEWS_WAIT_S, max(0.0, deadline - time.monotonic()))
        rows = await timeline.next(view, wait_s=0.0 if ended or moved else left_s)
        if rows or moved:
            yield Step(view, rows)
            last = view
        if ended and len(rows) < ROWS_MAX:
            return
        patience.check()


def _differs(view: dict[str, Any], last: dict[str, Any] | None) -> bool:
    keys = ("status", "hold", "phase", "plan", "cost_usd", "ended_at")
    return last is None or any(view[key] != last[key] for key in keys)


class _Rows:
    """The rows of one orchestration, from a position on."""

    def __init__(self, session: Session, orchestration: str, after: str | None) -> None:
        self._session, self._orchestration, self._cursor = session, orchestration, after
        self.away = False

    async def next(self, view: dict[str, Any], *, wait_s: float) -> list[dict[str, Any]]:
        """Return the rows that came; waits up to `wait_s` for the first. Without a timeline there are none."""
        ended = view["status"] in orchestrations.ENDED
        try:
            answer = await self._session.ask(
                "timeline",
                wait_s=wait_s,
                orchestration=self._orchestration,
                after=self._cursor,
                limit=ROWS_MAX,
                min_seq=Position.parse(view["position"]).seq if ended else None,
            )
        except Failure as failure:
            if failure.code == Reason.ENTITY_NOT_FOUND:  # it is a moment behind the controller
                await asyncio.sleep(BEHIND_RETRY_S)
                return []
            if not self.away:
                self._session.out.note(f"the timeline does not answer ({failure.message}); following the controller alone")
            self.away = True
            await asyncio.sleep(min(RETRY_S, wait_s))
            return []
        self.away = False
        rows: list[dict[str, Any]] = answer["items"]
        if rows:
            self._cursor = answer.get("next") or rows[-1]["position"]
        return rows


def tell(session: Session, step: Step) -> None:
    """Print a step: each row as a line, and on a terminal where it stands now."""
    if session.options.is_json:
        session.out.ndjson("timeline", step.rows)
    elif session.options.output != "name":
        session.out.lines(told(session, step))
    session.out.progress(orchestrations.progress(step.view, session.out.now))


def told(session: Session, step: Step) -> list[tuple[str, str]]:
    """Return the lines of a step with their styles; with --verbose every row has one."""
    rows = [row for row in step.rows if session.options.verbose or history.is_told(row)]
    return [history.line(row, session.out.zone) for row in rows]


def tell_aside(session: Session, step: Step) -> None:
    """Say a step on stderr, where stdout is for something else."""
    for text, _ in told(session, step):
        session.out.note(text)
    session.out.progress(orchestrations.progress(step.view, session.out.now))
