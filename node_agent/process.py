"""Shims from the node's side: starting, finding again, stopping, and waiting for their end.

Owns the shim processes' starts and signals. A shim is named by pid *and* start time, so a number that the kernel gave
to somebody else is never waited for and never killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import msgspec

from bus import host
from node_agent import shim
from node_agent.attempt import Exit, ProcessId
from node_agent.run_dir import MARK, RunDir

PROBE_TIMEOUT_S = 10.0
APPEAR_S = 1.0
"""A shim that was started just before the node agent died says who it is within this time."""
LOOK_EVERY_S = 0.1
"""Where there is no pidfd."""
SWEEP_MAX_S = 10.0

_exit = msgspec.json.Decoder(Exit)
_identity = msgspec.json.Decoder(ProcessId)


def walls() -> list[str]:
    """Return which walls of the shim work on this machine, the best first; only `sweep` when it cannot be found out."""
    command = [sys.executable, "-I", "-S", shim.__file__, "--probe"]
    try:
        found = subprocess.run(command, capture_output=True, timeout=PROBE_TIMEOUT_S, check=True, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError):
        return [shim.SWEEP]
    return found.stdout.decode().split()


def spawn(run: RunDir, spec: dict[str, Any]) -> ProcessId:
    """Start the shim of a run in a session of its own; it outlives us. Raises OSError."""
    run.spec.write_bytes(msgspec.json.encode(spec))
    quiet = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1)]
    errors = (os.POSIX_SPAWN_OPEN, 2, str(run.errors), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    environment = {"PATH": os.environ.get("PATH", os.defpath)}
    # not a subprocess of asyncio: that one would be killed when our loop closes
    command = [sys.executable, "-I", "-S", shim.__file__, str(run.path)]
    # a TERM that comes before the shim listens waits for it, and does not kill it without a word
    pid = os.posix_spawn(sys.executable, command, environment, file_actions=[*quiet, errors], setsid=True, setsigmask=[signal.SIGTERM])
    return ProcessId(pid, shim.start_ticks(pid) or 0, shim.kernel_boot())


def is_alive(process: ProcessId) -> bool:
    """Return whether this very process still runs."""
    if shim.LINUX:
        return process.kernel_boot == shim.kernel_boot() and shim.start_ticks(process.pid) == process.start_ticks
    with contextlib.suppress(OSError):
        os.kill(process.pid, 0)
        return True
    return False


async def wait_gone(process: ProcessId) -> None:
    """Return when this very process has ended."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except (OSError, AttributeError):
        while is_alive(process):  # noqa: ASYNC110  without a pidfd, looking is all there is
            await anyio.sleep(LOOK_EVERY_S)
    else:
        try:
            if is_alive(process):
                await anyio.wait_readable(descriptor)
        finally:
            os.close(descriptor)
    _reap(process.pid)


def _reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):  # started by a node agent before us: not our child
        os.waitpid(pid, os.WNOHANG)


def request_stop(run: RunDir, process: ProcessId | None) -> None:
    """Ask a shim to stop its run; one that has not begun will not start it. Harmless when it has ended."""
    with contextlib.suppress(FileNotFoundError):
        run.stop.touch()
    if process is not None and is_alive(process):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)


def read_exit(run: RunDir) -> Exit | None:
    """Return what the shim said at its end; None when it has not, or was killed before it could."""
    try:
        return _exit.decode(run.exit.read_bytes())
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def _identity_of(run: RunDir) -> ProcessId | None:
    try:
        return _identity.decode(run.identity.read_bytes())
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


async def find(run: RunDir) -> ProcessId | None:
    """Return the shim of a run that a node agent before us was about to start; None when it never came and never will."""
    deadline = host.monotonic_s() + APPEAR_S
    while host.monotonic_s() < deadline:
        process = _identity_of(run)
        if process is not None:
            return process
        await anyio.sleep(0.05)
    if not run.path.exists():
        return None
    # with the lock in our hand, a shim that comes later gives up; one that came first has said who it is
    descriptor = os.open(run.lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        run.stop.touch()
    except BlockingIOError:
        return _identity_of(run)
    finally:
        os.close(descriptor)
    return _identity_of(run)


async def ending(run: RunDir, process: ProcessId | None) -> Exit | None:
    """Return how a run ended, when nothing of it is left; None when its shim went away without a word, or the machine went down since.

    The word of a shim is on disk before the files that its agent wrote: after a power cut these may be empty, and no evidence.
    """
    if process is not None and process.kernel_boot != shim.kernel_boot():
        return None
    if process is not None and read_exit(run) is None:
        await wait_gone(process)
    found = read_exit(run)
    if found is None:
        await anyio.to_thread.run_sync(kill_marked, run.path)
    return found


def kill_marked(folder: Path) -> int:
    """Kill what a run of `folder` started and what outlived its shim; return how many are left."""
    mark = f"{MARK}={folder}".encode()
    deadline = host.monotonic_s() + SWEEP_MAX_S
    while True:
        found = _marked(mark)
        if not found or host.monotonic_s() > deadline:
            return len(found)
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def _marked(mark: bytes) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc"):
            if not name.isdigit() or int(name) == os.getpid() or shim.start_ticks(name) is None:
                continue
            with contextlib.suppress(OSError), open(f"/proc/{name}/environ", "rb") as file:
                if mark in file.read().split(b"\0"):
                    found.append(int(name))
    return found
