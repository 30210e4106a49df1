"""A sample of a ledger message with a decision of every cause, and of receipts."""

from __future__ import annotations

from datetime import timedelta

import msgspec

from bus_schemas import decisions as d
from bus_schemas.codec import VERSION, ZERO_HASH, body_hash, command_body
from bus_schemas.commands import Pause
from bus_schemas.events import HoldKind, HoldSet, RunDispatched, RunStarted
from tests.golden.commands import AT

STORED_AT = AT + timedelta(milliseconds=3)
BODY = command_body(Pause(orchestration="shop-o12"))

ACCEPTED = d.Action(
    id="shop-a44",
    status=d.ActionStatus.ACCEPTED,
    warnings=("two runs go on until they end",),
    design="shop-d3",
    ticket="shop-t17",
    orchestration="shop-o12",
    node="mac-mini-1",
    task="1/2",
    revision=3,
)
REFUSED = d.Action(id="shop-a45", status=d.ActionStatus.REFUSED, reason_code="validation_invalid_payload", message="launch: expected an object")


def _cause(type_: str, key: str, body: msgspec.Raw, reason: str | None = None, trace: str | None = None) -> d.CommandCause:
    return d.CommandCause(
        id="0f3d5a6e7b8c4d1e9f00112233445566",
        type=type_,
        key=key,
        by="ana",
        via="cli",
        project="shop",
        received_at=STORED_AT,
        body_hash=body_hash(type_, body),
        body=body,
        reason=reason,
        trace=trace,
    )


PAUSED = d.Decision(
    at=STORED_AT + timedelta(milliseconds=2),
    cause=_cause("pause", "pause-2026-11-23-01", BODY, "The node is needed elsewhere.", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    action=ACCEPTED,
    events=(HoldSet(orchestration="shop-o12", hold=HoldKind.PAUSING, reason="asked by ana"),),
)

MESSAGE = d.LedgerMessage(
    v=VERSION,
    type="ledger-message",
    project="shop",
    batch="c4d1e9f00f3d5a6e7b8c112233445566",
    by="controller-1",
    prev=ZERO_HASH,
    plane_seq=417,
    core=d.CORE_VERSION,
    decisions=(
        PAUSED,
        d.Decision(at=PAUSED.at, cause=_cause("launch", "launch-1", msgspec.Raw(b'["not", {"an": "object"}]')), action=REFUSED),
        d.Decision(
            at=PAUSED.at,
            cause=d.ReportCause(node="mac-mini-1", run="shop-o12-r7", attempt=2, kind="started", stored_at=STORED_AT),
            because="shop-a44",
            events=(RunStarted(orchestration="shop-o12", run="shop-o12-r7", attempt=2, node="mac-mini-1", queue_ms=4.0),),
        ),
        d.Decision(at=PAUSED.at, cause=d.BeatCause(node="mac-mini-1")),
        d.Decision(at=PAUSED.at, cause=d.TimerCause(name="dispatch"), events=(RunDispatched("shop-o12", "shop-o12-r8", 1),)),
    ),
)

RECEIPTS: dict[str, d.Receipt] = {
    "completed": msgspec.structs.replace(
        d.receipt_of(PAUSED, _cause("pause", "pause-2026-11-23-01", BODY, "The node is needed elsewhere."), ACCEPTED, d.Position(418, 0)),
        status=d.ActionStatus.COMPLETED,
        duplicate=True,
        via="console",
        completed_at=PAUSED.at + timedelta(seconds=8),
    ),
    "previewed": msgspec.structs.replace(
        d.receipt_of(PAUSED, _cause("task-insert", "insert-1", BODY), ACCEPTED, None),
        diff=d.Diff(queue_before=("1.2",), queue_after=("1.3", "1.2"), changes=(d.Change("1.3.subject", "", "Lock the table"),)),
    ),
    "refused": d.receipt_of(MESSAGE.decisions[1], _cause("launch", "launch-1", BODY), REFUSED, None),
}
