"""The state machine, row by row (domain §6)."""

from __future__ import annotations

import pytest

from bus_schemas import commands as c
from bus_schemas import events as e
from bus_schemas.events import OrchestrationStatus as S
from bus_schemas.events import PhaseStatus, TaskStatus
from bus_schemas.orders import RunKind
from bus_schemas.reports import (
    FinalizeResult,
    Finding,
    Outcome,
    PlannedTask,
    PlanResult,
    ReviewResult,
    ValidateResult,
    Verdict,
    VerifyResult,
)
from controller.progress import TABLE
from controller.reports import Repeated, Unbelieved
from tests.unit.controller.world import GAPS, World


def plan(*tasks: PlannedTask) -> PlanResult:
    return PlanResult(tasks)


def flow(**fields: object) -> dict[str, object]:
    return {"flow": fields}


def test_a_design_of_two_phases_runs_to_complete_in_the_order_of_the_table() -> None:
    world = World(phases=2, check="make test")
    kinds = []
    while world.open():
        kinds.append(world.step().kind.value)

    phase = ["plan", "task", "task-review", "task", "task-review", "verify", "review"]
    assert ["init", "validate", *phase, *phase, "finalize"] == kinds
    assert world.status == "complete"
    assert world.project.live_slugs.get("basket") is None
    assert world.project.actions[world.o.action].status == "completed"


def test_a_launch_is_completed_by_the_end_of_init() -> None:
    world = World()
    assert world.project.actions[world.o.action].status == "accepted"
    world.step()

    assert world.project.actions[world.o.action].status == "completed"


def test_init_that_fails_twice_fails_the_orchestration_and_the_launch() -> None:
    world = World()
    world.fail(world.only("init"))
    assert world.only("init").attempt == 2
    world.fail(world.only("init"))

    assert (world.status, world.o.reason_code) == ("failed", "execution_init_failed")
    assert world.project.actions[world.o.action].status == "failed"
    assert world.project.live_slugs.get("basket") is None


def test_a_warning_of_the_validator_is_recorded_and_goes_on() -> None:
    world = World()
    world.end(world.until("validate"), ValidateResult(Verdict.WARNING, (Finding("thin"),)))

    assert world.status == "planning"
    assert world.events(e.ValidationRecorded)[0].verdict is Verdict.WARNING


def test_a_stop_of_the_validator_blocks_until_a_retry_validates_again() -> None:
    world = World()
    world.end(world.until("validate"), ValidateResult(Verdict.STOP, (Finding("no tests"),)))
    assert (world.status, world.holds) == ("validating", {"blocked"})
    assert "no tests" in world.o.holds[0].reason
    receipt = world.do(c.Retry("shop-o1"))
    assert receipt.status == "accepted"
    world.start(world.only("validate"))

    assert world.project.actions[receipt.action].status == "completed"
    assert world.holds == set()


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (plan(), "no tasks"),
        (plan(PlannedTask(1, "a", depends_on=(2,)), PlannedTask(2, "b", depends_on=(1,))), "cycle"),
        (plan(PlannedTask(1, "a", depends_on=(1,))), "cycle"),
        (plan(PlannedTask(1, "a", depends_on=(9,))), "task 9, which does not exist"),
        (plan(PlannedTask(1, "a"), PlannedTask(1, "b")), "more than once"),
        (plan(PlannedTask(1, "a", model="gpt-9")), "gpt-9"),
        (ReviewResult(Verdict.PASS), "wrong kind"),
    ],
)
def test_a_plan_that_cannot_be_used_gets_one_more_attempt_with_the_error_and_then_blocks(bad: object, words: str) -> None:
    world = World()
    world.end(world.until("plan"), bad)
    again = world.only("plan")
    assert again.attempt == 2
    assert words in (again.previous_error or "")
    world.end(again, bad)

    assert (world.status, world.holds) == ("planning", {"blocked"})
    assert world.o.holds[0].reason_code == "execution_output_malformed"
    assert world.do(c.Retry("shop-o1")).status == "accepted"
    world.finish()
    assert world.status == "complete"


def test_tasks_run_side_by_side_as_far_as_dependencies_and_policy_let_them() -> None:
    world = World(overrides=flow(max_parallel_tasks=2))
    tasks = (PlannedTask(1, "a"), PlannedTask(2, "b"), PlannedTask(3, "c"), PlannedTask(4, "d", depends_on=(1, 2)))
    world.end(world.until("plan"), plan(*tasks))

    assert [run.task for run in world.open("task")] == [1, 2]
    world.end(world.open("task")[0])
    assert [run.task for run in world.open("task")] == [2]  # task 1 is in review: still one of two
    world.end(world.only("task-review"))
    assert [run.task for run in world.open("task")] == [2, 3]


