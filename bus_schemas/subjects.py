"""Subjects, streams, consumers, permissions and limits, as data. Pure.

`bus.bootstrap` creates what stands here and nothing else does. Every token that goes into a subject was checked by
`bus_schemas.ids` before.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from bus_schemas.ids import BadId, shown, token

SUBJECT_BYTES_MAX = 512
HEADER_BYTES_MAX = 4 * 1024
COMMAND_BYTES_MAX = 256 * 1024
LEDGER_BYTES_MAX = 1024 * 1024
PAYLOAD_BYTES_MAX = 1024 * 1024
LOG_CHUNK_BYTES_MAX = 64 * 1024

LOCAL_PRINCIPAL = "local"
"""Who everybody is in embedded mode."""

CONTROLLER_DURABLE = "controller"
LEASE_BUCKET = "qd-lease"
LEASE_KEY = "controller"

GIB = 1024**3
DAY_S = 86_400.0


_ATTEMPT = re.compile(r"[1-9][0-9]{0,8}")


class StreamSpec(NamedTuple):
    """A stream as it must be. Times in seconds, 0 = no limit; sizes in bytes, -1 = no limit."""

    name: str
    subjects: tuple[str, ...]
    retention: str = "limits"
    storage: str = "file"
    discard: str = "new"
    max_age_s: float = 0.0
    max_bytes: int = -1
    max_msg_bytes: int = PAYLOAD_BYTES_MAX
    max_per_subject: int = -1
    discard_new_per_subject: bool = False
    duplicate_window_s: float = 0.1
    deny_delete: bool = False
    deny_purge: bool = False
    allow_rollup: bool = False
    allow_direct: bool = True
    compressed: bool = False
    max_consumers: int = 64
    clustered: bool = True


class ConsumerSpec(NamedTuple):
    """A durable pull consumer as it must be, with explicit acks."""

    stream: str
    name: str
    filters: tuple[str, ...]
    ack_wait_s: float
    max_ack_pending: int
    max_deliver: int = -1


CMD, CTL, LEDGER, WORK, REP, LOG, BEAT, DLQ = "CMD", "CTL", "LEDGER", "WORK", "REP", "LOG", "BEAT", "DLQ"

STREAMS: tuple[StreamSpec, ...] = (
    StreamSpec(CMD, ("qd.cmd.*.*.*",), retention="workqueue", max_bytes=GIB, max_msg_bytes=COMMAND_BYTES_MAX + HEADER_BYTES_MAX),
    StreamSpec(CTL, ("qd.control.*.*.*",), retention="workqueue", max_bytes=GIB, max_msg_bytes=COMMAND_BYTES_MAX + HEADER_BYTES_MAX),
    StreamSpec(LEDGER, ("qd.ledger.*",), max_msg_bytes=LEDGER_BYTES_MAX, deny_delete=True, deny_purge=True, compressed=True, max_consumers=256),
    # one waiting order for an attempt: publishing it again while it waits is refused, which is what we want
    StreamSpec(
        WORK,
        ("qd.work.*.*.*", "qd.ctl.*.*.*"),
        retention="workqueue",
        max_bytes=4 * GIB,
        max_per_subject=1,
        discard_new_per_subject=True,
        max_consumers=20_000,
    ),
    StreamSpec(REP, ("qd.rep.*.*.*.*.*.*",), max_bytes=16 * GIB, max_per_subject=1, discard_new_per_subject=True),
    StreamSpec(LOG, ("qd.log.*.*.*",), discard="old", max_age_s=14 * DAY_S, max_bytes=10 * GIB, compressed=True, max_consumers=1024),
    StreamSpec(BEAT, ("qd.beat.*",), storage="memory", discard="old", max_age_s=60.0, max_bytes=64 * 1024**2, max_per_subject=1, clustered=False),
    StreamSpec(
        DLQ,
        ("qd.dlq.>", "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.>", "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.>"),
        discard="old",
        max_age_s=90 * DAY_S,
        max_bytes=4 * GIB,
    ),
    # the shapes of a key-value bucket and an object store; controllers only, since these need roll-up and purge
    StreamSpec(
        f"KV_{LEASE_BUCKET}",
        (f"$KV.{LEASE_BUCKET}.>",),
        max_bytes=1024**2,
        max_per_subject=1,
        duplicate_window_s=120.0,
        deny_delete=True,
        allow_rollup=True,
        max_consumers=-1,
    ),
)

CONTROLLER_CONSUMERS: tuple[ConsumerSpec, ...] = (
    ConsumerSpec(CTL, CONTROLLER_DURABLE, ("qd.control.>",), ack_wait_s=5.0, max_ack_pending=10_000),
    ConsumerSpec(CMD, CONTROLLER_DURABLE, ("qd.cmd.>",), ack_wait_s=5.0, max_ack_pending=10_000),
    ConsumerSpec(REP, CONTROLLER_DURABLE, ("qd.rep.*.*.*.*.*.started", "qd.rep.*.*.*.*.*.ended"), ack_wait_s=5.0, max_ack_pending=20_000),
)


def node_consumers(node: str, capacity: int) -> tuple[ConsumerSpec, ...]:
    """Return the consumers of a node; the active controller makes them at its first beat."""
    return (
        ConsumerSpec(WORK, f"work-{node}", (f"qd.work.{node}.>",), ack_wait_s=30.0, max_ack_pending=max(64, 4 * capacity)),
        ConsumerSpec(WORK, f"ctl-{node}", (f"qd.ctl.{node}.>",), ack_wait_s=10.0, max_ack_pending=1024),
    )


def command(principal: str, project: str, verb: str, control_lane: bool) -> str:
    """Return the subject a command is published on. Raises BadId."""
    lane = "control" if control_lane else "cmd"
    return f"qd.{lane}.{token(principal, 'principal')}.{token(project, 'project')}.{token(verb, 'action')}"


class CommandSubject(NamedTuple):
    """What a command's subject says; the principal is the one the server enforced."""

    principal: str
    project: str
    verb: str
    control_lane: bool


