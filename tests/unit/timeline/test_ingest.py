"""What makes a ledger not the one that was read before; and how it is cut into batches."""

from __future__ import annotations

from datetime import UTC, datetime

from bus.connection import Stored
from bus.reader import StreamState
from timeline.batch import IngestPosition, pieces
from timeline.ingest import judge

CREATED = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
POSITION = IngestPosition("LEDGER", CREATED.replace(tzinfo=None), last_seq=100)


def test_a_stream_that_goes_on_is_fine() -> None:
    assert judge(POSITION, StreamState(CREATED, 1, 100, 100)) is None
    assert judge(POSITION, StreamState(CREATED, 1, 250, 250)) is None
    assert judge(IngestPosition("LEDGER", POSITION.created), StreamState(CREATED, 0, 0, 0)) is None


def test_a_stream_that_was_made_again_is_another_one_whatever_it_holds() -> None:
    problem = judge(POSITION, StreamState(datetime(2026, 11, 24, tzinfo=UTC), 1, 500, 500))
    assert problem is not None
    assert "was made again" in problem.text


def test_a_stream_that_ends_before_what_was_read_was_rewound() -> None:
    problem = judge(POSITION, StreamState(CREATED, 1, 99, 99))
    assert problem is not None
    assert "was rewound: it ends at 99, and 100 was read before" in problem.text


def test_a_stream_that_begins_after_what_was_read_lacks_messages() -> None:
    problem = judge(POSITION, StreamState(CREATED, 103, 200, 98))
    assert problem is not None
    assert (problem.kind, problem.seq) == ("missing", 101)
    assert problem.text == "ledger messages 101 to 102 are missing from stream LEDGER"


def test_a_batch_is_cut_by_bytes_and_a_message_is_never_cut() -> None:
    messages = [Stored("qd.ledger.shop", seq, CREATED, b"x" * size, {}) for seq, size in enumerate((10, 10, 10, 500, 1, 1), 1)]
    assert [[message.seq for message in piece] for piece in pieces(messages, 20)] == [[1, 2], [3, 4], [5, 6]]
    assert list(pieces([], 20)) == []
