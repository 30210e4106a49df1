"""Checks of keys, receipts and principals, each on a kept history with one thing changed."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from bus_schemas.codec import BODY_DEPTH_MAX
from cli.audit import checks_actions
from cli.audit import checks_keys as checks
from cli.audit.evidence import Call, Stored
from tests.unit.audit.book import Book
from tests.unit.audit.kept import call, command, found, kept

DEEP: dict[str, Any] = {}
for _ in range(BODY_DEPTH_MAX + 1):
    DEEP = {"a": DEEP}


def book() -> Book:
    return Book(kept("catalogue"))


def test_a_command_without_an_action_is_found_by_the_check_of_keys_alone() -> None:
    changed = book()
    at, decision = command(changed, "ticket-add")
    del decision["action"]

    assert found(checks.decided_once, changed) == [(at, f"the command with key {decision['cause']['key']!r} was decided without an action")]
    assert found(checks_actions.decided_whole, changed) == []


def test_a_key_that_is_refused_as_used_was_used_before() -> None:
    changed = book()
    at, decision = command(changed, "ticket-add")
    decision["action"].update(status="refused", reason_code="validation_idempotency_mismatch")

    assert found(checks.decided_once, changed) == [(at, f"key {decision['cause']['key']!r} is refused as used before, and it was not")]


@pytest.mark.parametrize("same", [True, False])
def test_a_key_is_refused_as_used_only_for_another_request(same: bool) -> None:
    changed = book()
    _, decision = command(changed, "ticket-add")
    again = {"at": decision["at"], "cause": deepcopy(decision["cause"])}
    again["action"] = {"id": "shop-a999", "status": "refused", "reason_code": "validation_idempotency_mismatch"}
    if not same:
        again["cause"]["body_hash"] = "sha256-" + "0" * 64
    changed.insert_after(decision, again)

    wrong = [f"key {decision['cause']['key']!r} is refused as used for another request; it is the same"] if same else []
    assert [text for _, text in found(checks.decided_once, changed)] == wrong


def test_a_body_that_cannot_be_hashed_is_found() -> None:
    changed = book()
    at, decision = command(changed, "ticket-add")
    decision["cause"]["body"] = DEEP

    assert found(checks.bodies_are_hashed, changed) == [
        (at, f"the body of key {decision['cause']['key']!r} cannot be hashed: command body is nested deeper than {BODY_DEPTH_MAX} levels")
    ]


def two_calls(**changes: Any) -> list[Call]:
    """Return a call and the same one of another client who was told something else."""
    at, decision = command(book(), "ticket-add")
    first = call(decision, at, orchestration="shop-o1")
    assert first.receipt is not None
    return [first, replace(first, client="qd-bob", receipt=replace(first.receipt, **changes))]


def alike(calls: list[Call]) -> list[tuple[str, str]]:
    return found(checks.answered_alike, kept("catalogue")._replace(calls=calls))


@pytest.mark.parametrize("field", ["action", "type", "position", "requested_by", "orchestration"])
def test_two_who_asked_the_same_are_told_the_same(field: str) -> None:
    calls = two_calls(**{field: "another"})
    told = getattr(calls[0].receipt, field)

    assert alike(calls) == [(calls[0].key, f"qd-bob was told {field} another for it, another was told {told}")]


@pytest.mark.parametrize("field", ["position", "orchestration"])
def test_an_answer_that_does_not_say_something_contradicts_nothing(field: str) -> None:
    assert alike(two_calls(**{field: None})) == []


@pytest.mark.parametrize(("one", "other"), [(None, None), (DEEP, DEEP), ({"x": 1}, {"x": 1})], ids=["no body", "deep", "hashed"])
def test_calls_with_one_key_are_one_request_where_their_bodies_do_not_tell_them_apart(one: Any, other: Any) -> None:
    first, second = two_calls(action="shop-a9")
    calls = [replace(first, body_hash=None, body=one), replace(second, body_hash=None, body=other)]
    assert [text for _, text in alike(calls)] == [f"qd-bob was told action shop-a9 for it, another was told {first.receipt.action}"]  # type: ignore[union-attr]


def test_calls_with_one_key_and_other_bodies_are_other_requests() -> None:
    first, second = two_calls(action="shop-a9")
    assert alike([replace(first, body_hash=None, body={"x": 1}), replace(second, body_hash=None, body={"x": 2})]) == []


@pytest.mark.parametrize("position", ["here", "1.0"])
def test_an_answer_names_the_position_at_which_its_action_stands(position: str) -> None:
    at, decision = command(book(), "ticket-add")
    calls = [call(decision, at), replace(call(decision, at, position=position), client="qd-bob")]

    assert found(checks.acknowledged_is_there, kept("catalogue")._replace(calls=calls)) == [
        (decision["action"]["id"], f"qd-bob was told position {position}; it stands at {at}")
    ]


def test_a_command_came_through_a_door_that_there_is() -> None:
    changed = book()
    at, decision = command(changed, "ticket-add")
    decision["cause"]["via"] = "post"

    assert found(checks.commands_were_sent, changed) == [(at, f"command {decision['cause']['id']} came through 'post', which is no door")]


def test_a_command_is_by_a_principal_that_there_can_be() -> None:
    changed = book()
    at, decision = command(changed, "ticket-add")
    decision["cause"]["by"] = "Ana Maria"
    ((place, text),) = found(checks.principals, changed)

    assert place == at
    assert text.startswith("principal 'Ana Maria' is not valid")


def test_a_client_that_does_not_know_its_principal_is_judged_by_what_it_was_told() -> None:
    at, decision = command(book(), "ticket-add")
    right = replace(call(decision, at), principal=None)
    wrong = replace(call(decision, at, requested_by="eve"), principal=None)

    assert found(checks.principals_of_clients, kept("catalogue")._replace(calls=[right])) == []
    assert found(checks.principals_of_clients, kept("catalogue")._replace(calls=[wrong])) == [
        (decision["action"]["id"], f"qd-ana was told that it is by eve; the ledger says {decision['cause']['by']}")
    ]


def test_a_command_is_by_the_principal_of_its_subject_and_bytes_that_are_no_command_say_nothing() -> None:
    at, decision = command(book(), "ticket-add")
    name, by = decision["cause"]["id"], decision["cause"]["by"]
    data = msgspec.json.encode({"id": name})
    noise = [Stored(1, "qd.cmd.eve.shop.ticket-add", 1.0, b"\xff" + data), Stored(2, "qd.cmd.eve.shop", 1.0, data)]
    stored = Stored(3, "qd.cmd.eve.park.ticket-add", 1.0, data)

    assert found(checks.principals_of_subjects, kept("catalogue")._replace(commands=noise)) == []
    assert found(checks.principals_of_subjects, kept("catalogue")._replace(commands=[*noise, stored])) == [
        (at, f"command {name} is recorded as by {by} for shop; it was published by eve for park")
    ]
