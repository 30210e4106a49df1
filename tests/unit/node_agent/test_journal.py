"""The journal: on disk before anything is done, and read again after any kind of end."""

from __future__ import annotations

import logging
import resource
from pathlib import Path

import anyio
import pytest

from node_agent.attempt import Delivered, Dropped, Finished, Spawning, key_of
from node_agent.journal import Journal
from tests.unit.node_agent.orders import AT, ended, taken

pytestmark = pytest.mark.anyio


async def test_what_was_appended_is_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "journal" / "j.jsonl"
    journal = Journal(path)
    for number in range(1, 4):
        await journal.append(taken(number))
    await journal.append(Spawning(key_of(taken(1).order), "c0ffee", AT))
    await journal.append(Finished(key_of(taken(2).order), ended()), sync=False)
    await journal.append(Dropped(key_of(taken(3).order)))
    journal.close()

    again = Journal(path)
    assert again.book.open == journal.book.open
    assert again.book.done == journal.book.done
    again.close()


async def test_a_torn_last_line_is_left_out_and_the_next_entry_stands_alone(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    journal = Journal(path)
    await journal.append(taken(1))
    await journal.append(taken(2))
    journal.close()
    whole = path.read_bytes()
    first = len(whole.splitlines(keepends=True)[0])
    for cut in (*range(first, len(whole) - 1, 13), len(whole) - 1):
        path.write_bytes(whole[:cut])
        torn = Journal(path)
        # the last byte is only the end of the line: without it the entry is whole
        assert len(torn.book.open) == (2 if cut == len(whole) - 1 else 1)
        await torn.append(taken(3))
        torn.close()
        again = Journal(path)
        assert key_of(taken(3).order) in again.book.open
        again.close()


async def test_a_line_in_the_middle_that_cannot_be_read_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "j.jsonl"
    journal = Journal(path)
    await journal.append(taken(1))
    journal.close()
    path.write_bytes(b"\x00\x01\n" + path.read_bytes())
    with caplog.at_level(logging.ERROR):
        again = Journal(path)
    assert len(again.book.open) == 1
    assert "line 1" in caplog.text
    again.close()


async def test_a_start_rewrites_the_journal_to_its_shortest_form(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    journal = Journal(path)
    for number in range(1, 101):
        await journal.append(taken(number), sync=False)
        await journal.append(Finished(key_of(taken(number).order), ended()), sync=False)
        await journal.append(Delivered(key_of(taken(number).order)), sync=False)
    journal.close()
    before = path.stat().st_size

    Journal(path).close()
    assert path.stat().st_size < before / 10
    again = Journal(path)
    assert again.book.knows(key_of(taken(1).order))
    again.close()


async def test_entries_that_come_together_are_all_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    journal = Journal(path)
    async with anyio.create_task_group() as tasks:
        for number in range(1, 51):
            tasks.start_soon(journal.append, taken(number))
    assert len(path.read_bytes().splitlines()) == 50
    journal.close()


async def test_a_journal_without_a_file_keeps_its_book() -> None:
    journal = Journal(None)
    await journal.append(taken(1))
    assert key_of(taken(1).order) in journal.book.open
    journal.close()


async def test_after_a_write_that_failed_nothing_more_is_taken_until_it_is_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    journal = Journal(path)
    await journal.append(taken(1))
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, most))  # a disk with room for ten more bytes
    try:
        with pytest.raises(OSError, match="for all of an entry"):
            await journal.append(taken(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    # what was not written down is not known either: nobody acts on it
    assert not journal.book.knows(key_of(taken(2).order))
    with pytest.raises(OSError, match="until it is opened anew"):
        await journal.append(Spawning(key_of(taken(1).order), "c0ffee", AT))
    journal.close()

    again = Journal(path)
    assert list(again.book.open) == [key_of(taken(1).order)]
    await again.append(Spawning(key_of(taken(1).order), "c0ffee", AT))
    again.close()
    last = Journal(path)
    assert last.book.open[key_of(taken(1).order)].spawning is not None
    last.close()
