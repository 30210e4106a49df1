import pytest

from bus_schemas import commands as c
from bus_schemas import events as e
from bus_schemas.policy import PRESETS, Preset, policy_hash, resolve
from tests.unit.controller.world import SHELL, World


def changed(world: World, patch: dict[str, object], revision: int = 1) -> str:
    receipt = world.do(c.PolicySet("shop-o1", patch, revision))
    return receipt.status if receipt.reason_code is None else receipt.reason_code


def test_a_patch_changes_only_what_it_names_and_gives_the_next_revision() -> None:
    world = World()
    before = world.o.active_policy
    receipt = world.do(c.PolicySet("shop-o1", {"flow": {"max_parallel_tasks": 7}}, 1))
    assert (receipt.status, receipt.revision, receipt.orchestration) == ("completed", 2, "shop-o1")
    assert world.o.active_policy == resolve(before, {"flow": {"max_parallel_tasks": 7}})
    assert world.o.policy_revision == 2
    assert [(known.revision, known.changed) for known in world.o.policy_changes] == [(2, ("flow.max_parallel_tasks",))]


def test_the_snapshot_of_the_launch_never_changes() -> None:
    world = World()
    snapshot = world.o.policy
    for revision in (1, 2, 3):
        assert changed(world, {"flow": {"max_parallel_tasks": revision + 1}}, revision) == "completed"
    assert world.o.policy == snapshot == resolve(PRESETS[Preset.BALANCED], SHELL)
    assert world.o.policy_hash == policy_hash(snapshot)


def test_a_patch_that_changes_nothing_is_still_a_revision() -> None:
    world = World()
    assert changed(world, {"flow": {"max_parallel_tasks": world.o.active_policy.flow.max_parallel_tasks}}) == "completed"
    assert world.o.policy_revision == 2
    assert world.o.policy_changes[-1].changed == ()


def test_of_two_operators_on_one_revision_one_wins_and_the_other_is_told_what_stands() -> None:
    world = World()
    world.do(c.PolicySet("shop-o1", {"model": {"executor": "haiku"}}, 1))
    late = world.do(c.RoleModelSet("shop-o1", "executor", "opus", 1), by="ben")
    assert late.reason_code == "validation_revision_conflict"
    assert "revision 2, not 1" in late.message
    assert "model.executor = haiku" in late.message
    assert world.o.policy_revision == 2


@pytest.mark.parametrize(
    ("patch", "words"),
    [
        ({"flow": {"max_parallel_tasks": 0}}, "flow.max_parallel_tasks"),
        ({"flow": {"speed": 1}}, "flow.speed: unknown field"),
        ({"flaw": {}}, "flaw: unknown section"),
        ({"review": {"enforcement": "none"}}, "task_and_phase"),
        ({"model": "opus"}, "must be an object"),
    ],
)
def test_a_bad_patch_is_refused_and_says_what_is_allowed(patch: dict[str, object], words: str) -> None:
    world = World()
    receipt = world.do(c.PolicySet("shop-o1", patch, 1))
    assert receipt.reason_code == "validation_invalid_payload"
    assert words in receipt.message
    assert world.o.policy_revision == 1


def test_a_model_that_its_node_does_not_offer_is_refused() -> None:
    world = World()
    receipt = world.do(c.RoleModelSet("shop-o1", "planner", "gpt-9", 1))
    assert receipt.reason_code == "validation_model_unroutable"
    assert "gpt-9" in receipt.message
    assert world.do(c.RoleModelSet("shop-o1", "pilot", "opus", 1)).reason_code == "validation_invalid_payload"


def test_a_secondary_reviewer_must_be_routable_only_when_consensus_asks_for_it() -> None:
    world = World()
    assert changed(world, {"model": {"reviewer_secondary": "gpt-9"}}) == "completed"
    assert changed(world, {"model": {"review_consensus": True}}, 2) == "validation_model_unroutable"


