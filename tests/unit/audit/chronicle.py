"""A chronicle: a random run of the real core with everybody who writes evidence beside it. No bus, no clock, no process.

The core decides; clients, nodes, agents, the streams and the timeline are played here, each with its own book. All that is
random comes from one seed.
"""

from __future__ import annotations

import hashlib
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from bus_schemas import codec, subjects
from bus_schemas import commands as c
from bus_schemas import events as e
from bus_schemas.decisions import CORE_VERSION, ActionStatus, BeatCause, CommandCause, Decision, LedgerMessage, Receipt, TimerCause
from bus_schemas.entities import FLAGS_ON_AT_FIRST, Complexity, Node
from bus_schemas.events import HoldKind, RunStatus
from bus_schemas.ids import PLANE, NodeId
from bus_schemas.orders import RunKind
from bus_schemas.reasons import Reason
from bus_schemas.reports import (
    Ended,
    FinalizeResult,
    Finding,
    InitResult,
    Outcome,
    PlannedTask,
    PlanResult,
    Report,
    Result,
    ReviewResult,
    Started,
    TaskResult,
    Usage,
    ValidateResult,
    Verdict,
    VerifyResult,
    Withdrawn,
)
from bus_schemas.routing import AgentOffer
from cli.audit.evidence import Answer, Attempt, Call, JournalEnd, JournalLine, JournalOrder, Stored, Witnessed
from controller.decide import decide_command, home
from controller.draft import Context, refused
from controller.leases import Duty, decide_duty
from controller.orchestration import NOT_STARTED, Orchestration, Run
from controller.project import Aggregate, fold_decision, settled
from controller.reports import Repeated, Unbelieved, decide_report

T0 = datetime(2026, 1, 1, tzinfo=UTC)
MODELS = ("opus", "haiku", "shell")
OFFERS = (AgentOffer("shell", "1", MODELS),)
NODES = ("n1", "n2")
PEOPLE = ("ana", "bob")
MARKERS = ("objective_defined", "scope_bounded")
OVERRIDES: tuple[dict[str, Any], ...] = (
    {},
    {"flow": {"max_parallel_tasks": 4, "max_task_attempts": 1, "on_node_loss": "retry"}},
    {"flow": {"human_gates": ["plan", "review", "finalize"], "max_parallel_tasks": 1}},
    {"model": {"review_consensus": True}, "review": {"enforcement": "phase_only"}, "flow": {"on_node_loss": "move"}},
    {"review": {"enforcement": "task_only"}, "flow": {"phases_enabled": [2]}},
    {"flow": {"budget_tokens": 3000, "max_parallel_tasks": 2}},
)
STOPPING = (HoldKind.PAUSING, HoldKind.PAUSED, HoldKind.CANCELLING, HoldKind.BUDGET, HoldKind.QUOTA)


