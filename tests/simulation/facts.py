"""What must happen at least once over some hundreds of seeds, read off the evidence of each: the coverage of the generator. Pure.

A fact that never happens means that a branch was never walked, so that nothing was shown about it.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from bus_schemas import events as e
from bus_schemas import subjects
from bus_schemas.commands import Retry, TaskInsert
from bus_schemas.decisions import CommandCause, ReportCause, TimerCause
from bus_schemas.events import GateKind, HoldKind, OrchestrationStatus, PhaseStatus, TaskStatus
from bus_schemas.reasons import Reason
from bus_schemas.reports import Outcome
from tests.simulation.control import CONTROL_VERBS
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
    "a policy was changed while it ran",
    "a change of a policy was refused: its revision is stale",
    "a change of a plan was refused: its revision is stale",
    "an edit was refused: its task has started",
    "of two operators on one revision one was refused",
    "a task was edited",
    "a task was given a model",
    "a task was skipped",
    "a task was inserted",
    "an attempt that waited was ordered anew by a newer policy",
    "a start came while a pause waited",
    "a pause waited for what was under way",
    "a cancel met a finalize that succeeded",
    "an orchestration was given to another node",
    "a drained node was left",
    "an attempt was given up by the controller itself",
    "an attempt was lost because its node has forgotten it",
    "what was given up reported too late",
    "a node lost its data folder",
    "an operator gave up what a lost node held",
    "one task was retried",
    "a flag was changed",
    "a flag was rolled back",
    "a command was refused: its flag is off",
    "a budget was reached",
    "a quota was used up",
    "a quota ended by itself",
    "the state that the active controller holds was compared",
    "the server was restarted",
    "the phases to be done were changed",
    "a phase was left out",
    "a command was refused: it gives no reason",
    "a task was inserted before those that were named",
    "an insert was refused: its dependencies cannot be",
    "a launch was refused: its node does not take its models",
    "a change was refused: its node does not take the model",
    "a dry run said what would change",
    "a dry run was refused",
    "what was only asked for was then done with the same key",
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
        found["a command was refused: its flag is off"] += action.reason_code == Reason.FEATURE_DISABLED
        _refused(entry.decision.cause, action.reason_code, found)
    _calls(evidence, found)
    _rivals(evidence, found)
    _races(evidence, found)
    found["a node lost its data folder"] = len(evidence.emptied)
    found["a dead letter was kept"] = sum(record.stream == subjects.DLQ and record.subject.startswith("qd.dlq.") for record in evidence.stored)
    found["the state that the active controller holds was compared"] = len(evidence.active)
    return +found


def _calls(evidence: Evidence, found: Counter[str]) -> None:
    unknown: set[tuple[str, str]] = set()
    rehearsed: set[str] = set()
    for call in evidence.calls:
        if call.outcome == "unknown":
            found["an outcome was unknown to its client"] += 1
            unknown.add((call.client, call.key))
        elif call.outcome in ("ok", "refused") and (call.client, call.key) in unknown:
            found["an outcome that was unknown became known by asking again"] += 1
        found["one task was retried"] += call.outcome == "ok" and isinstance(call.asked, Retry) and call.asked.task is not None
        if call.dry_run:
            found["a dry run said what would change"] += (
                call.receipt is not None and call.receipt.diff is not None and bool(call.receipt.diff.changes)
            )
            found["a dry run was refused"] += call.outcome == "refused"
            rehearsed.add(call.key)
        elif call.outcome == "ok":
            found["what was only asked for was then done with the same key"] += call.key in rehearsed
            found["a task was inserted before those that were named"] += isinstance(call.asked, TaskInsert) and bool(call.asked.blocks)
        found["a repeat was answered as a duplicate"] += call.receipt is not None and call.receipt.duplicate


_PLAN_VERBS = frozenset({"task-edit", "task-set-model", "task-skip", "task-insert"})


def _refused(cause: CommandCause, code: str, found: Counter[str]) -> None:
    verb = cause.type
    if code == Reason.REVISION_CONFLICT:
        found[f"a change of a {'plan' if verb in _PLAN_VERBS else 'policy'} was refused: its revision is stale"] += 1
    elif code == Reason.INVALID_STATE and verb in ("task-edit", "task-set-model", "task-skip"):
        found["an edit was refused: its task has started"] += 1
    elif code == Reason.MISSING_FIELD and not cause.reason and verb in CONTROL_VERBS:
        found["a command was refused: it gives no reason"] += 1
    elif code == Reason.DEPENDENCY_INVALID and verb == "task-insert":
        found["an insert was refused: its dependencies cannot be"] += 1
    elif code == Reason.MODEL_UNROUTABLE and verb == "launch":
        found["a launch was refused: its node does not take its models"] += 1
    elif code == Reason.MODEL_UNROUTABLE and b'"shell' in bytes(cause.body):
        found["a change was refused: its node does not take the model"] += 1


def _rivals(evidence: Evidence, found: Counter[str]) -> None:
    """Count the revisions for which one change was accepted and another one refused as stale."""
    answers: dict[tuple[str, ...], set[str | None]] = {}
    for call in evidence.calls:
        target = getattr(call.asked, "target_revision", None)
        if target is None or call.receipt is None or call.outcome not in ("ok", "refused"):
            continue
        what = (str(getattr(call.asked, name, "")) for name in ("orchestration", "phase", "task"))
        answers.setdefault((*what, str(target)), set()).add(call.receipt.reason_code)
    found["of two operators on one revision one was refused"] = sum({None, Reason.REVISION_CONFLICT.value} <= codes for codes in answers.values())


def _races(evidence: Evidence, found: Counter[str]) -> None:
    """Count what happens between two events: around pauses and cancels, and after something was given up."""
    holds: dict[str, set[HoldKind]] = {}
    queued: dict[str, tuple[int, int]] = {}
    given_up: set[tuple[str, int]] = set()
    for fact in evidence.facts:
        match fact.event:
            case e.HoldSet(orchestration=o, hold=hold):
                waited = hold is HoldKind.PAUSED and not isinstance(fact.decision.cause, CommandCause)
                found["a pause waited for what was under way"] += waited
                holds.setdefault(o, set()).add(hold)
            case e.HoldCleared(orchestration=o, hold=hold):
                found["a quota ended by itself"] += hold is HoldKind.QUOTA and isinstance(fact.decision.cause, TimerCause)
                holds.setdefault(o, set()).discard(hold)
            case e.RunStarted(orchestration=o):
                found["a start came while a pause waited"] += HoldKind.PAUSING in holds.get(o, ())
            case e.OrchestrationMoved(orchestration=o, status=OrchestrationStatus.COMPLETE):
                found["a cancel met a finalize that succeeded"] += HoldKind.CANCELLING in holds.get(o, ())
            case e.RunQueued(run=run, attempt=attempt, policy_revision=revision):
                before = queued.get(run, (attempt, revision))
                found["an attempt that waited was ordered anew by a newer policy"] += before[1] < revision
                queued[run] = (attempt, revision)
            case e.RunEnded(run=run, attempt=attempt, outcome=Outcome.LOST) if not isinstance(fact.decision.cause, ReportCause):
                given_up.add((run, attempt))
                found["an operator gave up what a lost node held"] += isinstance(fact.decision.cause, CommandCause)
                found["an attempt was lost because its node has forgotten it"] += fact.decision.cause == TimerCause("disowned")
            case e.ReportStale(run=run, attempt=attempt):
                found["what was given up reported too late"] += (run, attempt) in given_up
            case _:
                pass


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
    HoldKind.BUDGET: "a budget was reached",
    HoldKind.QUOTA: "a quota was used up",
}


def _flag(fact: Fact) -> str | None:
    if not isinstance(fact.decision.cause, CommandCause):
        return None
    return "a flag was rolled back" if fact.decision.cause.type == "flag-rollback" else "a flag was changed"


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
            return "a drained node was left" if fact.decision.cause == TimerCause("node-drained") else "an orchestration was given to another node"
        case e.PolicyChanged(changed=changed):
            return "the phases to be done were changed" if "flow.phases_enabled" in changed else "a policy was changed while it ran"
        case e.PhaseMoved(status=PhaseStatus.SKIPPED):
            return "a phase was left out"
        case e.TaskEdited(model=model):
            return "a task was edited" if model is None else "a task was given a model"
        case e.TaskInserted():
            return "a task was inserted"
        case e.TaskMoved(status=TaskStatus.SKIPPED, plan_revision=revision) if revision is not None:
            return "a task was skipped"
        case e.FlagChanged():
            return _flag(fact)
        case _:
            return None
