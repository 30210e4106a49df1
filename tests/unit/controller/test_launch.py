"""The checks of a launch, in their order, each with one code (domain §4); the catalogue; keys."""

from __future__ import annotations

import msgspec
import pytest

from bus_schemas import commands as c
from bus_schemas import events as e
from bus_schemas.decisions import Receipt
from bus_schemas.policy import Policy, policy_hash
from tests.unit.controller.world import SHELL, World, body_of


def launch(world: World, **fields: object) -> Receipt:
    return world.do(c.Launch(**{"design": "shop-d1", "node": "n1", "overrides": SHELL, **fields}))  # type: ignore[arg-type]


@pytest.fixture
def world() -> World:
    return World(launch=False)


def test_an_accepted_launch_records_action_orchestration_policy_and_first_run_in_one_message(world: World) -> None:
    receipt = launch(world)
    _, message = world.ledger[-1]

    assert [type(event) for event in message.decisions[0].events] == [e.OrchestrationLaunched, e.RunQueued]
    assert (receipt.orchestration, receipt.status, receipt.revision) == ("shop-o1", "accepted", 1)
    assert world.o.policy_hash == policy_hash(world.o.policy)
    assert world.o.branch == "qd/basket"
    assert receipt.warnings
    assert world.o.design_only


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"design": "shop-d9"}, "validation_entity_not_found", "shop-d9"),
        ({"design": "nope-d1"}, "validation_entity_not_found", "no project nope"),
        ({"preset": "brave"}, "validation_invalid_payload", "strict, balanced, fast"),
        ({"overrides": {"model": {"painter": "x"}}}, "validation_invalid_payload", "model.painter"),
        ({"overrides": {"flow": {"run_timeout_s": "soon"}}}, "validation_invalid_payload", "flow.run_timeout_s"),
        ({"overrides": {}, "policy": {"model": {"planner": "shell"}}}, "validation_invalid_payload", "model.executor"),
        ({"overrides": {"model": {"planner": "gpt-9"}}}, "validation_model_unroutable", "gpt-9"),
        ({"node": "n9"}, "validation_entity_not_found", "n9"),
        ({"node": "*"}, "validation_invalid_payload", "'*'"),
        ({"node": "auto", "labels": {"gpu": "yes"}}, "validation_node_offline", "gpu=yes"),
        ({"tickets": ("shop-t1",)}, "validation_entity_not_found", "shop-t1"),
        ({"tickets": ("other-t1",)}, "validation_entity_not_found", "other-t1"),
        ({"feature": "  "}, "validation_missing_field", "blank"),
        ({"feature": "!!!"}, "validation_invalid_payload", "no letter"),
        ({"branch": "main"}, "validation_invalid_payload", "qd/"),
        ({"branch": "qd/../../heads/main"}, "validation_invalid_payload", "qd/"),
    ],
)
def test_each_check_has_its_code_names_the_value_and_changes_nothing(world: World, fields: dict[str, object], code: str, words: str) -> None:
    receipt = launch(world, **fields)

    assert (receipt.status, receipt.reason_code) == ("refused", code)
    assert words in receipt.message
    _, message = world.ledger[-1]
    assert message.decisions[0].events == ()


def test_all_that_is_missing_for_readiness_is_said_together(world: World) -> None:
    world.do(c.DesignAdd("shop", "Thin", "no phases", c.Complexity.STANDARD, ("scope_bounded",)))
    receipt = launch(world, design="shop-d2")

    assert receipt.reason_code == "validation_not_ready"
    for words in ("objective_defined", "testing_strategy", "no phase"):
        assert words in receipt.message


