"""The index: what it holds is what a replay gives, whenever it was written and whenever it is read again."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bench import growth_ledger, work
from bus.bootstrap import Sync
from bus.connection import Stored
from bus_schemas import codec, subjects
from bus_schemas import commands as c
from bus_schemas.decisions import Decision, LedgerMessage, TimerCause
from bus_schemas.entities import Ticket
from bus_schemas.events import Event, HeadsRecorded, RecordedHead, TicketAdded
from bus_schemas.ids import PLANE, ProjectId, TicketId
from bus_schemas.reports import Ended, Outcome, Started
from bus_schemas.subjects import ReportSubject
from controller import index_changes, shelf_codec
from controller.batch import Answer, Batch, Item, ReportItem
from controller.draft import Context
from controller.index import Index
from controller.ledger import Appended, Ledger
from controller.project import Aggregate, settled
from controller.queries import Queries
from controller.shelf import Filter, Unusable
from tests.unit.controller.restored import in_memory, whole_states
from tests.unit.controller.test_properties import CasLog, Decider, item_of, random_history
from tests.unit.controller.world import SHELL, T0, World


def test_every_field_of_an_aggregate_is_written_or_follows_from_what_is() -> None:
    fields = set(Aggregate.__struct_fields__)
    counters = set(shelf_codec.Counters.__struct_fields__)
    follows = {"project", "orchestrations", "commands", "live_slugs"}
    assert fields == counters | follows | set(shelf_codec.THINGS) - {"counters"}


def test_every_event_touches_what_the_table_says_or_an_orchestration() -> None:
    others = [kind for kind in Event.__args__ if kind not in index_changes._TOUCHES]
    assert [kind for kind in others if "orchestration" not in kind.__struct_fields__] == []


def test_a_record_of_heads_touches_the_head_of_each_project_it_names_and_nothing_else() -> None:
    heads = HeadsRecorded((RecordedHead("shop", 7, "1" * 64), RecordedHead("park", 3, "2" * 64)))
    decision = Decision(at=T0, cause=TimerCause("heads"), events=(heads,))
    message = LedgerMessage(1, "ledger-message", PLANE, "b1", "test", codec.ZERO_HASH, 0, 1, (decision,))

    assert index_changes.touched_by([message], {PLANE: Aggregate(PLANE)}) == {PLANE: {"heads": {"shop": None, "park": None}}}


class Twins:
    """A ledger that keeps everything in memory, and one with an index; both fold the same messages."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.log: list[Stored] = []
        self.plain = Ledger(None, "plain")  # type: ignore[arg-type]
        self.indexed = self._opened()

    def _opened(self) -> Ledger:
        index = Index.open(self.data, "indexed")
        assert index is not None
        ledger = Ledger(None, "indexed", index)  # type: ignore[arg-type]
        ledger.adopt(index)
        return ledger

    def restart(self) -> None:
        """As after a kill: what was not written is gone, and is folded again."""
        assert self.indexed.index is not None
        self.indexed.index.close()
        self.indexed = self._opened()
        for stored in self.log[self.indexed.position_seq :]:
            assert self.indexed.fold_stored(stored) is not None

    def feed(self, message: LedgerMessage) -> None:
        data = codec.encode(replace(message, prev=self.plain.head(message.project).sha256))
        stored = Stored(subjects.ledger(message.project), len(self.log) + 1, T0, data, {})
        self.log.append(stored)
        for ledger in (self.plain, self.indexed):
            assert ledger.fold_stored(stored) is not None

    def answers(self, ledger: Ledger, project: str, items: list[Item]) -> tuple[list[Answer], list[bytes]]:
        batch = Batch(ledger, project, Context(ledger.plane.at or T0, b"0123456789abcdef", ledger.plane, frozenset({"n1"}), {}))
        for item in items:
            batch.take(item)
        return batch.answers, [codec.encode(decision) for decision in batch.decisions]

    def assert_same_answers(self, items: list[Item]) -> None:
        assert self.answers(self.indexed, "shop", items) == self.answers(self.plain, "shop", items)

    def assert_same(self) -> None:
        assert whole_states(self.indexed) == {name: state for name, state in self.plain.states.items() if state != Aggregate(name)}
        assert self.indexed.heads == self.plain.heads
        for stored in self.log:
            for decision in codec.decode_ledger(stored.data).decisions:
                key = getattr(decision.cause, "key", None)
                if key is not None:
                    assert self.indexed.keys.find("shop", key) == self.plain.keys.find("shop", key)


def ended_history(rng: random.Random) -> World:
    """A history that has ended, with commands and reports that came too late, and another launch after it."""
    world = random_history(rng, 60)
    world.do(c.Cancel("shop-o1"))
    while world.open():
        world.end(rng.choice(world.open()), outcome=Outcome.CANCELLED)
    runs = world.o.runs
    for _ in range(6):
        world.do(rng.choice([c.Cancel("shop-o1"), c.Pause("shop-o1"), c.TicketAdd("shop", "t"), c.Retry("shop-o1")]))
        world.end(rng.choice(runs))
    world.do(c.Launch("shop-d1", "n1", feature="again", overrides=SHELL))
    return world


