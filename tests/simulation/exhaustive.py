"""A crash at every step: a short scenario, played again and again, with one process killed between each two of its steps."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from tests.simulation.schedule import SHELL, Fault, NodeSpec, Op, Schedule
from tests.simulation.world import Result, play

LAST_STEP = 100_000
AGAIN_S = 0.3


def scenario() -> Schedule:
    """Return a launch with a pause and its resume, a repeat, and one task: most of what a service does, in a few seconds."""
    flow = {"run_timeout_s": 5, "max_parallel_tasks": 2}
    args = {
        "feature": "feature 1",
        "node": "n1",
        "tickets": [],
        "overrides": {"model": SHELL, "review": {"enforcement": "phase_only"}, "flow": flow},
    }
    ops = (
        Op(0.05, "k1", "launch", "k-launch", args),
        Op(0.06, "k1", "launch", "k-launch", args),
        Op(0.8, "k1", "pause", "k-pause", {"orchestration": "shop-o1", "mode": "drain"}),
        Op(1.6, "k1", "tend", "k-resume", {"orchestration": "shop-o1", "chance": 0.1}),
    )
    return Schedule(seed=7, controllers=("c1", "c2"), nodes=(NodeSpec("n1", "n1", 2),), clients=("k1",), ops=ops, faults=(), trouble=0.0, chaos_s=6.0)


def crashes(process: str, every: int = 1, first: int = 1) -> Iterator[Result]:
    """Yield the scenario's results with `process` killed at step `first`, `first + every`, …, until it has no more steps."""
    whole = scenario()
    for step in range(first, LAST_STEP, every):
        result = play(replace(whole, faults=(Fault(0.0, "at-step", process, AGAIN_S, amount=step),)))
        if not result.faults:
            return
        yield result


def main(process: str, every: int) -> int:
    """Print what came of it; return 1 when something failed."""
    count = failed = 0
    for count, result in enumerate(crashes(process, every), 1):
        for violation in result.violations:
            failed += 1
            print(f"{process} killed at step {1 + (count - 1) * every}: {violation.invariant}: {violation.text}", flush=True)
    print(f"{process}: killed at {count} different steps, {failed} violations")
    return 1 if failed else 0
