"""Summaries: one short sentence for each row of the timeline. Pure.

A sentence says what is true after the row, in the words of the domain; who did it and when stand in columns of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from bus_schemas import events as e
from bus_schemas.decisions import Action, ActionStatus
from bus_schemas.orders import RunKind
from bus_schemas.reports import Outcome, Usage, Verdict
from timeline.reading import AnyEvent, UnknownEvent

LENGTH_MAX = 240


def one_line(text: str, length: int = LENGTH_MAX) -> str:
    """Return `text` on one line, cut to `length` characters."""
    if len(text) <= length and text.isprintable():
        return text
    line = " ".join(text[: length * 4].split())
    return line if len(line) <= length else line[: length - 1] + "…"


def of_action(action: Action, command_type: str, reason: str | None) -> str:
    """Return the sentence of a request and what was decided of it."""
    about = action.orchestration or action.ticket or action.design or action.node
    if command_type == "launch" and action.design:
        about = action.design
    text = f"{command_type}{f' of {about}' if about else ''} {action.status}"
    if action.status is ActionStatus.REFUSED:
        return one_line(f"{text}: {action.message or action.reason_code}")
    if command_type == "launch" and action.orchestration:
        text += f" as {action.orchestration}{f' on {action.node}' if action.node else ''}"
    return one_line(f"{text}: {reason}" if reason else text)


def of_event(event: AnyEvent, subject: str | None, reason: str | None) -> str:
    """Return the sentence of an event. `subject` is what its task is called, `reason` what the commander gave as reason, where known."""
    if isinstance(event, UnknownEvent):
        return one_line(f"event of a type this version does not know: {event.type}")
    text = SENTENCES[type(event)](event)
    if subject and isinstance(event, e.TaskMoved):
        text = f"{text}: {subject}" if not event.message else f"{text} ({event.message}): {subject}"
    elif reason and isinstance(event, e.HoldSet | e.GateResolved):
        text = f"{text}: {reason}"
    return one_line(text)


def _why(reason_code: str | None, message: str) -> str:
    why = message or reason_code or ""
    return f": {why}" if why else ""


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _place(phase: str | None, task: int | None) -> str:
    if phase is None:
        return ""
    return f" of phase {phase}" if task is None else f" of task {task} of phase {phase}"


def _seconds(duration_ms: float) -> str:
    return f" after {duration_ms / 1000:.1f} s" if duration_ms else ""


def _cost(usage: Usage | None) -> str:
    if usage is None:
        return ""
    tokens = usage.input_tokens + usage.output_tokens
    return f", {_count(tokens, 'token')}" + (f", ${usage.usd:.4f}" if usage.usd is not None else "")


def _run(event: e.RunQueued | e.RunDispatched | e.RunStarted | e.RunWithdrawn | e.RunEnded) -> str:
    return f"run {event.run.rpartition('-')[2]}" + (f" attempt {event.attempt}" if event.attempt > 1 else "")


def _run_queued(event: e.RunQueued) -> str:
    model = f" with {event.model}" if event.model else ""
    what = f"task {event.task} of phase {event.phase}" if event.kind is RunKind.TASK else f"{event.kind}{_place(event.phase, event.task)}"
    return f"{_run(event)} queued: {what} on {event.node}{model}"


_OUTCOMES = {
    Outcome.SUCCEEDED: "succeeded",
    Outcome.FAILED: "failed",
    Outcome.TIMED_OUT: "timed out",
    Outcome.CANCELLED: "was cancelled",
    Outcome.LOST: "was lost",
}


def _run_ended(event: e.RunEnded) -> str:
    ended = f"{_run(event)} {_OUTCOMES[event.outcome]}{_seconds(event.duration_ms)}{_cost(event.usage)}"
    if event.outcome is Outcome.SUCCEEDED:
        return ended
    exit_code = f" (exit code {event.exit_code})" if event.exit_code else ""
    return f"{ended}{exit_code}{_why(event.reason_code, event.detail)}"


def _orchestration_moved(event: e.OrchestrationMoved) -> str:
    phase = f" phase {event.phase}" if event.phase and event.status in (e.OrchestrationStatus.PLANNING, e.OrchestrationStatus.EXECUTING) else ""
    match event.status:
        case e.OrchestrationStatus.COMPLETE:
            return "orchestration complete"
        case e.OrchestrationStatus.FAILED | e.OrchestrationStatus.CANCELLED:
            return f"orchestration {event.status}{_why(event.reason_code, event.message)}"
        case _:
            return f"orchestration {event.status}{phase}"


def _task_moved(event: e.TaskMoved) -> str:
    text = f"task {event.task} of phase {event.phase}"
    match event.status:
        case e.TaskStatus.IN_PROGRESS:
            return f"{text} sent back by its review" if event.rejected else f"{text} in progress"
        case e.TaskStatus.PENDING:
            return f"{text} sent back by its review" if event.rejected else f"{text} pending again"
        case _:
            return f"{text} {event.status}{'' if event.message else _why(event.reason_code, '')}"


def _list(before: str, items: tuple[object, ...]) -> str:
    return f"{before}{', '.join(map(str, items))}" if items else ""


def _task_edited(event: e.TaskEdited) -> str:
    fields = [name for name in ("subject", "description", "model") if getattr(event, name) is not None]
    return f"task {event.task} of phase {event.phase} edited{_list(': ', tuple(fields))}"


def _task_inserted(event: e.TaskInserted) -> str:
    place = f"after {event.after}" if event.after else "as the first"
    text = f"task {event.task} of phase {event.phase} inserted {place}: {event.subject}"
    return f"{text}{_list('; blocks ', event.blocks)}"


def _validation(event: e.ValidationRecorded) -> str:
    match event.verdict:
        case Verdict.PASS:
            return "validation passed"
        case Verdict.WARNING:
            return f"validation passed with {_count(len(event.findings), 'warning')}"
        case _:
            first = f": {event.findings[0].text}" if event.findings else ""
            return f"validation stopped the work{first}"


def _verdict(event: e.VerdictRecorded) -> str:
    what = f"phase {event.phase}" if event.task is None else f"task {event.task} of phase {event.phase}"
    if event.verdict is Verdict.PASS:
        return f"{event.reviewer} review of {what} passed"
    first = f": {event.findings[0].text}" if event.findings else ""
    return f"{event.reviewer} review of {what} found {_count(len(event.findings), 'gap')}{first}"


def _verify(event: e.VerifyRecorded) -> str:
    exit_code = f" with exit code {event.exit_code}" if event.exit_code else ""
    return f"check of phase {event.phase} {event.status}{exit_code}"


def _phase_moved(event: e.PhaseMoved) -> str:
    return f"phase {event.phase} {event.status}{_why(event.reason_code, event.message)}"


def _issues(event: e.IssuesRaised) -> str:
    where = f"phase {event.phase}" if event.task is None else f"task {event.task} of phase {event.phase}"
    first = f": {event.issues[0].text}" if event.issues else ""
    return f"{_count(len(event.issues), 'issue')} raised for {where}{first}"


def _gate_resolved(event: e.GateResolved) -> str:
    verb = "approved" if event.approved else "rejected"
    phase = f" of phase {event.phase}" if event.phase else ""
    return f"gate {event.gate}{phase} {verb} by {event.by}" + (f": {event.text}" if event.text else "")


def _gate_opened(event: e.GateOpened) -> str:
    phase = f" of phase {event.phase}" if event.phase else ""
    return f"gate {event.gate}{phase} opened: {event.subject}"


def _design_edited(event: e.DesignEdited) -> str:
    parts = {"title": event.title, "body": event.body, "complexity": event.complexity}
    changed = ", ".join(name for name, value in parts.items() if value is not None)
    return f"design {event.design} edited{f' ({changed})' if changed else ''}, revision {event.revision}"


def _ticket_edited(event: e.TicketEdited) -> str:
    parts = {"title": event.title, "body": event.body, "design": event.design, "priority": event.priority}
    changed = ", ".join(name for name, value in parts.items() if value is not None)
    return f"ticket {event.ticket} edited{f' ({changed})' if changed else ''}"


def _launched(event: e.OrchestrationLaunched) -> str:
    tickets = "no tickets" if event.design_only else _count(len(event.tickets), "ticket")
    size = f"{_count(event.total_phases, 'phase')}, {tickets}, {event.preset_origin}"
    return f"{event.orchestration} launched from {event.design}: {event.feature} ({size})"


SENTENCES: dict[type[Struct], Callable[[Any], str]] = {
    e.FlagChanged: lambda event: f"flag {event.flag} turned {'on' if event.on else 'off'}",
    e.HeadsRecorded: lambda event: f"heads of {_count(len(event.heads), 'project')} recorded",
    e.NodeRegistered: lambda event: f"node {event.node.id} registered with capacity {event.node.capacity}",
    e.NodeCordonChanged: lambda event: f"node {event.node} {'takes no new work' if event.cordoned else 'takes work again'}",
    e.ProjectAdded: lambda event: f"project {event.project.id} added: {event.project.repo}",
    e.ProjectEdited: lambda event: f"project {event.project.id} edited",
    e.DesignAdded: lambda event: f"design {event.design.id} added: {event.design.title}",
    e.DesignEdited: _design_edited,
    e.DesignMarked: lambda event: f"design {event.design}: {event.marker} {'completed' if event.completed else 'cleared'}",
    e.DesignMoved: lambda event: f"design {event.design} moved from {event.previous} to {event.status}",
    e.TicketAdded: lambda event: f"ticket {event.ticket.id} added: {event.ticket.title}",
    e.TicketEdited: _ticket_edited,
    e.TicketMoved: lambda event: f"ticket {event.ticket} moved from {event.previous} to {event.status}",
    e.CommentAdded: lambda event: f"comment on {event.comment.target}: {event.comment.body}",
    e.OrchestrationLaunched: _launched,
    e.OrchestrationMoved: _orchestration_moved,
    e.WorkspaceReady: lambda event: f"workspace ready at {event.base[:12]}, branch {event.branch}",
    e.HeadsMoved: lambda event: f"work now stands at {', '.join(head[:12] for head in event.heads) or 'no commit'}",
    e.ValidationRecorded: _validation,
    e.PhaseMoved: _phase_moved,
    e.PhasePlanned: lambda event: f"phase {event.phase} planned: {_count(len(event.tasks), 'task')}, plan revision {event.revision}",
    e.RepairStarted: lambda event: f"repair {event.repair} of phase {event.phase} started",
    e.IssuesRaised: _issues,
    e.VerifyRecorded: _verify,
    e.VerdictRecorded: _verdict,
    e.TaskMoved: _task_moved,
    e.TaskEdited: _task_edited,
    e.TaskInserted: _task_inserted,
    e.PolicyChanged: lambda event: f"policy revision {event.revision}{_list(' changes ', event.changed)}",
    e.NodeAssigned: lambda event: f"goes on on {event.node} instead of {event.previous}: {event.reason}",
    e.RunQueued: _run_queued,
    e.RunDispatched: lambda event: f"{_run(event)} sent to its node",
    e.RunStarted: lambda event: f"{_run(event)} started on {event.node}" + (f"{_seconds(event.queue_ms)} in the queue" if event.queue_ms else ""),
    e.RunWithdrawn: lambda event: f"{_run(event)} withdrawn before it started",
    e.RunEnded: _run_ended,
    e.ReportStale: lambda event: f"late report {event.kind} of {event.run} attempt {event.attempt} changed nothing: {event.message}",
    e.HoldSet: lambda event: f"held ({event.hold}): {event.reason}" if event.reason else f"held ({event.hold})",
    e.HoldCleared: lambda event: f"hold {event.hold} cleared",
    e.GateOpened: _gate_opened,
    e.GateResolved: _gate_resolved,
    e.ActionOpened: lambda event: f"{event.kind} ({event.action}) under way",
    e.ActionCompleted: lambda event: f"action {event.action} completed",
    e.ActionFailed: lambda event: f"action {event.action} failed{_why(event.reason_code, event.message)}",
}
"""For each type of event how to say it; a test sees that none is missing."""
