"""Reports: what a node says about a run, and its beat. Pure.

`started` and `ended` are each written once for an attempt; the subject carries the order's nonce, so nobody else can
write them. A reader ignores fields it does not know.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from bus_schemas.policy import Model
from bus_schemas.routing import AgentOffer
from bus_schemas.texts import NOT_BLANK, SEVERITY

RESULT_BYTES_MAX = 256 * 1024
TAIL_BYTES_MAX = 8 * 1024
REPORT_BYTES_MAX = 384 * 1024
"""Of an encoded report: a result with what stands around it. What is decided from one has to fit into a ledger message."""

TASKS_MAX = 500
"""Of a phase."""

CAPACITY_MAX = 4096

Moment = Annotated[datetime, Meta(tz=True)]
TaskNumber = Annotated[int, Meta(ge=1, le=9999)]
TaskSubject = Annotated[str, Meta(min_length=1, max_length=200, pattern=NOT_BLANK)]
TaskDescription = Annotated[str, Meta(max_length=64 * 1024)]
Whole = Annotated[int, Meta(ge=-(2**53), le=2**53)]
"""A number that every reader of JSON and the timeline's columns can hold."""


class Outcome(StrEnum):
    """How an attempt ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    LOST = "lost"


class Verdict(StrEnum):
    """What a validator or reviewer says."""

    PASS = "pass"
    WARNING = "warning"
    STOP = "stop"
    GAPS = "gaps"


class Finding(Struct, frozen=True, omit_defaults=True):
    """One thing a validator or reviewer found. An override names why the finding may stand."""

    text: Annotated[str, Meta(min_length=1, max_length=16 * 1024)]
    severity: Annotated[str, Meta(pattern=SEVERITY)] = "p1"
    detector: Annotated[str, Meta(max_length=100)] | None = None
    override_reason: Annotated[str, Meta(max_length=2000)] | None = None


class InitResult(Struct, frozen=True, tag="init"):
    """The clone is there: the commit it starts from, its folder on the node, and the branch that `finalize` will write."""

    base: str
    path: str
    branch: str


class ValidateResult(Struct, frozen=True, tag="validate"):
    """The design was read: `pass`, `warning` or `stop`."""

    verdict: Verdict
    findings: tuple[Finding, ...] = ()


class PlannedTask(Struct, frozen=True, omit_defaults=True):
    """A task of a plan; `depends_on` are numbers of the same plan, or of completed tasks of the phase."""

    number: TaskNumber
    subject: TaskSubject
    description: TaskDescription = ""
    depends_on: Annotated[tuple[TaskNumber, ...], Meta(max_length=TASKS_MAX)] = ()
    model: Model | None = None


class PlanResult(Struct, frozen=True, tag="plan"):
    """The tasks of a phase."""

    tasks: Annotated[tuple[PlannedTask, ...], Meta(max_length=TASKS_MAX)]


class TaskResult(Struct, frozen=True, tag="task"):
    """The commits of a task: `base` exclusive to `head` inclusive; equal when there was nothing to commit."""

    base: str
    head: str
    files: Whole = 0
    insertions: Whole = 0
    deletions: Whole = 0


class ReviewResult(Struct, frozen=True, tag="review"):
    """A review of a task or a phase: `pass` or `gaps`."""

    verdict: Verdict
    findings: tuple[Finding, ...] = ()


class VerifyResult(Struct, frozen=True, tag="verify"):
    """The project's check: whether it exited 0, and the end of its output."""

    passed: bool
    exit_code: Whole
    tail: str = ""


class FinalizeResult(Struct, frozen=True, tag="finalize"):
    """The branch in the project's repository and the commit it points to."""

    head: str
    branch: str
    refs: tuple[str, ...] = ()


Result = InitResult | ValidateResult | PlanResult | TaskResult | ReviewResult | VerifyResult | FinalizeResult


class Usage(Struct, frozen=True, omit_defaults=True):
    """What a run cost. `computed` marks a price taken from the dated table instead of the agent."""

    input_tokens: Whole = 0
    output_tokens: Whole = 0
    usd: float | None = None
    computed: bool = False


class Started(Struct, frozen=True, tag="started", tag_field="type"):
    """The start claim: the node that got this write, and no other, spawns. `claim` is unique to the try."""

    v: int
    boot: str
    claim: str
    at: Moment


class Withdrawn(Struct, frozen=True, tag="withdrawn", tag_field="type"):
    """The controller took the claim: the attempt can never start."""

    v: int
    by: str
    at: Moment


class Ended(Struct, frozen=True, tag="ended", tag_field="type", omit_defaults=True):
    """The end of an attempt.

    `process_started` is false when nothing was spawned: such an attempt does not count. `head` is the commit the run
    left, pushed to `refs/qd/<orchestration>/<run>.<attempt>`; it contains every commit of the order's base.
    """

    v: int
    outcome: Outcome
    at: Moment
    process_started: bool = True
    reason_code: str | None = None
    detail: str = ""
    result: Result | None = None
    head: str | None = None
    exit_code: Whole | None = None
    signal: Whole | None = None
    tail: str = ""
    output_bytes: Whole = 0
    duration_ms: float = 0.0
    agent: str | None = None
    model: str | None = None
    session: str | None = None
    usage: Usage | None = None
    resets_at: Moment | None = None
    """When a quota that ended it is there again; None: not known."""


Report = Started | Withdrawn | Ended


class RunningAttempt(Struct, frozen=True, array_like=True):
    """An attempt that a node runs right now."""

    run: str
    attempt: Whole


class Beat(Struct, frozen=True, omit_defaults=True):
    """A node says that it is there, what it has, and what it runs. `boot` changes with each start of the node agent."""

    v: int
    type: str
    node: str
    boot: str
    at: Moment
    capacity: Annotated[int, Meta(ge=0, le=CAPACITY_MAX)]
    labels: dict[str, str] = {}
    agents: tuple[AgentOffer, ...] = ()
    running: tuple[RunningAttempt, ...] = ()
    draining: bool = False
