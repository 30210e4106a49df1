"""Events: what happened to an orchestration, newest first, a window at a time; each row can be linked to."""

from __future__ import annotations

from typing import Any

from bus_schemas.decisions import Position
from bus_schemas.events import EVENT_TYPES
from bus_schemas.reasons import Reason
from console.backend import Problem
from console.page import Context, Visit
from console.pages import orchestration

WINDOW = 100
LOOK_EVERY_S = 2.0
"""The timeline may read the ledger a little later than the page hears of it."""
CATEGORIES = ("action", "run", "event")
NEWEST = "999999999999999999"
"""A position behind every other."""


async def load(visit: Visit) -> Context:
    """Return a window of the timeline. Raises Problem; a timeline that is away is told in the place of its rows."""
    context = await orchestration.head(visit)
    category = visit.choice("kind", ("", *CATEGORIES), "")
    kind = visit.query.get("type", "").strip()
    at, before = _position(visit.query.get("at")), _position(visit.query.get("before"))
    end = behind(at) if at is not None else str(before) if before is not None else NEWEST
    found: dict[str, Any] = {"items": [], "more": False, "previous": None}
    problem: Problem | None = None
    try:
        found = await visit.backend.ask(
            "timeline", orchestration=context["o"]["id"], before=end, category=category or None, type=kind or None, limit=WINDOW
        )
    except Problem as error:
        problem = error
    return {
        **context,
        "tab": "events",
        "events": found["items"][::-1],
        "older": found["previous"] if found["more"] else None,
        "problem": problem,
        "category": category,
        "categories": CATEGORIES,
        "type": kind,
        "types": sorted(EVENT_TYPES),
        "is_window": end != NEWEST,
        "kept": f"&kind={category}&type={kind}" if category or kind in EVENT_TYPES else "",
    }


def behind(position: Position) -> str:
    """Return the position right behind another, so that a window that ends before it begins with that one."""
    return str(Position(position.seq, position.row + 1))


def _position(text: str | None) -> Position | None:
    if not text:
        return None
    try:
        return Position.parse(text)
    except ValueError as error:
        raise Problem(Reason.INVALID_PAYLOAD, str(error)) from error


PAGES = (orchestration.tab("events", load, every_s=LOOK_EVERY_S),)