def test_the_checks_come_in_their_order(world: World) -> None:
    # everything is wrong; corrected one by one, the next check speaks
    fields: dict[str, object] = {
        "design": "shop-d2",
        "preset": "brave",
        "overrides": {"model": {"planner": "gpt-9"}},
        "node": "n9",
        "tickets": ("shop-t9",),
        "feature": "!",
    }
    codes = []
    for better in (
        {},
        {"design": "shop-d1"},
        {"preset": "fast"},
        {"overrides": SHELL},
        {"node": "n1"},
        {"tickets": ()},
        {"feature": "Basket"},
    ):
        fields |= better
        codes.append(launch(world, **fields).reason_code)

    assert codes == [
        "validation_entity_not_found",
        "validation_invalid_payload",
        "validation_model_unroutable",
        "validation_entity_not_found",
        "validation_entity_not_found",
        "validation_invalid_payload",
        None,
    ]


def test_an_archived_design_cannot_be_launched_and_other_statuses_can(world: World) -> None:
    for status in (c.DesignStatus.IN_REVIEW, c.DesignStatus.APPROVED, c.DesignStatus.ARCHIVED):
        world.do(c.DesignMove("shop-d1", status))

    assert launch(world).reason_code == "validation_invalid_state"
    assert "draft" in world.do(c.DesignMove("shop-d1", c.DesignStatus.APPROVED)).message


def test_a_cordoned_or_offline_node_takes_no_launch(world: World) -> None:
    world.do(c.NodeCordon("n1"))
    assert launch(world).reason_code == "validation_node_offline"
    assert launch(world, node="auto").reason_code == "validation_node_offline"
    world.do(c.NodeUncordon("n1"))
    assert launch(world, node="auto").node == "n1"


def test_the_flag_is_checked_before_the_payload(world: World) -> None:
    world.do(c.FlagSet("cp.launch", False))

    assert launch(world, design="shop-d9").reason_code == "validation_feature_disabled"


def test_require_reason_makes_a_reason_compulsory(world: World) -> None:
    world.do(c.FlagSet("require_reason", True))

    assert launch(world).reason_code == "validation_missing_field"
    assert world.do(c.Launch("shop-d1", "n1", overrides=SHELL), reason="release").status == "accepted"


def test_two_live_orchestrations_never_share_a_slug(world: World) -> None:
    launch(world)
    refused = launch(world, feature="  BASKET!")
    assert (refused.reason_code, "shop-o1" in refused.message) == ("validation_invalid_state", True)
    world.do(c.Cancel("shop-o1"))
    world.withdraw(world.only("init"))

    assert launch(world).orchestration == "shop-o2"


def test_tickets_move_along_with_the_orchestration(world: World) -> None:
    world.do(c.TicketAdd("shop", "Sum", design="shop-d1"))
    receipt = launch(world, tickets=("shop-t1",))
    assert receipt.warnings == ()
    assert world.project.tickets["shop-t1"].status == "in_progress"
    world.finish()

    assert world.project.tickets["shop-t1"].status == "in_review"


def test_a_later_change_of_the_design_never_touches_what_was_launched(world: World) -> None:
    launch(world)
    world.do(c.DesignEdit("shop-d1", body="## Phase 1\nall new\n"))

    assert world.o.design_body == body_of(1)
    assert world.o.design_revision == 1
    assert world.project.designs["shop-d1"].revision == 2


def test_secondary_reviewer_is_checked_only_under_consensus(world: World) -> None:
    unroutable = {"model": {**SHELL["model"], "reviewer_secondary": "gpt-9"}}
    assert launch(world, overrides=unroutable).status == "accepted"
    world.do(c.Cancel("shop-o1"))
    world.withdraw(world.only("init"))
    with_consensus = {"model": {**unroutable["model"], "review_consensus": True}}

    assert launch(world, overrides=with_consensus).reason_code == "validation_model_unroutable"


