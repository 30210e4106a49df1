"""Flags: which kinds of command are taken."""

from __future__ import annotations

from bus import host
from bus_schemas.ids import PLANE
from console.news import FLAGS
from console.page import Context, Page, Visit

CHANGES = 20
MEANING = {
    "cp.launch": "launches are taken",
    "cp.runtime_controls": "pause, resume, retry, cancel and gates are taken",
    "cp.policy_reconfiguration": "changes of a policy are taken",
    "cp.task_reconfiguration": "changes of pending tasks are taken",
    "require_reason": "what steers must say why",
}


async def load(visit: Visit) -> Context:
    """Return the flags and their last changes. Raises Problem."""
    flags = (await visit.backend.ask("flags"))["items"]
    actions = (await visit.backend.ask("actions", project=PLANE, limit=200))["items"]
    changes = [action for action in actions if action["type"] in ("flag-set", "flag-rollback")][:CHANGES]
    return {"flags": flags, "changes": changes, "meaning": MEANING, "key": host.unique()}


PAGES = (Page("/flags", "flags.html", load, "flags_patches.html", lambda visit: frozenset({FLAGS, PLANE}), nav="flags"),)
