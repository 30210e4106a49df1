"""Runs: the home page. What waits for a human, and all orchestrations with what they do and what holds them."""

from __future__ import annotations

from bus_schemas.events import OrchestrationStatus
from console.news import ANY
from console.page import Context, Page, Visit

LIMIT = 50
STATUSES = tuple(status.value for status in OrchestrationStatus)


async def load(visit: Visit) -> Context:
    """Return what the home page shows. Raises Problem."""
    status = visit.choice("status", ("", *STATUSES), "")
    project = visit.query.get("project", "").strip().lower() or None
    listed = await visit.backend.ask("orchestrations", status=status or None, project=project, limit=LIMIT, after=visit.query.get("after") or None)
    gates = await visit.backend.ask("gates")
    plane = await visit.backend.ask("status")
    projects = await visit.backend.ask("projects")
    items = listed["items"]
    return {
        "items": items,
        "next": listed["next"],
        "status": status,
        "project": project or "",
        "after": visit.query.get("after", ""),
        "statuses": STATUSES,
        "projects": [known["id"] for known in projects["items"]],
        "gates": gates["items"],
        "plane": plane,
        "held": [o for o in items if o["hold"] is not None and o["hold"]["kind"] != "gate"],
        "failed": [o for o in items if o["status"] == "failed"],
    }


PAGES = (Page("/", "runs.html", load, patches="runs_patches.html", topics=lambda visit: frozenset({ANY}), nav="runs"),)
