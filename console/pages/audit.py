"""Audit: every request with who, when, through which door and why, what was decided, and how long each step took."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from console.backend import Problem
from console.news import ANY
from console.page import Context, Page, Visit

LIMIT = 100
STATUSES = ("refused", "accepted", "completed", "failed")


async def load(visit: Visit) -> Context:
    """Return a page of actions, or one with all it says, and whether the ledger can be trusted. Raises Problem."""
    ask, query = visit.backend.ask, visit.query
    status = visit.choice("status", ("", *STATUSES), "")
    project, orchestration = query.get("project", "").strip().lower(), query.get("orchestration", "").strip().lower()
    one = await ask("action", id=query["action"]) if query.get("action") else None
    found: dict[str, Any] = {"items": [one], "next": None}
    if one is None:
        found = await ask(
            "actions",
            project=project or None,
            orchestration=orchestration or None,
            status=status or None,
            limit=LIMIT,
            after=query.get("after") or None,
        )
    kind, code = query.get("type", "").strip(), query.get("code", "").strip()
    items = [a for a in found["items"] if (not kind or a["type"] == kind) and (not code or a["reason_code"] == code)]
    return {
        "items": [{**a, "chain": chain(a)} for a in items],
        "next": found["next"],
        "one": one,
        "filters": {"project": project, "orchestration": orchestration, "status": status, "type": kind, "code": code},
        "statuses": STATUSES,
        "trust": await _trust(visit),
        "filtered": bool(project or orchestration or status or kind or code or query.get("after")),
    }


def chain(action: dict[str, Any]) -> list[tuple[str, Any, float | None]]:
    """Return the steps of an action: its word, when it was taken, and how many ms after the step before."""
    refused = action["status"] == "refused"
    steps = [("requested", action["received_at"])]
    if refused:
        steps.append(("refused", None))
    else:
        steps.append(("accepted", action["accepted_at"]))
        if action["completed_at"] is not None:
            steps.append((action["status"], action["completed_at"]))
    found: list[tuple[str, Any, float | None]] = []
    before: datetime | None = None
    for word, at in steps:
        moment = None if at is None else datetime.fromisoformat(str(at).replace("Z", "+00:00"))
        took_ms = None if moment is None or before is None else max(0.0, (moment - before).total_seconds() * 1000)
        found.append((word, at, took_ms))
        before = moment or before
    return found


async def _trust(visit: Visit) -> dict[str, Any]:
    """Return what controller and timeline say of the ledger; a timeline that is away is told, not hidden."""
    plane = await visit.backend.ask("status")
    try:
        timeline = await visit.backend.ask("timeline-status")
    except Problem as problem:
        timeline = {"state": "away", "reason": problem.message, "alarm": None, "position": "", "behind": None}
    return {"stopped": plane["stopped_projects"], "timeline": timeline, "position": plane["position"], "sync": plane["sync"]}


PAGES = (Page("/audit", "audit.html", load, "audit_patches.html", lambda visit: frozenset({ANY}), nav="audit"),)