def test_runs_that_start_later_use_the_new_policy_and_one_that_started_keeps_what_it_got() -> None:
    world = World()
    validate = world.until("validate")
    world.start(validate)
    world.do(c.PolicySet("shop-o1", {"model": {"validator": "haiku", "planner": "haiku"}}, 1))
    assert (world.only("validate").model, world.only("validate").policy_revision) == ("shell", 1)
    world.end(validate)
    assert (world.only("plan").model, world.only("plan").policy_revision) == ("haiku", 2)


def test_an_attempt_that_waits_is_taken_back_and_ordered_anew_by_the_new_policy() -> None:
    world = World()
    waiting = world.until("validate")
    world.do(c.RoleModelSet("shop-o1", "validator", "haiku", 1))
    world.withdraw(waiting)
    again = world.only("validate")
    assert (again.id, again.attempt, again.model, again.policy_revision) == (waiting.id, 2, "haiku", 2)
    assert again.counted == 0


def test_an_attempt_whose_claim_was_faster_than_the_change_goes_on_and_shows_its_own_revision() -> None:
    world = World()
    waiting = world.until("validate")
    world.do(c.RoleModelSet("shop-o1", "validator", "haiku", 1))
    world.start(waiting)
    world.end(waiting)
    assert world.o.runs[1].policy_revision == 1
    assert world.status == "planning"


def test_a_run_that_a_pause_holds_is_ordered_by_the_new_policy() -> None:
    world = World()
    world.start(world.until("validate"))
    world.do(c.Pause("shop-o1"))
    world.end(world.only("validate"))
    assert world.holds == {"paused"}
    assert world.only("plan").held
    world.do(c.RoleModelSet("shop-o1", "planner", "haiku", 1))
    assert (world.only("plan").model, world.only("plan").held) == ("haiku", True)
    world.do(c.Resume("shop-o1"))
    assert (world.only("plan").model, world.only("plan").held) == ("haiku", False)


def test_more_parallel_tasks_start_at_once() -> None:
    world = World(overrides={"flow": {"max_parallel_tasks": 1}})
    plan = world.until("plan")
    world.start(plan)
    from bus_schemas.reports import PlannedTask, PlanResult

    world.end(plan, PlanResult(tuple(PlannedTask(n, f"task {n}") for n in (1, 2, 3))))
    assert len(world.open("task")) == 1
    world.do(c.PolicySet("shop-o1", {"flow": {"max_parallel_tasks": 3}}, 1))
    assert len(world.open("task")) == 3


def test_a_policy_is_not_changed_once_an_orchestration_has_ended_or_is_being_cancelled() -> None:
    world = World()
    world.start(world.until("validate"))
    world.do(c.Cancel("shop-o1"))
    assert changed(world, {"flow": {"run_timeout_s": 60}}) == "validation_invalid_state"
    world.end(world.only("validate"))
    assert world.status == "cancelled"
    assert changed(world, {"flow": {"run_timeout_s": 60}}) == "validation_invalid_state"
    assert world.do(c.PolicySet("shop-o9", {"flow": {}}, 1)).reason_code == "validation_entity_not_found"


def test_the_flag_of_policy_reconfiguration_turns_it_off() -> None:
    world = World()
    world.do(c.FlagSet("cp.policy_reconfiguration", False))
    assert changed(world, {"flow": {"run_timeout_s": 60}}) == "validation_feature_disabled"


def test_a_dry_run_shows_every_field_with_its_old_and_new_value_and_changes_nothing() -> None:
    world = World()
    before = world.project
    receipt = world.preview(c.PolicySet("shop-o1", {"flow": {"budget_usd": 2.5, "human_gates": ["plan"]}}, 1))
    assert receipt.diff is not None
    assert [(change.path, change.before, change.after) for change in receipt.diff.changes] == [
        ("flow.human_gates", "none", "plan"),
        ("flow.budget_usd", "none", "2.5"),
    ]
    assert world.project is before


def test_each_change_is_one_event_that_holds_the_whole_policy() -> None:
    world = World()
    changed(world, {"flow": {"run_timeout_s": 60}})
    changed(world, {"flow": {"run_timeout_s": 90}}, 2)
    events = [event for event in world.events(e.PolicyChanged) if isinstance(event, e.PolicyChanged)]
    assert [(event.revision, event.policy.flow.run_timeout_s) for event in events] == [(2, 60), (3, 90)]
