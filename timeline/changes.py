"""Changes: which rows of which tables an event makes or changes. Pure.

Each function takes the event and the rows as they stand, and returns rows as they will be. An event that names what is
not there changes nothing: a stored event is never refused.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from bus_schemas import events as e
from bus_schemas.decisions import ActionStatus
from bus_schemas.entities import Node
from bus_schemas.events import HoldKind, OrchestrationStatus, PhaseStatus, TaskStatus
from bus_schemas.reports import Outcome
from timeline import summaries
from timeline.board import Board, Family
from timeline.rows import FlagRow, GateRow, NodeRow, OrchestrationRow, PhaseRow, RunRow, TableRow, TaskRow, UsageRow

ENDED = frozenset({OrchestrationStatus.COMPLETE, OrchestrationStatus.FAILED, OrchestrationStatus.CANCELLED})
MICRO_USD = Decimal("0.000001")
USD_MAX = Decimal("999999.999999")
WHOLE_MAX = 2**53
TOKENS_MAX = 2**62
_HOLD_ORDER = {kind.value: index for index, kind in enumerate(HoldKind)}
_encode = msgspec.json.Encoder(order="sorted").encode


class Place(NamedTuple):
    """What all that a ledger row makes shares: where it stands and who it comes from. Times are UTC without a zone."""

    seq: int
    idx: int
    at: datetime
    stored_at: datetime
    project: str
    principal: str | None
    via: str | None
    action: str | None
    reason: str | None


def ms_between(start: datetime | None, end: datetime | None) -> float | None:
    """Return the milliseconds from `start` to `end`, never negative; None where one is missing."""
    if start is None or end is None:
        return None
    return max(0.0, (end - start).total_seconds() * 1000.0)


def _ended_action(board: Board, event: e.ActionCompleted | e.ActionFailed, place: Place) -> tuple[TableRow, ...]:
    row = board.actions.get(event.action)
    if row is None:
        return ()
    complete_ms = ms_between(row.accepted_at, place.at)
    total_ms = None if complete_ms is None or row.accept_ms is None else row.accept_ms + complete_ms
    row = replace(row, completed_at=place.at, complete_ms=complete_ms, total_ms=total_ms)
    if isinstance(event, e.ActionCompleted):
        return (replace(row, status=ActionStatus.COMPLETED.value),)
    return (replace(row, status=ActionStatus.FAILED.value, reason_code=event.reason_code, message=event.message),)


def _launched(board: Board, event: e.OrchestrationLaunched, place: Place) -> tuple[TableRow, ...]:
    orchestration = OrchestrationRow(
        seq=place.seq,
        idx=place.idx,
        id=event.orchestration,
        project=place.project,
        design=event.design,
        design_revision=event.design_revision,
        feature=event.feature,
        slug=event.slug,
        branch=event.branch,
        node=event.node,
        preset_origin=event.preset_origin,
        policy_hash=event.policy_hash,
        total_phases=event.total_phases,
        design_only=event.design_only,
        tickets=len(event.tickets),
        requested_by=place.principal,
        action=place.action,
        launched_at=place.at,
        status=OrchestrationStatus.LAUNCHING.value,
        changed_at=place.at,
    )
    phases = (_new_phase(event.orchestration, str(number), PhaseStatus.PENDING, place) for number in range(1, event.total_phases + 1))
    return orchestration, *phases


def _new_phase(orchestration: str, phase: str, status: PhaseStatus, place: Place) -> PhaseRow:
    return PhaseRow(place.seq, place.idx, place.project, orchestration, phase, status.value)


def _on_family(change: Callable[[Family, Any, Place], tuple[TableRow, ...]]) -> Callable[[Board, Any, Place], tuple[TableRow, ...]]:
    """Return a change that is made only where the event's orchestration is known."""

    def changed(board: Board, event: Any, place: Place) -> tuple[TableRow, ...]:
        family = board.family(event.orchestration)
        return () if family is None else change(family, event, place)

    return changed


def _moved(family: Family, event: e.OrchestrationMoved, place: Place) -> tuple[TableRow, ...]:
    o = replace(
        family.orchestration,
        status=event.status.value,
        phase=event.phase or family.orchestration.phase,
        reason_code=event.reason_code or family.orchestration.reason_code,
        message=event.message or family.orchestration.message,
        changed_at=place.at,
    )
    if event.status not in ENDED:
        return (o,)
    o = replace(o, ended_at=place.at, duration_ms=ms_between(o.launched_at, place.at), hold=None, holds="")
    if family.gate is None:
        return (o,)
    return o, replace(family.gate, status="dropped", resolved_at=place.at, wait_ms=ms_between(family.gate.opened_at, place.at))


