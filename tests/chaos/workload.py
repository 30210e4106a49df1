"""A client process under which everything is tried: launches on real repositories, control actions, gates, repeated and twisted keys.

`python -m tests.chaos.workload --help`. It ends when the stop file is there and everything it launched has ended.
Killed, it goes on at its next start where its log says.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import anyio

from bus.connection import EX_TEMPFAIL, Bus, Credentials, connect
from bus.errors import Unavailable
from bus.request import CommandClient, QueryFailed, ask
from bus_schemas import commands as c
from bus_schemas.decisions import ActionStatus, Receipt
from bus_schemas.entities import Complexity
from bus_schemas.ids import project_of
from tests.chaos.workload_calls import Caller, CallLog
from tests.chaos.workload_designs import DESIGNS, MARKERS, SHELL

LOOK_EVERY_S = 0.4
LOOK_TIMEOUT_S = 3.0
PATIENCE_S = 20.0
"""How long a blocked or held orchestration is helped on after the end of the work before it is cancelled."""


class Options(NamedTuple):
    """What a client is told at its start."""

    server: str
    token: str
    log: Path
    name: str
    repo: str
    witness: Path
    stop: Path
    nodes: tuple[str, ...]
    seed: int
    live: int


class Operator:
    """One client while it works. Each has a project of its own, so that it knows what is there."""

    def __init__(self, bus: Bus, caller: Caller, log: CallLog, options: Options) -> None:
        self._bus, self._caller, self._log, self._options = bus, caller, log, options
        self.project = options.name
        self._random = random.Random(f"{options.seed}/{options.name}/{log.launch_number}")
        self._numbers = log.launch_number
        self._stopped_at: float | None = None

    @property
    def stopping(self) -> bool:
        """Whether nothing new is to be launched."""
        if self._stopped_at is None and self._options.stop.exists():
            self._stopped_at = time.monotonic()
        return self._stopped_at is not None

    async def run(self) -> None:
        """Work until the end."""
        for name, command in list(self._log.open.items()):
            await self._caller.ask(command, name.key)
        await self._catalogue()
        async with anyio.create_task_group() as tasks:
            for orchestration in list(self._log.launched):
                tasks.start_soon(self._tend, orchestration)
            for number in range(self._options.live):
                tasks.start_soon(self._work, number)

    async def _catalogue(self) -> None:
        await self._caller.ask(c.ProjectAdd(self.project, self._options.repo), f"{self.project}-project")
        for number, make in enumerate(DESIGNS, 1):
            body = make(str(self._options.witness))
            await self._caller.ask(c.DesignAdd(self.project, f"Design {number}", body, Complexity.SIMPLE, MARKERS), f"{self.project}-design-{number}")

    async def _work(self, worker: int) -> None:
        await anyio.sleep(worker * 0.3)
        while not self.stopping:
            self._numbers += 1
            orchestration = await self._launch(self._numbers)
            if orchestration is None:
                await anyio.sleep(LOOK_EVERY_S)
                continue
            story: Callable[[str], Awaitable[None]] = self._random.choice(
                (self._leave, self._leave, self._leave, self._pause, self._pause_hard, self._cancel, self._comment)
            )
            await story(orchestration)
            await self._tend(orchestration)

    # ── launching ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _launch(self, number: int) -> str | None:
        """Launch a design under a new key, sometimes more than once; return the orchestration, or None when it was refused."""
        kind = self._random.choices(range(1, len(DESIGNS) + 1), (5, 4, 2, 1, 3, 2))[0]
        overrides: dict[str, Any] = {"model": SHELL}
        if self._random.random() < 0.2:
            overrides["flow"] = {"human_gates": [self._random.choice(("plan", "review", "finalize"))]}
        node = self._random.choice((*self._options.nodes, "auto"))
        launch = c.Launch(design=f"{self.project}-d{kind}", node=node, feature=f"feature {number}", overrides=overrides)
        key = f"{self.project}-launch-{number}"
        receipt = await self._repeated(launch, key)
        if self._random.random() < 0.1:
            twisted = c.Launch(design=f"{self.project}-d{kind}", node=node, feature=f"another {number}", overrides=overrides)
            await self._caller.ask(twisted, key)
        return receipt.orchestration if receipt.status is not ActionStatus.REFUSED else None

    async def _repeated(self, launch: c.Launch, key: str) -> Receipt:
        if self._random.random() >= 0.2:
            return await self._caller.ask(launch, key)
        found: list[Receipt] = []

        async def once() -> None:
            found.append(await self._caller.ask(launch, key))

        async with anyio.create_task_group() as tasks:
            for _ in range(self._random.randint(2, 4)):
                tasks.start_soon(once)
        return found[0]

    # ── stories: what is done to an orchestration that runs ──────────────────────────────────────────────────────────

    async def _leave(self, orchestration: str) -> None:
        """Let it go on."""

    async def _some_time(self) -> None:
        await anyio.sleep(self._random.uniform(0.05, 4.0))

    def _key(self, orchestration: str, what: str) -> str:
        return f"{orchestration}-{what}-{time.monotonic_ns()}"

    async def _pause(self, orchestration: str, mode: c.PauseMode = c.PauseMode.DRAIN) -> None:
        await self._some_time()
        await self._caller.ask(c.Pause(orchestration, mode), self._key(orchestration, "pause"))
        await self._some_time()
        await self._caller.ask(c.Resume(orchestration), self._key(orchestration, "resume"))

    async def _pause_hard(self, orchestration: str) -> None:
        await self._pause(orchestration, c.PauseMode.STOP)

    async def _cancel(self, orchestration: str) -> None:
        await self._some_time()
        await self._caller.ask(c.Cancel(orchestration), self._key(orchestration, "cancel"))

    async def _comment(self, orchestration: str) -> None:
        key = self._key(orchestration, "ticket")
        ticket = await self._caller.ask(c.TicketAdd(project_of(orchestration), f"Ticket of {orchestration}"), key)
        if ticket.ticket is not None:
            await self._caller.ask(c.CommentAdd(ticket.ticket, "seen"), f"{key}-comment")

    # ── bringing it to its end ───────────────────────────────────────────────────────────────────────────────────────

    async def _tend(self, orchestration: str) -> None:
        """Return when an orchestration has ended; what holds it is answered, as an operator would."""
        while True:
            await anyio.sleep(LOOK_EVERY_S)
            try:
                found = await ask(self._bus, "orchestration", {"id": orchestration}, timeout_s=LOOK_TIMEOUT_S)
            except (Unavailable, QueryFailed):
                continue
            if found["ended_at"] is not None:
                self._log.ended(orchestration, found["status"])
                return
            await self._help(orchestration, {hold["kind"] for hold in found["holds"]})

    async def _help(self, orchestration: str, holds: set[str]) -> None:
        overdue = self.stopping and time.monotonic() - (self._stopped_at or 0.0) > PATIENCE_S
        if "paused" in holds:
            await self._caller.ask(c.Resume(orchestration), self._key(orchestration, "resume"))
        elif "gate" in holds:
            await self._judge(orchestration)
        elif "blocked" in holds or (overdue and "cancelling" not in holds):
            command: c.Command = c.Cancel(orchestration) if overdue or self._random.random() < 0.5 else c.Retry(orchestration)
            await self._caller.ask(command, self._key(orchestration, "unblock"))

    async def _judge(self, orchestration: str) -> None:
        if self._random.random() < 0.2 and not self.stopping:
            await self._caller.ask(c.GateReject(orchestration, "once more"), self._key(orchestration, "reject"))
        else:
            await self._caller.ask(c.GateApprove(orchestration), self._key(orchestration, "approve"))


async def work(options: Options, worker: Callable[[Bus, Caller, CallLog, Options], Awaitable[None]]) -> int:
    """Be a client; return the exit code: 0 when everything has ended, 75 when the connection was lost for good."""
    bus = await connect(options.server, options.name, Credentials(token=options.token), retry=True)
    log = CallLog(options.log, options.name)
    try:
        return await _work(bus, log, options, worker)
    except Unavailable:
        return EX_TEMPFAIL  # cut off again while it said what it wants to hear
    finally:
        await bus.close()


async def _work(bus: Bus, log: CallLog, options: Options, worker: Callable[[Bus, Caller, CallLog, Options], Awaitable[None]]) -> int:
    code = 0
    async with CommandClient(bus, c.Via.API) as client, anyio.create_task_group() as tasks:

        async def end_when_closed() -> None:
            nonlocal code
            await bus.closed.wait()
            code = EX_TEMPFAIL
            tasks.cancel_scope.cancel()

        tasks.start_soon(end_when_closed)
        await worker(bus, Caller(client, log, bus.principal), log, options)
        tasks.cancel_scope.cancel()
    return code


async def operate(bus: Bus, caller: Caller, log: CallLog, options: Options) -> None:
    """Be an operator with real work."""
    await Operator(bus, caller, log, options).run()


def options_of(arguments: list[str], program: str) -> Options:
    """Return the options of a client's command line."""
    parser = argparse.ArgumentParser(prog=program)
    for name in ("--server", "--token-file", "--log", "--name", "--repo", "--witness", "--stop"):
        parser.add_argument(name, required=True)
    parser.add_argument("--nodes", required=True, help="comma-separated")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--live", type=int, default=4, help="orchestrations at once; for a storm, launches a second")
    found = parser.parse_args(arguments)
    return Options(
        server=found.server,
        token=Path(found.token_file).read_text().strip(),
        log=Path(found.log),
        name=found.name,
        repo=found.repo,
        witness=Path(found.witness),
        stop=Path(found.stop),
        nodes=tuple(found.nodes.split(",")),
        seed=found.seed,
        live=found.live,
    )


if __name__ == "__main__":
    sys.exit(anyio.run(work, options_of(sys.argv[1:], "tests.chaos.workload"), operate))
