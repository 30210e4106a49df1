"""Checks of attempts, each on a kept history with one thing changed, and witnesses of it made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from bus_schemas.subjects import report
from cli.audit import checks_runs as checks
from cli.audit.evidence import Attempt, Evidence, Journal, JournalLine, JournalOrder, Stored, Witnessed
from tests.unit.audit.book import Book
from tests.unit.audit.kept import event, found, kept, seq, where
from tests.unit.controller.world import T0

FIRST = "shop-o1-r1"
HOUR_S = 3600.0


def seen(event: Any = "start", *, at_s: float = T0.timestamp() + HOUR_S, orchestration: str = "shop-o1") -> Witnessed:
    return Witnessed(at_s, orchestration, FIRST, 1, event)


def nonce() -> str:
    found: str = event(Book(kept("whole")), "run-queued", run=FIRST).event["nonce"]
    return found


def test_an_agent_ends_at_most_as_often_as_it_started() -> None:
    right, wrong = [seen(), seen("end")], [seen("end")]
    assert found(checks.one_start_witnessed, Evidence(witness=right)) == []
    assert found(checks.one_start_witnessed, Evidence(witness=wrong)) == [(f"{FIRST}.1", "its agent ended 1 times and started 0 times")]


@pytest.mark.parametrize("data", [b'{"type":"started"}', b'{"type":"withdrawn"}', b"\xff", b"{"])
def test_a_claim_is_a_report_that_says_so(data: bytes) -> None:
    claim = Stored(1, report("n1", "shop", FIRST, 1, nonce(), "started"), T0.timestamp(), data)
    is_claim = data == b'{"type":"started"}'
    evidence = kept("whole")._replace(witness=[seen()], reports=[claim])

    assert found(checks.one_claim, evidence) == ([] if is_claim else [(f"{FIRST}.1", "its agent started, and its claim was withdrawn")])


KEY = Attempt(FIRST, 1, "n0")
TAKEN = JournalLine("taken", order=JournalOrder(FIRST, 1, "n0", "n1"))
UNKNOWN = (f"{FIRST}.1", "its agent started, and the journal of n1 does not know")


@pytest.mark.parametrize(
    ("lives", "wrong"),
    [
        ([[TAKEN]], [UNKNOWN]),
        ([[TAKEN, JournalLine("stop", key=KEY)]], [UNKNOWN]),
        ([[TAKEN, JournalLine("opened")]], [UNKNOWN]),
        ([[TAKEN, JournalLine("spawning", key=KEY)]], []),
        ([[TAKEN], [JournalLine("spawned", key=KEY)]], []),
        ([[TAKEN], [JournalLine("taken", key=Attempt(FIRST, 2, "n2"))]], [UNKNOWN]),
    ],
    ids=["taken", "then stopped", "then of nothing", "then spawning", "another life knows", "another attempt"],
)
def test_an_agent_starts_after_a_journal_says_spawning(lives: list[list[JournalLine]], wrong: list[tuple[str, str]]) -> None:
    journals = [Journal("n1", tuple(lines)) for lines in lives]
    assert found(checks.journal_before_start, Evidence(witness=[seen()], journals=journals)) == wrong


def test_an_agent_works_for_the_orchestration_that_its_attempt_is_of() -> None:
    assert found(checks.ordered, kept("whole")._replace(witness=[seen()])) == []
    assert found(checks.ordered, kept("whole")._replace(witness=[seen(orchestration="shop-o7")])) == [
        (f"{FIRST}.1", "its agent says that it works for shop-o7")
    ]


def test_an_attempt_is_queued_when_the_one_before_is_over() -> None:
    book = Book(kept("control"))
    ended = event(book, "run-ended", run=FIRST, attempt=1)
    ended.decision["events"].remove(ended.event)
    queued = event(book, "run-queued", run=FIRST, attempt=2)

    assert found(checks.in_order, book) == [(where(book, queued), f"{FIRST}: attempt 2 is queued while attempt 1 is open")]


def test_an_orchestration_leaves_the_node_that_it_is_on() -> None:
    book = Book(kept("nodes"))
    moved = event(book, "node-assigned")
    moved.event["previous"] = "n9"

    assert found(checks.node_of, book) == [(where(book, moved), "shop-o1 leaves n9; it is on n1")]


def test_no_agent_starts_for_an_attempt_that_had_ended() -> None:
    book = Book(kept("whole"))
    ended = event(book, "run-ended", run=FIRST)
    before_s = next(stored.stored_at_s for stored in kept("whole").ledger or () if stored.seq == seq(book, ended.message))

    assert found(checks.over_is_over, kept("whole")._replace(witness=[seen(at_s=before_s)])) == []
    assert found(checks.over_is_over, kept("whole")._replace(witness=[seen()])) == [
        (f"{FIRST}.1", f"its agent started after it had ended at {where(book, ended)}")
    ]


def test_no_start_is_recorded_of_an_attempt_that_was_queued_while_nothing_might_start() -> None:
    book = Book(kept("control"))
    queued = event(book, "run-queued", run=FIRST, attempt=2)
    started = {"type": "run-dispatched", "orchestration": "shop-o1", "run": FIRST, "attempt": 2}
    resumed = event(book, "run-withdrawn", run=FIRST, attempt=2)
    resumed.decision["events"].insert(resumed.index, started)

    wrong = f"run-dispatched of {FIRST}.2 is recorded; it was queued at {where(book, queued)}, while nothing might start"
    assert found(checks.no_start_recorded_beyond_a_stop, book) == [(where(book, resumed), wrong)]


def test_no_start_is_recorded_while_an_orchestration_is_paused() -> None:
    book = Book(kept("control"))
    paused = event(book, "hold-set", hold="paused")
    paused.decision["events"].append({"type": "run-dispatched", "orchestration": "shop-o1", "run": FIRST, "attempt": 2})
    place = where(book, paused._replace(index=len(paused.decision["events"]) - 1))

    wrong = f"run-dispatched of {FIRST}.2 is recorded; shop-o1 was stopped at {where(book, paused)}"
    assert found(checks.no_start_recorded_beyond_a_stop, book) == [(place, wrong)]
