"""The store: a cache of the ledger that heals itself, and its published copy."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from bus.connection import Stored
from tests.unit.timeline.conftest import CREATED, MEMORY_BYTES
from tests.unit.timeline.feeding import ingest
from tests.unit.timeline.story import whole_story
from tests.unit.timeline.tables import contents, difference
from timeline import store as store_module
from timeline.store import InUse, Store, WriteFailed, copy_frozen

OpenStore = Callable[[str], Store]


def test_the_position_is_that_of_the_rows_after_every_opening(open_store: OpenStore) -> None:
    messages = whole_story().stored()
    store = open_store("a")
    ingest(store, messages[:40])
    before = store.position
    store.close()
    assert store.open() is None
    assert store.position == before
    assert store.read("SELECT max(seq) FROM events").rows == [(40,)]


@pytest.mark.parametrize("damage", [b"", b"this is no database", b"\x00" * 20_000])
def test_a_file_that_does_not_open_is_moved_aside_and_made_again(open_store: OpenStore, damage: bytes) -> None:
    messages = whole_story().stored()
    whole = open_store("whole")
    ingest(whole, messages)
    whole.close()
    store = open_store("damaged")
    ingest(store, messages)
    store.close()
    store.path.write_bytes(damage)

    why = store.open()
    if damage:  # an empty file is a new one
        assert why is not None
        assert "was moved aside and is made again from the ledger" in why
        assert Path(f"{store.path}.aside").read_bytes() == damage
    store.begin("LEDGER", CREATED)
    ingest(store, messages)
    store.close()
    assert difference(whole.path, store.path) == {}


def test_a_torn_log_loses_rows_and_position_together_and_reading_on_heals_it(open_store: OpenStore) -> None:
    messages = whole_story().stored()
    whole = open_store("whole")
    ingest(whole, messages)
    whole.close()
    torn = open_store("torn")
    for message in messages:
        ingest(torn, [message])
    # as a crash leaves it: the file as of its last checkpoint, and a log that ends in the middle
    log = Path(f"{torn.path}.wal").read_bytes()
    file = torn.path.read_bytes()
    torn.close()
    torn.path.write_bytes(file)
    Path(f"{torn.path}.wal").write_bytes(log[: len(log) // 2])

    assert torn.open() is None
    assert torn.position is not None
    assert 0 < torn.position.last_seq < len(messages)
    assert torn.read("SELECT max(seq) FROM events").rows == [(torn.position.last_seq,)]
    ingest(torn, messages)
    torn.close()
    assert difference(whole.path, torn.path) == {}


def test_a_file_of_another_version_is_made_again(open_store: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store("a")
    ingest(store, whole_story().stored())
    store.close()
    monkeypatch.setattr(store_module, "PROJECTION_VERSION", store_module.PROJECTION_VERSION + 1)
    why = store.open()
    assert why is not None
    assert "it was made by another version" in why
    assert store.position is None


def test_a_batch_that_cannot_be_written_leaves_everything_as_it_was_and_can_be_tried_again(open_store: OpenStore) -> None:
    messages = whole_story().stored()
    whole = open_store("whole")
    ingest(whole, messages)
    whole.close()
    store = open_store("a")
    ingest(store, messages[:30])
    before = store.position
    store._write("ALTER TABLE usage RENAME TO gone")
    with pytest.raises(WriteFailed, match="usage"):
        ingest(store, messages[30:])
    assert store.position == before
    assert store.read("SELECT max(seq) FROM events").rows == [(30,)]
    store._write("ALTER TABLE gone RENAME TO usage")
    ingest(store, messages[30:])
    store.close()
    assert difference(whole.path, store.path) == {}


def test_a_file_is_left_alone_where_it_is_the_machine_that_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "timeline.duckdb"
    path.write_bytes(b"precious")

    def no_space(*_: object, **__: object) -> None:
        raise duckdb.IOException("IO Error: Could not write: No space left on device")

    monkeypatch.setattr(duckdb, "connect", no_space)
    with pytest.raises(duckdb.IOException, match="No space left"):
        Store(path, memory_bytes=MEMORY_BYTES).open()
    assert path.read_bytes() == b"precious"


def test_a_file_that_another_process_has_open_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "timeline.duckdb"
    holding = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", holding, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(InUse, match="is open in another process"):
            Store(path, memory_bytes=MEMORY_BYTES).open()
        other.kill()
    assert not Path(f"{path}.aside").exists()


def test_a_published_copy_is_whole_while_writing_goes_on(open_store: OpenStore, tmp_path: Path) -> None:
    messages = whole_story().stored()
    store = open_store("live")
    ingest(store, messages[:30])
    target = tmp_path / "published" / "timeline.duckdb"
    frozen = store.freeze()
    for message in messages[30:60]:  # what comes after the freeze is not in the copy
        ingest(store, [message])
    copy_frozen(store.path, target)
    store.thaw()
    published = contents(target)
    ingest(store, messages[60:])
    store.close()

    until_30 = open_store("until-30")
    ingest(until_30, messages[:30])
    until_30.close()
    assert frozen.last_seq == 30
    assert published == contents(until_30.path)
    assert contents(store.path)["ingest_position"][0][2] == len(messages)


def test_whoever_reads_an_old_copy_keeps_it_when_a_new_one_is_published(open_store: OpenStore, tmp_path: Path) -> None:
    messages = whole_story().stored()
    store = open_store("live")
    target = tmp_path / "published" / "timeline.duckdb"

    def publish(until: int) -> None:
        ingest(store, messages[:until])
        store.freeze()
        copy_frozen(store.path, target)
        store.thaw()

    publish(20)
    reader = duckdb.connect(str(target), read_only=True)
    publish(50)
    assert reader.execute("SELECT max(seq) FROM events").fetchall() == [(20,)]
    reader.close()
    assert contents(target)["ingest_position"][0][2] == 50


def test_reading_says_when_there_were_more_rows_than_asked_for(filled: Callable[[list[Stored]], Store]) -> None:
    store = filled(whole_story().stored())
    assert store.read("SELECT seq FROM events ORDER BY seq, idx", limit=3).truncated
    assert not store.read("SELECT seq FROM events WHERE seq < $seq", {"seq": 3}, limit=3).truncated
