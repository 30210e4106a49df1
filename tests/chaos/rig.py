"""A full installation as real processes, each behind a link of its own, which can be killed, stalled, cut off and lied to about the time.

Owns a folder, all processes in it, and the proxy. Every service is started by the installed `qd serve`; the rig itself talks to the
bus directly, past the proxy. What is done to whom is written into `faults.jsonl`, what failpoints really did into `failpoints.jsonl`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import msgspec

from bus import failpoint
from bus.bootstrap import Sync, ensure_all
from bus.connection import ApiFailure, Bus, connect
from bus.embedded import EmbeddedServer, free_port
from bus.errors import Unavailable
from bus.reader import stream_state
from bus.request import QueryFailed, ask
from bus_schemas import subjects
from tests.chaos.proxy import Link, Proxy
from tests.chaos.services import QD, Process

LOOK_EVERY_S = 0.05
RESTART_AFTER_S = 0.2
"""What a supervisor waits before it starts a process that has died."""
STATUS_S = 1.0
FAKETIME = Path(f"/usr/lib/{os.uname().machine}-linux-gnu/faketime/libfaketimeMT.so.1")
"""Of Debian's package `libfaketime`; without it there is no clock skew."""
TWIN_SUFFIX = "-twin"


class Role(StrEnum):
    """What a component is."""

    CONTROLLER = "controller"
    NODE = "node"
    TIMELINE = "timeline"
    CLIENT = "client"


class Component:
    """One process of the installation over all its lives, with its link and its clock."""

    def __init__(self, name: str, role: Role, process: Process, link: Link, folder: Path) -> None:
        self.name, self.role, self.process, self.link = name, role, process, link
        self.lives = 0
        self.wanted = False
        self.armed: str | None = None
        """The failpoint order of this life."""
        self.busy = False
        """A fault is at work on it."""
        self.started_at = 0.0
        self.folder = folder
        self._clock = folder / "clocks" / name
        self._orders = folder / "orders" / name
        self._accepted_before = 0
        self._hits = folder / "failpoints.jsonl"

    @property
    def node(self) -> str:
        """The id of a node; twins share it."""
        return self.name.removesuffix(TWIN_SUFFIX)

    def start(self, armed: str | None = None, *, own_clock: bool = False) -> None:
        """Start a new life, with a failpoint order or without, and perhaps with a clock of its own that `set_clock` moves."""
        self.keep_journal()
        self.lives += 1
        self.wanted, self.armed = True, armed
        self._accepted_before = self.link.accepted
        more = {failpoint.LOG_ENVIRONMENT: str(self._hits), failpoint.FILE_ENVIRONMENT: str(self._orders)}
        if armed is not None:
            more[failpoint.ENVIRONMENT] = armed
        if self.role is Role.CONTROLLER:
            more["QD_CONTROLLER_OWNER"] = f"{self.name}.{self.lives}"
        if own_clock:  # not always: under the library sleeps of absolute length fail with EINVAL
            more |= {
                "LD_PRELOAD": str(FAKETIME),
                "FAKETIME_TIMESTAMP_FILE": str(self._clock),
                "FAKETIME_CACHE_DURATION": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                "DONT_FAKE_MONOTONIC": "1",
                "NO_FAKE_STAT": "1",
            }
        self.started_at = time.monotonic()
        self.process.start(more)

    def keep_journal(self) -> None:
        """Keep the journal of the life before: the node rewrites it at its start into a new file, so a second name is enough."""
        for journal in (self.journal, self.journal.parents[1] / self.name / "journal" / self.journal.name):
            if journal.exists():
                kept = self.folder / "journals" / f"{self.name}.{self.lives:04d}.jsonl"
                kept.parent.mkdir(exist_ok=True)
                kept.unlink(missing_ok=True)
                kept.hardlink_to(journal)

    @property
    def journal(self) -> Path:
        """Where a node keeps its journal."""
        return self.folder / self.name / "journal" / "journal.jsonl"

    @property
    def is_up(self) -> bool:
        """Whether this life has come so far as to connect."""
        return self.process.runs and self.link.accepted > self._accepted_before

    def order(self, text: str) -> None:
        """Give the life that is up a failpoint order, in place of those it had."""
        self._orders.parent.mkdir(exist_ok=True)
        self._orders.write_text(text)
        self.armed = text
        self.process.signal(signal.SIGUSR2)

    def set_clock(self, offset_s: float) -> None:
        """Make the wall clock of this component wrong by so much, within a second."""
        self._clock.parent.mkdir(exist_ok=True)
        fresh = self._clock.with_suffix(".new")
        fresh.write_text(f"{offset_s:+.3f}\n")
        fresh.replace(self._clock)


