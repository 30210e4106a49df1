"""A decision being made. Pure: a draft is local to one call of `decide` and gives back a value.

Each event is applied as it is emitted, so what is decided next sees what was decided before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from bus_schemas import events as e
from bus_schemas.decisions import Action, ActionStatus, Cause, CommandCause, Decision, Receipt, receipt_of
from bus_schemas.entities import Node
from bus_schemas.orders import RunKind
from bus_schemas.policy import Role, model_for
from bus_schemas.reasons import Reason
from controller import plan
from controller.orchestration import Orchestration, Run
from controller.project import Aggregate, evolve, fold_decision

_ROLES: dict[RunKind, Role] = {
    RunKind.VALIDATE: Role.VALIDATOR,
    RunKind.PLAN: Role.PLANNER,
    RunKind.TASK: Role.EXECUTOR,
    RunKind.TASK_REVIEW: Role.REVIEWER,
    RunKind.REVIEW: Role.REVIEWER,
}
NODE_ROLE = "node"
"""Of runs that the node does itself, without a model: init, verify, finalize."""

SECONDARY = "secondary"
PRIMARY = "primary"


class Context(Struct, frozen=True):
    """What a decision may know besides the state: values, made in the shell.

    `now` is the clock, `seed` 16 random bytes from which nonces are made, `plane` the registry, `online` the nodes seen
    within 10 s, `load` how many runs each node has open.
    """

    now: datetime
    seed: bytes
    plane: Aggregate
    online: frozenset[str] = frozenset()
    load: Mapping[str, int] = {}

    def online_nodes(self) -> list[Node]:
        """Return the registered nodes that are online, by name."""
        return sorted((node for node in self.plane.nodes.values() if node.id in self.online), key=lambda node: node.id)


class Refused(Exception):
    """A command does not fit the state. Raised and caught inside one call of `decide`, never beyond."""

    def __init__(self, code: Reason, message: str) -> None:
        """Keep the one code and the message."""
        super().__init__(message)
        self.code = code
        self.message = message


class Draft:
    """A decision being made: the state as it will be, and the events so far."""

    def __init__(self, state: Aggregate, cause: Cause, context: Context, because: str | None) -> None:
        """Start from `state`; `because` is the action that led here, for causes that are not commands."""
        self.state = state
        self.cause = cause
        self.context = context
        self.at = context.now if state.at is None else max(context.now, state.at)
        self.action_id = f"{state.project}-a{state.action_count + 1}"
        self.because = self.action_id if isinstance(cause, CommandCause) else because
        self.by = cause.by if isinstance(cause, CommandCause) else None
        self.events: list[e.Event] = []

    def emit(self, event: e.Event) -> None:
        """Add an event and apply it."""
        self.events.append(event)
        self.state = evolve(self.state, event, self.at, self.because, self.by)

    def changeable(self, name: str) -> Orchestration:
        """Return an orchestration whose policy and plan may be changed. Raises Refused."""
        o = self.state.orchestrations.get(name)
        if o is None:
            raise Refused(Reason.ENTITY_NOT_FOUND, f"there is no orchestration {name}")
        if not o.is_live:
            raise Refused(Reason.INVALID_STATE, f"{o.id} is {o.status}; it has ended")
        if o.hold(e.HoldKind.CANCELLING) is not None:
            raise Refused(Reason.INVALID_STATE, f"{o.id} is being cancelled")
        return o

    def orchestration(self, orchestration_id: str) -> Orchestration:
        """Return an orchestration as the draft has it now."""
        return self.state.orchestrations[orchestration_id]

    def done(self, action: Action | None = None) -> Decision:
        """Return the decision."""
        because = None if action is not None else self.because
        return Decision(at=self.at, cause=self.cause, action=action, because=because, events=tuple(self.events))

    def nonce(self, run: str, attempt: int) -> str:
        """Return the nonce of an attempt: as hard to guess as the seed."""
        return hashlib.blake2b(f"{run}.{attempt}".encode(), key=self.context.seed, digest_size=13).hexdigest()

    def queue(
        self,
        o: Orchestration,
        kind: RunKind,
        *,
        phase: str | None = None,
        task: int | None = None,
        base: tuple[str, ...] = (),
        reviewer: str | None = None,
        model: str | None = None,
    ) -> None:
        """Queue the first attempt of a new run. Its model is the one of its role right now, or `model`."""
        role = Role.REVIEWER_SECONDARY if reviewer == SECONDARY else _ROLES.get(kind)
        run = f"{o.id}-r{len(o.runs) + 1}"
        self.emit(
            e.RunQueued(
                orchestration=o.id,
                run=run,
                attempt=1,
                nonce=self.nonce(run, 1),
                kind=kind,
                node=o.node,
                role=NODE_ROLE if role is None else role.value,
                model=model or ("" if role is None else model_for(o.active_policy, role)),
                policy_revision=o.policy_revision,
                phase=phase,
                task=task,
                base=base,
                reviewer=reviewer,
            )
        )

    def queue_again(self, o: Orchestration, run: Run, previous_error: str | None) -> None:
        """Queue the next attempt of a run, on the orchestration's node and by its policy as they are now."""
        attempt = run.attempt + 1
        self.emit(
            e.RunQueued(
                orchestration=o.id,
                run=run.id,
                attempt=attempt,
                nonce=self.nonce(run.id, attempt),
                kind=run.kind,
                node=o.node,
                role=run.role,
                model=_model_now(o, run),
                policy_revision=o.policy_revision,
                phase=run.phase,
                task=run.task,
                base=run.base,
                reviewer=run.reviewer,
                previous_error=previous_error,
            )
        )


def _model_now(o: Orchestration, run: Run) -> str:
    """Return the model that a run of this role has by the policy and the task as they are now."""
    phase = o.find_phase(run.phase)
    task = phase.task(run.task) if run.kind is RunKind.TASK and phase is not None and run.task is not None else None
    if task is not None and task.model is not None:
        return task.model
    return model_for(o.active_policy, Role(run.role)) if run.role in set(Role) else ""


def refused(state: Aggregate, cause: CommandCause, context: Context, code: Reason, message: str, about: Action | None = None) -> Decision:
    """Return the decision that refuses a command: recorded, with no event."""
    draft = Draft(state, cause, context, None)
    unnamed = Action(id="", status=ActionStatus.REFUSED)
    return draft.done(replace(about or unnamed, id=draft.action_id, reason_code=code.value, message=message))


def preview(state: Aggregate, decision: Decision) -> Receipt:
    """Return the receipt that a decision on `state` would give, with what it would change, for a dry run: nothing of it is recorded."""
    assert isinstance(decision.cause, CommandCause)
    assert decision.action is not None
    receipt = receipt_of(decision, decision.cause, decision.action, None)
    name = decision.action.orchestration
    before = None if name is None else state.orchestrations.get(name)
    if name is None or before is None or decision.action.status is ActionStatus.REFUSED:
        return receipt
    return replace(receipt, diff=plan.diff(before, fold_decision(state, decision, None).orchestrations[name]))
