"""The simulated nats-server: subjects, queue groups, no-responders, and JetStream, message by message, without a wire.

Owns its streams. It can be killed and started again: what lives in memory is gone then, what was on its way is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from msgspec import Struct

from tests.simulation.jetstream_api import Api
from tests.simulation.jetstream_consumers import Consumer
from tests.simulation.jetstream_streams import Failure, Headers, Message, Stream, is_literal, matches, tokens
from tests.simulation.link import Link, Network
from tests.simulation.loop import SimLoop

EPOCH = datetime(2030, 1, 1, tzinfo=UTC)
EPOCH_NS = int(EPOCH.timestamp()) * 1_000_000_000
PING_EVERY_S = 120.0
PINGS_UNANSWERED_MAX = 2

Item = tuple[Any, ...]


class ServerDials(Struct):
    """How a server misbehaves. `disk_s` is (least, most) seconds that storing one message takes; a chance is per message."""

    disk_s: tuple[float, float] = (0.0, 0.0)
    lost_puback_chance: float = 0.0
    """A message is stored and its answer is lost."""
    duplicate_chance: float = 0.0
    """An acknowledgement is lost, so that the message is delivered again."""
    state_lag_s: float = 0.25
    """So much of what happened to a consumer may be undone by a crash: its state is written behind, as measured on the real server."""


class Session:
    """A connection as the server sees it."""

    def __init__(self, server: SimServer, link: Link, number: int) -> None:
        self.server, self.link, self.number = server, link, number
        self.name = ""
        self.subscriptions: dict[int, Subscription] = {}
        self._unanswered = 0
        self._timer: Any = None

    def received(self, item: Item) -> None:
        """Do what the client asks."""
        match item[0]:
            case "pub":
                _, subject, reply, data, headers = item
                self.server.published(subject, reply, data, headers)
            case "sub":
                _, sid, subject, queue = item
                self.server.subscribe(self, sid, subject, queue)
            case "unsub":
                _, sid, most = item
                self.server.unsubscribe(self, sid, most)
            case "ping":
                self.send(("pong",))
            case "pong":
                self._unanswered = 0
            case _:
                assert item[0] == "connect"
                self.name = item[1]
                self.send(("info", {"server_id": self.server.name, "version": "2.12.0", "max_payload": self.server.max_payload, "headers": True}))
                self._ping_later()

    def send(self, item: Item) -> None:
        """Send to the client."""
        self.link.down.send(item)

    def _ping_later(self) -> None:
        self._timer = self.server.call_at(self.server.loop.time() + PING_EVERY_S, self._ping, None)

    def _ping(self) -> None:
        self._unanswered += 1
        if self._unanswered > PINGS_UNANSWERED_MAX:
            self.close()
            return
        self.send(("ping",))
        self._ping_later()

    def ended(self, *, reset: bool) -> None:
        """Take in that the client is gone."""
        self.close()

    def close(self) -> None:
        """Forget the client, and let it know."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.link.up.drop()
        self.link.down.end()
        self.server.gone(self)


class Subscription:
    """Somebody's wish for a subject's messages."""

    __slots__ = ("left", "pattern", "queue", "session", "sid", "subject")

    def __init__(self, session: Session, sid: int, subject: str, queue: str) -> None:
        self.session, self.sid, self.subject, self.queue = session, sid, subject, queue
        self.pattern = tokens(subject)
        self.left: int | None = None