def questions(rng: random.Random, world: World) -> list[Item]:
    """Commands and reports as they may come at any time: known keys, new ones, other bodies, runs that ended or are not there yet."""
    found: list[Item] = []
    for index in range(1, 9):
        command = rng.choice([c.Cancel("shop-o1"), c.Pause("shop-o1"), c.Resume("shop-o1"), c.Launch("shop-d1", "n1", overrides=SHELL)])
        item = item_of(command, f"k{rng.randint(1, world.keys + 3)}", index)
        found.append(item._replace(body_hash=rng.choice(["h", item.body_hash])))
        run = rng.choice(world.o.runs)
        attempt = rng.randint(1, run.attempt)
        nonce, node = run.sent[attempt - 1]
        subject = ReportSubject(node, "shop", run.id, attempt, nonce, "ended")
        report = rng.choice([Started(1, "boot", "claim", T0), Ended(v=1, outcome=Outcome.FAILED, at=T0)])
        found.append(ReportItem(item.delivery, subject, report))
    return found


async def live_through(twins: Twins, world: World, rng: random.Random) -> None:
    for _, message in world.ledger:
        twins.feed(message)
        what = rng.random()
        if what < 0.25:
            await twins.indexed.write_index()
        if what < 0.08:
            twins.restart()
        if what > 0.9:
            twins.assert_same_answers(questions(rng, world))
    await twins.indexed.write_index()
    twins.assert_same_answers(questions(rng, world))
    await twins.indexed.write_index()
    assert in_memory(twins.indexed) == in_memory(twins.plain, open_only=True)
    twins.assert_same()
    twins.restart()
    twins.assert_same()
    assert twins.indexed.position_seq == len(twins.log)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32))
def test_a_ledger_with_an_index_answers_as_one_that_has_all_in_memory_and_after_any_restart_is_the_same(seed: int) -> None:
    rng = random.Random(seed)
    world = ended_history(rng)
    with tempfile.TemporaryDirectory() as folder:
        twins = Twins(Path(folder))
        anyio.run(live_through, twins, world, rng)
        assert twins.indexed.index is not None
        twins.indexed.index.close()


async def a_full_disk(twins: Twins, world: World) -> None:
    shelf = twins.indexed.index.shelf  # type: ignore[union-attr]
    half = len(world.ledger) // 2
    for _, message in world.ledger[:half]:
        twins.feed(message)
    assert await twins.indexed.write_index()
    pages = shelf.writer.execute("PRAGMA page_count").fetchone()[0]
    shelf.writer.execute(f"PRAGMA max_page_count = {pages}")
    for _, message in world.ledger[half:]:
        twins.feed(message)
    for number in range(40):
        text = "".join(random.Random(number).choices("abcdefghij", k=4000))
        twins.feed(replace(world.ledger[-1][1], decisions=(replace(world.ledger[-1][1].decisions[0], events=(_ticket(number, text),)),)))
    assert not await twins.indexed.write_index()
    twins.assert_same()
    shelf.writer.execute("PRAGMA max_page_count = 1000000")
    assert await twins.indexed.write_index()
    twins.restart()
    assert twins.indexed.position_seq == len(twins.log)
    twins.assert_same()


def _ticket(number: int, body: str) -> TicketAdded:
    return TicketAdded(Ticket(TicketId(f"shop-t{number + 1000}"), ProjectId("shop"), "t", body))


def test_what_cannot_be_written_stays_in_memory_and_is_written_when_there_is_room(tmp_path: Path) -> None:
    twins = Twins(tmp_path)
    anyio.run(a_full_disk, twins, ended_history(random.Random(3)))
    assert twins.indexed.index is not None
    twins.indexed.index.close()


def test_a_file_that_can_no_longer_be_read_is_never_taken_for_an_answer_and_is_moved_aside(tmp_path: Path) -> None:
    index = Index.open(tmp_path, "one")
    assert index is not None
    index.shelf.writer.execute("DROP TABLE keys")
    with pytest.raises(Unusable):
        Ledger(None, "one", index).keys.find("shop", "k")  # type: ignore[arg-type]
    index.close()

    assert (tmp_path / "index.sqlite.unusable").exists()
    assert not (tmp_path / "index.sqlite").exists()


async def launches_in_flight(folder: Path) -> tuple[Ledger, Ledger]:
    """Batches on batches, as a lane makes them, while what ended in the first ones is written and leaves the memory."""
    log = CasLog()
    plain, index = Decider(log, "plain"), Index.open(folder, "one")
    assert index is not None
    ledger = Ledger(None, "one", index)  # type: ignore[arg-type]
    index.deciding = True
    flight: tuple[Batch, bytes] | None = None
    plain.decide(PLANE, [item_of(c.ProjectAdd("shop", "/r"), "p", 1)], seed=b"x" * 16)
    for stored in log.messages:
        ledger.fold_stored(stored)
    for number in range(12):
        context = Context(T0, b"x" * 16, ledger.plane, frozenset({"n1"}), {})
        batch = Batch(ledger, "shop", context, None if flight is None else flight[0])
        batch.take(item_of(c.TicketAdd("shop", f"t{number}"), f"k{number}", number + 2))
        batch.take(item_of(c.TicketAdd("shop", "again"), "k0", number + 50))
        if flight is not None:
            land(log, ledger, flight[0])
            message = codec.decode_ledger(log.messages[-1].data)
            batch.rebase(Appended(message, ledger.head("shop")))
        if number % 3 == 2:
            await ledger.write_index()
        flight = (batch, b"")
    assert flight is not None
    land(log, ledger, flight[0])
    for _ in range(2):
        await ledger.write_index()
    plain.catch_up()
    return ledger, plain.ledger


