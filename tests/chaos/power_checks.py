"""What must be true of a disk after the power came back: read from the streams, the journal and git, not asked of the product.

Reads only. Each check returns what is wrong, in words; nothing wrong is an empty list.
"""

from __future__ import annotations

import subprocess
from collections import Counter
from contextlib import aclosing
from pathlib import Path

import msgspec
from msgspec import Struct

from bus.connection import ApiFailure, Bus
from bus.reader import Reader, stream_state
from bus_schemas import codec, subjects
from bus_schemas.decisions import CommandCause, Decision
from bus_schemas.reasons import Reason
from bus_schemas.reports import Ended, Report, Withdrawn
from node_agent.attempt import Book, Entry
from tests.chaos.power_load import Asked
from tests.chaos.power_plane import NODE

SHOWN_MAX = 5

_entry = msgspec.json.Decoder(Entry)


class Found(Struct):
    """What a disk holds: the actions that each key was decided as, and the reports, by (run, attempt, nonce, kind)."""

    decided: dict[tuple[str, str], list[str]]
    reports: dict[tuple[str, int, str, str], Report]


async def found_on(bus: Bus) -> Found:
    """Read the ledger and the reports from the streams themselves; a stream that is gone holds nothing."""
    decided: dict[tuple[str, str], list[str]] = {}
    for decision in await _decisions(bus):
        # the same key with another body is refused each time, which leaves the key with its first decision
        if isinstance(decision.cause, CommandCause) and decision.action is not None and decision.action.reason_code != Reason.IDEMPOTENCY_MISMATCH:
            decided.setdefault((decision.cause.project, decision.cause.key), []).append(decision.action.id)
    return Found(decided, await _reports(bus))


async def _decisions(bus: Bus) -> list[Decision]:
    found: list[Decision] = []
    try:
        last = (await stream_state(bus, subjects.LEDGER)).last_seq
    except ApiFailure:
        return found
    if last:
        async with aclosing(Reader(bus, subjects.LEDGER, ("qd.ledger.*",), 1).batches()) as batches:
            async for batch in batches:
                for stored in batch:
                    found.extend(codec.decode_ledger(stored.data).decisions)
                if batch[-1].seq >= last:
                    break
    return found


async def _reports(bus: Bus) -> dict[tuple[str, int, str, str], Report]:
    try:
        last = (await stream_state(bus, subjects.REP)).last_seq
    except ApiFailure:
        return {}
    found: dict[tuple[str, int, str, str], Report] = {}
    if last:
        async with aclosing(Reader(bus, subjects.REP, (f"qd.rep.{NODE}.>",), 1).batches()) as batches:
            async for batch in batches:
                for stored in batch:
                    name = subjects.parse_report(stored.subject)
                    found[name.run, name.attempt, name.nonce, name.kind] = codec.decode_report(stored.data)
                if batch[-1].seq >= last:
                    break
    return found


def lost_receipts(acknowledged: list[Asked], found: Found) -> list[str]:
    """Return the commands whose receipt a client holds and whose decision is not in the ledger as it said."""
    lost: list[str] = []
    for asked in acknowledged:
        assert asked.receipt is not None
        actions = found.decided.get((asked.receipt.project, asked.key), [])
        if asked.receipt.action not in actions:
            lost.append(f"{asked.key}: a receipt says {asked.receipt.action}, the ledger has {actions}")
    return lost


def decided_twice(found: Found) -> list[str]:
    """Return the keys that were decided more than once."""
    return [f"{key} was decided as {actions}" for key, actions in found.decided.items() if len(actions) > 1]


def read_journal(path: Path) -> Book:
    """Fold a journal as it stands on the disk; the last line may be torn, no other may."""
    book = Book()
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    for number, line in enumerate(lines, 1):
        try:
            if line:
                book.apply(_entry.decode(line))
        except msgspec.MsgspecError:
            assert number == len(lines), f"{path}, line {number} of {len(lines)}: {line[:80]!r}"
    return book


def lost_reports(book: Book, before: Found, found: Found) -> list[str]:
    """Return the ends that the node's journal takes for delivered, and the reports seen before the cut, that are not there."""
    lost = [f"report {name} was there before the cut" for name in before.reports if name not in found.reports]
    for key in book.done:
        claim = found.reports.get((*key, "started"))
        if claim is None or (not isinstance(claim, Withdrawn) and (*key, "ended") not in found.reports):
            lost.append(f"the journal says that the end of {key.run}.{key.attempt} was delivered")
    return lost


def broken_repository(repo: Path, found: Found) -> list[str]:
    """Return what the project's repository misses: commits of end reports that no ref keeps, and damaged objects."""
    heads = {report.head: name for name, report in found.reports.items() if isinstance(report, Ended) and report.head}
    listed = _git(repo, "rev-list", "--all")
    kept = set(listed.stdout.split())
    wrong = [f"the end of {name[0]}.{name[1]} names commit {head[:12]}, which no ref keeps" for head, name in heads.items() if head not in kept]
    checked = _git(repo, "fsck", "--full", "--no-dangling", "--no-progress")
    if listed.returncode or checked.returncode:
        wrong += [f"git: {line}" for line in (listed.stderr + checked.stdout + checked.stderr).splitlines()[:SHOWN_MAX]]
    return wrong


def started_twice(witness: Path) -> list[str]:
    """Return the attempts whose agent wrote into the witness more than once."""
    return [f"{attempt} was started {count} times" for attempt, count in Counter(witness.read_text().split()).items() if count > 1]


def _git(repo: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", "-c", "safe.directory=*", *arguments], cwd=repo, capture_output=True, text=True, check=False)
