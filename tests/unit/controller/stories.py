"""Whole histories of the core: what is asked and reported, step by step. What was decided is kept beside them in `histories/`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec

from bus_schemas import commands as c
from bus_schemas.decisions import Decision
from bus_schemas.events import RunQueued
from bus_schemas.ids import PLANE
from bus_schemas.orders import RunKind
from bus_schemas.reports import (
    Beat,
    Ended,
    FinalizeResult,
    Finding,
    InitResult,
    Outcome,
    PlannedTask,
    PlanResult,
    Report,
    ReviewResult,
    TaskResult,
    Usage,
    ValidateResult,
    Verdict,
    VerifyResult,
)
from bus_schemas.routing import AgentOffer
from controller import projections
from controller.decide import decide_beat
from controller.leases import Back, Disowned, Drained, Due, Lost
from controller.orchestration import Run
from controller.work_orders import order_of, stop_of, stops
from tests.unit.controller.world import SHELL, World, body_of

TEXT = msgspec.json.Encoder(order="sorted")
READY = ("objective_defined", "scope_bounded")


class Told(World):
    """A world that writes down everything which leaves the core: ledger messages, orders, and reports that are not recorded."""

    def __init__(self, **fields: Any) -> None:
        self.lines: list[dict[str, Any]] = []
        super().__init__(**fields)

    def _append(self, project: str, decision: Decision) -> Decision:
        decision = super()._append(project, decision)
        seq, message = self.ledger[-1]
        self.lines.append({"seq": seq, "message": message})
        for event in decision.events:
            if isinstance(event, RunQueued):
                o = self.project.orchestrations[event.orchestration]
                run = o.run(event.run)
                assert run is not None
                self.lines.append({"order": order_of(self.project, self.states[PLANE].projects["shop"], o, run, self.now), "stops": stops(o)})
        return decision

    def report(self, run: Run, report: Report, kind: str = "ended", /, **changed: Any) -> Any:
        decided = super().report(run, report, kind, **changed)
        if not isinstance(decided, Decision):
            self.lines.append({"not recorded": type(decided).__name__, "why": getattr(decided, "why", None)})
        return decided

    def fail(
        self, run: Run, code: str | None = "dispatch_cli_exit_nonzero", outcome: Outcome = Outcome.FAILED, *, detail: str = "it failed", **fields: Any
    ) -> Any:
        return self.end(run, None, outcome, reason_code=code, detail=detail, **fields)

    def beat(self, node: str, *models: str, capacity: int = 2, **labels: str) -> None:
        """Let a node say that it is there."""
        self.now += timedelta(milliseconds=1)
        beat = Beat(1, "beat", node, "boot-1", self.now, capacity, labels, (AgentOffer("shell", "2", models),))
        decided = decide_beat(self.states[PLANE], beat, self.context())
        if decided is not None:
            self._append(PLANE, decided)
        self.online.add(node)

    def views(self) -> dict[str, Any]:
        """Return everything that a query would show at the end."""
        state, plane = self.project, self.states[PLANE]
        by_id = sorted
        orchestrations = [state.orchestrations[name] for name in by_id(state.orchestrations)]
        return {
            "orchestrations": [projections.orchestration(o, "1", whole=True) for o in orchestrations],
            "runs": [projections.run(run) for o in orchestrations for run in o.runs],
            "attempts": [
                (run.id, run.sent, run.counted, run.unstarted, run.malformed, run.held, run.action) for o in orchestrations for run in o.runs
            ],
            "gates": [projections.gate(o) for o in orchestrations],
            "policies": [o.policy_changes for o in orchestrations],
            "bases": [(phase.id, phase.base, phase.issues, phase.verdicts) for o in orchestrations for phase in o.phases],
            "contains": [(task.number, task.contains, task.issues) for o in orchestrations for phase in o.phases for task in phase.tasks],
            "stops": [stop_of(run, run.attempt, self.now) for o in orchestrations for run in o.outstanding()],
            "designs": [projections.design(state.designs[name], body=True, comments=state.comments.get(name, ())) for name in by_id(state.designs)],
            "tickets": [projections.ticket(state.tickets[name], body=True, comments=state.comments.get(name, ())) for name in by_id(state.tickets)],
            "projects": [projections.project(plane.projects[name], state) for name in by_id(plane.projects)],
            "nodes": [projections.node(plane.nodes[name], None, name in self.online, None) for name in by_id(plane.nodes)],
            "flags": sorted(plane.flags.items()),
            "actions": [ledger.actions[name] for ledger in (plane, state) for name in by_id(ledger.actions)],
            "slugs": sorted(state.live_slugs.items()),
        }

    def text(self) -> str:
        """Return the history as it is kept: a line for each thing said, then a line for each view."""
        views = msgspec.to_builtins(self.views())
        lines = [*self.lines, *({name: _said(value)} for name, values in views.items() for value in values)]
        return "".join(TEXT.encode(line).decode() + "\n" for line in lines)


def _said(value: Any) -> Any:
    """Return a view without the fields that say nothing, so that a new one does not change every history."""
    match value:
        case dict():
            return {name: _said(part) for name, part in value.items() if part not in (None, False, "", [], {})}
        case list():
            return [_said(part) for part in value]
        case _:
            return value


def gaps(*texts: str, **fields: Any) -> ReviewResult:
    return ReviewResult(Verdict.GAPS, tuple(Finding(text, **fields) for text in texts))


def plan(*tasks: PlannedTask) -> PlanResult:
    return PlanResult(tasks)


def whole() -> Told:
    """Two phases with tickets, a check and a cost, to the end; and what is said twice, too late or by nobody."""
    world = Told(phases=2, check="make test", launch=False)
    world.do(c.TicketAdd("shop", "Sum", "right to the cent", "shop-d1", c.Priority.HIGH))
    world.do(c.TicketAdd("shop", "Tax", "by country"))
    world.do(c.TicketMove("shop-t2", c.TicketStatus.BLOCKED))
    launch = c.Launch("shop-d1", "auto", "Basket total", {}, ("shop-t1", "shop-t2"), "qd/total", "balanced", SHELL)
    world.do(launch, by="ben", reason="release")
    init = world.only("init")
    world.start(init)
    world.start(init)
    world.end(init, InitResult("c0", "/srv/o1", "qd/total"), usage=Usage(10, 5), duration_ms=12.5, agent="node", session="s1", model="m")
    world.end(init)
    world.end(world.only("validate"), ValidateResult(Verdict.WARNING, (Finding("thin", "p2", "reader"),)), usage=Usage(1, 1, 0.5), head="v1")
    world.report(world.only("plan"), Ended(1, Outcome.SUCCEEDED, world.now), nonce="guessed")
    world.end(
        world.only("plan"),
        plan(PlannedTask(3, "add", "the sum", (), "opus"), PlannedTask(4, "test", "x" * 600, (3, 3)), PlannedTask(9, "docs")),
        usage=Usage(100, 50, 0.25, True),
        head="p1",
    )
    first, second = world.open("task")
    world.start(first)
    world.end(first, TaskResult("c0", "h1", 1, 2, 3), head="h1")
    world.end(second, TaskResult("c0", "h2"), head="h2")
    for run in world.open("task-review"):
        world.end(run, gaps("no test", severity="p0", detector="tests") if run.task == 1 else None)
    world.finish()
    return world


def gates() -> Told:
    """All three gates, each rejected once and then approved."""
    world = Told(phases=1, overrides={"flow": {"human_gates": ["plan", "review", "finalize"], "max_parallel_tasks": 1}})
    world.do(c.GateApprove("shop-o1"))
    world.finish()
    world.do(c.Retry("shop-o1"))
    world.do(c.Resume("shop-o1"))
    world.do(c.GateReject("shop-o1", "split task 2"), by="ben")
    world.finish()
    world.do(c.GateApprove("shop-o1", "better"))
    world.finish()
    world.do(c.GateReject("shop-o1", "not good"))
    world.finish()
    world.do(c.GateApprove("shop-o1"))
    world.finish()
    world.do(c.GateApprove("shop-o1", "fine"))
    world.finish()
    world.do(c.GateReject("shop-o1", "wait for the release"))
    world.do(c.Resume("shop-o1"))
    world.do(c.Retry("shop-o1"))
    world.do(c.GateApprove("shop-o1"))
    world.finish()
    return world


def consensus() -> Told:
    """Two reviewers who disagree, are sent back, agree on gaps, fail, and agree at last."""
    overrides = {
        "model": {"review_consensus": True, "reviewer_secondary": "haiku"},
        "review": {"enforcement": "phase_only"},
        "flow": {"max_task_attempts": 1},
    }
    world = Told(phases=1, overrides=overrides)
    world.until("review")
    first, second = world.open("review")
    world.end(first, ReviewResult(Verdict.PASS))
    world.end(second, gaps("slow", "large"))
    world.do(c.GateReject("shop-o1", "make it fast"))
    world.until("review")
    first, second = world.open("review")
    world.end(second, gaps("late"))
    world.end(first, gaps("slow still", "known", override_reason="accepted"))
    world.until("review")
    first, second = world.open("review")
    world.fail(second, detail="")
    world.do(c.Pause("shop-o1", c.PauseMode.STOP))
    world.end(first, ReviewResult(Verdict.PASS))
    world.do(c.Resume("shop-o1"))
    world.do(c.Retry("shop-o1"))
    world.end(world.only("review"), ReviewResult(Verdict.PASS))
    world.finish()
    return world


def failures() -> Told:
    """Attempts that fail in every way, block, and are retried."""
    world = Told(phases=1, check="x", overrides={"flow": {"max_task_attempts": 2}})
    world.fail(world.only("init"), "dispatch_cli_spawn_failed", process_started=False, exit_code=1, signal=9, tail="y" * 8001)
    world.step()
    world.end(world.only("validate"), ValidateResult(Verdict.STOP, (Finding("no tests"), Finding("no plan"))))
    world.do(c.Retry("shop-o1"))
    world.end(world.only("validate"), gaps("wrong kind"))
    world.end(world.only("validate"))
    world.end(world.only("plan"), plan())
    world.end(
        world.only("plan"), plan(PlannedTask(1, "a", depends_on=(2,)), PlannedTask(2, "b", depends_on=(1, 7)), PlannedTask(2, "c", model="gpt-9"))
    )
    world.do(c.Retry("shop-o1", "2"))
    world.do(c.Retry("shop-o1", "1"))
    world.end(world.only("plan"), plan(PlannedTask(1, "a"), PlannedTask(2, "b", depends_on=(1,)), PlannedTask(3, "c")))
    one = next(run for run in world.open("task") if run.task == 1)
    world.fail(one, outcome=Outcome.TIMED_OUT, tail="too long")
    world.fail(next(run for run in world.open("task") if run.task == 1))
    world.end(next(run for run in world.open("task") if run.task == 3))
    world.fail(world.only("task-review"), "execution_output_malformed")
    world.fail(world.only("task-review"), "execution_output_malformed", detail="")
    world.do(c.Pause("shop-o1"))
    world.do(c.Resume("shop-o1"))
    world.do(c.Retry("shop-o1", task=9))
    world.do(c.Retry("shop-o1", task=2))
    world.do(c.Retry("shop-o1", "1", 1))
    world.finish()
    world.do(c.Retry("shop-o1"))
    world.until("verify")
    world.fail(world.only("verify"), None)
    world.fail(world.only("verify"), None, Outcome.LOST)
    world.do(c.Retry("shop-o1"))
    world.end(world.only("verify"), VerifyResult(False, 2, "boom"), head="e1")
    for _ in range(2):
        world.end(world.until("review"), gaps())
    world.end(world.until("review"), ReviewResult(Verdict.PASS, (Finding("over", override_reason="fine"),)))
    world.fail(world.until("finalize"), "execution_finalize_failed")
    world.fail(world.only("finalize"), "execution_finalize_failed")
    world.do(c.Retry("shop-o1"))
    world.end(world.only("finalize"), FinalizeResult("done", "qd/basket-2"))
    return world


def worst() -> Told:
    """Gaps until it fails, a skipped phase, the rejected task, and reports that come after the end."""
    world = Told(phases=3, overrides={"flow": {"phases_enabled": [2]}, "review": {"enforcement": "task_and_phase"}})
    world.until("plan")
    world.step()
    for _ in range(3):
        world.end(world.only("task"))
        review = world.only("task-review")
        world.end(review, gaps("no test", "no docs"))
    world.do(c.Retry("shop-o1"))
    late = world.only("task")
    for index in range(5):
        while not world.open("review"):
            run = world.open()[0]
            world.end(run, plan(PlannedTask(1, "mend")) if run.kind is RunKind.PLAN else None)
        world.end(world.only("review"), gaps(f"gap {index}", f"more {index}"))
    world.end(late, process_started=False)
    world.do(c.Retry("shop-o1"))
    return world


def init_fails() -> Told:
    """Init that fails for good, and a launch that is cancelled before it was set up."""
    world = Told()
    world.fail(world.only("init"))
    world.fail(world.only("init"), detail="")
    world.do(c.Launch("shop-d1", "n1", overrides=SHELL))
    run = world.project.orchestrations["shop-o2"].runs[0]
    world.do(c.Cancel("shop-o2"), by="ben")
    world.withdraw(run)
    world.withdraw(run)
    world.end(run, InitResult("c", "/p", "b"))
    return world


def control() -> Told:
    """Pause, resume and cancel: honest, and refused where they do not fit."""
    world = Told(phases=1)
    run = world.only("init")
    world.do(c.Resume("shop-o1"))
    world.do(c.Retry("shop-o1"))
    world.do(c.Retry("shop-o1", "1"))
    world.start(run)
    world.do(c.Pause("shop-o1"))
    world.do(c.Pause("shop-o1"))
    world.do(c.Resume("shop-o1"))
    world.do(c.Pause("shop-o1", c.PauseMode.STOP))
    world.fail(run, "dispatch_cancelled", Outcome.CANCELLED)
    world.do(c.Pause("shop-o1"))
    world.do(c.Retry("shop-o1"))
    world.do(c.Resume("shop-o1"))
    world.withdraw(world.only("init"))
    world.step()
    run = world.until("task")
    world.start(run)
    world.do(c.Pause("shop-o1"))
    world.end(run)
    world.do(c.Resume("shop-o1"))
    for run in world.open():
        world.start(run)
    world.do(c.Cancel("shop-o1"), by="ben")
    for refused in (
        c.Cancel("shop-o1"),
        c.Pause("shop-o1"),
        c.Resume("shop-o1"),
        c.Retry("shop-o1"),
        c.GateApprove("shop-o1"),
        c.GateReject("shop-o1", "x"),
    ):
        world.do(refused)
    for run in world.open():
        world.end(run)
    for ended in (c.Cancel("shop-o1"), c.Pause("shop-o9")):
        world.do(ended)
    return world


def late_cancel() -> Told:
    """A cancel and a pause that a finalize which had succeeded makes void."""
    world = Told()
    run = world.until("finalize")
    world.start(run)
    world.do(c.Pause("shop-o1"))
    world.do(c.Cancel("shop-o1"))
    world.end(run)
    return world


def catalogue() -> Told:
    """Everything the catalogue takes, and everything it refuses."""
    world = Told(launch=False)
    for command in (
        c.ProjectAdd("tool", "/t", "The tool", "trunk", "just test"),
        c.ProjectAdd("bare", "/b"),
        c.ProjectAdd("shop", "/r"),
        c.ProjectAdd(PLANE, "/r"),
        c.ProjectAdd("No", "/r"),
        c.ProjectEdit("nope", name="x"),
        c.ProjectEdit("shop"),
        c.ProjectEdit("shop", "/other", "The shop", "dev", "make"),
        c.ProjectEdit("shop", check=""),
        c.ProjectEdit("tool", name="Tool"),
        c.ProjectEdit("tool", repo="/t2"),
        c.DesignAdd("nope", "T", "b"),
        c.DesignAdd("shop", "T", "b", markers=("done", "gone")),
        c.DesignAdd("shop", "Second", body_of(2), c.Complexity.COMPLEX, ("scope_bounded", "scope_bounded", "objective_defined")),
        c.DesignEdit("shop-d9", title="x"),
        c.DesignEdit("shop-d2"),
        c.DesignEdit("shop-d2", title="New"),
        c.DesignEdit("shop-d2", body=body_of(3)),
        c.DesignEdit("shop-d2", complexity=c.Complexity.SIMPLE),
        c.DesignMark("shop-d2", "done"),
        c.DesignMark("shop-d9", "scope_bounded"),
        c.DesignMark("shop-d2", "scope_bounded", completed=False),
        c.DesignMark("shop-d2", "phases_outlined"),
        c.DesignMark("shop-d2", "phases_outlined"),
        c.DesignMove("shop-d2", c.DesignStatus.APPROVED),
        c.DesignMove("shop-d2", c.DesignStatus.IN_REVIEW),
        c.TicketAdd("shop", "Sum", "body", "shop-d2", c.Priority.HIGH),
        c.TicketAdd("shop", "Bare"),
        c.TicketAdd("shop", "T", design="shop-d9"),
        c.TicketAdd("shop", "T", design="nope-d1"),
        c.TicketEdit("shop-t1", title="Total"),
        c.TicketEdit("shop-t1", body="b"),
        c.TicketEdit("shop-t2", design="shop-d1"),
        c.TicketEdit("shop-t2", priority=c.Priority.LOW),
        c.TicketEdit("shop-t2", design="shop-d9"),
        c.TicketEdit("shop-t1"),
        c.TicketEdit("shop-t9", title="x"),
        c.TicketMove("shop-t1", c.TicketStatus.BLOCKED),
        c.TicketMove("shop-t1", c.TicketStatus.DONE),
        c.TicketMove("shop-t9", c.TicketStatus.DONE),
        c.CommentAdd("shop-t1", "why?"),
        c.CommentAdd("shop-d2", "good"),
        c.CommentAdd("shop-d2", "very"),
        c.CommentAdd("shop-t9", "hm"),
        c.NodeCordon("n1"),
        c.NodeCordon("n1"),
        c.NodeDrain("n1"),
        c.NodeDrain("n1"),
        c.NodeUncordon("n1"),
        c.NodeUncordon("n1"),
        c.NodeCordon("n9\n"),
        c.FlagSet("require_reason", True),
        c.FlagSet("cp.magic", True),
        c.FlagSet("require_reason", False),
        c.FlagRollback("plane-a1"),
        c.FlagRollback("a"),
    ):
        world.do(command, by="ben", reason="because")
    changed = world.do(c.FlagSet("cp.launch", False), reason="x")
    world.do(c.Launch("shop-d1", "n1", overrides=SHELL))
    world.do(c.FlagRollback(changed.action), reason="y")
    world.do(c.FlagRollback(changed.action), reason="y")
    world.do(c.FlagSet("require_reason", True), reason="z")
    world.do(c.Launch("shop-d1", "n1", overrides=SHELL), reason=" ")
    return world


def launches() -> Told:
    """Every check of a launch, in words."""
    world = Told(launch=False)
    world.do(c.DesignAdd("shop", "Thin", "no phases", c.Complexity.STANDARD, ("scope_bounded",)))
    world.do(c.DesignAdd("shop", "Basket", body_of(1), c.Complexity.SIMPLE, READY))
    for status in (c.DesignStatus.IN_REVIEW, c.DesignStatus.APPROVED, c.DesignStatus.ARCHIVED):
        world.do(c.DesignMove("shop-d3", status))
    world.do(c.TicketAdd("shop", "Sum"))
    policy = {"model": SHELL["model"]}
    refused: list[dict[str, Any]] = [
        {"design": "shop-d9"},
        {"design": "shop-t1"},
        {"design": "shop-d2"},
        {"design": "shop-d3"},
        {"design": "nope-d1"},
        {"preset": "brave"},
        {"overrides": {"model": {"painter": "x"}}},
        {"policy": policy},
        {"policy": {"model": {"planner": "shell"}}, "overrides": {}},
        {"overrides": {"model": {"planner": "gpt-9"}}},
        {"node": "n9"},
        {"node": "*"},
        {"node": "auto", "labels": {"gpu": "yes", "arch": "arm"}},
        {"tickets": ("shop-t91", "shop-t92", "shop-t1")},
        {"tickets": ("other",)},
        {"feature": "  "},
        {"feature": "!!!"},
        *({"branch": branch} for branch in ("main", "qd/../x", "qd/x/", "qd/x.", "qd/x.lock", "qd//x")),
    ]
    base: dict[str, Any] = {"design": "shop-d1", "node": "n1", "overrides": SHELL}
    for fields in refused:
        world.do(c.Launch(**{**base, **fields}))
    world.beat("n2", "opus", capacity=1, gpu="yes")
    world.beat("n3", "shell", "opus", "haiku", capacity=8)
    world.beat("n3", "shell", "opus", "haiku", capacity=8)
    world.beat("n4", "shell")
    world.online -= {"n4"}
    world.do(c.NodeCordon("n3"))
    for fields in ({"node": "n2"}, {"node": "n3"}, {"node": "n4"}, {"node": "auto", "labels": {"gpu": "yes"}}):
        world.do(c.Launch(**{**base, **fields}))
    world.online.clear()
    world.do(c.Launch(**{**base, "node": "auto"}))
    world.online |= {"n1", "n2", "n3"}
    world.do(c.Launch(**{**base, "preset": "fast", "tickets": ("shop-t1", "shop-t1")}), by="ben")
    world.do(c.Launch(**{**base, "feature": "basket!"}))
    world.do(c.Launch(**{**base, "feature": " Other one ", "overrides": {}, "policy": msgspec.to_builtins(world.o.policy), "node": "auto"}))
    return world


def changes() -> Told:
    """The policy and the plan changed while work runs, each change accepted or refused in words."""
    world = Told(phases=2, check="x", overrides={"flow": {"max_parallel_tasks": 1, "human_gates": ["plan"]}})
    world.do(c.TaskEdit("shop-o1", "1", 1, 1, "x"))
    world.finish()
    edits: tuple[c.Command, ...] = (
        c.PolicySet("shop-o1", {"flow": {"max_parallel_tasks": 2}}, 1),
        c.PolicySet("shop-o1", {"flow": {"max_parallel_tasks": 3}}, 1),
        c.PolicySet("shop-o1", {"flow": {"max_parallel_tasks": 0}}, 2),
        c.PolicySet("shop-o1", {"model": {"planner": "gpt-9"}}, 2),
        c.PolicySet("shop-o9", {"flow": {}}, 1),
        c.RoleModelSet("shop-o1", "executor", "opus", 2),
        c.RoleModelSet("shop-o1", "painter", "opus", 3),
        c.RoleModelSet("shop-o1", "executor", "opus", 3),
        c.RoleModelSet("shop-o1", "executor", "haiku", 3),
        c.TaskEdit("shop-o1", "1", 1, 1, "first", "the first"),
        c.TaskEdit("shop-o1", "1", 1, 1, "again"),
        c.TaskEdit("shop-o1", "1", 1, 2),
        c.TaskEdit("shop-o1", "1", 9, 1, "x"),
        c.TaskEdit("shop-o1", "9", 1, 1, "x"),
        c.TaskEdit("shop-o1", "x", 1, 1, "x"),
        c.TaskModelSet("shop-o1", "1", 2, 1, "haiku"),
        c.TaskModelSet("shop-o1", "1", 2, 2, "gpt-9"),
        c.TaskModelSet("shop-o1", "1", 2, 2),
        c.TaskInsert("shop-o1", "1", 1, "between", (1,), 4, "in the middle", "opus"),
        c.TaskInsert("shop-o1", "1", 0, "before", (), 5),
        c.TaskInsert("shop-o1", "1", 9, "x", (), 6),
        c.TaskInsert("shop-o1", "1", 0, "x", (), 1),
        c.TaskInsert("shop-o1", "2", 0, "x", (), 0),
        c.TaskInsert("shop-o1", "1", 0, "x", (9,), 6, blocks=(8,)),
        c.TaskInsert("shop-o1", "1", 0, "x", (2,), 6, blocks=(1,)),
        c.TaskInsert("shop-o1", "1", 0, "x", (), 6, model="gpt-9"),
        c.TaskInsert("shop-o1", "1", 2, "last", (2, 2), 6, blocks=()),
        c.TaskSkip("shop-o1", "1", 5, 1),
        c.TaskSkip("shop-o1", "1", 5, 2),
        c.TaskInsert("shop-o1", "1", 0, "x", (5,), 8, blocks=(5,)),
    )
    for edit in edits:
        world.do(edit)
    world.do(c.GateApprove("shop-o1"))
    world.do(c.Pause("shop-o1"))
    world.do(c.PolicySet("shop-o1", {"model": {"executor": "shell"}, "flow": {"max_parallel_tasks": 1}}, 4))
    for run in world.open("task"):
        world.withdraw(run)
    world.do(c.TaskEdit("shop-o1", "1", 2, 5, description="while it is paused"))
    world.do(c.Resume("shop-o1"))
    world.finish()
    world.do(c.GateApprove("shop-o1"))
    world.until("verify")
    world.do(c.TaskInsert("shop-o1", "2", 0, "too late", (), 1))
    world.do(c.Cancel("shop-o1"))
    world.do(c.PolicySet("shop-o1", {"flow": {"max_parallel_tasks": 2}}, 5))
    world.do(c.TaskSkip("shop-o1", "2", 1, 1))
    world.withdraw(world.open()[0])
    world.do(c.PolicySet("shop-o1", {"flow": {"max_parallel_tasks": 2}}, 5))
    world.do(c.TaskSkip("shop-o1", "2", 1, 1))
    return world


def money() -> Told:
    """Budgets and quotas: held before the next run, raised, and over by themselves."""
    world = Told(phases=1, overrides={"flow": {"budget_usd": 2.0, "budget_tokens": 1000}})
    world.end(world.only("init"))
    world.end(world.only("validate"), usage=Usage(10, 10, 2.5))
    world.do(c.Resume("shop-o1"))
    world.do(c.PolicySet("shop-o1", {"flow": {"budget_usd": 5.0}}, 1))
    world.do(c.Resume("shop-o1"))
    world.end(world.only("plan"), usage=Usage(600, 400))
    world.do(c.Resume("shop-o1"))
    world.do(c.PolicySet("shop-o1", {"flow": {"budget_tokens": 5000}}, 2))
    world.do(c.Resume("shop-o1"))
    run = world.only("task")
    world.fail(run, "execution_quota_exhausted", resets_at=world.now + timedelta(minutes=5))
    world.duty(Due("shop-o1"))
    world.now += timedelta(minutes=5)
    world.duty(Due("shop-o1"))
    world.duty(Due("shop-o1"))
    world.fail(world.only("task"), "execution_quota_exhausted")
    world.do(c.Resume("shop-o1"))
    world.finish()
    return world


def nodes() -> Told:
    """A node that is lost, comes back, does not know an attempt, is drained, and whose work moves on."""
    world = Told(phases=1, overrides={"flow": {"max_parallel_tasks": 2}})
    world.end(world.until("plan"), plan(PlannedTask(1, "a"), PlannedTask(2, "b")))
    for run in world.open():
        world.start(run)
    world.duty(Lost("shop-o1", "n1"))
    world.online.clear()
    world.duty(Lost("shop-o1", "n1"))
    world.duty(Lost("shop-o1", "n1"))
    world.do(c.Retry("shop-o1", "2"))
    world.do(c.Retry("shop-o1"))
    world.online.add("n1")
    world.duty(Back("shop-o1", "n1"))
    world.duty(Back("shop-o1", "n1"))
    run = world.open()[0]
    world.duty(Disowned(run.id, 7))
    world.duty(Disowned(run.id, run.attempt))
    world.duty(Disowned("shop-o9-r1", 1))
    world.beat("n2", "shell", "opus", "haiku")
    world.do(c.NodeDrain("n1"))
    world.duty(Drained("shop-o1", "n1"))
    world.online -= {"n1"}
    world.duty(Lost("shop-o1", "n1"))
    world.do(c.Retry("shop-o1"))
    world.finish()
    return world


def losses() -> Told:
    """The policies of a node loss: retry there, move elsewhere, and an operator who gives up."""
    world = Told(phases=1, overrides={"flow": {"on_node_loss": "retry", "max_task_attempts": 9}})
    world.start(world.until("plan"))
    world.online.clear()
    world.duty(Lost("shop-o1", "n1"))
    world.online.add("n1")
    world.duty(Back("shop-o1", "n1"))
    world.do(c.PolicySet("shop-o1", {"flow": {"on_node_loss": "move"}}, 1))
    for run in world.open():
        world.start(run)
    world.online.clear()
    world.duty(Lost("shop-o1", "n1"))
    world.beat("n2", "shell", "opus", "haiku")
    world.duty(Lost("shop-o1", "n1"))
    for run in world.open():
        world.start(run)
    world.online.clear()
    world.duty(Lost("shop-o1", "n2"))
    world.do(c.Cancel("shop-o1"))
    world.duty(Lost("shop-o1", "n2"))
    world.do(c.Cancel("shop-o1", abandon=True), by="ben")
    return world


STORIES: dict[str, Callable[[], Told]] = {
    story.__name__.replace("_", "-"): story
    for story in (whole, gates, consensus, failures, worst, init_fails, control, late_cancel, catalogue, launches, changes, money, nodes, losses)
}
