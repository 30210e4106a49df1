"""An orchestration as it stands: its phases, tasks, runs, holds and open actions, and how each event changes it. Pure.

These are small frozen values, without cycles, so the garbage collector need not look at them. Everything that is asked of an
orchestration alone (which runs are open, which tasks are ready) is answered here; what comes next is decided in
`controller.progress`.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from bus_schemas.events import GateKind, HoldKind, OrchestrationStatus, PhaseStatus, RunStatus, TaskStatus
from bus_schemas.ids import main_phase
from bus_schemas.orders import Issue, RunKind
from bus_schemas.policy import Policy
from bus_schemas.reports import Finding, Verdict

LIVE = frozenset(OrchestrationStatus) - {OrchestrationStatus.COMPLETE, OrchestrationStatus.FAILED, OrchestrationStatus.CANCELLED}
OPEN_RUN = frozenset({RunStatus.QUEUED, RunStatus.DISPATCHED, RunStatus.STARTED})
NOT_STARTED = frozenset({RunStatus.QUEUED, RunStatus.DISPATCHED})
STOPPING = frozenset({HoldKind.PAUSING, HoldKind.PAUSED, HoldKind.CANCELLING, HoldKind.BUDGET, HoldKind.QUOTA})
"""Holds under which no run starts."""

REPAIRS_MAX = 2
REJECTIONS_MAX = 3
UNSTARTED_MAX = 3
"""Attempts that ended before a process started do not count as attempts; after this many in a row a run is given up all the same."""


class Hold(Struct, frozen=True, array_like=True, gc=False):
    """Why an orchestration does not move."""

    kind: HoldKind
    reason: str
    since: datetime
    reason_code: str | None = None
    stop: bool = False
    until: datetime | None = None


class Gate(Struct, frozen=True, array_like=True, gc=False):
    """What a human is to judge."""

    kind: GateKind
    phase: str | None
    subject: str
    since: datetime


class PolicyRevision(Struct, frozen=True, array_like=True, gc=False):
    """A revision of the active policy, and the action that made it."""

    revision: int
    policy: Policy
    at: datetime
    action: str
    changed: tuple[str, ...] = ()


class OpenAction(Struct, frozen=True, array_like=True, gc=False):
    """An accepted action whose outcome is still to come; `type` is the command's."""

    id: str
    type: str


class Task(Struct, frozen=True, array_like=True, gc=False):
    """A task. `contains` are commits that its own newest commit is known to contain; `order` is its place."""

    number: int
    subject: str
    description: str = ""
    depends_on: tuple[int, ...] = ()
    model: str | None = None
    status: TaskStatus = TaskStatus.PENDING
    revision: int = 1
    order: int = 0
    inserted_by: str | None = None
    attempts: int = 0
    rejections: int = 0
    git_range: tuple[str, str] | None = None
    contains: tuple[str, ...] = ()
    issues: tuple[Issue, ...] = ()
    reason_code: str | None = None


class VerdictOf(Struct, frozen=True, array_like=True, gc=False):
    """What one reviewer said of a phase."""

    reviewer: str
    verdict: Verdict
    findings: tuple[Finding, ...]


class Phase(Struct, frozen=True, array_like=True, gc=False):
    """A phase. `base` is the commit it started from; `issues` are what the next plan must answer."""

    id: str
    status: PhaseStatus = PhaseStatus.PENDING
    revision: int = 0
    repairs: int = 0
    tasks: tuple[Task, ...] = ()
    issues: tuple[Issue, ...] = ()
    base: str | None = None
    verify: str | None = None
    verdicts: tuple[VerdictOf, ...] = ()

    def task(self, number: int) -> Task | None:
        """Return the task of this number, or None."""
        return next((task for task in self.tasks if task.number == number), None)


class Run(Struct, frozen=True, array_like=True, gc=False):
    """A run by its newest attempt. `sent` keeps (nonce, node) of every attempt, so that an old report is known for what it is.

    `counted` are attempts whose process started, `unstarted` those in a row that ended before; `held` says that it was
    queued while nothing may start, so its order was never published.
    """

    id: str
    kind: RunKind
    role: str
    model: str
    policy_revision: int
    action: str
    attempt: int = 0
    sent: tuple[tuple[str, str], ...] = ()
    status: RunStatus = RunStatus.QUEUED
    phase: str | None = None
    task: int | None = None
    base: tuple[str, ...] = ()
    reviewer: str | None = None
    previous_error: str | None = None
    counted: int = 0
    unstarted: int = 0
    malformed: int = 0
    held: bool = False
    queued_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    reason_code: str | None = None
    detail: str = ""

    @property
    def nonce(self) -> str:
        """Of the newest attempt."""
        return self.sent[-1][0]

    @property
    def node(self) -> str:
        """Of the newest attempt."""
        return self.sent[-1][1]

    @property
    def is_open(self) -> bool:
        """Whether its newest attempt has not ended."""
        return self.status in OPEN_RUN


