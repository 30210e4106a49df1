"""Streams of the simulated server: what is stored, what is refused, what is deleted. *Pure* but for being changed in place.

Error texts and codes are those of nats-server 2.12 and newer, as the differential test compares them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from tests.simulation.jetstream_consumers import Consumer

Headers = dict[str, str]

FILE_RECORD_BYTES = 30
MEMORY_RECORD_BYTES = 16

DEFAULTS: dict[str, Any] = {
    "retention": "limits",
    "max_consumers": -1,
    "max_msgs": -1,
    "max_bytes": -1,
    "max_age": 0,
    "max_msgs_per_subject": -1,
    "max_msg_size": -1,
    "discard": "old",
    "storage": "file",
    "num_replicas": 1,
    "duplicate_window": 120_000_000_000,
    "compression": "none",
    "allow_direct": False,
    "mirror_direct": False,
    "sealed": False,
    "deny_delete": False,
    "deny_purge": False,
    "allow_rollup_hdrs": False,
    "consumer_limits": {},
    "allow_msg_ttl": False,
    "metadata": {},
}


class Failure(Exception):
    """An answer with an error."""

    def __init__(self, code: int, err_code: int, description: str) -> None:
        super().__init__(description)
        self.code, self.err_code, self.description = code, err_code, description

    def body(self) -> dict[str, Any]:
        """Return what the server puts under `error`."""
        return {"code": self.code, "err_code": self.err_code, "description": self.description}


class Message(NamedTuple):
    """A message as it is stored."""

    subject: str
    seq: int
    at_ns: int
    data: bytes
    headers: Headers | None
    size_bytes: int


class Stored(NamedTuple):
    """Where a message is now, or was before."""

    seq: int
    duplicate: bool = False


def tokens(subject: str) -> tuple[str, ...]:
    """Return a subject's parts."""
    return tuple(subject.split("."))


def matches(pattern: tuple[str, ...], subject: tuple[str, ...]) -> bool:
    """Return whether a subject is one of a pattern's."""
    if pattern[-1] == ">":
        if len(subject) < len(pattern):
            return False
    elif len(pattern) != len(subject):
        return False
    return all(wanted in ("*", ">") or wanted == found for wanted, found in zip(pattern, subject, strict=False))


def is_literal(subject: str) -> bool:
    """Return whether a subject has no wildcard."""
    return not any(token in ("*", ">") for token in subject.split("."))


class Filter:
    """Some subjects; none given means all."""

    def __init__(self, patterns: list[str]) -> None:
        self.patterns = patterns
        self._literals = {pattern for pattern in patterns if is_literal(pattern)}
        self._wild = [tokens(pattern) for pattern in patterns if not is_literal(pattern)]
        self._known: dict[str, bool] = {}

    def takes(self, subject: str) -> bool:
        """Return whether the subject is one of them."""
        if not self.patterns or subject in self._literals:
            return True
        if not self._wild:
            return False
        known = self._known.get(subject)
        if known is None:
            if len(self._known) > 10_000:
                self._known.clear()
            parts = tokens(subject)
            known = self._known[subject] = any(matches(pattern, parts) for pattern in self._wild)
        return known

    def overlaps(self, other: Filter) -> bool:
        """Return whether a subject may be one of both."""
        return not self.patterns or not other.patterns or any(_overlap(tokens(a), tokens(b)) for a in self.patterns for b in other.patterns)


def _overlap(a: tuple[str, ...], b: tuple[str, ...]) -> bool:
    for left, right in zip(a, b, strict=False):
        if left == ">" or right == ">":
            return True
        if left != right and left != "*" and right != "*":
            return False
    return len(a) == len(b)


def _has_id(message: Message) -> bool:
    return "Nats-Msg-Id" in (message.headers or {})


