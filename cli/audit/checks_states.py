"""Checks of states: orchestrations, phases, tasks, holds, gates, tickets, designs and flags move along legal edges only (I7, I20). Pure.

The tables are written down anew from the contract (domain §3, §6), not taken from the controller.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from bus_schemas.entities import DESIGN_MOVES, TICKET_MOVES
from cli.audit import facts as f
from cli.audit.case import ENDED, Case
from cli.audit.deeds import shown_place
from cli.audit.verdict import Finding

ORCHESTRATION: dict[str, frozenset[str]] = {
    "launching": frozenset({"validating", "failed", "cancelled"}),
    "validating": frozenset({"planning", "finalizing", "cancelled"}),
    "planning": frozenset({"planning", "executing", "cancelled"}),
    "executing": frozenset({"reviewing", "planning", "finalizing", "failed", "cancelled"}),
    "reviewing": frozenset({"planning", "finalizing", "failed", "cancelled"}),
    "finalizing": frozenset({"complete", "cancelled"}),
    **dict.fromkeys(ENDED, frozenset[str]()),
}
PHASE: dict[str, frozenset[str]] = {
    "pending": frozenset({"planning", "skipped"}),
    "planning": frozenset({"planned"}),
    "planned": frozenset({"executing", "planning"}),
    "executing": frozenset({"executing", "reviewing", "complete", "blocked", "planning"}),
    "reviewing": frozenset({"complete", "planning"}),
    "blocked": frozenset({"executing"}),
    "complete": frozenset(),
    "skipped": frozenset(),
}
TASK: dict[str, frozenset[str]] = {
    "pending": frozenset({"in_progress", "skipped"}),
    "in_progress": frozenset({"in_progress", "completed", "blocked"}),
    "blocked": frozenset({"pending"}),
    "completed": frozenset(),
    "skipped": frozenset(),
}
DONE = frozenset({"completed", "skipped"})


def orchestrations_move(case: Case) -> Iterator[Finding]:
    """I20: an orchestration moves along legal edges, from where it stands; after its end nothing of it changes but what was under way."""
    status: dict[str, str] = {}
    for place, _, event in case.history.flow:
        kind, name = type(event), event.orchestration
        if kind is f.OrchestrationLaunched:
            if name in status:
                yield Finding(shown_place(place), f"{name} is launched twice")
            status[name] = "launching"
            continue
        before = status.get(name)
        if before is None:
            yield Finding(shown_place(place), f"{f.NAMES[kind]} of {name}, which was never launched")
            status[name] = ""
        elif kind is f.OrchestrationMoved:
            if event.previous != before or event.status not in ORCHESTRATION.get(before, ()):
                yield Finding(shown_place(place), f"{name} moves from {event.previous} to {event.status}; it is {before}")
            status[name] = event.status
        elif before in ENDED and kind not in _AFTER_END:
            yield Finding(shown_place(place), f"{f.NAMES[kind]} of {name}, which is {before}")


_AFTER_END = frozenset({f.RunWithdrawn, f.RunEnded, f.ReportStale})


def phases_move(case: Case) -> Iterator[Finding]:
    """I20: a phase moves along legal edges; the next main phase, and finalize, begin when all before are complete or skipped."""
    phases: dict[str, dict[str, str]] = {}
    for place, _, event in case.history.phases:
        kind = type(event)
        if kind is f.OrchestrationLaunched:
            phases[event.orchestration] = {str(number): "pending" for number in range(1, event.total_phases + 1)}
        elif kind is f.PhaseMoved:
            known = phases.setdefault(event.orchestration, {})
            before = known.get(event.phase, "pending")
            if event.status not in PHASE.get(before, ()):
                yield Finding(shown_place(place), f"phase {event.phase} of {event.orchestration} moves from {before} to {event.status}")
            if before == "pending" and event.status == "planning":
                undone = [name for name, status in known.items() if _number(name) < _number(event.phase) and status not in ("complete", "skipped")]
                if undone:
                    yield Finding(shown_place(place), f"phase {event.phase} of {event.orchestration} begins before {', '.join(undone)} is done")
            known[event.phase] = event.status
        elif kind is f.OrchestrationMoved and event.status in ("finalizing", "complete"):
            undone = [name for name, status in phases.get(event.orchestration, {}).items() if status not in ("complete", "skipped")]
            if undone:
                yield Finding(shown_place(place), f"{event.orchestration} is {event.status} before phase {', '.join(undone)} is done")


def _number(phase: str) -> tuple[int, ...]:
    return tuple(int(part) for part in phase.split(".") if part.isdecimal())


def tasks_move(case: Case) -> Iterator[Finding]:
    """I7, I20: a task moves along legal edges; it starts when what it depends on is done; it is edited, skipped or made to wait for another
    only while it is pending, so never once it has started; a run does it only while it is in progress."""
    tasks: dict[tuple[str, str], dict[int, str]] = {}
    needs: dict[tuple[str, str, int], tuple[int, ...]] = {}
    for place, _, event in case.history.plans:
        kind = type(event)
        if kind not in _OF_TASKS:
            continue
        known = tasks.setdefault((event.orchestration, event.phase or ""), {})
        if kind is f.PhasePlanned:
            for task in event.tasks:
                if task.number in known:
                    yield Finding(shown_place(place), f"task {event.phase}.{task.number} of {event.orchestration} is planned twice")
                known[task.number] = "pending"
                needs[event.orchestration, event.phase, task.number] = task.depends_on
        elif kind is f.TaskInserted:
            if event.task != max(known, default=0) + 1:
                yield Finding(shown_place(place), f"task {event.phase}.{event.task} of {event.orchestration} is inserted with a number that is taken")
            known[event.task] = "pending"
            needs[event.orchestration, event.phase, event.task] = event.depends_on
            for number in event.blocks:
                if known.get(number) != "pending":
                    yield Finding(shown_place(place), f"task {event.phase}.{number} is {known.get(number)} and is made to wait for an inserted one")
                key = (event.orchestration, event.phase, number)
                needs[key] = (*needs.get(key, ()), event.task)
        elif kind is f.TaskEdited:
            if known.get(event.task) != "pending":
                yield Finding(shown_place(place), f"task {event.phase}.{event.task} of {event.orchestration} is edited while {known.get(event.task)}")
        elif kind is f.RunQueued:
            if event.kind in ("task", "task-review") and event.attempt == 1 and known.get(event.task) != "in_progress":
                yield Finding(shown_place(place), f"{event.run} works on task {event.phase}.{event.task}, which is {known.get(event.task)}")
        else:
            yield from _moved(place, event, known, needs)


_OF_TASKS = frozenset({f.PhasePlanned, f.TaskInserted, f.TaskEdited, f.TaskMoved, f.RunQueued})


def _moved(place: int, event: f.TaskMoved, known: dict[int, str], needs: dict[tuple[str, str, int], tuple[int, ...]]) -> Iterator[Finding]:
    before = known.get(event.task)
    if before is None or event.status not in TASK.get(before, ()):
        yield Finding(shown_place(place), f"task {event.phase}.{event.task} of {event.orchestration} moves from {before} to {event.status}")
    elif before == "pending" and event.status == "in_progress":
        waits = [need for need in needs.get((event.orchestration, event.phase, event.task), ()) if known.get(need) not in DONE]
        if waits:
            yield Finding(
                shown_place(place), f"task {event.phase}.{event.task} of {event.orchestration} starts before {', '.join(map(str, waits))} is done"
            )
    known[event.task] = event.status


def texts_are_the_edited_ones(case: Case) -> Iterator[Finding]:
    """I7: the agent of a task was told the text of the last accepted revision before its attempt was queued."""
    told = {(seen.run, seen.attempt): seen for seen in case.witness if seen.event == "start" and seen.text_hash is not None}
    if not told:
        return
    texts: dict[tuple[str, str, int], tuple[str, str]] = {}
    for _, _, event in case.history.plans:
        kind = type(event)
        if kind is f.PhasePlanned:
            for task in event.tasks:
                texts[event.orchestration, event.phase, task.number] = (task.subject, task.description)
        elif kind is f.TaskInserted:
            texts[event.orchestration, event.phase, event.task] = (event.subject, event.description)
        elif kind is f.TaskEdited:
            key = (event.orchestration, event.phase, event.task)
            subject, description = texts.get(key, ("", ""))
            texts[key] = (
                event.subject if event.subject is not None else subject,
                event.description if event.description is not None else description,
            )
        elif kind is f.RunQueued and event.kind == "task" and event.phase is not None and event.task is not None:
            seen = told.get((event.run, event.attempt))
            text = texts.get((event.orchestration, event.phase, event.task))
            if seen is not None and text is not None and seen.text_hash != hashlib.sha256("\n".join(text).encode()).hexdigest():
                yield Finding(
                    f"{event.run}.{event.attempt}", f"its agent was told another text of task {event.phase}.{event.task} than the one in force"
                )


def holds_and_gates(case: Case) -> Iterator[Finding]:
    """I20: only a hold that is set is cleared; a pause is pausing before it is paused; a gate is open when it is resolved, and one at a time."""
    holds: dict[str, set[str]] = {}
    gates: dict[str, str] = {}
    for place, _, event in case.history.standing:
        kind = type(event)
        if kind not in _OF_HOLDS:
            continue
        name = event.orchestration
        known = holds.setdefault(name, set())
        if kind is f.HoldSet:
            if event.hold in known and event.hold in _SET_ONCE:
                yield Finding(shown_place(place), f"hold {event.hold} of {name} is set again")
            if event.hold == "pausing" and "paused" in known:
                yield Finding(shown_place(place), f"{name} is paused again")
            known.add(event.hold)
        elif kind is f.HoldCleared:
            if event.hold not in known:
                yield Finding(shown_place(place), f"hold {event.hold} of {name} is cleared and was not set")
            known.discard(event.hold)
        elif kind is f.GateOpened:
            if name in gates:
                yield Finding(shown_place(place), f"{name} is to wait at gate {event.gate}; it waits at {gates[name]}")
            gates[name] = event.gate
        elif kind is f.GateResolved:
            if gates.pop(name, None) != event.gate:
                yield Finding(shown_place(place), f"gate {event.gate} of {name} is resolved; it does not wait there")
        elif event.status in ENDED:
            known.clear()
            gates.pop(name, None)


_SET_ONCE = frozenset({"pausing", "paused", "cancelling", "node_lost", "gate", "budget"})
"""Holds that are not set while they are; others may be, with another reason."""

_OF_HOLDS = frozenset({f.HoldSet, f.HoldCleared, f.GateOpened, f.GateResolved, f.OrchestrationMoved})


def catalogue_moves(case: Case) -> Iterator[Finding]:
    """I20: designs and tickets move along legal edges from where they stand; what is changed was added; a flag remembers what it was."""
    status: dict[str, str] = {}
    flags: dict[str, bool] = {}
    for place, _, event in case.history.catalogue:
        kind = type(event)
        if kind is f.DesignAdded:
            status[event.design.id] = event.design.status or "draft"
        elif kind is f.TicketAdded:
            status[event.ticket.id] = event.ticket.status or "todo"
        elif kind is f.DesignMoved or kind is f.TicketMoved:
            name = event.design if kind is f.DesignMoved else event.ticket
            moves: dict[str, tuple[str, ...]] = {
                str(k): tuple(map(str, v)) for k, v in (DESIGN_MOVES if kind is f.DesignMoved else TICKET_MOVES).items()
            }
            before = status.get(name, "")
            if event.previous != before or event.status not in moves.get(before, ()):
                yield Finding(shown_place(place), f"{name} moves from {event.previous} to {event.status}; it is {before or 'not there'}")
            status[name] = event.status
        elif kind in _ON_CATALOGUE:
            name = event.ticket if kind is f.TicketEdited else event.comment.target if kind is f.CommentAdded else event.design
            if name not in status:
                yield Finding(shown_place(place), f"{f.NAMES[kind]} of {name}, which was never added")
        elif kind is f.FlagChanged:
            if event.previous is not flags.get(event.flag, False):
                yield Finding(shown_place(place), f"flag {event.flag} is said to have been {event.previous}; it was {flags.get(event.flag, False)}")
            flags[event.flag] = event.on


_ON_CATALOGUE = frozenset({f.DesignEdited, f.DesignMarked, f.TicketEdited, f.CommentAdded})


def registered_before(case: Case) -> Iterator[Finding]:
    """I4: a project is registered before anything is decided for it, a node before work is given to it, each once; a command that needs a
    flag is accepted only while it is on. All as of the registry's message that the decision names."""
    since = _Registry()
    seqs = {message.seq: message.plane_seq for message in case.history.messages}
    known: tuple[str, int] | None = None
    for place, project, deed in case.history.judged:
        if project == "plane":
            yield from since.take(place, deed.events)
            continue
        plane_seq = seqs[place >> 20]
        if (project, plane_seq) != known:  # what was known as of a message stays so
            if not since.knew(("project", project), plane_seq):
                yield Finding(shown_place(place), f"something is decided for {project}, which is not registered as of {plane_seq}")
            else:
                known = (project, plane_seq)
        for event in deed.events:
            if type(event) in _GIVEN and not since.knew(("node", event.node), plane_seq):
                yield Finding(shown_place(place), f"{event.orchestration} is given to {event.node}, which is not registered as of {plane_seq}")
        if deed.action is None:
            continue
        flag = FLAG_OF.get(getattr(deed.cause, "type", ""))
        if flag is not None and deed.action.status == "accepted" and not since.was_on(flag, plane_seq):
            yield Finding(shown_place(place), f"{deed.action.id} is accepted while flag {flag} was off as of {plane_seq}")


