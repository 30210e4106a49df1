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

_RUNS = frozenset({f.RunQueued, f.RunDispatched, f.RunStarted, f.RunWithdrawn, f.RunEnded, f.ReportStale})
_ENDS = frozenset({f.ActionOpened, f.ActionCompleted, f.ActionFailed})
_HOLDS = frozenset({f.OrchestrationMoved, f.HoldSet, f.HoldCleared})
_PLANS = frozenset({f.PhasePlanned, f.TaskMoved, f.TaskEdited, f.TaskInserted, f.RepairStarted})
_DESIGNS = frozenset({f.DesignAdded, f.DesignEdited, f.DesignMarked, f.DesignMoved})
_POLICIES = frozenset({f.OrchestrationLaunched, f.PolicyChanged})


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
        """All of orchestrations."""
        self.runs: list[Fact] = []
        """What happened to attempts."""
        self.work: list[Fact] = []
        """What happened to attempts, and what says whether and where they run: launches, nodes, moves and holds."""
        self.standing: list[Fact] = []
        """How orchestrations stand: launches, moves, holds and gates."""
        self.phases: list[Fact] = []
        """Launches, moves of orchestrations and of their phases."""
        self.plans: list[Fact] = []
        """Plans, tasks and repairs; the attempts that were queued for them, and the policies in force."""
        self.policies: list[Fact] = []
        """Launches and changes of policies."""
        self.designs: list[Fact] = []
        """Designs, and the launches of them."""
        self.numbered: list[Fact] = []
        """What takes a number: launches, designs, tickets and runs."""
        self.ends: list[Fact] = []
        """What was opened, completed and failed of actions."""
        self.catalogue: list[Fact] = []
        """What is of no orchestration, and of no action."""
        self.strange: list[Fact] = []
        """Events of types that are not known."""
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
        project, routes, add = said.project, self._routes, self.judged.append
        for deed in said.deeds:
            judged = _new(Judged, (row, project, deed))
            add(judged)
            if deed.action is not None:
                row += 1
            if type(deed.cause) is CommandCause:
                deed.cause.body = self._kept(deed.cause.body)
                self.commands.append(judged)
            for event in deed.events:
                kind = type(event)
                if kind in _POLICIES:
                    event.policy = self._kept(event.policy)
                fact = (row, deed, event)
                for append in routes[kind]:
                    append(fact)
                row += 1
            self.events += len(deed.events)
        sha256 = hashlib.sha256(stored.data).hexdigest()
        self.messages.append(Message(stored.seq, stored.subject, said.project, said.batch, said.prev, sha256, said.plane_seq, row - first))

    def _kept(self, raw: msgspec.Raw) -> msgspec.Raw:
        """Return the same bytes, without the message that they are a part of."""
        data = bytes(raw)
        return self._bodies.setdefault(data, msgspec.Raw(data))

    @property
    def unknown(self) -> int:
        """How many events are of types that are not known."""
        return len(self.strange)

    def time_of(self, place: int) -> float:
        """Return when the stream stored the message of a place, in seconds since 1970."""
        return self.stored_at_s[seq_of(place)]


def _routes(history: History) -> dict[type, tuple[Callable[[Fact], None], ...]]:
    """Return for each type of event how it is put into the lists that want it.

    A check reads the narrowest list that has all it asks for: a pass over what it does not ask for costs as much. Nothing
    here refers to the history itself, which is freed at once for that.
    """
    lists: tuple[tuple[frozenset[type], list[Fact]], ...] = (
        (f.OF_ORCHESTRATION, history.flow),
        (_RUNS, history.runs),
        (_RUNS | _HOLDS | {f.OrchestrationLaunched, f.NodeAssigned}, history.work),
        (_HOLDS | {f.OrchestrationLaunched, f.GateOpened, f.GateResolved}, history.standing),
        (frozenset({f.OrchestrationLaunched, f.OrchestrationMoved, f.PhaseMoved}), history.phases),
        (_PLANS | _POLICIES | {f.RunQueued}, history.plans),
        (_POLICIES, history.policies),
        (_DESIGNS | {f.OrchestrationLaunched}, history.designs),
        (frozenset({f.OrchestrationLaunched, f.DesignAdded, f.TicketAdded, f.RunQueued}), history.numbered),
        (_ENDS, history.ends),
        (frozenset(f.NAMES) - f.OF_ORCHESTRATION - _ENDS, history.catalogue),
        (frozenset({f.Unknown}), history.strange),
    )
    return {kind: tuple(found.append for kinds, found in lists if kind in kinds) for kind in (*f.NAMES, f.Unknown)}
