"""Consumers of the simulated server: who gets which message, how often, and what an acknowledgement does.

Owns nothing but its place in a stream; it sends through the server it was made by.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, Any

import msgspec

from tests.simulation.jetstream_streams import Filter, Message, Stream

if TYPE_CHECKING:
    from tests.simulation.jetstream import SimServer

FLOW_BYTES_MAX = 32 * 1024**2
FLOW_BYTES_FIRST = FLOW_BYTES_MAX // 16
RECENT_MAX = 10_000
"""Changes of a consumer's state that a crash may undo."""
DELETED = "Unacknowledged message was deleted"

DEFAULTS: dict[str, Any] = {
    "deliver_policy": "all",
    "ack_policy": "none",
    "replay_policy": "instant",
    "num_replicas": 0,
    "max_deliver": -1,
    "metadata": {},
}


def full(config: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a consumer's configuration with what the server adds."""
    whole = {**DEFAULTS, **config, "name": name}
    if whole["ack_policy"] != "none":
        whole.setdefault("ack_wait", 30_000_000_000)
        whole.setdefault("max_ack_pending", 1000)
    if not config.get("deliver_subject"):
        whole.setdefault("max_waiting", 512)
    return whole


class _Change(Enum):
    """What a crash may undo."""

    DELIVERED = "delivered"
    SETTLED = "settled"


class _Pending(msgspec.Struct):
    """A delivered message that waits for its acknowledgement."""

    consumer_seq: int
    at_s: float


class _Request(msgspec.Struct):
    """A pull request that is not served yet."""

    reply: str
    left: int
    expires_at_s: float | None
    heartbeat_s: float
    beat_at_s: float
    no_wait: bool


class Consumer:
    """A consumer: its cursor, what waits for an acknowledgement, what is to be delivered again, and who asks."""

    def __init__(self, server: SimServer, stream: Stream, name: str, config: dict[str, Any]) -> None:
        self.server, self.stream, self.name = server, stream, name
        self.configure(config)
        self.created_ns = server.now_ns()
        self.deleted = False
        self.next_seq = self._start_seq()
        self.consumer_seq = 0
        self.ack_floor_consumer = 0
        self.ack_floor_stream = self.next_seq - 1
        self.waiting: deque[_Request] = deque()
        self.pending: dict[int, _Pending] = {}
        self.counts: dict[int, int] = {}
        self.again: deque[int] = deque()
        self.unseen = stream.count(self.filter, self.next_seq)
        self._recent: deque[tuple[float, _Change, int, int]] = deque(maxlen=RECENT_MAX)
        self._ack_timer: Any = None
        self._wait_timer: Any = None
        self._beat_timer: Any = None
        self._idle_timer: Any = None
        self._flow_bytes = 0
        self._flow_most = FLOW_BYTES_FIRST if config.get("flow_control") else 0
        self._flow_id = ""
        self._flow_size = 0
        if self.is_push:
            self._arm_beat()
            self.interest_changed()

    def configure(self, config: dict[str, Any]) -> None:
        """Read a configuration."""
        self.config = full(config, self.name)
        patterns = config.get("filter_subjects") or ([config["filter_subject"]] if config.get("filter_subject") else [])
        self.filter = Filter(list(patterns))
        self.acks = self.config["ack_policy"] != "none"
        self.ack_wait_s = self.config.get("ack_wait", 0) / 1e9
        self.max_ack_pending = self.config.get("max_ack_pending", 0) if self.acks else 0
        self.deliver_subject: str = config.get("deliver_subject") or ""
        self.is_push = bool(self.deliver_subject)
        self.heartbeat_s = config.get("idle_heartbeat", 0) / 1e9

    def reconfigure(self, config: dict[str, Any]) -> None:
        """Take another configuration; the place in the stream stays."""
        self.configure(config)
        self.unseen = self.stream.count(self.filter, self.next_seq)

    def _start_seq(self) -> int:
        policy = self.config["deliver_policy"]
        if policy == "by_start_sequence":
            return max(1, int(self.config.get("opt_start_seq", 1)), self.stream.first_seq)
        if policy == "new":
            return self.stream.last_seq + 1
        return max(1, self.stream.first_seq)

    @property
    def in_memory(self) -> bool:
        """Whether a restarted server has forgotten it."""
        return bool(self.config.get("mem_storage")) or self.stream.in_memory or not self.config.get("durable_name")

    @property
    def is_blocked(self) -> bool:
        """Whether too much waits for an acknowledgement."""
        return 0 < self.max_ack_pending <= len(self.pending)

    def info(self) -> dict[str, Any]:
        """Return what CONSUMER.INFO says."""
        return {
            "stream_name": self.stream.name,
            "name": self.name,
            "created": self.server.time_of(self.created_ns),
            "config": self.config,
            "delivered": {"consumer_seq": self.consumer_seq, "stream_seq": self.next_seq - 1},
            "ack_floor": {"consumer_seq": self.ack_floor_consumer, "stream_seq": self.ack_floor_stream},
            "num_ack_pending": len(self.pending),
            "num_redelivered": len(self.counts),
            "num_waiting": len(self.waiting),
            "num_pending": self.unseen,
        }

    # ── what the stream says ─────────────────────────────────────────────────────────────────────────────────────────

    def stored(self, subject: str, seq: int) -> None:
        """Take in that a message was stored."""
        if seq >= self.next_seq and self.filter.takes(subject):
            self.unseen += 1
            self.server.signal(self)

    def removed(self, message: Message, *, told: bool) -> None:
        """Take in that a message was deleted; `told` means not by our own acknowledgement and not by a purge of everything."""
        if message.seq >= self.next_seq and self.filter.takes(message.subject):
            self.unseen -= 1
        if told and message.seq in self.pending:
            self._terminate(message.seq, self.pending[message.seq].consumer_seq, max(1, self.counts.get(message.seq, 1) - 1), DELETED)

    def purged(self, seqs: list[int], subject: str) -> None:
        """Take in a purge: what is gone is not waited for, and what was to come again at once comes after its ack wait."""
        self.unseen = self.stream.count(self.filter, self.next_seq)
        for seq in [seq for seq in self.pending if seq < self.stream.first_seq or seq in seqs]:
            self._forget(seq)
        if not subject or self.filter.overlaps(Filter([subject])):  # even when nothing was there to delete
            self.again.clear()

    # ── delivering ───────────────────────────────────────────────────────────────────────────────────────────────────

    def pump(self) -> None:
        """Deliver what can be delivered."""
        while not self.deleted:
            if self.is_push:
                if not self.server.has_interest(self.deliver_subject) or (self._flow_most and self._flow_bytes > self._flow_most):
                    return
                request = None
            else:
                asked = bool(self.waiting)
                request = self._request()
                if request is None:
                    if asked:
                        self._put_back()
                    return
            message = self._next()
            if message is None:
                if request is None or not request.no_wait or self.is_blocked or self.unseen > 0:
                    return
                self.waiting.remove(request)
                self._status(request.reply, "404", "No Messages")
                continue
            self._deliver(message, request)

    def _request(self) -> _Request | None:
        """Return the oldest pull request that somebody still listens for."""
        now_s = self.server.loop.time()
        while self.waiting:
            request = self.waiting[0]
            if request.expires_at_s is not None and request.expires_at_s <= now_s:
                self.waiting.popleft()
                self._timed_out(request)
            elif not self.server.has_interest(request.reply):
                self.waiting.popleft()
            else:
                return request
        return None

    def _put_back(self) -> None:
        """Put the next to come again behind the others: the server takes it before it sees that nobody listens any more (seed 8985)."""
        while self.again:
            seq = self.again.popleft()
            if seq in self.stream.messages:
                self.again.append(seq)
                return
            self._forget(seq)

    def _next(self) -> Message | None:
        """Take the next message: one to deliver again, else a new one."""
        while self.again:
            seq = self.again.popleft()
            message = self.stream.messages.get(seq)
            if message is None:
                self._forget(seq)
                continue
            self.counts[seq] = self.counts.get(seq, 1) + 1
            return message
        if self.is_blocked:
            return None
        stream = self.stream
        seq = max(self.next_seq, stream.first_seq)
        while seq <= stream.last_seq:
            message = stream.messages.get(seq)
            seq += 1
            if message is not None and self.filter.takes(message.subject):
                self.next_seq = seq
                self.unseen -= 1
                return message
        self.next_seq = max(self.next_seq, seq)
        return None

    def _deliver(self, message: Message, request: _Request | None) -> None:
        now_s = self.server.loop.time()
        self.consumer_seq += 1
        count = self.counts.get(message.seq, 1)
        reply = f"$JS.ACK.{self.stream.name}.{self.name}.{count}.{message.seq}.{self.consumer_seq}.{message.at_ns}.{self.unseen}"
        if self.acks:
            if not self.in_memory:
                self._recent.append((now_s, _Change.DELIVERED, message.seq, count))
            known = self.pending.get(message.seq)
            if known is None:
                self.pending[message.seq] = _Pending(self.consumer_seq, now_s)
            else:
                known.at_s = now_s
            self._arm_acks(now_s + self.ack_wait_s)
        if request is None:
            self.server.deliver(self.deliver_subject, message.subject, reply, message.data, message.headers)
            self._arm_beat()
            if self._flow_most:
                self._flow_bytes += len(message.data) + len(message.subject) + len(reply)
                self._ask_flow(len(message.data))
            return
        request.left -= 1
        request.beat_at_s = now_s + request.heartbeat_s
        if request.left <= 0:
            self.waiting.remove(request)
        self.server.deliver(request.reply, message.subject, reply, message.data, message.headers)

    def _ask_flow(self, size: int) -> None:
        if not self._flow_id and self._flow_bytes > self._flow_most // 2:
            self._flow_id = f"$JS.FC.{self.stream.name}.{self.name}.{self.server.token()}"
            self._flow_size = self._flow_bytes
            headers = {"Status": "100", "Description": "FlowControl Request"}
            self.server.deliver(self.deliver_subject, self.deliver_subject, self._flow_id, b"", headers)
        elif self._flow_id and self._flow_bytes - self._flow_size >= self._flow_most:
            self._flow_size += size

    def flow(self, subject: str) -> None:
        """Take the answer to a flow control request."""
        if subject != self._flow_id:
            return
        self._flow_most = min(FLOW_BYTES_MAX, self._flow_most * 2)
        self._flow_bytes = max(0, self._flow_bytes - self._flow_size)
        self._flow_id, self._flow_size = "", 0
        self.server.signal(self)

    def _status(self, reply: str, status: str, description: str, **more: str) -> None:
        headers = {"Status": status, "Description": description, **{key.replace("_", "-"): value for key, value in more.items()}}
        self.server.deliver(reply, reply, "", b"", headers)

    # ── pull requests ────────────────────────────────────────────────────────────────────────────────────────────────

    def pull(self, reply: str, body: bytes) -> None:
        """Take a pull request."""
        if self.is_push:
            self._status(reply, "409", "Consumer is push based")
            return
        asked = msgspec.json.decode(body) if body[:1] == b"{" else {"batch": int(body or b"1")}
        now_s, expires_s = self.server.loop.time(), asked.get("expires", 0) / 1e9
        heartbeat_s = asked.get("idle_heartbeat", 0) / 1e9
        if heartbeat_s and expires_s and heartbeat_s * 2 > expires_s:
            self._status(reply, "400", "Bad Request - heartbeat value too large")
            return
        no_wait = bool(asked.get("no_wait"))
        self._request()
        if len(self.waiting) >= self.config["max_waiting"]:
            self._status(reply, "409", "Exceeded MaxWaiting")
            return
        if no_wait and not expires_s and self.unseen + len(self.again) == 0:
            self._status(reply, "404", "No Messages")
            return
        expires_at_s, batch = now_s + expires_s if expires_s else None, max(1, asked.get("batch", 1))
        request = _Request(reply, batch, expires_at_s, heartbeat_s, now_s + heartbeat_s, no_wait and not expires_s)
        self.waiting.append(request)
        self._arm_requests()
        self.server.signal(self)

    def _timed_out(self, request: _Request) -> None:
        self._status(request.reply, "408", "Request Timeout", Nats_Pending_Messages=str(request.left), Nats_Pending_Bytes="0")

    def _arm_requests(self) -> None:
        due = [request.expires_at_s for request in self.waiting if request.expires_at_s is not None]
        due += [request.beat_at_s for request in self.waiting if request.heartbeat_s]
        if due:
            self._wait_timer = self.server.call_at(min(due), self._tend_requests, self._wait_timer)

    def _tend_requests(self) -> None:
        self._wait_timer = None
        now_s = self.server.loop.time()
        for request in list(self.waiting):
            if not self.server.has_interest(request.reply):
                self.waiting.remove(request)
            elif request.expires_at_s is not None and request.expires_at_s <= now_s:
                self.waiting.remove(request)
                self._timed_out(request)
            elif request.heartbeat_s and request.beat_at_s <= now_s:
                request.beat_at_s = now_s + request.heartbeat_s
                self._idle_beat(request.reply)
        self._arm_requests()

    def _idle_beat(self, reply: str, **more: str) -> None:
        last, stream_seq = str(self.consumer_seq), str(self.next_seq - 1)
        self._status(reply, "100", "Idle Heartbeat", Nats_Last_Consumer=last, Nats_Last_Stream=stream_seq, **more)

    # ── acknowledgements ─────────────────────────────────────────────────────────────────────────────────────────────

    def answered(self, reply: list[str], body: bytes) -> bool:
        """Take an acknowledgement of `$JS.ACK.<stream>.<consumer>.<count>.<stream seq>.<consumer seq>.<time>.<pending>`.

        Return whether the server says that it did.
        """
        seq = int(reply[5])
        if body in (b"", b"+ACK", b"+OK"):
            self._acknowledge(seq)
        elif body.startswith(b"-NAK"):
            self._again_after(seq, body[4:].strip())
        elif body.startswith(b"+WPI"):
            if seq in self.pending:
                self.pending[seq].at_s = self.server.loop.time()
        elif body.startswith(b"+TERM"):
            self._terminate(seq, int(reply[6]), int(reply[4]), body[5:].strip().decode())
            if self.stream.config["retention"] != "limits":
                self.stream.remove(seq, told=False)
        return not body.startswith(b"+TERM") or seq < self.next_seq

    def _acknowledge(self, seq: int) -> None:
        if seq >= self.next_seq:
            return
        self._note_settled(seq)
        self._forget(seq)
        if self.stream.config["retention"] != "limits":
            self.stream.remove(seq, told=False)
        self.server.signal(self)

    def _note_settled(self, seq: int) -> None:
        if seq in self.pending and not self.in_memory:
            self._recent.append((self.server.loop.time(), _Change.SETTLED, seq, self.counts.get(seq, 1)))

    def _terminate(self, seq: int, consumer_seq: int, count: int, reason: str) -> None:
        self.server.advise_terminated(self, seq, consumer_seq, count, reason)
        self._note_settled(seq)
        self._forget(seq)
        self.server.signal(self)

    def _forget(self, seq: int) -> None:
        known = self.pending.pop(seq, None)
        self.counts.pop(seq, None)
        if seq in self.again:
            self.again.remove(seq)
        if not self.pending:
            self.ack_floor_consumer, self.ack_floor_stream = self.consumer_seq, self.next_seq - 1
        elif known is not None:
            first = min(self.pending)
            self.ack_floor_stream = first - 1
            self.ack_floor_consumer = min(pending.consumer_seq for pending in self.pending.values()) - 1

    def _again_after(self, seq: int, delay: bytes) -> None:
        pending = self.pending.get(seq)
        if pending is None:
            return
        delay_s = msgspec.json.decode(delay).get("delay", 0) / 1e9 if delay[:1] == b"{" else 0.0
        if delay_s > 0:
            if seq in self.again:
                self.again.remove(seq)
            pending.at_s = self.server.loop.time() - self.ack_wait_s + delay_s
            self._arm_acks(self.server.loop.time() + delay_s)
        elif seq not in self.again:
            self.again.append(seq)
            self.server.signal(self)

    def _arm_acks(self, at_s: float) -> None:
        if self._ack_timer is None or self._ack_timer.when() > at_s:
            self._ack_timer = self.server.call_at(at_s, self._expire_acks, self._ack_timer)

    def _expire_acks(self) -> None:
        self._ack_timer = None
        now_s = self.server.loop.time()
        late = [seq for seq, pending in self.pending.items() if pending.at_s + self.ack_wait_s <= now_s + 1e-9 and seq not in self.again]
        for seq in sorted(late):
            self.pending[seq].at_s = now_s
            self.again.append(seq)
        if late:
            self.server.signal(self)
        if self.pending:
            self._arm_acks(max(now_s + 0.001, min(pending.at_s for pending in self.pending.values()) + self.ack_wait_s))

    # ── push ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _arm_beat(self) -> None:
        if self.heartbeat_s:
            self._beat_timer = self.server.call_at(self.server.loop.time() + self.heartbeat_s, self._beat, self._beat_timer)

    def _beat(self) -> None:
        self._beat_timer = None
        if self.server.has_interest(self.deliver_subject):
            if self._flow_id and self._flow_most and self._flow_bytes > self._flow_most:
                self._idle_beat(self.deliver_subject, Nats_Consumer_Stalled=self._flow_id)
            else:
                self._idle_beat(self.deliver_subject)
        self._arm_beat()

    def interest_changed(self) -> None:
        """Take in that somebody began or ceased to listen."""
        if not self.is_push or self.deleted:
            return
        threshold_s = self.config.get("inactive_threshold", 0) / 1e9
        if self.server.has_interest(self.deliver_subject):
            if self._idle_timer is not None:
                self._idle_timer.cancel()
                self._idle_timer = None
            self.server.signal(self)
        elif threshold_s and self._idle_timer is None:
            self._idle_timer = self.server.call_at(self.server.loop.time() + threshold_s, self._give_up, None)

    def _give_up(self) -> None:
        self._idle_timer = None
        if not self.server.has_interest(self.deliver_subject):
            self.delete()

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def quiet(self) -> None:
        """Stop every timer: the server is down, or the consumer is gone."""
        for timer in (self._ack_timer, self._wait_timer, self._beat_timer, self._idle_timer):
            if timer is not None:
                timer.cancel()
        self._ack_timer = self._wait_timer = self._beat_timer = self._idle_timer = None

    def delete(self) -> None:
        """Be gone; those who ask are told."""
        self.deleted = True
        self.quiet()
        self.stream.consumers.pop(self.name, None)
        for request in self.waiting:
            self._status(request.reply, "409", "Consumer Deleted", Nats_Pending_Messages=str(request.left), Nats_Pending_Bytes="0")
        self.waiting.clear()

    def restarted(self, written_s: float) -> None:
        """Be as a restarted server finds it: nobody asks, and what happened after `written_s` did not reach the disk."""
        self.quiet()
        self.waiting.clear()
        self.again.clear()
        self.next_seq = min(self.next_seq, self.stream.last_seq + 1)
        while self._recent and self._recent[-1][0] > written_s:
            self._undo(*self._recent.pop())
        self._recent.clear()
        self.unseen = self.stream.count(self.filter, self.next_seq)
        if self.pending:
            self.pending = dict(sorted(self.pending.items()))
            self._arm_acks(max(self.server.loop.time(), min(pending.at_s for pending in self.pending.values()) + self.ack_wait_s))

    def _undo(self, at_s: float, change: _Change, seq: int, count: int) -> None:
        if change is _Change.SETTLED:
            if seq in self.stream.messages:
                self.pending[seq] = _Pending(self.consumer_seq, at_s)
                self.counts[seq] = count
            return
        self.consumer_seq -= 1
        if count > 1:
            self.counts[seq] = count - 1
        else:
            self.next_seq = min(self.next_seq, seq)
            self.pending.pop(seq, None)
            self.counts.pop(seq, None)
