"""Checks of decisions, each on a kept history with one thing changed."""

from __future__ import annotations

from typing import Any

import pytest

from cli.audit import checks_decisions as checks
from tests.unit.audit.book import Book
from tests.unit.audit.kept import event, found, kept, seq
from tests.unit.controller.stories import STORIES

MISSING: tuple[tuple[str, str, dict[str, Any], str, str], ...] = (
    ("failures", "phase-moved", {"status": "blocked"}, "hold-set", "phase {phase} moves from executing to blocked without what belongs to it"),
    (
        "whole",
        "task-moved",
        {"status": "in_progress", "rejected": True},
        "issues-raised",
        "task {phase}.{task} moves from in_progress to in_progress without what belongs to it",
    ),
    ("gates", "repair-started", {}, "issues-raised", "a repair of phase {phase} with no issues, or that is not planned"),
    ("consensus", "repair-started", {}, "phase-moved", "a repair of phase {phase} with no issues, or that is not planned"),
)


@pytest.mark.parametrize(("story", "type_", "fields", "lacks", "wrong"), MISSING)
def test_an_event_stands_beside_what_leads_to_it_and_follows_from_it(story: str, type_: str, fields: dict[str, Any], lacks: str, wrong: str) -> None:
    book = Book(kept(story))
    at = event(book, type_, **fields)
    at.decision["events"] = [known for known in at.decision["events"] if known["type"] != lacks]

    assert (f"{seq(book, at.message)}.0", wrong.format(**at.event)) in found(checks.hang_together, book)


def test_a_task_is_blocked_after_a_run_failed_or_a_reviewer_said_so_and_it_has_no_commits() -> None:
    book = Book(kept("failures"))
    blocked = event(book, "task-moved", status="blocked")
    place = f"{seq(book, blocked.message)}.0"
    wrong = f"task {blocked.event['phase']}.{blocked.event['task']} moves from in_progress to blocked without what belongs to it"
    blocked.event["git_range"] = ["c0", "c1"]

    assert (place, wrong) in found(checks.hang_together, book)


@pytest.mark.parametrize("type_", ["retry", "pause"])
def test_a_blocked_task_is_pending_again_by_a_retry_alone(type_: str) -> None:
    book = Book(kept("failures"))
    again = event(book, "task-moved", status="pending")
    assert again.decision["cause"]["type"] == "retry"
    again.decision["cause"]["type"] = type_
    wrong = f"task {again.event['phase']}.{again.event['task']} moves from blocked to pending without what belongs to it"

    assert (wrong in [text for _, text in found(checks.hang_together, book)]) is (type_ != "retry")


def test_a_cancel_is_never_taken_back() -> None:
    book = Book(kept("late-cancel"))
    cancelling = event(book, "hold-set", hold="cancelling")
    later = book.events("run-ended")[-1]
    later.decision["events"].append({"type": "hold-cleared", "orchestration": "shop-o1", "hold": "cancelling"})
    assert cancelling.message is not later.message

    assert [text for _, text in found(checks.hang_together, book)] == ["hold cancelling is cleared without what leads to it"]


def test_a_run_of_a_kind_that_is_not_known_is_queued_for_reasons_that_are_not_known() -> None:
    book = Book(kept("whole"))
    for at in book.events("run-queued"):
        if at.event["kind"] == "verify":
            at.event["kind"] = "lint"

    assert not [text for _, text in found(checks.hang_together, book) if "queued" in text]


@pytest.mark.parametrize("name", STORIES)
def test_of_a_kept_history_the_work_goes_on_from_what_was_accepted(name: str) -> None:
    assert found(checks.work_continues, kept(name)) == []


def test_a_commit_that_was_accepted_is_among_the_newest_ones() -> None:
    book = Book(kept("whole"))
    done = next(at for at in book.events("task-moved") if at.event["status"] == "completed")
    (moved,) = (known for known in done.decision["events"] if known["type"] == "heads-moved")
    moved["heads"] = ["c-of-somebody"]

    wrong = f"commit {done.event['git_range'][1]}, which shop-o1 accepted, is not among its newest commits"
    assert (f"{seq(book, done.message)}.0", wrong) in found(checks.work_continues, book)


def test_a_finalize_that_fails_after_a_cancel_needs_nothing_to_follow_but_the_end() -> None:
    book = Book(kept("late-cancel"))
    ended = book.events("run-ended")[-1]
    ended.event["outcome"] = "failed"

    assert not [text for _, text in found(checks.hang_together, book) if "ended as failed" in text]