_GIVEN = frozenset({f.OrchestrationLaunched, f.NodeAssigned})
"""What gives work to a node."""


class _Registry:
    """What the registry knew, and since when."""

    def __init__(self) -> None:
        self._since: dict[tuple[str, str], int] = {}
        self._flags: dict[str, list[tuple[int, bool]]] = {}

    def take(self, place: int, events: tuple[Any, ...]) -> Iterator[Finding]:
        for event in events:
            kind = type(event)
            if kind is f.ProjectAdded:
                if ("project", event.project.id) in self._since:
                    yield Finding(shown_place(place), f"project {event.project.id} is added twice")
                self._since.setdefault(("project", event.project.id), place >> 20)
            elif kind is f.NodeRegistered:
                self._since.setdefault(("node", event.node.id), place >> 20)
            elif kind is f.FlagChanged:
                self._flags.setdefault(event.flag, []).append((place >> 20, event.on))

    def knew(self, what: tuple[str, str], seq: int) -> bool:
        since = self._since.get(what)
        return since is not None and since <= seq

    def was_on(self, flag: str, seq: int) -> bool:
        return next((on for since, on in reversed(self._flags.get(flag, [])) if since <= seq), False)


FLAG_OF: dict[str, str] = {
    "launch": "cp.launch",
    **dict.fromkeys(("pause", "resume", "cancel", "retry", "gate-approve", "gate-reject"), "cp.runtime_controls"),
    **dict.fromkeys(("set-policy", "set-role-model"), "cp.policy_reconfiguration"),
    **dict.fromkeys(("task-edit", "task-set-model", "task-skip", "task-insert"), "cp.task_reconfiguration"),
}
"""The flag that each command needs (domain §9)."""
