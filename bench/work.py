"""The work of figure A: what is launched, on which nodes, under which keys. Pure.

Each launch is one orchestration with one run, `init`, on a node that does nothing. The null executor ends `init` as failed and the
policy allows one attempt, so the orchestration ends there: one run, one order, one start, one end, and nothing that follows to be
measured along. With `Then.STOP` the run succeeds, the orchestration goes on to `validate`, and the null validator says stop: two
runs a launch, of which the figure counts the first.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from bus_schemas import commands as c
from bus_schemas.routing import AgentOffer

PROJECT = "bench"
DESIGN = "bench-d1"
DESIGN_BODY = "# Bench\n\nNothing is built.\n\n## Phase 1: nothing\n\n### Task 1: do nothing\n\n```sh\ntrue\n```\n"
MARKERS = ("objective_defined", "scope_bounded")

NODE_PROCESSES: tuple[tuple[str, ...], ...] = (("node-0", "node-1", "node-2", "node-3"), ("node-4", "node-5", "node-6", "node-7"))
NODES: tuple[str, ...] = tuple(node for nodes in NODE_PROCESSES for node in nodes)
NODE_CAPACITY = 64

OFFERS = (AgentOffer("null", "1", ("null",)),)
OVERRIDES: dict[str, Any] = {
    "model": dict.fromkeys(("validator", "planner", "executor", "reviewer", "reviewer_secondary"), "null"),
    "flow": {"max_task_attempts": 1},
}


class Then(StrEnum):
    """How an orchestration is kept from going on."""

    FAIL = "fail"
    STOP = "stop"


def launch(number: int, series: str) -> c.Launch:
    """Return a launch; no two numbers, and no two series, have the same feature."""
    return c.Launch(
        design=DESIGN,
        node=NODES[number % len(NODES)],
        feature=f"Feature {series} {number}",
        branch=f"qd/{series}-{number}",
        labels={"team": "core", "cost-center": "r-and-d"},
        preset="balanced",
        overrides=OVERRIDES,
    )


def key(number: int, series: str) -> str:
    """Return the idempotency key of a launch."""
    return f"bench-{series}-{number:07d}"
