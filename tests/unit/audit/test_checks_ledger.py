"""Checks of the ledger as a log against the timeline that was made of it."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from cli.audit import checks_ledger as checks
from cli.audit.evidence import Evidence, TimelineRow
from tests.unit.audit.book import Book
from tests.unit.audit.kept import found, kept


def with_timeline() -> tuple[Evidence, list[TimelineRow]]:
    evidence = Book(kept("whole")).sealed()
    return evidence, list(evidence.timeline or ())


def test_a_row_behind_the_last_one_of_the_ledger_is_found() -> None:
    evidence, rows = with_timeline()
    beyond = [replace(rows[-1], seq=rows[-1].seq + number) for number in (1, 2)]

    assert found(checks.timeline_is_ledger, evidence) == []
    assert found(checks.timeline_is_ledger, evidence._replace(timeline=[*rows, *beyond])) == [
        (f"{row.seq}.{row.idx}", f"the timeline has a row {row.type} that the ledger has not") for row in beyond
    ]


@pytest.mark.parametrize(
    "change", [{"orchestration": "shop-o9"}, {"run": "shop-o1-r99"}, {"attempt": 7}, {"action": "shop-a99"}, {"project": "park"}]
)
def test_a_row_that_says_something_else_than_the_ledger_is_found(change: dict[str, Any]) -> None:
    evidence, rows = with_timeline()
    index = next(index for index, row in enumerate(rows) if row.type == "run-queued")
    wrong = replace(rows[index], **change)
    ((where, text),) = found(checks.timeline_is_ledger, evidence._replace(timeline=[*rows[:index], wrong, *rows[index + 1 :]]))

    assert where == f"{wrong.seq}.{wrong.idx}"
    assert text.startswith(f"the timeline says {wrong}; the ledger has run-queued of shop: ")


@pytest.mark.parametrize("silence", [{"orchestration": None}, {"run": None}, {"action": None}])
def test_a_row_that_does_not_say_something_contradicts_nothing(silence: dict[str, Any]) -> None:
    evidence, rows = with_timeline()
    assert found(checks.timeline_is_ledger, evidence._replace(timeline=[replace(row, **silence) for row in rows])) == []
