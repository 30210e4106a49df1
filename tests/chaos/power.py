"""Power cuts under load, of the whole product, again and again on one disk. `python -m tests.chaos.power --cuts N --seed S`.

Each life of the disk: load for a while, the power goes, the disk is mounted as it was then. Before anything of ours runs on
it, its streams, its journal and its repository are looked at; then everything is started on it and must answer each key as it
did before, end every orchestration, and have the timeline at the ledger's end. Now and then the power goes once more
while it recovers. Prints one JSON object; exit code 1 when anything was lost, doubled or stuck.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import anyio
import msgspec
from msgspec import Struct, field

from bus.connection import Bus
from bus.errors import Rejected, Unavailable
from bus.foreground import loop_options
from bus.reader import stream_state
from bus.request import CommandClient, OutcomeUnknown, QueryFailed, ask
from bus_schemas import commands as c
from bus_schemas import subjects
from bus_schemas.reasons import Reason
from tests.chaos import power_checks as checks
from tests.chaos.disk import LoopDisk, why_not
from tests.chaos.power_load import PROJECT, Asked, Load
from tests.chaos.power_plane import NODE, Plane

DISK_MIB = 512
LOAD_S = (0.3, 4.0)
AGAIN_S = (0.05, 2.5)
AGAIN_CHANCE = 0.3
REPEATED_MAX = 40
OTHER_BODIES = 3
READY_S = 30.0
HEAL_S = 90.0
LIVE = ("launching", "validating", "planning", "executing", "reviewing", "finalizing")


class Report(Struct):
    """What some cuts came to; the lists say in words what was wrong, and are empty when nothing was."""

    seed: int
    sync: str = "always"
    cuts: int = 0
    cuts_while_recovering: int = 0
    receipts_acknowledged: int = 0
    refused: int = 0
    commands_unknown: int = 0
    unknown_found_decided: int = 0
    ends_reported: int = 0
    agents_started: int = 0
    orchestrations: dict[str, int] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    repository: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    recovery_s: list[float] = field(default_factory=list)
    healed_s: list[float] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether nothing was wrong."""
        return not (self.lost or self.duplicated or self.repository or self.answers or self.stuck)


