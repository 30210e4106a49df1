"""A story: ledger messages as a controller would write them, with their chain of hashes, on a clock of their own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec

from bus.connection import Stored
from bus_schemas import codec, subjects
from bus_schemas import events as e
from bus_schemas.decisions import CORE_VERSION, Action, ActionStatus, BeatCause, Cause, CommandCause, Decision, LedgerMessage, ReportCause, TimerCause
from bus_schemas.entities import Design, Node, Project
from bus_schemas.ids import DesignId, NodeId, ProjectId
from bus_schemas.orders import Issue, RunKind
from bus_schemas.policy import PRESETS, Preset, policy_hash
from bus_schemas.reports import Finding, Outcome, PlannedTask, Usage, Verdict

START = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)


class Story:
    """Writes decisions of projects, one message each unless they are put `together`."""

    def __init__(self) -> None:
        self.now = START
        self.bodies: list[tuple[str, bytes]] = []
        self._heads: dict[str, str] = {}
        self._actions: dict[str, int] = {}
        self._orchestrations: dict[str, int] = {}
        self._runs: dict[str, int] = {}

    # ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def write(self, project: str, *decisions: Decision) -> None:
        subject = subjects.ledger(project)
        message = LedgerMessage(
            v=codec.VERSION,
            type="ledger-message",
            project=project,
            batch=f"b{len(self.bodies)}",
            by="test",
            prev=self._heads.get(subject, codec.ZERO_HASH),
            plane_seq=0,
            core=CORE_VERSION,
            decisions=decisions,
        )
        self.write_raw(project, codec.encode(message))

    def write_raw(self, project: str, body: bytes) -> None:
        subject = subjects.ledger(project)
        self.bodies.append((subject, body))
        self._heads[subject] = codec.body_sha256(body)

    def head(self, project: str) -> str:
        return self._heads.get(subjects.ledger(project), codec.ZERO_HASH)

    def stored(self) -> list[Stored]:
        """Return everything as a stream would give it, one millisecond apart."""
        return [Stored(subject, seq, START + timedelta(days=1, milliseconds=seq), body, {}) for seq, (subject, body) in enumerate(self.bodies, 1)]

    def tick(self, seconds: float = 1.0) -> datetime:
        self.now += timedelta(seconds=seconds)
        return self.now

    # ── causes ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def command(self, project: str, kind: str, *, by: str = "ana", reason: str | None = None, body: bytes = b"{}") -> CommandCause:
        number = self._actions.get(project, 0) + 1
        return CommandCause(
            id=f"c{number}",
            type=kind,
            key=f"{project}-{kind}-{number}",
            by=by,
            via="cli",
            project=project,
            received_at=self.now - timedelta(milliseconds=20),
            body_hash="sha256-0",
            body=msgspec.Raw(body),
            reason=reason,
        )

    def next_action(self, project: str) -> str:
        return f"{project}-a{self._actions.get(project, 0) + 1}"

    def action_id(self, project: str) -> str:
        self._actions[project] = self._actions.get(project, 0) + 1
        return f"{project}-a{self._actions[project]}"

    def asked(self, project: str, kind: str, *events: e.Event, by: str = "ana", reason: str | None = None, **about: str) -> str:
        """Write an accepted command with its events; return the action's id."""
        cause = self.command(project, kind, by=by, reason=reason)
        action = self.action_id(project)
        done = Action(id=action, status=ActionStatus.ACCEPTED, **about)  # type: ignore[arg-type]
        self.write(project, Decision(at=self.tick(), cause=cause, action=done, events=events))
        return action

    def refused(self, project: str, kind: str, code: str, message: str, **about: str) -> str:
        cause = self.command(project, kind)
        action = Action(id=self.action_id(project), status=ActionStatus.REFUSED, reason_code=code, message=message, **about)  # type: ignore[arg-type]
        self.write(project, Decision(at=self.tick(), cause=cause, action=action))
        return action.id

    def told(self, project: str, because: str | None, *events: e.Event, cause: Cause | None = None, seconds: float = 1.0) -> None:
        """Write what a report led to."""
        reported = cause or ReportCause("mini-1", "r", 1, "ended", self.now)
        self.write(project, Decision(at=self.tick(seconds), cause=reported, because=because, events=events))

    # ── chapters ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def plane(self, project: str = "shop", node: str = "mini-1") -> None:
        self.write("plane", Decision(at=self.tick(), cause=TimerCause("first"), events=(e.FlagChanged("cp.launch", True),)))
        registered = e.NodeRegistered(Node(id=NodeId(node), capacity=2, labels={"os": "linux"}))
        self.write("plane", Decision(at=self.tick(), cause=BeatCause(node), events=(registered,)))
        action = self.next_action("plane")
        added = e.ProjectAdded(Project(id=ProjectId(project), name=project, repo="/srv/repo"))
        self.asked("plane", "project-add", added, e.ActionCompleted(action))

    def design(self, project: str = "shop", number: int = 1) -> str:
        action = self.next_action(project)
        design = Design(
            id=DesignId(f"{project}-d{number}"), project=ProjectId(project), title="Basket", body="## Phase 1\n## Phase 2\n", phase_count=2
        )
        self.asked(project, "design-add", e.DesignAdded(design), e.ActionCompleted(action), design=design.id)
        return design.id

    def launch(self, project: str = "shop", phases: int = 1, design: str | None = None) -> Launch:
        """Write an accepted launch with its `init` run queued."""
        number = self._orchestrations[project] = self._orchestrations.get(project, 0) + 1
        o = f"{project}-o{number}"
        policy = PRESETS[Preset.BALANCED]
        launched = e.OrchestrationLaunched(
            orchestration=o,
            design=design or f"{project}-d1",
            design_revision=1,
            feature="Basket",
            slug=f"basket-{number}",
            branch=f"qd/basket-{number}",
            node="mini-1",
            total_phases=phases,
            policy=policy,
            policy_hash=policy_hash(policy),
            preset_origin="balanced",
            design_only=True,
        )
        run = self.queued(o, RunKind.INIT)
        action = self.asked(project, "launch", launched, run, design=launched.design, orchestration=o, node="mini-1")
        return Launch(self, project, o, action, run.run)

    def queued(
        self, o: str, kind: RunKind, phase: str | None = None, task: int | None = None, attempt: int = 1, run: str | None = None
    ) -> e.RunQueued:
        if run is None:
            self._runs[o] = self._runs.get(o, 0) + 1
            run = f"{o}-r{self._runs[o]}"
        role = {RunKind.TASK: "executor", RunKind.PLAN: "planner", RunKind.VALIDATE: "validator"}.get(kind, "reviewer")
        return e.RunQueued(
            orchestration=o,
            run=run,
            attempt=attempt,
            nonce="n",
            kind=kind,
            node="mini-1",
            role=role,
            model="opus",
            policy_revision=1,
            phase=phase,
            task=task,
        )