def test_commits_of_parallel_tasks_are_all_in_what_comes_next() -> None:
    world = World(overrides={**flow(max_parallel_tasks=2), "review": {"enforcement": "phase_only"}})
    world.end(world.until("plan"), plan(PlannedTask(1, "a"), PlannedTask(2, "b"), PlannedTask(3, "c", depends_on=(1, 2))))
    first, second = world.open("task")
    assert first.base == second.base == ("c0",)
    world.end(first)
    world.end(second)
    assert world.o.heads == (f"head-{first.id}", f"head-{second.id}")
    third = world.only("task")
    assert third.base == world.o.heads
    world.end(third)

    assert world.o.heads == (f"head-{third.id}",)


def test_a_failed_task_runs_again_with_the_next_attempt_and_then_blocks_only_its_dependents() -> None:
    world = World(overrides=flow(max_parallel_tasks=1))
    world.end(world.until("plan"), plan(PlannedTask(1, "a"), PlannedTask(2, "b", depends_on=(1,)), PlannedTask(3, "c")))
    first = world.only("task")
    world.start(first)
    world.fail(first)
    assert (world.only("task").id, world.only("task").attempt) == (first.id, 2)
    world.fail(world.only("task"))
    assert world.only("task").task == 3
    world.step()
    world.step()

    phase = world.o.current()
    assert [task.status for task in phase.tasks] == [TaskStatus.BLOCKED, TaskStatus.PENDING, TaskStatus.COMPLETED]
    assert (phase.status, world.holds) == (PhaseStatus.BLOCKED, {"blocked"})
    assert world.do(c.Retry("shop-o1")).status == "accepted"
    world.finish()
    assert world.status == "complete"


def test_attempts_that_never_started_do_not_count_and_still_do_not_go_on_for_ever() -> None:
    world = World()
    world.until("plan")
    world.step()
    run = world.only("task")
    for attempt in (1, 2, 3):
        assert world.only("task").attempt == attempt
        world.fail(world.only("task"), "dispatch_cli_spawn_failed", process_started=False)

    assert world.open("task") == []
    assert world.o.run(run.id).counted == 0  # type: ignore[union-attr]
    assert world.holds == {"blocked"}


def test_a_task_is_sent_back_with_the_issues_and_blocks_at_the_third_rejection() -> None:
    world = World()
    world.until("plan")
    world.step()
    runs = set()
    for _ in range(3):
        task = world.only("task")
        runs.add(task.id)
        world.end(task)
        world.end(world.only("task-review"), ReviewResult(Verdict.GAPS, (Finding("no test"),)))

    assert len(runs) == 3  # a rejection makes a new run and does not count as an attempt
    assert world.o.current().tasks[0].status is TaskStatus.BLOCKED
    assert world.o.holds[0].reason_code == "execution_review_exhausted"


def test_a_task_that_was_sent_back_goes_on_from_its_own_commits() -> None:
    world = World()
    world.until("plan")
    world.step()
    first = world.only("task")
    world.end(first)
    world.end(world.only("task-review"), ReviewResult(Verdict.GAPS, (Finding("no test"),)))
    again = world.only("task")
    assert again.base == (f"head-{first.id}",)
    assert [issue.text for issue in world.o.current().tasks[0].issues] == ["no test"]
    world.end(again)
    world.end(world.only("task-review"))

    assert world.o.heads == (f"head-{again.id}",)
    assert world.o.current().tasks[0].git_range == ("c0", f"head-{again.id}")


def test_a_failed_check_is_a_gap_of_the_phase_with_its_tail() -> None:
    world = World(check="make test")
    world.end(world.until("verify"), VerifyResult(False, 2, "boom"))

    assert (world.status, world.o.current().repairs) == ("planning", 1)
    assert "boom" in world.o.current().issues[0].text


def test_without_a_check_verify_is_recorded_as_skipped() -> None:
    world = World()
    world.finish()

    assert [event.status for event in world.events(e.VerifyRecorded)] == ["skipped"]


def test_a_repair_plan_appends_tasks_and_completed_ones_stay() -> None:
    world = World()
    world.end(world.until("review"), GAPS)
    assert world.o.current().issues
    world.end(world.only("plan"), plan(PlannedTask(1, "x"), PlannedTask(2, "y", depends_on=(1,))))

    phase = world.o.current()
    assert [(task.number, task.status.value, task.depends_on) for task in phase.tasks] == [
        (1, "completed", ()),
        (2, "completed", (1,)),
        (3, "in_progress", ()),
        (4, "pending", (3,)),
    ]
    assert (phase.revision, phase.issues) == (2, ())


