"""`python -m bench.growth --orchestrations N`: what a controller costs beside N stored orchestrations and 3 N keys; JSON on stdout.

Owns a throw-away bus with a ledger of that length, and the controller processes on it. The ledger is made by `growth_ledger`; what
is measured is the real controller: its fold of the whole ledger into a new index, its start from the index, its memory, its
queries, and (in `growth_cost`) the cost of a launch at each power of ten.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import msgspec

from bench import work
from bench.figures import Figures, percentile, rounded
from bench.growth_ledger import KEYS_EACH, Template, message, messages, preset_keys
from bench.machine import machine
from bench.processes import Processes
from bus.bootstrap import Sync, ensure_all
from bus.connection import Bus, connect
from bus.embedded import EmbeddedServer
from bus.errors import Unavailable
from bus.request import QueryFailed, ask
from bus_schemas import codec, subjects
from bus_schemas.ids import PLANE

POWERS = (1_000, 10_000, 100_000, 1_000_000)
TAIL = 800
"""Orchestrations that the ledger has and the index has not, when its start is measured."""
COST_LAUNCHES = 2048
START_TIMEOUT_S = 7200.0
"""A fold of a million orchestrations: twenty minutes, and on a busy machine more than thirty."""
ASKED = 20


def _say(text: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {text}", file=sys.stderr, flush=True)


class Ledger:
    """The ledger's writing side: what is stored, and with which numbers it goes on."""

    def __init__(self, bus: Bus) -> None:
        """Nothing is written yet."""
        self._bus = bus
        self._template = Template()
        self._plane_seq = 0
        self.orchestrations = 0
        self.actions = 1
        self.events = 0

    async def begin(self) -> None:
        """Write the registry and the project with its design."""
        for project, decision in self._template.head:
            body = message(project, codec.ZERO_HASH, self._plane_seq, codec.encode(decision))
            ack = await self._bus.append(subjects.ledger(project), body)
            self._plane_seq = ack.seq if project == PLANE else self._plane_seq

    async def grow(self, count: int) -> None:
        """Write `count` orchestrations more."""
        subject = subjects.ledger(work.PROJECT)
        last = await self._bus.last(subjects.LEDGER, subject)
        assert last is not None
        prev = codec.body_sha256(last.data)
        first = self.orchestrations + 1
        for decisions in messages(self._template, first, first + count - 1, self.actions + 1):
            body = message(work.PROJECT, prev, self._plane_seq, decisions)
            await self._bus.append(subject, body, timeout_s=30.0)
            prev = codec.body_sha256(body)
        self.orchestrations += count
        self.actions += KEYS_EACH * count
        self.events += self._template.events * count


async def started(processes: Processes, bus: Bus, server: EmbeddedServer, data: Path, name: str) -> float:
    """Start a controller; return the seconds from its start until it is active. Raises TimeoutError, ChildEnded."""
    env = {"QD_CONTROLLER_SERVER": server.url, "QD_CONTROLLER_TOKEN": server.credentials.token or "", "QD_CONTROLLER_DATA": str(data)}
    begun = time.monotonic()
    processes.start(name, ["-m", "controller"], {**env, "QD_CONTROLLER_OWNER": name})
    with anyio.fail_after(START_TIMEOUT_S):
        while True:
            processes.check()
            try:
                await ask(bus, "status", timeout_s=0.5)
                return time.monotonic() - begun
            except (Unavailable, QueryFailed):
                await anyio.sleep(0.01)


async def _stage(bus: Bus, server: EmbeddedServer, ledger: Ledger, data: Path, size: int) -> Figures:
    """Let the ledger grow to `size` orchestrations, let a controller fold them, and measure a launch beside them."""
    more = max(0, size - ledger.orchestrations)
    begun = time.monotonic()
    await ledger.grow(more)
    grown_s = time.monotonic() - begun
    (data / f"stage-{size}").mkdir()
    with Processes(data / f"stage-{size}") as processes:
        folded_s = await started(processes, bus, server, data / "index", f"fold-{size}")
        peak_bytes = processes.rss_peak_bytes().get(f"fold-{size}", 0)
    arguments = ["--server", server.url, "--token", server.credentials.token or "", "--data", str(data / "index"), "--series", f"c{size}"]
    command = [sys.executable, "-m", "bench.growth_cost", *arguments, "--launches", str(COST_LAUNCHES)]
    out = await anyio.run_process(command, stderr=subprocess.DEVNULL)
    found: Figures = msgspec.json.decode(out.stdout)
    ledger.actions += found["orchestrations"] - ledger.orchestrations
    ledger.orchestrations = found["orchestrations"]
    figures = {"grown_s": rounded(grown_s), "fold_s": rounded(folded_s), "fold_rss_peak_mb": rounded(peak_bytes / 1e6), **found}
    _say(f"{size}: {figures}")
    return figures


