"""A batch: what is decided together and stored as one ledger message, on an overlay of the state. Nothing outside sees the
overlay before the message is stored.
"""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

import msgspec
from msgspec import Struct

from bus.pull import Delivery
from bus_schemas import codec
from bus_schemas.commands import Command, CommandEnvelope
from bus_schemas.decisions import CommandCause, Decision, Receipt, TimerCause
from bus_schemas.events import RunDispatched, RunStatus
from bus_schemas.ids import PLANE, orchestration_of
from bus_schemas.reasons import Reason
from bus_schemas.reports import Beat, Report
from bus_schemas.subjects import CommandSubject, ReportSubject
from controller import decide
from controller.draft import Context, preview, refused
from controller.heads import decide_heads
from controller.idempotency import Known
from controller.leases import Duty, decide_duty
from controller.ledger import BATCH_BYTES_MAX, BATCH_DECISIONS_MAX, Appended, Ledger
from controller.project import Aggregate, fold_decision, settled
from controller.reports import Repeated, Unbelieved, decide_report


class CommandItem(NamedTuple):
    """A command to decide."""

    delivery: Delivery
    subject: CommandSubject
    envelope: CommandEnvelope
    command: Command | codec.BadCommand
    body_hash: str


class ReportItem(NamedTuple):
    """A report to take in."""

    delivery: Delivery
    subject: ReportSubject
    report: Report


class BeatItem(NamedTuple):
    """A node that describes itself differently."""

    beat: Beat


class DutyItem(NamedTuple):
    """Something that the controller has noticed by itself."""

    duty: Duty


class HeadsItem(NamedTuple):
    """The time to record which heads have changed."""


class FirstItem(NamedTuple):
    """The duties of a controller that has just become active."""


Item = CommandItem | ReportItem | BeatItem | DutyItem | HeadsItem | FirstItem


class Answer(Struct, frozen=True):
    """What becomes of an item once its batch is stored: a receipt, an ack, a dead letter, or another lane."""

    item: Item
    receipt: Receipt | None = None
    action: str | None = None
    duplicate: bool = False
    dead_letter: str | None = None
    reroute: str | None = None