class Chronicle:
    """A run and its evidence."""

    def __init__(self, seed: int, *, projects: int = 1) -> None:
        """Register nodes and projects, each project with a design."""
        self.rng = random.Random(seed)
        self.now = T0
        self.states: dict[str, Aggregate] = {PLANE: Aggregate(PLANE)}
        self.heads: dict[str, tuple[int, str]] = {}
        self.online = set(NODES)
        self.ledger: list[Stored] = []
        self.reports: list[Stored] = []
        self.commands: list[Stored] = []
        self.calls: list[Call] = []
        self.witness: list[Witnessed] = []
        self.journals: dict[str, list[JournalLine]] = {node: [] for node in NODES}
        self.keys: dict[tuple[str, str], tuple[str, str, str]] = {}
        self.written: set[str] = set()
        self.late: list[tuple[Run, Report, str]] = []
        self.sent: dict[tuple[str, int], Run] = {}
        self.claimed: dict[tuple[str, int], Run] = {}
        self._batch: list[Decision] = []
        self._lane = PLANE
        self._waiting: list[tuple[Call, str]] = []
        self._serial = 0
        flags = tuple(e.FlagChanged(flag.value, True) for flag in FLAGS_ON_AT_FIRST)
        self.take(PLANE, Decision(at=T0, cause=TimerCause("first-start"), events=flags))
        for name in NODES:
            node = Node(NodeId(name), capacity=4, agents=OFFERS, registered_at=T0)
            self.take(PLANE, Decision(at=T0, cause=BeatCause(name), events=(e.NodeRegistered(node),)))
        self.projects = [f"shop{number}" for number in range(1, projects + 1)]
        for project in self.projects:
            self.ask(c.ProjectAdd(project, "/repo", check=self.rng.choice([None, "make"])))
            phases = "\n".join(f"## Phase {n}\n### Task 1: one\n```sh\ntrue\n```\n" for n in range(1, self.rng.randint(2, 4)))
            self.ask(c.DesignAdd(project, "Basket", phases, Complexity.SIMPLE, MARKERS))

    # ── the ledger ──

    def tick(self) -> datetime:
        """Let some time pass."""
        self.now += timedelta(milliseconds=self.rng.randint(1, 50))
        return self.now

    def context(self) -> Context:
        """Return what a decision may know."""
        return Context(self.now, self.rng.randbytes(16), self.states[PLANE], frozenset(self.online), {})

    def state(self, project: str) -> Aggregate:
        """Return a project's state as the next decision sees it."""
        return self.states.get(project) or Aggregate(project)

    def take(self, project: str, decision: Decision) -> None:
        """Put a decision into the batch of its ledger."""
        if project != self._lane:
            self.flush()
        self._lane = project
        self._batch.append(decision)
        self.states[project] = fold_decision(self.state(project), decision, None)
        if project == PLANE or len(self._batch) >= self.rng.randint(1, 6):
            self.flush()

    def flush(self) -> None:
        """Store the batch as one message, and answer who waits."""
        if not self._batch:
            return
        project = self._lane
        marks = self._marks(project)
        if marks:
            decision = Decision(at=self._batch[-1].at, cause=TimerCause("dispatch"), events=marks)
            self._batch.append(decision)
            self.states[project] = fold_decision(self.states[project], decision, None)
        prev = self.heads.get(project, (0, codec.ZERO_HASH))[1]
        plane_seq = self.heads.get(PLANE, (0, ""))[0]
        batch = f"{self.rng.getrandbits(64):016x}"
        message = LedgerMessage(1, "ledger-message", project, batch, "c1", prev, plane_seq, CORE_VERSION, tuple(self._batch))
        data = codec.encode(message)
        seq = len(self.ledger) + 1
        self.ledger.append(Stored(seq, subjects.ledger(project), self.tick().timestamp(), data))
        self.heads[project] = (seq, codec.body_sha256(data))
        self.states[project] = settled(self.states[project], message, seq)
        self._batch = []
        for call, action in self._waiting:
            self._answer(call, project, action, duplicate=False)
        self._waiting = []

    def _marks(self, project: str) -> tuple[e.Event, ...]:
        """Return what was sent and not recorded as dispatched."""
        found: list[e.Event] = []
        for run in self.sent.values():
            o = self.state(project).orchestrations.get(run.id.rpartition("-r")[0])
            now = None if o is None else o.run(run.id)
            if o is not None and now is not None and now.attempt == run.attempt and now.status is RunStatus.QUEUED:
                found.append(e.RunDispatched(orchestration=o.id, run=run.id, attempt=run.attempt))
        return tuple(found)

    def record_heads(self) -> None:
        """Let the registry write down the newest messages."""
        self.flush()
        heads = tuple(e.RecordedHead(project, seq, sha256) for project, (seq, sha256) in sorted(self.heads.items()) if project != PLANE)
        at = max(self.tick(), self.states[PLANE].at or self.now)
        if heads:
            self.take(PLANE, Decision(at=at, cause=TimerCause("heads"), events=(e.HeadsRecorded(heads),)))

    # ── clients ──

    def ask(self, command: c.Command | None, *, key: str | None = None, reason: str | None = None, kind: str | None = None) -> Call:
        """Let a client send a command, once or again; return the call as it was before its answer."""
        rng = self.rng
        self.tick()
        self._serial += 1
        type_ = kind or c.type_of(command)  # type: ignore[arg-type]
        body = msgspec.Raw(b'{"what":1}') if command is None else codec.command_body(command)
        project = PLANE if command is None else c.subject_project(command)
        key = key or f"key-{self._serial}"
        by = rng.choice(PEOPLE)
        call = Call(
            client=f"qd-{by}",
            principal=by,
            at_s=(self.now - T0).total_seconds(),
            call_id=f"cmd-{self._serial}",
            project=project,
            verb=type_,
            key=key,
            body=body,
            body_hash=codec.body_hash(type_, body),
            outcome="unknown",
        )
        envelope = c.CommandEnvelope(v=1, type=type_, id=call.call_id, at=self.now, via=c.Via.CLI, key=key, body=body, reason=reason)
        subject = subjects.command(by, project, type_ if len(type_) < 60 else "x", control_lane=False)
        self.commands.append(Stored(len(self.commands) + 1, subject, self.now.timestamp(), codec.encode(envelope)))
        self._decide(call, envelope, command)
        return call

    def _decide(self, call: Call, envelope: c.CommandEnvelope, command: c.Command | None) -> None:
        assert call.principal is not None
        assert call.body_hash is not None
        ledger = home(call.project, self.states[PLANE])
        if ledger != self._lane:
            self.flush()
        cause = CommandCause(
            id=call.call_id,
            type=call.verb[:64],
            key=call.key,
            by=call.principal,
            via="cli",
            project=call.project,
            received_at=self.now,
            body_hash=call.body_hash,
            body=envelope.body,
            reason=envelope.reason,
        )
        known = self.keys.get((call.project, call.key))
        if known is not None and known[0] == call.body_hash:
            self.flush()
            self._answer(call, known[1], known[2], duplicate=True)
            return
        state = self.state(ledger)
        if known is not None:
            decision = refused(state, cause, self.context(), Reason.IDEMPOTENCY_MISMATCH, "used")
        elif self.rng.random() < 0.01:
            decision = refused(state, cause, self.context(), Reason.EXPIRED, "too old")
        else:
            decision = decide_command(state, cause, command or codec.BadCommand(Reason.UNKNOWN_ACTION, "no such action"), self.context())
        assert decision.action is not None
        if known is None and decision.action.reason_code != Reason.EXPIRED:
            self.keys[call.project, call.key] = (call.body_hash, ledger, decision.action.id)
        self._waiting.append((call, decision.action.id))
        self.take(ledger, decision)

    def _answer(self, call: Call, ledger: str, action: str, *, duplicate: bool) -> None:
        receipt: Receipt = self.state(ledger).actions[action]
        if self.rng.random() < 0.1:
            self.calls.append(call)  # the answer was lost
            return
        told = Answer(
            action=receipt.action,
            status=receipt.status.value,
            project=receipt.project,
            idempotency_key=receipt.idempotency_key,
            requested_by=receipt.requested_by,
            type=receipt.type,
            duplicate=duplicate,
            position=receipt.position,
            reason_code=receipt.reason_code,
            orchestration=receipt.orchestration,
        )
        outcome = "refused" if receipt.status is ActionStatus.REFUSED else "ok"
        done_at_s = (self.now - T0).total_seconds() + 0.001
        self.calls.append(msgspec.structs.replace(call, outcome=outcome, receipt=told, done_at_s=done_at_s))

    # ── nodes and agents ──

    def _write_once(self, run: Run, kind: str, report: Report) -> bool:
        project = run.id.rpartition("-o")[0]
        subject = subjects.report(run.node, project, run.id, run.attempt, run.nonce, kind)
        if subject in self.written:
            return False
        self.written.add(subject)
        self.reports.append(Stored(len(self.reports) + 1, subject, self.tick().timestamp(), codec.encode(report)))
        self.late.append((run, report, kind))
        return True

    def _write(self, run: Run, type_: str, **fields: Any) -> None:
        self.journals[run.node].append(JournalLine(type_, **fields))

    def _note(self, run: Run, event: str) -> None:
        o = self.orchestration(run)
        phase = o.find_phase(run.phase)
        task = phase.task(run.task) if phase is not None and run.task is not None and run.kind is RunKind.TASK else None
        text = None if task is None else hashlib.sha256(f"{task.subject}\n{task.description}".encode()).hexdigest()
        at = self.tick().timestamp()
        hashed = text if event == "start" else None
        self.witness.append(Witnessed(at, o.id, run.id, run.attempt, event, o.project, run.node, run.nonce, 100, text_hash=hashed))  # type: ignore[arg-type]

    def orchestration(self, run: Run) -> Orchestration:
        """Return the orchestration of a run."""
        return self.state(run.id.rpartition("-o")[0]).orchestrations[run.id.rpartition("-r")[0]]

    def claim(self, run: Run, *, spawns: bool = True) -> None:
        """Let the node take an order: journal, claim, spawn."""
        key = Attempt(run.id, run.attempt, run.nonce)
        self._write(run, "taken", order=JournalOrder(run.id, run.attempt, run.nonce, run.node))
        del self.sent[run.id, run.attempt]
        if not self._write_once(run, "started", Started(1, "boot", "claim", self.now)):
            self._write(run, "dropped", key=key)
            return
        self._write(run, "spawning", key=key)
        self.claimed[run.id, run.attempt] = run
        if spawns:
            self._note(run, "start")
            self._write(run, "spawned", key=key)

    def end(self, run: Run, report: Ended) -> None:
        """Let the node report the end of an attempt that it claimed."""
        key = Attempt(run.id, run.attempt, run.nonce)
        del self.claimed[run.id, run.attempt]
        self._note(run, "end")
        self._write(run, "finished", key=key, ended=JournalEnd(report.outcome.value, report.process_started))
        self._write_once(run, "ended", report)
        self._write(run, "delivered", key=key)

    def deliver(self, index: int = 0) -> None:
        """Let the controller take in a report that is stored."""
        run, report, kind = self.late.pop(index)
        project = run.id.rpartition("-o")[0]
        if project != self._lane:
            self.flush()
        self.tick()
        subject = subjects.ReportSubject(run.node, project, run.id, run.attempt, run.nonce, kind)
        decided = decide_report(self.state(project), subject, report, self.now, self.context())
        assert not isinstance(decided, Unbelieved), decided
        if isinstance(decided, Repeated):
            return
        self.take(project, decided)

    def duty(self, project: str, duty: Duty) -> None:
        """Let the controller notice something."""
        if project != self._lane:
            self.flush()
        self.tick()
        decided = decide_duty(self.state(project), duty, self.context())
        if decided is not None:
            self.take(project, decided)

    # ── what may happen ──

    def live(self) -> list[Orchestration]:
        """Return the orchestrations that have not ended."""
        return [o for project in self.projects for _, o in sorted(self.state(project).orchestrations.items()) if o.is_live]

    def tickets(self, project: str) -> list[str]:
        """Return the tickets of a project, in an order that does not change from process to process, as that of a map does."""
        return sorted(self.state(project).tickets)

    def sendable(self) -> list[Run]:
        """Return the runs whose orders the dispatcher may publish now."""
        open_ = [run for o in self.live() if not o.is_stopping for run in o.outstanding() if run.status in NOT_STARTED]
        return [run for run in open_ if (run.id, run.attempt) not in self.sent and not self._is_claimed(run)]

    def _is_claimed(self, run: Run) -> bool:
        return subjects.report(run.node, run.id.rpartition("-o")[0], run.id, run.attempt, run.nonce, "started") in self.written

    def recall(self) -> None:
        """Let the controller take back what may not start: orders of held orchestrations, and those that were given other nodes."""
        for o in self.live():
            for run in o.outstanding():
                if run.status in NOT_STARTED and (o.is_stopping or run.node != o.node) and not self._is_claimed(run):
                    self._write_once(run, "started", Withdrawn(1, "c1", self.now))

    def result(self, run: Run, *, good: bool) -> Result:
        """Return what a run hands over: good, or as it comes."""
        rng = self.rng
        bad = not good and rng.random() < 0.3
        match run.kind:
            case RunKind.INIT:
                return InitResult("c0", "/work/o", self.orchestration(run).branch)
            case RunKind.VALIDATE:
                return ValidateResult(rng.choice([Verdict.WARNING, Verdict.STOP]) if bad else Verdict.PASS)
            case RunKind.PLAN:
                count = rng.randint(1, 4)
                tasks = (PlannedTask(n, f"task {n}", f"do {n}", tuple(rng.sample(range(1, n), min(n - 1, 1)))) for n in range(1, count + 1))
                return PlanResult(() if bad and rng.random() < 0.3 else tuple(tasks))
            case RunKind.TASK:
                return TaskResult(run.base[0], f"head-{run.id}-{run.attempt}")
            case RunKind.TASK_REVIEW | RunKind.REVIEW:
                return ReviewResult(Verdict.GAPS if bad else Verdict.PASS, (Finding("x"),) if bad else ())
            case RunKind.VERIFY:
                return VerifyResult(not bad, int(bad))
            case RunKind.FINALIZE:
                return FinalizeResult("done", self.orchestration(run).branch)

    def ended(self, run: Run, *, good: bool = False) -> Ended:
        """Return the end of a run: good, or as it comes."""
        rng = self.rng
        if not good and rng.random() < 0.2:
            outcome = rng.choice([Outcome.FAILED, Outcome.LOST, Outcome.TIMED_OUT, Outcome.CANCELLED])
            code = rng.choice(["execution_output_malformed", "dispatch_timeout", "dispatch_node_lost", "execution_quota_exhausted"])
            code = "dispatch_cancelled" if outcome is Outcome.CANCELLED else code
            until = self.now + timedelta(seconds=1) if code == "execution_quota_exhausted" else None
            return Ended(v=1, outcome=outcome, at=self.now, reason_code=code, detail="it failed", resets_at=until)
        head = f"head-{run.id}-{run.attempt}" if run.kind in (RunKind.TASK, RunKind.PLAN, RunKind.VERIFY) else None
        usage = Usage(100, 50, 0.01)
        return Ended(v=1, outcome=Outcome.SUCCEEDED, at=self.now, result=self.result(run, good=good), head=head, usage=usage)
