"""The simulated server against the real one: random sequences of operations, through the same code, and the answers compared.

`python -m tests.simulation.differential --sequences 10000` prints what diverged and how fast it went. Owns a nats-server
whose sync is lax, since durability is not what is compared.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from bus.connection import Bus, Credentials, connect
from bus.embedded import EmbeddedServer
from bus.errors import Unavailable
from tests.simulation.differential_plan import Op, is_timed, plan
from tests.simulation.differential_player import Answer, Player
from tests.simulation.host import SimHost
from tests.simulation.jetstream import ServerDials, SimServer
from tests.simulation.link import Network
from tests.simulation.loop import SimLoop, simulate

GROUP = 120
"""Sequences played at the same time."""
ATTEMPTS = 3
SHIFTS_S = (-0.02, 0.02, 0.06)
"""What is due again (after an ack wait of 0.6 s, a refusal with a delay of 0.4 s) may be due when a wait of the player ends (0.9 s twice is
0.6 s three times; a read, a look and a pull are 0.35 s), and the timers of a real server and of a loaded machine are late: it is still seen
by one request, or only by the next one. So the real answers may also be those of a simulation whose player waits so much longer or shorter
each time; only in sequences in which something is due again soon."""
RESTART_EVERY = 10
"""Of so many groups, the server is restarted in the middle of one."""


def restarts(seed: int) -> bool:
    """Return whether the server is restarted in the middle of a sequence."""
    return (seed // GROUP) % RESTART_EVERY == RESTART_EVERY - 1


def halves(player: Player, restart: bool) -> tuple[list[Op], list[Op]]:
    """Return what comes before and after the restart, if there is one."""
    middle = len(player.ops) * 2 // 3 if restart else len(player.ops)
    return player.ops[:middle], player.ops[middle:]


async def in_simulation(loop: SimLoop, seed: int, restart: bool, shift_s: float = 0.0) -> list[Answer]:
    """Return the simulated server's answers to a player whose waits are `shift_s` longer."""
    network = Network(loop)
    server = SimServer(network, ServerDials(state_lag_s=0.0))
    server.start()
    host = SimHost(loop, network, "player")

    async def play() -> list[Answer]:
        bus = await connect("nats://sim:4222", "player", Credentials("local"), retry=True)
        player = Player(bus, seed, shift_s)
        before, after = halves(player, restart)
        await player.begin()
        await player.play(before)
        if restart:
            server.kill()
            await asyncio.sleep(1.0)
            server.start()
            while not bus.is_connected:
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.5)
        await player.play(after)
        await player.end()
        await bus.close()
        return player.answers

    return await host.run(play())


class RealServer:
    """The real server, and a connection to it."""

    def __init__(self, server: EmbeddedServer, bus: Bus) -> None:
        self.server, self.bus = server, bus

    async def answers(self, seeds: list[int], restart: bool) -> list[list[Answer]]:
        """Return the real server's answers to several sequences, played at the same time."""
        players = [Player(self.bus, seed) for seed in seeds]
        parts = [halves(player, restart) for player in players]
        late: set[int] = set()

        async def part(player: Player, steps: Callable[[], Awaitable[None]]) -> None:
            if player.seed in late:
                return
            try:
                await steps()
            except Unavailable:
                late.add(player.seed)  # the machine is overloaded

        async def before(player: Player, ops: list[Op]) -> None:
            await player.begin()
            await player.play(ops)

        async def after(player: Player, ops: list[Op]) -> None:
            await player.play(ops)
            await player.end()

        pairs = list(zip(players, parts, strict=True))
        await asyncio.gather(*(part(player, functools.partial(before, player, ops[0])) for player, ops in pairs))
        if restart:
            await self.server.stop()
            await self.server.start()
            while not self.bus.is_connected:
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.5)
        await asyncio.gather(*(part(player, functools.partial(after, player, ops[1])) for player, ops in pairs))
        return [[] if player.seed in late else player.answers for player in players]