class Stream:
    """A stream and its consumers."""

    def __init__(self, config: dict[str, Any], now_ns: int) -> None:
        self.config = {**DEFAULTS, **config}
        self.name: str = config["name"]
        self.created_ns = now_ns
        self.messages: dict[int, Message] = {}
        self.first_seq = 0
        self.last_seq = 0
        self.first_ns = self.last_ns = 0
        self.bytes = 0
        self.by_subject: dict[str, list[int]] = {}
        self.consumers: dict[str, Consumer] = {}
        self._ids: dict[str, tuple[int, int]] = {}
        self.configure(self.config)

    def configure(self, config: dict[str, Any]) -> None:
        """Read a configuration."""
        self.config = {**DEFAULTS, **config}
        self.subjects: list[str] = self.config.get("subjects") or [self.name]
        self.filter = Filter(self.subjects)
        self.in_memory = self.config["storage"] == "memory"
        self._record_bytes = MEMORY_RECORD_BYTES if self.in_memory else FILE_RECORD_BYTES

    def reconfigure(self, config: dict[str, Any]) -> None:
        """Take another configuration; what is over its limits goes."""
        self.configure(config)
        for subject in list(self.by_subject):
            self._discard_old(subject)

    # ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def store(self, subject: str, data: bytes, headers: Headers | None, now_ns: int) -> Stored:
        """Store a message. Raises Failure."""
        config = self.config
        header_bytes = 0 if not headers else 12 + sum(len(key) + len(value) + 4 for key, value in headers.items())
        if 0 <= config["max_msg_size"] < len(data) + header_bytes:
            raise Failure(400, 10054, "message size exceeds maximum allowed")
        message_id = None
        if headers:
            message_id = headers.get("Nats-Msg-Id")
            known = None if message_id is None else self._known(message_id, now_ns)
            if known is not None:
                return Stored(known, duplicate=True)
            self._expect(subject, headers)
        size = len(subject) + len(data) + header_bytes + self._record_bytes + (4 if headers and not self.in_memory else 0)
        self._make_room(subject, size)
        self.last_seq += 1
        seq = self.last_seq
        if not self.messages:
            self.first_seq, self.first_ns = seq, now_ns
        self.last_ns = now_ns
        self.messages[seq] = Message(subject, seq, now_ns, data, headers, size)
        self.by_subject.setdefault(subject, []).append(seq)
        self.bytes += size
        if message_id is not None and config["duplicate_window"] > 0:
            self._ids[message_id] = (seq, now_ns)
        for consumer in self.consumers.values():
            consumer.stored(subject, seq)
        self._discard_old(subject)
        return Stored(seq)

    def _known(self, message_id: str, now_ns: int) -> int | None:
        window_ns = self.config["duplicate_window"]
        for old in [known for known, (_, at_ns) in self._ids.items() if now_ns - at_ns > window_ns]:
            del self._ids[old]
        found = self._ids.get(message_id)
        return None if found is None else found[0]

    def _expect(self, subject: str, headers: Headers) -> None:
        expected = headers.get("Nats-Expected-Stream")
        if expected is not None and expected != self.name:
            raise Failure(400, 10060, "expected stream does not match")
        expected = headers.get("Nats-Expected-Last-Sequence")
        if expected is not None and int(expected) != self.last_seq:
            raise Failure(400, 10071, f"wrong last sequence: {self.last_seq}")
        expected = headers.get("Nats-Expected-Last-Subject-Sequence")
        if expected is not None:
            found = self.by_subject.get(subject)
            last = found[-1] if found else 0
            if int(expected) != last:
                raise Failure(400, 10071, f"wrong last sequence: {last}")

    def _make_room(self, subject: str, size: int) -> None:
        config = self.config
        if config["discard"] != "new":
            return
        found = self.by_subject.get(subject, [])
        replaces = 0 < config["max_msgs_per_subject"] <= len(found)
        if replaces and config.get("discard_new_per_subject"):
            raise Failure(503, 10077, "maximum messages per subject exceeded")
        if 0 < config["max_msgs"] <= len(self.messages) and not replaces:
            raise Failure(503, 10077, "maximum messages exceeded")
        if 0 < config["max_bytes"] < self.bytes + size and not (replaces and self.messages[found[0]].size_bytes >= size):
            raise Failure(503, 10077, "maximum bytes exceeded")

    def _discard_old(self, subject: str) -> None:
        config = self.config
        per_subject = config["max_msgs_per_subject"]
        if per_subject > 0:
            found = self.by_subject.get(subject, [])
            while len(found) > per_subject:
                self.remove(found[0])
        if config["discard"] == "old":
            while 0 < config["max_msgs"] < len(self.messages):
                self.remove(self.first_seq)
            while 0 < config["max_bytes"] < self.bytes and self.messages:
                self.remove(self.first_seq)

    def expire(self, now_ns: int) -> int | None:
        """Delete what is older than the stream keeps; return when the next message gets too old, or None."""
        age_ns = self.config["max_age"]
        if age_ns <= 0:
            return None
        while self.messages and now_ns - self.messages[self.first_seq].at_ns >= age_ns:
            self.remove(self.first_seq)
        return self.messages[self.first_seq].at_ns + age_ns if self.messages else None

    def remove(self, seq: int, *, told: bool = True) -> bool:
        """Delete a message; return whether it was there. A consumer that is told gives up waiting for its acknowledgement."""
        message = self.messages.pop(seq, None)
        if message is None:
            return False
        self.bytes -= message.size_bytes
        found = self.by_subject[message.subject]
        del found[bisect_left(found, seq)]
        if not found:
            del self.by_subject[message.subject]
        if seq == self.first_seq:
            self._advance()
        for consumer in self.consumers.values():
            consumer.removed(message, told=told)
        return True

    def _advance(self) -> None:
        if not self.messages:
            self.first_seq = self.last_seq + 1
            return
        while self.first_seq not in self.messages:
            self.first_seq += 1
        self.first_ns = self.messages[self.first_seq].at_ns

    def purge(self, subject: str, below_seq: int, keep: int) -> int:
        """Delete what matches `subject` (all when empty), below a sequence when one is given, all but the newest `keep`; return how many."""
        wanted = Filter([subject] if subject else [])
        found = [message.seq for message in self.messages.values() if wanted.takes(message.subject)]
        if below_seq:
            found = [seq for seq in found if seq < below_seq]
        elif keep:
            found = found[:-keep]
        for seq in found:
            self.remove(seq, told=bool(subject) and len(found) == 1)
        if not subject and below_seq > self.last_seq + self.in_memory:
            self.last_seq, self.first_seq = below_seq - 1, below_seq
        elif not subject and not below_seq:
            self.first_seq = self.last_seq + 1
        for consumer in self.consumers.values():
            consumer.purged(found, subject)
        return len(found)

    def restarted(self) -> None:
        """Know again which messages are duplicates: what is stored still says so."""
        self._ids = {(message.headers or {})["Nats-Msg-Id"]: (message.seq, message.at_ns) for message in self.messages.values() if _has_id(message)}

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def last(self, subject: str) -> Message | None:
        """Return the newest message of a subject or pattern."""
        if is_literal(subject):
            found = self.by_subject.get(subject)
            return self.messages[found[-1]] if found else None
        wanted = Filter([subject])
        seqs = [found[-1] for name, found in self.by_subject.items() if wanted.takes(name)]
        return self.messages[max(seqs)] if seqs else None

    def next(self, subject: str, seq: int) -> Message | None:
        """Return the first message of a subject or pattern at `seq` or later."""
        if is_literal(subject):
            found = self.by_subject.get(subject, [])
            at = bisect_left(found, seq)
            return self.messages[found[at]] if at < len(found) else None
        return next(self.matching(Filter([subject]), seq), None)

    def matching(self, wanted: Filter, seq: int) -> Iterator[Message]:
        """Yield the messages from `seq` on."""
        for at in range(max(seq, self.first_seq), self.last_seq + 1):
            message = self.messages.get(at)
            if message is not None and wanted.takes(message.subject):
                yield message

    def count(self, wanted: Filter, seq: int) -> int:
        """Return how many messages there are from `seq` on."""
        if not wanted.patterns and seq <= self.first_seq:
            return len(self.messages)
        return sum(1 for _ in self.matching(wanted, seq))
