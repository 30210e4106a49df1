"""Several runs at once: which can be asked what, which ids a form means, and what is told of each."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from bus_schemas.decisions import ActionStatus, Receipt
from bus_schemas.reasons import Reason
from console import rendering
from console.backend import OUTCOME_UNKNOWN, UNREACHABLE, Problem
from console.equivalent import command_line
from console.forms import Form
from console.pages import bulk
from console.selection import HOLDS, LIVE, STATUSES, Wanted, fits

T0 = datetime(2026, 11, 24, 12, tzinfo=UTC)


def run(number: int, *kinds: str, status: str = "executing") -> dict[str, Any]:
    holds = [{"kind": kind, "reason": kind, "since": T0.isoformat()} for kind in kinds]
    return {"id": f"shop-o{number}", "feature": f"F{number}", "node": "vm", "status": status, "holds": holds, "hold": holds[0] if holds else None}


def receipt(number: int) -> Receipt:
    return Receipt(
        action=f"shop-a{number}",
        type="pause",
        status=ActionStatus.ACCEPTED,
        project="shop",
        idempotency_key="k",
        requested_by="ana",
        via="console",
        received_at=T0,
        message="",
    )


@pytest.mark.parametrize(
    ("name", "able", "left"),
    [
        ("pause", [1, 4], {2: "it is already paused", 3: "it is complete"}),
        ("stop", [1, 4], {2: "it is already paused", 3: "it is complete"}),
        ("resume", [2], {1: "it is not paused", 3: "it is complete", 4: "it is not paused"}),
        ("retry", [4], {1: "nothing of it is blocked or lost", 2: "nothing of it is blocked or lost", 3: "it is complete"}),
        ("cancel", [1, 2, 4], {3: "it is complete"}),
    ],
)
def test_those_that_cannot_be_asked_are_left_out_with_the_reason(name: str, able: list[int], left: dict[int, str]) -> None:
    found = [run(1), run(2, "paused"), run(3, status="complete"), run(4, "blocked")]
    asked, others = bulk.parted(name, found)
    assert [o["id"] for o in asked] == [f"shop-o{number}" for number in able]
    assert {o["id"]: why for o, why in others} == {f"shop-o{number}": why for number, why in left.items()}


def test_more_than_one_go_takes_are_left_for_the_next() -> None:
    asked, others = bulk.parted("pause", [run(number) for number in range(1, bulk.RUNS_MAX + 3)])
    assert len(asked) == bulk.RUNS_MAX
    assert [(o["id"], why) for o, why in others] == [(f"shop-o{bulk.RUNS_MAX + n}", "more than 500: the rest in another go") for n in (1, 2)]


def test_a_run_that_was_ticked_twice_is_asked_once_in_the_order_of_the_form() -> None:
    assert bulk.ids_of(Form([("ids", "shop-o2"), ("ids", "shop-o1"), ("ids", "shop-o2")])) == ["shop-o2", "shop-o1"]


@pytest.mark.parametrize("text", ["", "shop", "shop-d1", "../x", "shop-o1-r1"])
def test_what_is_no_id_of_a_run_is_refused(text: str) -> None:
    with pytest.raises(Problem) as refused:
        bulk.ids_of(Form([("ids", text)]))
    assert refused.value.code == Reason.INVALID_PAYLOAD


@pytest.mark.parametrize("verb", ["", "launch", "gate-approve", "PAUSE"])
def test_nothing_else_can_be_asked_of_several(verb: str) -> None:
    with pytest.raises(Problem) as refused:
        bulk.verb_of(Form([("verb", verb)]))
    assert refused.value.code == Reason.UNKNOWN_ACTION


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("pause", "qd pause shop-o1 --mode drain --reason lunch"),
        ("stop", "qd pause shop-o1 --mode stop --reason lunch"),
        ("resume", "qd resume shop-o1 --reason lunch"),
        ("retry", "qd retry shop-o1 --reason lunch"),
        ("cancel", "qd cancel shop-o1 --yes --reason lunch"),
    ],
)
def test_each_is_the_command_line_that_does_the_same(name: str, line: str) -> None:
    assert command_line(bulk.VERBS[name].command("shop-o1"), reason="lunch") == line


def outcome(*sent: bulk.Sent) -> tuple[dict[str, Any], str]:
    told = bulk.told("cancel", list(sent), "the-key", "lunch")
    return told, rendering.environment().get_template("bulk_outcome.html").render(told)


def test_of_each_run_it_is_told_what_became_of_it() -> None:
    refused = Problem(Reason.INVALID_STATE, "shop-o2 is complete", receipt=receipt(2))
    told, html = outcome(bulk.Sent("shop-o1", "qd cancel shop-o1", receipt(1), None), bulk.Sent("shop-o2", "qd cancel shop-o2", None, refused))
    assert (told["taken"], told["refused"], told["unknown"]) == (1, 1, [])
    assert "Cancel: 1 of 2 were taken" in html
    assert 'role="alert"' in html
    assert "shop-o2 is complete" in html
    assert html.count("/audit?action=shop-a") == 2
    assert "<form" not in html


def test_those_of_which_nothing_is_known_are_sent_again_under_the_same_key_and_no_others() -> None:
    _, html = outcome(
        bulk.Sent("shop-o1", "qd cancel shop-o1", receipt(1), None),
        bulk.Sent("shop-o2", "qd cancel shop-o2", None, Problem(OUTCOME_UNKNOWN, "no answer")),
        bulk.Sent("shop-o3", "qd cancel shop-o3", None, Problem(UNREACHABLE, "nothing was sent")),
    )
    form = html[html.index("<form") :]
    assert [f'name="ids" value="shop-o{number}"' in form for number in (1, 2, 3)] == [False, True, True]
    assert 'name="key" value="the-key"' in form
    assert 'name="meant" value="cancel 2"' in form
    assert 'name="reason" value="lunch"' in form


def test_all_that_were_taken_is_no_alarm() -> None:
    _, html = outcome(bulk.Sent("shop-o1", "qd cancel shop-o1", receipt(1), None))
    assert 'role="status"' in html
    assert 'role="alert"' not in html


# ── the filter ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_filter_leaves_out_words_that_mean_nothing() -> None:
    given = {"project": " Shop ", "status": "sleeping", "hold": "gate"}
    assert Wanted.read(lambda name: given[name]) == Wanted("shop", "", "gate")


def test_only_live_statuses_are_asked_for() -> None:
    assert Wanted().live_statuses == LIVE
    assert set(STATUSES) - set(LIVE) == {"complete", "failed", "cancelled"}
    assert Wanted(status="executing").live_statuses == ("executing",)
    assert Wanted(status="complete").live_statuses == ()


def test_a_run_fits_a_hold_that_is_not_the_one_shown_first() -> None:
    assert fits(run(1, "paused", "blocked"), frozenset({"blocked"}))
    assert not fits(run(1), frozenset({"blocked"}))
    assert fits(run(1), frozenset())
    assert {"paused", "blocked", "node_lost", "gate"} <= set(HOLDS)