@asynccontextmanager
async def real_server(folder: Path) -> AsyncIterator[RealServer]:
    """Run a real server."""
    async with EmbeddedServer(folder, sync="10m") as server:
        bus = await connect(server.url, "player", server.credentials)
        try:
            yield RealServer(server, bus)
        finally:
            await bus.close()


def first_difference(real: list[Answer], simulated: list[Answer]) -> str | None:
    """Return where two answers differ, or None."""
    real, simulated = json.loads(json.dumps(real)), json.loads(json.dumps(simulated))
    if not real:
        return "the real server did not answer in time"
    for at, (expected, found) in enumerate(zip(real, simulated, strict=True)):
        if expected != found:
            return f"step {at}\n   real: {json.dumps(expected)}\n   sim:  {json.dumps(found)}"
    return None


class Outcome(msgspec.Struct):
    """What a comparison found."""

    sequences: int = 0
    answers: int = 0
    flaky: int = 0
    coincident: int = 0
    """Sequences in which two timers ended at once, and the other one of the two possible answers came."""
    divergent: dict[int, str] = msgspec.field(default_factory=dict)


async def compare(real: RealServer, seeds: list[int], restart: bool, outcome: Outcome) -> None:
    """Compare some sequences; what differs is played again apart from the rest, since a loaded real server may be late."""
    simulated = {seed: simulate_apart(seed, restart) for seed in seeds}
    outcome.sequences += len(seeds)
    left = seeds
    for attempt in range(ATTEMPTS):
        differences: dict[int, str] = {}
        coincident = 0
        for seed, answers in zip(left, await real.answers(left, restart), strict=True):
            outcome.answers += len(answers)
            difference = first_difference(answers, simulated[seed])
            if difference is not None and _is_coincidence(seed, restart, answers):
                coincident += 1
            elif difference is not None:
                differences[seed] = difference
        outcome.coincident += coincident
        outcome.flaky += len(left) - len(differences) - coincident if attempt else 0
        left = list(differences)
        if not left:
            return
    outcome.divergent.update(differences)


def _is_coincidence(seed: int, restart: bool, answers: list[Answer]) -> bool:
    """Return whether the answers are those of a player that waited a little longer or shorter."""
    _, ops = plan(seed)
    return is_timed(ops) and any(first_difference(answers, simulate_apart(seed, restart, shift_s)) is None for shift_s in SHIFTS_S)


def simulate_apart(seed: int, restart: bool, shift_s: float = 0.0) -> list[Answer]:
    """Return the simulated server's answers; the running loop is put aside for as long as that takes."""
    running = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    try:
        return simulate(lambda loop: in_simulation(loop, seed, restart, shift_s), seed)
    finally:
        asyncio._set_running_loop(running)


async def run(first: int, count: int, folder: Path, *, verbose: bool = False) -> Outcome:
    """Compare `count` sequences from seed `first` on."""
    outcome = Outcome()
    async with real_server(folder) as real:
        seed = first
        while seed < first + count:
            seeds = list(range(seed, min((seed // GROUP + 1) * GROUP, first + count)))
            seed += len(seeds)
            await compare(real, seeds, restarts(seeds[0]), outcome)
            if verbose:
                print(
                    f"{outcome.sequences} sequences, {len(outcome.divergent)} diverge, {outcome.coincident} at once, {outcome.flaky} late", flush=True
                )
    return outcome


def main() -> int:
    """Compare, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sequences", type=int, default=300)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--show", type=int, default=5)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        outcome = asyncio.run(run(chosen.first, chosen.sequences, Path(folder), verbose=True))
        took_s = time.monotonic() - began
    for seed, difference in list(outcome.divergent.items())[: chosen.show]:
        print(f"seed {seed}: {difference}")
    print(
        f"{outcome.sequences} sequences, {outcome.answers} answers compared in {took_s:.0f} s ({outcome.sequences / took_s:.0f}/s): "
        f"{len(outcome.divergent)} diverge, {outcome.coincident} with two timers that ended at once, {outcome.flaky} differed under load only"
    )
    return 1 if outcome.divergent else 0


if __name__ == "__main__":
    sys.exit(main())
