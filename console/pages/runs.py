"""Runs: the home page. What waits for a human, and all orchestrations with what they do and what holds them."""

from __future__ import annotations

from urllib.parse import urlencode

from console import selection
from console.backend import Backend
from console.news import ANY
from console.page import Context, Page, Visit
from console.pages.bulk import VERBS
from console.selection import HOLDS, STATUSES, Wanted

LIMIT = 50
NOTHING_SELECTED = "select runs first: tick them, or press x on a row"


async def load(visit: Visit) -> Context:
    """Return what the home page shows. Raises Problem."""
    wanted = Wanted.read(lambda name: visit.query.get(name, ""))
    after = visit.query.get("after", "")
    items, following = await _listed(visit.backend, wanted, after)
    gates = await visit.backend.ask("gates")
    plane = await visit.backend.ask("status")
    projects = await visit.backend.ask("projects")
    return {
        "items": items,
        "older": urlencode({**wanted._asdict(), "after": following}) if following else "",
        "wanted": wanted,
        "filtered": any(wanted) or bool(after),
        "statuses": STATUSES,
        "holds": HOLDS,
        "projects": [known["id"] for known in projects["items"]],
        "verbs": VERBS,
        "nothing_selected": NOTHING_SELECTED,
        "gates": gates["items"],
        "plane": plane,
        "held": {
            kind: count for kind in HOLDS if kind != "gate" and (count := sum(o["hold"] is not None and o["hold"]["kind"] == kind for o in items))
        },
        "failed": sum(o["status"] == "failed" for o in items),
    }


async def _listed(backend: Backend, wanted: Wanted, after: str) -> tuple[list[Context], str | None]:
    """Return a page of the runs that fit, newest first, and where the next begins. Raises Problem."""
    if not wanted.hold:
        listed = await backend.ask("orchestrations", status=wanted.status or None, project=wanted.project or None, limit=LIMIT, after=after or None)
        return listed["items"], listed["next"]
    found = await selection.live(backend, wanted, each_max=selection.LOOKED_AT)  # only what is live is held
    begins = next((place + 1 for place, o in enumerate(found) if o["id"] == after), 0)
    page = found[begins : begins + LIMIT]
    return page, page[-1]["id"] if len(found) > begins + LIMIT else None


PAGES = (Page("/", "runs.html", load, patches="runs_patches.html", topics=lambda visit: frozenset({ANY}), nav="runs"),)