class Launch:
    """An orchestration of a story, and the steps of its life."""

    def __init__(self, story: Story, project: str, o: str, action: str, init: str) -> None:
        self.story, self.project, self.o, self.action, self.init = story, project, o, action, init

    def next_action(self) -> str:
        return self.story.next_action(self.project)

    def tell(self, *events: e.Event, seconds: float = 1.0) -> None:
        self.story.told(self.project, self.action, *events, seconds=seconds)

    def started(self, run: str, attempt: int = 1) -> None:
        self.tell(e.RunStarted(orchestration=self.o, run=run, attempt=attempt, node="mini-1", queue_ms=250.0), seconds=0.25)

    def ended(
        self, run: str, outcome: Outcome = Outcome.SUCCEEDED, attempt: int = 1, usd: float | None = 0.01, code: str | None = None
    ) -> e.RunEnded:
        usage = None if usd is None else Usage(input_tokens=1000, output_tokens=200, usd=usd)
        return e.RunEnded(
            orchestration=self.o,
            run=run,
            attempt=attempt,
            node="mini-1",
            outcome=outcome,
            duration_ms=1500.0,
            usage=usage,
            reason_code=code,
            model="opus-4",
        )

    def run(self, kind: RunKind, *then: e.Event, phase: str | None = None, task: int | None = None) -> None:
        """Queue a run, start it and end it well; `then` is what its end leads to."""
        queued = self.story.queued(self.o, kind, phase, task)
        self.tell(queued, seconds=0.0)
        self.started(queued.run)
        self.tell(self.ended(queued.run), *then)

    def moved(self, status: e.OrchestrationStatus, phase: str | None = None, code: str | None = None) -> e.OrchestrationMoved:
        return e.OrchestrationMoved(self.o, status, e.OrchestrationStatus.LAUNCHING, phase=phase, reason_code=code)

    def initialised(self) -> None:
        self.started(self.init)
        self.tell(
            self.ended(self.init, usd=None),
            e.WorkspaceReady(self.o, "abc123", "/srv/clones/basket", "qd/basket"),
            self.moved(e.OrchestrationStatus.VALIDATING),
            e.ActionCompleted(self.action),
        )

    def init_failed(self) -> None:
        self.started(self.init)
        self.tell(
            self.ended(self.init, Outcome.FAILED, usd=None, code="execution_init_failed"),
            self.moved(e.OrchestrationStatus.FAILED, code="execution_init_failed"),
            e.ActionFailed(self.action, "execution_init_failed", "no such repository"),
        )

    def phase(self, phase: str, tasks: int = 2, *, repair: bool = False, gate: bool = False) -> None:
        """Plan a phase, do its tasks, check and review it."""
        self.tell(self.moved(e.OrchestrationStatus.PLANNING, phase), e.PhaseMoved(self.o, phase, e.PhaseStatus.PLANNING))
        planned = tuple(PlannedTask(number=number, subject=f"add part {number}") for number in range(1, tasks + 1))
        self.run(RunKind.PLAN, e.PhasePlanned(self.o, phase, 1, planned), e.PhaseMoved(self.o, phase, e.PhaseStatus.PLANNED), phase=phase)
        if gate:
            self.tell(e.GateOpened(self.o, e.GateKind.PLAN, phase, f"{tasks} tasks"), e.HoldSet(self.o, e.HoldKind.GATE, "waits for the plan"))
            resolved = e.GateResolved(self.o, e.GateKind.PLAN, phase, True, "ben")
            done = e.ActionCompleted(self.next_action())
            self.story.asked(self.project, "gate-approve", resolved, e.HoldCleared(self.o, e.HoldKind.GATE), done, by="ben", orchestration=self.o)
        self.tell(self.moved(e.OrchestrationStatus.EXECUTING, phase), e.PhaseMoved(self.o, phase, e.PhaseStatus.EXECUTING))
        for number in range(1, tasks + 1):
            self.tell(e.TaskMoved(self.o, phase, number, e.TaskStatus.IN_PROGRESS, 2))
            done = e.TaskMoved(self.o, phase, number, e.TaskStatus.COMPLETED, 3, git_range=("a", "b"))
            self.run(RunKind.TASK, done, e.HeadsMoved(self.o, ("b",)), phase=phase, task=number)
        if repair:
            self.tell(
                e.VerifyRecorded(self.o, phase, "failed", 1),
                e.IssuesRaised(self.o, phase, (Issue(text="the check failed", source="verify"),)),
                e.RepairStarted(self.o, phase, 1),
            )
        self.run(RunKind.VERIFY, e.VerifyRecorded(self.o, phase, "passed", 0), e.PhaseMoved(self.o, phase, e.PhaseStatus.REVIEWING), phase=phase)
        verdict = e.VerdictRecorded(self.o, phase, "reviewer", Verdict.PASS, findings=(Finding(text="fine"),))
        self.run(RunKind.REVIEW, verdict, e.PhaseMoved(self.o, phase, e.PhaseStatus.COMPLETE), phase=phase)

    def paused_and_resumed(self, reason: str = "lunch") -> None:
        pausing = e.HoldSet(self.o, e.HoldKind.PAUSING, "paused (drain) by ana")
        opened = e.ActionOpened(self.o, self.next_action(), "pause")
        action = self.story.asked(self.project, "pause", opened, pausing, reason=reason, orchestration=self.o)
        self.tell(
            e.HoldCleared(self.o, e.HoldKind.PAUSING),
            e.HoldSet(self.o, e.HoldKind.PAUSED, "paused (drain) by ana"),
            e.ActionCompleted(action),
            seconds=3,
        )
        done = e.ActionCompleted(self.next_action())
        self.story.asked(self.project, "resume", e.HoldCleared(self.o, e.HoldKind.PAUSED), done, orchestration=self.o)

    def finished(self) -> None:
        self.tell(self.moved(e.OrchestrationStatus.FINALIZING))
        self.run(RunKind.FINALIZE, self.moved(e.OrchestrationStatus.COMPLETE))


def whole_story() -> Story:
    """Return two projects with launches that complete, fail, wait at a gate and still run, and refusals."""
    story = Story()
    story.plane("shop")
    story.design("shop")
    first = story.launch("shop", phases=2)
    first.initialised()
    first.phase("1", gate=True)
    first.paused_and_resumed()
    story.refused("shop", "pause", "validation_invalid_state", f"{first.o} is not running", orchestration=first.o)
    first.phase("2", tasks=3, repair=True)
    first.phase("2.5", tasks=1)
    first.finished()
    story.launch("shop", phases=1).init_failed()
    waiting = story.launch("shop", phases=1)
    waiting.initialised()
    waiting.tell(e.GateOpened(waiting.o, e.GateKind.PLAN, "1", "2 tasks"), e.HoldSet(waiting.o, e.HoldKind.GATE, "waits for the plan"))
    story.plane("park", "mini-2")
    story.refused("park", "launch", "validation_not_ready", "park-d1 is not ready", design="park-d1")
    story.launch("park", phases=1)
    return story
