"""Which of several: nodes, models, reviewers, words, limits. Where two things are alike but for one, the core takes the right one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from bus_schemas import commands as c
from bus_schemas import events as e
from bus_schemas.decisions import CommandCause, Decision, TimerCause
from bus_schemas.entities import Node, Project
from bus_schemas.events import HoldKind
from bus_schemas.ids import PLANE, NodeId, ProjectId
from bus_schemas.orders import Issue
from bus_schemas.policy import Policy
from bus_schemas.reasons import Reason
from bus_schemas.reports import (
    Ended,
    Finding,
    InitResult,
    Outcome,
    PlannedTask,
    PlanResult,
    ReviewResult,
    TaskResult,
    Usage,
    ValidateResult,
    Verdict,
    VerifyResult,
)
from bus_schemas.routing import AgentOffer
from controller import placement, plan, tasks
from controller.decide import decide_command
from controller.draft import Refused
from controller.leases import Disowned, Drained, Due, Lost
from controller.orchestration import Phase, Task
from controller.work_orders import ISSUES_BYTES_MAX, order_of, stop_of, stops
from tests.unit.controller.world import SHELL, T0, World


def flow(**fields: Any) -> dict[str, Any]:
    return {"flow": fields}


def gaps(*texts: str) -> ReviewResult:
    return ReviewResult(Verdict.GAPS, tuple(Finding(text) for text in texts))


def planned(world: World, *tasks: PlannedTask) -> None:
    world.end(world.until("plan"), PlanResult(tasks))


def node(name: str, capacity: int = 1, *models: str, cordoned: bool = False) -> Node:
    return Node(NodeId(name), capacity=capacity, agents=(AgentOffer("shell", "1", models or ("shell",)),), cordoned=cordoned)


# ── nodes ──


@pytest.mark.parametrize(
    ("nodes", "load", "chosen"),
    [
        ([], {}, None),
        ([node("b"), node("a")], {}, "a"),
        ([node("a"), node("b")], {"a": 1}, "b"),
        ([node("a", 2), node("b", 4)], {"a": 1, "b": 1}, "b"),
        ([node("a", 4), node("b", 1)], {"a": 3}, "b"),
        ([node("a", 4), node("b", 1)], {"a": 3, "b": 1}, "a"),
        ([node("a", 0), node("b", 2)], {"a": 1, "b": 1}, "b"),
        ([node("a", 1), node("b", 2)], {"a": 1, "b": 1}, "b"),
        ([node("a", 0), node("b", 4)], {"a": 1, "b": 3}, "b"),
    ],
)
def test_the_node_with_the_fewest_open_runs_for_its_capacity_is_chosen(nodes: list[Node], load: dict[str, int], chosen: str | None) -> None:
    found = placement.least_loaded(nodes, load)

    assert (None if found is None else found.id) == chosen


def test_the_rest_of_an_orchestration_needs_the_models_of_its_policy_and_of_tasks_that_are_not_done() -> None:
    world = World(overrides={"flow": {"max_parallel_tasks": 1}, "review": {"enforcement": "phase_only"}})
    planned(world, PlannedTask(1, "a", model="opus"), PlannedTask(2, "b", model="haiku"), PlannedTask(3, "c"))
    assert placement.models_needed(world.o, world.o.active_policy) == ("shell", "opus", "haiku")
    world.step()

    assert placement.models_needed(world.o, world.o.active_policy) == ("shell", "haiku")


def test_elsewhere_is_another_node_without_cordon_that_offers_everything() -> None:
    o = World().o
    fits, own, closed, other = node("n3"), node("n1"), node("n2", cordoned=True), node("n4", 9, "opus")

    assert placement.elsewhere(o, [own, closed, other], {}) is None
    assert placement.elsewhere(o, [own, closed, other, fits], {}) == fits


def test_a_launch_on_auto_takes_the_least_loaded_node_and_says_all_that_no_node_offers() -> None:
    world = World(launch=False)
    world.add_node("n2")
    context = msgspec.structs.replace(world.context(), load={"n1": 3})
    cause = CommandCause("c", "launch", "k", "ana", "cli", "shop", T0, "h", msgspec.Raw(b"{}"))
    decision = decide_command(world.project, cause, c.Launch("shop-d1", "auto", overrides=SHELL), context)
    assert decision.action is not None
    assert decision.action.node == "n2"
    world.add_node("n3", "opus")
    world.add_node("n4", "haiku")
    world.online = {"n3", "n4"}
    mixed = {"model": {**dict.fromkeys(SHELL["model"], "opus"), "executor": "haiku"}}
    assert world.do(c.Launch("shop-d1", "auto", overrides=mixed)).message == "no fitting node offers all of opus, haiku"
    assert world.do(c.Launch("shop-d1", "n3", overrides={"model": {**mixed["model"], "planner": "haiku"}})).message == (
        "node n3 does not offer haiku; it offers opus"
    )


def test_a_move_orders_what_was_held_on_the_new_node_and_says_why() -> None:
    world = World()
    world.until("plan")
    world.do(c.Pause("shop-o1"))
    world.withdraw(world.only("plan"))
    world.add_node("n2")
    world.duty(Drained("shop-o1", "n1"))

    assert world.only("plan").node == "n2"
    assert [(event.node, event.previous, event.reason) for event in world.events(e.NodeAssigned)] == [("n2", "n1", "node n1 is drained")]


def test_a_retry_of_what_a_lost_node_held_says_why_it_moved_and_keeps_the_error_before() -> None:
    world = World(overrides=flow(max_task_attempts=5))
    world.fail(world.until("task"))
    run = world.only("task")
    world.start(run)
    world.online.clear()
    world.duty(Lost("shop-o1", "n1"))
    assert world.do(c.Retry("shop-o1")).message == "node n1 is offline, and no other online node offers shell"
    world.add_node("n2")
    world.do(c.Retry("shop-o1"))
    again = world.only("task")

    assert (again.node, again.previous_error) == ("n2", "it failed")
    assert world.events(e.NodeAssigned)[-1].reason == "retried by ana while node n1 was lost"


def test_every_model_that_no_other_node_offers_is_named() -> None:
    world = World(overrides={"model": {"executor": "opus"}})
    world.start(world.only("init"))
    world.online.clear()
    world.duty(Lost("shop-o1", "n1"))

    assert world.do(c.Retry("shop-o1")).message.endswith("no other online node offers shell, opus")


@pytest.mark.parametrize("command", [c.Pause("shop-o1"), c.Cancel("shop-o1")])
def test_while_it_is_stopped_a_lost_node_gives_nothing_up_by_itself(command: c.Command) -> None:
    world = World(overrides=flow(on_node_loss="retry"))
    world.start(world.only("init"))
    world.do(command)
    world.online.clear()
    decision = world.duty(Lost("shop-o1", "n1"))

    assert decision is not None
    assert [type(event) for event in decision.events] == [e.HoldSet]


def test_an_attempt_that_its_node_does_not_know_completes_a_pause_that_waited_for_it() -> None:
    world = World()
    run = world.only("init")
    world.start(run)
    pause = world.do(c.Pause("shop-o1"))
    world.duty(Disowned(run.id, 1))

    assert world.holds == {"paused"}
    assert world.project.actions[pause.action].status == "completed"


def test_losses_that_use_up_the_attempts_block_with_the_code_of_the_loss() -> None:
    world = World(overrides=flow(max_task_attempts=1))
    world.start(world.until("plan"))
    world.duty(Disowned(world.only("plan").id, 1))

    assert [(hold.kind, hold.reason_code, hold.reason) for hold in world.o.holds] == [
        ("blocked", "dispatch_node_lost", "plan (shop-o1-r3) failed 1 times: node n1 does not know this attempt any more")
    ]


# ── money and time ──


def test_a_hold_ends_at_its_very_time_and_not_before() -> None:
    world = World()
    run = world.until("plan")
    world.fail(run, "execution_quota_exhausted", resets_at=world.now + timedelta(milliseconds=3))
    assert world.duty(Due("shop-o1")) is None

    assert world.duty(Due("shop-o1")) is not None
    assert world.holds == set()


@pytest.mark.parametrize(
    ("usage", "field"),
    [(Usage(6, 4), "budget_tokens"), (Usage(1, 1, 0.5), "budget_usd"), (Usage(60, 40, 0.5), "budget_usd"), (Usage(6, 4, 0.4), "budget_tokens")],
)
def test_the_budget_that_is_reached_is_the_one_to_raise(usage: Usage, field: str) -> None:
    world = World(overrides=flow(budget_usd=0.5, budget_tokens=10))
    world.end(world.only("init"), usage=usage)

    assert world.holds == {"budget"}
    assert f"flow.{field}=N" in world.do(c.Resume("shop-o1")).message


def test_a_budget_that_is_set_below_what_was_spent_holds_before_the_next_run_and_a_raise_and_resume_end_it() -> None:
    world = World(overrides=flow(human_gates=["plan"]))
    world.end(world.only("init"), usage=Usage(6, 4, 0.5))
    world.finish()
    world.do(c.PolicySet("shop-o1", {"flow": {"budget_usd": 0.2}}, 1))
    assert world.holds == {"gate", "budget"}
    world.do(c.GateApprove("shop-o1"))
    assert world.open("task") == []
    world.do(c.PolicySet("shop-o1", {"flow": {"budget_usd": 0.4}}, 2))
    assert world.do(c.Resume("shop-o1")).status == "refused"
    world.do(c.PolicySet("shop-o1", {"flow": {"budget_usd": 0.9}}, 3))
    world.do(c.Resume("shop-o1"))
    assert (world.holds, len(world.open("task"))) == (set(), 1)


def test_below_its_budget_nothing_holds() -> None:
    world = World(overrides=flow(budget_usd=0.5, budget_tokens=10))
    world.end(world.only("init"), usage=Usage(5, 4, 0.49))

    assert world.holds == set()


def test_a_quota_of_a_run_without_a_model_is_the_agents_and_its_detail_is_cut() -> None:
    world = World()
    world.end(world.only("init"), None, Outcome.FAILED, reason_code="execution_quota_exhausted", detail="x" * 600)

    assert world.o.holds[0].reason == "the quota of the agent is used up: " + "x" * 500


# ── what an attempt is told ──


def failed_once() -> World:
    world = World(overrides=flow(max_task_attempts=9))
    world.fail(world.until("task"))
    assert world.only("task").previous_error == "it failed"
    return world


def test_the_error_of_the_attempt_before_is_kept_through_everything_that_is_not_an_attempt() -> None:
    stopped, withdrawn, quota, held = failed_once(), failed_once(), failed_once(), failed_once()
    stopped.do(c.Pause("shop-o1", c.PauseMode.STOP))
    stopped.fail(stopped.only("task"), "dispatch_cancelled", Outcome.CANCELLED)
    withdrawn.withdraw(withdrawn.only("task"))
    quota.fail(quota.only("task"), "execution_quota_exhausted")
    held.do(c.Pause("shop-o1"))
    held.withdraw(held.only("task"))
    held.do(c.Resume("shop-o1"))

    assert [world.only("task").previous_error for world in (stopped, withdrawn, quota, held)] == ["it failed"] * 4


def test_an_attempt_that_fails_without_a_word_is_known_by_its_code() -> None:
    world = World(overrides=flow(max_task_attempts=9))
    world.end(world.until("task"), None, Outcome.FAILED, reason_code="dispatch_timeout")

    assert world.only("task").previous_error == "dispatch_timeout"


def test_a_second_attempt_is_by_the_same_reviewer() -> None:
    world = World(overrides={"model": {"review_consensus": True, "reviewer_secondary": "haiku"}})
    world.until("review")
    world.fail(world.open("review")[1])
    again = world.open("review")[1]

    assert (again.reviewer, again.role, again.model, again.attempt) == ("secondary", "reviewer_secondary", "haiku", 2)


def test_a_second_attempt_has_the_model_of_its_task_and_another_run_has_that_of_its_role() -> None:
    world = World(overrides=flow(max_parallel_tasks=1))
    planned(world, PlannedTask(1, "a", model="opus"), PlannedTask(2, "b"))
    world.fail(world.only("task"))
    assert world.only("task").model == "opus"
    world.end(world.only("task"))
    world.fail(world.only("task-review"))

    assert (world.only("task-review").model, world.only("task-review").attempt) == ("shell", 2)


def test_a_task_whose_result_is_malformed_has_as_many_attempts_as_any_and_a_plan_has_two() -> None:
    world = World(overrides=flow(max_task_attempts=4))
    task = world.until("task")
    for _ in range(3):
        world.fail(world.only("task"), "execution_output_malformed")
    assert (world.only("task").id, world.only("task").attempt) == (task.id, 4)
    other = World(overrides=flow(max_task_attempts=4))
    other.until("plan")
    other.fail(other.only("plan"), "execution_output_malformed")
    other.fail(other.only("plan"), "execution_output_malformed")

    assert other.holds == {"blocked"}


def test_heads_that_two_reviewers_leave_are_both_kept() -> None:
    world = World(overrides={"model": {"review_consensus": True}})
    world.until("review")
    first, second = world.open("review")
    world.end(first, head="left-by-one")
    world.end(second, head="left-by-two")

    assert world.o.heads == ("left-by-one", "left-by-two")


# ── orders ──


def order(world: World, kind: str, **project: Any) -> Any:
    run = world.until(kind)
    known = Project(ProjectId("shop"), "Shop", "/repo", **project)
    return order_of(world.project, known, world.o, run, T0)


def test_an_order_names_the_default_branch_of_the_project_as_it_is_now() -> None:
    assert order(World(), "init", default_branch="trunk").workspace.default_branch == "trunk"


def test_issues_that_do_not_fit_are_cut_at_a_whole_character_and_then_left_out() -> None:
    world = World()
    texts = ("ä" * 8_000, "x" * (ISSUES_BYTES_MAX - 4 * 16_000 - 1), "ä" * 8_000, "ä" * 8_000, "ä" * 8_000, "ä" * 10, "no more")
    world.end(world.until("review"), gaps(*texts))
    issues = order(world, "plan").inputs.issues

    assert [len(issue.text) for issue in issues] == [8_000, 1_535, 8_000, 8_000, 8_000]
    assert sum(len(issue.text.encode()) for issue in issues) == ISSUES_BYTES_MAX - 1
    whole = World()
    whole.end(whole.until("review"), gaps("ä" * 8_000, "ä" * 8_000, "ä" * 8_000, "x", "ä" * 8_000, "ä" * 1_000))
    assert [len(issue.text) for issue in order(whole, "plan").inputs.issues] == [8_000, 8_000, 8_000, 1, 8_000, 767]


def test_a_remediation_phase_counts_as_a_repair_of_its_main_phase() -> None:
    world = World()
    run = world.until("plan")
    alone = msgspec.structs.replace(world.o, phases=(Phase("1.5"),))
    project = Project(ProjectId("shop"), "Shop", "/repo")

    assert order_of(world.project, project, alone, msgspec.structs.replace(run, phase="1.5"), T0).inputs.repair == 1


def test_only_a_pause_that_stops_and_a_cancel_stop_what_runs() -> None:
    drain, stop, cancel, blocked = World(), World(), World(), World()
    for world in (drain, stop, cancel, blocked):
        world.start(world.only("init"))
    drain.do(c.Pause("shop-o1"))
    stop.do(c.Pause("shop-o1", c.PauseMode.STOP))
    cancel.do(c.Cancel("shop-o1"))
    hold = msgspec.structs.replace(stop.o.holds[0], kind=HoldKind.BLOCKED)

    assert [stops(world.o) for world in (drain, stop, cancel, blocked)] == [False, True, True, False]
    assert not stops(msgspec.structs.replace(blocked.o, holds=(hold,)))


# ── words and their limits ──


def test_texts_are_cut_where_their_limit_is() -> None:
    stopped = World()
    stopped.end(stopped.until("validate"), ValidateResult(Verdict.STOP, (Finding("x" * 3_000),)))
    assert stopped.o.holds[0].reason == "the validator says stop: " + "x" * 2_000
    silent = World()
    silent.end(silent.until("validate"), ValidateResult(Verdict.STOP))
    assert silent.o.holds[0].reason == "the validator says stop: no reason given"
    checked = World(check="x")
    checked.end(checked.until("verify"), VerifyResult(False, 2, "y" * 20_000))
    text = checked.o.current().issues[0].text
    assert (len(text), text[:20]) == (16_000, "the check exited 2:\n")
    failed = World()
    while failed.o.is_live:
        failed.end(failed.until("review"), gaps("z" * 3_000))
    assert failed.o.message == "phase 1.5.5 still has gaps: " + "z" * 2_000
    rejected = World(overrides=flow(human_gates=["finalize"]))
    rejected.finish()
    rejected.do(c.GateReject("shop-o1", "w" * 1_500))

    assert rejected.o.holds[0].reason == "finalize was rejected by ana: " + "w" * 1_000


def test_an_unusable_plan_is_told_to_the_next_attempt_as_far_as_it_fits() -> None:
    world = World()
    planned(world, *(PlannedTask(n, "x", depends_on=(n + 5000,)) for n in range(1, 200)))
    error = world.only("plan").previous_error or ""

    assert error.startswith("the plan cannot be used: task 1 depends on task 5001, which does not exist; task 2 depends")
    assert len(error) == 4_000


def test_gaps_without_a_finding_say_who_found_them() -> None:
    of_task, of_phase = World(), World()
    of_task.end(of_task.until("task-review"), gaps())
    of_phase.end(of_phase.until("review"), gaps())

    assert of_task.o.current().tasks[0].issues == (Issue("the reviewer found gaps and named none", "task-review"),)
    assert of_phase.o.current().issues == (Issue("the reviewer found gaps and named none", "review"),)


def test_the_end_of_an_attempt_is_kept_within_its_limits_and_output_only_of_what_failed() -> None:
    world = World()
    world.end(world.only("init"), None, Outcome.FAILED, reason_code="x", detail="d" * 5_000, tail="s" + "t" * 8_000)
    world.end(world.only("init"), tail="all well")
    first, second = world.events(e.RunEnded)

    assert (first.detail, first.tail) == ("d" * 4_000, "t" * 8_000)
    assert (second.tail, second.result) == ("", InitResult("c0", "/work/o1", "qd/basket"))


def test_a_retry_that_names_what_does_not_stand_is_told_what_does() -> None:
    world = World()
    world.end(world.until("validate"), ValidateResult(Verdict.STOP))
    assert world.do(c.Retry("shop-o1", "1")).message == "shop-o1 stands in no phase yet; only what failed there can be retried, not phase 1"
    assert world.do(c.Retry("shop-o1", "x" * 50)).message.endswith("not phase " + "x" * 20)
    none = world.do(c.Retry("shop-o1", task=1))

    assert (none.reason_code, none.message) == ("validation_entity_not_found", "there is no task 1 in the phase that shop-o1 stands in")


def test_a_refusal_keeps_at_most_twenty_characters_of_a_phase() -> None:
    receipt = World().do(c.TaskSkip("shop-o1", "x" * 50, 3, 1))

    assert receipt.task == "x" * 20 + ".3"


def test_a_hold_that_is_shown_first_says_what_helps() -> None:
    world = World(overrides=flow(human_gates=["plan"]))
    world.finish()
    world.do(c.Pause("shop-o1"))
    assert world.holds == {"gate", "paused"}
    shown = world.o.shown_hold()
    assert shown is not None
    message = world.do(c.Retry("shop-o1")).message

    assert message.endswith("; it is paused: `qd resume shop-o1`" if shown.kind is HoldKind.PAUSED else "--feedback TEXT`")


@pytest.mark.parametrize("kinds", [(HoldKind.PAUSED, HoldKind.GATE), (HoldKind.GATE, HoldKind.PAUSED), (HoldKind.BLOCKED, HoldKind.CANCELLING)])
def test_the_hold_that_is_shown_does_not_depend_on_which_came_first(kinds: tuple[HoldKind, ...]) -> None:
    world = World()
    world.do(c.Pause("shop-o1"))
    hold = world.o.holds[0]
    for order_ in (kinds, kinds[::-1]):
        o = msgspec.structs.replace(world.o, holds=tuple(msgspec.structs.replace(hold, kind=kind) for kind in order_))
        shown = o.shown_hold()
        assert shown is not None
        assert shown.kind is min(kinds, key=list(HoldKind).index)
    assert msgspec.structs.replace(world.o, holds=()).shown_hold() is None


def test_a_refusal_is_read_as_its_message() -> None:
    assert str(Refused(Reason.INVALID_STATE, "it is over")) == "it is over"


# ── the plan ──


def at_the_gate(*tasks: PlannedTask) -> World:
    world = World(overrides=flow(human_gates=["plan"]))
    planned(world, *tasks)
    return world


def changes_of(world: World, command: c.Command) -> list[tuple[str, str, str]]:
    diff = world.preview(command).diff
    assert diff is not None
    return [(change.path, change.before, change.after) for change in diff.changes]


def test_a_dry_run_of_an_insert_says_what_the_new_task_is_and_what_waits_for_it() -> None:
    world = at_the_gate(PlannedTask(1, "a", "first"), PlannedTask(2, "b", depends_on=(1,)))

    assert changes_of(world, c.TaskInsert("shop-o1", "1", 1, "c", (1,), 1, "between", "opus")) == [
        ("1.3.subject", "", "c"),
        ("1.3.description", "", "between"),
        ("1.3.model", "", "opus"),
        ("1.3.depends_on", "", "1"),
        ("1.2.depends_on", "1", "1,3"),
    ]


def test_a_dry_run_of_an_edit_says_every_text_and_of_a_skip_its_status() -> None:
    world = at_the_gate(PlannedTask(1, "a", "first"), PlannedTask(2, "b"))

    assert changes_of(world, c.TaskEdit("shop-o1", "1", 1, 1, "x", "y")) == [("1.1.subject", "a", "x"), ("1.1.description", "first", "y")]
    assert changes_of(world, c.TaskSkip("shop-o1", "1", 2, 1)) == [("1.2.status", "pending", "skipped")]
    assert changes_of(world, c.TaskModelSet("shop-o1", "1", 2, 1, "opus")) == [("1.2.model", "none", "opus")]


def test_a_dry_run_of_a_launch_shows_no_change_since_there_is_nothing_yet() -> None:
    receipt = World(launch=False).preview(c.Launch("shop-d1", "n1", overrides=SHELL))

    assert (receipt.status, receipt.orchestration, receipt.diff) == ("accepted", "shop-o1", None)


def test_an_edit_of_the_text_keeps_the_model_of_the_task() -> None:
    world = at_the_gate(PlannedTask(1, "a", "first", model="opus"))
    world.do(c.TaskEdit("shop-o1", "1", 1, 1, "x"))
    task = world.o.phases[0].tasks[0]
    assert (task.subject, task.description, task.model, task.revision) == ("x", "first", "opus", 2)
    world.do(c.TaskModelSet("shop-o1", "1", 1, 2))

    assert world.o.phases[0].tasks[0].model is None


def test_by_default_an_insert_blocks_only_tasks_behind_it() -> None:
    world = at_the_gate(PlannedTask(1, "a"), PlannedTask(2, "b"))
    world.do(c.TaskInsert("shop-o1", "1", 2, "c", (), 1, blocks=(1,)))
    world.do(c.TaskInsert("shop-o1", "1", 3, "d", (), 2))

    assert {task.number: task.depends_on for task in world.o.phases[0].tasks} == {1: (3,), 2: (), 3: (), 4: ()}


def test_a_change_of_policy_that_comes_too_late_is_told_all_that_the_other_set() -> None:
    world = World()
    first = world.do(c.PolicySet("shop-o1", {"flow": {"run_timeout_s": 7}}, 9))
    assert first.message == "the policy of shop-o1 is at revision 1, not 9; read it again"
    world.do(c.PolicySet("shop-o1", {"flow": {"run_timeout_s": 7, "max_parallel_tasks": 3}}, 1))

    assert world.do(c.PolicySet("shop-o1", {"flow": {"run_timeout_s": 8}}, 1)).message == (
        "the policy of shop-o1 is at revision 2, not 1 (shop-a4 set flow.max_parallel_tasks = 3, flow.run_timeout_s = 7); read it again"
    )


def test_every_model_that_the_node_does_not_offer_is_named_and_a_node_that_is_gone_offers_nothing() -> None:
    world = World(overrides=flow(human_gates=["plan"]))
    world.finish()
    both = c.PolicySet("shop-o1", {"model": {"planner": "gpt-9", "executor": "gpt-8"}}, 1)
    assert world.do(both).message == "node n1 does not offer gpt-9, gpt-8; it offers haiku, opus, shell"
    bare = msgspec.structs.replace(world.states[PLANE], nodes=type(world.states[PLANE].nodes)())
    context = msgspec.structs.replace(world.context(), plane=bare)
    for command in (both, c.TaskModelSet("shop-o1", "1", 1, 1, "opus")):
        cause = CommandCause("c", c.type_of(command), "k", "ana", "cli", "shop", T0, "h", msgspec.Raw(b"{}"))
        decision = decide_command(world.project, cause, command, context)
        assert decision.action is not None
        assert decision.action.message.endswith("it offers nothing")


def test_a_node_that_is_gone_makes_a_plan_with_a_model_of_its_own_unusable() -> None:
    assert tasks.unroutable((PlannedTask(1, "a", model="opus"), PlannedTask(2, "b")), None) == [
        "task 1 asks for model opus, which its node does not offer (it offers nothing)"
    ]


# ── the catalogue ──


def test_a_ticket_is_as_old_as_its_adding() -> None:
    world = World(launch=False)
    world.do(c.TicketAdd("shop", "Sum"))
    ticket = world.project.tickets["shop-t1"]
    assert ticket.created_at == ticket.updated_at == world.now
    world.do(c.TicketEdit("shop-t1", title="Total"))
    after = world.project.tickets["shop-t1"]

    assert (after.created_at, after.updated_at) == (ticket.created_at, world.now)


def test_all_moves_that_are_allowed_are_named() -> None:
    world = World(launch=False)
    world.do(c.DesignMove("shop-d1", c.DesignStatus.IN_REVIEW))

    assert (
        world.do(c.DesignMove("shop-d1", c.DesignStatus.ARCHIVED)).message
        == "shop-d1 cannot move from in_review to archived; allowed: approved, draft"
    )


def test_all_nodes_are_named_to_somebody_who_asks_for_another() -> None:
    world = World(launch=False)
    world.add_node("n2")
    assert world.do(c.NodeCordon("n9")).message == "there is no node 'n9'; known: n1, n2"
    bare = msgspec.structs.replace(world.states[PLANE], nodes=type(world.states[PLANE].nodes)())
    cause = CommandCause("c", "node-cordon", "k", "ana", "cli", PLANE, T0, "h", msgspec.Raw(b"{}"))
    decision = decide_command(bare, cause, c.NodeCordon("n9"), world.context())

    assert decision.action is not None
    assert decision.action.message == "there is no node 'n9'; known: none"


def test_a_rollback_records_what_the_flag_was_and_where_none_was_changed_says_so() -> None:
    world = World(launch=False)
    assert world.do(c.FlagRollback("plane-a1")).message == "action plane-a1 is not the last change of a flag; those are none"
    changed = world.do(c.FlagSet("require_reason", True))
    world.do(c.FlagRollback(changed.action), reason="y")

    assert [(event.flag, event.on, event.previous) for event in world.events(e.FlagChanged)[-2:]] == [
        ("require_reason", True, False),
        ("require_reason", False, True),
    ]


# ── values ──


@pytest.mark.parametrize(
    ("depends_on", "found"),
    [
        ({}, []),
        ({1: (), 2: (1,)}, []),
        ({1: (1,)}, [1, 1]),
        ({1: (2,), 2: (1,)}, [1, 2, 1]),
        ({1: (2,), 2: (3,), 3: (2,)}, [2, 3, 2]),
        ({1: (), 2: (1, 3), 3: (2,), 4: (3,)}, [2, 3, 2]),
        ({1: (9,)}, []),
    ],
)
def test_a_cycle_is_named_by_its_members(depends_on: dict[int, tuple[int, ...]], found: list[int]) -> None:
    assert plan.cycle(depends_on) == found


def test_a_place_is_the_order_of_a_task_and_nought_before_all() -> None:
    phase = Phase("1", tasks=(Task(1, "a", order=4), Task(2, "b", order=2)))

    assert [plan.place_of(phase, number) for number in (0, 1, 2, 9)] == [0, 4, 2, 0]
    assert [task.number for task in plan.waiting(phase)] == [2, 1]


def test_a_policy_like_the_one_before_differs_in_nothing() -> None:
    assert plan.differences(Policy(), Policy()) == []


# ── ends ──


def test_a_run_is_found_by_its_whole_id_whatever_its_project_is_called() -> None:
    o = World().o
    run = msgspec.structs.replace(o.runs[0], id="my-r2-o1-r1")
    named = msgspec.structs.replace(o, runs=(run,))

    assert named.run("my-r2-o1-r1") == run
    assert [named.run(wrong) for wrong in ("my-r2-o1-r2", "my-r2-o1-r0", "my-r2-o2-r1", "my-r2", "x")] == [None] * 5


def test_an_end_that_comes_after_its_orchestration_has_ended_is_recorded_and_stale() -> None:
    world = World()
    run = world.only("init")
    world.start(run)
    failed = e.OrchestrationMoved(orchestration="shop-o1", status=e.OrchestrationStatus.FAILED, previous=world.o.status)
    world._append("shop", Decision(at=world.now, cause=TimerCause("test"), events=(failed,)))
    decision = world.end(run, usage=Usage(1, 2, 0.5))
    ended, stale = decision.events

    assert (ended.outcome, ended.usage, stale.message) == (Outcome.SUCCEEDED, Usage(1, 2, 0.5), "shop-o1 is failed")


def test_the_stop_of_an_attempt_goes_to_the_node_that_has_it_with_its_own_nonce() -> None:
    world = World(overrides=flow(max_task_attempts=5))
    for _ in range(2):
        world.fail(world.until("task"))
    run = world.only("task")
    stop = stop_of(run, 2, T0)

    assert (stop.attempt, (stop.nonce, stop.node)) == (2, run.sent[1])
    assert len({nonce for nonce, _ in run.sent}) == 3


def test_a_cancel_at_a_gate_closes_it() -> None:
    world = World(overrides=flow(human_gates=["plan"]))
    world.finish()
    world.do(c.Cancel("shop-o1"))

    assert (world.status, world.o.gate, world.holds) == ("cancelled", None, set())


def test_an_attempt_that_hands_over_nothing_is_told_so() -> None:
    world = World()
    world.report(world.until("plan"), Ended(1, Outcome.SUCCEEDED, world.now))

    assert world.only("plan").previous_error == "the plan cannot be used: the result of a plan run is of the wrong kind: none"


def test_a_decision_is_never_older_than_the_one_before() -> None:
    world = World()
    before = world.project.at
    world.now = T0 - timedelta(days=1)
    world.do(c.TicketAdd("shop", "x"))

    assert world.project.at == before


def test_a_budget_holds_nothing_that_is_being_cancelled() -> None:
    world = World(overrides={"flow": {"budget_usd": 0.5}, "review": {"enforcement": "phase_only"}})
    planned(world, PlannedTask(1, "a"), PlannedTask(2, "b"))
    first, second = world.open("task")
    world.start(first)
    world.start(second)
    world.do(c.Cancel("shop-o1"))
    world.end(first, usage=Usage(1, 1, 9.0))

    assert world.holds == {"cancelling"}


def test_a_phase_that_is_planned_before_there_is_a_commit_has_no_base() -> None:
    world = World()
    planning = e.PhaseMoved(orchestration="shop-o1", phase="1", status=e.PhaseStatus.PLANNING)
    world._append("shop", Decision(at=world.now, cause=TimerCause("test"), events=(planning,)))

    assert world.o.phases[0].base is None


def test_a_drain_of_another_node_than_its_own_moves_nothing() -> None:
    world = World()
    world.add_node("n2")

    assert world.duty(Drained("shop-o1", "n2")) is None


def test_an_abandon_gives_up_what_started_and_leaves_what_waits_to_its_withdrawal() -> None:
    world = World(overrides=flow(max_parallel_tasks=2))
    planned(world, PlannedTask(1, "a"), PlannedTask(2, "b"))
    first, second = world.open("task")
    world.start(first)
    world.online.clear()
    world.duty(Lost("shop-o1", "n1"))
    world.do(c.Cancel("shop-o1", abandon=True))

    assert [run.id for run in world.open()] == [second.id]
    world.withdraw(second)
    assert world.status == "cancelled"


def test_a_task_that_left_no_commit_moves_no_head() -> None:
    world = World(overrides={"review": {"enforcement": "phase_only"}})
    run = world.until("task")
    decision = world.end(run, TaskResult("c0", "c0"), head="c0")

    assert e.HeadsMoved not in [type(event) for event in decision.events]
    assert world.o.heads == ("c0",)


def test_a_plan_that_is_rejected_skips_only_what_was_still_to_be_done() -> None:
    world = at_the_gate(PlannedTask(1, "a"), PlannedTask(2, "b"))
    world.do(c.TaskSkip("shop-o1", "1", 1, 1))
    world.do(c.GateReject("shop-o1", "again"))
    _, message = world.ledger[-1]

    assert [event.task for event in message.decisions[0].events if isinstance(event, e.TaskMoved)] == [2]
