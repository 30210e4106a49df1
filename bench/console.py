"""`python -m bench.console`: what the console costs and how long it takes beside many stored orchestrations; JSON on stdout.

Owns a bus whose ledger `growth_ledger` makes, and a real controller, a real timeline and a real console on it. Measured are the first byte
of pages, then the CPU of the console and the time from a command to its patch in a browser's stream, with many streams of the audit page
open (each action changes it) and commands coming at an even pace. With `--data` what was made and read is kept: a million orchestrations
take the better part of an hour the first time.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

import anyio
import anyio.abc
import msgspec

from bench import work
from bench.figures import Figures, latency_ms, rounded
from bench.growth import ASKED, Ledger, started
from bench.machine import machine
from bench.processes import Processes
from bus.bootstrap import Sync, ensure_all
from bus.connection import Bus, connect
from bus.embedded import EmbeddedServer
from bus.errors import Unavailable
from bus.reader import stream_state
from bus.request import CommandClient, QueryFailed, ask
from bus_schemas import ids, subjects
from bus_schemas.commands import CommentAdd, Via

READS = 40
READ_TIMEOUT_S = 60.0
START_TIMEOUT_S = 60.0
READ_LEDGER_TIMEOUT_S = 7200.0
LOOK_EVERY_S = 0.5
SERIES = "console"
_ROW = re.compile(rb'id="action-([a-z0-9-]+)"')


class Site(NamedTuple):
    """Where the console is, and the cookie that it knows us by."""

    port: int
    cookie: str

    async def open(self, path: str) -> anyio.abc.SocketStream:
        """Send a GET and return its connection."""
        stream = await anyio.connect_tcp("127.0.0.1", self.port)
        head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nCookie: {self.cookie}\r\nConnection: close\r\n\r\n"
        await stream.send(head.encode())
        return stream


async def log_in(data: Path) -> Site:
    """Use the console's one-time link up. Raises TimeoutError."""
    with anyio.fail_after(START_TIMEOUT_S):
        while not (data / "address").exists():  # noqa: ASYNC110 - another process writes it
            await anyio.sleep(0.05)
    port = int((data / "address").read_text().strip().rpartition(":")[2])
    token = (data / "login-token").read_text().strip()
    stream = await Site(port, "").open(f"/login?token={token}")
    answer = await stream.receive()
    await stream.aclose()
    found = re.search(rb"set-cookie: ([^;]+)", answer, re.IGNORECASE)
    if found is None:
        raise RuntimeError(f"the console let nobody in: {answer[:200]!r}")
    return Site(port, found[1].decode())


async def reads(site: Site, path: str, count: int) -> Figures:
    """Return how long the first byte of a page, and all of it, took."""
    first: list[float] = []
    whole: list[float] = []
    size = 0
    for _ in range(count):
        begun = time.monotonic()
        with anyio.fail_after(READ_TIMEOUT_S):
            stream = await site.open(path)
            size = len(await stream.receive())
            first.append(time.monotonic() - begun)
            try:
                while True:
                    size += len(await stream.receive())
            except anyio.EndOfStream:
                whole.append(time.monotonic() - begun)
        await stream.aclose()
    return {"first_byte_ms": latency_ms(first), "whole_ms": latency_ms(whole), "bytes": size}


