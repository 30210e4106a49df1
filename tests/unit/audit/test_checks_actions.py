"""Checks of actions, each on a kept history with one thing changed."""

from __future__ import annotations

import pytest

from bus_schemas import commands as c
from bus_schemas.subjects import report
from cli.audit import checks_actions as checks
from cli.audit.evidence import Circumstances, Evidence, Stored
from tests.unit.audit.book import Book
from tests.unit.audit.kept import event, evidence_of, found, kept, seq, where
from tests.unit.controller.world import World

AT_REST = Circumstances(quiesced=True)


@pytest.mark.parametrize("change", [{"kind": "cancel"}, {"action": "shop-a1"}])
def test_an_action_is_opened_by_its_own_command(change: dict[str, str]) -> None:
    book = Book(kept("control"))
    opened = event(book, "action-opened", kind="pause")
    opened.event.update(change)

    assert found(checks.ended_once, book) == [
        (where(book, opened), f"{opened.event['action']} is opened as {opened.event['kind']} by something else")
    ]


def test_an_action_ends_once() -> None:
    book = Book(kept("whole"))
    done = event(book, "action-completed")
    later = book.events("orchestration-moved")[-1]
    later.decision["events"].append(dict(done.event))
    again = later._replace(index=len(later.decision["events"]) - 1)

    wrong = f"action-completed of {done.event['action']}, which had ended at {where(book, done)}"
    assert found(checks.ended_once, book) == [(where(book, again), wrong)]


def stopped() -> Evidence:
    """Return a ledger that comes to rest paused, with nothing under way."""
    world = World()
    world.until("plan")
    run = world.only("plan")
    world.do(c.Pause("shop-o1"))
    world.withdraw(run)
    assert world.holds == {"paused"}
    return evidence_of(world)._replace(circumstances=AT_REST)


def test_a_live_orchestration_at_rest_is_held_by_something() -> None:
    assert found(checks.nothing_hangs, stopped()) == []
    book = Book(stopped())
    paused = event(book, "hold-set", hold="paused")
    paused.decision["events"].remove(paused.event)

    assert found(checks.nothing_hangs, book) == [("shop-o1", "it is planning, and nothing moves it; holds: none")]


def ended(attempt: int, nonce: str, number: int = 9) -> Stored:
    return Stored(number, report("n1", "shop", "shop-o1-r3", attempt, nonce, "ended"), 1.0, b"{}")


def test_a_stored_end_that_the_ledger_lacks_is_found_when_nothing_is_on_its_way_any_more() -> None:
    world = World()
    run = world.until("plan")
    evidence = evidence_of(world)._replace(reports=[ended(1, run.nonce)])

    assert found(checks.ends_are_there, evidence) == []
    assert found(checks.ends_are_there, evidence._replace(circumstances=AT_REST)) == [
        ("shop-o1-r3.1", "its end is stored in REP at 9 and not in the ledger")
    ]


@pytest.mark.parametrize("buried", [True, False])
def test_an_end_that_was_ordered_is_not_buried(buried: bool) -> None:
    world = World()
    run = world.until("plan")
    world.step()
    dead = [Stored(1, f"qd.dlq.REP.{9 if buried else 8}", 1.0, b"{}"), Stored(2, "qd.dlq.CMD.9", 1.0, b"{}")]
    evidence = evidence_of(world)._replace(reports=[ended(1, run.nonce)], dead_letters=dead, circumstances=AT_REST)

    assert found(checks.ends_are_there, evidence) == ([("shop-o1-r3.1", "its end is a dead letter, and was ordered")] if buried else [])


def test_a_command_that_nobody_has_to_wait_for_is_completed_in_its_own_decision() -> None:
    book = Book(kept("catalogue"))
    message, decision = book.commands("ticket-add", status="accepted")[0]
    decision["events"] = [known for known in decision["events"] if known["type"] != "action-completed"]

    wrong = f"{decision['action']['id']} (ticket-add) is accepted and not completed in the same decision"
    assert found(checks.decided_whole, book) == [(f"{seq(book, message)}.0", wrong)]