class SimServer:
    """A nats-server on a simulated network.

    `kill` and `start` are a crash and what follows it; `power` loses what was not acknowledged yet.
    """

    def __init__(self, network: Network, dials: ServerDials | None = None, *, name: str = "SIM", max_payload: int = 1024 * 1024 + 8192) -> None:
        self.network, self.name, self.max_payload = network, name, max_payload
        self.loop: SimLoop = network.loop
        self.dials = dials or ServerDials()
        self.skew_s = 0.0
        self.streams: dict[str, Stream] = {}
        self.running = False
        self.restarts = -1
        self._api = Api(self)
        self._context = Context()
        self._sessions: dict[int, Session] = {}
        self._numbers = 0
        self._exact: dict[str, list[Subscription]] = {}
        self._wild: dict[tuple[str, str], list[Subscription]] = {}
        self._signalled: dict[Consumer, None] = {}
        self._pumping: Any = None
        self._homes: dict[str, Stream | None] = {}
        self._writing: list[tuple[float, Item]] = []
        self._writer: Any = None
        self._written_s = 0.0
        self._age_timers: dict[str, Any] = {}
        self._crashed_s = 0.0

    # ── time and chance ──────────────────────────────────────────────────────────────────────────────────────────────

    def now_ns(self) -> int:
        """Return the server's wall clock, in nanoseconds since 1970."""
        return EPOCH_NS + round((self.loop.time() + self.skew_s) * 1e9)

    def time_of(self, at_ns: int) -> str:
        """Return a time as the API writes it."""
        whole = EPOCH + timedelta(seconds=at_ns // 1_000_000_000 - EPOCH_NS // 1_000_000_000)
        return f"{whole:%Y-%m-%dT%H:%M:%S}.{at_ns % 1_000_000_000:09d}Z"

    def token(self) -> str:
        """Return a token that nothing else has."""
        return self.loop.rng.randbytes(6).hex()

    def call_at(self, at_s: float, callback: Callable[[], None], instead_of: Any) -> Any:
        """Call later, in the server's context; a timer that is replaced is cancelled."""
        if instead_of is not None:
            instead_of.cancel()
        return self.loop.call_at(at_s, callback, context=self._context)

    # ── life ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Take connections, with what is on disk."""
        assert not self.running
        self.running = True
        self.restarts += 1
        self._written_s = self.loop.time()
        for stream in list(self.streams.values()):
            stream.restarted()
            for consumer in list(stream.consumers.values()):
                consumer.restarted(self._crashed_s - self.loop.rng.uniform(0.0, self.dials.state_lag_s))
            self._age(stream)
        self.network.listen(self._accept)

    def kill(self, *, power: bool = False) -> None:
        """Crash. Of the messages that were being written, some are stored all the same; with `power` none is."""
        if not self.running:
            return
        self.running = False
        self._crashed_s = self.loop.time()
        self.network.listen(None)
        written = 0 if power else self.loop.rng.randint(0, len(self._writing))
        for _, item in self._writing[:written]:
            self._store(item, answer=False)
        self._writing.clear()
        for timer in (self._writer, self._pumping, *self._age_timers.values()):
            if timer is not None:
                timer.cancel()
        self._writer = self._pumping = None
        self._age_timers.clear()
        self._signalled.clear()
        for session in list(self._sessions.values()):
            session.close()
        self._forget_memory()

    def _forget_memory(self) -> None:
        for stream in list(self.streams.values()):
            for consumer in list(stream.consumers.values()):
                consumer.quiet()
                if consumer.in_memory:
                    consumer.deleted = True
                    del stream.consumers[consumer.name]
            if stream.in_memory:
                del self.streams[stream.name]
        self.subjects_changed()

    # ── sessions and subscriptions ───────────────────────────────────────────────────────────────────────────────────

    def _accept(self, link: Link) -> Session:
        self._numbers += 1
        session = Session(self, link, self._numbers)
        self._sessions[session.number] = session
        return session

    def gone(self, session: Session) -> None:
        """Forget a session and its subscriptions."""
        if self._sessions.pop(session.number, None) is None:
            return
        for subscription in session.subscriptions.values():
            self._drop(subscription)
        session.subscriptions.clear()
        self.network.forget(session.link)
        self._interest_changed()

    def subscribe(self, session: Session, sid: int, subject: str, queue: str) -> None:
        """Add a subscription; one with a number that is taken changes nothing."""
        if sid in session.subscriptions:
            return
        subscription = Subscription(session, sid, subject, queue)
        session.subscriptions[sid] = subscription
        self._place(subscription).append(subscription)
        self._interest_changed(subject)

    def _place(self, subscription: Subscription) -> list[Subscription]:
        if is_literal(subscription.subject):
            return self._exact.setdefault(subscription.subject, [])
        head = subscription.pattern[:2]
        key = (head[0], head[1]) if len(head) == 2 and is_literal(".".join(head)) else ("", "")
        return self._wild.setdefault(key, [])

    def unsubscribe(self, session: Session, sid: int, most: int) -> None:
        """End a subscription, at once or after `most` messages in all."""
        subscription = session.subscriptions.get(sid)
        if subscription is None:
            return
        if most > 0:
            subscription.left = most
            return
        del session.subscriptions[sid]
        self._drop(subscription)
        self._interest_changed(subscription.subject)

    def _drop(self, subscription: Subscription) -> None:
        place = self._place(subscription)
        place.remove(subscription)
        if not place:
            self._exact.pop(subscription.subject, None)

    def _interest_changed(self, subject: str | None = None) -> None:
        for stream in list(self.streams.values()):
            for consumer in list(stream.consumers.values()):
                if consumer.is_push and (subject is None or subject == consumer.deliver_subject):
                    consumer.interest_changed()

    def _listeners(self, subject: str) -> list[Subscription]:
        found = list(self._exact.get(subject, ()))
        parts = tokens(subject)
        for key in ((parts[0], parts[1]) if len(parts) > 1 else ("", ""), ("", "")):
            if key in self._wild:
                found += [known for known in self._wild[key] if matches(known.pattern, parts)]
        return found

    def has_interest(self, subject: str) -> bool:
        """Return whether somebody listens to a subject."""
        return bool(self._listeners(subject))

    def deliver(self, subject: str, shown: str, reply: str, data: bytes, headers: Headers | None) -> bool:
        """Send a message to everybody who listens to `subject`, and to one of each queue group; it shows the subject `shown`."""
        listeners = self._listeners(subject)
        if not listeners:
            return False
        groups: dict[str, list[Subscription]] = {}
        for subscription in listeners:
            if subscription.queue:
                groups.setdefault(subscription.queue, []).append(subscription)
            else:
                self._send(subscription, shown, reply, data, headers)
        for members in groups.values():
            self._send(members[0] if len(members) == 1 else self.loop.rng.choice(members), shown, reply, data, headers)
        return True

    def _send(self, subscription: Subscription, shown: str, reply: str, data: bytes, headers: Headers | None) -> None:
        session = subscription.session
        session.send(("msg", subscription.sid, shown, reply, data, headers))
        if subscription.left is not None:
            subscription.left -= 1
            if subscription.left <= 0:
                self.unsubscribe(session, subscription.sid, 0)

    # ── publishing ───────────────────────────────────────────────────────────────────────────────────────────────────

    def published(self, subject: str, reply: str, data: bytes, headers: Headers | None) -> None:
        """Take a message: for those who listen, for the API, for a stream; nobody at all is answered with 503."""
        heard = self.deliver(subject, subject, reply, data, headers)
        if subject.startswith("$JS."):
            if subject.startswith("$JS.API.") and self._api.knows(subject):
                self._api.call(subject, reply, data)
                return
            if subject.startswith("$JS.ACK."):
                heard = self._acknowledged(subject, reply, data) or heard
            elif subject.startswith("$JS.FC."):
                heard = self._flow(subject) or heard
        stream = self._home(subject)
        if stream is not None:
            self._write((stream.name, subject, reply, data, headers))
        elif not heard and reply:
            self.deliver(reply, reply, "", b"", {"Status": "503", "Description": f"\nNats-Subject: {subject}"})

    def _home(self, subject: str) -> Stream | None:
        if subject not in self._homes:
            if len(self._homes) > 10_000:
                self._homes.clear()
            self._homes[subject] = next((stream for stream in self.streams.values() if stream.filter.takes(subject)), None)
        return self._homes[subject]

    def _write(self, item: Item) -> None:
        least, most = self.dials.disk_s
        if most <= 0 and not self._writing:
            self._store(item)
            return
        self._written_s = max(self._written_s, self.loop.time()) + self.loop.rng.uniform(least, most)
        self._writing.append((self._written_s, item))
        if self._writer is None:
            self._writer = self.call_at(self._written_s, self._finish, None)

    def _finish(self) -> None:
        self._writer = None
        _, item = self._writing.pop(0)
        self._store(item)
        if self._writing:
            self._writer = self.call_at(self._writing[0][0], self._finish, None)

    def _store(self, item: Item, *, answer: bool = True) -> None:
        name, subject, reply, data, headers = item
        stream = self.streams.get(name)
        if stream is None:
            return
        try:
            stored = stream.store(subject, data, headers, self.now_ns())
            body: dict[str, Any] = {"stream": name, "seq": stored.seq}
            if stored.duplicate:
                body["duplicate"] = True
        except Failure as failure:
            body = {"error": failure.body(), "stream": name, "seq": 0}
        if stream.config["max_age"] and name not in self._age_timers:
            self._age(stream)
        if not answer or not reply:
            return
        lost = self.dials.lost_puback_chance
        if not lost or self.loop.rng.random() >= lost:
            self.deliver(reply, reply, "", msgspec.json.encode(body), None)

    def _age(self, stream: Stream) -> None:
        """Delete what is too old, now and whenever something gets too old."""
        self._age_timers.pop(stream.name, None)
        if self.streams.get(stream.name) is not stream:
            return
        due_ns = stream.expire(self.now_ns())
        if due_ns is not None:
            at_s = self.loop.time() + (due_ns - self.now_ns()) / 1e9
            self._age_timers[stream.name] = self.call_at(at_s + 0.001, lambda: self._age(stream), None)

    # ── streams and consumers ────────────────────────────────────────────────────────────────────────────────────────

    def add_stream(self, config: dict[str, Any]) -> Stream:
        """Make a stream."""
        stream = Stream(config, self.now_ns())
        self.streams[stream.name] = stream
        self.subjects_changed()
        return stream

    def delete_stream(self, stream: Stream) -> None:
        """Delete a stream and its consumers."""
        for consumer in list(stream.consumers.values()):
            consumer.delete()
        del self.streams[stream.name]
        self.subjects_changed()

    def subjects_changed(self) -> None:
        """Look up anew which stream takes which subject."""
        self._homes.clear()

    def add_consumer(self, stream: Stream, name: str, config: dict[str, Any]) -> Consumer:
        """Make a consumer."""
        consumer = Consumer(self, stream, name, config)
        stream.consumers[name] = consumer
        self.signal(consumer)
        return consumer

    def signal(self, consumer: Consumer) -> None:
        """Let a consumer deliver what it can, after what is being done now."""
        self._signalled[consumer] = None
        if self._pumping is None and self.running:
            self._pumping = self.loop.call_soon(self._pump, context=self._context)

    def _pump(self) -> None:
        self._pumping = None
        while self._signalled:
            consumer = next(iter(self._signalled))
            del self._signalled[consumer]
            consumer.pump()

    def _consumer_of(self, subject: str) -> tuple[Consumer | None, list[str]]:
        parts = subject.split(".")
        stream = self.streams.get(parts[2]) if len(parts) > 3 else None
        return (None if stream is None else stream.consumers.get(parts[3])), ["", *parts]

    def _acknowledged(self, subject: str, reply: str, data: bytes) -> bool:
        consumer, parts = self._consumer_of(subject)
        if consumer is None or len(parts) != 10:
            return False
        chance = self.dials.duplicate_chance
        is_lost = bool(chance) and self.loop.rng.random() < chance
        if not is_lost and consumer.answered(parts[1:], data) and reply:
            self.deliver(reply, reply, "", b"", None)
        return True

    def _flow(self, subject: str) -> bool:
        consumer, _ = self._consumer_of(subject)
        if consumer is not None:
            consumer.flow(subject)
        return consumer is not None

    # ── advisories ───────────────────────────────────────────────────────────────────────────────────────────────────

    def advise_terminated(self, consumer: Consumer, seq: int, consumer_seq: int, deliveries: int, reason: str) -> None:
        """Publish that a message will not be delivered again, by order."""
        body = {
            "type": "io.nats.jetstream.advisory.v1.terminated",
            "id": self.token(),
            "timestamp": self.time_of(self.now_ns()),
            "stream": consumer.stream.name,
            "consumer": consumer.name,
            "consumer_seq": consumer_seq,
            "stream_seq": seq,
            "deliveries": deliveries,
            "reason": reason,
        }
        subject = f"$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.{consumer.stream.name}.{consumer.name}"
        self.published(subject, "", msgspec.json.encode(body), None)

    # ── for tests and invariants ─────────────────────────────────────────────────────────────────────────────────────

    def stored(self, stream: str) -> list[Message]:
        """Return what a stream holds, in order."""
        found = self.streams.get(stream)
        return [] if found is None else list(found.messages.values())
