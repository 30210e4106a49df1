"""Which index file of a data folder is ours: the first that no other controller has. Owns the lock files, and what was moved aside."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sqlite3
from pathlib import Path

from controller.shelf import Shelf, Unusable

log = logging.getLogger(__name__)

SLOTS = 8
"""Controllers that may share a data folder, each with a file of its own."""

_BESIDE = ("", "-wal", "-shm")

_NOT_THE_FILE = frozenset(
    (
        *(sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_NOMEM),
        *(sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC, sqlite3.SQLITE_IOERR_TRUNCATE),
        *(sqlite3.SQLITE_IOERR_SHMOPEN, sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_SHMMAP, sqlite3.SQLITE_IOERR_NOMEM),
    )
)
"""What says that the machine refuses, a full disk say, and nothing about the file, which may be as good as ever."""


def open_shelf(data: Path, owner: str) -> Shelf | None:
    """Return the first free index file of a folder, open; a new one where the one that is there is of no use. None: all are taken.

    Raises OSError, and sqlite3.Error where it is the machine that refuses and not the file that is bad.
    """
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    for slot in range(1, SLOTS + 1):
        path = data / ("index.sqlite" if slot == 1 else f"index-{slot}.sqlite")
        lock = _locked(path, owner)
        if lock is not None:
            return _open(path, lock)
    log.error("all %d index files in %s are in use by other controllers: this one keeps everything in memory", SLOTS, data)
    return None


def _locked(path: Path, owner: str) -> int | None:
    descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, owner.encode(), 0)
    return descriptor


def _open(path: Path, lock: int) -> Shelf:
    try:
        return Shelf(path, lock)
    except (Unusable, sqlite3.Error) as error:
        if _is_of_the_machine(error):
            os.close(lock)
            raise sqlite3.OperationalError(f"the index {path} cannot be opened, and is left as it is: {error}") from error
        set_aside(path, str(error))
        return Shelf(path, lock)


def _is_of_the_machine(error: BaseException) -> bool:
    found = error.__cause__ if isinstance(error, Unusable) else error
    return getattr(found, "sqlite_errorcode", None) in _NOT_THE_FILE


def set_aside(path: Path, why: str) -> None:
    """Move a file that is of no use out of the way; it is kept, once, for who wants to look at it."""
    log.warning("the index %s is moved aside, and the ledger is folded from its start: %s", path, why)
    for suffix in _BESIDE:
        with contextlib.suppress(FileNotFoundError):
            os.replace(f"{path}{suffix}", f"{path}.unusable{suffix}")


def reopened(shelf: Shelf, why: str) -> Shelf:
    """Return a new, empty file in the place of one that is of no use."""
    lock = os.dup(shelf.lock)
    shelf.close()
    set_aside(shelf.path, why)
    return Shelf(shelf.path, lock)
