"""The verifier on histories that are right, and on histories into which bugs were planted."""

from __future__ import annotations

import random
from collections import Counter
from functools import cache

import pytest

from cli.audit import judge
from cli.audit.canary import forms
from cli.audit.case import Case
from cli.audit.evidence import Evidence
from cli.audit.history import History
from cli.audit.judge import verify
from tests.unit.audit.book import Book
from tests.unit.audit.mutants import KINDS, Kind, mutant
from tests.unit.audit.stories import evidence_of, story

STORIES = 40
STEPS = 80
SEED = 1
MUTANTS_A_KIND = 8
MUTANTS_MIN = 500
KINDS_MIN = 15
CAUGHT_MIN = 0.99


@cache
def evidence(seed: int) -> Evidence:
    return evidence_of(story(seed, steps=STEPS))


@pytest.mark.parametrize("part", range(4))
def test_in_a_history_that_is_right_nothing_is_found_wrong(part: int) -> None:
    seen: Counter[str] = Counter()
    for seed in range(part * 50, part * 50 + 50):
        verdict = verify(evidence_of(story(seed, steps=STEPS)))
        assert verdict.violations == (), f"story {seed}"
        seen.update(verdict.checked)
    assert set(seen) == {f"I{number}" for number in range(1, 21)} - {"I19"}


def test_a_book_that_was_not_changed_is_sealed_to_the_bytes_it_was() -> None:
    for seed in range(5):
        before, after = evidence(seed), Book(evidence(seed)).sealed()
        assert list(after.ledger or ()) == list(before.ledger or ())
        assert list(after.timeline or ()) == list(before.timeline or ())
        assert list(after.calls or ()) == list(before.calls or ())


def planted(kind: Kind, rng: random.Random, count: int) -> list[Evidence]:
    """Return mutants of a kind, each of a story of its own where there are so many."""
    found: list[Evidence] = []
    for seed in rng.sample(range(STORIES), STORIES):
        changed = mutant(kind, evidence(seed), rng)
        if changed is not None:
            found.append(changed)
        if len(found) == count:
            break
    return found


def finders(changed: Evidence) -> set[str]:
    """Return the checks that find something wrong."""
    needles = tuple(form for canary in changed.canaries or () for form in forms(canary))
    case = Case(changed, History(changed.ledger or (), needles))
    return {check.run.__name__ for check in judge.CHECKS if judge.found(check, case)}


def test_of_the_bugs_that_are_planted_at_least_99_of_100_are_caught_and_every_check_catches_some(capsys: pytest.CaptureFixture[str]) -> None:
    rng = random.Random(SEED)
    total: Counter[str] = Counter()
    caught: Counter[str] = Counter()
    speak: set[str] = set()
    for kind in KINDS:
        for changed in planted(kind, rng, MUTANTS_A_KIND):
            found = finders(changed)
            total[kind.name] += 1
            caught[kind.name] += bool(found)
            speak |= found

    with capsys.disabled():
        print(f"\nverifier: {caught.total()} of {total.total()} planted bugs of {len(total)} kinds caught")
        missed = [f"{kind} {caught[kind]}/{count}" for kind, count in total.items() if caught[kind] < count]
        print(f"  missed: {', '.join(missed) or 'none'}")
    assert {kind.name for kind in KINDS} == set(total), "a kind has no place in any story"
    assert len(total) >= KINDS_MIN
    assert total.total() >= MUTANTS_MIN
    assert caught.total() >= CAUGHT_MIN * total.total()
    assert {check.run.__name__ for check in judge.CHECKS} == speak, "a check that never finds anything checks nothing"


def test_a_flipped_byte_anywhere_is_found_and_judging_never_falls() -> None:
    whole = evidence(3)
    rng = random.Random(7)
    ledger = list(whole.ledger or ())
    for _ in range(60):
        index = rng.randrange(len(ledger))
        data = bytearray(ledger[index].data)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        changed = [*ledger[:index], ledger[index]._replace(data=bytes(data)), *ledger[index + 1 :]]
        verdict = verify(whole._replace(ledger=changed, timeline=None))
        followed = any(later.subject == ledger[index].subject for later in ledger[index + 1 :])
        assert verdict.violations or not followed
