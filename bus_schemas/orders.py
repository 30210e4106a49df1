"""Work orders: what a node is asked to run, with everything it needs. Pure.

The node adds nothing from its own opinion. An order is derived from the ledger (`RunQueued` and the state it stands
in), so it can be published again by any controller, with the same nonce.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from bus_schemas.policy import ReviewPolicy


class RunKind(StrEnum):
    """What a run does."""

    INIT = "init"
    VALIDATE = "validate"
    PLAN = "plan"
    TASK = "task"
    TASK_REVIEW = "task-review"
    VERIFY = "verify"
    REVIEW = "review"
    FINALIZE = "finalize"


class Issue(Struct, frozen=True, omit_defaults=True):
    """Something a review, a check or an operator found wanting. `severity` is p0, p1 or p2."""

    text: str
    source: str = "review"
    severity: str = "p1"
    detector: str | None = None


class Workspace(Struct, frozen=True, omit_defaults=True):
    """Where a run works. `base` are the commits it starts from: the first is checked out, the others are merged into it."""

    repo: str
    slug: str
    branch: str
    default_branch: str = "main"
    base: tuple[str, ...] = ()


class TaskBrief(Struct, frozen=True, omit_defaults=True):
    """A task as an agent sees it."""

    phase: str
    number: int
    subject: str
    description: str = ""
    depends_on: tuple[int, ...] = ()
    status: str = "pending"


class TicketBrief(Struct, frozen=True, omit_defaults=True):
    """A ticket as an agent sees it."""

    id: str
    title: str
    body: str = ""


class Inputs(Struct, frozen=True, omit_defaults=True):
    """What the prompt of a run is made of.

    `issues` are what this run must answer (review gaps, feedback); `judge` is the range (base, head) that a reviewer
    judges; `previous_error` says why the attempt before could not be used.
    """

    feature: str
    design_title: str
    design_body: str
    total_phases: int
    phase: str | None = None
    task: TaskBrief | None = None
    tasks: tuple[TaskBrief, ...] = ()
    tickets: tuple[TicketBrief, ...] = ()
    issues: tuple[Issue, ...] = ()
    judge: tuple[str, str] | None = None
    check: str | None = None
    repair: int = 0
    previous_error: str | None = None


class WorkOrder(Struct, frozen=True, omit_defaults=True):
    """One attempt of one run, for one node. `timeout_s` counts from the spawn of the process."""

    v: int
    type: str
    run: str
    attempt: int
    nonce: str
    kind: RunKind
    project: str
    orchestration: str
    node: str
    role: str
    model: str
    workspace: Workspace
    inputs: Inputs
    review: ReviewPolicy
    policy_revision: int
    timeout_s: float
    action: str
    issued_at: datetime
    reviewer: str | None = None
    env: tuple[str, ...] = ()


class StopOrder(Struct, frozen=True, omit_defaults=True):
    """Stop an attempt and everything it started; `reason_code` is what its end is to be reported as."""

    v: int
    type: str
    run: str
    attempt: int
    nonce: str
    node: str
    reason_code: str
    issued_at: datetime
