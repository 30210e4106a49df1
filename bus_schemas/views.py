"""Views: what queries answer, and so what the CLI prints as JSON and the console shows. Pure.

A query is a JSON object sent to `qd.query.<name>`; every answer is an object with the ledger `position` it is true for.
A query may name a `min_seq` and then waits (bounded) until the answer is at least that new. Lists answer
`{"items": [...], "next": null}`; what is not found answers `{"error": {"code", "message"}}`.

Answered by the controller, from live state:

| query | parameters | answer |
|---|---|---|
| `projects`, `project` | `id` | ProjectView |
| `designs`, `design` | `project?`; `id` | DesignView (without `body` and `comments` in a list) |
| `tickets`, `ticket` | `project?`, `design?`; `id` | TicketView |
| `orchestrations`, `orchestration` | `project?`, `status?`, `limit?`, `after?`; `id` | OrchestrationView (without `plan` and policies in a list) |
| `past` | `id`, `at` (a position) | OrchestrationView, as it stood after that decision, and `as_of`, when its project was last decided on then |
| `why` | `id` | WhyView: everything that does not move, with its reason and what frees it |
| `policy` | `orchestration`, `revision?` | PolicyView |
| `placement` | `node` | PlacementView: the live orchestrations of a node, and where they would go |
| `runs` | `orchestration`, `limit?`, `after?` | RunView, oldest first; `next` may come before `limit` |
| `order` | `run` | the work order: what the agent was asked |
| `gates`, `gate` | `project?`; `orchestration` | GateView |
| `actions` | `project?`, `orchestration?`, `status?`, `since?`, `limit?`, `after?` or `before?` | Receipt; newer ones come `before` `previous` |
| `action` | `id`, or `project` and `key` | Receipt |
| `nodes`, `node` | `id` | NodeView |
| `flags` | | FlagView |
| `status` | | StatusView |

Answered by the timeline, from DuckDB and the log:

| query | parameters | answer |
|---|---|---|
| `timeline` | `orchestration`, `category?`, `type?` (or several), `after?`, `before?`, `limit?`, `wait_s?` | TimelineRow, oldest first |
| `report` | `name` (`launches`, `latency`, `failures`), `since?`, `until?`, `by?` | TableView |
| `past-actions` | as `actions` without `since`, and `type?`, `code?` (of its outcome) | PastActionView, newest first, of all times |
| `attempts` | `orchestration` | TableView: every attempt of its runs, also those that are not the newest |
| `sql` | `sql`, `limit?`, `may_be_older?` (by some times as long as its copy takes to make) | TableView |
| `tables` | `describe?` | TableView |
| `logs` | `orchestration`, `run?`, `after?`, `limit?`, `wait_s?` | LogChunk, oldest first; `next` is the cursor to go on from |
| `audit` | `after?` (a project), `limit?` | AuditView: what was read of the ledger, with the newest message and the row count of each project |
| `timeline-status` | | TimelineStatusView |
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct

from bus_schemas.decisions import Receipt
from bus_schemas.entities import Comment
from bus_schemas.policy import Policy
from bus_schemas.routing import AgentOffer


class ProjectView(Struct, frozen=True):
    """A project."""

    id: str
    name: str
    repo: str
    default_branch: str
    check: str | None
    designs: int
    tickets: int
    orchestrations: int
    live: int
    created_at: datetime | None


class DesignView(Struct, frozen=True):
    """A design; `problems` says what keeps it from being launched, empty when it is ready."""

    id: str
    project: str
    title: str
    status: str
    complexity: str
    required_markers: tuple[str, ...]
    completed_markers: tuple[str, ...]
    phase_count: int
    revision: int
    problems: tuple[str, ...]
    created_at: datetime | None
    updated_at: datetime | None
    body: str | None = None
    comments: tuple[Comment, ...] = ()


class TicketView(Struct, frozen=True):
    """A ticket."""

    id: str
    project: str
    design: str | None
    title: str
    status: str
    priority: str
    created_at: datetime | None
    updated_at: datetime | None
    body: str | None = None
    comments: tuple[Comment, ...] = ()


class HoldView(Struct, frozen=True):
    """Why an orchestration does not move, and since when."""

    kind: str
    reason: str
    since: datetime
    reason_code: str | None = None


class TaskView(Struct, frozen=True):
    """A task of a phase."""

    phase: str
    number: int
    subject: str
    description: str
    status: str
    model: str | None
    depends_on: tuple[int, ...]
    revision: int
    order: int
    inserted_by: str | None
    attempts: int
    rejections: int
    git_range: tuple[str, str] | None
    reason_code: str | None = None


class PhaseView(Struct, frozen=True):
    """A phase with its tasks. `verify` is None, `passed`, `failed` or `skipped`."""

    phase: str
    status: str
    revision: int
    repairs: int
    verify: str | None
    tasks: tuple[TaskView, ...]


class OrchestrationView(Struct, frozen=True):
    """An orchestration. `phase` is the one it stands in; in a list `plan` is empty and the policies are None."""

    id: str
    project: str
    design: str
    design_revision: int
    feature: str
    slug: str
    branch: str
    node: str
    status: str
    hold: HoldView | None
    holds: tuple[HoldView, ...]
    phase: str | None
    total_phases: int
    design_only: bool
    tickets: tuple[str, ...]
    preset_origin: str
    policy_snapshot_hash: str
    policy_revision: int
    requested_by: str
    action: str
    reason_code: str | None
    message: str
    head: str | None
    cost_usd: float | None
    tokens: int
    created_at: datetime
    ended_at: datetime | None
    position: str
    policy_snapshot: Policy | None = None
    active_policy: Policy | None = None
    plan: tuple[PhaseView, ...] = ()


class RunView(Struct, frozen=True):
    """The newest attempt of a run."""

    run: str
    attempt: int
    kind: str
    role: str
    model: str
    node: str
    status: str
    phase: str | None
    task: int | None
    policy_revision: int
    queued_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    reason_code: str | None
    detail: str


class GateView(Struct, frozen=True):
    """A gate that waits for a human; `subject` is what is to be judged, as text."""

    orchestration: str
    project: str
    gate: str
    phase: str | None
    subject: str
    since: datetime
    feature: str


class ObstacleView(Struct, frozen=True):
    """Something that does not move: what it is, what holds it, and what frees it (a command, or `by itself`)."""

    what: str
    reason: str
    reason_code: str | None
    since: datetime | None
    frees: str


class WhyView(Struct, frozen=True):
    """What an orchestration is doing, and everything of it that does not move."""

    orchestration: str
    status: str
    hold: str | None
    running: tuple[str, ...]
    obstacles: tuple[ObstacleView, ...]


class PolicyView(Struct, frozen=True):
    """A revision of an orchestration's policy: 1 is the launch; the others name the action that made them and what it changed."""

    orchestration: str
    revision: int
    newest: int
    hash: str
    policy: Policy
    at: datetime
    action: str
    changed: tuple[str, ...]


