"""Events of the catalogue and the registry: flags, nodes, heads, projects, designs, tickets, comments. Pure.

`events` gives them out again, with those of orchestrations, and holds the union of all.
"""

from __future__ import annotations

from msgspec import Struct

from bus_schemas.entities import Comment, Complexity, Design, DesignStatus, Node, Priority, Project, Ticket, TicketStatus


class EventBase(Struct, frozen=True, omit_defaults=True, tag_field="type"):
    """What all events share."""


class FlagChanged(EventBase, tag="flag-changed", frozen=True):
    """A feature flag was turned on or off."""

    flag: str
    on: bool
    previous: bool = False


class NodeRegistered(EventBase, tag="node-registered", frozen=True):
    """A node's first beat, or a beat that describes it differently."""

    node: Node


class RecordedHead(Struct, frozen=True):
    """The newest ledger message of a project at some moment, and the SHA-256 of its stored body."""

    project: str
    seq: int
    sha256: str


class HeadsRecorded(EventBase, tag="heads-recorded", frozen=True):
    """The newest message of each project whose ledger went on since the last record, by name; in `plane` alone.

    Where the ledger does not hold one of them any more, acknowledged decisions were lost or changed.
    """

    heads: tuple[RecordedHead, ...]


class NodeCordonChanged(EventBase, tag="node-cordon-changed", frozen=True):
    """A node takes no new work, or takes it again; one that is drained gives its orchestrations to other nodes."""

    node: str
    cordoned: bool
    draining: bool = False


class ProjectAdded(EventBase, tag="project-added", frozen=True):
    """A project was registered."""

    project: Project


class ProjectEdited(EventBase, tag="project-edited", frozen=True):
    """A project was changed; it now is as given."""

    project: Project


class DesignAdded(EventBase, tag="design-added", frozen=True):
    """A design was added."""

    design: Design


class DesignEdited(EventBase, tag="design-edited", frozen=True):
    """A design was changed; None means: as before."""

    design: str
    revision: int
    title: str | None = None
    body: str | None = None
    complexity: Complexity | None = None
    phase_count: int | None = None


class DesignMarked(EventBase, tag="design-marked", frozen=True):
    """A marker was set or cleared."""

    design: str
    marker: str
    completed: bool
    revision: int


class DesignMoved(EventBase, tag="design-moved", frozen=True):
    """A design has another status."""

    design: str
    status: DesignStatus
    previous: DesignStatus
    revision: int


class TicketAdded(EventBase, tag="ticket-added", frozen=True):
    """A ticket was added."""

    ticket: Ticket


class TicketEdited(EventBase, tag="ticket-edited", frozen=True):
    """A ticket was changed; None means: as before."""

    ticket: str
    title: str | None = None
    body: str | None = None
    design: str | None = None
    priority: Priority | None = None


class TicketMoved(EventBase, tag="ticket-moved", frozen=True):
    """A ticket has another status; `orchestration` is set when a launch moved it."""

    ticket: str
    status: TicketStatus
    previous: TicketStatus
    orchestration: str | None = None


class CommentAdded(EventBase, tag="comment-added", frozen=True):
    """A comment was added."""

    comment: Comment