class Streams:
    """Browsers that look at the audit page; when the first of them saw which action, and how much all were sent."""

    def __init__(self) -> None:
        """Nothing is seen yet."""
        self.seen: dict[str, float] = {}
        self.bytes = 0
        self.patches = 0

    async def look(self, site: Site, *, is_read: bool, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Follow the stream for ever; `is_read`: note what its patches show."""
        stream = await site.open("/live/audit?after=0")
        task_status.started()
        while True:
            data = await stream.receive()
            self.bytes += len(data)
            if is_read:
                self.patches += data.count(b"\nid: ")
                for name in _ROW.findall(data):
                    self.seen.setdefault(name.decode(), time.monotonic())


async def live(processes: Processes, site: Site, client: CommandClient, clients: int, per_s: float, seconds: float) -> Figures:
    """Return what `clients` streams cost while commands come at a pace, and how long each was on its way to a page."""
    streams = Streams()
    series = f"{SERIES}-{time.time_ns()}"
    sent: dict[str, float] = {}
    async with anyio.create_task_group() as tasks:
        for number in range(clients):
            await tasks.start(lambda *, task_status, first=number == 0: streams.look(site, is_read=first, task_status=task_status))
        await anyio.sleep(2.0)
        cpu, begun = processes.cpu_s(), time.monotonic()
        for number in range(int(seconds * per_s)):
            await anyio.sleep(max(0.0, begun + number / per_s - time.monotonic()))
            asked = time.monotonic()
            receipt = await client.submit(CommentAdd(work.DESIGN, f"Comment {number}"), ids.idempotency_key(f"{series}-{number}"), timeout_s=30.0)
            sent[receipt.action] = asked
        took_s = time.monotonic() - begun
        used = {name: after - cpu[name] for name, after in processes.cpu_s().items()}
        await anyio.sleep(3.0)
        tasks.cancel_scope.cancel()
    late = [streams.seen[name] - at for name, at in sent.items() if name in streams.seen]
    return {
        "clients": clients,
        "commands_per_s": rounded(len(sent) / took_s),
        **{f"{name}_cpu_cores": rounded(used[name] / took_s) for name in ("console", "controller", "timeline")},
        "command_to_patch_ms": latency_ms(late),
        "not_seen": len(sent) - len(late),
        "patches_per_client": streams.patches,
        "bytes_per_s": rounded(streams.bytes / took_s),
    }


async def filled(bus: Bus, orchestrations: int) -> None:
    """Make the ledger, unless it is there already."""
    if (await stream_state(bus, subjects.LEDGER)).messages == 0:
        ledger = Ledger(bus)
        await ledger.begin()
        await ledger.grow(orchestrations)


async def read(processes: Processes, bus: Bus) -> float:
    """Return the seconds until the timeline has read the whole ledger. Raises TimeoutError, ChildEnded."""
    begun = time.monotonic()
    with anyio.fail_after(READ_LEDGER_TIMEOUT_S):
        while True:
            processes.check()
            try:
                status = await ask(bus, "timeline-status")
                if status["events"] and status["behind"] == 0:
                    return time.monotonic() - begun
            except (Unavailable, QueryFailed):
                pass  # it has not started yet
            await anyio.sleep(LOOK_EVERY_S)


async def pages_of(bus: Bus) -> tuple[str, ...]:
    """Return the addresses that are opened: lists at their beginning and in the middle, filters over all, and a single orchestration."""
    count = (await ask(bus, "status"))["orchestrations"]
    newest, middle = f"{work.PROJECT}-o{count}", f"{work.PROJECT}-o{max(1, count // 2)}"
    action = (await ask(bus, "actions", {"orchestration": middle}))["items"][0]["action"]
    lists = ("/", "/?status=failed", f"/?after={middle}", "/audit", f"/audit?after={action}", f"/audit?type=cancel&after={action}")
    return (*lists, "/audit?type=retry&code=validation_invalid_state", f"/orchestrations/{newest}", f"/orchestrations/{middle}/events", "/inbox")


async def figures(data: Path, orchestrations: int, clients: int, per_s: float, seconds: float) -> Figures:
    """Return all figures of a console beside `orchestrations` stored ones."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(EmbeddedServer(data / "bus"))
        bus = await connect(server.url, "bench", server.credentials)
        stack.push_async_callback(bus.close)
        await ensure_all(bus, sync=Sync.ALWAYS)
        await filled(bus, orchestrations)
        processes = stack.enter_context(Processes(data))
        processes.start("timeline", ["-m", "cli", "serve", "timeline", "--data", str(data / "timeline"), *_endpoint(server)])
        started_s = await started(processes, bus, server, data / "index", "controller")
        read_s = await read(processes, bus)
        place = data / "console"
        processes.start("console", ["-m", "cli", "serve", "console", "--port", "0", "--data", str(place), *_endpoint(server)])
        site = await log_in(place)
        pages = {path: await reads(site, path, READS) for path in await pages_of(bus)}
        pages["/metrics?since=all"] = await reads(site, "/metrics?since=all", ASKED)
        client = await stack.enter_async_context(CommandClient(bus, Via.API))
        streams = await live(processes, site, client, clients, per_s, seconds)
        rss = {f"{name}_rss_peak_mb": rounded(size / 1e6) for name, size in processes.rss_peak_bytes().items() if name != "client"}
        stored = (await ask(bus, "status"))["orchestrations"]
    timeline = {"controller_started_s": rounded(started_s), "timeline_read_s": rounded(read_s)}
    return {"machine": machine(data), "orchestrations": stored, **timeline, "pages": pages, "live": streams, **rss}


def _endpoint(server: EmbeddedServer) -> list[str]:
    return ["--server", server.url, "--token-file", str(server.token_file)]


def main(arguments: list[str]) -> int:
    """Print the figures; return the exit code."""
    parser = argparse.ArgumentParser(prog="bench.console", description="What a console costs beside many stored orchestrations.")
    parser.add_argument("--orchestrations", type=int, default=1_000)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--per-s", type=float, default=20.0, help="commands in a second")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--data", type=Path, help="a folder in which everything is kept for the next time; default: a temporary one")
    found = parser.parse_args(arguments)
    os.environ.pop("QD_SERVER", None)
    sizes = (found.orchestrations, found.clients, found.per_s, found.seconds)
    if found.data is not None:
        found.data.mkdir(parents=True, exist_ok=True)
        (found.data / "console" / "address").unlink(missing_ok=True)  # of the console before
        document = anyio.run(figures, found.data, *sizes)
    else:
        with tempfile.TemporaryDirectory(prefix="quarterdeck-console-") as folder:
            document = anyio.run(figures, Path(folder), *sizes)
    print(msgspec.json.format(msgspec.json.encode(document)).decode())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
