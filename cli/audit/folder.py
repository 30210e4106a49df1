"""An evidence folder: the files that `docs/evidence.md` describes, read as `Evidence`. Owns the reading of them."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Struct

from cli.audit.evidence import Call, Circumstances, Evidence, Fault, Journal, JournalLine, Repository, Stored, Survivor, TimelineRow, Witnessed

T = TypeVar("T")


class Unreadable(ValueError):
    """A file of an evidence folder that is not what `docs/evidence.md` says; the message names file and line."""


class _Line(Struct):
    """A stored message as a line: `data` is the body as text, `data_base64` where it is not UTF-8."""

    seq: int
    subject: str
    stored_at: datetime
    data: str | None = None
    data_base64: str | None = None


TIMELINE_FILE = "timeline.duckdb"
BUFFER_BYTES = 1 << 20
"""More than nearly all lines of a ledger, so that a line is not put together from pieces."""


class Lines(Generic[T]):
    """The lines of a file as values, read anew each time, never all in memory."""

    def __init__(self, path: Path, read: Callable[[bytes], T]) -> None:
        """Read the lines of `path` with `read`."""
        self._path, self._read = path, read

    def __iter__(self) -> Iterator[T]:
        """Yield each line that is not blank; a last line without an end, cut off by a kill, is left out. Raises Unreadable."""
        with self._path.open("rb", BUFFER_BYTES) as file:
            for number, line in enumerate(file, 1):
                if line.isspace():
                    continue
                try:
                    yield self._read(line)
                except (msgspec.MsgspecError, ValueError) as error:
                    if line.endswith(b"\n"):
                        raise Unreadable(f"{self._path}, line {number}: {error}") from error


def load(folder: Path) -> Evidence:
    """Return the evidence in a folder. Lines are read when they are judged; Unreadable is raised then, or here for whole files."""
    if not folder.is_dir():
        raise Unreadable(f"{folder} is not a folder")
    return Evidence(
        ledger=_lines(folder / "ledger.jsonl", stored_of),
        reports=_lines(folder / "rep.jsonl", stored_of),
        commands=_lines(folder / "cmd.jsonl", stored_of),
        dead_letters=_lines(folder / "dlq.jsonl", stored_of),
        calls=_lines(folder / "clients.jsonl", msgspec.json.Decoder(Call).decode),
        witness=_lines(folder / "witness.jsonl", msgspec.json.Decoder(Witnessed).decode),
        journals=_journals(folder / "journals"),
        faults=_lines(folder / "faults.jsonl", msgspec.json.Decoder(Fault).decode),
        survivors=_whole(folder / "processes.json", list[Survivor]),
        timeline=_timeline(folder),
        repositories=_whole(folder / "repos.json", list[Repository]),
        canaries=_whole(folder / "canaries.json", tuple[str, ...]),
        sinks=_sinks(folder / "sinks"),
        circumstances=_whole(folder / "evidence.json", Circumstances) or Circumstances(),
    )


def _lines(path: Path, read: Callable[[bytes], T]) -> Iterable[T] | None:
    return Lines(path, read) if path.exists() else None


def _whole(path: Path, kind: type[T]) -> T | None:
    if not path.exists():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except msgspec.MsgspecError as error:
        raise Unreadable(f"{path}: {error}") from error


_line = msgspec.json.Decoder(_Line)


def stored_of(line: bytes) -> Stored:
    """Return a stored message from its line. Raises msgspec.MsgspecError or ValueError."""
    read = _line.decode(line)
    stored_at = read.stored_at if read.stored_at.tzinfo is not None else read.stored_at.replace(tzinfo=UTC)
    data = base64.b64decode(read.data_base64) if read.data_base64 is not None else (read.data or "").encode()
    return Stored(read.seq, read.subject, stored_at.timestamp(), data)


def line_of(seq: int, subject: str, stored_at: datetime, data: bytes, headers: Mapping[str, str] | None = None) -> bytes:
    """Return a stored message as a line of `ledger.jsonl` or `rep.jsonl`, with its line feed."""
    fields: dict[str, Any] = {"seq": seq, "subject": subject, "stored_at": stored_at}
    if headers:
        fields["headers"] = dict(headers)
    try:
        fields["data"] = data.decode()
    except UnicodeDecodeError:
        fields["data_base64"] = base64.b64encode(data).decode()
    return msgspec.json.encode(fields) + b"\n"


_journal_line = msgspec.json.Decoder(JournalLine)


def journal_of(node: str, data: bytes) -> Journal:
    """Return a node's journal from its bytes. A line that does not decode is left out where it is the last one.

    Raises Unreadable.
    """
    lines = data.split(b"\n")
    found: list[JournalLine] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found.append(_journal_line.decode(line))
        except msgspec.MsgspecError as error:
            if number < len(lines):
                raise Unreadable(f"the journal of {node}, line {number}: {error}") from error
    return Journal(node, tuple(found))


def _journals(folder: Path) -> list[Journal] | None:
    """Return the journals of a folder; the part of a file's name before the first dot is the node."""
    if not folder.is_dir():
        return None
    return [journal_of(path.name.partition(".")[0], path.read_bytes()) for path in sorted(folder.glob("*.jsonl"))]


def _sinks(folder: Path) -> dict[str, bytes] | None:
    if not folder.is_dir():
        return None
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _timeline(folder: Path) -> Iterable[TimelineRow] | None:
    lines = _lines(folder / "timeline.jsonl", msgspec.json.Decoder(TimelineRow).decode)
    if lines is not None or not (folder / TIMELINE_FILE).exists():
        return lines
    # only a folder that holds a DuckDB file needs what reads one
    from timeline.published import event_rows

    return [TimelineRow(*row) for row in event_rows(folder / TIMELINE_FILE)]