def _ready(family: Family, event: e.WorkspaceReady, place: Place) -> tuple[TableRow, ...]:
    return (replace(family.orchestration, ready_at=place.at, branch=event.branch, changed_at=place.at),)


def _held(family: Family, event: e.HoldSet | e.HoldCleared, place: Place) -> tuple[TableRow, ...]:
    held = set(filter(None, family.orchestration.holds.split(",")))
    held = held | {event.hold.value} if isinstance(event, e.HoldSet) else held - {event.hold.value}
    shown = sorted(held, key=lambda kind: _HOLD_ORDER[kind])
    return (replace(family.orchestration, hold=shown[0] if shown else None, holds=",".join(shown), changed_at=place.at),)


def _phase_moved(family: Family, event: e.PhaseMoved, place: Place) -> tuple[TableRow, ...]:
    phase = family.phases.get(event.phase) or _new_phase(event.orchestration, event.phase, event.status, place)
    ended = event.status in (PhaseStatus.COMPLETE, PhaseStatus.SKIPPED)
    started_at = phase.started_at or (place.at if event.status is PhaseStatus.PLANNING else None)
    return (
        replace(
            phase,
            status=event.status.value,
            reason_code=event.reason_code,
            message=event.message,
            started_at=started_at,
            ended_at=place.at if ended else None,
            duration_ms=ms_between(started_at, place.at) if ended else None,
        ),
    )


def _planned(family: Family, event: e.PhasePlanned, place: Place) -> tuple[TableRow, ...]:
    phase = family.phases.get(event.phase)
    if phase is None:
        return ()
    tasks = (
        TaskRow(
            seq=place.seq,
            idx=place.idx,
            project=place.project,
            orchestration=event.orchestration,
            phase=event.phase,
            task=task.number,
            subject=task.subject,
            model=task.model,
            depends_on=",".join(str(number) for number in task.depends_on),
            status=TaskStatus.PENDING.value,
        )
        for task in event.tasks
    )
    return replace(phase, revision=event.revision, tasks=phase.tasks + len(event.tasks)), *tasks


def _repair_started(family: Family, event: e.RepairStarted, place: Place) -> tuple[TableRow, ...]:
    phase = family.phases.get(event.phase)
    if phase is None:
        return ()
    o = replace(family.orchestration, repairs=family.orchestration.repairs + 1, changed_at=place.at)
    return o, replace(phase, repairs=event.repair)


def _verified(family: Family, event: e.VerifyRecorded, place: Place) -> tuple[TableRow, ...]:
    phase = family.phases.get(event.phase)
    return () if phase is None else (replace(phase, verify=event.status),)


def _task_moved(family: Family, event: e.TaskMoved, place: Place) -> tuple[TableRow, ...]:
    task = family.tasks.get((event.phase, event.task))
    if task is None:
        return ()
    ended = event.status in (TaskStatus.COMPLETED, TaskStatus.SKIPPED)
    started_at = task.started_at or (place.at if event.status is TaskStatus.IN_PROGRESS else None)
    base, head = event.git_range or (task.base, task.head)
    return (
        replace(
            task,
            status=event.status.value,
            revision=event.revision,
            rejections=task.rejections + event.rejected,
            base=base,
            head=head,
            reason_code=event.reason_code,
            message=event.message,
            started_at=started_at,
            ended_at=place.at if ended else None,
            duration_ms=ms_between(started_at, place.at) if ended else None,
        ),
        *(() if event.plan_revision is None else _plan_revised(family, event.phase, event.plan_revision)),
    )


def _task_edited(family: Family, event: e.TaskEdited, place: Place) -> tuple[TableRow, ...]:
    task = family.tasks.get((event.phase, event.task))
    if task is None:
        return ()
    model = task.model if event.model is None else event.model or None
    edited = replace(task, subject=task.subject if event.subject is None else event.subject, model=model, revision=event.revision)
    return edited, *_plan_revised(family, event.phase, event.plan_revision)


def _plan_revised(family: Family, phase: str, revision: int) -> tuple[TableRow, ...]:
    known = family.phases.get(phase)
    return () if known is None else (replace(known, revision=revision),)


