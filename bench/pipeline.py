"""One round: the same measurements of either pipeline, Quarterdeck or the limit, through the same eyes."""

from __future__ import annotations

import time
from typing import NamedTuple, Protocol

from bench.figures import Figures, latency_ms, rounded
from bench.freshness import freshness
from bench.processes import Processes
from bench.watch import Watch
from bus.connection import Bus
from bus.reader import stream_state
from bus_schemas import subjects

WARM_LAUNCHES = 64
WINDOW = 256
"""Launches of the one client that are on their way at a time."""

STREAMS = (subjects.CMD, subjects.LEDGER, subjects.WORK, subjects.REP)


class Sizes(NamedTuple):
    """How much a round measures: launches as fast as possible, launches one by one, and seconds of paced ones."""

    launches: int
    singles: int
    paced_s: float


class Launched(NamedTuple):
    """What a receipt said."""

    orchestration: str
    duplicate: bool


class WrongCount(Exception):
    """A round did not do its work; its figures would say nothing."""


class Client(Protocol):
    """The one client of a pipeline."""

    async def submit(self, number: int, series: str) -> Launched:
        """Return the receipt of a launch."""
        ...

    async def flood(self, count: int, series: str) -> int:
        """Submit launches 0 to `count`, `WINDOW` on their way at a time; return how many orchestrations that made."""
        ...

    async def show(self, seq: int) -> None:
        """Return when a query answers with what stands in ledger message `seq`."""
        ...

    async def position(self) -> int | None:
        """Return the ledger sequence that the timeline is at, or None where there is none."""
        ...


async def measure(bus: Bus, client: Client, processes: Processes, sizes: Sizes) -> Figures:
    """Return the figures of one round. Raises WrongCount, ChildEnded and TimeoutError."""
    await throughput(bus, client, processes, min(WARM_LAUNCHES, sizes.launches), "warm")
    figures = await throughput(bus, client, processes, sizes.launches, "flood")
    figures |= await latencies(bus, client, sizes.singles)
    if await client.position() is not None:
        figures["freshness_ms"] = await _freshness(bus, client, sizes.paced_s)
    figures["rss_peak_mb"] = _totalled({name: size / 1e6 for name, size in processes.rss_peak_bytes().items()})
    processes.check()
    return figures


async def throughput(bus: Bus, client: Client, processes: Processes, count: int, series: str) -> Figures:
    """Launch `count` as fast as one client can; the clock stops when a query shows the end of the last. Raises WrongCount."""
    before = {name: await stream_state(bus, name) for name in STREAMS}
    async with Watch(bus, before[subjects.LEDGER].last_seq + 1) as watch:
        cpu_s = processes.cpu_s()
        begun = time.perf_counter()
        accepted = await client.flood(count, series)
        answered_s = time.perf_counter() - begun
        await watch.until(count)  # from here on, so that it costs the client nothing while it launches
        recorded_s = max(watch.ended.values()) - begun
        await client.show(watch.position_seq)
        shown_s = time.perf_counter() - begun
        used_s = processes.cpu_s()
        ended, ended_twice = len(watch.ended), watch.ended_twice
    after = {name: await stream_state(bus, name) for name in STREAMS}
    if (accepted, ended, ended_twice) != (count, count, 0):
        raise WrongCount(f"of {count} launches {accepted} were accepted and {ended} ended, {ended_twice} of them more than once")
    return {
        "launches": count,
        "launches_per_s": rounded(count / shown_s),
        "recorded_per_s": rounded(count / recorded_s),
        "receipts_per_s": rounded(count / answered_s),
        "cpu_ms_per_launch": _totalled({name: (used_s[name] - was_s) * 1000.0 / count for name, was_s in cpu_s.items()}),
        "messages_per_launch": {name: rounded((after[name].last_seq - state.last_seq) / count) for name, state in before.items()},
    }


async def latencies(bus: Bus, client: Client, count: int) -> Figures:
    """Launch one by one and wait for each end, then ask again under the same keys. Raises WrongCount."""
    receipt_s: list[float] = []
    done_s: list[float] = []
    duplicate_s: list[float] = []
    duplicates = 0
    async with Watch(bus, (await stream_state(bus, subjects.LEDGER)).last_seq + 1) as watch:
        for number in range(count):
            begun = time.perf_counter()
            launched = await client.submit(number, "single")
            receipt_s.append(time.perf_counter() - begun)
            await watch.until_ended(launched.orchestration)
            done_s.append(time.perf_counter() - begun)
        for number in range(count):
            begun = time.perf_counter()
            duplicates += (await client.submit(number, "single")).duplicate
            duplicate_s.append(time.perf_counter() - begun)
    if duplicates != count:
        raise WrongCount(f"of {count} launches that were submitted again {duplicates} were told apart as duplicates")
    return {"receipt_ms": latency_ms(receipt_s), "done_ms": latency_ms(done_s), "duplicate_ms": latency_ms(duplicate_s)}


async def _freshness(bus: Bus, client: Client, paced_s: float) -> Figures:
    async def submit(number: int) -> None:
        await client.submit(number, "paced")

    async def position() -> int:
        return await client.position() or 0

    async with Watch(bus, (await stream_state(bus, subjects.LEDGER)).last_seq + 1) as watch:
        return await freshness(submit, position, watch, paced_s)


def _totalled(figures: dict[str, float]) -> Figures:
    return {**{name: rounded(value) for name, value in figures.items()}, "total": rounded(sum(figures.values()))}
