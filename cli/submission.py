"""Sending a command: the key, the journal, the receipt, and the wait for what it promises.

Owns the journal's place in the order of things: a key is written down before its command leaves.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

import msgspec

from bus.errors import NotSent, Rejected, Unavailable
from bus.request import RECEIPT_TIMEOUT_S, CommandClient, OutcomeUnknown, TooLarge, new_key
from bus_schemas import codec, subjects
from bus_schemas.commands import Command, Via, subject_project, type_of
from bus_schemas.decisions import ActionStatus, Receipt
from bus_schemas.ids import idempotency_key
from bus_schemas.reasons import Reason
from cli import folders, journal, receipts
from cli.durations import parse_duration_s
from cli.exits import OUTCOME_UNKNOWN, UNREACHABLE, WAITED_TOO_LONG, Exit
from cli.failure import Failure, usage
from cli.session import Session, unless_refused
from cli.suggestions import nearest
from cli.writing import Write

POLL_FIRST_S, POLL_MAX_S = 0.05, 1.0
ENDED = (ActionStatus.COMPLETED, ActionStatus.FAILED)


def _key(session: Session, command: Command, options: Write, body_hash: str) -> str:
    if options.retry_last:
        if options.idempotency_key is not None:
            raise usage("--retry-last and --idempotency-key exclude each other")
        entry = journal.last_like(journal.read(folders.state_dir()), session.endpoint.url, subject_project(command), type_of(command))
        if entry is None:
            raise usage(f"the journal has no earlier {type_of(command)} of {subject_project(command)} on this bus, so there is no key to use again")
        if entry.body_hash != body_hash:
            raise usage(f"your last {type_of(command)} of {subject_project(command)} ({entry.at}) was another request; a new request takes a new key")
        return entry.key
    return idempotency_key(options.idempotency_key) if options.idempotency_key is not None else new_key()


def _note_key(session: Session, command: Command, key: str, body_hash: str) -> None:
    at = datetime.now(UTC).isoformat(timespec="seconds")
    entry = journal.Entry(at, session.endpoint.url, subject_project(command), type_of(command), body_hash, key)
    try:
        journal.add(folders.state_dir(), entry)
    except OSError as error:
        session.out.note(f"the key could not be written down: {error}")
    session.out.note(f"idempotency-key {key}")


def _valid_for_s(options: Write) -> float | None:
    if options.valid_for is None:
        return None
    try:
        return parse_duration_s(options.valid_for)
    except ValueError as error:
        raise usage(f"--valid-for: {error}") from error


async def write(session: Session, command: Command, options: Write, about: str | None) -> int:
    """Send a command, wait as asked, print its receipt; return the exit code. Raises Failure, and BadId before anything is sent."""
    receipt = await submit(session, command, options)
    if receipt is None:
        return Exit.DONE
    if options.dry_run:
        return show_preview(session, receipt, about)
    if options.wait == "done":
        receipt = await wait_done(session, receipt, about)
    return show(session, receipt, about)


async def submit(session: Session, command: Command, options: Write) -> Receipt | None:
    """Return the receipt of an accepted command, or of a dry run; None when it was not to be waited for.

    A refused command's receipt is printed. Raises Failure with its code, and BadId before anything is sent.
    """
    valid_for_s = _valid_for_s(options)
    body_hash = codec.body_hash(type_of(command), encoded_body(command))
    subjects.command("x", subject_project(command), type_of(command), type(command).control_lane)  # an unsafe id ends here
    key = _key(session, command, options, body_hash)
    bus = await session.bus()
    if not options.dry_run:
        _note_key(session, command, key, body_hash)
    try:
        async with CommandClient(bus, Via.CLI) as client:
            if options.wait == "no" and not options.dry_run:
                await _send(session, client, command, key, options, valid_for_s)
                return None
            sending = client.submit(
                command,
                key,
                reason=options.reason,
                valid_for_s=valid_for_s,
                dry_run=options.dry_run,
                timeout_s=session.options.timeout_s or RECEIPT_TIMEOUT_S,
            )
            receipt = await unless_refused(bus, sending)
    except (TooLarge, NotSent, OutcomeUnknown, Unavailable, Rejected, asyncio.CancelledError) as error:
        raise _not_answered(error, key, session) from error
    if receipt.status is ActionStatus.REFUSED:
        await refused(session, receipt, dry_run=options.dry_run)
    return receipt


def encoded_body(command: Command) -> msgspec.Raw:
    """Return the body of a command as it is sent. Raises Failure for text that is not UTF-8."""
    try:
        return codec.command_body(command)
    except UnicodeEncodeError as error:
        raise Failure(Reason.INVALID_PAYLOAD, f"a text of the {type_of(command)} is not valid UTF-8") from error


async def _send(session: Session, client: CommandClient, command: Command, key: str, options: Write, valid_for_s: float | None) -> None:
    """Store a command on the bus and say so, without waiting for the decision. Raises as `Bus.append`."""
    envelope = client.envelope(command, key, reason=options.reason, valid_for_s=valid_for_s)
    bus = await session.bus()
    project = subject_project(command)
    await bus.append(subjects.command(bus.principal, project, envelope.type, type(command).control_lane), codec.encode(envelope))
    session.out.note(f"sent, not decided yet: qd action show --project {project} --key {key}")
    sent = {"type": envelope.type, "project": project, "idempotency_key": key}
    if not session.out.one("sent", sent, key):
        session.out.line(f"sent  {envelope.type}  {project}")


def _not_answered(error: BaseException, key: str, session: Session) -> BaseException:
    """Return the failure that an error of sending stands for."""
    if isinstance(error, asyncio.CancelledError):
        session.out.note(f"interrupted; the command may have been sent, ask again with --idempotency-key {key}")
        return error
    if isinstance(error, TooLarge):
        return Failure(Reason.TOO_LARGE, str(error))
    if isinstance(error, Rejected):
        return Failure(UNREACHABLE, f"the bus took nothing: {error}")
    if isinstance(error, NotSent):
        return Failure(UNREACHABLE, f"nothing was sent: {error}", hint="Is the bus set up? `qd bus init` makes its streams; `qd doctor` looks.")
    return Failure(
        OUTCOME_UNKNOWN, str(error), hint=f"Repeat the very same command with --idempotency-key {key} (or --retry-last): it takes effect once."
    )


async def refused(session: Session, receipt: Receipt, *, dry_run: bool = False) -> None:
    """Print the receipt of a refused command. Raises Failure with its code, always."""
    show(session, receipt, None, dry_run=dry_run)
    code = receipt.reason_code or Reason.INTERNAL
    hint = await nearest(session, receipt.message) if code == Reason.ENTITY_NOT_FOUND else None
    raise Failure(code, receipt.message, hint=hint, action=receipt.action or None)


async def wait_done(session: Session, receipt: Receipt, about: str | None) -> Receipt:
    """Return the receipt once the action is completed. Raises Failure: waited too long, or the code with which the action failed."""
    session.stay()
    limit_s = session.options.timeout_s or RECEIPT_TIMEOUT_S
    deadline = time.monotonic() + limit_s
    pause_s = POLL_FIRST_S
    while receipt.status not in ENDED:
        if time.monotonic() >= deadline:
            show(session, receipt, about)
            text = f"{receipt.action} is accepted and not completed after {limit_s:g} s; it goes on"
            raise Failure(WAITED_TOO_LONG, text, hint=f"`qd action wait {receipt.action}` waits again.", action=receipt.action)
        session.out.progress(f"{receipt.action} {receipt.status}, waiting until it is completed …")
        await asyncio.sleep(min(pause_s, max(0.0, deadline - time.monotonic())))
        pause_s = min(POLL_MAX_S, pause_s * 1.5)
        receipt = await _reread(session, receipt)
    if receipt.status is ActionStatus.FAILED:
        show(session, receipt, about)
        text = f"{receipt.action} was accepted and failed: {receipt.message or receipt.reason_code}"
        raise Failure(receipt.reason_code or Reason.INTERNAL, text, action=receipt.action, exit_code=Exit.NOT_COMPLETE)
    return receipt


async def _reread(session: Session, receipt: Receipt) -> Receipt:
    try:
        answer = await session.ask("action", id=receipt.action)
    except Failure as failure:
        if failure.code != UNREACHABLE:
            raise
        return receipt  # a take-over, or a restart: the wait goes on
    return receipt_from(answer)


def receipt_from(answer: dict[str, Any]) -> Receipt:
    """Return the receipt that a query answered."""
    return msgspec.convert(answer, Receipt)


def warn(session: Session, receipt: Receipt) -> None:
    """Say what a receipt warns of."""
    for warning in receipt.warnings:
        session.out.note(f"warning: {warning}")


def show(session: Session, receipt: Receipt, about: str | None, *, dry_run: bool = False, warned: bool = False) -> int:
    """Print a receipt, with its warnings unless that was done; return the exit code of one that is not refused."""
    if not warned:
        warn(session, receipt)
    output = session.options.output
    if session.options.is_json:
        session.out.json(receipts.as_object(receipt))
    elif output == "name":
        # nothing was made or changed by a refused one: its name is the action's, and a dry run has none
        name = receipt.action if receipt.status is ActionStatus.REFUSED else about or receipts.name_of(receipt)
        session.out.raw(f"{name}\n" if name else "")
    else:
        session.out.line(receipts.as_line(receipt, about=about or receipts.name_of(receipt), dry_run=dry_run))
    return Exit.DONE


def show_preview(session: Session, receipt: Receipt, about: str | None) -> int:
    """Print what a dry run found; return 20 when something would change."""
    show(session, receipt, about, dry_run=True)
    if receipt.diff is not None and not session.options.is_json and session.options.output != "name":
        from cli.render import plan

        for line in plan.diff(receipt.diff):
            session.out.line(line)
    if receipt.duplicate:
        session.out.note("This key was decided before; sending it again changes nothing.")
        return Exit.DONE
    session.out.note("Nothing was changed. Run it again without --dry-run.")
    return Exit.WOULD_CHANGE
