"""Commands: what an operator may ask, and the envelope that carries it. Pure.

Fields are refused when unknown, missing or of the wrong type. `by` is not here: the principal is read from the subject
that the server enforced. The body is {type, body}; its hash is what an idempotency key stands for.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta, Struct

from bus_schemas.entities import Complexity, DesignStatus, Priority, ShortText, Text, TicketStatus, Title
from bus_schemas.ids import PLANE, project_of
from bus_schemas.policy import Model, Preset
from bus_schemas.reports import TASKS_MAX, TaskDescription, TaskNumber, TaskSubject
from bus_schemas.texts import NO_NUL, NOT_BLANK, REF, REPO, TOKEN

Repo = Annotated[str, Meta(min_length=1, max_length=1024, pattern=REPO)]
Branch = Annotated[str, Meta(min_length=1, max_length=200, pattern=REF)]
Shell = Annotated[str, Meta(max_length=4096, pattern=NO_NUL)]
Reason = Annotated[str, Meta(max_length=2000)]
Revision = Annotated[int, Meta(ge=0, le=2**31)]
"""The revision that the sender saw: the change is refused when it is no longer the current one."""


class Via(StrEnum):
    """Through which door a command came."""

    CLI = "cli"
    CONSOLE = "console"
    MCP = "mcp"
    API = "api"
    NODE = "node"
    TIMER = "timer"


class PauseMode(StrEnum):
    """Whether a pause lets running runs end or stops them."""

    DRAIN = "drain"
    STOP = "stop"


class _Command(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="type"):
    """What all commands share: whether they travel on the control lane."""

    control_lane: ClassVar[bool] = False


class ProjectAdd(_Command, tag="project-add", frozen=True):
    """Register a repository as a project."""

    project: str
    repo: Repo
    name: Title | None = None
    default_branch: Branch = "main"
    check: Shell | None = None


class ProjectEdit(_Command, tag="project-edit", frozen=True):
    """Change a project; only what is named changes. An empty `check` removes it."""

    project: str
    repo: Repo | None = None
    name: Title | None = None
    default_branch: Branch | None = None
    check: Shell | None = None


class DesignAdd(_Command, tag="design-add", frozen=True):
    """Add a design to a project."""

    project: str
    title: Title
    body: Text
    complexity: Complexity = Complexity.STANDARD
    markers: tuple[str, ...] = ()


class DesignEdit(_Command, tag="design-edit", frozen=True):
    """Change a design; only what is named changes."""

    design: str
    title: Title | None = None
    body: Text | None = None
    complexity: Complexity | None = None


class DesignMark(_Command, tag="design-mark", frozen=True):
    """Set or clear a marker of a design."""

    design: str
    marker: str
    completed: bool = True


class DesignMove(_Command, tag="design-move", frozen=True):
    """Move a design to another status."""

    design: str
    status: DesignStatus


class TicketAdd(_Command, tag="ticket-add", frozen=True):
    """Add a ticket to a project."""

    project: str
    title: Title
    body: ShortText = ""
    design: str | None = None
    priority: Priority = Priority.MEDIUM


class TicketEdit(_Command, tag="ticket-edit", frozen=True):
    """Change a ticket; only what is named changes."""

    ticket: str
    title: Title | None = None
    body: ShortText | None = None
    design: str | None = None
    priority: Priority | None = None


class TicketMove(_Command, tag="ticket-move", frozen=True):
    """Move a ticket to another status."""

    ticket: str
    status: TicketStatus


class CommentAdd(_Command, tag="comment-add", frozen=True):
    """Add a comment to a design or ticket."""

    target: str
    body: Annotated[str, Meta(min_length=1, max_length=16 * 1024)]


class Launch(_Command, tag="launch", frozen=True):
    """Launch an orchestration of a design. `policy` is a whole policy, else `preset` and `overrides` make it."""

    design: str
    node: str
    feature: Annotated[str, Meta(max_length=200)] | None = None
    labels: dict[str, str] = {}
    tickets: Annotated[tuple[str, ...], Meta(max_length=100)] = ()
    branch: Branch | None = None
    preset: str = Preset.BALANCED.value
    overrides: dict[str, Any] = {}
    policy: dict[str, Any] | None = None


class Pause(_Command, tag="pause", frozen=True):
    """Start nothing new; `drain` lets running runs end, `stop` stops them."""

    control_lane = True

    orchestration: str
    mode: PauseMode = PauseMode.DRAIN


class Resume(_Command, tag="resume", frozen=True):
    """Continue a paused orchestration exactly where it stood."""

    control_lane = True

    orchestration: str


class Cancel(_Command, tag="cancel", frozen=True):
    """Stop the runs and end the orchestration as cancelled.

    `abandon` gives up runs on a node that is lost instead of waiting until it comes back and they are stopped.
    """

    control_lane = True

    orchestration: str
    abandon: bool = False


class Retry(_Command, tag="retry", frozen=True):
    """Run what failed of a blocked orchestration, or what a lost node held, again, with fresh attempts.

    `phase` and `task` name what is meant; they must be what failed.
    """

    control_lane = True

    orchestration: str
    phase: str | None = None
    task: TaskNumber | None = None


class GateApprove(_Command, tag="gate-approve", frozen=True):
    """Let an orchestration pass the gate it waits at."""

    control_lane = True

    orchestration: str
    note: Reason = ""


class GateReject(_Command, tag="gate-reject", frozen=True):
    """Send an orchestration back from the gate it waits at; the feedback reaches the next prompt."""

    control_lane = True

    orchestration: str
    feedback: Annotated[str, Meta(min_length=1, max_length=16 * 1024, pattern=NOT_BLANK)]


class PolicySet(_Command, tag="set-policy", frozen=True):
    """Change the active policy; only the fields that `patch` ({section: {field: value}}) names change. Runs that start later use it."""

    control_lane = True

    orchestration: str
    patch: Annotated[dict[str, Any], Meta(min_length=1)]
    target_revision: Revision


class RoleModelSet(_Command, tag="set-role-model", frozen=True):
    """Change the model of one role in the active policy."""

    control_lane = True

    orchestration: str
    role: str
    model: Model
    target_revision: Revision


class TaskEdit(_Command, tag="task-edit", frozen=True):
    """Change the text of a pending task; only what is named changes."""

    control_lane = True

    orchestration: str
    phase: str
    task: TaskNumber
    target_revision: Revision
    subject: TaskSubject | None = None
    description: TaskDescription | None = None


class TaskModelSet(_Command, tag="task-set-model", frozen=True):
    """Give a pending task a model of its own; None: the one of the policy again."""

    control_lane = True

    orchestration: str
    phase: str
    task: TaskNumber
    target_revision: Revision
    model: Model | None = None


class TaskSkip(_Command, tag="task-skip", frozen=True):
    """Leave a pending task out; what depends on it goes on without it."""

    control_lane = True

    orchestration: str
    phase: str
    task: TaskNumber
    target_revision: Revision


class TaskInsert(_Command, tag="task-insert", frozen=True):
    """Add a task to a planned phase, behind task `after` (0: first).

    `target_revision` is the phase's plan revision. What `blocks` names will depend on the new task; None: the pending tasks
    behind it that depend on `after`, with 0 those that depend on nothing.
    """

    control_lane = True

    orchestration: str
    phase: str
    after: Annotated[int, Meta(ge=0, le=9999)]
    subject: TaskSubject
    depends_on: Annotated[tuple[TaskNumber, ...], Meta(max_length=TASKS_MAX)]
    target_revision: Revision
    description: TaskDescription = ""
    model: Model | None = None
    blocks: Annotated[tuple[TaskNumber, ...], Meta(max_length=TASKS_MAX)] | None = None


class NodeCordon(_Command, tag="node-cordon", frozen=True):
    """Give a node no new work."""

    node: str


class NodeUncordon(_Command, tag="node-uncordon", frozen=True):
    """Give a node work again."""

    node: str


class NodeDrain(_Command, tag="node-drain", frozen=True):
    """Give a node no new work, let its runs end, and take the rest of its orchestrations to other nodes."""

    node: str


class FlagSet(_Command, tag="flag-set", frozen=True):
    """Turn a feature flag on or off."""

    flag: str
    on: bool


class FlagRollback(_Command, tag="flag-rollback", frozen=True):
    """Put a flag back to what it was before `action` changed it."""

    action: str


Command = (
    ProjectAdd
    | ProjectEdit
    | DesignAdd
    | DesignEdit
    | DesignMark
    | DesignMove
    | TicketAdd
    | TicketEdit
    | TicketMove
    | CommentAdd
    | Launch
    | Pause
    | Resume
    | Cancel
    | Retry
    | GateApprove
    | GateReject
    | PolicySet
    | RoleModelSet
    | TaskEdit
    | TaskModelSet
    | TaskSkip
    | TaskInsert
    | NodeCordon
    | NodeUncordon
    | NodeDrain
    | FlagSet
    | FlagRollback
)

COMMAND_TYPES: dict[str, type[Struct]] = {str(kind.__struct_config__.tag): kind for kind in Command.__args__}


class CommandEnvelope(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A command on the bus. `body` is decoded only after `type` is known, so that a refusal can name what is wrong.

    `valid_for_s` counts from the time the stream stored it; `key` is the idempotency key.
    """

    v: int
    type: str
    id: Annotated[str, Meta(pattern=TOKEN)]
    at: Annotated[datetime, Meta(tz=True)]
    via: Via
    key: str
    body: msgspec.Raw
    by: str | None = None
    trace: Annotated[str, Meta(max_length=128)] | None = None
    reason: Reason | None = None
    valid_for_s: Annotated[float, Meta(gt=0, le=31_536_000)] | None = None
    dry_run: bool = False


def type_of(command: Command) -> str:
    """Return the wire name of a command."""
    return str(type(command).__struct_config__.tag)


def subject_project(command: Command) -> str:
    """Return the project token of a command's subject: whose ledger it concerns. Raises BadId."""
    match command:
        case ProjectAdd() | ProjectEdit() | NodeCordon() | NodeUncordon() | NodeDrain() | FlagSet() | FlagRollback():
            return PLANE
        case DesignAdd() | TicketAdd():
            return command.project
        case DesignEdit() | DesignMark() | DesignMove() | Launch():
            return project_of(command.design)
        case TicketEdit() | TicketMove():
            return project_of(command.ticket)
        case CommentAdd():
            return project_of(command.target)
        case _:
            return project_of(command.orchestration)
