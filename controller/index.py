"""The index: what a controller writes behind into its file, and what may leave the memory once it is there.

Owns what is not written yet. The hot path never waits for it: a piece is handed to a thread that encodes and writes it, and what
ended in it leaves the memory after that. A batch may be under way on an older state and would bring such things back, so they
are taken out again of the states that land after.
"""

from __future__ import annotations

import logging
import sqlite3
import sys
from pathlib import Path
from typing import NamedTuple

import anyio
import anyio.to_thread

from bus_schemas.decisions import LedgerMessage
from controller import index_changes, shelf_slot
from controller.idempotency import Known
from controller.index_changes import Ended
from controller.project import Aggregate
from controller.shelf import Place, Shelf
from controller.shelf_writer import Piece, ShelfWriter

log = logging.getLogger(__name__)

WRITE_EVERY_S = 0.5
DECISIONS_MAX = 10_000
"""Not written; more are written at once, and a fold waits for it, so that a long one does not fill the memory."""
SWITCH_EVERY_S = 0.0005
LANDINGS = 3
"""A batch in flight, the one being made on it, and the one after: then nothing is built on what was before."""


class _Leaving(NamedTuple):
    """What left the memory, and the landing after which no state can bring it back."""

    until: int
    ended: Ended


class Index:
    """What is not written yet, and the file."""

    def __init__(self, shelf: Shelf) -> None:
        """Write to `shelf`."""
        self.shelf = shelf
        self.created = ""
        self.deciding = False
        """Whether batches may be under way on older states."""
        self.arrived = anyio.Event()
        self._writer = ShelfWriter(shelf)
        self._messages: list[LedgerMessage] = []
        self._decisions = 0
        self._landings: dict[str, int] = {}
        self._leaving: dict[str, list[_Leaving]] = {}
        self._guests: dict[str, Ended] = {}

    @classmethod
    def open(cls, data: Path | None, owner: str) -> Index | None:
        """Return the index of a controller that may use the folder `data`; None: without one everything stays in memory."""
        shelf = None if data is None else shelf_slot.open_shelf(data, owner)
        if shelf is None:
            return None
        # the event loop is not to wait the usual 5 ms for a writing thread that encodes
        sys.setswitchinterval(SWITCH_EVERY_S)
        return cls(shelf)

    def replace_shelf(self, why: str) -> None:
        """Begin a new file; the one that is there is of no use."""
        self.shelf = shelf_slot.reopened(self.shelf, why)
        self._writer = ShelfWriter(self.shelf)

    def close(self) -> None:
        """Close the file; one that could not be read is moved aside, so that the next start does without it."""
        self.shelf.close()
        if self.shelf.failed is not None:
            shelf_slot.set_aside(self.shelf.path, self.shelf.failed)

    def find_key(self, digest: bytes) -> Known | None:
        """Return what a key was used for, as the file has it, or None. Raises Unusable."""
        return self.shelf.find_key(digest)

    # ── what changes ─────────────────────────────────────────────────────────────────────────────────────────────────

    def note(self, message: LedgerMessage) -> None:
        """Take in a message that was just folded."""
        self._messages.append(message)
        self._decisions += len(message.decisions)
        self._landings[message.project] = self._landings.get(message.project, 0) + 1
        if self.is_full:
            self.arrived.set()

    @property
    def is_full(self) -> bool:
        """Whether so much is not written yet that it should be, before more comes."""
        return self._decisions >= DECISIONS_MAX

    async def write(self, states: dict[str, Aggregate], keys: dict[bytes, Known], place: Place) -> bool:
        """Write what was noted, and forget in `states` what ended in it; return whether that went well. One call at a time."""
        messages, self._messages, self._decisions = self._messages, [], 0
        guests, self._guests = self._guests, {}
        if messages:
            piece = Piece(messages, dict(states), keys, place)
            try:
                # not to be cancelled before it begins: what was taken out above would be missing from the file for good
                with anyio.CancelScope(shield=True):
                    ended = await anyio.to_thread.run_sync(self._writer.write, piece)
            except sqlite3.Error as error:
                log.error("the index %s cannot be written, and memory grows: %s", self.shelf.path, error)
                self._messages, self._decisions = messages + self._messages, self._decisions + sum(len(message.decisions) for message in messages)
                self._guests = guests
                return False
            self._forget(states, ended)
        self._forget(states, guests)
        return True

    # ── what leaves the memory ───────────────────────────────────────────────────────────────────────────────────────

    def _forget(self, states: dict[str, Aggregate], ended: dict[str, Ended]) -> None:
        for project, gone in ended.items():
            if not gone.orchestrations and not gone.receipts:
                continue
            states[project] = index_changes.forgetting(states[project], gone)
            if self.deciding:
                self._leaving.setdefault(project, []).append(_Leaving(self._landings.get(project, 0) + LANDINGS, gone))

    def cleared(self, state: Aggregate) -> Aggregate:
        """Return a state that was built on an older one, without what has left the memory since."""
        leaving = self._leaving.get(state.project)
        if not leaving:
            return state
        for entry in leaving:
            state = index_changes.forgetting(state, entry.ended)
        landings = self._landings.get(state.project, 0)
        self._leaving[state.project] = [entry for entry in leaving if entry.until >= landings]
        return state

    def stop_deciding(self) -> None:
        """No batch is under way any more."""
        self.deciding = False
        self._leaving.clear()

    # ── what comes back ──────────────────────────────────────────────────────────────────────────────────────────────

    def _guests_of(self, project: str) -> Ended:
        return self._guests.setdefault(project, Ended({}, {}))

    def with_orchestration(self, state: Aggregate, name: str) -> Aggregate:
        """Return the state with an orchestration that has left the memory, if there is one of this name. Raises Unusable."""
        if name in state.orchestrations:
            return state
        guests = self._guests_of(state.project).orchestrations
        o = guests.get(name) or self.shelf.orchestration(name)
        if o is None or o.project != state.project:
            return state
        guests[name] = o
        return index_changes.remembering(state, o)

    def with_all_of(self, state: Aggregate, message: LedgerMessage) -> Aggregate:
        """Return the state with everything that has left the memory and that a message changes. Raises Unusable."""
        orchestrations, actions = index_changes.named_in(state, message)
        for name in orchestrations:
            state = self.with_orchestration(state, name)
        for name in actions:
            found = self.shelf.receipt(name)
            if found is not None:
                self._guests_of(state.project).receipts[name] = found[0]
                state = index_changes.remembering_action(state, *found)
        return state
