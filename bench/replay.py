"""The pure core without a bus: how fast it decides, and how fast it folds a ledger. Pure but for the clock that measures.

The ledger is made by the core itself: orchestrations of one phase with two tasks, from launch to complete, in messages of
`MESSAGE_DECISIONS` decisions, as group commit writes them under load.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import msgspec

from bench import work
from bench.figures import Figures, rounded
from bus_schemas import codec
from bus_schemas import commands as c
from bus_schemas import events as e
from bus_schemas.decisions import CORE_VERSION, CommandCause, Decision, LedgerMessage, TimerCause
from bus_schemas.entities import FLAGS_ON_AT_FIRST, Complexity, Node, Project
from bus_schemas.ids import PLANE, NodeId, ProjectId
from bus_schemas.orders import RunKind
from bus_schemas.reports import (
    Ended,
    FinalizeResult,
    InitResult,
    Outcome,
    PlannedTask,
    PlanResult,
    Report,
    Result,
    ReviewResult,
    Started,
    TaskResult,
    ValidateResult,
    Verdict,
    VerifyResult,
)
from bus_schemas.subjects import ReportSubject
from controller.decide import decide_command
from controller.draft import Context
from controller.orchestration import Run
from controller.project import Aggregate, fold, fold_decision
from controller.reports import Repeated, Unbelieved, decide_report

MESSAGE_DECISIONS = 64
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Core:
    """A project as a lane sees it: decides, encodes and folds, and keeps the seconds that each took."""

    def __init__(self) -> None:
        """Begin with a registry of eight nodes and a project with one design."""
        nodes = [e.NodeRegistered(Node(NodeId(name), capacity=work.NODE_CAPACITY, agents=work.OFFERS)) for name in work.NODES]
        flags = [e.FlagChanged(flag.value, True) for flag in FLAGS_ON_AT_FIRST]
        project = e.ProjectAdded(Project(ProjectId(work.PROJECT), "Bench", "/nowhere"))
        begin = Decision(at=NOW, cause=TimerCause("bench"), events=(*flags, *nodes, project))
        plane = fold_decision(Aggregate(PLANE), begin, None)
        self.context = Context(now=NOW, seed=b"0" * 16, plane=plane, online=frozenset(work.NODES))
        self.state = Aggregate(work.PROJECT)
        self.bodies: list[bytes] = []
        self.decisions: list[Decision] = []
        self.decided = self.events = 0
        self.decide_s = self.encode_s = 0.0
        self.command(c.DesignAdd(work.PROJECT, "Bench", work.DESIGN_BODY, Complexity.SIMPLE, work.MARKERS), "design")

    def command(self, command: c.Command, key: str) -> Decision:
        """Decide a command and fold what was decided."""
        body = codec.command_body(command)
        cause = CommandCause(
            id=key,
            type=c.type_of(command),
            key=key,
            by="local",
            via="api",
            project=work.PROJECT,
            received_at=self.context.now,
            body_hash=codec.body_hash(c.type_of(command), body),
            body=body,
        )
        begun = time.process_time()
        decision = decide_command(self.state, cause, command, self.context)
        self._took(decision, begun)
        return decision

    def report(self, run: Run, report: Report, kind: str) -> None:
        """Decide a report of a run's newest attempt and fold what was decided."""
        subject = ReportSubject(run.node, work.PROJECT, run.id, run.attempt, run.nonce, kind)
        begun = time.process_time()
        decision = decide_report(self.state, subject, report, self.context.now, self.context)
        assert not isinstance(decision, Repeated | Unbelieved), decision
        self._took(decision, begun)

    def _took(self, decision: Decision, begun: float) -> None:
        self.state = fold_decision(self.state, decision, None)
        self.decide_s += time.process_time() - begun
        self.decided += 1
        self.events += len(decision.events)
        self.decisions.append(decision)
        self.context = msgspec.structs.replace(self.context, now=self.context.now + timedelta(milliseconds=1))
        if len(self.decisions) == MESSAGE_DECISIONS:
            self.flush()

    def flush(self) -> None:
        """Write the decisions so far as one ledger message."""
        message = LedgerMessage(
            v=codec.VERSION,
            type="ledger-message",
            project=work.PROJECT,
            batch="0" * 32,
            by="bench",
            prev=codec.ZERO_HASH,
            plane_seq=1,
            core=CORE_VERSION,
            decisions=tuple(self.decisions),
        )
        begun = time.process_time()
        self.bodies.append(codec.encode(message))
        self.encode_s += time.process_time() - begun
        self.decisions = []

    def orchestrate(self, number: int) -> None:
        """Launch an orchestration and report its runs until it is complete."""
        decision = self.command(work.launch(number, "replay"), work.key(number, "replay"))
        assert decision.action is not None, decision
        orchestration = decision.action.orchestration
        assert orchestration is not None, decision.action
        while (o := self.state.orchestrations[orchestration]).is_live:
            for run in o.open_runs():
                self.report(run, Started(codec.VERSION, "boot", "claim", self.context.now), "started")
                self.report(run, self._end(run), "ended")

    def _end(self, run: Run) -> Ended:
        head = f"commit-of-{run.id}"
        return Ended(
            v=codec.VERSION,
            outcome=Outcome.SUCCEEDED,
            at=self.context.now,
            result=_result(run, head),
            head=head if run.kind is RunKind.TASK else None,
        )


