"""What a fake agent does in an attempt: how long it takes, how it ends, what it hands over. Pure: a function of seed, run and attempt.

It does not depend on when or where the attempt runs, so taking a fault out of a schedule changes nothing else.
"""

from __future__ import annotations

import random

from msgspec import Struct

from bus_schemas.orders import RunKind, WorkOrder
from bus_schemas.reasons import Reason
from bus_schemas.reports import (
    FinalizeResult,
    Finding,
    InitResult,
    PlannedTask,
    PlanResult,
    Result,
    ReviewResult,
    TaskResult,
    Usage,
    ValidateResult,
    Verdict,
    VerifyResult,
)
from tests.simulation.machine import SPAWN_ERRORS, Fate

OWN_WORK = frozenset({RunKind.INIT, RunKind.FINALIZE})
"""Kinds that the node does itself, without a process."""


class Part(Struct, frozen=True):
    """What becomes of an attempt. `result` is None where nothing usable was handed over, for `problem`.

    `quota_s` is how long the quota of its model is used up, None where it is not; 0: nobody says.
    """

    prepares_s: float
    fate: Fate
    result: Result | None
    head: str | None = None
    problem: Reason | None = None
    quota_s: float | None = None
    usage: Usage | None = None


def part_of(seed: int, order: WorkOrder, trouble: float, quota: float = 0.0) -> Part:
    """Return what the agent of an order does; `trouble` and `quota` (0 to 1) are how often it does not simply succeed, and meets its quota."""
    rng = random.Random(f"{seed}/{order.run}/{order.attempt}")
    lasts_s = min(4.0, rng.expovariate(2.5))
    appears_s = rng.uniform(0.001, 0.05) if rng.random() < 0.85 else rng.uniform(0.2, 1.6)
    fate = Fate(appears_s, lasts_s)
    problem: Reason | None = None
    if rng.random() < trouble:
        fate, problem = _ill_fated(rng, fate, order)
    result = None if problem is not None else result_of(rng, order, trouble)
    head = result.head if isinstance(result, TaskResult | FinalizeResult) else (order.workspace.base or (None,))[0]
    usage = Usage(rng.randint(10, 900), rng.randint(1, 90), usd=round(rng.uniform(0.001, 0.03), 4)) if rng.random() < 0.8 else None
    quota_s = rng.choice([0.0, 0.3, rng.uniform(0.5, 5.0)]) if order.kind not in OWN_WORK and rng.random() < quota else None
    return Part(rng.uniform(0.0, 0.3), fate, result, head, Reason.QUOTA_EXHAUSTED if quota_s is not None else problem, quota_s, usage)


def _ill_fated(rng: random.Random, fate: Fate, order: WorkOrder) -> tuple[Fate, Reason | None]:
    if order.kind is RunKind.INIT and rng.random() < 0.4:  # it has no process that could end badly
        return fate, Reason.OUTPUT_MALFORMED
    match rng.choice(["code", "signal", "errno", "hang", "lost", "malformed", "too large"]):
        case "code":
            return Fate(fate.appears_s, fate.lasts_s, exit_code=rng.randint(1, 255)), None
        case "signal":
            return Fate(fate.appears_s, fate.lasts_s, signal=9), None
        case "errno":
            return Fate(fate.appears_s, fate.lasts_s, errno=rng.choice(SPAWN_ERRORS)), None
        case "hang":
            return Fate(fate.appears_s, order.timeout_s + 60.0), None
        case "lost":
            return Fate(fate.appears_s, fate.lasts_s, lost=True), None
        case "malformed":
            return fate, Reason.OUTPUT_MALFORMED
        case _:
            return fate, Reason.OUTPUT_TOO_LARGE


def result_of(rng: random.Random, order: WorkOrder, trouble: float) -> Result:
    """Return what a successful run of this kind hands over: mostly what lets the orchestration go on, and valid."""
    gaps = rng.random() < trouble
    base = order.workspace.base[0] if order.workspace.base else "c0"
    head = f"c-{order.run}-{order.attempt}"
    match order.kind:
        case RunKind.INIT:
            return InitResult("c0", f"/clone/{order.workspace.slug}", order.workspace.branch)
        case RunKind.VALIDATE:
            return ValidateResult(rng.choice([Verdict.WARNING, Verdict.STOP]) if gaps else Verdict.PASS)
        case RunKind.PLAN:
            return _plan(rng, gaps)
        case RunKind.TASK:
            return TaskResult(base, head if rng.random() < 0.9 else base, files=1)
        case RunKind.VERIFY:
            return VerifyResult(not gaps, int(gaps), "boom" if gaps else "")
        case RunKind.REVIEW | RunKind.TASK_REVIEW:
            return _review(rng) if gaps else ReviewResult(Verdict.PASS)
        case RunKind.FINALIZE:
            return FinalizeResult(base, order.workspace.branch)


def _plan(rng: random.Random, strange: bool) -> PlanResult:
    count = rng.randint(0, 4) if strange else rng.randint(1, 5)
    tasks = []
    for number in range(1, count + 1):
        known = range(1, count + 1) if strange else range(1, number)
        depends_on = tuple(sorted(rng.sample(known, min(len(known), rng.randint(0, 2)))))
        tasks.append(PlannedTask(number, f"task {number}", depends_on=depends_on))
    return PlanResult(tuple(tasks))


def _review(rng: random.Random) -> ReviewResult:
    findings = tuple(Finding(f"finding {n}", override_reason=rng.choice([None, "known"])) for n in range(rng.randint(1, 2)))
    return ReviewResult(rng.choice([Verdict.GAPS, Verdict.PASS]), findings)
