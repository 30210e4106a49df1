"""Audit: every request with who, when, through which door and why, what was decided, and how long each step took."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import anyio
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from bus.connection import ApiFailure
from bus.errors import Unavailable
from bus.walk import noted_by_timeline, timeline_view, walk
from bus_schemas.chain import NO_NOTES, Chain
from bus_schemas.commands import COMMAND_TYPES
from bus_schemas.reasons import EXPLANATIONS, Reason
from console.backend import Backend, Problem
from console.news import ANY
from console.page import Context, Page, Visit

if TYPE_CHECKING:
    from console.app import Console

LIMIT = 100

VERIFY_S = 120.0
"""A walk that takes longer is given up: some ten million messages. `qd audit verify` has no such limit."""

SHOWN_MAX = 20
"""Violations on the page."""
FILTERS = ("project", "orchestration", "type", "status", "code")
STATUSES = ("refused", "accepted", "completed", "failed")


async def load(visit: Visit) -> Context:
    """Return a page of actions, or one with all it says, and whether the ledger can be trusted. Raises Problem."""
    query = visit.query
    filters = {name: query.get(name, "").strip() for name in FILTERS}
    filters |= {"project": filters["project"].lower(), "orchestration": filters["orchestration"].lower()}
    filters["status"] = visit.choice("status", ("", *STATUSES), "")
    one = await visit.backend.ask("action", id=query["action"]) if query.get("action") else None
    found: Context = {"items": [one], "next": None, "previous": None}
    if one is None:
        found = await page_of(visit, filters)
    return {
        "items": [{**a, "chain": chain(a)} for a in found["items"]],
        "older": None if found["next"] is None else link(filters, after=found["next"]),
        "newer": None if found["previous"] is None else link(filters, before=found["previous"]),
        "newest": link(filters) if query.get("after") or query.get("before") else None,
        "one": one,
        "filters": filters,
        "statuses": STATUSES,
        "types": sorted(COMMAND_TYPES),
        "codes": sorted(EXPLANATIONS),
        "trust": await _trust(visit),
        "filtered": any(filters.values()),
    }


async def page_of(visit: Visit, filters: dict[str, str]) -> Context:
    """Return a page of actions. The controller knows each at once; the timeline finds among all by type and code. Raises Problem."""
    wanted = {name: value or None for name, value in filters.items()}
    name = "past-actions" if filters["type"] or filters["code"] else "actions"
    known = wanted if name == "past-actions" else {key: wanted[key] for key in ("project", "orchestration", "status")}
    cursor = {key: visit.query.get(key) or None for key in ("after", "before")}
    found = await visit.backend.ask(name, **known, **cursor, limit=LIMIT)
    if cursor["before"] and found["previous"] is None:  # there are less than a page ahead of it: the newest page has them
        found = await visit.backend.ask(name, **known, limit=LIMIT)
    return found


def link(filters: dict[str, str], **cursor: str) -> str:
    """Return the address of a page with these filters."""
    kept = urlencode({name: value for name, value in {**filters, **cursor}.items() if value})
    return f"/audit?{kept}" if kept else "/audit"


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


def routes(console: Console) -> list[Route]:
    """Return the walk along the chain. One at a time: it takes a core."""
    lock = anyio.Lock()

    async def verify(_: Request) -> Response:
        template = console.templates.get_template("audit_verified.html")
        try:
            lock.acquire_nowait()
        except anyio.WouldBlock:
            return HTMLResponse(template.render(problem=Problem(Reason.NOT_READY, "somebody has it verified at this moment")), 409)
        try:
            return HTMLResponse(template.render(**await verified(console.backend)))
        except Problem as problem:
            return HTMLResponse(template.render(problem=problem), problem.status)
        finally:
            lock.release()

    return [Route("/audit/verify", verify, methods=["POST"])]


async def verified(backend: Backend) -> Context:
    """Return what the walk along the ledger found, met with what the timeline noted where that answers. Raises Problem."""
    try:
        notes, away = noted_by_timeline(await timeline_view(backend.ask)), ""
    except Problem as problem:
        notes, away = NO_NOTES, problem.message
    chain = Chain(notes=notes)
    try:
        async with asyncio.timeout(VERIFY_S):
            found = [*await walk(backend.bus, chain, None, lambda _: None), *chain.findings]
    except TimeoutError as late:
        text = f"not done after {VERIFY_S:g} s, at message {chain.last_seq}; `qd audit verify` takes its time"
        raise Problem(Reason.NOT_READY, text) from late
    except (Unavailable, ApiFailure) as error:
        raise Problem(Reason.NOT_READY, str(error)) from error
    return {"problem": None, "chain": chain, "projects": len(chain.heads), "found": found[:SHOWN_MAX], "count": len(found), "away": away}
