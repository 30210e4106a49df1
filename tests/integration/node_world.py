"""A world for the tests of the node agent: a real server, a repository, and the test in the place of the controller."""

from __future__ import annotations

import contextlib
import inspect
import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import anyio

from bus.bootstrap import ensure_all, ensure_consumer
from bus.connection import Bus, connect
from bus.embedded import EmbeddedServer
from bus_schemas import codec, subjects
from bus_schemas.design import shell_phase
from bus_schemas.orders import Inputs, RunKind, StopOrder, TaskBrief, WorkOrder, Workspace
from bus_schemas.policy import ReviewPolicy
from bus_schemas.reports import Beat, Ended, Started
from node_agent.config import NodeConfig
from node_agent.executor import Executor
from node_agent.service import serve

WAIT_S = 20.0
GIT_ENV = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}

DESIGN = """# Greeter

## Phase 1: say hello

### Task 1: write the greeting

```sh
echo hello > greeting.txt
echo "repair $QD_REPAIR of $QD_PHASE/$QD_TASK"
```

### Task 2: shout it
Depends on: 1

```sh
tr a-z A-Z < greeting.txt > shout.txt
```

### Check

```sh
grep -q HELLO shout.txt
```
"""


async def until(found: Callable[[], object], *, wait_s: float = WAIT_S) -> None:
    """Return when `found` gives something; it may be asynchronous. Raises TimeoutError."""
    with anyio.fail_after(wait_s):
        while True:
            value = found()
            if await value if inspect.isawaitable(value) else value:
                return
            await anyio.sleep(0.02)


