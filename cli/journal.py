"""The journal of idempotency keys: what `--retry-last` uses again. Owns `<state dir>/keys.jsonl` (mode 0600).

A key is written before its command is sent, so that after a client that died in between the same request can be asked
again safely. One line an entry, appended in one write, so that clients side by side lose nothing.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
from msgspec import Struct

from cli.registration import replace_private

FILE = "keys.jsonl"
ENTRIES_KEPT = 200
SIZE_BYTES_MAX = 256 * 1024


class Entry(Struct, frozen=True):
    """A command that was sent, or was about to be: what it was, and its key."""

    at: str
    server: str
    project: str
    type: str
    body_hash: str
    key: str


def read(folder: Path) -> list[Entry]:
    """Return the entries, oldest first; lines that cannot be read are left out, no file means none."""
    try:
        lines = (folder / FILE).read_bytes().splitlines()
    except OSError:
        return []
    return [entry for line in lines if (entry := _entry(line)) is not None]


def _entry(line: bytes) -> Entry | None:
    try:
        return msgspec.json.decode(line, type=Entry)
    except msgspec.MsgspecError:
        return None


def add(folder: Path, entry: Entry) -> None:
    """Write an entry behind the others; when the file is long, the oldest go. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder / FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, msgspec.json.encode(entry) + b"\n")
        size_bytes = os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)
    if size_bytes > SIZE_BYTES_MAX:
        kept = read(folder)[-ENTRIES_KEPT:]
        replace_private(folder / FILE, b"".join(msgspec.json.encode(entry) + b"\n" for entry in kept))


def last_like(entries: list[Entry], server: str, project: str, type_: str) -> Entry | None:
    """Return the newest entry of a kind of command to a project on a server, or None."""
    return next((e for e in reversed(entries) if (e.server, e.project, e.type) == (server, project, type_)), None)
