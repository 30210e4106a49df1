"""Heads in `plane`: what the registry writes down of every other ledger, and what it misses there later. Pure.

A project's chain of hashes shows that nothing in its middle was changed; it cannot show that its end is gone. So the
registry records, about once a minute, the newest message of each project that went on. A ledger that does not reach a
recorded head any more, or holds another message there, has lost or changed what was acknowledged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

from bus_schemas.decisions import Decision, TimerCause
from bus_schemas.events import HeadsRecorded, RecordedHead
from bus_schemas.ids import PLANE
from controller.project import Aggregate

TIMER = "heads"
EVERY_S = 60.0
HEADS_MAX = 1000
"""In one event: about 130 KiB, so that a decision stays well below what one ledger message may hold."""

Heads = Mapping[str, tuple[int, str]]
"""The newest message of each project: its sequence and the SHA-256 of its body."""


def _changed(recorded: Mapping[str, RecordedHead], heads: Heads) -> Iterator[str]:
    """Yield the projects that went on since the record. One that is behind it did not: its record is what shows the loss."""
    for project, (seq, _) in heads.items():
        known = recorded.get(project)
        if project != PLANE and (known is None or seq > known.seq):
            yield project


def pages(recorded: Mapping[str, RecordedHead], heads: Heads) -> int:
    """Return how many decisions it takes to record what changed; 0 when nothing did."""
    return -(-sum(1 for _ in _changed(recorded, heads)) // HEADS_MAX)


def decide_heads(plane: Aggregate, heads: Heads, now: datetime) -> Decision | None:
    """Return the decision that records the first `HEADS_MAX` changed heads by name, or None when nothing changed."""
    changed = sorted(_changed(plane.heads, heads))[:HEADS_MAX]
    if not changed:
        return None
    found = tuple(RecordedHead(project, *heads[project]) for project in changed)
    at = now if plane.at is None else max(now, plane.at)
    return Decision(at=at, cause=TimerCause(TIMER), events=(HeadsRecorded(found),))


def lost(recorded: Mapping[str, RecordedHead], heads: Heads) -> dict[str, str]:
    """Return for each project whose ledger is not what was recorded of it what was expected, what was found, and what to do."""
    wrong: dict[str, str] = {}
    for project, known in recorded.items():
        seq, sha256 = heads.get(project, (0, ""))
        if seq < known.seq:
            end = f"the ledger of {project} ends at {seq}" if seq else f"there is no ledger of {project}"
            found = f"{end}: acknowledged decisions are missing"
        elif seq == known.seq and sha256 != known.sha256:
            found = f"the message there has {sha256}: it was changed"
        else:
            continue
        wrong[project] = f"`plane` recorded message {known.seq} with the hash {known.sha256}; {found}. `qd audit verify` says what else is wrong"
    return wrong