def test_a_whole_policy_is_taken_as_it_is(world: World) -> None:
    policy = msgspec.to_builtins(Policy())
    policy["model"].update(SHELL["model"])
    receipt = launch(world, overrides={}, policy=policy)

    assert receipt.status == "accepted"
    assert world.o.preset_origin == "custom"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (c.ProjectAdd("shop", "/r"), "validation_invalid_state"),
        (c.ProjectAdd("plane", "/r"), "validation_invalid_payload"),
        (c.ProjectAdd("No", "/r"), "validation_invalid_payload"),
        (c.ProjectEdit("nope", name="x"), "validation_entity_not_found"),
        (c.ProjectEdit("shop"), "validation_missing_field"),
        (c.DesignAdd("nope", "T", "b"), "validation_entity_not_found"),
        (c.DesignAdd("shop", "T", "ä" * 110_000), "validation_too_large"),
        (c.DesignAdd("shop", "T", "b", markers=("done",)), "validation_invalid_payload"),
        (c.DesignEdit("shop-d9", title="x"), "validation_entity_not_found"),
        (c.DesignEdit("shop-d1"), "validation_missing_field"),
        (c.DesignMark("shop-d1", "done"), "validation_invalid_payload"),
        (c.DesignMove("shop-d1", c.DesignStatus.APPROVED), "validation_invalid_state"),
        (c.TicketAdd("shop", "T", design="shop-d9"), "validation_entity_not_found"),
        (c.TicketMove("shop-t9", c.TicketStatus.DONE), "validation_entity_not_found"),
        (c.TicketEdit("shop-t9", title="x"), "validation_entity_not_found"),
        (c.CommentAdd("shop-t9", "hm"), "validation_entity_not_found"),
        (c.NodeCordon("n9"), "validation_entity_not_found"),
        (c.NodeUncordon("n1"), "validation_invalid_state"),
        (c.FlagSet("cp.magic", True), "validation_entity_not_found"),
    ],
)
def test_the_catalogue_refuses_what_does_not_fit_with_one_code(world: World, command: c.Command, code: str) -> None:
    receipt = world.do(command)

    assert (receipt.status, receipt.reason_code) == ("refused", code)
    assert receipt.message


def test_the_catalogue_does_what_it_is_asked_and_completes_at_once(world: World) -> None:
    done = [
        world.do(c.ProjectEdit("shop", name="The shop", check="make test", default_branch="dev", repo="/other")),
        world.do(c.DesignEdit("shop-d1", title="New", body=body_of(3), complexity=c.Complexity.STANDARD)),
        world.do(c.DesignMark("shop-d1", "phases_outlined")),
        world.do(c.DesignMark("shop-d1", "scope_bounded", completed=False)),
        world.do(c.TicketAdd("shop", "Sum", "body", "shop-d1", c.Priority.HIGH)),
        world.do(c.TicketEdit("shop-t1", title="Total", body="b", design="shop-d1", priority=c.Priority.LOW)),
        world.do(c.TicketMove("shop-t1", c.TicketStatus.BLOCKED)),
        world.do(c.CommentAdd("shop-t1", "why?")),
        world.do(c.CommentAdd("shop-d1", "good")),
        world.do(c.ProjectEdit("shop", check="")),
    ]

    assert {receipt.status.value for receipt in done} == {"completed"}
    design, ticket = world.project.designs["shop-d1"], world.project.tickets["shop-t1"]
    assert (design.title, design.phase_count, design.revision) == ("New", 3, 4)
    assert design.completed_markers == ("objective_defined", "phases_outlined")
    assert (ticket.title, ticket.status, ticket.priority) == ("Total", "blocked", "low")
    assert [comment.author for comment in world.project.comments["shop-t1"]] == ["ana"]
    assert world.states["plane"].projects["shop"].check is None
    assert "blocked to in_review" in world.do(c.TicketMove("shop-t1", c.TicketStatus.IN_REVIEW)).message


def test_tickets_that_do_not_fit_into_an_order_are_refused_at_the_launch(world: World) -> None:
    for n in range(9):
        world.do(c.TicketAdd("shop", f"t{n}", "x" * 16_000))
    receipt = launch(world, tickets=tuple(f"shop-t{n}" for n in range(1, 10)))

    assert receipt.reason_code == "validation_too_large"
    assert launch(world, tickets=("shop-t1", "shop-t2")).status == "accepted"