class Cuts:
    """A plane on a disk, its load, and what was found so far."""

    def __init__(self, plane: Plane, seed: int, load: Load | None = None) -> None:
        """Nothing runs yet."""
        self.plane, self.load, self.report = plane, load or Load(), Report(seed, plane.sync)
        self._random = random.Random(seed)
        self._before = checks.Found({}, {})
        self._bus: Bus | None = None

    @property
    def bus(self) -> Bus:
        """The connection of the client's side."""
        assert self._bus is not None, "begin first"
        return self._bus

    async def begin(self) -> None:
        """Start everything on an empty disk and add what the load needs."""
        self._bus = await self.plane.start_bus()
        await self.plane.set_up(self.bus)
        self.plane.start_services()
        async with CommandClient(self.bus, c.Via.API) as client:
            await until_ready(self.bus)
            await self.load.catalogue(client, self.plane.repo, self.plane.witness)

    async def live_and_die(self) -> None:
        """Run the load for a while, cut the power in the middle of it, and look at what the disk has."""
        self.load.life += 1
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.load.run, self.bus)
            await anyio.sleep(self._random.uniform(*LOAD_S))
            await self._cut()
            tasks.cancel_scope.cancel()
        await self.look()

    async def _cut(self) -> None:
        await self.plane.cut_power()
        self.report.cuts += 1

    async def look(self) -> None:
        """Start the server alone on the disk, and check what is on it before any service of ours can change it."""
        await self.bus.close()
        self._bus = await self.plane.start_bus()
        found = await checks.found_on(self.bus)
        report = self.report
        report.receipts_acknowledged = len(self.load.acknowledged)
        report.refused = sum(asked.receipt is not None and asked.receipt.status == "refused" for asked in self.load.log)
        report.ends_reported = sum(kind == "ended" for *_, kind in found.reports)
        report.lost += checks.lost_receipts(self.load.acknowledged, found)
        book = checks.read_journal(self.plane.data("node") / "journal" / "journal.jsonl")
        report.lost += checks.lost_reports(book, self._before, found)
        report.duplicated += checks.decided_twice(found)
        report.repository += checks.broken_repository(self.plane.repo, found)
        self._before = found

    async def recover(self) -> None:
        """Start everything on the disk; now and then the power goes once more; then all must be as before and come to its end."""
        self.plane.start_services()
        while self._random.random() < AGAIN_CHANCE:
            await anyio.sleep(self._random.uniform(*AGAIN_S))
            await self._cut()
            self.report.cuts_while_recovering += 1
            await self.look()
            self.plane.start_services()
        await self.heal()

    async def heal(self) -> None:
        """Return when everything has come to its end and each key is answered as before; what does not is in the report."""
        began = time.monotonic()
        async with CommandClient(self.bus, c.Via.API) as client:
            await self._first_receipt(client)
            self.report.recovery_s.append(round(time.monotonic() - began, 2))
            await until_ready(self.bus)
            await self._same_answers(client)
        await self._all_ends()
        self.report.healed_s.append(round(time.monotonic() - began, 2))
        self.report.duplicated += checks.started_twice(self.plane.witness)
        self.report.agents_started = len(self.plane.witness.read_text().split())

    async def _first_receipt(self, client: CommandClient) -> None:
        key = f"first-{self.load.life}-{self.report.cuts}"
        command = c.TicketAdd(PROJECT, key)
        with anyio.fail_after(READY_S):
            while True:
                asked = await self.load.ask(client, key, command)
                if asked.receipt is not None:
                    return
                self.load.log.remove(asked)

    async def _same_answers(self, client: CommandClient) -> None:
        """Ask keys again: those with a receipt must answer as before, those without are decided now at the latest, and once."""
        recent = [asked for asked in self.load.log if asked.life == self.load.life]
        unknown = [asked for asked in recent if asked.receipt is None]
        known = [asked for asked in self.load.acknowledged if asked.receipt is not None]
        self.report.commands_unknown += len(unknown)
        for asked in [*self._random.sample(known, min(len(known), REPEATED_MAX)), *unknown]:
            await self._same_answer(client, asked)
        for asked in self._random.sample(known, min(len(known), OTHER_BODIES)):
            other = await client.submit(c.TicketAdd(PROJECT, "another body"), asked.key, timeout_s=READY_S)
            if asked.receipt is not None and asked.receipt.project == PROJECT and other.reason_code != Reason.IDEMPOTENCY_MISMATCH:
                self.report.answers.append(f"{asked.key} with another body was answered {other.status} {other.reason_code}")

    async def _same_answer(self, client: CommandClient, asked: Asked) -> None:
        try:
            again = await client.submit(asked.command, asked.key, timeout_s=READY_S)
        except (OutcomeUnknown, Unavailable, Rejected) as error:
            self.report.stuck.append(f"{asked.key} was not answered: {error}")
            return
        if asked.receipt is None:
            self.report.unknown_found_decided += again.duplicate
            asked.receipt = again
        elif again.action != asked.receipt.action or not again.duplicate:
            self.report.answers.append(f"{asked.key} was {asked.receipt.action}, and is {again.action} (duplicate: {again.duplicate})")

    async def _all_ends(self) -> None:
        """Wait until every orchestration has ended and the timeline has the whole ledger; say what has not."""
        moving: list[dict[str, Any]] = []
        with anyio.move_on_after(HEAL_S):
            while True:
                moving = await self._moving()
                if not moving and await self._timeline_is_there():
                    return
                await anyio.sleep(0.1)
        for o in moving:
            self.report.stuck.append(f"{o['id']} is {o['status']}, hold {o['hold']}")
        if not moving:
            self.report.stuck.append(f"the timeline is not at the end of the ledger: {await ask(self.bus, 'timeline-status')}")

    async def _moving(self) -> list[dict[str, Any]]:
        items = (await ask(self.bus, "orchestrations", {"project": PROJECT, "limit": 1000}))["items"]
        counts: dict[str, int] = {}
        for o in items:
            counts[o["status"]] = counts.get(o["status"], 0) + 1
        self.report.orchestrations = counts
        return [o for o in items if o["status"] in LIVE]

    async def until_timeline_is_there(self) -> None:
        """Return when the timeline has the whole ledger. Raises TimeoutError."""
        with anyio.fail_after(READY_S):
            while not await self._timeline_is_there():
                await anyio.sleep(0.05)

    async def _timeline_is_there(self) -> bool:
        with contextlib.suppress(Unavailable, QueryFailed):
            last = (await stream_state(self.bus, subjects.LEDGER)).last_seq
            status = await ask(self.bus, "timeline-status")
            return bool(status["state"] == "following" and int(status["position"].partition(".")[0]) >= last)
        return False

    async def end(self) -> None:
        """Stop everything."""
        if self._bus is not None:
            await self.plane.stop()
            await self.bus.close()


async def until_ready(bus: Bus) -> None:
    """Return when the controller answers and the node is online. Raises TimeoutError."""
    with anyio.fail_after(READY_S):
        while True:
            with contextlib.suppress(Unavailable, QueryFailed):
                if any(node["id"] == NODE and node["online"] for node in (await ask(bus, "nodes", timeout_s=2))["items"]):
                    return
            await anyio.sleep(0.05)


async def cut_again_and_again(folder: Path, cuts: int, seed: int) -> Report:
    """Cut the power `cuts` times or a few more, and return what was found."""
    with LoopDisk(folder, DISK_MIB) as disk:
        run = Cuts(Plane(folder, disk), seed)
        try:
            await run.begin()
            while run.report.cuts < cuts and run.report.is_clean:
                await run.live_and_die()
                await run.recover()
                logging.info("%d cuts, %s", run.report.cuts, run.report.orchestrations)
        except Exception as error:
            error.add_note(run.plane.last_words())
            raise
        finally:
            await run.end()
        return run.report


def main(arguments: list[str]) -> int:
    """Cut, print the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.power", description=__doc__)
    parser.add_argument("--cuts", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="a folder for logs and witness that stays")
    options = parser.parse_args(arguments)
    why = why_not()
    if why is not None:
        print(why, file=sys.stderr)
        return 2
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="qd-power-") as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        report = anyio.run(cut_again_and_again, folder, options.cuts, options.seed, backend_options=loop_options(with_duckdb=False))
    figures = msgspec.to_builtins(report)
    print(msgspec.json.format(msgspec.json.encode(figures), indent=1).decode())
    return 0 if report.is_clean else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