def test_the_worst_chain_of_gaps_ends_failed_and_stays_failed() -> None:
    world = World(phases=2)
    seen = []
    while world.o.is_live:
        run = world.until("review")
        seen.append(run.phase)
        world.end(run, GAPS)

    assert seen == ["1", "1", "1", "1.5", "1.5.5"]
    assert (world.status, world.o.reason_code) == ("failed", "execution_review_exhausted")
    assert world.do(c.Retry("shop-o1")).reason_code == "validation_invalid_state"


def test_a_remediation_phase_that_passes_goes_on_with_the_next_main_phase() -> None:
    world = World(phases=2)
    for _ in range(3):
        world.end(world.until("review"), GAPS)
    assert world.o.phase == "1.5"
    world.end(world.until("review"))

    assert world.o.phase == "2"
    assert [phase.id for phase in world.o.phases] == ["1", "1.5", "2"]


def test_phases_that_are_not_enabled_are_recorded_as_skipped() -> None:
    world = World(phases=3, overrides=flow(phases_enabled=[2]))
    world.finish()

    assert [(phase.id, phase.status.value) for phase in world.o.phases] == [("1", "skipped"), ("2", "complete"), ("3", "skipped")]
    assert world.status == "complete"


@pytest.mark.parametrize(
    ("enforcement", "kinds"),
    [("task_only", {"task-review"}), ("phase_only", {"review"}), ("task_and_phase", {"task-review", "review"})],
)
def test_enforcement_says_which_reviews_run(enforcement: str, kinds: set[str]) -> None:
    world = World(overrides={"review": {"enforcement": enforcement}})
    world.finish()

    assert {run.kind.value for run in world.o.runs} & {"task-review", "review"} == kinds
    assert world.status == "complete"


def test_the_branch_shown_is_the_one_that_finalize_wrote() -> None:
    world = World()
    world.end(world.until("finalize"), FinalizeResult("done", "qd/basket-2"))

    assert (world.status, world.o.branch) == ("complete", "qd/basket-2")


# ── gates ──


def test_the_three_gates_hold_show_what_is_judged_and_go_on_when_approved() -> None:
    world = World(overrides=flow(human_gates=["plan", "review", "finalize"]))
    gates = []
    for _ in range(3):
        world.finish()
        assert world.holds == {"gate"}
        assert world.o.gate is not None
        gates.append((world.o.gate.kind.value, world.status))
        assert world.o.gate.subject
        assert world.do(c.GateApprove("shop-o1")).status == "completed"
    world.finish()

    assert gates == [("plan", "planning"), ("review", "reviewing"), ("finalize", "reviewing")]
    assert world.status == "complete"


def test_a_rejected_plan_is_planned_again_with_the_feedback() -> None:
    world = World(overrides=flow(human_gates=["plan"]))
    world.finish()
    world.do(c.GateReject("shop-o1", "split task 2"), by="ben")

    assert world.status == "planning"
    assert [(issue.text, issue.source) for issue in world.o.current().issues] == [("split task 2", "ben")]
    assert {task.status for task in world.o.current().tasks} == {TaskStatus.SKIPPED}
    world.finish()
    world.do(c.GateApprove("shop-o1"))
    world.finish()
    assert world.status == "complete"


def test_a_rejected_review_is_repaired_and_a_rejected_finalize_blocks_until_retry_asks_again() -> None:
    world = World(overrides=flow(human_gates=["review", "finalize"]))
    world.finish()
    world.do(c.GateReject("shop-o1", "not good"))
    assert (world.status, world.o.current().repairs) == ("planning", 1)
    world.finish()
    world.do(c.GateApprove("shop-o1"))
    world.finish()
    world.do(c.GateReject("shop-o1", "wait for the release"))
    assert world.holds == {"blocked"}
    assert world.do(c.Retry("shop-o1")).status == "completed"
    assert world.holds == {"gate"}
    world.do(c.GateApprove("shop-o1"))
    world.finish()

    assert world.status == "complete"


def test_reviewers_who_disagree_open_a_gate_that_the_operator_resolves() -> None:
    world = World(overrides={"model": {"review_consensus": True}})
    world.until("review")
    first, second = world.open("review")
    assert (first.reviewer, second.reviewer) == ("primary", "secondary")
    world.end(first)
    assert world.status == "reviewing"
    world.end(second, ReviewResult(Verdict.GAPS, (Finding("slow"),)))
    assert world.o.gate is not None
    assert world.o.gate.kind == "consensus_disagreement"
    assert "secondary says gaps: slow" in world.o.gate.subject
    world.do(c.GateApprove("shop-o1"))
    world.finish()

    assert world.status == "complete"


