"""What must happen at least once over some hundreds of seeds, read off the evidence of each: the coverage of the generator. Pure.

A fact that never happens means that a branch was never walked, so that nothing was shown about it.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from bus_schemas import events as e
from bus_schemas import subjects
from bus_schemas.decisions import CommandCause, TimerCause
from bus_schemas.events import GateKind, HoldKind, OrchestrationStatus
from bus_schemas.reasons import Reason
from bus_schemas.reports import Outcome
from tests.simulation.evidence import Evidence, Fact

ALWAYS_SOMETIMES = (
    "a compare-and-set on the ledger was lost",
    "a claim was refused: somebody else has it",
    "an order was published again and was there already",
    "another controller took over",
    "two controllers wrote in turn",
    "a message was delivered again",
    "a process is adopted after a restart",
    "a process is looked for after a restart",
    "a process that did not appear is locked out",
    "a journal lost what was not synced",
    "a report came too late and changed nothing",
    "an order was withdrawn",
    "a key was used again for something else",
    "a repeat was answered as a duplicate",
    "a command was too old",
    "a command was refused",
    "an outcome was unknown to its client",
    "an outcome that was unknown became known by asking again",
    "an attempt was lost",
    "an attempt timed out",
    "an attempt was stopped",
    "a run was given up after its attempts",
    "an orchestration was complete",
    "an orchestration failed",
    "an orchestration was cancelled",
    "an orchestration was paused",
    "a paused orchestration went on",
    "a gate was approved",
    "a gate was rejected",
    "two reviewers disagreed",
    "a phase was repaired",
    "a node was lost for a while",
    "the state that the active controller holds was compared",
    "the server was restarted",
)


def facts_of(evidence: Evidence) -> Counter[str]:
    """Return what happened, and how often."""
    found: Counter[str] = Counter()
    writers = [message.by for _, message in evidence.messages]
    found["another controller took over"] = len(set(writers)) - 1 if writers else 0
    turns = sum(before != after for before, after in pairwise(writers))
    found["two controllers wrote in turn"] = max(0, turns - (len(set(writers)) - 1))
    for fact in evidence.facts:
        name = _name(fact)
        if name:
            found[name] += 1
    for entry in evidence.entries:
        action = entry.decision.action
        if action is None or not isinstance(entry.decision.cause, CommandCause) or action.reason_code is None:
            continue
        found["a command was refused"] += 1
        found["a key was used again for something else"] += action.reason_code == Reason.IDEMPOTENCY_MISMATCH
        found["a command was too old"] += action.reason_code == Reason.EXPIRED
    _calls(evidence, found)
    found["a dead letter was kept"] = sum(record.stream == subjects.DLQ and record.subject.startswith("qd.dlq.") for record in evidence.stored)
    found["the state that the active controller holds was compared"] = len(evidence.active)
    return +found


def _calls(evidence: Evidence, found: Counter[str]) -> None:
    unknown: set[tuple[str, str]] = set()
    for call in evidence.calls:
        if call.outcome == "unknown":
            found["an outcome was unknown to its client"] += 1
            unknown.add((call.client, call.key))
        elif call.outcome in ("ok", "refused") and (call.client, call.key) in unknown:
            found["an outcome that was unknown became known by asking again"] += 1
        found["a repeat was answered as a duplicate"] += call.receipt is not None and call.receipt.duplicate


_ENDS = {
    Outcome.LOST: "an attempt was lost",
    Outcome.TIMED_OUT: "an attempt timed out",
    Outcome.CANCELLED: "an attempt was stopped",
    Outcome.FAILED: "an attempt failed",
    Outcome.SUCCEEDED: "an attempt succeeded",
}
_STATUSES = {
    OrchestrationStatus.COMPLETE: "an orchestration was complete",
    OrchestrationStatus.FAILED: "an orchestration failed",
    OrchestrationStatus.CANCELLED: "an orchestration was cancelled",
}
_HOLDS = {
    HoldKind.PAUSED: "an orchestration was paused",
    HoldKind.BLOCKED: "a run was given up after its attempts",
    HoldKind.NODE_LOST: "a node was lost for a while",
}


def _name(fact: Fact) -> str | None:
    match fact.event:
        case e.ReportStale():
            return "a report came too late and changed nothing"
        case e.RunWithdrawn():
            return "an order was withdrawn"
        case e.RunEnded(outcome=outcome):
            if isinstance(fact.decision.cause, TimerCause):
                return "an attempt was given up by the controller itself"
            return _ENDS[outcome]
        case e.OrchestrationMoved(status=status):
            return _STATUSES.get(status)
        case e.HoldSet(hold=hold):
            return _HOLDS.get(hold)
        case e.HoldCleared(hold=HoldKind.PAUSED):
            return "a paused orchestration went on"
        case e.GateOpened(gate=GateKind.CONSENSUS_DISAGREEMENT):
            return "two reviewers disagreed"
        case e.GateResolved(approved=approved):
            return "a gate was approved" if approved else "a gate was rejected"
        case e.RepairStarted():
            return "a phase was repaired"
        case e.NodeAssigned():
            return "an orchestration was given to another node"
        case e.PolicyChanged():
            return "a policy was changed while it ran"
        case e.TaskEdited() | e.TaskInserted():
            return "a plan was changed while it ran"
        case _:
            return None