def git(where: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=op", "-c", "user.email=op@example.org", *arguments]
    return subprocess.run(command, cwd=where, env=GIT_ENV, check=True, capture_output=True, text=True).stdout.strip()


def make_repository(path: Path) -> Path:
    path.mkdir(parents=True)
    git(path, "init", "--quiet", "--initial-branch=main")
    (path / "README").write_text("a project\n")
    git(path, "add", "README")
    git(path, "commit", "--quiet", "--message=start")
    return path


def make_order(repo: Path | str, kind: RunKind, number: int, *, base: tuple[str, ...] = (), **changes: Any) -> WorkOrder:
    """Return an order for node `a`; `task` is a number in phase 1 of the design, or the text of a block."""
    body = changes.pop("body", DESIGN)
    task = changes.pop("task", None)
    if isinstance(task, int):
        found = next(task_ for task_ in shell_phase(body, 1).tasks if task_.number == task)
        task = TaskBrief("1", found.number, found.subject, found.description)
    elif isinstance(task, str):
        task = TaskBrief("1", 1, "a block", f"```sh\n{task}\n```\n")
    inputs = Inputs(
        feature="Greeter",
        design_title="Greeter",
        design_body=body,
        total_phases=1,
        phase=changes.pop("phase", "1"),
        task=task,
        check=changes.pop("check", None),
    )
    fields: dict[str, Any] = {
        "v": codec.VERSION,
        "type": "work-order",
        "run": f"shop-o1-r{number}",
        "attempt": 1,
        "nonce": secrets.token_hex(8),
        "kind": kind,
        "project": "shop",
        "orchestration": "shop-o1",
        "node": "a",
        "role": "executor",
        "model": "shell",
        "workspace": Workspace(repo=str(repo), slug="greeter", branch="qd/greeter", base=base),
        "inputs": inputs,
        "review": ReviewPolicy(),
        "policy_revision": 1,
        "timeout_s": 20.0,
        "action": "shop-a1",
        "issued_at": datetime.now(UTC),
        **changes,
    }
    return WorkOrder(**fields)


class World(NamedTuple):
    """A server with its streams, node `a`'s consumers, a repository, and a connection to play the controller with."""

    server: EmbeddedServer
    bus: Bus
    repo: Path
    folder: Path

    def config(self, **changes: Any) -> NodeConfig:
        fields = {"server": self.server.url, "name": "a", "data": self.folder / "node", "stop_grace_s": 0.3, **changes}
        if "seed_file" not in fields:
            fields.setdefault("token", self.server.credentials.token)
        return NodeConfig.model_validate(fields)

    async def send(self, order: WorkOrder) -> None:
        await self.bus.append(subjects.work(order.node, order.run, order.attempt), codec.encode(order))

    async def stop(self, order: WorkOrder, reason_code: str = "dispatch_cancelled") -> None:
        stop = StopOrder(codec.VERSION, "stop-order", order.run, order.attempt, order.nonce, order.node, reason_code, datetime.now(UTC))
        await self.bus.append(subjects.control_order(order.node, order.run, order.attempt), codec.encode(stop))

    async def report(self, order: WorkOrder, kind: str) -> Any:
        """Return a report of an attempt, once it is there."""
        await until(lambda: self.bus.last(subjects.REP, report_subject(order, kind)))
        stored = await self.bus.last(subjects.REP, report_subject(order, kind))
        assert stored is not None
        return codec.decode_report(stored.data)

    async def ended(self, order: WorkOrder) -> Ended:
        found = await self.report(order, "ended")
        assert isinstance(found, Ended)
        return found

    async def do(self, order: WorkOrder) -> Ended:
        await self.send(order)
        return await self.ended(order)

    async def started(self, order: WorkOrder) -> Started:
        found = await self.report(order, "started")
        assert isinstance(found, Started)
        return found

    async def beat(self) -> Beat:
        await until(lambda: self.bus.last(subjects.BEAT, subjects.beat("a")))
        stored = await self.bus.last(subjects.BEAT, subjects.beat("a"))
        assert stored is not None
        return codec.decode_beat(stored.data)

    async def output(self, order: WorkOrder) -> bytes:
        """Return what an attempt printed, put together as a reader of the LOG does."""
        found, seq, subject = b"", 0, subjects.log(order.node, order.run, order.attempt)
        while (stored := await self.bus.next_after(subjects.LOG, subject, seq)) is not None:
            seq, found = stored.seq, found + stored.data
        return found

    async def orders_are_done(self) -> bool:
        info = await self.bus.api(f"CONSUMER.INFO.{subjects.WORK}.work-a")
        return int(info["num_pending"]) + int(info["num_ack_pending"]) == 0

    async def a_stop_was_taken(self) -> bool:
        info = await self.bus.api(f"CONSUMER.INFO.{subjects.WORK}.ctl-a")
        return int(info["ack_floor"]["stream_seq"]) > 0

    async def has_other_boot(self, boot: str) -> bool:
        return (await self.beat()).boot != boot

    def has_file(self, name: str) -> bool:
        """Return whether some run has a file of that name in its folder."""
        return bool(list((self.folder / "node" / "runs").glob(f"*/{name}")))


def processes_with(mark: str) -> list[int]:
    """Return the processes that have `mark` on their command line."""
    found: list[int] = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it went away while we looked
            if mark.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


def report_subject(order: WorkOrder, kind: str) -> str:
    return subjects.report(order.node, order.project, order.run, order.attempt, order.nonce, kind)


@contextlib.asynccontextmanager
async def world(folder: Path, *, consumers: bool = True) -> AsyncIterator[World]:
    async with EmbeddedServer(folder / "bus", sync="always") as server:
        bus = await connect(server.url, "test", server.credentials)
        try:
            await ensure_all(bus)
            made = World(server, bus, make_repository(folder / "repo"), folder)
            if consumers:
                await make_consumers(made)
            yield made
        finally:
            await bus.close()


async def make_consumers(made: World) -> None:
    for spec in subjects.node_consumers("a", 2):
        await ensure_consumer(made.bus, spec)


@contextlib.asynccontextmanager
async def node(made: World, *, executor: Executor | None = None, **changes: Any) -> AsyncIterator[None]:
    """Serve node `a` in this process."""
    async with anyio.create_task_group() as tasks:
        await tasks.start(lambda task_status: serve(made.config(**changes), executor=executor, task_status=task_status))
        yield
        tasks.cancel_scope.cancel()


def task_order(made: World, number: int, block: str, **changes: Any) -> WorkOrder:
    """Return the order of a task that runs `block` on the tip of the default branch."""
    base = (git(made.repo, "rev-parse", "main"),)
    return make_order(made.repo, RunKind.TASK, number, base=base, task=block, **changes)


class NodeProcess:
    """A node agent as a process of its own, to be killed."""

    def __init__(self, made: World, *options: str) -> None:
        self._command = [
            *(sys.executable, "-m", "node_agent", "--server", made.server.url, "--name", "a", "--data", str(made.folder / "node")),
            *("--token-file", str(made.server.token_file), *options),
        ]
        self._log = (made.folder / "node.log").open("ab")
        self.process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)
        self._log.close()

    def __enter__(self) -> NodeProcess:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.kill()
        self._log.close()