def test_one_reviewer_alone_never_decides_under_consensus_even_when_the_other_fails() -> None:
    world = World(overrides={"model": {"review_consensus": True}, "flow": {"max_task_attempts": 1}})
    world.until("review")
    first, second = world.open("review")
    world.fail(second)
    assert world.holds == {"blocked"}
    world.end(first)
    assert (world.status, world.holds) == ("reviewing", {"blocked"})
    world.do(c.Retry("shop-o1"))
    assert [run.reviewer for run in world.open("review")] == ["secondary"]
    world.end(world.only("review"))
    world.finish()

    assert world.status == "complete"


@pytest.mark.parametrize(
    ("review", "finding", "repairs_before", "verdict"),
    [
        ({"hard_block_detectors": True}, Finding("x"), 0, "gaps"),
        ({"hard_block_detectors": False}, Finding("x"), 0, "pass"),
        ({"allow_rare_override": True, "require_fix_first": False}, Finding("x", override_reason="known"), 0, "pass"),
        ({"allow_rare_override": False, "require_fix_first": False}, Finding("x", override_reason="known"), 0, "gaps"),
        ({"require_fix_first": True}, Finding("x", override_reason="known"), 0, "gaps"),
        ({"require_fix_first": True}, Finding("x", override_reason="known"), 1, "pass"),
    ],
)
def test_the_review_policy_is_enforced_whatever_the_reviewer_says(
    review: dict[str, object], finding: Finding, repairs_before: int, verdict: str
) -> None:
    world = World(overrides={"review": {"enforcement": "phase_only", **review}})
    for _ in range(repairs_before):
        world.end(world.until("review"), GAPS)
    world.end(world.until("review"), ReviewResult(Verdict.PASS, (finding,)))

    assert world.events(e.VerdictRecorded)[-1].verdict == verdict


# ── pause, resume, cancel ──


def steps_of_a_run() -> int:
    world = World(phases=1, check="x")
    count = 0
    while world.open():
        world.step()
        count += 1
    return count


@pytest.mark.parametrize("before", range(steps_of_a_run()))
@pytest.mark.parametrize("mode", ["withdrawn", "drained", "stopped"])
def test_a_pause_at_any_step_completes_when_nothing_runs_and_resume_goes_on_to_the_same_end(before: int, mode: str) -> None:
    world = World(phases=1, check="x")
    for _ in range(before):
        world.step()
    run = world.open()[0]
    if mode != "withdrawn":
        world.start(run)
    pause = world.do(c.Pause("shop-o1", c.PauseMode.STOP if mode == "stopped" else c.PauseMode.DRAIN))
    assert world.holds == {"pausing"}
    if mode == "withdrawn":
        world.withdraw(run)
    elif mode == "drained":
        world.end(run)
    else:
        world.fail(run, "dispatch_cancelled", Outcome.CANCELLED)
    if not world.o.is_live:
        assert mode == "drained"  # the finalize that was let end was the last run
        assert world.project.actions[pause.action].status == "failed"
        return
    assert world.holds == {"paused"}
    assert world.project.actions[pause.action].status == "completed"
    assert all(left.held for left in world.open())
    assert world.o.outstanding() == ()
    assert world.do(c.Resume("shop-o1")).status == "completed"
    assert all(not left.held for left in world.open())
    world.finish()

    assert world.status == "complete"


def test_an_attempt_that_a_pause_stopped_is_not_held_against_the_task() -> None:
    world = World(overrides={"flow": {"max_task_attempts": 1}})
    run = world.until("task")
    world.start(run)
    assert world.o.current().tasks[0].attempts == 1
    world.do(c.Pause("shop-o1", c.PauseMode.STOP))
    world.fail(run, "dispatch_cancelled", Outcome.CANCELLED)
    assert world.o.current().tasks[0].attempts == 0
    world.do(c.Resume("shop-o1"))
    world.finish()

    assert world.status == "complete"
    assert world.o.current().tasks[0].attempts == 1


@pytest.mark.parametrize("before", range(steps_of_a_run()))
def test_a_cancel_at_any_step_ends_as_cancelled_when_nothing_runs(before: int) -> None:
    world = World(phases=1, check="x")
    for _ in range(before):
        world.step()
    run = world.open()[0]
    world.start(run)
    cancel = world.do(c.Cancel("shop-o1"))
    assert (world.holds, world.o.is_live) == ({"cancelling"}, True)
    world.fail(run, "dispatch_cancelled", Outcome.CANCELLED)

    assert (world.status, world.open(), world.o.message) == ("cancelled", [], "cancelled by ana")
    assert world.project.actions[cancel.action].status == "completed"


