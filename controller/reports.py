"""What a node's report changes. Pure.

A report is believed when node and nonce are those of the attempt's order. Said twice it is acknowledged without a record;
of an older attempt, or in a status that does not take it, it is recorded as stale and changes nothing.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from bus_schemas import events as e
from bus_schemas.decisions import Decision, ReportCause
from bus_schemas.events import HoldKind, RunStatus
from bus_schemas.ids import orchestration_of
from bus_schemas.orders import RunKind
from bus_schemas.reasons import Reason
from bus_schemas.reports import Ended, Outcome, Report, Started, Withdrawn
from bus_schemas.subjects import ReportSubject
from controller import budgets, progress, standing
from controller.draft import Context, Draft
from controller.orchestration import NOT_STARTED, Orchestration, Run
from controller.project import Aggregate

_KEPT_IN_OTHER_EVENTS = frozenset({RunKind.VALIDATE, RunKind.PLAN, RunKind.TASK_REVIEW, RunKind.REVIEW})
"""Kinds whose result stands in an event of its own, so that the ledger need not hold it twice."""


class Unbelieved(Struct, frozen=True):
    """A report that goes to the dead letters: nobody was asked for it, or not this node with this nonce."""

    why: str


class Repeated(Struct, frozen=True):
    """A report that was applied before; nothing is recorded."""


def decide_report(
    state: Aggregate, subject: ReportSubject, report: Report, stored_at: datetime, context: Context
) -> Decision | Repeated | Unbelieved:
    """Return what a report changes."""
    o = state.orchestrations.get(orchestration_of(subject.run))
    run = None if o is None else o.run(subject.run)
    if o is None or run is None:
        return Unbelieved(f"no run {subject.run} was ordered")
    if not 1 <= subject.attempt <= run.attempt or run.sent[subject.attempt - 1] != (subject.nonce, subject.node):
        return Unbelieved(f"attempt {subject.attempt} of {subject.run} was not ordered from {subject.node} with this nonce")
    cause = ReportCause(subject.node, subject.run, subject.attempt, subject.kind, stored_at)
    draft = Draft(state, cause, context, run.action)
    if subject.attempt < run.attempt:
        if isinstance(report, Ended):
            return _stale(draft, o, subject, f"attempt {run.attempt} is the newest")
        return Repeated()
    match report:
        case Started():
            return _started(draft, o, run)
        case Withdrawn():
            return _withdrawn(draft, o, run)
        case Ended():
            return _ended(draft, o, run, subject, report)


def _stale(draft: Draft, o: Orchestration, subject: ReportSubject, message: str) -> Decision:
    draft.emit(e.ReportStale(orchestration=o.id, run=subject.run, attempt=subject.attempt, kind=subject.kind, message=message))
    return draft.done()


def _start(draft: Draft, o: Orchestration, run: Run) -> None:
    queue_ms = max(0.0, (draft.at - run.queued_at).total_seconds() * 1000.0) if run.queued_at else 0.0
    draft.emit(e.RunStarted(orchestration=o.id, run=run.id, attempt=run.attempt, node=run.node, queue_ms=queue_ms))
    for action in o.open_actions:
        if action.type == "retry":
            draft.emit(e.ActionCompleted(action.id))


def _started(draft: Draft, o: Orchestration, run: Run) -> Decision | Repeated:
    if run.status not in NOT_STARTED:
        return Repeated()
    _start(draft, o, run)
    return draft.done()


def _withdrawn(draft: Draft, o: Orchestration, run: Run) -> Decision | Repeated:
    if run.status not in NOT_STARTED:
        return Repeated()
    draft.emit(e.RunWithdrawn(orchestration=o.id, run=run.id, attempt=run.attempt))
    o = draft.orchestration(o.id)
    if o.is_live and o.hold(HoldKind.CANCELLING) is None:
        draft.queue_again(o, run, run.previous_error)
    standing.settle(draft, draft.orchestration(o.id))
    return draft.done()


def _ended(draft: Draft, o: Orchestration, run: Run, subject: ReportSubject, report: Ended) -> Decision | Repeated:
    if not run.is_open:
        if run.status is RunStatus.WITHDRAWN:
            return _stale(draft, o, subject, "the attempt was withdrawn")
        return Repeated()
    if not o.is_live:
        _record(draft, o, run, report)
        return _stale(draft, draft.orchestration(o.id), subject, f"{o.id} is {o.status}")
    if o.status is not progress.REQUIRES[run.kind]:
        _record(draft, o, run, report)
        return _stale(draft, draft.orchestration(o.id), subject, f"a {run.kind} report needs status {progress.REQUIRES[run.kind]}; it is {o.status}")
    if run.status in NOT_STARTED and report.process_started:
        _start(draft, o, run)  # its own report is still on the way, or was lost with the wait for it
    report = progress.usable(o, run, report, draft.context.plane.nodes.get(o.node))
    _record(draft, draft.orchestration(o.id), run, report)
    if run.kind is not RunKind.FINALIZE:
        budgets.hold_when_reached(draft, draft.orchestration(o.id))
    o = draft.orchestration(o.id)
    ended_run = o.run(run.id)
    assert ended_run is not None
    progress.run_ended(draft, o, ended_run, report)
    standing.settle(draft, draft.orchestration(o.id))
    return draft.done()


def _record(draft: Draft, o: Orchestration, run: Run, report: Ended) -> None:
    keep_result = run.kind not in _KEPT_IN_OTHER_EVENTS
    draft.emit(
        e.RunEnded(
            orchestration=o.id,
            run=run.id,
            attempt=run.attempt,
            node=run.node,
            outcome=report.outcome,
            counts=report.process_started and report.outcome is not Outcome.CANCELLED and report.reason_code != Reason.QUOTA_EXHAUSTED,
            reason_code=report.reason_code,
            detail=report.detail[:4000],
            exit_code=report.exit_code,
            signal=report.signal,
            duration_ms=report.duration_ms,
            tail=report.tail[-8000:] if report.outcome is not Outcome.SUCCEEDED else "",
            result=report.result if keep_result else None,
            head=report.head,
            agent=report.agent,
            model=report.model,
            session=report.session,
            usage=report.usage,
        )
    )