class Orchestration(Struct, frozen=True, array_like=True, gc=False):
    """One launch of a design. `heads` are the newest commits of the accepted work: what the next run starts from."""

    id: str
    project: str
    design: str
    design_revision: int
    design_title: str
    design_body: str
    feature: str
    slug: str
    branch: str
    node: str
    total_phases: int
    policy: Policy
    policy_hash: str
    preset_origin: str
    created_at: datetime
    requested_by: str
    action: str
    active_policy: Policy
    policy_revision: int = 1
    policy_changes: tuple[PolicyRevision, ...] = ()
    tickets: tuple[str, ...] = ()
    design_only: bool = False
    status: OrchestrationStatus = OrchestrationStatus.LAUNCHING
    phase: str | None = None
    phases: tuple[Phase, ...] = ()
    holds: tuple[Hold, ...] = ()
    gate: Gate | None = None
    heads: tuple[str, ...] = ()
    path: str | None = None
    runs: tuple[Run, ...] = ()
    open_actions: tuple[OpenAction, ...] = ()
    usd: float | None = None
    tokens: int = 0
    reason_code: str | None = None
    message: str = ""
    ended_at: datetime | None = None

    @property
    def is_live(self) -> bool:
        """Whether it has not ended."""
        return self.status in LIVE

    @property
    def is_stopping(self) -> bool:
        """Whether nothing may start: pausing, paused or cancelling."""
        return any(hold.kind in STOPPING for hold in self.holds)

    def hold(self, kind: HoldKind) -> Hold | None:
        """Return the hold of this kind, or None."""
        return next((hold for hold in self.holds if hold.kind is kind), None)

    def shown_hold(self) -> Hold | None:
        """Return the hold that is shown first, in the order of HoldKind; None when nothing holds it."""
        return self.holds_in_order()[0] if self.holds else None

    def holds_in_order(self) -> list[Hold]:
        """Return all holds, in the order of HoldKind."""
        order = list(HoldKind)
        return sorted(self.holds, key=lambda hold: order.index(hold.kind))

    def place_of(self, run_id: str) -> int | None:
        """Return where a run stands in `runs`, or None. Runs are numbered from 1 without gaps."""
        number = run_id.rpartition("-r")[2]
        place = int(number) - 1 if number.isdecimal() else -1
        return place if 0 <= place < len(self.runs) and self.runs[place].id == run_id else None

    def run(self, run_id: str) -> Run | None:
        """Return a run, or None."""
        place = self.place_of(run_id)
        return None if place is None else self.runs[place]

    def open_runs(self) -> tuple[Run, ...]:
        """Return the runs whose newest attempt has not ended."""
        return tuple(run for run in self.runs if run.status in OPEN_RUN)

    def outstanding(self) -> tuple[Run, ...]:
        """Return the open runs whose order may be on its way or running: what a pause or a cancel must see the end of."""
        return tuple(run for run in self.runs if run.status in OPEN_RUN and not run.held)

    def find_phase(self, phase_id: str | None) -> Phase | None:
        """Return a phase, or None."""
        return next((phase for phase in self.phases if phase.id == phase_id), None)

    def current(self) -> Phase:
        """Return the phase it stands in. Raises AssertionError where it stands in none: a bug."""
        phase = self.find_phase(self.phase)
        assert phase is not None, f"{self.id} stands in no phase"
        return phase


def with_phase(orchestration: Orchestration, phase: Phase) -> Orchestration:
    """Return the orchestration with this phase in the place of the one with its id; a new one is put behind its main phase."""
    phases = list(orchestration.phases)
    for index, known in enumerate(phases):
        if known.id == phase.id:
            phases[index] = phase
            return replace(orchestration, phases=tuple(phases))
    after = [index for index, known in enumerate(phases) if main_phase(known.id) <= main_phase(phase.id)]
    phases.insert(after[-1] + 1 if after else 0, phase)
    return replace(orchestration, phases=tuple(phases))


def with_task(orchestration: Orchestration, phase_id: str, task: Task) -> Orchestration:
    """Return the orchestration with this task in the place of the one with its number."""
    phase = orchestration.find_phase(phase_id)
    if phase is None:
        return orchestration
    tasks = tuple(task if known.number == task.number else known for known in phase.tasks)
    return with_phase(orchestration, replace(phase, tasks=tasks))


def with_run(orchestration: Orchestration, run: Run) -> Orchestration:
    """Return the orchestration with this run in the place of the one with its id, or appended."""
    place, runs = orchestration.place_of(run.id), orchestration.runs
    return replace(orchestration, runs=(*runs, run) if place is None else (*runs[:place], run, *runs[place + 1 :]))
