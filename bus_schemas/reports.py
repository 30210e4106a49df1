"""Reports: what a node says about a run, and its beat. Pure.

`started` and `ended` are each written once for an attempt; the subject carries the order's nonce, so nobody else can
write them. A reader ignores fields it does not know.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from bus_schemas.routing import AgentOffer

RESULT_BYTES_MAX = 256 * 1024
TAIL_BYTES_MAX = 8 * 1024


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
    severity: Annotated[str, Meta(pattern=r"^p[0-2]\Z")] = "p1"
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

    number: Annotated[int, Meta(ge=1, le=9999)]
    subject: Annotated[str, Meta(min_length=1, max_length=200, pattern=r"\S")]
    description: Annotated[str, Meta(max_length=64 * 1024)] = ""
    depends_on: Annotated[tuple[int, ...], Meta(max_length=500)] = ()
    model: Annotated[str, Meta(min_length=1, max_length=100)] | None = None


class PlanResult(Struct, frozen=True, tag="plan"):
    """The tasks of a phase."""

    tasks: Annotated[tuple[PlannedTask, ...], Meta(max_length=500)]


class TaskResult(Struct, frozen=True, tag="task"):
    """The commits of a task: `base` exclusive to `head` inclusive; equal when there was nothing to commit."""

    base: str
    head: str
    files: int = 0
    insertions: int = 0
    deletions: int = 0


class ReviewResult(Struct, frozen=True, tag="review"):
    """A review of a task or a phase: `pass` or `gaps`."""

    verdict: Verdict
    findings: tuple[Finding, ...] = ()


class VerifyResult(Struct, frozen=True, tag="verify"):
    """The project's check: whether it exited 0, and the end of its output."""

    passed: bool
    exit_code: int
    tail: str = ""


class FinalizeResult(Struct, frozen=True, tag="finalize"):
    """The branch in the project's repository and the commit it points to."""

    head: str
    branch: str
    refs: tuple[str, ...] = ()


Result = InitResult | ValidateResult | PlanResult | TaskResult | ReviewResult | VerifyResult | FinalizeResult


class Usage(Struct, frozen=True, omit_defaults=True):
    """What a run cost. `computed` marks a price taken from the dated table instead of the agent."""

    input_tokens: int = 0
    output_tokens: int = 0
    usd: float | None = None
    computed: bool = False


class Started(Struct, frozen=True, tag="started", tag_field="type"):
    """The start claim: the node that got this write, and no other, spawns. `claim` is unique to the try."""

    v: int
    boot: str
    claim: str
    at: datetime


class Withdrawn(Struct, frozen=True, tag="withdrawn", tag_field="type"):
    """The controller took the claim: the attempt can never start."""

    v: int
    by: str
    at: datetime


class Ended(Struct, frozen=True, tag="ended", tag_field="type", omit_defaults=True):
    """The end of an attempt.

    `process_started` is false when nothing was spawned: such an attempt does not count. `head` is the commit the run
    left, pushed to `refs/qd/<orchestration>/<run>.<attempt>`; it contains every commit of the order's base.
    """

    v: int
    outcome: Outcome
    at: datetime
    process_started: bool = True
    reason_code: str | None = None
    detail: str = ""
    result: Result | None = None
    head: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    tail: str = ""
    output_bytes: int = 0
    duration_ms: float = 0.0
    agent: str | None = None
    model: str | None = None
    session: str | None = None
    usage: Usage | None = None


Report = Started | Withdrawn | Ended


class RunningAttempt(Struct, frozen=True, array_like=True):
    """An attempt that a node runs right now."""

    run: str
    attempt: int


class Beat(Struct, frozen=True, omit_defaults=True):
    """A node says that it is there, what it has, and what it runs. `boot` changes with each start of the node agent."""

    v: int
    type: str
    node: str
    boot: str
    at: datetime
    capacity: int
    labels: dict[str, str] = {}
    agents: tuple[AgentOffer, ...] = ()
    running: tuple[RunningAttempt, ...] = ()
    draining: bool = False