class Rig:
    """The installation. Made by `rig`."""

    def __init__(self, folder: Path, proxy: Proxy, server: EmbeddedServer, tasks: anyio.abc.TaskGroup) -> None:
        self.folder, self.proxy, self.server = folder, proxy, server
        self.components: dict[str, Component] = {}
        self.witness, self.stop_file = folder / "witness.jsonl", folder / "stop"
        self.tasks = tasks
        self.bus: Bus
        self.unexpected_ends: list[str] = []
        self.noticed_s: list[float | None] = []
        """After how long components noticed a peer that was gone without a word; None: not while it lasted."""
        self._faults = (folder / "faults.jsonl").open("ab", buffering=0)

    def note(self, event: str, **fields: Any) -> float:
        """Write a line into the fault log; return its monotonic time in seconds."""
        now = time.monotonic()
        self._faults.write(msgspec.json.encode({"event": event, "mono_s": round(now, 4), "at_ns": time.time_ns(), **fields}) + b"\n")
        return now

    def of(self, *roles: Role) -> list[Component]:
        """Return the components of some roles that are wanted now."""
        return [component for component in self.components.values() if component.role in roles and component.wanted]

    # ── making ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _add(self, name: str, role: Role, argv: list[str]) -> Component:
        """Add a component; in `argv` the word `SERVER` stands for its link."""
        link = self.proxy.open(name, ("127.0.0.1", self.server.port))
        argv = [link.url if word == "SERVER" else word for word in argv]
        state = self.folder / "state"
        state.mkdir(exist_ok=True)
        environment = {**os.environ, "QD_STATE_DIR": str(state), "NO_COLOR": "1"}
        process = Process(name, argv, environment, self.folder / f"{name}.log")
        component = Component(name, role, process, link, self.folder)
        component.set_clock(0)
        self.components[name] = component
        return component

    def serve(self, name: str, role: Role, *arguments: str) -> Component:
        """Add a service of `qd serve`."""
        shared = ["--data", str(self.folder / name), "--server", "SERVER", "--token-file", str(self.server.token_file)]
        return self._add(name, role, [QD, "--verbose", "serve", role.value, *arguments, *shared])

    def controllers(self, count: int = 2) -> None:
        """Add controllers: one will be active."""
        for letter in "abc"[:count]:
            self.serve(f"ctl-{letter}", Role.CONTROLLER)

    def node(self, name: str, capacity: int = 4, *, twin: bool = False) -> Component:
        """Add a node; a twin has the same id and a data folder of its own."""
        return self.serve(name + (TWIN_SUFFIX if twin else ""), Role.NODE, "--name", name, "--capacity", str(capacity))

    def null_node(self, name: str) -> Component:
        """Add a real node agent whose runs do nothing."""
        data = str(self.folder / name)
        argv = ["-m", "bench.null_node", "--server", "SERVER", "--token-file", str(self.server.token_file), "--data", data, name]
        return self._add(name, Role.NODE, [sys.executable, *argv])

    def client(self, name: str, nodes: tuple[str, ...], *, live: int, seed: int, module: str = "tests.chaos.workload") -> Component:
        """Add a client process."""
        own = {
            "--server": "SERVER",
            "--token-file": str(self.server.token_file),
            "--log": str(self.folder / f"client-{name}.jsonl"),
            "--name": name,
            "--repo": str(self.repo),
            "--witness": str(self.witness),
            "--stop": str(self.stop_file),
            "--nodes": ",".join(nodes),
            "--seed": str(seed),
            "--live": str(live),
        }
        return self._add(name, Role.CLIENT, [sys.executable, "-m", module, *(word for pair in own.items() for word in pair)])

    @property
    def repo(self) -> Path:
        """The repository of all projects; it is the operator's, and only branches of ours may change in it."""
        return self.folder / "repo"

    def make_repo(self) -> None:
        """Make the repository, with one commit."""
        self.repo.mkdir()
        script = "git init -q -b main . && echo start > start && git add . && git -c user.name=x -c user.email=x@x commit -qm start"
        subprocess.run(["sh", "-c", script], cwd=self.repo, check=True)

    # ── lives ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def supervise(self) -> None:
        """Start again, for ever, whatever has died; clients that have ended well are done."""
        while True:
            await anyio.sleep(LOOK_EVERY_S)
            for component in self.components.values():
                if component.wanted and not component.process.runs:
                    await self._bury(component)

    async def _bury(self, component: Component) -> None:
        assert component.process.process is not None
        code = component.process.process.returncode
        self.note("died", component=component.name, code=code, armed=component.armed)
        if component.role is Role.CLIENT and code == 0:
            component.wanted = False
            return
        if code != -signal.SIGKILL:
            self.unexpected_ends.append(f"{component.name} ended with {code}")
        await anyio.sleep(RESTART_AFTER_S)
        if component.wanted and not component.process.runs:
            component.start()
            self.note("restarted", component=component.name, life=component.lives)

    def restart(self, component: Component, armed: str | None = None, *, own_clock: bool = False) -> None:
        """Kill a component and start it at once, armed as said."""
        component.wanted = False
        if component.process.runs:
            component.process.kill()
        component.start(armed, own_clock=own_clock)
        self.note("restarted", component=component.name, life=component.lives, armed=armed)

    async def kill_bus(self) -> None:
        """SIGKILL the server, and return when it is gone."""
        self.server.kill()
        await self.server.wait()

    async def stall_bus(self, for_s: float) -> None:
        """SIGSTOP the server for so long."""
        pid = self.server.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        await anyio.sleep(for_s)
        os.kill(pid, signal.SIGCONT)

    # ── looking ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def ask(self, name: str, **params: Any) -> dict[str, Any] | None:
        """Return the answer of a query, or None where nobody answers now."""
        try:
            return await ask(self.bus, name, params, timeout_s=STATUS_S)
        except (Unavailable, QueryFailed):
            return None

    async def active(self) -> Component | None:
        """Return the controller that answers, if one does."""
        status = await self.ask("status")
        return None if status is None else self.components.get(str(status["owner"]).rpartition(".")[0])

    async def until(self, what: str, condition: Callable[[], Any], deadline_s: float = 30.0) -> None:
        """Return when `condition()`, awaited if need be, is true. Raises TimeoutError, naming what never came to be."""
        with anyio.move_on_after(deadline_s):
            while True:
                found = condition()
                if await found if hasattr(found, "__await__") else found:
                    return
                await anyio.sleep(LOOK_EVERY_S)
        raise TimeoutError(f"never within {deadline_s:g} s: {what}")

    async def ready(self) -> None:
        """Return when a controller and the timeline answer and all wanted nodes are online."""

        async def everything() -> bool:
            nodes = await self.ask("nodes")
            online = {node["id"] for node in nodes["items"] if node["online"]} if nodes is not None else set()
            wanted = {component.node for component in self.of(Role.NODE)}
            return wanted <= online and await self.ask("timeline-status") is not None

        await self.until("the installation is ready", everything, 60)

    async def ledger_seq(self) -> int:
        """Return the newest sequence of the ledger; waits for the bus."""
        while True:
            with contextlib.suppress(Unavailable, ApiFailure):
                return (await stream_state(self.bus, subjects.LEDGER)).last_seq
            await anyio.sleep(LOOK_EVERY_S)

    async def timeline_seq(self) -> int:
        """Return how far the timeline is; -1 when it does not answer."""
        status = await self.ask("timeline-status")
        return -1 if status is None else int(str(status["position"]).partition(".")[0])

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def calm(self) -> None:
        """End all weather, stalls and wrong clocks; processes that were only stalled go on."""
        self.proxy.heal()
        for component in self.components.values():
            component.process.signal(signal.SIGCONT)
            component.set_clock(0)

    def stop(self) -> None:
        """Stop all processes, nodes as they are stopped by a supervisor."""
        self.calm()
        for component in self.components.values():
            component.wanted = False
            component.process.signal(signal.SIGTERM)
        for component in self.components.values():
            if component.role is Role.NODE:  # a second signal ends its drain at once
                component.process.signal(signal.SIGTERM)
            component.process.stop()
        self._faults.close()


@asynccontextmanager
async def rig(folder: Path, *, seed: int = 0) -> AsyncIterator[Rig]:
    """A bus with its streams, a repository and a proxy, and no components yet; everything that was started is stopped at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    with Proxy(seed) as proxy:
        async with EmbeddedServer(folder / "bus", port=free_port()) as server, anyio.create_task_group() as tasks:
            made = Rig(folder, proxy, server, tasks)
            made.bus = await connect(server.url, "rig", server.credentials)
            await ensure_all(made.bus, sync=Sync.ALWAYS)
            made.make_repo()
            made.witness.touch()
            tasks.start_soon(made.supervise)
            try:
                yield made
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(made.stop)
                    await made.bus.close()
                tasks.cancel_scope.cancel()
