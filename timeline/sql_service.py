"""The SQL service: runs an analyst's statement in a process of its own, with limits, and never in ours. Owns those processes.

A statement gets a fresh process and the process gets one statement. One is started ahead, so that nobody waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Awaitable
from pathlib import Path
from typing import Protocol

import anyio
import anyio.abc
import anyio.to_thread
import msgspec

from bus.request import QueryFailed
from bus_schemas.reasons import Reason
from timeline.sql_worker import ANSWER_BYTES_MAX, READY, SQL_LIMIT, SqlAnswer, SqlRequest

log = logging.getLogger(__name__)

START_TIMEOUT_S = 20.0
"""Of a worker on a machine that is busy; nobody waits for it while there is a spare one."""
AT_ONCE = 2
LINE_BYTES_MAX = 2 * ANSWER_BYTES_MAX
ROOT = Path(__file__).parent.parent


class Worker:
    """A process that waits for one statement."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path) -> None:
        """Hold a started process and its spill folder."""
        self._process, self._folder = process, folder

    @classmethod
    async def start(cls, memory_bytes: int, cpu_s: int) -> Worker:
        """Return a worker that is ready. Raises OSError and TimeoutError."""
        folder = Path(await anyio.to_thread.run_sync(tempfile.mkdtemp, "", "qd-sql-"))
        worker: Worker | None = None
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-s",
                "-m",
                "timeline.sql_worker",
                str(folder),
                str(memory_bytes),
                str(cpu_s),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                cwd=ROOT,
                env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "LANG": "C.UTF-8"},
                start_new_session=True,
                limit=LINE_BYTES_MAX,
            )
            worker = cls(process, folder)
            assert process.stdout is not None
            if await asyncio.wait_for(process.stdout.readline(), START_TIMEOUT_S) != READY:
                raise OSError("the SQL worker did not start")
        except BaseException:
            with anyio.CancelScope(shield=True):
                await (_remove(folder) if worker is None else worker.end())
            raise
        return worker

    @property
    def is_alive(self) -> bool:
        """Whether its process still waits."""
        return self._process.returncode is None

    async def ask(self, request: SqlRequest) -> bytes:
        """Return the line that the worker answered, empty when it ended without one. Takes as long as the statement."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(ConnectionError):
            self._process.stdin.write(msgspec.json.encode(request) + b"\n")
            await self._process.stdin.drain()
        try:
            return await self._process.stdout.readline()
        except ValueError:  # longer than any answer may be
            return b""

    async def end(self) -> None:
        """Kill the process with all it started, and remove its folder."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        await _remove(self._folder)


async def _remove(folder: Path) -> None:
    await anyio.to_thread.run_sync(shutil.rmtree, folder, True)


class Publish(Protocol):
    """Returns the path of a copy that is as new as the data, or with `may_be_older` one that soon was."""

    def __call__(self, *, may_be_older: bool = False) -> Awaitable[Path]:
        """Raise duckdb.Error and OSError."""


class SqlService:
    """Answers statements while `run` runs."""

    def __init__(self, publish: Publish, *, timeout_s: float, memory_bytes: int) -> None:
        """`publish` returns the path of a copy that is as new as the data, or may be a little older."""
        self._publish = publish
        self._timeout_s, self._memory_bytes = timeout_s, memory_bytes
        self._cpu_s = int(2 * timeout_s) + 2  # two threads
        self._spare: Worker | None = None
        self._spare_wanted = asyncio.Event()
        self._at_once = asyncio.Semaphore(AT_ONCE)

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Keep a spare worker until cancelled."""
        task_status.started()
        try:
            while True:
                if self._spare is None:
                    try:
                        self._spare = await Worker.start(self._memory_bytes, self._cpu_s)
                    except (OSError, TimeoutError) as error:
                        log.error("cannot start a SQL worker: %s", error)
                        await anyio.sleep(1.0)
                        continue
                self._spare_wanted.clear()
                await self._spare_wanted.wait()
        finally:
            if self._spare is not None:
                with anyio.CancelScope(shield=True):
                    await self._spare.end()

    async def query(self, sql: str, limit: int, *, may_be_older: bool = False) -> SqlAnswer:
        """Return what a statement answers, at most `limit` rows. Raises QueryFailed, with code `sql_limit` when it took too much."""
        async with self._at_once:
            path = await self._publish(may_be_older=may_be_older)
            worker = await self._take()
            try:
                with anyio.move_on_after(self._timeout_s) as scope:
                    line = await worker.ask(SqlRequest(str(path), sql, limit))
                if scope.cancelled_caught:
                    raise QueryFailed(SQL_LIMIT, f"the statement took longer than {self._timeout_s:g} s and was stopped")
            finally:
                with anyio.CancelScope(shield=True):
                    await worker.end()
        if not line:
            raise QueryFailed(SQL_LIMIT, "the statement was stopped at its limit of memory or processor time")
        answer = msgspec.json.decode(line, type=SqlAnswer)
        if answer.code is not None:
            raise QueryFailed(answer.code, answer.message)
        return answer

    async def _take(self) -> Worker:
        worker, self._spare = self._spare, None
        self._spare_wanted.set()
        if worker is not None:
            if worker.is_alive:
                return worker
            await worker.end()
        try:
            return await Worker.start(self._memory_bytes, self._cpu_s)
        except (OSError, TimeoutError) as error:
            raise QueryFailed(Reason.INTERNAL, f"no SQL worker could be started: {error}") from error
