"""Checks of policies and revisions, each on a kept history with one thing changed."""

from __future__ import annotations

import msgspec
import pytest

from bus_schemas import commands as c
from bus_schemas.policy import PRESETS, Preset
from cli.audit import checks_policy as checks
from cli.audit.evidence import Evidence
from tests.unit.audit.book import Book
from tests.unit.audit.kept import event, evidence_of, found, kept, seq, where
from tests.unit.controller.world import SHELL, World

NOBODY = {"cause": "timer", "name": "dispatch"}


def launched_with_a_whole_policy() -> Evidence:
    world = World(launch=False)
    policy = msgspec.to_builtins(PRESETS[Preset.STRICT])
    assert world.do(c.Launch("shop-d1", "n1", policy={**policy, "model": {**policy["model"], **SHELL["model"]}})).status == "accepted"
    return evidence_of(world)


def test_a_launch_that_names_a_whole_policy_has_that_policy() -> None:
    evidence = launched_with_a_whole_policy()
    book = Book(evidence)
    launched = event(book, "orchestration-launched")
    launched.decision["cause"]["body"]["policy"]["flow"]["max_task_attempts"] = 7

    assert found(checks.snapshots, evidence) == []
    assert found(checks.snapshots, book) == [(where(book, launched), "shop-o1 has another policy than its launch asked for")]


def test_a_policy_that_no_command_asked_for_is_compared_with_no_command() -> None:
    for check, type_ in ((checks.snapshots, "orchestration-launched"), (checks.changes_fold, "policy-changed")):
        book = Book(kept("changes"))
        at = event(book, type_)
        at.decision["cause"]["body"] = {"preset": "strict", "patch": {"flow": {"max_task_attempts": 7}}}
        assert len(found(check, book)) == 1
        at.decision["cause"] = NOBODY
        assert found(check, book) == []


def test_a_change_of_policy_was_asked_for_on_top_of_the_revision_before() -> None:
    book = Book(kept("changes"))
    changed = event(book, "policy-changed", revision=2)
    changed.decision["cause"]["body"]["target_revision"] = 7

    assert found(checks.changes_fold, book) == [(where(book, changed), "revision 2 of shop-o1 was asked for on top of 7")]


def test_the_revisions_of_a_design_begin_with_one_and_count_up() -> None:
    book = Book(kept("catalogue"))
    edited = event(book, "design-edited")
    name = edited.event["design"]
    added = next(at for at in book.events("design-added") if at.event["design"]["id"] == name)
    added.event["design"]["revision"] = 4
    edited.event["revision"] = 9

    assert found(checks.catalogue_revisions, book)[:2] == [
        (where(book, added), f"{name} begins with revision 4"),
        (where(book, edited), f"{name} gets revision 9 after 4"),
    ]


@pytest.mark.parametrize("story", ["consensus", "worst"])
def test_repairs_of_a_phase_are_one_and_two(story: str) -> None:
    assert found(checks.plan_revisions, kept(story)) == []
    book = Book(kept(story))
    first, second = book.events("repair-started")
    assert (first.event["repair"], second.event["repair"]) == (1, 2)
    first.event["repair"] = 5
    phase = first.event["phase"]

    assert found(checks.plan_revisions, book) == [
        (where(book, first), f"phase {phase} of shop-o1 gets repair 5 after 0"),
        (where(book, second), f"phase {phase} of shop-o1 gets repair 2 after 5"),
    ]


def test_a_launch_names_the_revision_and_the_phases_of_its_design() -> None:
    book = Book(kept("whole"))
    launched = event(book, "orchestration-launched")
    launched.event["total_phases"] += 1
    phases = launched.event["total_phases"]

    wrong = f"shop-o1 is of shop-d1 revision 1 with {phases} phases; the design has (revision, phases) (1, {phases - 1})"
    assert found(checks.catalogue_revisions, book) == [(f"{seq(book, launched.message)}.1", wrong)]
