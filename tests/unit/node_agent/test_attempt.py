"""The book: what the entries of a journal fold to."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from node_agent.attempt import (
    DONE_MAX,
    STOPS_MAX,
    Book,
    Delivered,
    Dropped,
    Entry,
    Finished,
    Key,
    ProcessId,
    Spawned,
    Spawning,
    StopAsked,
    key_of,
)
from tests.unit.node_agent.orders import AT, ended, taken

KEYS = [key_of(taken(number).order) for number in range(1, 4)]


def _entries(number: int) -> st.SearchStrategy[Entry]:
    key = KEYS[number - 1]
    choices: list[Entry] = [
        taken(number),
        Dropped(key),
        Spawning(key, "c0ffee", AT),
        Spawned(key, ProcessId(7, 9, "boot")),
        StopAsked(key, "dispatch_cancelled"),
        Finished(key, ended()),
        Delivered(key),
    ]
    return st.sampled_from(choices)


histories = st.lists(st.integers(1, 3).flatmap(_entries), max_size=25)


def folded(entries: list[Entry]) -> Book:
    book = Book()
    for entry in entries:
        book.apply(entry)
    return book


def content(book: Book) -> tuple[object, ...]:
    return book.open, book.done, book.stops


@given(histories)
def test_the_shortest_journal_folds_to_the_same_book(entries: list[Entry]) -> None:
    book = folded(entries)
    assert content(folded(book.entries())) == content(book)


@given(histories)
def test_every_entry_twice_is_every_entry_once(entries: list[Entry]) -> None:
    assert content(folded([entry for entry in entries for _ in range(2)])) == content(folded(entries))


@given(histories)
def test_an_attempt_that_is_over_stays_over(entries: list[Entry]) -> None:
    book = folded([taken(1), Delivered(KEYS[0]), *entries])
    assert KEYS[0] not in book.open
    assert book.knows(KEYS[0])
    assert KEYS[0] not in book.stops


def test_an_attempt_keeps_what_is_known_of_it() -> None:
    process = ProcessId(7, 9, "boot")
    book = folded([taken(1), Spawning(KEYS[0], "c0ffee", AT), Spawned(KEYS[0], process), Finished(KEYS[0], ended())])
    held = book.open[KEYS[0]]
    assert held.spawning is not None
    assert (held.order.run, held.taken.claim, held.spawning.head, held.process, held.ended) == (
        "shop-o1-r1",
        "claim-1",
        "c0ffee",
        process,
        ended(),
    )


def test_what_is_remembered_is_bounded() -> None:
    keys = [Key(f"shop-o1-r{number}", 1, "n") for number in range(1, DONE_MAX + 3)]
    book = folded([Delivered(key) for key in keys])
    assert len(book.done) == DONE_MAX
    assert not book.knows(keys[0])
    assert book.knows(keys[-1])
    assert len(folded([StopAsked(key, "x") for key in keys]).stops) == STOPS_MAX


def test_an_attempt_in_hand_is_known_by_its_order() -> None:
    held = folded([taken(1)]).open[KEYS[0]]

    assert held.order == taken(1).order
    assert held.key == KEYS[0]
