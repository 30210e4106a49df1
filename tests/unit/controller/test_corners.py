"""Corners of the core that a whole history seldom reaches, each asked directly."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from bus_schemas import commands as c
from bus_schemas import events as e
from bus_schemas.codec import BadCommand
from bus_schemas.decisions import ActionStatus, CommandCause, TimerCause
from bus_schemas.entities import FLAGS_ON_AT_FIRST
from bus_schemas.events import HoldKind, OrchestrationStatus, TaskStatus
from bus_schemas.ids import PLANE
from bus_schemas.policy import ModelPolicy, Policy
from bus_schemas.reasons import Reason
from bus_schemas.reports import Beat, Ended, Outcome, PlannedTask, PlanResult, RunningAttempt, Started, TaskResult
from bus_schemas.routing import AgentOffer
from controller import plan, progress, projections, standing, tasks
from controller.decide import decide_beat, decide_command, decide_first_flags
from controller.draft import Context, Draft, preview
from controller.orchestration import Task, with_phase, with_task
from controller.project import Aggregate
from controller.reports import Repeated, Unbelieved
from controller.work_orders import is_outdated
from tests.unit.controller.world import SHELL, T0, World


def cause(type_: str, project: str = "shop", **changes: Any) -> CommandCause:
    whole = CommandCause("c", type_, "k", "ana", "cli", project, T0, "h", msgspec.Raw(b"{}"))
    return msgspec.structs.replace(whole, **changes)


def draft_of(world: World) -> Draft:
    return Draft(world.project, TimerCause("test"), world.context(), None)


# ── decide ──


def test_a_command_that_could_not_be_read_is_refused_with_its_code_and_named_as_far_as_it_goes() -> None:
    world = World()
    bad = BadCommand(Reason.INVALID_PAYLOAD, "pause: expected an object")
    decision = decide_command(world.project, cause("pause"), bad, world.context())

    assert decision.action is not None
    assert (decision.action.status, decision.action.reason_code, decision.action.message) == (
        ActionStatus.REFUSED,
        "validation_invalid_payload",
        "pause: expected an object",
    )
    assert decision.events == ()


def test_a_flag_that_is_off_is_said_before_what_is_wrong_with_the_command() -> None:
    world = World()
    world.do(c.FlagSet("cp.runtime_controls", False))
    bad = BadCommand(Reason.INVALID_PAYLOAD, "pause: expected an object")
    decision = decide_command(world.project, cause("pause"), bad, world.context())

    assert decision.action is not None
    assert (decision.action.reason_code, decision.action.message) == ("validation_feature_disabled", "flag cp.runtime_controls is off")


@pytest.mark.parametrize(
    ("flag", "commands"),
    [
        ("cp.launch", [c.Launch("shop-d1", "n1", overrides=SHELL)]),
        (
            "cp.runtime_controls",
            [
                c.Pause("shop-o1"),
                c.Resume("shop-o1"),
                c.Cancel("shop-o1"),
                c.Retry("shop-o1"),
                c.GateApprove("shop-o1"),
                c.GateReject("shop-o1", "x"),
            ],
        ),
        ("cp.policy_reconfiguration", [c.PolicySet("shop-o1", {"flow": {"run_timeout_s": 9}}, 1), c.RoleModelSet("shop-o1", "planner", "opus", 1)]),
        (
            "cp.task_reconfiguration",
            [
                c.TaskEdit("shop-o1", "1", 1, 1, "x"),
                c.TaskModelSet("shop-o1", "1", 1, 1, "opus"),
                c.TaskSkip("shop-o1", "1", 1, 1),
                c.TaskInsert("shop-o1", "1", 0, "x", (), 1),
            ],
        ),
    ],
)
def test_each_flag_turns_off_its_commands_and_no_other_and_they_are_the_ones_that_need_a_reason(flag: str, commands: list[c.Command]) -> None:
    off, strict = World(), World()
    off.do(c.FlagSet(flag, False))
    strict.do(c.FlagSet("require_reason", True))
    for command in commands:
        assert off.do(command).message == f"flag {flag} is off"
        assert strict.do(command).reason_code == "validation_missing_field"
        assert strict.do(command, reason="because").reason_code != "validation_missing_field"
    assert off.do(c.TicketAdd("shop", "x")).status == "completed"
    assert strict.do(c.TicketAdd("shop", "x")).status == "completed"


@pytest.mark.parametrize(
    "command", [c.NodeCordon("n1"), c.NodeDrain("n1"), c.NodeUncordon("n1"), c.FlagSet("cp.launch", True), c.FlagRollback("plane-a1")]
)
def test_under_require_reason_what_is_done_to_nodes_and_flags_needs_one_too(command: c.Command) -> None:
    world = World(launch=False)
    world.do(c.FlagSet("require_reason", True))

    assert world.do(command, reason="  ").reason_code == "validation_missing_field"
    assert world.do(command, reason="because").reason_code != "validation_missing_field"


def test_a_command_that_came_for_another_project_than_it_is_about_is_refused() -> None:
    world = World()
    command = c.TicketMove("shop-t1", c.TicketStatus.DONE)
    decision = decide_command(world.project, cause("ticket-move", "tool"), command, world.context())

    assert decision.action is not None
    assert decision.action.reason_code == "validation_invalid_payload"
    assert decision.action.message == "the command came for project tool and is about project shop"
    assert decision.action.ticket == "shop-t1"


def test_a_project_that_is_not_there_is_refused_with_those_that_are() -> None:
    nothing = Context(T0, b"0" * 16, Aggregate(PLANE))
    decision = decide_command(Aggregate(PLANE), cause("ticket-add", "nope"), c.TicketAdd("nope", "x"), nothing)

    assert decision.action is not None
    assert decision.action.message == "there is no project nope; known: none"


def test_a_refusal_names_what_it_is_about_as_far_as_the_command_says() -> None:
    world = World()
    named = [
        world.do(command)
        for command in (
            c.TaskSkip("shop-o1", "1", 3, 1),
            c.Retry("shop-o1"),
            c.NodeCordon("x" * 200),
            c.DesignMark("shop-d9", "x"),
            c.TicketEdit("shop-t9"),
        )
    ]

    assert [(r.orchestration, r.task, r.node, r.design, r.ticket) for r in named] == [
        ("shop-o1", "1.3", None, None, None),
        ("shop-o1", None, None, None, None),
        (None, None, "x" * 100, None, None),
        (None, None, None, "shop-d9", None),
        (None, None, None, None, "shop-t9"),
    ]


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b'{"orchestration":"shop-o1","phase":"1","task":3,"subject":""}', ("shop-o1", "1.3")),
        (b'{"orchestration":"shop-o1","phase":1,"task":"3"}', ("shop-o1", None)),
        (b'{"orchestration":"shop-o1","phase":"1","task":true}', ("shop-o1", None)),
        (b'{"orchestration":"shop-o1","phase":"1","task":123456789012345678901}', ("shop-o1", None)),
        (b'{"orchestration":["shop-o1"]}', (None, None)),
        (b'["shop-o1"]', (None, None)),
        (b"{", (None, None)),
    ],
)
def test_a_command_whose_body_is_wrong_is_recorded_at_what_it_is_about(body: bytes, named: tuple[str | None, str | None]) -> None:
    world = World()
    bad = BadCommand(Reason.MISSING_FIELD, "task-edit: subject is blank")
    action = decide_command(world.project, cause("task-edit", body=msgspec.Raw(body)), bad, world.context()).action

    assert action is not None
    assert (action.orchestration, action.task) == named


def test_a_new_installation_turns_its_flags_on_once_and_for_good() -> None:
    first = decide_first_flags(Aggregate(PLANE), Context(T0, b"0" * 16, Aggregate(PLANE)))
    assert first is not None
    assert first.events == tuple(e.FlagChanged(flag.value, True, False) for flag in FLAGS_ON_AT_FIRST)
    assert (first.cause, first.at) == (TimerCause("first-start"), T0)
    world = World()

    assert decide_first_flags(world.states[PLANE], world.context()) is None
    assert decide_first_flags(Aggregate(PLANE, at=T0), world.context()) is None
    assert decide_first_flags(msgspec.structs.replace(Aggregate(PLANE), flags=world.states[PLANE].flags), world.context()) is None


def test_a_beat_registers_a_node_once_and_again_only_when_it_describes_itself_differently() -> None:
    world = World()
    beat = Beat(1, "beat", "n2", "boot", T0, 3, {"gpu": "yes"}, (AgentOffer("shell", "1", ("shell",)),))
    first = decide_beat(world.states[PLANE], beat, world.context())
    assert first is not None
    world._append(PLANE, first)
    node = world.states[PLANE].nodes["n2"]
    assert (node.capacity, node.labels, node.registered_at, node.cordoned, node.draining) == (3, {"gpu": "yes"}, first.at, False, False)
    world.do(c.NodeDrain("n2"))
    world.now += timedelta(hours=1)
    assert decide_beat(world.states[PLANE], beat, world.context()) is None
    again = decide_beat(world.states[PLANE], msgspec.structs.replace(beat, capacity=9), world.context())
    assert again is not None
    world._append(PLANE, again)
    after = world.states[PLANE].nodes["n2"]

    assert (after.capacity, after.registered_at, after.cordoned, after.draining) == (9, node.registered_at, True, True)


def test_a_body_or_tickets_that_are_too_large_are_refused_with_their_size_and_the_limit() -> None:
    world = World(launch=False)
    assert world.do(c.DesignAdd("shop", "T", "ä" * 102_401)).message == "the body has 204802 bytes; at most 204800"
    assert world.do(c.DesignEdit("shop-d1", body="ä" * 102_400)).status == "completed"
    assert world.do(c.DesignEdit("shop-d1", body="ä" * 102_401)).reason_code == "validation_too_large"
    world.do(c.DesignEdit("shop-d1", body="## Phase 1\n"))
    for _ in range(8):
        world.do(c.TicketAdd("shop", "t" * 10, "x" * (16 * 1024 - 10)))
    world.do(c.TicketAdd("shop", "ä", ""))
    names = tuple(f"shop-t{n}" for n in range(1, 10))
    too_large = world.do(c.Launch("shop-d1", "n1", overrides=SHELL, tickets=names))

    assert too_large.message == "the texts of the tickets have 131074 bytes together; at most 131072"
    assert world.do(c.Launch("shop-d1", "n1", overrides=SHELL, tickets=names[:-1])).status == "accepted"


def test_a_dry_run_says_what_would_be_and_shows_a_change_only_of_what_is_there() -> None:
    world = World(overrides={"flow": {"human_gates": ["plan"]}})
    world.finish()
    edited = world.preview(c.TaskEdit("shop-o1", "1", 1, 1, "new"))
    assert edited.diff is not None
    assert [(change.path, change.before, change.after) for change in edited.diff.changes] == [("1.1.subject", "task 1", "new")]
    assert edited.diff.queue_before == edited.diff.queue_after == ("1.1", "1.2")
    assert world.preview(c.TaskEdit("shop-o1", "1", 9, 1, "new")).diff is None
    assert world.preview(c.TaskEdit("shop-o9", "1", 9, 1, "new")).diff is None
    assert world.preview(c.TicketAdd("shop", "x")).diff is None
    cause_ = TimerCause("x")
    with pytest.raises(AssertionError):
        preview(
            world.project, msgspec.structs.replace(decide_command(world.project, cause("resume"), c.Resume("shop-o1"), world.context()), cause=cause_)
        )


# ── reports ──


def test_a_late_start_of_an_older_attempt_is_only_acknowledged() -> None:
    world = World()
    first = world.only("init")
    world.fail(first)
    before = len(world.ledger)

    assert world.start(first) == Repeated()
    assert world.withdraw(first) == Repeated()
    assert len(world.ledger) == before


def test_what_is_not_believed_says_why() -> None:
    world = World()
    run = world.only("init")
    started = Started(1, "boot", "claim", T0)

    assert world.report(run, started, "started", run="shop-o1-r9") == Unbelieved("no run shop-o1-r9 was ordered")
    assert world.report(run, started, "started", run="shop-o9-r1") == Unbelieved("no run shop-o9-r1 was ordered")
    assert world.report(run, started, "started", node="n2") == Unbelieved("attempt 1 of shop-o1-r1 was not ordered from n2 with this nonce")


def test_a_start_says_how_long_the_order_waited_and_never_less_than_nothing() -> None:
    world = World()
    world.now += timedelta(seconds=2)
    world.start(world.only("init"))

    assert [event.queue_ms for event in world.events(e.RunStarted)] == [2001.0]


# ── progress ──


def test_a_result_of_a_task_that_was_taken_out_meanwhile_is_recorded_and_changes_no_task() -> None:
    for kind in ("task", "task-review"):
        world = World()
        run = world.until(kind)
        phase = world.o.current()
        skipped = tuple(msgspec.structs.replace(task, status=TaskStatus.SKIPPED) for task in phase.tasks)
        o = with_phase(world.o, msgspec.structs.replace(phase, tasks=skipped))
        world.states["shop"] = msgspec.structs.replace(world.project, orchestrations=world.project.orchestrations.insert(o.id, o))
        decision = world.end(run, TaskResult("c0", "h") if kind == "task" else None)

        assert e.TaskMoved not in [type(event) for event in decision.events]
        assert [task.status for task in world.o.current().tasks] == ["skipped", "skipped"]


def test_a_head_that_stands_already_moves_nothing() -> None:
    world = World(check="x")
    run = world.until("verify")
    decision = world.end(run, head=world.o.heads[-1])

    assert e.HeadsMoved not in [type(event) for event in decision.events]


def test_a_result_that_no_kind_of_run_gives_is_a_bug_and_said_so() -> None:
    world = World()
    run = world.until("validate")
    draft = draft_of(world)
    ended = Ended(1, Outcome.SUCCEEDED, T0, result=TaskResult("a", "b"))

    with pytest.raises(AssertionError, match="let a result of the wrong kind through"):
        progress.run_ended(draft, world.o, run, ended)


def test_nothing_goes_on_while_another_hold_still_stops_it() -> None:
    world = World()
    world.until("plan")
    world.do(c.Pause("shop-o1"))
    for run in world.open():
        world.withdraw(run)
    draft = draft_of(world)
    progress.resume(draft, world.o)

    assert draft.events == []


def test_a_task_that_is_not_there_is_not_blocked() -> None:
    world = World()
    world.until("task")
    for phase, number in (("1", 99), ("9", 1)):
        draft = draft_of(world)
        tasks.block(draft, world.o, phase, number, "x", "y")

        assert draft.events == []


def test_an_end_withdraws_what_was_held_and_leaves_what_may_be_running_to_its_report() -> None:
    world = World(overrides={"flow": {"max_parallel_tasks": 2}})
    world.end(world.until("plan"), PlanResult((PlannedTask(1, "a"), PlannedTask(2, "b"))))
    first, second = world.open()
    world.start(first)
    held = msgspec.structs.replace(world.o, runs=tuple(msgspec.structs.replace(run, held=run.id == second.id) for run in world.o.runs))
    world.states["shop"] = msgspec.structs.replace(world.project, orchestrations=world.project.orchestrations.insert("shop-o1", held))
    draft = draft_of(world)
    standing.move(draft, world.o, OrchestrationStatus.FAILED, code=Reason.INTERNAL)

    withdrawn = [event for event in draft.events if isinstance(event, e.RunWithdrawn)]
    assert [(event.orchestration, event.run, event.attempt) for event in withdrawn] == [("shop-o1", second.id, 1)]


def test_a_change_of_a_task_in_another_phase_than_the_one_that_stands_starts_nothing() -> None:
    world = World(phases=2, overrides={"flow": {"human_gates": ["plan"]}})
    world.finish()
    phase = world.o.find_phase("2")
    assert phase is not None
    o = with_phase(world.o, msgspec.structs.replace(phase, status=e.PhaseStatus.PLANNED, tasks=(Task(1, "x"),)))
    world.states["shop"] = msgspec.structs.replace(world.project, orchestrations=world.project.orchestrations.insert(o.id, o))
    receipt = world.do(c.TaskEdit("shop-o1", "2", 1, 1, "new"))
    _, message = world.ledger[-1]

    assert (receipt.status, receipt.task, receipt.revision) == ("completed", "2.1", 2)
    assert [type(event) for event in message.decisions[0].events] == [e.TaskEdited, e.ActionCompleted]


def test_a_review_that_is_under_way_is_not_ordered_twice() -> None:
    world = World(overrides={"model": {"review_consensus": True}, "flow": {"max_task_attempts": 1}})
    world.until("review")
    first, second = world.open("review")
    world.start(first)
    world.fail(second)
    world.do(c.Retry("shop-o1"))

    assert world.open("review")[0].id == first.id
    assert [run.reviewer for run in world.open("review")] == ["primary", "secondary"]


# ── values ──


def test_a_task_in_a_phase_that_is_not_there_is_not_put_anywhere() -> None:
    world = World()

    assert with_task(world.o, "7", Task(1, "x")) == world.o


def test_policies_differ_in_words_that_name_the_field_and_both_values() -> None:
    before = Policy()
    after = msgspec.structs.replace(
        before,
        model=ModelPolicy(review_consensus=True),
        flow=msgspec.structs.replace(before.flow, phases_enabled=(1, 3), budget_usd=2.5, human_gates=()),
    )

    assert plan.differences(before, after) == [
        ("model.review_consensus", "false", "true"),
        ("flow.phases_enabled", "none", "1,3"),
        ("flow.budget_usd", "none", "2.5"),
    ]
    gates = msgspec.structs.replace(before, flow=msgspec.structs.replace(before.flow, human_gates=("plan",)))
    assert plan.differences(gates, before) == [("flow.human_gates", "plan", "none")]


def test_an_order_is_outdated_when_policy_or_node_went_on_without_it() -> None:
    world = World()
    run = world.only("init")

    assert not is_outdated(world.o, run)
    assert is_outdated(msgspec.structs.replace(world.o, node="n2"), run)
    assert is_outdated(msgspec.structs.replace(world.o, policy_revision=2), run)
    assert not is_outdated(world.o, msgspec.structs.replace(run, policy_revision=2))


@pytest.mark.parametrize(("id_", "key"), [("shop-o12", ("shop", 12)), ("my-shop-d3", ("my-shop", 3)), ("n1", ("", 0)), ("shop-ox", ("shop", 0))])
def test_ids_are_sorted_by_project_and_number(id_: str, key: tuple[str, int]) -> None:
    assert projections.number(id_) == (key if id_ != "n1" else ("", 1))


def test_views_show_holds_and_gates_and_what_a_node_runs_only_while_it_is_seen() -> None:
    world = World(overrides={"flow": {"human_gates": ["plan"]}})
    assert projections.gate(world.o) is None
    world.finish()
    gate, view = projections.gate(world.o), projections.orchestration(world.o, "7.1")
    assert gate is not None
    assert (gate.gate, gate.phase, gate.subject, gate.feature) == ("plan", "1", "plan of phase 1:\n1. task 1\n2. task 2", "Basket")
    assert view.hold is not None
    assert (view.hold.kind, view.hold.reason, view.position, view.plan, view.active_policy) == (
        "gate",
        "gate plan waits for an operator",
        "7.1",
        (),
        None,
    )
    node = world.states[PLANE].nodes["n1"]
    beat = Beat(1, "beat", "n1", "boot", T0, 4, running=(RunningAttempt("shop-o1-r2", 1),))

    assert projections.node(node, beat, True, T0).running == ("shop-o1-r2.1",)
    assert projections.node(node, beat, False, T0).running == ()
    assert projections.node(node, None, True, None).running == ()


def test_of_several_holds_the_one_is_shown_that_comes_first_in_their_order() -> None:
    world = World()
    world.do(c.Pause("shop-o1"))
    blocked = e.HoldSet(orchestration="shop-o1", hold=HoldKind.BLOCKED, reason="x")
    draft = draft_of(world)
    draft.emit(blocked)
    shown = draft.orchestration("shop-o1").shown_hold()

    assert shown is not None
    assert shown.kind is min((HoldKind.PAUSING, HoldKind.BLOCKED), key=list(HoldKind).index)
