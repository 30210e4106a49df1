"""Inbox: what waits for a human, oldest first. Nothing in it is ever approved by time."""

from __future__ import annotations

from bus import host
from console import selection
from console.judged import of_gates
from console.news import ANY
from console.page import Context, Page, Visit
from console.selection import Wanted

HELD = frozenset({"blocked", "node_lost", "budget", "quota"})


async def load(visit: Visit) -> Context:
    """Return the gates, and the orchestrations that go on only when somebody does something. Raises Problem."""
    answer = await visit.backend.ask("gates")
    gates = answer["items"]
    waiting = sorted(await selection.live(visit.backend, Wanted(), HELD, selection.LOOKED_AT), key=lambda o: o["hold"]["since"])
    return {"gates": gates, "waiting": waiting, "judgements": await of_gates(visit.backend, gates, answer["position"]), "key": host.unique()}


PAGES = (Page("/inbox", "inbox.html", load, "inbox_patches.html", lambda visit: frozenset({ANY}), nav="inbox"),)
