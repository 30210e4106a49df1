"""Checks of decisions: what belongs together stands together, so that no part of a decision can be missing or made up (I20). Pure.

A rule says for one event what else its decision has to hold, given what stood before. It says None where all is well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from cli.audit import facts as f
from cli.audit.case import ENDED, Case
from cli.audit.deeds import CommandCause, Deed, shown_place
from cli.audit.verdict import Finding


class _Before:
    """What stood before a decision, as far as the rules ask."""

    def __init__(self) -> None:
        self.kinds: dict[str, str] = {}
        self.cancelling: set[str] = set()
        self.ended: set[str] = set()
        self.phases: dict[tuple[str, str], str] = {}
        self.tasks: dict[tuple[str, str], dict[int, str]] = {}
        self.open: dict[str, dict[str, str]] = {}
        self.of_action: dict[str, tuple[str, str]] = {}

    def begin(self, deed: Deed) -> None:
        """Take in which actions a decision opens: a launch does so by itself."""
        for event in deed.events:
            kind = type(event)
            if kind is f.ActionOpened:
                self._open(event.action, event.orchestration, event.kind)
            elif kind is f.OrchestrationLaunched and deed.action is not None:
                self._open(deed.action.id, event.orchestration, "launch")

    def _open(self, action: str, orchestration: str, kind: str) -> None:
        self.open.setdefault(orchestration, {})[action] = kind
        self.of_action[action] = (orchestration, kind)

    def waiting(self, orchestration: str, kind: str | None) -> list[str]:
        """Return the open actions of a kind, or all of them."""
        return [action for action, known in self.open.get(orchestration, {}).items() if kind in (None, known)]

    def take(self, event: Any) -> None:
        """Take in an event of `_TAKEN` that was judged."""
        kind = type(event)
        if kind is f.RunQueued:
            self.kinds[event.run] = event.kind
        elif kind is f.PhaseMoved:
            self.phases[event.orchestration, event.phase] = event.status
        elif kind is f.TaskMoved:
            self.tasks.setdefault((event.orchestration, event.phase), {})[event.task] = event.status
        elif kind is f.PhasePlanned:
            self.tasks.setdefault((event.orchestration, event.phase), {}).update((task.number, "pending") for task in event.tasks)
        elif kind is f.TaskInserted:
            self.tasks.setdefault((event.orchestration, event.phase), {})[event.task] = "pending"
        elif kind is f.HoldSet:
            if event.hold == "cancelling":
                self.cancelling.add(event.orchestration)
        elif kind is f.OrchestrationMoved:
            if event.status in ENDED:
                self.ended.add(event.orchestration)
        else:
            self.open.get(self.of_action.get(event.action, ("", ""))[0], {}).pop(event.action, None)

    def phase(self, event: f.PhaseMoved) -> str:
        return self.phases.get((event.orchestration, event.phase), "pending")


class _Beside:
    """The decision that an event stands in. Most hold a handful of events, so that looking through them is faster than an index."""

    __slots__ = ("command", "deed", "events", "kinds")

    def __init__(self, deed: Deed) -> None:
        self.deed, self.events = deed, deed.events
        self.kinds: set[type] = set(map(type, deed.events))
        self.command = deed.cause.type if type(deed.cause) is CommandCause else None

    def has(self, kind: type, /, **fields: Any) -> bool:
        """Return whether the decision holds an event of this type with these fields."""
        if kind not in self.kinds:
            return False
        if not fields:
            return True
        for event in self.events:
            if type(event) is kind:
                for name, value in fields.items():
                    if getattr(event, name) != value:
                        break
                else:
                    return True
        return False

    def all(self, kind: type, /) -> list[Any]:
        """Return the events of a type."""
        return [event for event in self.events if type(event) is kind]

    def queues(self, kind: str, /, **fields: Any) -> bool:
        """Return whether the decision queues a run of this kind."""
        return self.has(f.RunQueued, kind=kind, **fields)

    def ends(self, action: str) -> bool:
        """Return whether the decision completes an action, or says that it failed."""
        return self.has(f.ActionCompleted, action=action) or self.has(f.ActionFailed, action=action)

    def completes(self, actions: list[str]) -> bool:
        """Return whether the decision completes all of these actions."""
        return all(self.has(f.ActionCompleted, action=action) for action in actions)

    @property
    def is_stale(self) -> bool:
        return f.ReportStale in self.kinds


def _orchestration(event: f.OrchestrationMoved, beside: _Beside, before: _Before) -> str | None:
    match event.status:
        case "validating":
            good = beside.has(f.WorkspaceReady) and beside.queues("validate") and beside.completes(before.waiting(event.orchestration, "launch"))
        case "planning":
            good = beside.has(f.PhaseMoved, phase=event.phase, status="planning") and beside.queues("plan", phase=event.phase)
        case "executing":
            good = beside.has(f.PhaseMoved, status="executing")
        case "reviewing":
            good = beside.has(f.PhaseMoved, status="reviewing") and beside.queues("review")
        case "finalizing":
            good = beside.queues("finalize")
        case "complete":
            good = _ends(beside, before, "finalize")
        case "cancelled":
            good = event.orchestration in before.cancelling or beside.has(f.HoldSet, hold="cancelling")
            good = good and beside.completes(before.waiting(event.orchestration, "cancel"))
        case _:
            good = event.reason_code is not None
    if event.status in ENDED:
        left = [action for action in before.waiting(event.orchestration, None) if not beside.ends(action)]
        if left:
            return f"it is {event.status}, and {', '.join(left)} stays open"
    return None if good else f"it moves to {event.status} without what leads there"


def _phase(event: f.PhaseMoved, beside: _Beside, before: _Before) -> str | None:
    was = before.phase(event)
    match event.status:
        case "planned":
            good = beside.has(f.PhasePlanned, phase=event.phase)
        case "planning":
            good = beside.has(f.OrchestrationMoved, status="planning", phase=event.phase)
            good = good and (was not in ("executing", "reviewing") or beside.has(f.RepairStarted, phase=event.phase))
            good = good and (("." not in event.phase and was != "planned") or beside.has(f.IssuesRaised, phase=event.phase))
            good = good and "pending" not in before.tasks.get((event.orchestration, event.phase), {}).values()
        case "executing":
            good = was != "planned" or beside.has(f.OrchestrationMoved, status="executing")
        case "reviewing":
            good = beside.has(f.OrchestrationMoved, status="reviewing") and beside.has(f.VerifyRecorded, phase=event.phase)
        case "blocked":
            good = beside.has(f.HoldSet, hold="blocked")
        case "complete":
            said = beside.has(f.VerifyRecorded) if was == "executing" else beside.has(f.VerdictRecorded, task=None) or beside.has(f.GateResolved)
            # a retry finds that nothing is missing: the reviewer that failed is not wanted any more
            said = said or (was == "reviewing" and beside.command == "retry")
            good = said and (beside.has(f.OrchestrationMoved) or beside.has(f.GateOpened))
        case _:
            good = beside.has(f.OrchestrationMoved) or beside.has(f.GateOpened)
    return None if good else f"phase {event.phase} moves from {was} to {event.status} without what belongs to it"


def _planned(event: f.PhasePlanned, beside: _Beside, _: _Before) -> str | None:
    return None if beside.has(f.PhaseMoved, phase=event.phase, status="planned") else f"a plan of phase {event.phase} that is not planned"


def _task(event: f.TaskMoved, beside: _Beside, before: _Before) -> str | None:
    known = before.tasks.get((event.orchestration, event.phase), {})
    was = known.get(event.task, "pending")
    place = {"phase": event.phase, "task": event.task}
    match event.status:
        case "in_progress" if was == "pending":
            good = beside.queues("task", attempt=1, **place)
        case "in_progress" if event.rejected:
            good = beside.queues("task", attempt=1, **place) and beside.has(f.IssuesRaised, **place) and beside.has(f.VerdictRecorded, **place)
        case "in_progress":
            good = event.git_range is not None and beside.queues("task-review", **place)
        case "completed":
            reviewed = beside.has(f.VerdictRecorded, verdict="pass", **place)
            good = event.git_range is not None and (reviewed or _ends(beside, before, "task"))
            if all(status in ("completed", "skipped") for number, status in known.items() if number != event.task):
                good = good and (beside.queues("verify", phase=event.phase) or beside.has(f.VerifyRecorded, phase=event.phase))
        case "blocked":
            failed = any(event.outcome != "succeeded" for event in beside.all(f.RunEnded))
            good = event.git_range is None and (failed or beside.has(f.VerdictRecorded, verdict="gaps", **place))
        case "skipped":
            good = beside.command in ("task-skip", "gate-reject")
        case _:
            good = beside.command == "retry"
    return None if good else f"task {event.phase}.{event.task} moves from {was} to {event.status} without what belongs to it"


def _ends(beside: _Beside, before: _Before, kind: str) -> bool:
    return any(event.outcome == "succeeded" and before.kinds.get(event.run) == kind for event in beside.all(f.RunEnded))


def _queued(event: f.RunQueued, beside: _Beside, _: _Before) -> str | None:
    if event.attempt > 1:
        last = {"run": event.run, "attempt": event.attempt - 1}
        again = beside.has(f.RunEnded, **last) or beside.has(f.RunWithdrawn, **last)
        return None if again else f"{event.run}.{event.attempt} is queued without the end of the attempt before"
    place = {"phase": event.phase, "task": event.task}
    match event.kind:
        case "init":
            good = beside.has(f.OrchestrationLaunched, orchestration=event.orchestration)
        case "validate":
            good = beside.has(f.WorkspaceReady) or beside.command == "retry"
        case "plan":
            good = beside.has(f.PhaseMoved, phase=event.phase, status="planning") or beside.command == "retry"
        case "task":
            good = beside.has(f.TaskMoved, status="in_progress", **place)
        case "task-review":
            good = beside.has(f.TaskMoved, status="in_progress", **place)
        case "review":
            # beside a verdict: consensus was turned on while the first reviewer read
            asked = beside.has(f.PhaseMoved, phase=event.phase, status="reviewing") or beside.has(f.VerdictRecorded, phase=event.phase)
            good = asked or beside.command == "retry"
        case "finalize":
            good = beside.has(f.OrchestrationMoved, status="finalizing") or beside.command == "retry"
        case _:
            good = True
    return None if good else f"{event.run} ({event.kind}) is queued without what leads to it"


_RESULT: dict[str, tuple[type, ...]] = {
    "init": (f.WorkspaceReady, f.OrchestrationMoved),
    "validate": (f.ValidationRecorded,),
    "plan": (f.PhasePlanned,),
    "task": (f.TaskMoved,),
    "task-review": (f.VerdictRecorded,),
    "verify": (f.VerifyRecorded,),
    "review": (f.VerdictRecorded,),
    "finalize": (f.OrchestrationMoved,),
}


def _ended(event: f.RunEnded, beside: _Beside, before: _Before) -> str | None:
    kind = before.kinds.get(event.run, "")
    if beside.is_stale or (event.orchestration in before.cancelling and kind != "finalize"):
        return None
    if event.outcome == "succeeded":
        good = beside.kinds.issuperset(_RESULT.get(kind, ()))
    elif event.orchestration in before.cancelling or beside.command == "cancel":
        good = True
    else:
        blocks = (
            beside.has(f.HoldSet, hold="blocked") or beside.has(f.TaskMoved, status="blocked") or beside.has(f.OrchestrationMoved, status="failed")
        )
        good = blocks or beside.has(f.RunQueued, run=event.run, attempt=event.attempt + 1)
    return None if good else f"{event.run}.{event.attempt} ({kind}) ended as {event.outcome}, and nothing follows from it"


def _withdrawn(event: f.RunWithdrawn, beside: _Beside, before: _Before) -> str | None:
    over = event.orchestration in before.ended or event.orchestration in before.cancelling or beside.has(f.OrchestrationMoved)
    if over or beside.command in ("cancel", "task-insert") or beside.has(f.RunQueued, run=event.run, attempt=event.attempt + 1):
        return None
    return f"{event.run}.{event.attempt} is withdrawn, and not ordered anew"


def _hold_set(event: f.HoldSet, beside: _Beside, before: _Before) -> str | None:
    match event.hold:
        case "paused":
            good = beside.has(f.HoldCleared, hold="pausing") and beside.completes(before.waiting(event.orchestration, "pause"))
        case "gate":
            good = beside.has(f.GateOpened)
        case "pausing":
            good = beside.command == "pause"
        case "cancelling":
            good = beside.command == "cancel"
        case _:
            good = True
    return None if good else f"hold {event.hold} is set without what leads to it"


def _hold_cleared(event: f.HoldCleared, beside: _Beside, _: _Before) -> str | None:
    match event.hold:
        case "pausing":
            good = beside.has(f.HoldSet, hold="paused") or beside.command == "resume"
        case "gate":
            good = beside.has(f.GateResolved)
        case "paused":
            good = beside.command == "resume"
        case "blocked":
            good = beside.command == "retry"
        case "cancelling":
            good = False
        case _:
            good = True
    return None if good else f"hold {event.hold} is cleared without what leads to it"


def _gate_opened(event: f.GateOpened, beside: _Beside, _: _Before) -> str | None:
    return None if beside.has(f.HoldSet, hold="gate") else f"gate {event.gate} is opened and holds nothing"


def _gate_resolved(event: f.GateResolved, beside: _Beside, _: _Before) -> str | None:
    good = beside.command == ("gate-approve" if event.approved else "gate-reject") and beside.has(f.HoldCleared, hold="gate")
    return None if good else f"gate {event.gate} is resolved by nobody, or still holds"


def _repaired(event: f.RepairStarted, beside: _Beside, _: _Before) -> str | None:
    good = beside.has(f.IssuesRaised, phase=event.phase) and beside.has(f.PhaseMoved, phase=event.phase, status="planning")
    return None if good else f"a repair of phase {event.phase} with no issues, or that is not planned"


def _verified(event: f.VerifyRecorded, beside: _Beside, _: _Before) -> str | None:
    then = ("reviewing", "complete") if event.status in ("passed", "skipped") else ("planning", "complete")
    good = any(beside.has(f.PhaseMoved, phase=event.phase, status=status) for status in then)
    return None if good else f"the check of phase {event.phase} is {event.status}, and nothing follows from it"


def _validated(event: f.ValidationRecorded, beside: _Beside, _: _Before) -> str | None:
    good = beside.has(f.HoldSet, hold="blocked") if event.verdict == "stop" else beside.has(f.OrchestrationMoved) or beside.has(f.GateOpened)
    return None if good else f"the validator says {event.verdict}, and nothing follows from it"


def _judged(event: f.VerdictRecorded, beside: _Beside, _: _Before) -> str | None:
    good = event.task is None or beside.has(f.TaskMoved, phase=event.phase, task=event.task)
    return None if good else f"task {event.phase}.{event.task} is judged {event.verdict}, and nothing follows from it"


def _workspace(event: f.WorkspaceReady, beside: _Beside, _: _Before) -> str | None:
    return None if beside.has(f.OrchestrationMoved, status="validating") else f"the workspace of {event.orchestration} is ready, and nothing follows"


def _policy(event: f.PolicyChanged, beside: _Beside, _: _Before) -> str | None:
    return None if beside.command in ("set-policy", "set-role-model") else f"the policy of {event.orchestration} is changed by nobody"


def _started(event: f.RunStarted, beside: _Beside, before: _Before) -> str | None:
    if not before.open.get(event.orchestration):
        return None
    left = [action for action in before.waiting(event.orchestration, "retry") if not beside.has(f.ActionCompleted, action=action)]
    return f"{event.run} starts, and {', '.join(left)} stays open" if left else None


def _completed(event: f.ActionCompleted, beside: _Beside, before: _Before) -> str | None:
    orchestration, kind = before.of_action.get(event.action, ("", ""))
    of = {"orchestration": orchestration}
    match kind:
        case "launch":
            good = beside.has(f.WorkspaceReady, **of)
        case "pause":
            good = beside.has(f.HoldSet, hold="paused", **of)
        case "cancel":
            good = beside.has(f.OrchestrationMoved, status="cancelled", **of)
        case "retry":
            good = beside.has(f.RunStarted, **of) or (beside.command == "retry" and beside.has(f.GateOpened, **of))
        case _:
            good = beside.deed.action is not None and beside.deed.action.id == event.action
    return None if good else f"{event.action} is completed without what it asked for"


def _failed(event: f.ActionFailed, beside: _Beside, before: _Before) -> str | None:
    orchestration, _ = before.of_action.get(event.action, ("", ""))
    ended = any(beside.has(f.OrchestrationMoved, orchestration=orchestration, status=status) for status in ENDED)
    return None if ended or beside.command == "resume" else f"{event.action} fails, and nothing stands in its way"


_RULES: dict[type, Callable[[Any, _Beside, _Before], str | None]] = {
    f.OrchestrationMoved: _orchestration,
    f.PhaseMoved: _phase,
    f.PhasePlanned: _planned,
    f.TaskMoved: _task,
    f.RunQueued: _queued,
    f.RunStarted: _started,
    f.RunEnded: _ended,
    f.RunWithdrawn: _withdrawn,
    f.HoldSet: _hold_set,
    f.HoldCleared: _hold_cleared,
    f.GateOpened: _gate_opened,
    f.GateResolved: _gate_resolved,
    f.RepairStarted: _repaired,
    f.VerifyRecorded: _verified,
    f.ValidationRecorded: _validated,
    f.VerdictRecorded: _judged,
    f.WorkspaceReady: _workspace,
    f.PolicyChanged: _policy,
    f.ActionCompleted: _completed,
    f.ActionFailed: _failed,
}


def hang_together(case: Case) -> Iterator[Finding]:
    """I20: each event stands in a decision with what leads to it and what follows from it, once."""
    before = _Before()
    for place, _, deed in case.history.judged:
        if deed.action is not None:
            before.begin(deed)
        beside = _Beside(deed)
        last: Any = None
        last_kind: type | None = None
        for event in deed.events:
            kind = type(event)
            if kind in _RULES:
                wrong = _RULES[kind](event, beside, before)
                if wrong is not None:
                    yield Finding(shown_place(place), wrong)
            if kind is last_kind and last == event:
                yield Finding(shown_place(place), f"{f.name_of(event)} stands twice in one decision")
            if kind in _TAKEN:
                before.take(event)
            last, last_kind = event, kind


_TAKEN = frozenset(
    {
        f.RunQueued,
        f.PhaseMoved,
        f.TaskMoved,
        f.PhasePlanned,
        f.TaskInserted,
        f.HoldSet,
        f.OrchestrationMoved,
        f.ActionCompleted,
        f.ActionFailed,
    }
)
"""What changes what stands."""


def work_continues(case: Case) -> Iterator[Finding]:
    """I20: a run begins from the newest commits (one of a task from the commits of the task, if it has some), a new attempt from those of
    the first; what was accepted is among the newest commits after it."""
    walk = _Work()
    kept: list[tuple[str, str]] = []
    for place, _, deed in case.history.judged:
        for event in deed.events:
            kind = type(event)
            if kind is f.RunQueued:
                expected = walk.base_of(event)
                if expected is not None and event.base != expected:
                    yield Finding(shown_place(place), f"{event.run}.{event.attempt} begins from {event.base}; it has to begin from {expected}")
                walk.bases[event.run], walk.kinds[event.run] = event.base, event.kind
            elif kind is f.RunEnded:
                if event.head is not None and walk.moves_heads(event, deed):
                    kept.append((event.orchestration, event.head))
            elif kind is f.TaskMoved and event.git_range is not None:
                walk.ranges[event.orchestration, event.phase, event.task] = event.git_range[1]
                if event.status == "completed":
                    kept.append((event.orchestration, event.git_range[1]))
            elif kind in _OF_HEADS:
                walk.take(event)
        if kept:
            for orchestration, head in kept:
                if head not in walk.heads.get(orchestration, ()):
                    yield Finding(shown_place(place), f"commit {head}, which {orchestration} accepted, is not among its newest commits")
            kept.clear()


class _Work:
    """The commits that work goes on from."""

    def __init__(self) -> None:
        self.heads: dict[str, tuple[str, ...]] = {}
        self.bases: dict[str, tuple[str, ...]] = {}
        self.kinds: dict[str, str] = {}
        self.ranges: dict[tuple[str, str | None, int | None], str] = {}
        self.cancelling: set[str] = set()

    def take(self, event: Any) -> None:
        kind = type(event)
        if kind is f.WorkspaceReady:
            self.heads[event.orchestration] = (event.base,)
        elif kind is f.HeadsMoved:
            self.heads[event.orchestration] = event.heads
        elif event.hold == "cancelling":
            self.cancelling.add(event.orchestration)

    def base_of(self, event: f.RunQueued) -> tuple[str, ...] | None:
        """Return what an attempt has to begin from; None where that is free."""
        if event.attempt > 1:
            return self.bases.get(event.run)
        if event.kind in ("task", "task-review"):
            own = self.ranges.get((event.orchestration, event.phase, event.task))
            return self.heads.get(event.orchestration) if own is None else (own,)
        return None if event.kind == "init" else self.heads.get(event.orchestration)

    def moves_heads(self, event: f.RunEnded, deed: Deed) -> bool:
        """Return whether the commit of an end is accepted."""
        if event.outcome != "succeeded" or self.kinds.get(event.run) not in ("validate", "plan", "verify", "review"):
            return False
        return event.orchestration not in self.cancelling and not any(type(beside) is f.ReportStale for beside in deed.events)


_OF_HEADS = frozenset({f.WorkspaceReady, f.HeadsMoved, f.HoldSet})
