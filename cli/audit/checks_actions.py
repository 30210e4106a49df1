"""Checks of actions: each accepted one has one outcome, and nothing is left hanging (I3, I5). Pure."""

from __future__ import annotations

from collections.abc import Iterator

from cli.audit import facts as f
from cli.audit.case import ENDED, STOPPING, Case
from cli.audit.deeds import CommandCause, shown_place
from cli.audit.verdict import Finding

LASTING = frozenset({"launch", "pause", "cancel", "retry"})
"""Commands whose outcome comes later; all others are done at once."""

NEEDED: dict[str, frozenset[type]] = {
    "project-add": frozenset({f.ProjectAdded}),
    "project-edit": frozenset({f.ProjectEdited}),
    "design-add": frozenset({f.DesignAdded}),
    "design-edit": frozenset({f.DesignEdited}),
    "design-mark": frozenset({f.DesignMarked}),
    "design-move": frozenset({f.DesignMoved}),
    "ticket-add": frozenset({f.TicketAdded}),
    "ticket-edit": frozenset({f.TicketEdited}),
    "ticket-move": frozenset({f.TicketMoved}),
    "comment-add": frozenset({f.CommentAdded}),
    "launch": frozenset({f.OrchestrationLaunched, f.RunQueued}),
    "pause": frozenset({f.ActionOpened, f.HoldSet}),
    "resume": frozenset({f.HoldCleared}),
    "cancel": frozenset({f.ActionOpened}),
    "retry": frozenset({f.ActionOpened, f.HoldCleared}),
    "gate-approve": frozenset({f.GateResolved, f.HoldCleared}),
    "gate-reject": frozenset({f.GateResolved, f.HoldCleared}),
    "set-policy": frozenset({f.PolicyChanged}),
    "set-role-model": frozenset({f.PolicyChanged}),
    "task-edit": frozenset({f.TaskEdited}),
    "task-set-model": frozenset({f.TaskEdited}),
    "task-skip": frozenset({f.TaskMoved}),
    "task-insert": frozenset({f.TaskInserted}),
    "node-cordon": frozenset({f.NodeCordonChanged}),
    "node-uncordon": frozenset({f.NodeCordonChanged}),
    "node-drain": frozenset({f.NodeCordonChanged}),
    "flag-set": frozenset({f.FlagChanged}),
    "flag-rollback": frozenset({f.FlagChanged}),
}
"""What an accepted command of a type has to have led to, in the same decision."""


def decided_whole(case: Case) -> Iterator[Finding]:
    """I5: a refused command has a reason code and changes nothing; an accepted one has none, and did what its type asks for, at once
    completed unless its outcome takes time. A decision nobody asked for changes something."""
    for place, _, deed in case.history.judged:
        action = deed.action
        if type(deed.cause) is not CommandCause:
            if action is not None or not deed.events:
                yield Finding(shown_place(place), "a decision that nobody asked for has an action, or changes nothing")
            continue
        if action is None:
            continue  # I2 says so
        if action.status == "refused":
            if deed.events or not action.reason_code:
                yield Finding(shown_place(place), f"{action.id} is refused, with {len(deed.events)} events and reason code {action.reason_code}")
            continue
        if action.status != "accepted" or action.reason_code:
            yield Finding(shown_place(place), f"{action.id} is decided as {action.status} with reason code {action.reason_code}")
        found = {type(event) for event in deed.events}
        missing = NEEDED.get(deed.cause.type, frozenset()) - found
        if missing:
            yield Finding(shown_place(place), f"{action.id} ({deed.cause.type}) is accepted without {', '.join(f.NAMES[kind] for kind in missing)}")
        done = [event for event in deed.events if type(event) is f.ActionCompleted and event.action == action.id]
        if deed.cause.type in NEEDED and deed.cause.type not in LASTING and not done:
            yield Finding(shown_place(place), f"{action.id} ({deed.cause.type}) is accepted and not completed in the same decision")


