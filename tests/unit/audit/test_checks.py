"""The verifier on kept histories of the core: every corner that is kept is judged right."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from cli.audit.case import Case
from cli.audit.evidence import Evidence, Stored
from cli.audit.history import History
from cli.audit.judge import Check, found, verify
from cli.audit.verdict import Finding
from tests.unit.audit.kept import kept
from tests.unit.controller.stories import STORIES


@pytest.mark.parametrize("name", STORIES)
def test_in_a_kept_history_nothing_is_found_wrong(name: str) -> None:
    verdict = verify(kept(name))
    assert verdict.violations == ()
    assert verdict.checked["I20"] > 0


def test_a_check_that_stumbles_over_evidence_of_another_shape_finds_it_wrong_and_keeps_what_it_found_before() -> None:
    def stumbles(case: Case) -> Iterator[Finding]:
        yield Finding("1.0", "this is wrong")
        raise KeyError("shape")

    case = Case(Evidence(), History())
    assert [(v.invariant, v.where, v.text) for v in found(Check("I20", stumbles, lambda _: 0), case)] == [
        ("I20", "1.0", "this is wrong"),
        ("I20", "stumbles", "the evidence cannot be judged: KeyError: 'shape'"),
    ]


@pytest.mark.parametrize("enabled", [True, False])
def test_no_garbage_is_collected_while_evidence_is_judged_and_afterwards_as_before(enabled: bool) -> None:
    collected: list[bool] = []

    def ledger() -> Iterator[Stored]:
        collected.append(gc.isenabled())
        yield from kept("whole").ledger or ()

    was_enabled = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        verdict = verify(Evidence(ledger=ledger()))
        after = gc.isenabled()
    finally:
        (gc.enable if was_enabled else gc.disable)()

    assert verdict.figures.messages > 0
    assert (collected, after) == ([False], enabled)


def test_a_report_on_a_subject_that_is_none_is_passed_over() -> None:
    subjects = ("qd.rep.n1.shop.shop-o1-r1.1.abc.started", "qd.rep.n1.shop.shop-o1-r1.one.abc.started", "qd.rep.n1.shop.started")
    case = Case(Evidence(reports=[Stored(number, subject, 1.0, b"{}") for number, subject in enumerate(subjects, 1)]), History())

    assert [(report.subject.run, report.subject.attempt, report.stored.seq) for report in case.reported] == [("shop-o1-r1", 1, 1)]