class Batch:
    """A batch being decided on an overlay of the state: nothing outside sees it before it is stored."""

    def __init__(self, ledger: Ledger, project: str, context: Context, before: Batch | None = None) -> None:
        """Start from the state as it is stored, or as it will be once `before`, which is being stored, is there."""
        self.ledger, self.project, self.context = ledger, project, context
        self.plane_seq = ledger.head(PLANE).seq
        self.state: Aggregate = before.state if before is not None else ledger.state(project)
        self.base = ledger.head(project)
        """The message on which this is decided: of the batch before, once that is stored."""
        self.foreign_count: int = ledger.foreign_counts.get(project, 0) if before is None else before.foreign_count
        if before is not None and project == PLANE:
            self.context = msgspec.structs.replace(context, plane=before.state)
        self.decisions: list[Decision] = []
        self.encoded: list[msgspec.Raw] = []
        self.size_bytes = 0
        self.answers: list[Answer] = []
        self._keys: dict[tuple[str, str], Known] = {}
        self._keys_before = {} if before is None else before._keys

    def refresh(self, context: Context) -> None:
        """Go on with a later clock; the registry stays the one that the whole message is decided against."""
        self.context = msgspec.structs.replace(context, plane=self.context.plane)

    def rebase(self, before: Appended) -> None:
        """Take in that the batch before is stored: its receipts have their positions now, and what ended may have left the memory."""
        self.base = before.head
        self.state = self.ledger.cleared(settled(self.state, before.message, before.head.seq))

    def add(self, decision: Decision) -> None:
        """Add a decision and apply it to the overlay."""
        data = codec.encode(decision)
        self.decisions.append(decision)
        self.encoded.append(msgspec.Raw(data))
        self.size_bytes += len(data)
        self.state = fold_decision(self.state, decision, None)
        if self.project == PLANE:
            self.context = msgspec.structs.replace(self.context, plane=self.state)

    @property
    def is_full(self) -> bool:
        """Whether what comes next belongs into another message."""
        return self.size_bytes >= BATCH_BYTES_MAX // 2 or len(self.decisions) >= BATCH_DECISIONS_MAX

    def take(self, item: Item) -> None:
        """Decide one item."""
        match item:
            case CommandItem():
                self._command(item)
            case ReportItem():
                self._report(item)
            case BeatItem():
                self._decided(item, decide.decide_beat(self.state, item.beat, self.context))
            case DutyItem():
                self._decided(item, decide_duty(self.state, item.duty, self.context))
            case HeadsItem():
                self._decided(item, decide_heads(self.state, self.ledger.heads, self.context.now))
            case FirstItem():
                self._decided(item, decide.decide_first_flags(self.state, self.context))

    def _decided(self, item: Item, decision: Decision | None) -> None:
        if decision is not None:
            self.add(decision)
        self.answers.append(Answer(item))

    def _report(self, item: ReportItem) -> None:
        self.state = self.ledger.with_orchestration(self.state, orchestration_of(item.subject.run))
        decided = decide_report(self.state, item.subject, item.report, item.delivery.stored_at, self.context)
        match decided:
            case Unbelieved():
                self.answers.append(Answer(item, dead_letter=decided.why))
            case Repeated():
                self.answers.append(Answer(item))
            case Decision():
                self._decided(item, decided)

    def _command(self, item: CommandItem) -> None:
        home = decide.home(item.subject.project, self.context.plane)
        if home != self.project:
            self.answers.append(Answer(item, reroute=home))
            return
        cause = self._cause(item)
        about = getattr(item.command, "orchestration", None)
        if isinstance(about, str):
            self.state = self.ledger.with_orchestration(self.state, about)
        if item.envelope.dry_run:
            decision = decide.decide_command(self.state, cause, item.command, self.context)
            self.answers.append(Answer(item, receipt=preview(self.state, decision)))
            return
        known = self._known(cause.project, cause.key)
        if known is not None and known.body_hash == item.body_hash:
            self.answers.append(Answer(item, action=known.action, duplicate=True))
            return
        decision = self._decide(item, cause, known)
        self.add(decision)
        assert decision.action is not None
        occupies = known is None and decision.action.reason_code != Reason.EXPIRED
        if occupies:
            self._keys[cause.project, cause.key] = Known(item.body_hash, self.project, decision.action.id)
        self.answers.append(Answer(item, action=decision.action.id))

    def _known(self, project: str, key: str) -> Known | None:
        """Return what a key was used for: in this batch, in the one that is being stored, or in the ledger."""
        return self._keys.get((project, key)) or self._keys_before.get((project, key)) or self.ledger.keys.find(project, key)

    def _decide(self, item: CommandItem, cause: CommandCause, known: Known | None) -> Decision:
        if known is not None:
            text = f"key {cause.key!r} was used for another request, {known.action}; a new request needs a new key"
            return refused(self.state, cause, self.context, Reason.IDEMPOTENCY_MISMATCH, text)
        valid_for_s = item.envelope.valid_for_s
        if valid_for_s is not None and self.context.now > cause.received_at + timedelta(seconds=valid_for_s):
            age_s = (self.context.now - cause.received_at).total_seconds()
            text = f"the command is {age_s:.1f} s old and was valid for {valid_for_s:g} s"
            return refused(self.state, cause, self.context, Reason.EXPIRED, text)
        return decide.decide_command(self.state, cause, item.command, self.context)

    def _cause(self, item: CommandItem) -> CommandCause:
        envelope = item.envelope
        return CommandCause(
            id=envelope.id,
            type=envelope.type[:64],
            key=envelope.key,
            by=item.subject.principal,
            via=envelope.via.value,
            project=item.subject.project,
            received_at=item.delivery.stored_at,
            body_hash=item.body_hash,
            body=envelope.body,
            reason=envelope.reason,
            trace=envelope.trace,
        )

    def mark_dispatched(self, marks: list[RunDispatched]) -> None:
        """Record what was published since the last batch, where it still stands so; only beside another decision."""
        standing = []
        for mark in dict.fromkeys(marks):
            o = self.state.orchestrations.get(mark.orchestration)
            run = None if o is None else o.run(mark.run)
            if run is not None and run.attempt == mark.attempt and run.status is RunStatus.QUEUED:
                standing.append(mark)
        if standing and self.decisions:
            at = self.decisions[-1].at
            self.add(Decision(at=at, cause=TimerCause("dispatch"), events=tuple(standing)))