def _result(run: Run, head: str) -> Result:
    results: dict[RunKind, Result] = {
        RunKind.INIT: InitResult("0" * 40, "/null", "qd/null"),
        RunKind.VALIDATE: ValidateResult(Verdict.PASS),
        RunKind.PLAN: PlanResult((PlannedTask(1, "one"), PlannedTask(2, "two", depends_on=(1,)))),
        RunKind.TASK: TaskResult("0" * 40, head),
        RunKind.TASK_REVIEW: ReviewResult(Verdict.PASS),
        RunKind.VERIFY: VerifyResult(True, 0),
        RunKind.REVIEW: ReviewResult(Verdict.PASS),
        RunKind.FINALIZE: FinalizeResult(head, "qd/null"),
    }
    return results[run.kind]


def replay(orchestrations: int) -> Figures:
    """Return how fast launches are decided, and how fast whole orchestrations are decided and folded again from their ledger."""
    launches = Core()
    for number in range(orchestrations):
        launches.command(work.launch(number, "replay"), work.key(number, "replay"))
    core = Core()
    for number in range(orchestrations):
        core.orchestrate(number)
    core.flush()
    decode_s, fold_s = _read_again(core)
    return {
        "orchestrations": orchestrations,
        "decisions": core.decided,
        "events": core.events,
        "ledger_bytes_per_event": rounded(sum(map(len, core.bodies)) / core.events),
        "launch_decisions_per_s": rounded(launches.decided / launches.decide_s),
        "decisions_per_s": rounded(core.decided / core.decide_s),
        "encode_events_per_s": rounded(core.events / core.encode_s),
        "decode_events_per_s": rounded(core.events / decode_s),
        "fold_events_per_s": rounded(core.events / fold_s),
        "replay_events_per_s": rounded(core.events / (decode_s + fold_s)),
    }


def _read_again(core: Core) -> tuple[float, float]:
    """Return the seconds that decoding and folding the ledger take, as a controller does at its start."""
    begun = time.process_time()
    messages = [codec.decode_ledger(body) for body in core.bodies]
    decoded = time.process_time()
    state = Aggregate(work.PROJECT)
    for seq, message in enumerate(messages, 1):
        state = fold(state, message, seq)
    folded = time.process_time()
    assert state.orchestrations == core.state.orchestrations, "a replay must give the same state"
    return decoded - begun, folded - decoded
