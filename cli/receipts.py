"""A receipt as the client prints it: the JSON object of the contract, or a short line. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from bus_schemas.decisions import ActionStatus, Receipt
from cli.text import cell

FIELDS = (
    "action",
    "type",
    "status",
    "duplicate",
    "project",
    "design",
    "ticket",
    "orchestration",
    "node",
    "task",
    "warnings",
    "reason_code",
    "message",
    "idempotency_key",
    "requested_by",
    "position",
    "revision",
    "received_at",
    "accepted_at",
    "completed_at",
)


def as_object(receipt: Receipt) -> dict[str, Any]:
    """Return the receipt with exactly the fields of the contract, in their order; that of a dry run also with what it would change."""
    whole = msgspec.to_builtins(receipt)
    shown = {"schema": "qd.receipt/1", **{field: whole[field] for field in FIELDS}}
    return shown if receipt.diff is None else {**shown, "diff": whole["diff"]}


def name_of(receipt: Receipt) -> str:
    """Return what `-o name` prints: what was made or changed, else the action."""
    made = receipt.orchestration or receipt.ticket or receipt.design or receipt.node
    if made is None and receipt.type in ("project-add", "project-edit") and receipt.status is not ActionStatus.REFUSED:
        return receipt.project if receipt.project != "plane" else receipt.action
    return made or receipt.action


def as_line(receipt: Receipt, *, about: str, dry_run: bool) -> str:
    """Return the receipt in one line: status, action, type, and what it is about."""
    status = f"would be {receipt.status}" if dry_run else str(receipt.status)
    parts = [status, receipt.action if not dry_run else "", receipt.type, about if about != receipt.action else ""]
    if receipt.node is not None and receipt.node != about:
        parts.append(f"on {receipt.node}")
    if receipt.revision is not None:
        parts.append(f"revision {receipt.revision}")
    if receipt.duplicate:
        parts.append("(decided before; nothing happened again)")
    if receipt.reason_code is not None:
        parts.append(receipt.reason_code)
    return "  ".join(cell(part) for part in parts if part)
