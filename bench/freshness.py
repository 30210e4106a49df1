"""Freshness: how long after a decision was stored the timeline shows it.

Launches come at a steady pace meanwhile; the timeline is asked every few milliseconds how far it is, and that grid is
part of the figure.
"""

from __future__ import annotations

import bisect
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, NamedTuple

import anyio

from bench.figures import Figures, latency_ms, rounded
from bench.watch import LedgerEntry, Watch

LAUNCHES_PER_S = 100
"""With some ten events each: the 1,000 events/s of the goal."""
ASK_EVERY_S = 0.004
SHOWN_TIMEOUT_S = 60.0


class Look(NamedTuple):
    """What the timeline answered: the time (seconds since 1970), and the ledger sequence it is at."""

    at_s: float
    seq: int


def ages_s(entries: Sequence[LedgerEntry], looks: Sequence[Look]) -> list[float]:
    """Return for each ledger message how old it was when a look first showed it; those that none showed are left out."""
    seqs = [look.seq for look in looks]
    found: list[float] = []
    for entry in entries:
        first = bisect.bisect_left(seqs, entry.seq)
        if first < len(looks):
            found.append(max(0.0, looks[first].at_s - entry.stored_at_s))
    return found


async def freshness(
    submit: Callable[[int], Coroutine[Any, Any, None]], position: Callable[[], Awaitable[int]], watch: Watch, paced_s: float
) -> Figures:
    """Return the ages of what was decided in `paced_s` seconds of steady launches, when the timeline first showed it."""
    looks: list[Look] = []
    count = max(1, int(paced_s * LAUNCHES_PER_S))

    launched = anyio.Event()

    async def look() -> None:
        while not launched.is_set() or looks[-1].seq < watch.position_seq:
            seq = await position()
            looks.append(Look(time.time(), seq))
            await anyio.sleep(ASK_EVERY_S)

    begun = time.perf_counter()
    with anyio.fail_after(paced_s + SHOWN_TIMEOUT_S):
        async with anyio.create_task_group() as looking:
            looking.start_soon(look)
            async with anyio.create_task_group() as launching:
                for number in range(count):
                    launching.start_soon(submit, number)
                    await anyio.sleep(max(0.0, begun + (number + 1) / LAUNCHES_PER_S - time.perf_counter()))
            await watch.until(count)
            took_s = time.perf_counter() - begun
            launched.set()
    ages = ages_s(watch.entries, looks)
    return {**latency_ms(ages), "events_per_s": rounded(sum(entry.events for entry in watch.entries) / took_s)}
