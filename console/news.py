"""News: what the ledger says has changed, as topics that pages care about.

Owns the following of the LEDGER stream from now on. A topic is an orchestration, a project, `nodes`, `flags` or `catalogue:<project>`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import aclosing

import anyio

from bus.connection import ApiFailure, Bus
from bus.errors import Unavailable
from bus.reader import Reader, stream_state
from bus_schemas import codec, subjects
from bus_schemas import events as e
from bus_schemas.decisions import LedgerMessage

log = logging.getLogger(__name__)

RETRY_S = 0.5
ANY = "any"
"""The topic of everything."""
NODES, FLAGS = "nodes", "flags"

Listener = Callable[[int, frozenset[str]], None]


class News:
    """The newest place of the ledger, and who is told what changed there."""

    def __init__(self, bus: Bus) -> None:
        """Nothing is known yet."""
        self._bus = bus
        self.seq = 0
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        """Tell `listener` of each message: its sequence and its topics. It must not raise and not wait."""
        self._listeners.append(listener)

    @property
    def is_connected(self) -> bool:
        """Whether news can come right now."""
        return self._bus.is_connected

    async def follow(self) -> None:
        """Follow the ledger for ever."""
        while True:
            try:
                self.seq = max(self.seq, (await stream_state(self._bus, subjects.LEDGER)).last_seq)
                break
            except (Unavailable, ApiFailure):
                await anyio.sleep(RETRY_S)
        async with aclosing(Reader(self._bus, subjects.LEDGER, ("qd.ledger.*",), self.seq + 1).batches()) as batches:
            async for batch in batches:
                for stored in batch:
                    self.seq = stored.seq
                    self.tell(stored.seq, topics_of(stored.data))

    def tell(self, seq: int, topics: frozenset[str]) -> None:
        """Tell all who listen that the message at `seq` is about `topics`."""
        for listener in self._listeners:
            listener(seq, topics)


def topics_of(data: bytes) -> frozenset[str]:
    """Return what a stored message is news about; one that cannot be read here may be about anything."""
    try:
        return topics(codec.decode_ledger(data))
    except codec.Malformed as error:
        log.warning("a ledger message cannot be read here: %s", error)
        return frozenset({ANY})


def topics(message: LedgerMessage) -> frozenset[str]:
    """Return what a message is news about."""
    found = {ANY, message.project}
    for decision in message.decisions:
        if decision.action is not None and decision.action.orchestration is not None:
            found.add(decision.action.orchestration)
        for event in decision.events:
            orchestration = getattr(event, "orchestration", None)
            if orchestration is not None:
                found.add(orchestration)
            match event:
                case e.NodeRegistered() | e.NodeCordonChanged():
                    found.add(NODES)
                case e.FlagChanged():
                    found.add(FLAGS)
                case _:
                    pass
    return frozenset(found)
