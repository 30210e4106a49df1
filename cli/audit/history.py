"""History: one pass over the ledger, sorted into the lists that the checks read. Pure.

A history is fed message by message, so that a live stream can be judged without being kept. Bodies of messages are not
kept; what is kept is one small tuple for each decision and each event.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import msgspec

from cli.audit import facts as f
from cli.audit.deeds import CommandCause, Deed, Undecodable, place_of, read, seq_of
from cli.audit.evidence import Stored

Fact = tuple[int, Deed, Any]
"""An event: its place, the decision it belongs to, and one of `facts.Event`. The checks ask for its type by `is`, which is
faster than anything that narrows a type, and there are millions."""

_RUNS = (f.RunQueued, f.RunDispatched, f.RunStarted, f.RunWithdrawn, f.RunEnded, f.ReportStale)
_ENDS = (f.ActionOpened, f.ActionCompleted, f.ActionFailed)
_WITH_POLICY = frozenset({f.OrchestrationLaunched, f.PolicyChanged})


class Message(NamedTuple):
    """A ledger message without its decisions. `rows` counts its actions and events."""

    seq: int
    subject: str
    project: str
    batch: str
    prev: str
    sha256: str
    plane_seq: int
    rows: int


class Judged(NamedTuple):
    """A decision with the place of its first row and the ledger it stands in."""

    place: int
    project: str
    deed: Deed


_new = tuple.__new__  # half the time of calling a named tuple, and there are very many


class History:
    """What the ledger says, in lists by what it is about; all in the order of the ledger."""

    def __init__(self, stored: Iterable[Stored] = (), needles: tuple[bytes, ...] = ()) -> None:
        """Take the messages of `stored`, and note which of them hold one of `needles`."""
        self.leaks: list[tuple[int, bytes]] = []
        self.messages: list[Message] = []
        self.undecodable: list[tuple[int, str, str]] = []
        self.judged: list[Judged] = []
        self.commands: list[Judged] = []
        self.flow: list[Fact] = []
        self.runs: list[Fact] = []
        self.ends: list[Fact] = []
        self.catalogue: list[Fact] = []
        self.unknown = 0
        self.events = 0
        self.stored_at_s: dict[int, float] = {}
        self._needles = needles
        self._routes = _routes(self)
        self._bodies: dict[bytes, msgspec.Raw] = {}
        for one in stored:
            self.take(one)

    def take(self, stored: Stored) -> None:
        """Take the next message."""
        self.stored_at_s[stored.seq] = stored.stored_at_s
        self.leaks += [(stored.seq, needle) for needle in self._needles if needle in stored.data]
        try:
            said = read(stored.data)
        except Undecodable as error:
            self.undecodable.append((stored.seq, stored.subject, str(error)))
            return
        first = row = place_of(stored.seq, 0)
        for deed in said.deeds:
            judged = _new(Judged, (row, said.project, deed))
            self.judged.append(judged)
            if deed.action is not None:
                row += 1
            if type(deed.cause) is CommandCause:
                deed.cause.body = self._kept(deed.cause.body)
                self.commands.append(judged)
            for event in deed.events:
                kind = type(event)
                if kind in _WITH_POLICY:
                    event.policy = self._kept(event.policy)
                fact = (row, deed, event)
                for append in self._routes.get(kind, ()):
                    append(fact)
                row += 1
            self.events += len(deed.events)
        sha256 = hashlib.sha256(stored.data).hexdigest()
        self.messages.append(Message(stored.seq, stored.subject, said.project, said.batch, said.prev, sha256, said.plane_seq, row - first))

    def _kept(self, raw: msgspec.Raw) -> msgspec.Raw:
        """Return the same bytes, without the message that they are a part of."""
        data = bytes(raw)
        return self._bodies.setdefault(data, msgspec.Raw(data))

    def count_unknown(self, _: Fact) -> None:
        """Count an event of a type that is not known."""
        self.unknown += 1

    def time_of(self, place: int) -> float:
        """Return when the stream stored the message of a place, in seconds since 1970."""
        return self.stored_at_s[seq_of(place)]


def _routes(history: History) -> dict[type, tuple[Callable[[Fact], None], ...]]:
    """Return for each type of event how it is put into the lists that want it."""
    found: dict[type, tuple[Callable[[Fact], None], ...]] = {f.Unknown: (history.count_unknown,)}
    for kind in f.NAMES:
        if kind in _RUNS:
            found[kind] = (history.flow.append, history.runs.append)
        elif kind is f.ActionOpened:
            found[kind] = (history.flow.append, history.ends.append)
        elif kind in _ENDS:
            found[kind] = (history.ends.append,)
        elif kind in f.OF_ORCHESTRATION:
            found[kind] = (history.flow.append,)
        else:
            found[kind] = (history.catalogue.append,)
    return found
