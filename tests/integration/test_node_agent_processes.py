"""The shim with real processes: how runs end, and that nothing outlives them, behind each wall that works here."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import anyio
import pytest

from node_agent import process, run_dir, shim
from node_agent.attempt import Exit, ProcessId, StoppedBy
from node_agent.run_dir import RunDir
from tests.integration.node_world import processes_with, until

pytestmark = pytest.mark.anyio

WALLS = process.walls()
SAYS_IT_IS_UP = "echo up;"
HOSTILE = {
    "hangs": f"{SAYS_IT_IS_UP} exec sleep MARK",
    "ignores TERM": f"trap '' TERM INT HUP; {SAYS_IT_IS_UP} sleep MARK & wait; sleep MARK",
    "double fork": f"( ( trap '' TERM; exec sleep MARK ) & ) ; {SAYS_IT_IS_UP} exec sleep MARK",
    "setsid": f"setsid -f sh -c \"trap '' TERM HUP; exec sleep MARK\"; {SAYS_IT_IS_UP} exec sleep MARK",
    "fifty children": f"for i in $(seq 50); do sleep MARK & done; {SAYS_IT_IS_UP} wait",
    "leaves at once": f"(setsid sh -c 'trap \"\" TERM; exec sleep MARK' &) ; {SAYS_IT_IS_UP} exit 0",
}


def prepared(folder: Path, script: str, **changes: Any) -> tuple[RunDir, dict[str, Any]]:
    run = RunDir(folder, folder / "tree")
    run.tree.mkdir(parents=True)
    spec = {
        "argv": ["sh", "-c", script],
        "env": {"PATH": os.environ["PATH"], run_dir.MARK: str(folder)},
        "cwd": str(run.tree),
        "timeout_s": 20.0,
        "idle_s": None,
        "grace_s": 0.2,
        "containment": WALLS[0],
        "head_bytes_max": 1024 * 1024,
        "tail_bytes_max": 1024,
        **changes,
    }
    return run, spec


async def finished(folder: Path, script: str, **changes: Any) -> tuple[Exit, bytes]:
    run, spec = prepared(folder, script, **changes)
    with anyio.fail_after(20):
        ending = await process.ending(run, process.spawn(run, spec))
    assert ending is not None, run.errors.read_text()
    assert ending.survivors == 0
    return ending, run.output.read_bytes()


async def printed(run: RunDir, text: bytes) -> None:
    await until(lambda: run.output.exists() and text in run.output.read_bytes())


@pytest.mark.parametrize("end", ["time limit", "stop", "shim killed"])
@pytest.mark.parametrize("wall", WALLS)
async def test_nothing_outlives_a_run(tmp_path: Path, wall: str, end: str) -> None:
    marks: dict[str, str] = {}

    async def one(kind: str, script: str) -> None:
        # a length of sleep that nobody else uses is found in the list of processes
        marks[kind] = f"9{secrets.randbelow(10**9):09d}.25"
        run, spec = prepared(
            tmp_path / kind.replace(" ", "-"), script.replace("MARK", marks[kind]), containment=wall, timeout_s=0.8 if end == "time limit" else 20
        )
        started = process.spawn(run, spec)
        await printed(run, b"up\n")
        if kind != "leaves at once" and end == "stop":
            process.request_stop(run, started)
        if kind != "leaves at once" and end == "shim killed":
            os.kill(started.pid, signal.SIGKILL)
        with anyio.fail_after(15):
            ending = await process.ending(run, started)
        if kind == "leaves at once":
            assert ending is not None
            assert (ending.exit_code, ending.stopped_by) == (0, None)
        elif end == "shim killed":
            assert ending is None
        else:
            assert ending is not None
            assert ending.stopped_by is (StoppedBy.REQUEST if end == "stop" else StoppedBy.TIMEOUT)
            assert ending.containment == wall

    async with anyio.create_task_group() as tasks:
        for kind, script in HOSTILE.items():
            tasks.start_soon(one, kind, script)

    assert {kind: processes_with(mark) for kind, mark in marks.items()} == {kind: [] for kind in HOSTILE}


@pytest.mark.parametrize("wall", WALLS)
async def test_an_end_is_told_as_it_was(tmp_path: Path, wall: str) -> None:
    code, told = await finished(tmp_path / "1", "echo out; echo err >&2; exit 7", containment=wall)
    assert (code.spawned, code.exit_code, code.signal, told) == (True, 7, None, b"out\nerr\n")

    killed, _ = await finished(tmp_path / "2", "kill -9 $$; sleep 5", containment=wall)
    segfault, _ = await finished(tmp_path / "3", "kill -SEGV $$; sleep 5", containment=wall)
    # behind a PID namespace, `$$` may be a number of somebody else outside: the signal must not get there
    assert (killed.exit_code, killed.signal, segfault.signal) == (None, signal.SIGKILL, signal.SIGSEGV)

    missing, _ = await finished(tmp_path / "4", "", containment=wall, argv=["no-such-program"])
    assert (missing.spawned, missing.spawn_errno) == (False, 2)
    (tmp_path / "text").write_text("no program\n")
    denied, _ = await finished(tmp_path / "5", "", containment=wall, argv=[str(tmp_path / "text")])
    assert (denied.spawned, denied.spawn_errno) == (False, 13)


async def test_an_agent_gets_no_input_no_terminal_and_only_the_environment_it_was_given(tmp_path: Path) -> None:
    os.environ["QD_TEST_SECRET"] = "canary"
    try:
        _, told = await finished(tmp_path, "cat; tty; env | sort | cut -d= -f1; ls /proc/$$/fd | wc -l")
    finally:
        del os.environ["QD_TEST_SECRET"]
    assert told.decode().splitlines() == ["not a tty", "PATH", "PWD", run_dir.MARK, "3"]


async def test_an_agent_cannot_win_privileges(tmp_path: Path) -> None:
    _, told = await finished(tmp_path, "grep -E 'CapBnd|CapEff|NoNewPrivs' /proc/self/status")
    facts = dict(line.split(":\t") for line in told.decode().splitlines())
    assert facts["NoNewPrivs"] == "1"
    assert facts["CapEff"] == "0000000000000000"


async def test_output_beyond_its_bound_is_counted_and_its_end_kept(tmp_path: Path) -> None:
    ending, told = await finished(tmp_path, "head -c 50000000 /dev/zero | tr '\\0' x; echo the end")
    assert ending.output_bytes == 50_000_008
    assert told.endswith(b"xthe end\n")
    assert b"\n[... 48950408 bytes left out ...]\n" in told
    assert len(told) < 1024 * 1024 + 1100


async def test_a_silent_run_is_stopped_by_the_idle_watchdog(tmp_path: Path) -> None:
    ending, _ = await finished(tmp_path, "echo a; sleep 0.2; echo b; sleep 300", idle_s=0.6)
    assert ending.stopped_by is StoppedBy.IDLE
    assert 0.7 < ending.duration_ms / 1000 < 5


async def test_a_run_that_obeys_TERM_ends_within_its_grace_by_itself(tmp_path: Path) -> None:
    run, spec = prepared(tmp_path, "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done", grace_s=10.0)
    started = process.spawn(run, spec)
    await printed(run, b"up")
    process.request_stop(run, started)
    with anyio.fail_after(5):
        ending = await process.ending(run, started)
    assert ending is not None
    assert (ending.stopped_by, ending.exit_code) == (StoppedBy.REQUEST, 3)
    assert run.output.read_bytes().endswith(b"bye\n")


@pytest.mark.parametrize("wall", WALLS)
async def test_a_stop_that_comes_while_the_shim_is_coming_up_is_obeyed_and_never_kills_it(tmp_path: Path, wall: str) -> None:
    async def stopped_after(wait_s: float) -> None:
        run, spec = prepared(tmp_path / f"after-{wait_s}", "sleep 300", containment=wall)
        started = process.spawn(run, spec)
        await anyio.sleep(wait_s)
        process.request_stop(run, started)
        with anyio.fail_after(15):
            ending = await process.ending(run, started)
        assert ending is not None, f"the shim went without a word after {wait_s} s"
        assert ending.stopped_by is StoppedBy.REQUEST

    async with anyio.create_task_group() as tasks:
        for wait_s in (0.0, 0.01, 0.03, 0.06):
            tasks.start_soon(stopped_after, wait_s)


async def test_a_run_that_is_stopped_before_its_shim_is_up_does_not_start(tmp_path: Path) -> None:
    run, spec = prepared(tmp_path, "touch started")
    run.stop.touch()
    ending = await process.ending(run, process.spawn(run, spec))
    assert ending is not None
    assert (ending.spawned, ending.stopped_by) == (False, StoppedBy.REQUEST)
    assert not (run.tree / "started").exists()


async def test_a_second_shim_for_a_folder_gives_up(tmp_path: Path) -> None:
    run, spec = prepared(tmp_path, "echo ran; sleep 0.5")
    first = process.spawn(run, spec)
    await printed(run, b"ran")
    for _ in range(2):  # while the first runs, and after it
        second = process.spawn(run, spec)
        await process.wait_gone(second)
        await process.wait_gone(first)
    assert run.output.read_bytes() == b"ran\n"


async def test_a_shim_that_never_came_is_kept_from_coming_later(tmp_path: Path) -> None:
    run, spec = prepared(tmp_path, "touch started")
    assert await process.find(run) is None
    ending = await process.ending(run, process.spawn(run, spec))
    assert ending is not None
    assert not ending.spawned
    assert not (run.tree / "started").exists()


async def test_a_shim_is_found_again_by_who_it_is(tmp_path: Path) -> None:
    run, spec = prepared(tmp_path, "echo up; sleep 0.3")
    started = process.spawn(run, spec)
    await printed(run, b"up")
    assert await process.find(run) == started
    assert process.is_alive(started)
    await process.wait_gone(started)
    assert not process.is_alive(started)


async def test_a_pid_that_was_given_to_somebody_else_is_left_alone(tmp_path: Path) -> None:
    run, _ = prepared(tmp_path, "true")
    bystander = subprocess.Popen(["sleep", "30"])
    try:
        other = ProcessId(bystander.pid, 1, shim.kernel_boot())
        assert not process.is_alive(other)
        process.request_stop(run, other)
        with anyio.fail_after(1):
            await process.wait_gone(other)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


async def test_a_run_whose_folder_was_removed_is_stopped(tmp_path: Path) -> None:
    mark = f"9{secrets.randbelow(10**9):09d}.5"
    run, spec = prepared(tmp_path / "run", f"echo up; exec sleep {mark}")
    started = process.spawn(run, spec)
    await printed(run, b"up")
    run.spec.unlink()
    with anyio.fail_after(5):
        await process.wait_gone(started)
    assert processes_with(mark) == []


async def test_a_shim_is_up_in_a_tenth_of_a_second(tmp_path: Path) -> None:
    times: list[float] = []
    for number in range(5):
        began = time.monotonic()
        await finished(tmp_path / str(number), "true")
        times.append(time.monotonic() - began)
    # half of them: the machine may be busy with something else
    assert sorted(times)[2] < 0.2


def test_the_shim_and_the_node_agent_use_the_same_words() -> None:
    assert {shim.BY_REQUEST, shim.BY_TIMEOUT, shim.BY_IDLE} == set(StoppedBy)
    for name in ("SPEC", "IDENTITY", "OUTPUT", "EXIT", "STOP", "LOCK", "ERRORS"):
        assert getattr(shim, name) == getattr(run_dir, name)


def test_the_shim_needs_nothing_that_is_not_in_the_standard_library() -> None:
    code = f"import runpy, sys; runpy.run_path({shim.__file__!r}); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert "msgspec" not in done.stdout
    assert "asyncio" not in done.stdout