def _task_inserted(family: Family, event: e.TaskInserted, place: Place) -> tuple[TableRow, ...]:
    phase = family.phases.get(event.phase)
    if phase is None:
        return ()
    new = TaskRow(
        seq=place.seq,
        idx=place.idx,
        project=place.project,
        orchestration=event.orchestration,
        phase=event.phase,
        task=event.task,
        subject=event.subject,
        model=event.model,
        depends_on=",".join(map(str, event.depends_on)),
        status=TaskStatus.PENDING.value,
    )
    blocked = (family.tasks.get((event.phase, number)) for number in event.blocks)
    waiting = (
        replace(task, depends_on=",".join(filter(None, (task.depends_on, str(new.task)))), revision=task.revision + 1)
        for task in blocked
        if task is not None
    )
    return replace(phase, revision=event.plan_revision, tasks=phase.tasks + 1), new, *waiting


def _policy_changed(family: Family, event: e.PolicyChanged, place: Place) -> tuple[TableRow, ...]:
    return (replace(family.orchestration, policy_revision=event.revision, changed_at=place.at),)


def _node_assigned(family: Family, event: e.NodeAssigned, place: Place) -> tuple[TableRow, ...]:
    return (replace(family.orchestration, node=event.node, changed_at=place.at),)


def _run_queued(family: Family, event: e.RunQueued, place: Place) -> tuple[TableRow, ...]:
    run = RunRow(
        place.seq,
        place.idx,
        place.project,
        event.orchestration,
        event.phase,
        event.task,
        event.run,
        event.attempt,
        event.kind.value,
        event.role,
        event.model,
        event.reviewer,
        event.node,
        place.action,
        event.policy_revision,
        place.at,
        "queued",
    )
    return run, replace(family.orchestration, attempts=family.orchestration.attempts + 1, changed_at=place.at)


def _run_dispatched(family: Family, event: e.RunDispatched, place: Place) -> tuple[TableRow, ...]:
    run = family.runs.get((event.run, event.attempt))
    if run is None:
        return ()
    status = "dispatched" if run.status == "queued" else run.status
    return (replace(run, status=status, dispatched_at=place.at),)


def _run_started(family: Family, event: e.RunStarted, place: Place) -> tuple[TableRow, ...]:
    run = family.runs.get((event.run, event.attempt))
    if run is None:
        return ()
    queue_ms = event.queue_ms or ms_between(run.queued_at, place.at)
    run = replace(run, status="started", started_at=place.at, queue_ms=queue_ms, node=event.node)
    task = family.tasks.get((run.phase, run.task)) if run.kind == "task" and run.phase is not None and run.task is not None else None
    return (run,) if task is None else (run, replace(task, attempts=task.attempts + 1))


def _run_withdrawn(family: Family, event: e.RunWithdrawn, place: Place) -> tuple[TableRow, ...]:
    run = family.runs.get((event.run, event.attempt))
    return () if run is None else (replace(run, status="withdrawn", ended_at=place.at, counts=False),)


def _run_ended(family: Family, event: e.RunEnded, place: Place) -> tuple[TableRow, ...]:
    run = family.runs.get((event.run, event.attempt))
    if run is None:
        return ()
    usage = event.usage
    ended = replace(
        run,
        status=event.outcome.value,
        ended_at=place.at,
        run_ms=event.duration_ms if event.counts or event.outcome is Outcome.SUCCEEDED else None,
        counts=event.counts,
        reason_code=event.reason_code,
        detail=summaries.one_line(event.detail, 1000),
        exit_code=_whole(event.exit_code),
        signal=_whole(event.signal),
        agent=event.agent,
        agent_model=event.model,
        head=event.head,
        input_tokens=0 if usage is None else _whole(usage.input_tokens) or 0,
        output_tokens=0 if usage is None else _whole(usage.output_tokens) or 0,
        usd=None if usage is None else dollars(usage.usd),
    )
    if usage is None:
        return (ended,)
    o = family.orchestration
    usd = o.usd if ended.usd is None else min((o.usd or Decimal(0)) + ended.usd, USD_MAX)
    o = replace(o, tokens=min(o.tokens + ended.input_tokens + ended.output_tokens, TOKENS_MAX), usd=usd, changed_at=place.at)
    return ended, o, _usage(ended, usage.computed, place)


