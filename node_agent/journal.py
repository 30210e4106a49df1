"""The journal of a node: what it has in hand, on disk before it acts on it.

Owns one append-only file of JSON lines under the node's data folder. Rewritten to its shortest form at each start.
"""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

from bus import host
from node_agent.attempt import Book, Entry

log = logging.getLogger(__name__)

_decoder = msgspec.json.Decoder(Entry)
_encoder = msgspec.json.Encoder()


class Journal:
    """A book and the file it is kept in; without a file the book lives in memory only, for executors with nothing to recover."""

    def __init__(self, path: Path | None) -> None:
        """Read the journal at `path`, if there is one, and rewrite it; a torn last line is left out. Raises OSError."""
        self.book = Book()
        self._path = path
        self._fd: int | None = None
        self._written = 0
        self._synced = 0
        self._failed: OSError | None = None
        self._lock = anyio.Lock()
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._read(path)
            self._fd = self._rewritten(path)

    def _read(self, path: Path) -> None:
        if not path.exists():
            return
        lines = path.read_bytes().split(b"\n")
        for number, line in enumerate(lines, 1):
            if not line:
                continue
            try:
                self.book.apply(_decoder.decode(line))
            except msgspec.MsgspecError as error:
                # the last line may be torn by a kill or a power cut: it was never acted on
                if number < len(lines):
                    log.error("%s, line %d cannot be read and is left out: %s", path, number, error)

    def _rewritten(self, path: Path) -> int:
        fresh = path.with_suffix(".new")
        with fresh.open("wb") as file:
            for entry in self.book.entries():
                file.write(_encoder.encode(entry) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return os.open(path, os.O_WRONLY | os.O_APPEND)

    async def append(self, entry: Entry, *, sync: bool = True) -> None:
        """Take an entry; with `sync` it is on disk when this returns. Concurrent callers share one sync.

        Raises OSError: the entry is not taken, and neither is any after it, until the journal is opened anew.
        """
        if self._fd is not None:
            self._write(_encoder.encode(entry) + b"\n")
        self.book.apply(entry)
        if self._fd is not None and sync:
            await self._sync(self._written)

    def _write(self, data: bytes) -> None:
        assert self._fd is not None
        if self._failed is not None:
            raise self._refused(self._failed) from self._failed
        try:
            if os.write(self._fd, data) != len(data):
                # whatever came behind the torn entry would be read as one line with it, and lost
                raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} for all of an entry")
        except OSError as error:
            self._failed = error
            raise self._refused(error) from error
        self._written += 1

    def _refused(self, error: OSError) -> OSError:
        return OSError(error.errno, f"the journal takes no entry until it is opened anew: {error.strerror}", str(self._path))

    async def _sync(self, position: int) -> None:
        async with self._lock:
            fd = self._fd
            if self._synced >= position or fd is None:
                return
            upto = self._written
            try:
                await host.sync(fd)
            except OSError as error:
                self._failed = error  # the kernel says it once, and takes what it could not write for written
                raise
            self._synced = upto

    def close(self) -> None:
        """Close the file; entries after this are kept in memory only."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)
