"""On disk for certain: what git and the file system hold back by default. Owns nothing; each call waits for the disk."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path


def sync_file_system(path: Path) -> None:
    """Return when everything written to the file system of `path` so far is on disk. Raises OSError."""
    if sys.platform != "linux":
        os.sync()
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"syncfs of {path}: {os.strerror(number)}")
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Return when the names in a folder are on disk: a file that was renamed into it is there after a power cut. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
