"""The processes of one round: started, weighed and stopped by their ids.

Owns child processes. They are weighed by /proc: peak memory is the kernel's own high-water mark, so nothing is missed between two looks.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType

STOP_TIMEOUT_S = 10.0
LOG_TAIL_BYTES = 2000
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
UTIME, STIME = 11, 12
"""Places in /proc/PID/stat after the name (proc(5))."""


class ChildEnded(Exception):
    """A process of the bench ended by itself; the message ends with what it wrote."""


class Processes:
    """Python children of one round by name, and others that only are watched. Use as a context manager: all are stopped at its end."""

    def __init__(self, data: Path) -> None:
        """Write what the children print under `data`."""
        self._data = data
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._watched: dict[str, int] = {"client": os.getpid()}

    def start(self, name: str, arguments: list[str], env: dict[str, str] | None = None) -> None:
        """Start `python ARGUMENTS` as a child."""
        with self._log(name).open("ab") as log:
            child = subprocess.Popen(
                [sys.executable, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **(env or {})}
            )
        self._children[name] = child
        self.watch(name, child.pid)

    def watch(self, name: str, pid: int) -> None:
        """Weigh a process that somebody else started."""
        self._watched[name] = pid

    def pid(self, name: str) -> int:
        """Return the id of a process."""
        return self._watched[name]

    def _log(self, name: str) -> Path:
        return self._data / f"{name}.log"

    def check(self) -> None:
        """Return when all children run. Raises ChildEnded."""
        for name, child in self._children.items():
            if child.poll() is not None:
                tail = self._log(name).read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")
                raise ChildEnded(f"{name} ended with {child.returncode}:\n{tail}")

    def cpu_s(self) -> dict[str, float]:
        """Return the CPU seconds (user and system) that each process has used so far; empty where there is no /proc."""
        found: dict[str, float] = {}
        for name, pid in self._watched.items():
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                found[name] = (int(fields[UTIME]) + int(fields[STIME])) / TICKS_PER_S
        return found

    def rss_peak_bytes(self) -> dict[str, int]:
        """Return the largest resident size that each process has had; empty where there is no /proc."""
        found: dict[str, int] = {}
        for name, pid in self._watched.items():
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{pid}/status").read_text()
                found[name] = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))
        return found

    def __enter__(self) -> Processes:
        """Nothing runs yet."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop every child, with TERM and then KILL."""
        for child in self._children.values():
            child.terminate()
        for child in self._children.values():
            try:
                child.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
