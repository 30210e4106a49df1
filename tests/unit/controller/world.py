"""A pure world for tests of the core: one project, one plane, and a ledger that is a list. No bus, no clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from bus_schemas import codec
from bus_schemas import commands as c
from bus_schemas import events as e
from bus_schemas.decisions import CommandCause, Decision, LedgerMessage, Receipt, TimerCause
from bus_schemas.entities import FLAGS_ON_AT_FIRST, Node, Project
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
    Withdrawn,
)
from bus_schemas.routing import AgentOffer
from bus_schemas.subjects import ReportSubject
from controller.decide import decide_command, home
from controller.draft import Context, preview
from controller.leases import Duty, decide_duty
from controller.orchestration import Orchestration, Run
from controller.project import Aggregate, fold
from controller.reports import Repeated, Unbelieved, decide_report

T0 = datetime(2026, 1, 1, tzinfo=UTC)
SHELL = {"model": dict.fromkeys(("validator", "planner", "executor", "reviewer", "reviewer_secondary"), "shell")}


def body_of(phases: int) -> str:
    return "\n".join(f"## Phase {n}\n### Task 1: one\n```sh\ntrue\n```\n" for n in range(1, phases + 1))


class World:
    """States, and every ledger message that made them."""

    def __init__(self, *, phases: int = 1, check: str | None = None, overrides: dict[str, Any] | None = None, launch: bool = True) -> None:
        self.now = T0
        self.states: dict[str, Aggregate] = {PLANE: Aggregate(PLANE), "shop": Aggregate("shop")}
        self.ledger: list[tuple[int, LedgerMessage]] = []
        self.keys = 0
        self.online = {"n1"}
        agents = (AgentOffer("shell", "1", ("shell", "opus", "haiku")),)
        self._append(
            PLANE,
            Decision(
                at=T0,
                cause=TimerCause("first-start"),
                events=(
                    *(e.FlagChanged(flag.value, True) for flag in FLAGS_ON_AT_FIRST),
                    e.NodeRegistered(Node(NodeId("n1"), capacity=4, agents=agents)),
                    e.ProjectAdded(Project(ProjectId("shop"), "Shop", "/repo", check=check)),
                ),
            ),
        )
        markers = ("objective_defined", "scope_bounded")
        self.do(c.DesignAdd("shop", "Basket", body_of(phases), c.Complexity.SIMPLE, markers))
        self.last: Receipt | None = None
        if launch:
            merged = {**SHELL, **(overrides or {})}
            if overrides and "model" in overrides:
                merged["model"] = {**SHELL["model"], **overrides["model"]}
            receipt = self.do(c.Launch("shop-d1", "n1", overrides=merged))
            assert receipt.status == "accepted", receipt.message

    # ── state ──

    @property
    def project(self) -> Aggregate:
        return self.states["shop"]

    @property
    def o(self) -> Orchestration:
        return self.project.orchestrations["shop-o1"]

    @property
    def status(self) -> str:
        return self.o.status.value

    @property
    def holds(self) -> set[str]:
        return {hold.kind.value for hold in self.o.holds}

    def open(self, kind: str | None = None) -> list[Run]:
        return [run for run in self.o.open_runs() if kind is None or run.kind == kind]

    def context(self) -> Context:
        return Context(self.now, b"0123456789abcdef", self.states[PLANE], frozenset(self.online), {})

    def events(self, kind: type | None = None) -> list[e.Event]:
        return [event for _, m in self.ledger for d in m.decisions for event in d.events if kind is None or isinstance(event, kind)]

    # ── causes ──

    def _append(self, project: str, decision: Decision) -> Decision:
        seq = len(self.ledger) + 1
        message = LedgerMessage(1, "ledger-message", project, f"b{seq}", "test", codec.ZERO_HASH, 0, 1, (decision,))
        # through the wire and back: what cannot be stored must not pass
        message = codec.decode_ledger(codec.encode(message))
        self.ledger.append((seq, message))
        self.states[project] = fold(self.states[project], message, seq)
        return message.decisions[0]

    def do(self, command: c.Command, *, reason: str | None = None, by: str = "ana") -> Receipt:
        self.now += timedelta(milliseconds=1)
        self.keys += 1
        project = c.subject_project(command)
        cause = CommandCause(
            id=f"c{self.keys}",
            type=c.type_of(command),
            key=f"k{self.keys}",
            by=by,
            via="cli",
            project=project,
            received_at=self.now,
            body_hash="h",
            body=codec.command_body(command),
            reason=reason,
        )
        ledger = home(project, self.states[PLANE])
        decision = self._append(ledger, decide_command(self.states[ledger], cause, command, self.context()))
        assert decision.action is not None
        return self.states[ledger].actions[decision.action.id]

    def add_node(self, name: str, *models: str) -> None:
        """Register another node, online."""
        node = Node(NodeId(name), capacity=4, agents=(AgentOffer("shell", "1", models or ("shell", "opus", "haiku")),))
        self._append(PLANE, Decision(at=self.now, cause=TimerCause("test"), events=(e.NodeRegistered(node),)))
        self.online.add(name)

    def duty(self, duty: Duty) -> Decision | None:
        """Let the controller notice something; return what it decided."""
        self.now += timedelta(milliseconds=1)
        decided = decide_duty(self.project, duty, self.context())
        return None if decided is None else self._append("shop", decided)

    def preview(self, command: c.Command) -> Receipt:
        """Return the receipt of a dry run."""
        cause = CommandCause("dry", c.type_of(command), "dry", "ana", "cli", "shop", self.now, "h", codec.command_body(command))
        return preview(self.project, decide_command(self.project, cause, command, self.context()))

    def report(self, run: Run, report: Report, kind: str = "ended", /, **changed: Any) -> Decision | Repeated | Unbelieved:
        self.now += timedelta(milliseconds=1)
        subject = ReportSubject(run.node, "shop", run.id, run.attempt, run.nonce, kind)
        subject = subject._replace(**changed)
        decided = decide_report(self.project, subject, report, self.now, self.context())
        return self._append("shop", decided) if isinstance(decided, Decision) else decided

    def start(self, run: Run) -> Decision | Repeated | Unbelieved:
        return self.report(run, Started(1, "boot", "claim", self.now), "started")

    def withdraw(self, run: Run) -> Decision | Repeated | Unbelieved:
        return self.report(run, Withdrawn(1, "ctl", self.now), "started")

    def end(self, run: Run, result: Result | None = None, outcome: Outcome = Outcome.SUCCEEDED, **fields: Any) -> Any:
        if outcome is Outcome.SUCCEEDED and result is None:
            result = good(run)
        head = f"head-{run.id}" if run.kind is RunKind.TASK and outcome is Outcome.SUCCEEDED else None
        ended = Ended(v=1, outcome=outcome, at=self.now, result=result, head=head)
        return self.report(run, msgspec.structs.replace(ended, **fields))

    def fail(self, run: Run, code: str = "dispatch_cli_exit_nonzero", outcome: Outcome = Outcome.FAILED, **fields: Any) -> Any:
        return self.end(run, None, outcome, reason_code=code, detail="it failed", **fields)

    def only(self, kind: str) -> Run:
        runs = self.open(kind)
        assert len(runs) == 1, [(run.id, run.kind) for run in self.open()]
        return runs[0]

    def step(self) -> Run:
        """Start and end the oldest open run well."""
        run = self.open()[0]
        self.start(run)
        self.end(run)
        return run

    def until(self, kind: str) -> Run:
        """Go on well until a run of this kind is open, and return it."""
        for _ in range(100):
            runs = self.open(kind)
            if runs:
                return runs[0]
            self.step()
        raise AssertionError(f"no {kind} came; {self.status} {self.holds}")

    def finish(self) -> None:
        for _ in range(200):
            if not self.o.is_live or not self.open():
                return
            self.step()


def good(run: Run, tasks: int = 2) -> Result:
    match run.kind:
        case RunKind.INIT:
            return InitResult("c0", "/work/o1", "qd/basket")
        case RunKind.VALIDATE:
            return ValidateResult(Verdict.PASS)
        case RunKind.PLAN:
            return PlanResult(tuple(PlannedTask(n, f"task {n}", depends_on=(n - 1,) if n > 1 else ()) for n in range(1, tasks + 1)))
        case RunKind.TASK:
            return TaskResult(run.base[0], f"head-{run.id}")
        case RunKind.TASK_REVIEW | RunKind.REVIEW:
            return ReviewResult(Verdict.PASS)
        case RunKind.VERIFY:
            return VerifyResult(True, 0)
        case RunKind.FINALIZE:
            return FinalizeResult("done", "qd/basket")


GAPS = ReviewResult(Verdict.GAPS)
