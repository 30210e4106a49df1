"""The catalogue: projects, designs, tickets, comments, and the nodes. Pure.

The canonical work graph: what a launch works on comes from here and nowhere else (domain §3).
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from bus_schemas.ids import DesignId, NodeId, ProjectId, TicketId
from bus_schemas.routing import AgentOffer
from bus_schemas.texts import ONE_LINE

BODY_BYTES_MAX = 200 * 1024
"""Of a design; the rest of the 256 KiB of a message is for what stands around it."""

NODE_OFFLINE_AFTER_S = 10.0
BEAT_EVERY_S = 2.0

Title = Annotated[str, Meta(min_length=1, max_length=200, pattern=ONE_LINE)]
Text = Annotated[str, Meta(max_length=BODY_BYTES_MAX)]
ShortText = Annotated[str, Meta(max_length=16 * 1024)]


class DesignStatus(StrEnum):
    """Where a design stands."""

    DRAFT = "draft"
    IN_REVIEW = "in_review"
    APPROVED = "approved"
    ARCHIVED = "archived"


class Complexity(StrEnum):
    """How much a design must have written down before it is ready."""

    SIMPLE = "simple"
    STANDARD = "standard"
    COMPLEX = "complex"


class TicketStatus(StrEnum):
    """Where a ticket stands."""

    TODO = "todo"
    IN_PROGRESS = "in_progress"
    IN_REVIEW = "in_review"
    BLOCKED = "blocked"
    DONE = "done"
    CANCELED = "canceled"


class Priority(StrEnum):
    """How urgent a ticket is."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    URGENT = "urgent"


DESIGN_MOVES: dict[DesignStatus, tuple[DesignStatus, ...]] = {
    DesignStatus.DRAFT: (DesignStatus.IN_REVIEW,),
    DesignStatus.IN_REVIEW: (DesignStatus.APPROVED, DesignStatus.DRAFT),
    DesignStatus.APPROVED: (DesignStatus.ARCHIVED,),
    DesignStatus.ARCHIVED: (DesignStatus.DRAFT,),
}

TICKET_MOVES: dict[TicketStatus, tuple[TicketStatus, ...]] = {
    TicketStatus.TODO: (TicketStatus.IN_PROGRESS, TicketStatus.BLOCKED, TicketStatus.CANCELED),
    TicketStatus.IN_PROGRESS: (TicketStatus.IN_REVIEW, TicketStatus.BLOCKED, TicketStatus.CANCELED),
    TicketStatus.IN_REVIEW: (TicketStatus.DONE, TicketStatus.IN_PROGRESS),
    TicketStatus.BLOCKED: (TicketStatus.TODO, TicketStatus.IN_PROGRESS, TicketStatus.CANCELED),
    TicketStatus.DONE: (TicketStatus.TODO,),
    TicketStatus.CANCELED: (TicketStatus.TODO,),
}


class Project(Struct, frozen=True, omit_defaults=True):
    """A repository that is worked on. `check` is the shell command that `verify` runs; None: verify is skipped."""

    id: ProjectId
    name: str
    repo: str
    default_branch: str = "main"
    check: str | None = None
    created_at: datetime | None = None


class Design(Struct, frozen=True, omit_defaults=True):
    """What is to be built, as Markdown with phases. A launch copies it; later changes do not touch what was launched."""

    id: DesignId
    project: ProjectId
    title: str
    body: str
    status: DesignStatus = DesignStatus.DRAFT
    complexity: Complexity = Complexity.STANDARD
    completed_markers: tuple[str, ...] = ()
    phase_count: int = 0
    revision: int = 1
    created_at: datetime | None = None
    updated_at: datetime | None = None


class Ticket(Struct, frozen=True, omit_defaults=True):
    """A piece of wanted work; its text stands in the prompts of a launch that names it."""

    id: TicketId
    project: ProjectId
    title: str
    body: str = ""
    design: DesignId | None = None
    status: TicketStatus = TicketStatus.TODO
    priority: Priority = Priority.MEDIUM
    created_at: datetime | None = None
    updated_at: datetime | None = None


class Comment(Struct, frozen=True):
    """A remark on a design or a ticket."""

    target: str
    author: str
    body: str
    at: datetime


class Node(Struct, frozen=True, omit_defaults=True):
    """A machine as its beat described it. Whether it is online is computed from when it was last seen, never stored."""

    id: NodeId
    labels: dict[str, str] = {}
    capacity: int = 1
    agents: tuple[AgentOffer, ...] = ()
    cordoned: bool = False
    registered_at: datetime | None = None
    draining: bool = False


class Flag(StrEnum):
    """Feature flags; one that is not set is off."""

    LAUNCH = "cp.launch"
    RUNTIME_CONTROLS = "cp.runtime_controls"
    POLICY_RECONFIGURATION = "cp.policy_reconfiguration"
    TASK_RECONFIGURATION = "cp.task_reconfiguration"
    REQUIRE_REASON = "require_reason"


FLAGS_ON_AT_FIRST = (Flag.LAUNCH, Flag.RUNTIME_CONTROLS, Flag.POLICY_RECONFIGURATION, Flag.TASK_RECONFIGURATION)
