"""Checks of states, each on a kept history with one thing changed."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from cli.audit import checks_states as checks
from tests.unit.audit.book import Book, Place
from tests.unit.audit.kept import event, found, kept, where


def doubled(book: Book, at: Place) -> Place:
    """Let an event stand twice in its decision; return the second one."""
    at.decision["events"].insert(at.index + 1, deepcopy(at.event))
    return at._replace(index=at.index + 1)


def test_an_orchestration_is_launched_once() -> None:
    book = Book(kept("whole"))
    again = doubled(book, event(book, "orchestration-launched"))

    assert found(checks.orchestrations_move, book) == [(where(book, again), "shop-o1 is launched twice")]


def test_a_number_of_a_phase_is_planned_once() -> None:
    book = Book(kept("control"))
    again = doubled(book, event(book, "phase-planned"))

    assert found(checks.tasks_move, book) == [
        (where(book, again), "task 1.1 of shop-o1 is planned twice"),
        (where(book, again), "task 1.2 of shop-o1 is planned twice"),
    ]


def test_an_inserted_task_gets_the_next_number() -> None:
    book = Book(kept("changes"))
    inserted = event(book, "task-inserted", task=3)
    inserted.event["task"] = 2

    assert (where(book, inserted), "task 1.2 of shop-o1 is inserted with a number that is taken") in found(checks.tasks_move, book)


def test_only_a_pending_task_waits_for_an_inserted_one() -> None:
    book = Book(kept("changes"))
    inserted = event(book, "task-inserted", task=3)
    inserted.event["blocks"] = [9]

    assert (where(book, inserted), "task 1.9 is None and is made to wait for an inserted one") in found(checks.tasks_move, book)


def test_what_is_paused_is_not_paused_again() -> None:
    book = Book(kept("control"))
    paused = event(book, "hold-set", hold="paused")
    again = {"type": "hold-set", "orchestration": "shop-o1", "hold": "pausing"}
    paused.decision["events"].insert(paused.index + 1, again)

    assert found(checks.holds_and_gates, book)[0] == (where(book, paused._replace(index=paused.index + 1)), "shop-o1 is paused again")


def test_a_hold_is_set_before_it_is_cleared() -> None:
    book = Book(kept("control"))
    cleared = doubled(book, event(book, "hold-cleared", hold="paused"))

    assert found(checks.holds_and_gates, book) == [(where(book, cleared), "hold paused of shop-o1 is cleared and was not set")]


def test_an_orchestration_waits_at_one_gate_and_it_is_that_one_which_is_resolved() -> None:
    book = Book(kept("gates"))
    again = doubled(book, event(book, "gate-opened"))
    assert found(checks.holds_and_gates, book) == [(where(book, again), "shop-o1 is to wait at gate plan; it waits at plan")]

    book = Book(kept("gates"))
    resolved = event(book, "gate-resolved", gate="plan")
    resolved.event["gate"] = "review"
    assert found(checks.holds_and_gates, book) == [(where(book, resolved), "gate review of shop-o1 is resolved; it does not wait there")]


@pytest.mark.parametrize(
    ("type_", "path", "noun"),
    [
        ("design-edited", ("design",), "shop-d9"),
        ("design-marked", ("design",), "shop-d9"),
        ("ticket-edited", ("ticket",), "shop-t9"),
        ("comment-added", ("comment", "target"), "shop-t9"),
    ],
)
def test_what_is_changed_was_added(type_: str, path: tuple[str, ...], noun: str) -> None:
    book = Book(kept("catalogue"))
    changed = event(book, type_)
    part: dict[str, Any] = changed.event
    for name in path[:-1]:
        part = part[name]
    part[path[-1]] = noun

    assert found(checks.catalogue_moves, book) == [(where(book, changed), f"{type_} of {noun}, which was never added")]


def test_a_flag_remembers_what_it_was() -> None:
    book = Book(kept("whole"))
    changed = event(book, "flag-changed", flag="cp.launch")
    changed.event["previous"] = True

    assert found(checks.catalogue_moves, book) == [(where(book, changed), "flag cp.launch is said to have been True; it was False")]


def test_a_project_is_added_once() -> None:
    book = Book(kept("whole"))
    added = event(book, "project-added")
    doubled(book, added)

    assert found(checks.registered_before, book) == [(where(book, added._replace(index=0)), "project shop is added twice")]
