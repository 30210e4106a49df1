"""The invariants of control actions: pauses, changes of policy and plan, moves; evidence in, violations out as in `invariants`. Pure.

Each check reads what it needs from scratch: none trusts what another has made of the evidence.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from bus_schemas import codec, subjects
from bus_schemas import events as e
from bus_schemas.decisions import ActionStatus, CommandCause, ReportCause
from bus_schemas.entities import Flag
from bus_schemas.events import HoldKind, PhaseStatus, TaskStatus
from bus_schemas.ids import PLANE, orchestration_of
from bus_schemas.policy import Policy, Role, model_for
from bus_schemas.reports import Outcome, Started
from bus_schemas.routing import AgentOffer, agent_for
from tests.simulation.evidence import Evidence, Fact

Attempt = tuple[str, int]

CONTROL_VERBS = frozenset(
    {"launch", "pause", "resume", "cancel", "retry", "gate-approve", "gate-reject", "set-policy", "set-role-model", "task-edit", "task-set-model"}
    | {"task-skip", "task-insert", "node-cordon", "node-uncordon", "node-drain", "flag-set", "flag-rollback"}
)
"""What needs a reason while the flag `require_reason` is on."""


def claims(evidence: Evidence) -> dict[Attempt, float]:
    """Return when each attempt was claimed by a node."""
    found: dict[Attempt, float] = {}
    for record in evidence.stored:
        if record.stream == subjects.REP and record.subject.endswith(".started") and isinstance(codec.decode_report(record.data), Started):
            subject = subjects.parse_report(record.subject)
            found.setdefault((subject.run, subject.attempt), record.at_s)
    return found


def _given_up(evidence: Evidence) -> set[Attempt]:
    """Return the attempts that were ended by somebody else than their node: what a lost node still does is excused."""
    ends = [fact for fact in evidence.facts if isinstance(fact.event, e.RunEnded) and not isinstance(fact.decision.cause, ReportCause)]
    return {(fact.event.run, fact.event.attempt) for fact in ends if isinstance(fact.event, e.RunEnded)}


def no_claim_while_paused(evidence: Evidence) -> Iterator[str]:
    """I6: no start is claimed between the completion of a pause and its resume."""
    claimed, excused = claims(evidence), _given_up(evidence)
    since: dict[str, float] = {}
    spans: list[tuple[str, float, float]] = []
    for fact in evidence.facts:
        match fact.event:
            case e.HoldSet(orchestration=o, hold=HoldKind.PAUSED):
                since[o] = fact.at_s
            case e.HoldCleared(orchestration=o, hold=HoldKind.PAUSED) if o in since:
                spans.append((o, since.pop(o), fact.at_s))
            case _:
                pass
    spans += [(o, begun, float("inf")) for o, begun in since.items()]
    for o, begun, ended in spans:
        for (run, attempt), at_s in claimed.items():
            if orchestration_of(run) == o and begun < at_s < ended and (run, attempt) not in excused:
                yield f"{run}.{attempt} was claimed at {at_s:.3f}; {o} is paused from {begun:.3f} to {ended:.3f}"


def no_edit_after_start(evidence: Evidence) -> Iterator[str]:
    """I7: an accepted edit or skip by an operator finds no attempt of its task under way, by ledger, claims and witness alike."""
    claimed = claims(evidence)
    task_of: dict[str, tuple[str, str | None, int | None]] = {}
    open_attempts: dict[tuple[str, str | None, int | None], set[Attempt]] = defaultdict(set)
    for fact in evidence.facts:
        match fact.event:
            case e.RunQueued() as queued if queued.task is not None:
                task_of[queued.run] = (queued.orchestration, queued.phase, queued.task)
                open_attempts[task_of[queued.run]].add((queued.run, queued.attempt))
            case e.RunEnded(run=run, attempt=attempt) | e.RunWithdrawn(run=run, attempt=attempt):
                open_attempts[task_of.get(run, ("", None, None))].discard((run, attempt))
            case e.TaskEdited(orchestration=o, phase=phase, task=task):
                yield from _under_way(fact, open_attempts[o, phase, task], claimed)
            case e.TaskMoved(orchestration=o, phase=phase, task=task, status=TaskStatus.SKIPPED):
                yield from _under_way(fact, open_attempts[o, phase, task], claimed)
            case _:
                pass


def _under_way(fact: Fact, attempts: set[Attempt], claimed: dict[Attempt, float]) -> Iterator[str]:
    for run, attempt in sorted(attempts):
        yield f"a task was changed at {fact.at_s:.3f} while {run}.{attempt} was under way (claimed at {claimed.get((run, attempt))})"


def every_revision_by_one(evidence: Evidence) -> Iterator[str]:
    """I9: the revisions of policies, plans and tasks grow by exactly one with each change, and a change names the revision that stood."""
    plan: Counter[tuple[str, str]] = Counter()
    task: dict[tuple[str, str, int], int] = {}
    status: dict[tuple[str, str, int], TaskStatus] = {}
    for fact in evidence.facts:
        match fact.event:
            case e.PhasePlanned() as planned:
                yield from _next(plan, (planned.orchestration, planned.phase), planned.revision)
                task.update({(planned.orchestration, planned.phase, one.number): 1 for one in planned.tasks})
            case e.TaskInserted() as new:
                yield from _next(plan, (new.orchestration, new.phase), new.plan_revision)
                task[new.orchestration, new.phase, new.task] = 1
                for blocked in new.blocks:
                    task[new.orchestration, new.phase, blocked] += 1
            case e.TaskEdited() as edited:
                yield from _next(plan, (edited.orchestration, edited.phase), edited.plan_revision)
                yield from _grown(task, (edited.orchestration, edited.phase, edited.task), edited.revision, 1)
            case e.TaskMoved() as moved:
                key = (moved.orchestration, moved.phase, moved.task)
                if moved.plan_revision is not None:
                    yield from _next(plan, key[:2], moved.plan_revision)
                before = status.get(key, TaskStatus.PENDING)
                yield from _grown(task, key, moved.revision, int(TaskStatus.PENDING in (before, moved.status)))
                status[key] = moved.status
            case _:
                pass


def _next(known: Counter[tuple[str, str]], key: tuple[str, str], revision: int) -> Iterator[str]:
    if revision != known[key] + 1:
        yield f"plan of phase {key[1]} of {key[0]}: revision {revision} after {known[key]}"
    known[key] = revision


def _grown(known: dict[tuple[str, str, int], int], key: tuple[str, str, int], revision: int, by: int) -> Iterator[str]:
    if revision != known.get(key, 0) + by:
        yield f"task {key[1]}.{key[2]} of {key[0]}: revision {revision} after {known.get(key)}"
    known[key] = revision


def target_is_current(evidence: Evidence) -> Iterator[str]:
    """I9: a change of policy is accepted only for the revision that stood; of two operators on one revision one is refused."""
    asked = {call.command: call.asked for call in evidence.calls}
    revision: dict[str, int] = {}
    for fact in evidence.facts:
        event, cause = fact.event, fact.decision.cause
        if isinstance(event, e.OrchestrationLaunched):
            revision[event.orchestration] = 1
        elif isinstance(event, e.PolicyChanged) and isinstance(cause, CommandCause):
            target = getattr(asked.get(cause.id), "target_revision", None)
            if target != revision[event.orchestration]:
                yield f"policy of {event.orchestration} at revision {revision[event.orchestration]} was changed by a command for revision {target}"
            revision[event.orchestration] = event.revision


def every_action_ends(evidence: Evidence) -> Iterator[str]:
    """I5: after the heal and the cancelling of what was still held, each accepted action has reached exactly one end, and nothing lives."""
    if not evidence.resting:
        return
    accepted: dict[str, str] = {}
    ends: Counter[str] = Counter()
    live: set[str] = set()
    for entry in evidence.entries:
        action, cause = entry.decision.action, entry.decision.cause
        if action is not None and action.status is not ActionStatus.REFUSED and isinstance(cause, CommandCause):
            accepted[action.id] = cause.type
    for fact in evidence.facts:
        match fact.event:
            case e.ActionCompleted(action=ended) | e.ActionFailed(action=ended):
                ends[ended] += 1
            case e.OrchestrationLaunched(orchestration=o):
                live.add(o)
            case e.OrchestrationMoved(orchestration=o, status=status) if status in ("complete", "failed", "cancelled"):
                live.discard(o)
            case _:
                pass
    for action_id, kind in accepted.items():
        if ends[action_id] != 1:
            yield f"{action_id} ({kind}) has {ends[action_id]} ends"
    for o in sorted(live):
        yield f"{o} lives on after it was cancelled"


def effective_policy(evidence: Evidence) -> Iterator[str]:
    """I9: a run is queued by the newest policy revision, and its order says what that revision says."""
    policies: dict[tuple[str, int], Policy] = {}
    newest: dict[str, int] = {}
    models: dict[tuple[str, str | None, int | None], str | None] = {}
    queued: dict[Attempt, e.RunQueued] = {}
    for fact in evidence.facts:
        match fact.event:
            case e.OrchestrationLaunched() as launched:
                policies[launched.orchestration, 1] = launched.policy
                newest[launched.orchestration] = 1
            case e.PolicyChanged() as changed:
                policies[changed.orchestration, changed.revision] = changed.policy
                newest[changed.orchestration] = changed.revision
            case e.PhasePlanned() as planned:
                models.update({(planned.orchestration, planned.phase, one.number): one.model for one in planned.tasks})
            case e.TaskInserted() as new:
                models[new.orchestration, new.phase, new.task] = new.model
            case e.TaskEdited() as edited if edited.model is not None:
                models[edited.orchestration, edited.phase, edited.task] = edited.model or None
            case e.RunQueued() as event:
                queued[event.run, event.attempt] = event
                if event.policy_revision != newest[event.orchestration]:
                    yield f"{event.run}.{event.attempt} was queued by revision {event.policy_revision}; {newest[event.orchestration]} was the newest"
                policy = policies[event.orchestration, event.policy_revision]
                own = models.get((event.orchestration, event.phase, event.task)) if event.kind == "task" else None
                wanted = own or (model_for(policy, Role(event.role)) if event.role in set(Role) else "")
                if event.model != wanted:
                    yield f"{event.run}.{event.attempt} was queued with model {event.model}; its revision says {wanted}"
            case _:
                pass
    for record, order in evidence.orders:
        known = queued.get((order.run, order.attempt))
        if known is None:
            continue
        policy = policies[order.orchestration, known.policy_revision]
        said = (order.policy_revision, order.model, order.timeout_s, order.review, order.node)
        if said != (known.policy_revision, known.model, float(policy.flow.run_timeout_s), policy.review, known.node):
            yield f"the order of {order.run}.{order.attempt}, stored at {record.at_s:.3f}, is not by its revision {known.policy_revision}: {said}"


def no_effect_of_the_given_up(evidence: Evidence) -> Iterator[str]:
    """I14: what an attempt still reports that was given up and is done again changes nothing, and nothing is built on its commit."""
    newest: dict[str, int] = {}
    over: dict[str, Attempt] = {}
    for fact in evidence.facts:
        event, cause = fact.event, fact.decision.cause
        if isinstance(event, e.RunQueued):
            newest[event.run] = event.attempt
            for commit in event.base:
                if commit in over:
                    yield f"{event.run}.{event.attempt} starts from {commit}, the commit of an attempt that was given up"
        elif isinstance(event, e.RunEnded) and event.outcome is Outcome.LOST and not isinstance(cause, ReportCause):
            over[f"c-{event.run}-{event.attempt}"] = (event.run, event.attempt)
        elif isinstance(event, e.HeadsMoved) and set(event.heads) & set(over):
            yield f"the heads of {event.orchestration} are those of an attempt that was given up: {event.heads}"
        if isinstance(cause, ReportCause) and cause.attempt < newest.get(cause.run, 0) and not _is_of_now(fact, cause):
            yield f"the report of {cause.run}.{cause.attempt} led to {type(event).__name__} though attempt {newest[cause.run]} is the newest"


def _is_of_now(fact: Fact, cause: ReportCause) -> bool:
    """Return whether an event of an old attempt's report is its record as stale, a mark of an order, or belongs to what it itself led to."""
    if isinstance(fact.event, e.ReportStale | e.RunDispatched):
        return True
    own = [event for event in fact.decision.events if isinstance(event, e.RunEnded | e.RunWithdrawn | e.RunStarted)]
    return any((event.run, event.attempt) == (cause.run, cause.attempt) for event in own)


