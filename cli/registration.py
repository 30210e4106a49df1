"""The registration of a running `qd up`: where it listens and which token file opens it, so that a plain `qd ls` finds it.

Owns `<state dir>/up.json` (mode 0600). A registration whose process is gone counts for nothing.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec
from msgspec import Struct

FILE = "up.json"


class Registration(Struct, frozen=True):
    """A `qd up` that runs, or ran: the bus, its token file, the process and its data folder."""

    url: str
    token_file: str
    pid: int
    data: str


def read(folder: Path) -> Registration | None:
    """Return the registration kept in `folder`, running or not; None where there is none that can be read."""
    try:
        return msgspec.json.decode((folder / FILE).read_bytes(), type=Registration)
    except (OSError, msgspec.MsgspecError):
        return None


def is_alive(registration: Registration) -> bool:
    """Return whether the process of a registration is there."""
    try:
        os.kill(registration.pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return registration.pid < 2**31
    return registration.pid > 0


def write(folder: Path, registration: Registration) -> None:
    """Register; whoever was registered before is no longer found. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    replace_private(folder / FILE, msgspec.json.encode(registration))


def remove(folder: Path, pid: int) -> None:
    """Remove the registration of process `pid`; one of another process stays. Never raises OSError."""
    found = read(folder)
    if found is not None and found.pid == pid:
        with contextlib.suppress(OSError):
            (folder / FILE).unlink()


def replace_private(path: Path, data: bytes) -> None:
    """Replace a file in one step, readable by its owner alone. Raises OSError."""
    waiting = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(waiting, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.replace(waiting, path)
    except OSError:
        with contextlib.suppress(OSError):
            waiting.unlink()
        raise
