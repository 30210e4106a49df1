"""Shrinking: the smallest schedule that still fails. Pure, given a judge.

Takes away pieces of a list, halves first, then single ones, as long as what is left still fails; then whole hosts; then makes what is
left simpler. A schedule is data, and agents follow a script by run and attempt, so what stays behaves as before where it can.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from msgspec.structs import replace

from tests.simulation.schedule import MODELS, Schedule

T = TypeVar("T")
Judge = Callable[[Schedule], bool]
"""Whether a schedule still fails in the same way."""


def shrink(schedule: Schedule, fails: Judge, *, tries_max: int = 2000) -> Schedule:
    """Return a schedule that fails and from which nothing more can be taken away, within `tries_max` runs."""
    left = [tries_max]

    def judge(candidate: Schedule) -> bool:
        if left[0] <= 0:
            return False
        left[0] -= 1
        return fails(candidate)

    while True:
        before = schedule
        schedule = _fewer(schedule, judge)
        schedule = _fewer_hosts(schedule, judge)
        schedule = _simpler(schedule, judge)
        if schedule == before or left[0] <= 0:
            return schedule


def _fewer(schedule: Schedule, fails: Judge) -> Schedule:
    ops = without(schedule.ops, lambda kept: fails(replace(schedule, ops=tuple(kept))))
    schedule = replace(schedule, ops=tuple(ops))
    faults = without(schedule.faults, lambda kept: fails(replace(schedule, faults=tuple(kept))))
    return replace(schedule, faults=tuple(faults))


def without(items: Sequence[T], fails: Callable[[Sequence[T]], bool]) -> Sequence[T]:
    """Return a part of `items` that still fails and from which no single one can be taken away."""
    size = len(items)
    while size >= 1:
        start = 0
        while start < len(items):
            kept = [*items[:start], *items[start + size :]]
            if fails(kept):
                items = kept
            else:
                start += size
        size //= 2
    return items


def _fewer_hosts(schedule: Schedule, fails: Judge) -> Schedule:
    for name in schedule.controllers[1:]:
        candidate = _without_process(replace(schedule, controllers=tuple(c for c in schedule.controllers if c != name)), name)
        schedule = candidate if fails(candidate) else schedule
    for spec in schedule.nodes[1:]:
        candidate = _without_process(replace(schedule, nodes=tuple(n for n in schedule.nodes if n != spec)), spec.process)
        schedule = candidate if fails(candidate) else schedule
    for name in schedule.clients[1:]:
        candidate = _without_process(replace(schedule, clients=tuple(c for c in schedule.clients if c != name)), name)
        schedule = candidate if fails(candidate) else schedule
    return schedule


def _without_process(schedule: Schedule, name: str) -> Schedule:
    ops = tuple(op if op.client != name else replace(op, client=schedule.clients[0]) for op in schedule.ops)
    skew_s = {process: skew for process, skew in schedule.skew_s.items() if process != name}
    return replace(schedule, ops=ops, faults=tuple(fault for fault in schedule.faults if fault.target != name), skew_s=skew_s)


def _simpler(schedule: Schedule, fails: Judge) -> Schedule:
    candidates = [
        replace(schedule, skew_s={}),
        replace(schedule, trouble=0.0),
        replace(schedule, check=None),
        replace(schedule, phases=1),
        replace(schedule, nodes=tuple(replace(spec, models=MODELS) for spec in schedule.nodes)),
        replace(schedule, chaos_s=max([1.0, *(op.at_s for op in schedule.ops), *(fault.at_s for fault in schedule.faults)])),
    ]
    for candidate in candidates:
        changed = {name: getattr(candidate, name) for name in candidate.__struct_fields__ if getattr(candidate, name) != getattr(schedule, name)}
        changed = {name: value for name, value in changed.items() if name in ("skew_s", "trouble", "check", "phases", "chaos_s", "nodes")}
        if changed and fails(merged := replace(schedule, **changed)):
            schedule = merged
    return schedule
