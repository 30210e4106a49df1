"""Hostile agents, as the node agent meets them: the right reason, nothing left after 5 s, and neighbours that never noticed.

The kinds that end by themselves or hang are in `test_node_agent_processes`, those about results in `test_node_agent_results`.
Every one here is bounded: it would stop by itself before it hurts the machine of the test.
"""

from __future__ import annotations

import resource
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from bus_schemas.reports import Outcome
from node_agent import process
from node_agent.attempt import StoppedBy
from node_agent.runner import OUTPUT_HEAD_BYTES_MAX, OUTPUT_TAIL_BYTES_MAX
from tests.integration.node_world import World, node, processes_with, task_order, until, world
from tests.integration.test_node_agent_processes import WALLS, finished, prepared

pytestmark = pytest.mark.anyio

GONE_S = 5.0
BOMB = """
bomb() { [ $1 -gt 0 ] && { bomb $(($1 - 1)) & bomb $(($1 - 1)) & }; trap '' TERM; exec sleep MARK; }
bomb 6
"""
"""127 processes, each of which ignores TERM."""
FOUNTAIN = """
trap '' TERM
for i in $(seq 400); do (setsid sh -c 'trap "" TERM; exec sleep MARK' &); done
exec sleep MARK
"""
"""Forks on while it is being stopped; each child leaves session and group at once."""


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as found:
        yield found


def a_mark() -> str:
    # a length of sleep that nobody else uses is found in the list of processes
    return f"9{secrets.randbelow(10**9):09d}.125"


@pytest.mark.parametrize("script", [BOMB, FOUNTAIN], ids=["bomb", "fountain"])
@pytest.mark.parametrize("wall", WALLS)
async def test_of_a_fork_bomb_nothing_is_left(tmp_path: Path, wall: str, script: str) -> None:
    mark = a_mark()
    run, spec = prepared(tmp_path, script.replace("MARK", mark), containment=wall)
    shim = process.spawn(run, spec)
    await until(lambda: len(processes_with(mark)) >= 20)
    asked = time.monotonic()
    process.request_stop(run, shim)
    with anyio.fail_after(15):
        ending = await process.ending(run, shim)

    assert processes_with(mark) == []
    assert time.monotonic() - asked < GONE_S
    assert ending is not None
    assert (ending.stopped_by, ending.survivors) == (StoppedBy.REQUEST, 0)


async def test_a_gigabyte_of_output_is_counted_and_a_bounded_part_is_kept(tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    ending, kept = await finished(
        tmp_path, "head -c 1000000000 /dev/zero; echo; echo the end", head_bytes_max=OUTPUT_HEAD_BYTES_MAX, tail_bytes_max=OUTPUT_TAIL_BYTES_MAX
    )
    assert (ending.exit_code, ending.output_bytes) == (0, 1_000_000_009)
    assert kept.endswith(b"\nthe end\n")
    assert len(kept) < OUTPUT_HEAD_BYTES_MAX + OUTPUT_TAIL_BYTES_MAX + 100
    # in KiB; the shim holds a tail and no more
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss - before < 100 * 1024


async def test_a_line_of_ten_megabytes_and_a_greedy_agent_do_no_harm_to_a_neighbour(made: World) -> None:
    line = task_order(made, 1, "head -c 10000000 /dev/zero | tr '\\0' x; echo end >&2")
    memory = "exec python3 -c 'held = bytearray(200 << 20); import os, signal; os.kill(os.getpid(), signal.SIGKILL)'"
    greedy = task_order(made, 2, memory)
    files = task_order(made, 3, "i=0; while [ $i -lt 300 ]; do head -c 100000 /dev/zero > big-$i; i=$((i+1)); done; rm big-*; exit 28")
    neighbour = task_order(made, 4, "echo fine > fine")
    async with node(made, capacity=4):
        for order in (line, greedy, files, neighbour):
            await made.send(order)
        ends = [await made.ended(order) for order in (line, greedy, files, neighbour)]

    assert [(end.outcome, end.reason_code) for end in ends] == [
        (Outcome.SUCCEEDED, None),
        (Outcome.FAILED, "execution_killed_by_signal"),
        (Outcome.FAILED, "dispatch_cli_exit_nonzero"),
        (Outcome.SUCCEEDED, None),
    ]
    assert ends[0].output_bytes == 10_000_004
    assert len(ends[0].tail) < 64 * 1024
    assert ends[0].tail.endswith("end\n")
    assert ends[3].head is not None


async def test_when_the_memory_is_over_the_kernel_takes_the_agent_first_and_no_core_is_left(tmp_path: Path) -> None:
    _, told = await finished(tmp_path, "cat /proc/self/oom_score_adj; ulimit -c")
    assert told.split() == [b"800", b"0"]