def phases_as_enabled(evidence: Evidence) -> Iterator[str]:
    """I9: a main phase begins, or is left out, as the newest revision says; one that has begun goes on whatever is said later."""
    enabled: dict[str, tuple[int, ...] | None] = {}
    begun: set[tuple[str, str]] = set()
    for fact in evidence.facts:
        match fact.event:
            case e.OrchestrationLaunched() as launched:
                enabled[launched.orchestration] = launched.policy.flow.phases_enabled
            case e.PolicyChanged() as changed:
                enabled[changed.orchestration] = changed.policy.flow.phases_enabled
            case e.PhaseMoved(orchestration=o, phase=phase, status=status) if "." not in phase and (o, phase) not in begun:
                begun.add((o, phase))
                wanted = enabled[o]
                if (wanted is None or int(phase) in wanted) is (status is PhaseStatus.SKIPPED):
                    yield f"phase {phase} of {o} is {status} at {fact.at_s:.3f}; enabled are {wanted}"
            case _:
                pass


def reasons_where_compulsory(evidence: Evidence) -> Iterator[str]:
    """Domain §9: while the flag stands that makes it so, no control action is accepted without a reason."""
    on: list[tuple[int, bool]] = []
    for record, message in evidence.messages:
        known = record.seq if message.project == PLANE else message.plane_seq
        flag = next((is_on for seq, is_on in reversed(on) if seq <= known), False)
        for decision in message.decisions:
            cause, action = decision.cause, decision.action
            is_accepted = action is not None and action.status is not ActionStatus.REFUSED
            if flag and is_accepted and isinstance(cause, CommandCause) and cause.type in CONTROL_VERBS and not cause.reason:
                yield f"{cause.type} of key {cause.key} was accepted at {record.seq} without a reason"
            for event in decision.events:
                if isinstance(event, e.FlagChanged) and event.flag == Flag.REQUIRE_REASON:
                    on.append((record.seq, event.on))
                    flag = event.on


