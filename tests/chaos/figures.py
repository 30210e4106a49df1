"""Figures of a run: keys, launches, attempts and faults counted from the evidence, and what came out lost, duplicated or stuck. Pure.

This counting is its own, a few lines beside the verifier's, so that one of them cannot be blind alone.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from bus_schemas.codec import decode_ledger
from bus_schemas.decisions import CommandCause
from bus_schemas.events import OrchestrationLaunched, OrchestrationMoved, RunStarted
from bus_schemas.reasons import Reason
from cli.audit.evidence import Call, Stored, Witnessed

ENDED = ("complete", "failed", "cancelled")
SAMPLES_MAX = 20


class Injected(NamedTuple):
    """A fault as it happened. `since_s` is from when recovery counts, `recovered_s` when it was there; `ended_s` when it was left."""

    kind: str
    target: str
    at_s: float
    healed_s: float
    recovery: str | None
    since_s: float
    recovered_s: float | None
    ended_s: float


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` of the values do not exceed; there must be some."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def counted(ledger: Iterable[Stored], calls: Iterable[Call], witness: Iterable[Witnessed]) -> dict[str, Any]:
    """Return what was asked, decided and done, and what of it is lost, duplicated or stuck."""
    decided: dict[tuple[str, str], list[str]] = defaultdict(list)
    ended: dict[str, bool] = {}
    started: Counter[tuple[str, int]] = Counter()
    for stored in ledger:
        for decision in decode_ledger(stored.data).decisions:
            action = decision.action
            # a key that is used for another request is refused, which is recorded and decides nothing under that key
            if isinstance(decision.cause, CommandCause) and action is not None and action.reason_code != Reason.IDEMPOTENCY_MISMATCH:
                decided[decision.cause.project, decision.cause.key].append(action.id)
            for event in decision.events:
                match event:
                    case OrchestrationLaunched():
                        ended.setdefault(event.orchestration, False)
                    case OrchestrationMoved(status=status) if status in ENDED:
                        ended[event.orchestration] = True
                    case RunStarted():
                        started[event.run, event.attempt] += 1
                    case _:
                        pass
    keys = _keys(calls, decided)
    ran = Counter((line.run, line.attempt) for line in witness if line.event == "start")
    repeated = [f"{run}.{attempt} ran {count} times" for (run, attempt), count in ran.items() if count > 1]
    repeated += [f"{run}.{attempt} was started {count} times" for (run, attempt), count in started.items() if count > 1]
    repeated += [f"key {key} of {project} was decided {len(ids)} times" for (project, key), ids in decided.items() if len(ids) > 1]
    unrecorded = [f"{run}.{attempt} ran and is not in the ledger as started" for run, attempt in ran if (run, attempt) not in started]
    stuck = [orchestration for orchestration, is_ended in ended.items() if not is_ended] + keys.pop("unknown_keys")
    lost = keys.pop("lost_keys") + unrecorded
    return {
        **keys,
        "launched": len(ended),
        "attempts_started": len(started),
        "blocks_run": sum(ran.values()),
        "lost": len(lost),
        "duplicated": len(repeated),
        "stuck": len(stuck),
        "samples": {"lost": lost[:SAMPLES_MAX], "duplicated": repeated[:SAMPLES_MAX], "stuck": stuck[:SAMPLES_MAX]},
    }


def _keys(calls: Iterable[Call], decided: dict[tuple[str, str], list[str]]) -> dict[str, Any]:
    asked: set[tuple[str, str]] = set()
    known: set[tuple[str, str]] = set()
    outcomes: Counter[str] = Counter()
    lost: list[str] = []
    for call in calls:
        name = (call.project, call.key)
        asked.add(name)
        outcomes[call.outcome] += 1
        if call.receipt is not None:
            known.add(name)
            # a twisted body under a used key is refused without an action of its own
            if name not in decided or (call.outcome == "ok" and call.receipt.action not in decided[name]):
                lost.append(f"{call.receipt.action} of key {call.key} of {call.project}: in the ledger is {decided.get(name)}")
    return {
        "keys_submitted": len(asked),
        "keys_answered": len(known),
        "calls": dict(outcomes),
        "lost_keys": lost,
        "unknown_keys": [f"key {key} of {project} has no known outcome" for project, key in sorted(asked - known)],
    }


def recovery(faults: Sequence[Injected], goals_s: dict[str, float]) -> dict[str, Any]:
    """Return the recovery by class, in seconds: of faults that were alone, and of all; `never` had not recovered when it was given up."""
    found: dict[str, Any] = {}
    for name in sorted({fault.recovery for fault in faults if fault.recovery is not None}):
        mine = [fault for fault in faults if fault.recovery == name]
        alone = [fault for fault in mine if not any(_overlap(fault, other) for other in faults)]
        found[name] = {
            "goal_s": goals_s.get(name),
            "alone": _times(alone),
            "all": _times(mine),
            "never": [f"{fault.kind} of {fault.target} at {fault.at_s:.1f}" for fault in mine if fault.recovered_s is None],
        }
    return found


def _overlap(fault: Injected, other: Injected) -> bool:
    return other is not fault and other.at_s <= fault.ended_s and fault.at_s <= other.ended_s


def _times(faults: Sequence[Injected]) -> dict[str, float | int]:
    return spread([max(0.0, fault.recovered_s - fault.since_s) for fault in faults if fault.recovered_s is not None])


def spread(times: Sequence[float]) -> dict[str, float | int]:
    """Return how many there are, and p50, p99 and the largest, in seconds."""
    if not times:
        return {"count": 0}
    return {
        "count": len(times),
        "p50_s": round(quantile(times, 0.5), 3),
        "p99_s": round(quantile(times, 0.99), 3),
        "max_s": round(max(times), 3),
    }