def land(log: CasLog, ledger: Ledger, batch: Batch) -> None:
    """Store a batch, and take it into the ledger as an append does."""
    head = ledger.head(batch.project)
    message = LedgerMessage(1, "ledger-message", batch.project, "b", "one", head.sha256, 1, 1, tuple(batch.decisions))
    data = codec.encode(message)
    seq = log.append(subjects.ledger(batch.project), data, head.seq)
    assert seq is not None
    ledger._take(settled(batch.state, message, seq), message, seq, codec.body_sha256(data))


def test_what_has_left_the_memory_is_not_brought_back_by_a_batch_that_was_under_way(tmp_path: Path) -> None:
    ledger, plain = anyio.run(launches_in_flight, tmp_path)
    kept = in_memory(ledger)
    states = whole_states(ledger)
    assert ledger.index is not None
    ledger.index.close()

    assert kept == (0, 0)
    assert states["shop"] == plain.states["shop"]


async def half_written(twins: Twins) -> None:
    """Sixty orchestrations that ended, with three actions each: those of the first half have left the memory."""
    template = growth_ledger.Template()
    for project, decision in template.head:
        twins.feed(codec.decode_ledger(growth_ledger.message(project, codec.ZERO_HASH, 1, codec.encode(decision))))
    for number in range(1, 61):
        decisions = next(growth_ledger.messages(template, number, number, 3 * number - 1))
        twins.feed(codec.decode_ledger(growth_ledger.message(work.PROJECT, codec.ZERO_HASH, 1, decisions)))
        if number == 30:
            await twins.indexed.write_index()
    assert in_memory(twins.indexed) == (30, 90)


@pytest.mark.parametrize("limit", [1, 7, 100])
@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("orchestrations", {}),
        ("orchestrations", {"project": "bench"}),
        ("orchestrations", {"project": "bench", "status": "failed"}),
        ("orchestrations", {"status": "complete"}),
        ("actions", {}),
        ("actions", {"project": "bench", "status": "refused"}),
        ("actions", {"status": "failed"}),
        ("actions", {"orchestration": "bench-o30"}),
        ("actions", {"orchestration": "bench-o31"}),
        ("actions", {"orchestration": "bench-o30", "status": "refused"}),
        ("actions", {"since": "2026-01-01T00:00:02.5Z"}),
    ],
)
def test_a_list_over_memory_and_file_has_the_pages_of_a_list_over_memory_alone(half: Twins, name: str, params: dict[str, Any], limit: int) -> None:
    def pages(ledger: Ledger) -> list[str]:
        answers = Queries(ledger, None, "one", Sync.ALWAYS, None)  # type: ignore[arg-type]
        found: list[str] = []
        after = None
        while True:
            page = getattr(answers, f"_{name}")({**params, "limit": limit, **({} if after is None else {"after": after})})
            found += [getattr(item, "id", None) or item.action for item in page["items"]]
            after = page["next"]
            if after is None:
                return found

    assert pages(half.indexed) == pages(half.plain)


_FILTERS: dict[str, tuple[Any, Any]] = {
    "project": (None, "bench"),
    "status": (None, "refused"),
    "orchestration": (None, "bench-o7"),
    "since": (None, T0),
}


@pytest.mark.parametrize("newer", [False, True])
@pytest.mark.parametrize("place", [None, (1, 1)])
@pytest.mark.parametrize("values", list(product(*_FILTERS.values())))
def test_no_list_is_sorted_or_looks_at_more_than_it_needs(half: Twins, values: tuple[Any, ...], place: tuple[int, int] | None, newer: bool) -> None:
    """At a million orchestrations the refused actions of one took sixteen seconds: all that was ever refused was looked through."""
    assert half.indexed.index is not None
    shelf, wanted = half.indexed.index.shelf, Filter(*values)
    for table in ("actions", "orchestrations") if wanted.orchestration is None else ("actions",):
        sql, parameters = shelf.selecting(table, wanted, place, newer=newer)
        ((*_, plan),) = shelf.writer.execute(f"EXPLAIN QUERY PLAN {sql}", parameters).fetchall()
        names = [name for name in ("project", "status") if getattr(wanted, name) is not None] or ["at"]
        assert f" USING INDEX {table}_{'orchestration' if wanted.orchestration is not None else '_'.join(names)}" in plan


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    twins = Twins(tmp_path_factory.mktemp("half"))
    anyio.run(half_written, twins)
    yield twins
    assert twins.indexed.index is not None
    twins.indexed.index.close()
