"""The machine a bench ran on: what its absolute figures depend on. Owns one scratch file."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

from bench.figures import Figures, percentile, rounded

SYNCS = 200
SYNC_BYTES = 900


def machine(data: Path) -> Figures:
    """Return processors, load, versions, and how long an append with fdatasync takes in `data`."""
    return {
        "cpus": os.cpu_count() or 0,
        "load_1min": rounded(os.getloadavg()[0]),
        "memory_mb": rounded(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e6),
        "system": platform.platform(),
        "python": platform.python_version(),
        "fdatasync_us": _sync_us(data / "sync"),
    }


def _sync_us(path: Path) -> float:
    samples: list[float] = []
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        for _ in range(SYNCS):
            begun = time.perf_counter()
            os.write(descriptor, b"x" * SYNC_BYTES)
            os.fdatasync(descriptor)
            samples.append(time.perf_counter() - begun)
    finally:
        os.close(descriptor)
        path.unlink()
    return rounded((percentile(samples, 50) or 0.0) * 1e6)
