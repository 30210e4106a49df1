"""Plays a sequence of operations over a connection, to whichever server it leads, and notes the answers without times.

Owns the streams that it makes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

import anyio
import msgspec

from bus.connection import ApiFailure, Bus
from bus.errors import AlreadyThere, Conflict, Rejected, Unavailable
from bus.pull import Delivery, PullLoop
from bus.reader import Reader
from tests.simulation.differential_plan import Op, plan

WAIT_S = 1.0
QUIET_S = 0.15
SETTLE_S = 0.05
STATUS_HEADERS = ("Status", "Description", "Nats-Pending-Messages", "Nats-Pending-Bytes", "Nats-Last-Consumer")

Answer = Any


class Player:
    """Plays one sequence over a connection; `answers` is what came back, without times."""

    def __init__(self, bus: Bus, seed: int, shift_s: float = 0.0) -> None:
        self.bus, self.seed = bus, seed
        self.shift_s = shift_s  # each wait is so much longer
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
        # of an empty stream, the first sequence depends on how the store came to be empty
        if not state["messages"]:
            state["first_seq"] = 0
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
                with anyio.move_on_after(QUIET_S + self.shift_s) as scope:
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
        with anyio.move_on_after(self.shift_s + (1.2 if "idle_heartbeat" in body else QUIET_S * 6)):
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
                with anyio.move_on_after(QUIET_S + self.shift_s) as scope:
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
        await asyncio.sleep(WAIT_S + self.shift_s)
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
