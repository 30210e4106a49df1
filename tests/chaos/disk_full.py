"""Full disks under the product, one part at a time: what it says while there is no room, and that it goes on afterwards.

Owns the filling of a disk. The rest is `power`'s: the plane, its load, and the checks of what was acknowledged.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread

from tests.chaos.disk import LoopDisk
from tests.chaos.power import Cuts
from tests.chaos.power_load import Load
from tests.chaos.power_plane import Plane
from tests.chaos.services import QD, Process

FILL_EVERY_S = 0.02
RESTART_EVERY_S = 0.5


@asynccontextmanager
async def on_a_small_disk(folder: Path, part: str, size_mib: int) -> AsyncIterator[Cuts]:
    """Run the whole product with the data of `part` on a disk of its own; the catalogue is there."""
    with LoopDisk(folder, size_mib) as disk:
        run = Cuts(Plane(folder, disk, on_disk=(part,)), seed=1, load=Load(launches_max=2))
        try:
            await run.begin()
            yield run
        except BaseException as error:
            error.add_note(run.plane.last_words())
            raise
        finally:
            await run.end()


@asynccontextmanager
async def full(disk: LoopDisk) -> AsyncIterator[None]:
    """Keep a disk full, taking each block that somebody frees; there is room again afterwards."""
    ballast = disk.fill()

    async def keep() -> None:
        while True:
            await anyio.sleep(FILL_EVERY_S)
            with contextlib.suppress(OSError):
                disk.fill()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keep)
        yield
        tasks.cancel_scope.cancel()
    ballast.unlink()


async def supervise(service: Process, ends: list[int]) -> None:
    """Start a service again whenever it ended, as a supervisor does, until cancelled; note each exit code."""
    while True:
        if service.process is not None and not service.runs:
            ends.append(service.process.returncode)
            service.start()
        await anyio.sleep(RESTART_EVERY_S)


async def qd(plane: Plane, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command against the plane."""
    command = [QD, *arguments, "--server", plane.server.url, "--token-file", str(plane.server.token_file)]
    environment = plane.controller.environment
    return await anyio.to_thread.run_sync(
        lambda: subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    )


async def until(what: str, condition: Callable[[], object], deadline_s: float = 30.0) -> None:
    """Return when `condition` holds. Raises AssertionError naming `what`."""
    with anyio.move_on_after(deadline_s):
        while not condition():
            await anyio.sleep(0.05)
        return
    raise AssertionError(f"never: {what}")
