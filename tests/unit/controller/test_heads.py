"""Heads in the registry: what is recorded, in pages, and what is missed later."""

from __future__ import annotations

from datetime import UTC, datetime

from bus_schemas import codec, subjects
from bus_schemas.decisions import CORE_VERSION, LedgerMessage, TimerCause
from bus_schemas.events import HeadsRecorded, RecordedHead
from bus_schemas.ids import PLANE
from controller.heads import HEADS_MAX, decide_heads, lost, pages
from controller.project import Aggregate, fold_decision

NOW = datetime(2026, 11, 25, tzinfo=UTC)
EMPTY = Aggregate(PLANE)
ONE, TWO = "1" * 64, "2" * 64


def recorded(heads: dict[str, tuple[int, str]], before: Aggregate = EMPTY) -> Aggregate:
    decision = decide_heads(before, heads, NOW)
    assert decision is not None
    return fold_decision(before, decision, None)


def test_a_record_holds_every_project_that_went_on_by_name_and_not_the_registry_itself() -> None:
    decision = decide_heads(EMPTY, {"shop": (7, ONE), PLANE: (9, TWO), "park": (3, TWO)}, NOW)
    assert decision is not None
    assert (decision.at, decision.cause) == (NOW, TimerCause("heads"))
    assert decision.events == (HeadsRecorded((RecordedHead("park", 3, TWO), RecordedHead("shop", 7, ONE))),)


def test_nothing_is_recorded_where_nothing_went_on_or_only_the_registry_did() -> None:
    plane = recorded({"shop": (7, ONE)})
    assert decide_heads(plane, {"shop": (7, ONE)}, NOW) is None
    assert decide_heads(plane, {"shop": (7, ONE), PLANE: (8, TWO)}, NOW) is None
    assert pages(plane.heads, {"shop": (7, ONE), PLANE: (8, TWO)}) == 0


def test_only_what_went_on_is_recorded_again_and_the_registry_keeps_the_newest_of_each() -> None:
    plane = recorded({"shop": (7, ONE), "park": (3, TWO)})
    plane = recorded({"shop": (7, ONE), "park": (12, ONE)}, plane)
    assert dict(plane.heads) == {"shop": RecordedHead("shop", 7, ONE), "park": RecordedHead("park", 12, ONE)}


def test_a_ledger_behind_its_record_is_not_recorded_since_the_record_is_what_shows_the_loss() -> None:
    plane = recorded({"shop": (7, ONE)})
    assert decide_heads(plane, {"shop": (5, TWO)}, NOW) is None


def test_thousands_of_projects_are_recorded_in_pages_each_well_below_the_limit_of_a_message() -> None:
    heads = {f"p{number:031d}": (2**40 + number, ONE) for number in range(2 * HEADS_MAX + 1)}
    plane = EMPTY
    assert pages(plane.heads, heads) == 3
    for _ in range(3):
        decision = decide_heads(plane, heads, NOW)
        assert decision is not None
        message = LedgerMessage(codec.VERSION, "ledger-message", PLANE, "b", "c", ONE, 1, CORE_VERSION, (decision,))
        assert len(codec.encode(message)) < subjects.LEDGER_BYTES_MAX / 4
        plane = fold_decision(plane, decision, None)
    assert pages(plane.heads, heads) == 0
    assert len(plane.heads) == len(heads)


def test_a_ledger_that_ends_before_its_record_or_is_not_there_has_lost_its_tail() -> None:
    plane = recorded({"shop": (7, ONE), "park": (3, TWO)})
    wrong = lost(plane.heads, {"shop": (5, TWO)})
    assert set(wrong) == {"shop", "park"}
    assert "recorded message 7 with the hash " + ONE in wrong["shop"]
    assert "the ledger of shop ends at 5" in wrong["shop"]
    assert "there is no ledger of park" in wrong["park"]
    assert "qd audit verify" in wrong["park"]


def test_another_message_in_the_place_of_a_recorded_one_was_changed() -> None:
    wrong = lost(recorded({"shop": (7, ONE)}).heads, {"shop": (7, TWO)})
    assert f"the message there has {TWO}" in wrong["shop"]


def test_a_ledger_that_has_what_was_recorded_or_went_on_is_as_it_should_be() -> None:
    plane = recorded({"shop": (7, ONE)})
    assert lost(plane.heads, {"shop": (7, ONE)}) == {}
    assert lost(plane.heads, {"shop": (9, TWO), "park": (1, ONE)}) == {}
