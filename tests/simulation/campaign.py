"""Many seeds, on several processes: progress, and a summary as one JSON object.

Owns the worker processes. Each seed is a world of its own; nothing is shared but the figures.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tests.simulation.facts import ALWAYS_SOMETIMES
from tests.simulation.schedule import generate
from tests.simulation.world import Result, play

PROGRESS_EVERY_S = 10.0
RAREST = 12
SEEDS_PER_WORKER = 500
"""Then a fresh process takes over: a leak in a simulation must not end a night's run."""


def play_seed(seed: int) -> Result:
    """Run a seed. A simulation that breaks is a result too, since the seed must not be lost."""
    try:
        return play(generate(seed))
    except Exception as error:
        from tests.simulation.evidence import Violation

        text = f"{type(error).__name__}: {error}"
        return Result(seed, "", [Violation("simulation", text)], 0, 0.0, {}, {}, dump=text)


def results(seeds: Iterable[int], jobs: int) -> Iterator[Result]:
    """Yield what came of each seed, in order."""
    if jobs <= 1:
        yield from map(play_seed, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(jobs, maxtasksperchild=SEEDS_PER_WORKER) as pool:
        yield from pool.imap(play_seed, seeds, chunksize=4)


class Summary:
    """The figures of a campaign."""

    def __init__(self) -> None:
        self.began_s = time.monotonic()
        self.seeds = self.steps = self.decisions = self.starts = self.calls = 0
        self.virtual_s = 0.0
        self.faults: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()
        self.seen_in: Counter[str] = Counter()
        """In how many seeds a fact was seen."""
        self.failures: dict[int, list[str]] = {}

    def add(self, result: Result) -> None:
        """Count a result."""
        self.seeds += 1
        self.steps += result.steps
        self.virtual_s += result.virtual_s
        self.decisions += result.decisions
        self.starts += result.starts
        self.calls += result.calls
        self.faults.update(result.faults)
        self.seen.update(result.seen)
        self.seen_in.update(fact for fact, count in result.seen.items() if count)
        if result.violations:
            self.failures[result.seed] = [f"{violation.invariant}: {violation.text}" for violation in result.violations]

    @property
    def never(self) -> list[str]:
        """What should have happened at least once, and did not."""
        return [fact for fact in ALWAYS_SOMETIMES if not self.seen[fact]]

    def line(self) -> str:
        """Return the progress in one line."""
        took_s = time.monotonic() - self.began_s
        faults = sum(self.faults.values())
        return f"{self.seeds} seeds, {self.seeds / took_s:.1f}/s, {faults} faults, {self.virtual_s:.0f} virtual s, {len(self.failures)} failing"

    def as_object(self) -> dict[str, Any]:
        """Return everything, for JSON."""
        took_s = time.monotonic() - self.began_s
        return {
            "seeds": self.seeds,
            "faults": sum(self.faults.values()),
            "faults_by_kind": dict(self.faults.most_common()),
            "virtual_s": round(self.virtual_s, 1),
            "steps": self.steps,
            "decisions": self.decisions,
            "agent_starts": self.starts,
            "client_calls": self.calls,
            "violations": sum(len(texts) for texts in self.failures.values()),
            "failing_seeds": {str(seed): texts[:5] for seed, texts in sorted(self.failures.items())[:50]},
            "seconds": round(took_s, 1),
            "seeds_per_s": round(self.seeds / took_s, 2),
            "happened": dict(self.seen.most_common()),
            "never_happened": self.never,
            "rarest": dict(sorted(((fact, self.seen_in[fact]) for fact in ALWAYS_SOMETIMES), key=lambda item: item[1])[:RAREST]),
        }


def campaign(first: int, count: int, jobs: int, minutes: float | None, say: Callable[[str], None]) -> Summary:
    """Run `count` seeds from `first` on, or as many as fit into `minutes`."""
    summary = Summary()
    said_s = time.monotonic()
    for result in results(range(first, first + count), jobs):
        summary.add(result)
        if result.violations:
            say(f"seed {result.seed}: " + "; ".join(f"{v.invariant}: {v.text}" for v in result.violations[:3]))
        if time.monotonic() - said_s > PROGRESS_EVERY_S:
            said_s = time.monotonic()
            say(summary.line())
        if minutes is not None and time.monotonic() - summary.began_s > minutes * 60:
            break
    return summary


def lower_priority() -> None:
    """Let everything else on the machine go first."""
    if sys.platform != "win32":
        os.nice(10)
