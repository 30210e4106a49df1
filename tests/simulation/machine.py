"""A simulated machine: its processes, which outlive the node agent, and the witness.

Owns the witness log: what the fake agents themselves saw, kept outside of every host, so that no bug of a host can hide in it.
Everything here runs outside of the hosts: killing a node agent leaves its shims and their agents running.
"""

from __future__ import annotations

import asyncio
import contextvars
import errno
import os
import random
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct

from bus import host
from bus_schemas.orders import WorkOrder
from node_agent.attempt import Exit, Key, ProcessId, StoppedBy, key_of
from tests.simulation.host import SimHost

STOP_TAKES_S = 0.05
OUTSIDE = contextvars.Context()
"""What runs in it belongs to no host, so no kill ends it."""


class Witnessed(NamedTuple):
    """What an agent saw of itself; `what` is `start` or `end`, `at_s` virtual time, `machine` where it really ran."""

    at_s: float
    what: str
    machine: str
    node: str
    project: str
    orchestration: str
    run: str
    attempt: int
    nonce: str
    pid: int


class Fate(Struct, frozen=True):
    """What will become of a process: how long it takes to appear and to end, and how it ends.

    `errno` means that the program cannot be started; `lost` that the shim is killed at its end, without a word.
    """

    appears_s: float
    lasts_s: float
    exit_code: int = 0
    signal: int | None = None
    errno: int | None = None
    lost: bool = False


class Process:
    """A shim and, below it, an agent."""

    def __init__(self, machine: Machine, order: WorkOrder, fate: Fate, pid: int) -> None:
        self.machine, self.order, self.fate = machine, order, fate
        self.id = ProcessId(pid, pid * 7, machine.boot)
        self.appeared = False
        self.gone = False
        self.exit: Exit | None = None
        self._stopped = False
        self._agent_since: float | None = None
        self._waiting: list[asyncio.Event] = []
        self._loop = asyncio.get_running_loop()
        self._loop.call_later(fate.appears_s, self._appear, context=OUTSIDE)

    def _appear(self) -> None:
        if self.gone:
            return
        if key_of(self.order) in self.machine.locked:
            self._end(None)  # somebody holds the lock: it gives up and starts nothing
            return
        self.appeared = True
        if self._stopped:
            self._end(Exit(spawned=False, stopped_by=StoppedBy.REQUEST))
        elif self.fate.errno is not None:
            self._end(Exit(spawned=False, spawn_errno=self.fate.errno, spawn_error=os.strerror(self.fate.errno)))
        else:
            self._agent_since = self._loop.time()
            self.machine.saw("start", self)
            self._loop.call_later(min(self.fate.lasts_s, self.order.timeout_s), self._finish, context=OUTSIDE)

    def _finish(self) -> None:
        if self.gone:
            return
        if self.fate.lost:
            self._end(None)
        elif self.fate.lasts_s >= self.order.timeout_s:
            self._end(self._said(stopped_by=StoppedBy.TIMEOUT))
        elif self.fate.signal is not None:
            self._end(self._said(signal=self.fate.signal))
        else:
            self._end(self._said(exit_code=self.fate.exit_code))

    def _said(self, exit_code: int | None = None, signal: int | None = None, stopped_by: StoppedBy | None = None) -> Exit:
        took_ms = 0.0 if self._agent_since is None else (self._loop.time() - self._agent_since) * 1000
        return Exit(spawned=True, exit_code=exit_code, signal=signal, stopped_by=stopped_by, duration_ms=took_ms)

    def request_stop(self) -> None:
        """Ask the shim to stop its run; one that has not begun will not start it."""
        if not self._stopped:
            self._stopped = True
            if self.appeared and not self.gone:
                self._loop.call_later(STOP_TAKES_S, self._stop, context=OUTSIDE)

    def _stop(self) -> None:
        if not self.gone:
            self._end(self._said(stopped_by=StoppedBy.REQUEST))

    def _end(self, said: Exit | None) -> None:
        self.gone, self.exit = True, said
        if self._agent_since is not None:
            self.machine.saw("end", self)
        for event in self._waiting:
            event.set()

    def power_cut(self, keeps_exit: bool) -> None:
        """End with the machine; what it wrote at its end may be lost with the unsynced pages."""
        if not self.gone:
            self._end(None)
        elif not keeps_exit:
            self.exit = None

    async def wait_gone(self) -> None:
        """Return when nothing of it is left."""
        if not self.gone:
            event = asyncio.Event()
            self._waiting.append(event)
            await event.wait()


class Machine:
    """What a node agent runs on. `locked` are attempts whose shim may not begin any more."""

    def __init__(self, name: str, data: Path, witness: list[Witnessed]) -> None:
        """Keep the node agent's files below `data`; tell `witness` what agents see."""
        self.name, self.data = name, data
        self.boot = f"{name}-boot-1"
        self.processes: dict[Key, Process] = {}
        self.locked: set[Key] = set()
        self._witness = witness
        self._boots = 1
        self._pids = 100

    @property
    def journal(self) -> Path:
        """Where the node agent keeps its journal."""
        return self.data / "journal" / "journal.jsonl"

    def saw(self, what: str, process: Process) -> None:
        """Write into the witness log."""
        o = process.order
        at_s = asyncio.get_running_loop().time()
        self._witness.append(Witnessed(at_s, what, self.name, o.node, o.project, o.orchestration, o.run, o.attempt, o.nonce, process.id.pid))

    def spawn(self, order: WorkOrder, fate: Fate) -> Process:
        """Start a shim. Raises OSError where the one who asks is dead."""
        asking = host.current.get()
        assert isinstance(asking, SimHost)
        asking.check_disk()
        self._pids += 1
        process = Process(self, order, fate, self._pids)
        self.processes[key_of(order)] = process
        return process

    def power_cut(self, rng: random.Random) -> None:
        """End every process with the machine, and begin a new boot."""
        for process in self.processes.values():
            process.power_cut(keeps_exit=rng.random() < 0.5)
        self._boots += 1
        self.boot = f"{self.name}-boot-{self._boots}"
        self.locked.clear()


SPAWN_ERRORS = (errno.ENOENT, errno.EACCES, errno.EAGAIN)
