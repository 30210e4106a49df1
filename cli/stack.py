"""Everything on one machine in one process: bus, controller, nodes, timeline. Owns the data folder and what stands in it.

`qd up` and `qd demo` are two ways to use it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import anyio
from anyio.abc import TaskStatus

from bus.bootstrap import Sync, ensure_all, sync_of
from bus.connection import Bus, connect
from bus.embedded import EmbeddedServer
from bus_schemas.subjects import LOCAL_PRINCIPAL
from cli.endpoint import Endpoint
from cli.exits import DATA_IN_USE
from cli.failure import Failure
from cli.foreground import Part, run_parts

Result = TypeVar("Result")


class NodePlan(NamedTuple):
    """A node to run: its name, its labels, how many runs at once."""

    name: str
    labels: dict[str, str]
    capacity: int


class ConsolePlan(NamedTuple):
    """A console to run: its port (None: the usual one, or a free one), its address, its certificate, and who is told where it is."""

    port: int | None = None
    host: str = "127.0.0.1"
    hosts: tuple[str, ...] = ()
    certificate: Path | None = None
    certificate_key: Path | None = None
    read_only: bool = False
    on_address: Callable[[str], None] | None = None


class Plan(NamedTuple):
    """What to run and where it keeps its things. Without `existing` a bus is started, on `port` (0: a free one)."""

    data: Path
    nodes: tuple[NodePlan, ...]
    port: int = 0
    existing: Endpoint | None = None
    allow_unsafe_sync: bool = False
    leave_running: bool = True
    console: ConsolePlan | None = None


class Running(NamedTuple):
    """A stack that runs: its bus, and the token file that opens it (None for a bus that was there before)."""

    endpoint: Endpoint
    token_file: Path | None
    sync: Sync


@contextmanager
def owned(data: Path) -> Iterator[None]:
    """Hold a data folder alone. Raises Failure: it is in use, or it cannot be made."""
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(data / "up.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise Failure(DATA_IN_USE, f"the data folder {data} cannot be used: {error}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
            text = f"another `qd up`{f' (process {holder})' if holder else ''} works in {data}"
            raise Failure(DATA_IN_USE, text) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


async def run_stack(plan: Plan, body: Callable[[Running], Awaitable[Result]]) -> Result:
    """Run everything, and `body` beside it; return what `body` returned, once all is ended. Raises PartFailed, Failure."""
    async with _bus(plan) as (running, watched):
        return await run_parts([*watched, *_parts(plan, running.endpoint)], partial(body, running))


def _parts(plan: Plan, endpoint: Endpoint) -> Iterator[Part]:
    yield controller_part(endpoint, plan.data / "controller", allow_unsafe_sync=plan.allow_unsafe_sync)
    yield timeline_part(endpoint, plan.data / "timeline", allow_unsafe_sync=plan.allow_unsafe_sync)
    for node in plan.nodes:
        yield node_part(endpoint, plan.data / "nodes" / node.name, node, leave_running=plan.leave_running)
    if plan.console is not None:
        yield console_part(endpoint, plan.data / "console", plan.console)


@asynccontextmanager
async def _bus(plan: Plan) -> AsyncIterator[tuple[Running, list[Part]]]:
    if plan.existing is not None:
        sync = await set_up(plan.existing, None)
        yield Running(plan.existing, None, sync), []
        return
    folder = plan.data / "bus"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    async with EmbeddedServer(folder, port=plan.port) as server:
        endpoint = Endpoint(server.url, server.credentials)
        sync = await set_up(endpoint, Sync.ALWAYS)
        yield Running(endpoint, server.token_file, sync), [Part("bus", partial(_watch, server))]


async def _watch(server: EmbeddedServer, *, task_status: TaskStatus[None]) -> None:
    task_status.started()
    code = await server.wait()
    raise RuntimeError(f"nats-server ended with exit code {code}; its log is {server.log_file}")


async def set_up(endpoint: Endpoint, sync: Sync | None) -> Sync:
    """Make all streams of a bus as they must be; return how it writes: as given, as noted before, or as it says itself."""
    bus = await connect(endpoint.url, "qd set-up", endpoint.credentials)
    try:
        await ensure_all(bus, sync=sync)
        return sync if sync is not None else await _noted_sync(bus)
    finally:
        await bus.close()


async def _noted_sync(bus: Bus) -> Sync:
    from bus.sync import detect_sync

    noted = await sync_of(bus)
    if noted is Sync.UNKNOWN:
        found = await detect_sync(bus, None)
        if found is not Sync.UNKNOWN:
            await ensure_all(bus, sync=found)
        return found
    return noted


def controller_part(endpoint: Endpoint, data: Path, *, allow_unsafe_sync: bool) -> Part:
    """Return a controller that works at `endpoint` and keeps its things in `data`."""
    from controller.config import ControllerConfig
    from controller.service import serve

    who = endpoint.credentials
    config = ControllerConfig(
        server=endpoint.url,
        principal=who.principal,
        token=who.token,
        seed_file=who.seed_file,
        data=_folder(data),
        allow_unsafe_sync=allow_unsafe_sync,
    )
    return Part("controller", partial(serve, config))


def timeline_part(endpoint: Endpoint, data: Path, *, allow_unsafe_sync: bool) -> Part:
    """Return a timeline that works at `endpoint` and keeps its file in `data`."""
    from timeline.config import TimelineConfig
    from timeline.service import serve

    who = endpoint.credentials
    config = TimelineConfig(
        server=endpoint.url,
        principal=who.principal,
        token=who.token,
        seed_file=who.seed_file,
        data=_folder(data),
        allow_unsafe_sync=allow_unsafe_sync,
    )
    return Part("timeline", partial(serve, config))


def node_part(endpoint: Endpoint, data: Path, node: NodePlan, *, leave_running: bool, grace_s: float = 0.0, drain: anyio.Event | None = None) -> Part:
    """Return a node agent that works at `endpoint`, keeps its things in `data`, and with `drain` can be asked to take no new work."""
    from node_agent.config import NodeConfig
    from node_agent.service import serve

    who = endpoint.credentials
    config = NodeConfig(
        server=endpoint.url,
        principal=who.principal if who.seed_file is None or who.principal != LOCAL_PRINCIPAL else None,
        token=who.token,
        seed_file=who.seed_file,
        name=node.name,
        data=_folder(data),
        labels=node.labels,
        capacity=node.capacity,
        leave_running=leave_running,
        drain_grace_s=grace_s,
    )
    return Part(f"node {node.name}", partial(serve, config, drain=drain))


def console_part(endpoint: Endpoint, data: Path, plan: ConsolePlan) -> Part:
    """Return a console that works at `endpoint` and keeps its secret in `data`. Raises Failure for what is not safe."""
    from pydantic import ValidationError

    from cli.failure import usage
    from console.config import PORT_DEFAULT, ConsoleConfig
    from console.service import serve

    who = endpoint.credentials
    try:
        config = ConsoleConfig(
            server=endpoint.url,
            principal=who.principal,
            token=who.token,
            seed_file=who.seed_file,
            data=_folder(data),
            host=plan.host,
            port=PORT_DEFAULT if plan.port is None else plan.port,
            or_free_port=plan.port is None,
            hosts=plan.hosts,
            certificate=plan.certificate,
            certificate_key=plan.certificate_key,
            read_only=plan.read_only,
        )
    except ValidationError as error:
        raise usage("; ".join(str(problem["msg"]) for problem in error.errors())) from error

    async def run(*, task_status: TaskStatus[None]) -> None:
        await serve(config, task_status=_Address(task_status, plan.on_address))

    return Part("console", run)


class _Address:
    """Takes the address of the console when it has started, and passes on that it has."""

    def __init__(self, started: TaskStatus[None], on_address: Callable[[str], None] | None) -> None:
        self._started, self._on_address = started, on_address

    def started(self, value: str = "") -> None:
        if self._on_address is not None:
            self._on_address(value)
        self._started.started()


def _folder(path: Path) -> Path:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


async def until_ready(ask: Callable[[str], Awaitable[dict[str, object]]], nodes: int, *, timeout_s: float) -> list[str]:
    """Return when controller, timeline and nodes answer: an empty list, or what is still missing when the time is over."""
    missing = ["controller", "timeline", "nodes"]
    with anyio.move_on_after(timeout_s):
        while missing:
            missing = await _missing(ask, nodes)
            if missing:
                await anyio.sleep(0.05)
    return missing


async def _missing(ask: Callable[[str], Awaitable[dict[str, object]]], nodes: int) -> list[str]:
    missing: list[str] = []
    try:
        status = await ask("status")
    except Failure:
        return ["controller", "timeline", "nodes"]
    online = status["nodes_online"]
    if not isinstance(online, int) or online < nodes:
        missing.append("nodes")
    try:
        await ask("timeline-status")
    except Failure:
        missing.append("timeline")
    return missing