def models_are_offered(evidence: Evidence) -> Iterator[str]:
    """Domain §5: no run is queued on a node that does not take its model, wherever it was set and whoever moved."""
    offers: dict[str, tuple[AgentOffer, ...]] = {}
    for fact in evidence.facts:
        match fact.event:
            case e.NodeRegistered(node=node):
                offers[node.id] = node.agents
            case e.RunQueued() as queued if queued.model and agent_for(offers[queued.node], queued.model) is None:
                yield f"{queued.run}.{queued.attempt} ({queued.kind}) was queued on {queued.node}, which does not take {queued.model}"
            case _:
                pass


def rehearsals_change_nothing(evidence: Evidence) -> Iterator[str]:
    """Domain §7: a dry run leaves no trace in the ledger, and its answer names no position there."""
    rehearsed = {call.command for call in evidence.calls if call.dry_run}
    for entry in evidence.entries:
        if isinstance(entry.decision.cause, CommandCause) and entry.decision.cause.id in rehearsed:
            yield f"dry run {entry.decision.cause.id} ({entry.decision.cause.type}) stands in the ledger at {entry.seq}"
    for call in evidence.calls:
        if call.dry_run and call.receipt is not None and (call.receipt.position is not None or call.receipt.duplicate):
            yield f"the dry run of key {call.key} is answered as if it stood in the ledger: {call.receipt}"


def named_tasks_wait(evidence: Evidence) -> Iterator[str]:
    """Domain §7: what an insert names is what waits for the new task."""
    asked = {call.command: call.asked for call in evidence.calls}
    for fact in evidence.facts:
        if isinstance(fact.event, e.TaskInserted) and isinstance(fact.decision.cause, CommandCause):
            blocks = getattr(asked.get(fact.decision.cause.id), "blocks", None)
            if blocks is not None and fact.event.blocks != blocks:
                yield f"task {fact.event.phase}.{fact.event.task} was to block {blocks} and blocks {fact.event.blocks}"


CHECKS = {
    "I6 claims": no_claim_while_paused,
    "I7 started": no_edit_after_start,
    "I9 plan": every_revision_by_one,
    "I9 target": target_is_current,
    "I9 effective": effective_policy,
    "I5 terminal": every_action_ends,
    "I14 given up": no_effect_of_the_given_up,
    "I9 phases": phases_as_enabled,
    "reasons": reasons_where_compulsory,
    "models": models_are_offered,
    "dry runs": rehearsals_change_nothing,
    "inserts": named_tasks_wait,
}