def dollars(usd: float | None) -> Decimal | None:
    """Return a price as the tables hold it; None for one that they cannot hold, which is none that a run can have cost."""
    if usd is None or not 0 <= usd <= USD_MAX:
        return None
    return Decimal(repr(usd)).quantize(MICRO_USD)


def _whole(number: int | None) -> int | None:
    # numbers that an agent gave: the tables hold what can be true
    return None if number is None else max(-WHOLE_MAX, min(number, WHOLE_MAX))


def _usage(run: RunRow, computed: bool, place: Place) -> UsageRow:
    return UsageRow(
        seq=place.seq,
        idx=place.idx,
        occurred_at=place.at,
        project=run.project,
        orchestration=run.orchestration,
        phase=run.phase,
        task=run.task,
        run=run.run,
        attempt=run.attempt,
        kind=run.kind,
        role=run.role,
        node=run.node,
        model=run.agent_model or run.model,
        input_tokens=run.input_tokens,
        output_tokens=run.output_tokens,
        usd=run.usd,
        computed=computed,
    )


def _gate_opened(family: Family, event: e.GateOpened, place: Place) -> tuple[TableRow, ...]:
    return (
        GateRow(
            seq=place.seq,
            idx=place.idx,
            project=place.project,
            orchestration=event.orchestration,
            gate=event.gate.value,
            phase=event.phase,
            subject=summaries.one_line(event.subject, 2000),
            opened_at=place.at,
        ),
    )


def _gate_resolved(family: Family, event: e.GateResolved, place: Place) -> tuple[TableRow, ...]:
    if family.gate is None:
        return ()
    return (
        replace(
            family.gate,
            status="approved" if event.approved else "rejected",
            resolved_at=place.at,
            principal=event.by or place.principal,
            text=event.text,
            wait_ms=ms_between(family.gate.opened_at, place.at),
        ),
    )


def _node_registered(board: Board, event: e.NodeRegistered, place: Place) -> tuple[TableRow, ...]:
    node: Node = event.node
    known = board.nodes.get(node.id)
    return (
        NodeRow(
            id=node.id,
            capacity=node.capacity,
            labels=_encode(node.labels).decode(),
            agents=_encode(node.agents).decode(),
            cordoned=node.cordoned if known is None else known.cordoned,
            registered_at=place.at if known is None else known.registered_at,
            changed_at=place.at,
        ),
    )


def _node_cordoned(board: Board, event: e.NodeCordonChanged, place: Place) -> tuple[TableRow, ...]:
    known = board.nodes.get(event.node)
    return () if known is None else (replace(known, cordoned=event.cordoned, changed_at=place.at),)


def _flag_changed(board: Board, event: e.FlagChanged, place: Place) -> tuple[TableRow, ...]:
    return (FlagRow(event.flag, event.on, place.principal, place.at),)


CHANGES: dict[type[Struct], Callable[[Board, Any, Place], tuple[TableRow, ...]]] = {
    e.FlagChanged: _flag_changed,
    e.NodeRegistered: _node_registered,
    e.NodeCordonChanged: _node_cordoned,
    e.OrchestrationLaunched: _launched,
    e.OrchestrationMoved: _on_family(_moved),
    e.WorkspaceReady: _on_family(_ready),
    e.HoldSet: _on_family(_held),
    e.HoldCleared: _on_family(_held),
    e.PhaseMoved: _on_family(_phase_moved),
    e.PhasePlanned: _on_family(_planned),
    e.RepairStarted: _on_family(_repair_started),
    e.VerifyRecorded: _on_family(_verified),
    e.TaskMoved: _on_family(_task_moved),
    e.TaskEdited: _on_family(_task_edited),
    e.TaskInserted: _on_family(_task_inserted),
    e.PolicyChanged: _on_family(_policy_changed),
    e.NodeAssigned: _on_family(_node_assigned),
    e.RunQueued: _on_family(_run_queued),
    e.RunDispatched: _on_family(_run_dispatched),
    e.RunStarted: _on_family(_run_started),
    e.RunWithdrawn: _on_family(_run_withdrawn),
    e.RunEnded: _on_family(_run_ended),
    e.GateOpened: _on_family(_gate_opened),
    e.GateResolved: _on_family(_gate_resolved),
    e.ActionCompleted: _ended_action,
    e.ActionFailed: _ended_action,
}
"""Events that are not here change no table but `events`."""