def ended_once(case: Case) -> Iterator[Finding]:
    """I5: an action is completed or failed once, after it was accepted."""
    ended: dict[str, str] = {}
    for place, deed, event in case.history.ends:
        kind = type(event)
        name = f.NAMES[kind]
        judged = case.actions.get(event.action)
        if judged is None or judged.place > place:
            yield Finding(shown_place(place), f"{name} of {event.action}, which was not decided before")
        elif judged.deed.action is not None and judged.deed.action.status != "accepted":
            yield Finding(shown_place(place), f"{name} of {event.action}, which was {judged.deed.action.status}")
        if kind is f.ActionOpened:
            cause = deed.cause
            if type(cause) is not CommandCause or cause.type != event.kind or deed.action is None or deed.action.id != event.action:
                yield Finding(shown_place(place), f"{event.action} is opened as {event.kind} by something else")
            continue
        before = ended.setdefault(event.action, shown_place(place))
        if before != shown_place(place):
            yield Finding(shown_place(place), f"{name} of {event.action}, which had ended at {before}")


def nothing_hangs(case: Case) -> Iterator[Finding]:
    """I5: after a heal no accepted action is open, unless its orchestration is held; each live orchestration is held by something that is
    named, with nothing of it on its way."""
    if not case.circumstances.quiesced:
        return
    for judged in case.history.commands:
        action, cause = judged.deed.action, judged.deed.cause
        if action is None or action.status != "accepted" or action.id in case.outcomes or type(cause) is not CommandCause:
            continue
        standing = case.standings.get(action.orchestration or "")
        held = standing is not None and standing.status not in ENDED and standing.holds & (STOPPING | {"gate", "blocked"})
        waits = held and cause.type in ("launch", "retry")
        if not waits and cause.type in LASTING:
            yield Finding(action.id, f"{cause.type} is accepted at {shown_place(judged.place)} and still open")
    open_: dict[str, list[str]] = {}
    for (run, number), attempt in case.attempts.items():
        if not attempt.is_over and not attempt.held:
            open_.setdefault(attempt.queued.orchestration, []).append(f"{run}.{number}")
    for name, standing in case.standings.items():
        if name in open_:
            yield Finding(name, f"it is {standing.status}, and open are still {', '.join(open_[name])}")
        elif standing.status not in ENDED and not standing.holds & {"paused", "gate", "blocked", "budget", "quota"}:
            yield Finding(name, f"it is {standing.status}, and nothing moves it; holds: {', '.join(sorted(standing.holds)) or 'none'}")


def ends_are_there(case: Case) -> Iterator[Finding]:
    """I3: after a heal, each end report that is stored for an attempt of the ledger is in the ledger, and none of them was buried."""
    if not case.circumstances.quiesced:
        return
    buried = {stored.subject.removeprefix("qd.dlq.REP.") for stored in case.dead_letters if stored.subject.startswith("qd.dlq.REP.")}
    for report in case.reported:
        subject = report.subject
        if subject.kind != "ended":
            continue
        name = f"{subject.run}.{subject.attempt}"
        attempt = case.attempts.get((subject.run, subject.attempt))
        believed = attempt is not None and (attempt.queued.nonce, attempt.queued.node) == (subject.nonce, subject.node)
        if not believed or attempt is None:
            yield Finding(name, f"{subject.node} sent an end of it that no order asked for")
        elif not (attempt.ended or attempt.stale):
            yield Finding(name, f"its end is stored in REP at {report.stored.seq} and not in the ledger")
        elif str(report.stored.seq) in buried:
            yield Finding(name, "its end is a dead letter, and was ordered")


def delivered_is_there(case: Case) -> Iterator[Finding]:
    """I3: an end that a node's journal calls delivered is stored (where all reports were kept), and after a heal in the ledger."""
    stored = {(r.subject.run, r.subject.attempt, r.subject.nonce) for r in case.reported if r.subject.kind == "ended"}
    for journal in case.journals:
        finished = {line.attempt for line in journal.lines if line.type == "finished"}
        for line in journal.lines:
            key = line.attempt
            if line.type != "delivered" or key is None or key not in finished:
                continue  # a rewritten journal calls dropped attempts delivered too
            name = f"{key.run}.{key.attempt}"
            if case.reports and tuple(key) not in stored:
                yield Finding(name, f"{journal.node} was told that its end is stored, and it is not")
            attempt = case.attempts.get((key.run, key.attempt))
            if case.circumstances.quiesced and (attempt is None or not (attempt.ended or attempt.stale)):
                yield Finding(name, f"{journal.node} delivered its end, and the ledger knows nothing of it")
