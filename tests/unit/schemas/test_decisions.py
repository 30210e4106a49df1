"""Decisions: positions of rows, and receipts made from them."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus_schemas.decisions import Action, ActionStatus, CommandCause, Decision, LedgerMessage, Position, TimerCause, receipt_of, rows
from bus_schemas.events import ActionCompleted
from tests.golden.commands import AT
from tests.golden.ledger import ACCEPTED, MESSAGE, PAUSED, REFUSED, STORED_AT

shapes = st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=1, max_size=12)


def message_of(shape: list[tuple[bool, int]]) -> LedgerMessage:
    """Return a message whose decisions have an action or none, and so many events."""
    decisions = []
    for number, (has_action, events) in enumerate(shape):
        action = Action(f"shop-a{number + 1}", ActionStatus.ACCEPTED) if has_action else None
        decisions.append(Decision(AT, TimerCause("t"), action, None, tuple(ActionCompleted(f"{number}-{event}") for event in range(events))))
    return msgspec.structs.replace(MESSAGE, decisions=tuple(decisions))


@given(shapes, st.integers(1, 10**15))
def test_each_row_of_a_message_has_a_position_of_its_own_in_order(shape: list[tuple[bool, int]], seq: int) -> None:
    found = list(rows(message_of(shape), seq))
    assert [row.position for row in found] == [Position(seq, place) for place in range(len(found))]
    assert len(found) == sum(has_action + events for has_action, events in shape)


@given(shapes)
def test_the_action_of_a_decision_stands_before_its_events(shape: list[tuple[bool, int]]) -> None:
    message = message_of(shape)
    found = [(row.decision, row.event) for row in rows(message, 7)]
    expected = [(decision, event) for decision in message.decisions for event in (*((None,) if decision.action else ()), *decision.events)]
    assert found == expected


@given(shapes, st.integers(1, 10**9), shapes)
def test_a_later_message_has_later_positions(shape: list[tuple[bool, int]], seq: int, later: list[tuple[bool, int]]) -> None:
    positions = [row.position for row in (*rows(message_of(shape), seq), *rows(message_of(later), seq + 1))]
    assert positions == sorted(set(positions))


@given(st.integers(0, 10**18 - 1), st.integers(0, 10**9 - 1))
def test_a_position_is_read_as_it_is_printed(seq: int, row: int) -> None:
    assert Position.parse(str(Position(seq, row))) == (seq, row)


def test_a_position_without_a_row_is_the_first_row() -> None:
    assert Position.parse("418") == (418, 0)
    assert Position.parse("418.3") == (418, 3)
    assert str(Position(418, 3)) == "418.3"
    assert Position(9, 10) < Position(10, 0) < Position(10, 2) < Position(10, 10)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "418.",
        ".3",
        "418.3.1",
        "418.x",
        "x",
        "-1",
        "+1",
        "418.-3",
        " 418",
        "418\n",
        "418.3\n",
        "4_1",
        "٤١٨",
        "４１８",
        "1e3",
        "0x10",
        "9" * 19,
        "1." + "9" * 10,
        "9" * 5000,
    ],
)
def test_what_is_no_position_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected something like 418\.3") as caught:
        Position.parse(text)
    assert len(str(caught.value)) < 200


def cause_of(decision: Decision) -> CommandCause:
    assert isinstance(decision.cause, CommandCause)
    return decision.cause


def test_the_receipt_of_an_accepted_command_says_what_was_made_and_when() -> None:
    receipt = receipt_of(PAUSED, cause_of(PAUSED), ACCEPTED, Position(418, 3))
    assert (receipt.action, receipt.status, receipt.project, receipt.type) == ("shop-a44", ActionStatus.ACCEPTED, "shop", "pause")
    assert (receipt.received_at, receipt.accepted_at, receipt.completed_at) == (STORED_AT, STORED_AT + timedelta(milliseconds=2), None)
    assert (receipt.design, receipt.ticket, receipt.orchestration, receipt.node, receipt.task) == (
        "shop-d3",
        "shop-t17",
        "shop-o12",
        "mac-mini-1",
        "1/2",
    )
    assert (receipt.requested_by, receipt.via, receipt.reason, receipt.idempotency_key) == (
        "ana",
        "cli",
        "The node is needed elsewhere.",
        "pause-2026-11-23-01",
    )
    assert (receipt.position, receipt.revision, receipt.duplicate, receipt.reason_code) == ("418.3", 3, False, None)
    assert receipt.warnings == ("two runs go on until they end",)


def test_the_receipt_of_a_refused_command_says_why_and_was_never_accepted() -> None:
    decision = MESSAGE.decisions[1]
    receipt = receipt_of(decision, cause_of(decision), REFUSED, None)
    assert (receipt.status, receipt.accepted_at, receipt.position) == (ActionStatus.REFUSED, None, None)
    assert (receipt.reason_code, receipt.message) == ("validation_invalid_payload", "launch: expected an object")
