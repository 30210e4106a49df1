"""Control 3: stopping an agent by its process group. The check for survivors must find those that left the group."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
from pathlib import Path

import anyio
import pytest

from node_agent import process
from tests.integration.node_world import processes_with, until
from tests.integration.test_node_agent_processes import WALLS, prepared, printed

pytestmark = pytest.mark.anyio

ESCAPES = """
setsid sh -c 'trap "" TERM HUP; exec sleep MARK' &
( ( trap '' TERM; setsid sleep MARK ) & )
trap '' TERM
echo up
sleep MARK
"""


def a_mark() -> str:
    # a length of sleep that nobody else uses is found in the list of processes
    return f"9{secrets.randbelow(10**9):09d}.75"


def has_left(group: int, pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        return os.getpgid(pid) != group
    return False


async def by_process_group(folder: Path, mark: str) -> None:
    """Stop the agent as most runners do: TERM to its group, then KILL."""
    folder.mkdir()
    with (folder / "output").open("wb") as output:
        agent = subprocess.Popen(["sh", "-c", ESCAPES.replace("MARK", mark)], stdout=output, start_new_session=True)
    await until(lambda: sum(has_left(agent.pid, pid) for pid in processes_with(mark)) >= 2)
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(agent.pid, number)
        await anyio.sleep(0.2)
    agent.wait(5)


async def by_the_product(folder: Path, mark: str, wall: str) -> None:
    """Stop it as the node agent does."""
    run, spec = prepared(folder, ESCAPES.replace("MARK", mark), containment=wall)
    shim = process.spawn(run, spec)
    await printed(run, b"up\n")
    process.request_stop(run, shim)
    with anyio.fail_after(15):
        await process.ending(run, shim)


@pytest.mark.parametrize("wall", WALLS)
async def test_a_process_group_does_not_hold_an_agent_and_our_walls_do(tmp_path: Path, wall: str) -> None:
    weak, real = a_mark(), a_mark()
    await by_process_group(tmp_path / "weak", weak)
    survivors = processes_with(weak)
    for pid in survivors:
        os.kill(pid, signal.SIGKILL)
    assert len(survivors) >= 2

    await by_the_product(tmp_path / "real", real, wall)
    assert processes_with(real) == []