async def _questions(bus: Bus, orchestrations: int) -> Figures:
    """Return the median milliseconds of each kind of question, from the client's side."""
    middle = f"{work.PROJECT}-o{orchestrations // 2}"
    asked: dict[str, tuple[str, dict[str, Any]]] = {
        "newest_page_ms": ("orchestrations", {}),
        "page_in_the_middle_ms": ("orchestrations", {"project": work.PROJECT, "after": middle}),
        "failed_page_ms": ("orchestrations", {"status": "failed"}),
        "no_such_status_ms": ("orchestrations", {"status": "complete"}),
        "actions_page_ms": ("actions", {"status": "refused"}),
        "actions_of_one_ms": ("actions", {"orchestration": middle}),
        "one_ms": ("orchestration", {"id": middle}),
        "action_by_key_ms": ("action", {"project": work.PROJECT, "key": preset_keys(500)[1]}),
        "status_ms": ("status", {}),
        "projects_ms": ("projects", {}),
    }
    found: Figures = {}
    for name, (query, params) in asked.items():
        samples: list[float] = []
        for _ in range(ASKED):
            begun = time.perf_counter()
            await ask(bus, query, params)
            samples.append(time.perf_counter() - begun)
        found[name] = rounded((percentile(samples, 50) or 0.0) * 1000)
    return found


def _rss_bytes(pid: int) -> int:
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


async def growth(data: Path, orchestrations: int) -> Figures:
    """Return all figures for a ledger of `orchestrations`."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(EmbeddedServer(data / "bus"))
        bus = await connect(server.url, "bench", server.credentials)
        stack.push_async_callback(bus.close)
        await ensure_all(bus, sync=Sync.ALWAYS)
        ledger = Ledger(bus)
        await ledger.begin()
        sizes = sorted({size for size in POWERS if size < orchestrations} | {orchestrations})
        stages = {str(size): await _stage(bus, server, ledger, data, size) for size in sizes}
        await ledger.grow(TAIL)
        (data / "start").mkdir()
        with Processes(data / "start") as processes:
            start_s = await started(processes, bus, server, data / "index", "start")
            start_peak = processes.rss_peak_bytes().get("start", 0)
            questions = await _questions(bus, orchestrations)
            status = await ask(bus, "status")
            await anyio.sleep(2)
            resident, peak = _rss_bytes(processes.pid("start")), processes.rss_peak_bytes().get("start", 0)
        costs = [stage["launch_quiet_us"] for stage in stages.values()]
        return {
            "machine": machine(data),
            "orchestrations": status["orchestrations"],
            "keys": ledger.actions,
            "ledger_bytes": sum(path.stat().st_size for path in (data / "bus").rglob("*.blk")),
            "index_bytes": sum(path.stat().st_size for path in (data / "index").glob("index.sqlite*")),
            "start_s": rounded(start_s),
            "start_rss_peak_mb": rounded(start_peak / 1e6),
            "rss_mb": rounded(resident / 1e6),
            "rss_peak_mb": rounded(peak / 1e6),
            "questions": questions,
            "stages": stages,
            "launch_cost_spread_percent": rounded((max(costs) / min(costs) - 1.0) * 100),
        }


def main(arguments: list[str]) -> int:
    """Print the figures; return the exit code."""
    parser = argparse.ArgumentParser(prog="bench.growth", description="What a controller costs beside many stored orchestrations.")
    parser.add_argument("--orchestrations", type=int, default=100_000, help="how many are stored; three keys each")
    parser.add_argument("--data", type=Path, help="an empty folder on the disk that is to be used; default: a temporary one")
    found = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="quarterdeck-growth-", dir=found.data) as folder:
        document = anyio.run(growth, Path(folder), max(1, found.orchestrations))
    print(msgspec.json.format(msgspec.json.encode(document)).decode())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