class PlacementView(Struct, frozen=True):
    """A live orchestration of a node: what of it runs there, and where it would go if the node were drained (None: nowhere)."""

    orchestration: str
    status: str
    hold: str | None
    running: tuple[str, ...]
    waiting: tuple[str, ...]
    target: str | None


class NodeView(Struct, frozen=True):
    """A node. Online means seen within 10 s; `running` are its attempts as its last beat named them."""

    id: str
    online: bool
    cordoned: bool
    capacity: int
    labels: dict[str, str]
    agents: tuple[AgentOffer, ...]
    running: tuple[str, ...]
    last_seen: datetime | None
    registered_at: datetime | None
    draining: bool = False


class FlagView(Struct, frozen=True):
    """A feature flag."""

    flag: str
    on: bool


class StatusView(Struct, frozen=True):
    """The controller that answers. `sync` is how the bus writes: `always`, `unsafe` or `unknown`."""

    owner: str
    active_since: datetime
    sync: str
    version: str
    position: str
    projects: int
    orchestrations: int
    live: int
    nodes_online: int
    dead_letters: int
    stopped_projects: dict[str, str]


class TimelineRow(Struct, frozen=True):
    """A row of the operator timeline: an action or an event, each exactly once, in the order of the ledger."""

    position: str
    at: datetime
    project: str
    orchestration: str | None
    category: str
    type: str
    by: str | None
    via: str | None
    summary: str
    status: str | None
    reason_code: str | None
    phase: str | None
    task: int | None
    run: str | None
    attempt: int | None
    node: str | None
    action: str | None
    detail: dict[str, Any]


class PastActionView(Struct, frozen=True):
    """An action as the timeline has it: a receipt without key and warnings. `position` is where it was decided."""

    action: str
    type: str
    status: str
    project: str
    requested_by: str
    via: str
    received_at: datetime
    accepted_at: datetime | None
    completed_at: datetime | None
    orchestration: str | None
    design: str | None
    ticket: str | None
    node: str | None
    task: str | None
    revision: int | None
    reason: str | None
    reason_code: str | None
    message: str
    position: str


class TableView(Struct, frozen=True):
    """A table: column names and types, rows of JSON values. `truncated` is set when the row limit cut it."""

    columns: tuple[str, ...]
    types: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    truncated: bool
    position: str
    sql: str | None = None


class LogChunk(Struct, frozen=True):
    """A piece of an attempt's output. `offset` counts bytes from its start; `cursor` is the place to go on after it."""

    run: str
    attempt: int
    node: str
    offset: int
    at: datetime
    cursor: int
    text: str


class AlarmView(Struct, frozen=True):
    """Why the ledger cannot be trusted any more, and what to do: which project and message, the hash that was expected and what was found."""

    kind: str
    text: str
    next_step: str
    project: str | None = None
    seq: int | None = None
    expected: str | None = None
    found: str | None = None


class AuditHead(Struct, frozen=True):
    """The newest ledger message of a project that was read, the SHA-256 of its body, and how many rows were made of it and those before."""

    project: str
    seq: int
    sha256: str
    rows: int


class AuditView(Struct, frozen=True):
    """What the timeline read of the ledger. `rolling_hash` stands for every message up to `last_seq`; `items` are ordered by project."""

    position: str
    state: str
    stream: str
    stream_created: datetime
    last_seq: int
    rolling_hash: str
    events: int
    items: tuple[AuditHead, ...]
    next: str | None = None
    alarm: AlarmView | None = None


class TimelineStatusView(Struct, frozen=True):
    """How far the timeline is; `state` is `following`, or `stopped` with the reason, and `alarm` where the ledger is not what was read."""

    state: str
    reason: str | None
    position: str
    ledger_seq: int
    behind: int
    events: int
    unknown_types: int
    dead_letters: int
    published_position: str | None
    version: str
    alarm: AlarmView | None = None


__all__ = [
    "AlarmView",
    "AuditHead",
    "AuditView",
    "DesignView",
    "FlagView",
    "GateView",
    "HoldView",
    "LogChunk",
    "NodeView",
    "ObstacleView",
    "OrchestrationView",
    "PastActionView",
    "PhaseView",
    "PlacementView",
    "PolicyView",
    "ProjectView",
    "Receipt",
    "RunView",
    "StatusView",
    "TableView",
    "TaskView",
    "TicketView",
    "TimelineRow",
    "TimelineStatusView",
    "WhyView",
]
