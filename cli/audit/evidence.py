"""Evidence: what independent parties wrote down of the same run, as values in memory. Pure.

Every part is optional: None means that nobody wrote it down, and the verdict then says what could not be checked; an
empty list means that there was nothing. `cli.audit.folder` reads it from files (`docs/evidence.md`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Literal, NamedTuple

from msgspec import Struct

Outcome = Literal["ok", "refused", "unknown", "not-sent"]


class Stored(NamedTuple):
    """A message as a stream holds it. `stored_at_s` is the time at which the stream stored it, in seconds since 1970."""

    seq: int
    subject: str
    stored_at_s: float
    data: bytes


class Answer(Struct, frozen=True):
    """What a client was told: the fields of a receipt that are checked. `position` is `seq.row`."""

    action: str
    status: str
    project: str
    idempotency_key: str
    requested_by: str = ""
    type: str = ""
    duplicate: bool = False
    position: str | None = None
    reason_code: str | None = None
    orchestration: str | None = None


class Call(Struct, frozen=True, omit_defaults=True):
    """A command as its client saw it.

    Times are seconds of the client's monotonic clock, the one that the faults are timed with. `outcome` is `ok` or
    `refused` with a receipt, `unknown` when no answer came, `not-sent` when it is certain that nothing was published.
    `principal` is who the connection was authenticated as, where the client knows; `body` the command's, as JSON.
    """

    client: str
    at_s: float
    call_id: str
    project: str
    verb: str
    key: str
    outcome: Outcome
    done_at_s: float | None = None
    principal: str | None = None
    body_hash: str | None = None
    body: Any = None
    receipt: Answer | None = None
    dry_run: bool = False


class Witnessed(Struct, frozen=True, omit_defaults=True):
    """A line that the agent itself wrote. `at` is its wall clock: seconds since 1970, or RFC 3339.

    `text_hash` is the hex SHA-256 of `subject`, a line feed and `description` of the task that it was told to do.
    """

    at: float | datetime
    orchestration: str
    run: str
    attempt: int
    event: Literal["start", "end"]
    project: str = ""
    node: str | None = None
    nonce: str | None = None
    pid: int | None = None
    exit: int | None = None
    task: str | None = None
    text_hash: str | None = None

    @property
    def at_s(self) -> float:
        """Seconds since 1970."""
        return self.at.timestamp() if isinstance(self.at, datetime) else self.at


class Fault(Struct, frozen=True, omit_defaults=True):
    """A fault that was injected, and when it was healed; both on the clients' monotonic clock. `kind` is its class."""

    at_s: float
    kind: str
    target: str = ""
    healed_at_s: float | None = None


class Survivor(Struct, frozen=True, omit_defaults=True):
    """A process of an agent that still runs although nothing is to run any more."""

    pid: int
    name: str = ""
    run: str | None = None
    attempt: int | None = None
    state: str | None = None


class TimelineRow(Struct, frozen=True, omit_defaults=True):
    """A row of the timeline's `events` table: its position, and what it says the row is."""

    seq: int
    idx: int
    project: str
    type: str
    orchestration: str | None = None
    run: str | None = None
    attempt: int | None = None
    action: str | None = None


class RepositoryState(Struct, frozen=True, omit_defaults=True):
    """What a user's repository held: refs with their commits, HEAD, the index's hash, and the hash of each file that is not as committed."""

    refs: dict[str, str] = {}
    head: str = ""
    index: str = ""
    files: dict[str, str] = {}


class Repository(Struct, frozen=True):
    """A user's repository before and after."""

    path: str
    before: RepositoryState
    after: RepositoryState


class Attempt(NamedTuple):
    """An attempt as a journal names it."""

    run: str
    attempt: int
    nonce: str


class JournalOrder(Struct, frozen=True):
    """The part of a work order that is checked."""

    run: str
    attempt: int
    nonce: str
    node: str


class JournalEnd(Struct, frozen=True):
    """The part of an end report that is checked."""

    outcome: str
    process_started: bool = True


class JournalLine(Struct, frozen=True, omit_defaults=True):
    """A line of a node's journal: `type` is taken, dropped, spawning, spawned, stop, finished or delivered."""

    type: str
    key: Attempt | None = None
    order: JournalOrder | None = None
    ended: JournalEnd | None = None

    @property
    def attempt(self) -> Attempt | None:
        """The attempt that it is about."""
        if self.key is not None or self.order is None:
            return self.key
        return Attempt(self.order.run, self.order.attempt, self.order.nonce)


class Journal(NamedTuple):
    """One life of a node's journal, from one rewriting to the next."""

    node: str
    lines: tuple[JournalLine, ...]


class Circumstances(Struct, frozen=True, omit_defaults=True):
    """What has to be known of a run to judge it.

    `quiesced`: all faults were healed and nothing was on its way any more when the evidence was taken.
    `clients_complete`: every command that anybody sent stands in the client log.
    `clock_skew_s`: how far the wall clocks of agents and bus may differ; orders of times closer than this are not judged.
    `recovery_bounds_s`: the longest time from the heal of a fault of a class to the first answer.
    """

    quiesced: bool = False
    clients_complete: bool = False
    clock_skew_s: float = 0.0
    recovery_bounds_s: dict[str, float] = {}


class Evidence(NamedTuple):
    """All evidence of a run. The streams may be read once, from front to back; the rest is in memory."""

    ledger: Iterable[Stored] | None = None
    reports: Iterable[Stored] | None = None
    commands: Iterable[Stored] | None = None
    dead_letters: Iterable[Stored] | None = None
    calls: Iterable[Call] | None = None
    witness: Iterable[Witnessed] | None = None
    journals: Iterable[Journal] | None = None
    faults: Iterable[Fault] | None = None
    survivors: Iterable[Survivor] | None = None
    timeline: Iterable[TimelineRow] | None = None
    repositories: Iterable[Repository] | None = None
    canaries: tuple[str, ...] | None = None
    sinks: Mapping[str, bytes] | None = None
    """Other places where no secret may stand, by name: logs, pages, answers."""
    circumstances: Circumstances = Circumstances()
