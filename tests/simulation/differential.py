"""The simulated server against the real one: random sequences of operations, through the same code, and the answers compared.

`python -m tests.simulation.differential --sequences 10000` prints what diverged and how fast it went. Owns a nats-server
whose sync is lax, since durability is not what is compared.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import json
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec

from bus.connection import ApiFailure, Bus, Credentials, connect
from bus.embedded import EmbeddedServer
from bus.errors import AlreadyThere, Conflict, Rejected, Unavailable
from bus.pull import Delivery, PullLoop
from bus.reader import Reader
from tests.simulation.host import SimHost
from tests.simulation.jetstream import ServerDials, SimServer
from tests.simulation.link import Network
from tests.simulation.loop import SimLoop, simulate

GROUP = 120
ATTEMPTS = 3
RESTART_EVERY = 10
SHORT_ACK_S = 0.6
WAIT_S = 1.0
QUIET_S = 0.15
SETTLE_S = 0.05
SUBJECTS = ("a", "b", "b.c")
CONSUMERS = ("one", "two")
STATUS_HEADERS = ("Status", "Description", "Nats-Pending-Messages", "Nats-Pending-Bytes", "Nats-Last-Consumer")

Op = tuple[Any, ...]
Answer = Any


# ── what is done ─────────────────────────────────────────────────────────────────────────────────────────────────────


def plan(seed: int) -> tuple[dict[str, Any], list[Op]]:
    """Return the configuration of a stream and the operations on it."""
    rng = random.Random(seed)
    # filters stay: a real server counts wrong after they were changed, and the house never changes them
    filters = {name: rng.choice(([], ["a"], ["b"], ["b.>"], ["a", "b.c"], [">"])) for name in CONSUMERS}
    ops: list[Op] = [_consumer(rng, name, rng.random() < 0.8) for name in CONSUMERS if rng.random() < 0.7]
    makers = [_write, _write, _write, _read, _consume, _consume, _answer, _answer, _other]
    for _ in range(rng.randint(6, 14)):
        ops.append(rng.choice(makers)(rng))
    ops = [(*op[:3], filters[op[1]], op[3]) if op[0] == "consumer" else op for op in ops]
    if not patient_only(ops) and rng.random() < 0.7:
        ops.insert(rng.randint(len(ops) // 2, len(ops)), ("wait",))
    return _config(rng), [*ops, ("state",), ("info", "one"), ("info", "two")]


def patient_only(ops: list[Op]) -> bool:
    """Return whether no consumer of a sequence delivers again soon."""
    return all(op[2]["ack_wait"] > 1e9 for op in ops if op[0] == "consumer")


def _config(rng: random.Random) -> dict[str, Any]:
    config: dict[str, Any] = {
        "retention": rng.choice(("limits", "limits", "workqueue")),
        "storage": rng.choice(("file", "file", "memory")),
        "discard": rng.choice(("new", "new", "old")),
        "max_msgs": rng.choice((-1, -1, -1, 4)),
        "max_bytes": rng.choice((-1, -1, -1, 400)),
        "max_msgs_per_subject": rng.choice((-1, 1, 1, 2)),
        "max_msg_size": rng.choice((-1, 1000)),
        "duplicate_window": 120_000_000_000,
        "allow_direct": True,
        "deny_purge": rng.random() < 0.1,
        "max_consumers": rng.choice((-1, -1, 1)),
    }
    if config["discard"] == "new" and config["max_msgs_per_subject"] > 0 and rng.random() < 0.7:
        config["discard_new_per_subject"] = True
    return config


def _consumer(rng: random.Random, name: str, patient: bool = True) -> Op:
    config = {
        "ack_policy": "explicit",
        "deliver_policy": "all",
        "ack_wait": 30_000_000_000 if patient else int(SHORT_ACK_S * 1e9),
        "max_ack_pending": rng.choice((1, 2, 100)),
        "max_deliver": -1,
        "max_waiting": 512,
        "replay_policy": "instant",
    }
    return ("consumer", name, config, rng.choice(("create", "create", "update", "")))


def _write(rng: random.Random) -> Op:
    subject, size = rng.choice(SUBJECTS), rng.choice((0, 10, 10, 10, 100, 1200))
    return rng.choice(
        (
            ("append", subject, size, None, None),
            ("append", subject, size, rng.randint(0, 4), None),
            ("append", subject, size, "last", None),
            ("append", subject, size, None, {"Nats-Msg-Id": rng.choice("xy")}),
            ("once", subject, size),
        )
    )


def _read(rng: random.Random) -> Op:
    subject = rng.choice((*SUBJECTS, "*", ">"))
    return rng.choice(
        (("last", subject), ("next", subject, rng.randint(0, 5)), ("direct", rng.choice(SUBJECTS)), ("read", subject, rng.randint(1, 4)))
    )


def _consume(rng: random.Random) -> Op:
    name = rng.choice(CONSUMERS)
    return rng.choice(
        (
            ("pull", name, rng.randint(1, 4), False),
            ("pull", name, rng.randint(1, 4), False),
            ("pull", name, rng.randint(1, 4), True),
            ("loop", name, rng.randint(1, 4)),
            ("beats", name),
        )
    )


def _answer(rng: random.Random) -> Op:
    return ("answer", rng.random(), rng.choice((b"+ACK", b"+ACK", b"", b"-NAK", b'-NAK {"delay": 400000000}', b"+TERM bad", b"+WPI")))


def _other(rng: random.Random) -> Op:
    name = rng.choice(CONSUMERS)
    return rng.choice(
        (
            ("state",),
            ("info", name),
            ("uncreate", name),
            _consumer(rng, name),
            ("purge", {"filter": rng.choice(SUBJECTS)}),
            ("purge", {"seq": rng.randint(1, 5)}),
            ("purge", {}),
            ("delete", rng.randint(1, 4)),
            ("nobody",),
            ("nothing",),
            ("limit", rng.choice((2, 5))),
        )
    )


# ── how it is done, on either server ─────────────────────────────────────────────────────────────────────────────────


class Player:
    """Plays one sequence over a connection; `answers` is what came back, without times."""

    def __init__(self, bus: Bus, seed: int) -> None:
        self.bus, self.seed = bus, seed
        self.stream, self.prefix = f"D{seed}", f"d{seed}"
        self.advised = f"A{seed}"
        self.answers: list[Answer] = []
        self.delivered: list[Delivery] = []
        self.config, self.ops = plan(seed)

    async def begin(self) -> None:
        """Make the stream, and one that keeps the advisories about it."""
        subjects = [f"{self.prefix}.>"]
        self.answers.append(
            await self._api(f"STREAM.CREATE.{self.stream}", {"name": self.stream, "subjects": subjects, **self.config}, self._stream_shown)
        )
        kept = [f"$JS.EVENT.ADVISORY.CONSUMER.{kind}.{self.stream}.>" for kind in ("MAX_DELIVERIES", "MSG_TERMINATED")]
        await self.bus.api(f"STREAM.CREATE.{self.advised}", {"name": self.advised, "subjects": kept, "storage": "file"})

    async def play(self, ops: list[Op]) -> None:
        """Do some operations."""
        for op in ops:
            do: Callable[..., Awaitable[Answer]] = getattr(self, f"_do_{op[0]}")
            try:
                answer = await do(*op[1:])
            except ApiFailure as failure:
                answer = [failure.err_code, failure.description]
            except Conflict as conflict:
                answer = ["Conflict", str(conflict), conflict.last_seq]
            except (AlreadyThere, Rejected) as error:
                answer = [type(error).__name__, str(error)]
            except Unavailable as error:
                answer = [type(error).__name__, str(error).split(":")[0].split("$JS.ACK")[0]]
            self.answers.append([*[_plain(part) for part in op], answer])

    async def end(self) -> None:
        """Read the advisories, and delete the streams."""
        await asyncio.sleep(SETTLE_S)
        found, seq = [], 0
        while (stored := await self.bus.next_after(self.advised, ">", seq)) is not None:
            body, seq = msgspec.json.decode(stored.data), stored.seq
            kind = stored.subject.split(".")[4]
            found.append((kind, body["stream_seq"], body.get("consumer"), body.get("consumer_seq"), body["deliveries"], body.get("reason")))
        self.answers.append(["advisories", sorted(map(str, found))])
        for name in (self.stream, self.advised):
            with contextlib.suppress(ApiFailure):
                await self.bus.api(f"STREAM.DELETE.{name}")

    async def _api(self, name: str, body: dict[str, Any] | None, shown: Callable[[dict[str, Any]], Answer]) -> Answer:
        try:
            return shown(await self.bus.api(name, body))
        except ApiFailure as failure:
            return [failure.err_code, failure.description]

    def _stream_shown(self, info: dict[str, Any]) -> Answer:
        state = info["state"]
        # of a stream that never held a message, the first sequence is 0 or 1, as the purge was that came before
        state["first_seq"] = state["first_seq"] or 1
        numbers = [state.get(key, 0) for key in ("messages", "bytes", "first_seq", "last_seq", "num_subjects", "consumer_count")]
        return [sorted((key, str(value)) for key, value in info["config"].items() if key != "metadata"), numbers]

    def _consumer_shown(self, info: dict[str, Any]) -> Answer:
        keys = ("num_ack_pending", "num_redelivered", "num_pending")
        config = sorted((key, str(value)) for key, value in info["config"].items() if key != "metadata")
        return [config, info["delivered"]["consumer_seq"], [info[key] for key in keys]]

    # ── the operations ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _do_append(self, subject: str, size: int, expect: int | str | None, headers: dict[str, str] | None) -> Answer:
        full = f"{self.prefix}.{subject}"
        if expect == "last":
            last = await self.bus.last(self.stream, full)
            expect = 0 if last is None else last.seq
        assert not isinstance(expect, str)
        return list(await self.bus.append(full, b"x" * size, expect_last=expect, headers=headers))

    async def _do_once(self, subject: str, size: int) -> Answer:
        return await self.bus.write_once(f"{self.prefix}.{subject}", b"y" * size)

    async def _do_last(self, subject: str) -> Answer:
        found = await self.bus.last(self.stream, f"{self.prefix}.{subject}")
        return found and [found.subject, found.seq, len(found.data)]

    async def _do_next(self, subject: str, seq: int) -> Answer:
        found = await self.bus.next_after(self.stream, f"{self.prefix}.{subject}", seq)
        return found and [found.subject, found.seq, len(found.data)]

    async def _do_direct(self, subject: str) -> Answer:
        found = await self.bus.read_back(self.stream, f"{self.prefix}.{subject}")
        return None if found is None else len(found)

    async def _do_read(self, subject: str, seq: int) -> Answer:
        found: list[Answer] = []
        reader = Reader(self.bus, self.stream, (f"{self.prefix}.{subject}",), seq)
        async with aclosing(reader.batches()) as batches:
            while True:
                with anyio.move_on_after(QUIET_S) as scope:
                    batch = await anext(batches)
                if scope.cancelled_caught:
                    return [reader.restarts, found]
                found += [[stored.subject, stored.seq, len(stored.data), sorted(stored.headers)] for stored in batch]

    async def _do_state(self) -> Answer:
        await asyncio.sleep(SETTLE_S)
        return await self._api(f"STREAM.INFO.{self.stream}", None, self._stream_shown)

    async def _do_info(self, name: str) -> Answer:
        await asyncio.sleep(SETTLE_S)
        return await self._api(f"CONSUMER.INFO.{self.stream}.{name}", None, self._consumer_shown)

    async def _do_consumer(self, name: str, config: dict[str, Any], filters: list[str], action: str) -> Answer:
        full = {**config, "name": name, "durable_name": name}
        patterns = [f"{self.prefix}.{part}" for part in filters]
        if len(patterns) == 1:
            full["filter_subject"] = patterns[0]
        elif patterns:
            full["filter_subjects"] = patterns
        body = {"stream_name": self.stream, "config": full, "action": action}
        return await self._api(f"CONSUMER.CREATE.{self.stream}.{name}", body, lambda info: info["name"])

    async def _do_uncreate(self, name: str) -> Answer:
        return await self._api(f"CONSUMER.DELETE.{self.stream}.{name}", None, lambda answer: answer["success"])

    async def _do_pull(self, name: str, count: int, no_wait: bool) -> Answer:
        return await self._ask(name, {"batch": count, **({"no_wait": True} if no_wait else {"expires": int(QUIET_S * 1e9)})})

    async def _do_beats(self, name: str) -> Answer:
        got = await self._ask(name, {"batch": 20, "expires": 1_000_000_000, "idle_heartbeat": 350_000_000})
        return [*got, (await self._do_pull(name, 1, False))[-1:]]

    async def _ask(self, name: str, body: dict[str, Any]) -> Answer:
        """Ask once, and take what comes until the request is over."""
        inbox, got, over = self.bus.nc.new_inbox(), [], asyncio.Event()

        async def take(message: Any) -> None:
            headers = message.headers or {}
            if "Status" in headers and not message.reply:
                got.append([headers.get(key) for key in STATUS_HEADERS])
                if headers["Status"] != "100":
                    over.set()
                return
            delivery = Delivery(self.bus, message)
            self.delivered.append(delivery)
            got.append(self._delivery_shown(delivery))
            if sum(1 for item in got if len(item) == 6) >= body["batch"]:
                over.set()

        subscription = await self.bus.subscribe(inbox, take)
        await self.bus.publish(f"$JS.API.CONSUMER.MSG.NEXT.{self.stream}.{name}", msgspec.json.encode(body), reply=inbox)
        with anyio.move_on_after(1.2 if "idle_heartbeat" in body else QUIET_S * 6):
            await over.wait()
        await subscription.unsubscribe()
        return got

    def _delivery_shown(self, delivery: Delivery) -> Answer:
        tokens = delivery.reply.split(".")
        return [delivery.subject, delivery.seq, delivery.delivered, int(tokens[6]), len(delivery.data), sorted(delivery.headers)]

    async def _do_loop(self, name: str, want: int) -> Answer:
        """Take what a pull loop gives until nothing more comes."""
        got: list[Answer] = []
        async with PullLoop(self.bus, self.stream, name, want=want) as loop:
            while len(got) < 12:
                with anyio.move_on_after(QUIET_S) as scope:
                    deliveries = await loop.batch()
                if scope.cancelled_caught:
                    break
                self.delivered += deliveries
                got += [self._delivery_shown(delivery) for delivery in deliveries]
        await self.bus.flush()
        return got

    async def _do_answer(self, which: float, body: bytes) -> Answer:
        if not self.delivered:
            return None
        delivery = self.delivered[int(which * len(self.delivered))]
        answer = await self.bus.request_raw(delivery.reply, body, timeout_s=1.0)
        return [delivery.seq, delivery.delivered, len(answer.data)]

    async def _do_wait(self) -> Answer:
        await asyncio.sleep(WAIT_S)
        return None

    async def _do_purge(self, body: dict[str, Any]) -> Answer:
        if "filter" in body:
            body = {"filter": f"{self.prefix}.{body['filter']}"}
        return await self._api(f"STREAM.PURGE.{self.stream}", body, lambda answer: answer["purged"])

    async def _do_delete(self, seq: int) -> Answer:
        # the code of the refusal depends on how the store looks inside, and nobody in the house deletes by sequence
        try:
            return bool((await self.bus.api(f"STREAM.MSG.DELETE.{self.stream}", {"seq": seq}))["success"])
        except ApiFailure:
            return False

    async def _do_nobody(self) -> Answer:
        return (await self.bus.request_raw(f"nobody.{self.prefix}", b"")).data.decode()

    async def _do_nothing(self) -> Answer:
        return [
            await self._api(f"STREAM.INFO.{self.stream}X", None, str),
            await self._api(f"CONSUMER.INFO.{self.stream}.three", None, str),
            await self._api(f"CONSUMER.INFO.{self.stream}X.three", None, str),
        ]

    async def _do_limit(self, most: int) -> Answer:
        info = await self.bus.api(f"STREAM.INFO.{self.stream}")
        return await self._api(f"STREAM.UPDATE.{self.stream}", {**info["config"], "max_msgs": most}, self._stream_shown)


async def flow(bus: Bus) -> Answer:
    """Read 6 MB by an ordered consumer whose flow control is answered late: how far it goes before each answer, and what it says."""
    await bus.api("STREAM.CREATE.F", {"name": "F", "subjects": ["f"]})
    for _ in range(60):
        await bus.append("f", b"x" * 100_000)
    inbox, counts, asked, stalled = bus.nc.new_inbox(), [0], [], []

    async def take(message: Any) -> None:
        headers = message.headers or {}
        if "Status" not in headers:
            counts[-1] += 1
        elif message.reply:
            asked.append(message.reply)
        else:
            stalled.append(headers.get("Nats-Consumer-Stalled"))

    subscription = await bus.subscribe(inbox, take)
    config = {"name": "c", "deliver_subject": inbox, "ack_policy": "none", "flow_control": True, "idle_heartbeat": 700_000_000, "mem_storage": True}
    await bus.api("CONSUMER.CREATE.F.c", {"stream_name": "F", "config": config, "action": "create"})
    await asyncio.sleep(1.0)
    while counts[-1]:
        counts.append(0)
        if asked:
            await bus.publish(asked.pop(0), b"")
        await asyncio.sleep(1.0)
    await subscription.unsubscribe()
    await bus.api("STREAM.DELETE.F")
    return [counts, len(asked), {None if text is None else text.rpartition(".")[0] for text in stalled} == {None, "$JS.FC.F.c"}]


def _plain(part: Any) -> Any:
    return part.decode() if isinstance(part, bytes) else part


# ── either server ────────────────────────────────────────────────────────────────────────────────────────────────────


def restarts(seed: int) -> bool:
    """Return whether the server is restarted in the middle of a sequence."""
    return (seed // GROUP) % RESTART_EVERY == RESTART_EVERY - 1


def halves(player: Player, restart: bool) -> tuple[list[Op], list[Op]]:
    """Return what comes before and after the restart, if there is one."""
    middle = len(player.ops) * 2 // 3 if restart else len(player.ops)
    return player.ops[:middle], player.ops[middle:]


async def in_simulation(loop: SimLoop, seed: int, restart: bool) -> list[Answer]:
    """Return the simulated server's answers."""
    network = Network(loop)
    server = SimServer(network, ServerDials(forgotten_acks_max=0))
    server.start()
    host = SimHost(loop, network, "player")

    async def play() -> list[Answer]:
        bus = await connect("nats://sim:4222", "player", Credentials("local"), retry=True)
        player = Player(bus, seed)
        before, after = halves(player, restart)
        await player.begin()
        await player.play(before)
        if restart:
            server.kill()
            await asyncio.sleep(0.5)
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
    divergent: dict[int, str] = msgspec.field(default_factory=dict)