def parse_command(subject: str) -> CommandSubject:
    """Return the parts of a command's subject. Raises BadId."""
    parts = subject.split(".")
    if len(parts) != 5 or parts[0] != "qd" or parts[1] not in ("cmd", "control"):
        raise BadId(f"subject {shown(subject)} is not one of a command")
    return CommandSubject(token(parts[2], "principal"), token(parts[3], "project"), token(parts[4], "action"), parts[1] == "control")


def receipt(principal: str, command_id: str) -> str:
    """Return the subject of a receipt: built from the authenticated principal, never named by the sender. Raises BadId."""
    return f"qd.receipt.{token(principal, 'principal')}.{token(command_id, 'command id')}"


def ledger(project: str) -> str:
    """Return the one subject of a project's ledger."""
    return f"qd.ledger.{token(project, 'project')}"


def work(node: str, run: str, attempt: int) -> str:
    """Return the subject of a work order."""
    return f"qd.work.{node}.{run}.{attempt}"


def control_order(node: str, run: str, attempt: int) -> str:
    """Return the subject of a stop order."""
    return f"qd.ctl.{node}.{run}.{attempt}"


def report(node: str, project: str, run: str, attempt: int, nonce: str, kind: str) -> str:
    """Return the write-once subject of a report; kinds are `started` and `ended` (`progress-<n>` is reserved)."""
    return f"qd.rep.{node}.{project}.{run}.{attempt}.{nonce}.{kind}"


class ReportSubject(NamedTuple):
    """What a report's subject says."""

    node: str
    project: str
    run: str
    attempt: int
    nonce: str
    kind: str


def parse_report(subject: str) -> ReportSubject:
    """Return the parts of a report's subject. Raises BadId."""
    parts = subject.split(".")
    # an attempt has one spelling only, since each spelling would be a subject that can be written once
    if len(parts) != 8 or parts[0] != "qd" or parts[1] != "rep" or not _ATTEMPT.fullmatch(parts[5]):
        raise BadId(f"subject {shown(subject)} is not one of a report")
    for part in parts[2:]:
        token(part)
    return ReportSubject(parts[2], parts[3], parts[4], int(parts[5]), parts[6], parts[7])


def log(node: str, run: str, attempt: int) -> str:
    """Return the subject of an attempt's output."""
    return f"qd.log.{node}.{run}.{attempt}"


def beat(node: str) -> str:
    """Return the subject of a node's beat."""
    return f"qd.beat.{node}"


def dead_letter(stream: str, seq: int) -> str:
    """Return the subject on which the bytes of a message that cannot be used are kept."""
    return f"qd.dlq.{stream}.{seq}"


def query(name: str) -> str:
    """Return the subject of a query."""
    return f"qd.query.{name}"


class Permissions(NamedTuple):
    """What an identity may publish and subscribe. Everything else is refused by the server."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


def inbox(principal: str) -> str:
    """Return the inbox prefix of an identity: nobody else can listen to its answers."""
    return f"_INBOX_{principal}"


def operator_permissions(principal: str) -> Permissions:
    """Return what an operator may: commands under its own name, its own receipts, queries."""
    return Permissions(
        publish=(f"qd.cmd.{principal}.>", f"qd.control.{principal}.>", "qd.query.>", "$SRV.>"),
        subscribe=(f"{inbox(principal)}.>", f"qd.receipt.{principal}.>"),
    )


def node_permissions(node: str) -> Permissions:
    """Return what a node may: pull and ack its own orders, write its own reports, log and beat, read back its own claim."""
    durables = (f"work-{node}", f"ctl-{node}")
    return Permissions(
        publish=(
            *(f"$JS.API.CONSUMER.MSG.NEXT.{WORK}.{durable}" for durable in durables),
            # the two forms of an ack, told apart by length and by `_` (no domain): with wildcards for these, the subject
            # `$JS.ACK.WORK.work-b.WORK.work-a.1.1.1` would be an ack of ours and a `+NXT` for the orders of another node
            *(f"$JS.ACK.{WORK}.{durable}.*.*.*.*.*" for durable in durables),
            *(f"$JS.ACK._.*.{WORK}.{durable}.*.*.*.*.>" for durable in durables),
            f"$JS.API.DIRECT.GET.{REP}.qd.rep.{node}.>",
            f"qd.rep.{node}.>",
            f"qd.log.{node}.>",
            f"qd.beat.{node}",
        ),
        subscribe=(f"{inbox(node)}.>",),
    )


SERVICE_PERMISSIONS = Permissions(publish=(">",), subscribe=(">",))
"""Of controllers and the timeline, which live in the control account."""