def test_a_cancel_loses_against_a_finalize_that_had_already_succeeded() -> None:
    world = World()
    run = world.until("finalize")
    world.start(run)
    cancel = world.do(c.Cancel("shop-o1"))
    world.end(run)

    assert world.status == "complete"
    ended = world.project.actions[cancel.action]
    assert (ended.status, ended.reason_code) == ("failed", "validation_invalid_state")


def test_resume_before_the_pause_is_complete_ends_the_pause_as_failed() -> None:
    world = World()
    run = world.only("init")
    world.start(run)
    pause = world.do(c.Pause("shop-o1"))
    assert world.do(c.Resume("shop-o1")).status == "completed"
    assert world.project.actions[pause.action].status == "failed"
    world.end(run)
    world.finish()

    assert world.status == "complete"


def test_what_does_not_fit_the_state_is_refused_and_says_what_to_do_instead() -> None:
    world = World(overrides=flow(human_gates=["plan"]))
    assert world.do(c.Resume("shop-o1")).reason_code == "validation_invalid_state"
    assert world.do(c.GateApprove("shop-o1")).reason_code == "validation_invalid_state"
    assert world.do(c.Retry("shop-o1")).reason_code == "validation_invalid_state"
    assert world.do(c.Pause("shop-o9")).reason_code == "validation_entity_not_found"
    world.finish()
    refused = world.do(c.Resume("shop-o1"))

    assert "qd gate approve shop-o1" in refused.message
    world.do(c.Cancel("shop-o1"))
    assert world.status == "cancelled"
    assert world.do(c.Pause("shop-o1")).reason_code == "validation_invalid_state"


# ── reports that do not fit ──


def test_every_status_change_that_happens_is_in_the_table() -> None:
    allowed = {(row.report, row.requires, then) for row in TABLE for then in row.then}
    seen = set()
    for enforcement in ("task_only", "phase_only", "task_and_phase"):
        for check in (None, "x"):
            for gaps in range(6):
                world = World(phases=2, check=check, overrides={"review": {"enforcement": enforcement}})
                left = gaps
                while world.open():
                    run = world.open()[0]
                    decision = world.end(run, GAPS if run.kind is RunKind.REVIEW and left > 0 else None)
                    left -= run.kind is RunKind.REVIEW
                    moves = [event for event in decision.events if isinstance(event, e.OrchestrationMoved)]
                    if moves:  # from where it stood to where the report led it
                        seen.add((run.kind, moves[0].previous, moves[-1].status))

    assert seen <= allowed
    assert {then for _, _, then in seen} >= {S.VALIDATING, S.EXECUTING, S.REVIEWING, S.PLANNING, S.FINALIZING, S.COMPLETE, S.FAILED}


def test_a_report_said_twice_is_acknowledged_without_a_record() -> None:
    world = World()
    run = world.only("init")
    world.start(run)
    assert world.start(run) == Repeated()
    world.end(run)
    before = len(world.ledger)

    assert world.end(run) == Repeated()
    assert world.start(run) == Repeated()
    assert len(world.ledger) == before


@pytest.mark.parametrize(
    "changed", [{"node": "n2"}, {"nonce": "guessed"}, {"attempt": 2}, {"run": "shop-o1-r9"}, {"run": "shop-o7-r1"}, {"attempt": 0}]
)
def test_a_report_that_nobody_was_asked_for_is_not_believed(changed: dict[str, object]) -> None:
    world = World()

    assert isinstance(world.report(world.only("init"), world_end(), **changed), Unbelieved)


def world_end() -> object:
    from bus_schemas.reports import Ended, InitResult

    return Ended(1, Outcome.SUCCEEDED, World(launch=False).now, result=InitResult("x", "/x", "qd/x"))


def test_a_late_report_of_an_older_attempt_is_stale() -> None:
    world = World()
    first = world.only("init")
    world.fail(first, "dispatch_node_lost", Outcome.LOST)
    second = world.only("init")
    decision = world.report(first, world_end())

    assert [type(event) for event in decision.events] == [e.ReportStale]  # type: ignore[union-attr]
    assert world.only("init") == second


def test_an_end_that_overtakes_its_start_counts_as_both() -> None:
    world = World()
    run = world.only("init")
    world.end(run)

    assert world.status == "validating"
    assert world.start(run) == Repeated()
    assert [event.run for event in world.events(e.RunStarted)] == [run.id]
