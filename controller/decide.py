"""decide(state, cause) -> Decision: one entry for each kind of cause. Pure.

Refusals are values with a reason code; a repeat, or nothing to do, is a value too. The idempotency index is asked by the
shell before; what it knows comes in as the decision not to call this.
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from bus_schemas import commands as c
from bus_schemas import events as e
from bus_schemas.codec import BadCommand
from bus_schemas.decisions import Action, ActionStatus, BeatCause, CommandCause, Decision, TimerCause
from bus_schemas.entities import FLAGS_ON_AT_FIRST, Flag, Node
from bus_schemas.ids import PLANE, BadId, NodeId
from bus_schemas.reasons import Reason
from bus_schemas.reports import Beat
from controller import catalogue, control, launch, policy_changes, task_changes
from controller.draft import Context, Draft, Refused, refused
from controller.project import Aggregate

_FLAG_OF: dict[type, Flag] = {
    c.Launch: Flag.LAUNCH,
    c.Pause: Flag.RUNTIME_CONTROLS,
    c.Resume: Flag.RUNTIME_CONTROLS,
    c.Cancel: Flag.RUNTIME_CONTROLS,
    c.Retry: Flag.RUNTIME_CONTROLS,
    c.GateApprove: Flag.RUNTIME_CONTROLS,
    c.GateReject: Flag.RUNTIME_CONTROLS,
    c.PolicySet: Flag.POLICY_RECONFIGURATION,
    c.RoleModelSet: Flag.POLICY_RECONFIGURATION,
    c.TaskEdit: Flag.TASK_RECONFIGURATION,
    c.TaskModelSet: Flag.TASK_RECONFIGURATION,
    c.TaskSkip: Flag.TASK_RECONFIGURATION,
    c.TaskInsert: Flag.TASK_RECONFIGURATION,
}
TASK_NUMBER_MAX = 9999
"""Of the contract: what is beyond names no task."""
_NEEDS_REASON = frozenset(_FLAG_OF) | {c.NodeCordon, c.NodeUncordon, c.NodeDrain, c.FlagSet, c.FlagRollback}


def decide_command(state: Aggregate, cause: CommandCause, command: c.Command | BadCommand, context: Context) -> Decision:
    """Return the decision for a command that is not a repeat: accepted with its events, or refused with one code."""
    draft = Draft(state, cause, context, None)
    try:
        _check_flag(cause, command, context)
        if isinstance(command, BadCommand):
            raise Refused(command.code, command.message)
        _check_project(cause, command, context)
        _check_reason(cause, command, context)
        action = _apply(draft, command)
    except Refused as error:
        return refused(state, cause, context, error.code, error.message, _about(_said(cause) if isinstance(command, BadCommand) else command))
    except BadId as error:
        return refused(state, cause, context, Reason.INVALID_PAYLOAD, str(error))
    return draft.done(action)


def _apply(draft: Draft, command: c.Command) -> Action:
    match command:
        case c.Launch():
            return launch.decide_launch(draft, command)
        case c.Pause() | c.Resume() | c.Cancel() | c.Retry() | c.GateApprove() | c.GateReject():
            orchestration = control.decide_control(draft, command)
            return Action(id=draft.action_id, status=ActionStatus.ACCEPTED, orchestration=orchestration)
        case c.PolicySet() | c.RoleModelSet():
            return policy_changes.decide_policy(draft, command)
        case c.TaskEdit() | c.TaskModelSet() | c.TaskSkip() | c.TaskInsert():
            return task_changes.decide_task(draft, command)
        case _:
            return catalogue.decide_catalogue(draft, command)


class _Said(msgspec.Struct, frozen=True):
    """What a body that is no command says it is about, whatever else is wrong with it."""

    design: object = None
    ticket: object = None
    orchestration: object = None
    node: object = None
    phase: object = None
    task: object = None


def _said(cause: CommandCause) -> _Said:
    try:
        return msgspec.json.decode(cause.body, type=_Said)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return _Said()


def _about(command: c.Command | _Said) -> Action:
    """Return what a command is about, as far as it says so, for the record of a refusal."""

    def named(field: str) -> str | None:
        value = getattr(command, field, None)
        return value[:100] if isinstance(value, str) else None

    return Action(
        id="",
        status=ActionStatus.REFUSED,
        design=named("design"),
        ticket=named("ticket"),
        orchestration=named("orchestration"),
        node=named("node"),
        task=_task_named(command),
    )


def _task_named(command: c.Command | _Said) -> str | None:
    phase, task = getattr(command, "phase", None), getattr(command, "task", None)
    return f"{phase[:20]}.{task}" if isinstance(phase, str) and type(task) is int and 1 <= task <= TASK_NUMBER_MAX else None


def _check_flag(cause: CommandCause, command: c.Command | BadCommand, context: Context) -> None:
    kind = c.COMMAND_TYPES.get(cause.type)
    flag = None if kind is None else _FLAG_OF.get(kind)
    if flag is not None and not context.plane.flags.get(flag, False):
        raise Refused(Reason.FEATURE_DISABLED, f"flag {flag} is off")


def _check_project(cause: CommandCause, command: c.Command, context: Context) -> None:
    expected = c.subject_project(command)
    if expected != cause.project:
        raise Refused(Reason.INVALID_PAYLOAD, f"the command came for project {cause.project} and is about project {expected}")
    if expected != PLANE and context.plane.projects.get(expected) is None:
        raise Refused(Reason.ENTITY_NOT_FOUND, f"there is no project {expected}; known: {', '.join(sorted(context.plane.projects)[:20]) or 'none'}")


def _check_reason(cause: CommandCause, command: c.Command, context: Context) -> None:
    if type(command) in _NEEDS_REASON and context.plane.flags.get(Flag.REQUIRE_REASON, False) and not (cause.reason or "").strip():
        raise Refused(Reason.MISSING_FIELD, "a reason is compulsory here (flag require_reason): name it with --reason TEXT")


def decide_beat(state: Aggregate, beat: Beat, context: Context) -> Decision | None:
    """Return the registration of a node that is new or describes itself differently; None when nothing changed. `state` is plane."""
    known = state.nodes.get(beat.node)
    node = Node(
        id=NodeId(beat.node),
        labels=beat.labels,
        capacity=beat.capacity,
        agents=beat.agents,
        cordoned=known.cordoned if known else False,
        draining=known.draining if known else False,
        registered_at=known.registered_at if known else None,
    )
    if node == known:
        return None
    draft = Draft(state, BeatCause(beat.node), context, None)
    draft.emit(e.NodeRegistered(node if known else replace(node, registered_at=draft.at)))
    return draft.done()


def decide_first_flags(state: Aggregate, context: Context) -> Decision | None:
    """Return the decision that turns the `cp.` flags on in a new installation; None when flags were ever set. `state` is plane."""
    if state.flags or state.at is not None:
        return None
    draft = Draft(state, TimerCause("first-start"), context, None)
    for flag in FLAGS_ON_AT_FIRST:
        draft.emit(e.FlagChanged(flag.value, True, False))
    return draft.done()


def home(command_project: str, plane: Aggregate) -> str:
    """Return whose ledger takes the decision: the project's, or plane's for a project that does not exist."""
    return command_project if command_project == PLANE or plane.projects.get(command_project) is not None else PLANE
