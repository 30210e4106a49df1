"""Inbox: what waits for a human, oldest first. Nothing in it is ever approved by time."""

from __future__ import annotations

from bus import host
from console.news import ANY
from console.page import Context, Page, Visit

LIVE = ("launching", "validating", "planning", "executing", "reviewing", "finalizing")
LOOKED_AT = 1000
HELD = ("blocked", "node_lost", "budget", "quota")


async def load(visit: Visit) -> Context:
    """Return the gates, and the orchestrations that go on only when somebody does something. Raises Problem."""
    gates = (await visit.backend.ask("gates"))["items"]
    waiting = []
    for status in LIVE:
        listed = await visit.backend.ask("orchestrations", status=status, limit=LOOKED_AT)
        waiting += [o for o in listed["items"] if any(hold["kind"] in HELD for hold in o["holds"])]
    waiting.sort(key=lambda o: o["hold"]["since"])
    return {"gates": gates, "waiting": waiting, "key": host.unique()}


PAGES = (Page("/inbox", "inbox.html", load, "inbox_patches.html", lambda visit: frozenset({ANY}), nav="inbox"),)