async def compare(real: RealServer, seeds: list[int], restart: bool, outcome: Outcome) -> None:
    """Compare some sequences; what differs is played again apart from the rest, since a loaded real server may be late."""
    simulated = {seed: simulate_apart(seed, restart) for seed in seeds}
    outcome.sequences += len(seeds)
    left = seeds
    for attempt in range(ATTEMPTS):
        differences: dict[int, str] = {}
        for seed, answers in zip(left, await real.answers(left, restart), strict=True):
            outcome.answers += len(answers)
            difference = first_difference(answers, simulated[seed])
            if difference is not None:
                differences[seed] = difference
        outcome.flaky += len(left) - len(differences) if attempt else 0
        left = list(differences)
        if not left:
            return
    outcome.divergent.update(differences)


def simulate_apart(seed: int, restart: bool) -> list[Answer]:
    """Return the simulated server's answers; the running loop is put aside for as long as that takes."""
    running = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    try:
        return simulate(lambda loop: in_simulation(loop, seed, restart), seed)
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
                print(f"{outcome.sequences} sequences, {len(outcome.divergent)} divergent, {outcome.flaky} only under load", flush=True)
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
        f"{len(outcome.divergent)} diverge, {outcome.flaky} differed under load only"
    )
    return 1 if outcome.divergent else 0


if __name__ == "__main__":
    sys.exit(main())
