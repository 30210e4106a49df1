"""Attempts as a node knows them: the entries of its journal, and the book they fold to. Pure.

An attempt is *taken* (its order and the claim it will be started under are on disk before the claim is published), then
either *dropped* (somebody else has the claim) or run: *spawning* before its process is started, *spawned* with the
process's identity, *finished* with its whole end report, *delivered* when the bus has that report.

Taken and never spawning means: nothing was started, so it may be run from the beginning, under the same claim. Spawning
means: never start it again, find its process or call it lost.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from bus_schemas.orders import StopOrder, WorkOrder
from bus_schemas.reports import Ended

DONE_MAX = 10_000
"""Attempts that are remembered after their end, so that an order which comes again is known."""

STOPS_MAX = 1000
"""Stop orders kept for attempts that have not arrived."""


class Key(NamedTuple):
    """An attempt: the nonce is part of it, since the controller may order the same number anew."""

    run: str
    attempt: int
    nonce: str


class ProcessId(Struct, frozen=True):
    """A process for good: a pid is used again, a pid with its start time (ticks after the kernel's boot) is not."""

    pid: int
    start_ticks: int
    kernel_boot: str


class StoppedBy(StrEnum):
    """Why a shim stopped its run."""

    REQUEST = "request"
    TIMEOUT = "timeout"
    IDLE = "idle"


class Exit(Struct, frozen=True):
    """What a shim says at the end. `spawn_errno` is set when the program could not be started; `signal` ended the agent.

    `stopped_by` is None when it ended by itself.
    """

    spawned: bool
    exit_code: int | None = None
    signal: int | None = None
    spawn_errno: int | None = None
    spawn_error: str = ""
    stopped_by: StoppedBy | None = None
    output_bytes: int = 0
    duration_ms: float = 0.0
    survivors: int = 0
    containment: str = ""


class Taken(Struct, frozen=True, tag="taken"):
    """An order has arrived and is going to be claimed under `claim`."""

    order: WorkOrder
    claim: str
    at: datetime


class Dropped(Struct, frozen=True, tag="dropped"):
    """Somebody else has the claim."""

    key: Key


class Spawning(Struct, frozen=True, tag="spawning"):
    """The process is about to be started on commit `head`."""

    key: Key
    head: str | None
    at: datetime


class Spawned(Struct, frozen=True, tag="spawned"):
    """The shim runs."""

    key: Key
    process: ProcessId


class StopAsked(Struct, frozen=True, tag="stop"):
    """The controller wants the attempt stopped, whether it is here or not."""

    key: Key
    reason_code: str


class Finished(Struct, frozen=True, tag="finished"):
    """The attempt ended; the report is not on the bus yet."""

    key: Key
    ended: Ended


class Delivered(Struct, frozen=True, tag="delivered"):
    """The bus has the end report."""

    key: Key


Entry = Taken | Dropped | Spawning | Spawned | StopAsked | Finished | Delivered


class Held(Struct, frozen=True):
    """An attempt in hand."""

    taken: Taken
    spawning: Spawning | None = None
    process: ProcessId | None = None
    ended: Ended | None = None

    @property
    def order(self) -> WorkOrder:
        """What is to be done."""
        return self.taken.order

    @property
    def key(self) -> Key:
        """Which attempt it is."""
        return key_of(self.taken.order)


def key_of(order: WorkOrder | StopOrder) -> Key:
    """Return the attempt that an order is about."""
    return Key(order.run, order.attempt, order.nonce)


class Book:
    """The fold of a journal: attempts in hand, attempts that are over, and stops for attempts in hand or unknown."""

    def __init__(self) -> None:
        """Start empty."""
        self.open: dict[Key, Held] = {}
        self.done: dict[Key, None] = {}
        self.stops: dict[Key, str] = {}

    def apply(self, entry: Entry) -> None:
        """Take an entry; one about an attempt that is not in hand changes nothing."""
        match entry:
            case Taken():
                key = key_of(entry.order)
                if key not in self.done:
                    self.open.setdefault(key, Held(entry))
            case Spawning(key=key):
                self._change(key, spawning=entry)
            case Spawned(key=key, process=process):
                self._change(key, process=process)
            case Finished(key=key, ended=ended):
                self._change(key, ended=ended)
            case StopAsked(key=key, reason_code=reason):
                if key not in self.done:
                    self.stops.setdefault(key, reason)
                    _bound(self.stops, STOPS_MAX)
            case Dropped(key=key) | Delivered(key=key):
                self.open.pop(key, None)
                self.stops.pop(key, None)
                self.done[key] = None
                _bound(self.done, DONE_MAX)

    def knows(self, key: Key) -> bool:
        """Return whether the attempt is in hand or over."""
        return key in self.open or key in self.done

    def entries(self) -> list[Entry]:
        """Return the shortest journal that folds to this book."""
        found: list[Entry] = [Delivered(key) for key in self.done]
        for key, held in self.open.items():
            found.append(held.taken)
            if held.spawning is not None:
                found.append(held.spawning)
            if held.process is not None:
                found.append(Spawned(key, held.process))
            if held.ended is not None:
                found.append(Finished(key, held.ended))
        found += [StopAsked(key, reason) for key, reason in self.stops.items()]
        return found

    def _change(self, key: Key, **changes: object) -> None:
        held = self.open.get(key)
        if held is not None:
            self.open[key] = replace(held, **changes)


def _bound(kept: dict[Key, Any], most: int) -> None:
    while len(kept) > most:
        del kept[next(iter(kept))]
