"""Alarms: the ways in which a ledger is not what was read of it, each with project, sequence, hashes and what to do. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bus_schemas.events import RecordedHead
from bus_schemas.views import AlarmView

KEEP = (
    "Leave the ledger as it is and run `qd audit verify`; then compare it with a backup or an export."
    " To take the ledger as it stands now, stop the timeline and remove its file: it is made again."
)
NAMED_MAX = 5


def alarm(
    kind: str, text: str, *, project: str | None = None, seq: int | None = None, expected: str | None = None, found: str | None = None
) -> AlarmView:
    """Return an alarm with what to do about it. `expected` and `found` are hashes of the stored body."""
    return AlarmView(kind, text, KEEP, project, seq, expected, found)


def with_lost(rewound: AlarmView, lost: Sequence[RecordedHead]) -> AlarmView:
    """Return the alarm of a lost tail with the projects whose newest messages are gone, newest first."""
    if not lost:
        return rewound
    names = ", ".join(f"{head.project} {head.seq}" for head in lost[:NAMED_MAX]) + (", ..." if len(lost) > NAMED_MAX else "")
    newest = lost[0]
    text = f"{rewound.text}; the newest messages of {len(lost)} projects are gone: {names}"
    return alarm(rewound.kind, text, project=newest.project, seq=newest.seq, expected=newest.sha256)


def of_head(noted: RecordedHead, by: str, found_seq: int, found_sha256: str | None) -> AlarmView:
    """Return the alarm of a head that the ledger does not have: it ends before it, has no such message, or another one."""
    where = f"project {noted.project}: ledger message {noted.seq}, {by} with the hash {noted.sha256}"
    if found_sha256 is None:
        text = f"{where}, is not there; the newest before it is {found_seq}: acknowledged decisions are missing"
    else:
        text = f"{where}, has the hash {found_sha256}: it was changed"
    kind = "lost-tail" if found_sha256 is None else "changed"
    return alarm(kind, text, project=noted.project, seq=noted.seq, expected=noted.sha256, found=found_sha256)


def of_recorded(recorded: RecordedHead, head: tuple[int, str], seen: Mapping[tuple[str, int], str]) -> AlarmView | None:
    """Return the alarm of a head that `plane` recorded, or None where the ledger has it as far as one can see.

    `head` is the project's newest message before the record, `seen` are hashes of messages read just now.
    """
    seq, sha256 = head
    found = sha256 if seq == recorded.seq else seen.get((recorded.project, recorded.seq))
    if found is None and seq > recorded.seq:
        return None  # read long ago, in the middle of a chain that holds
    return None if found == recorded.sha256 else of_head(recorded, "recorded in `plane`", seq, found)
