"""An orchestration: where it stands, what holds it, what can be done, and one tab for each way to look at it."""

from __future__ import annotations

from bus import host
from console.page import Context, Page, Visit

TABS = (("plan", "Plan"), ("policy", "Policy"), ("why", "Why"))


async def head(visit: Visit) -> Context:
    """Return what the head and the action bar of every tab show. Raises Problem."""
    o = await visit.backend.ask("orchestration", id=visit.params["id"])
    return {"o": o, "tabs": TABS, "controls": controls(o), "key": host.unique()}


def controls(o: Context) -> list[Context]:
    """Return the controls of an orchestration: the command, its word, and why it cannot be given now (empty: it can)."""
    ended = f"it is {o['status']}" if o["status"] in ("complete", "failed", "cancelled") else ""
    held = {hold["kind"] for hold in o["holds"]}
    cancelling = "it is being cancelled" if "cancelling" in held else ""
    stopping = next((f"it is already {kind}" for kind in ("paused", "pausing") if kind in held), "")
    resumable = held & {"paused", "pausing", "budget", "quota"}
    retriable = held & {"blocked", "node_lost"}
    return [
        {"kind": "pause", "word": "Pause", "fields": {"mode": "drain"}, "why_not": ended or cancelling or stopping},
        {"kind": "pause", "word": "Stop now", "fields": {"mode": "stop"}, "why_not": ended or cancelling or stopping},
        {"kind": "resume", "word": "Resume", "fields": {}, "why_not": ended or cancelling or ("" if resumable else "it is not paused")},
        {"kind": "retry", "word": "Retry", "fields": {}, "why_not": ended or cancelling or ("" if retriable else "nothing of it is blocked or lost")},
    ]


async def plan(visit: Visit) -> Context:
    """Return the plan tab. Raises Problem."""
    return {**await head(visit), "tab": "plan"}


async def why(visit: Visit) -> Context:
    """Return the tab that says what holds it. Raises Problem."""
    return {**await head(visit), "tab": "why", "why": await visit.backend.ask("why", id=visit.params["id"])}


def _topics(visit: Visit) -> frozenset[str]:
    return frozenset({visit.params["id"]})


PAGES = (
    Page("/orchestrations/{id}", "orchestration_plan.html", plan, "orchestration_plan_patches.html", _topics, nav="runs"),
    Page("/orchestrations/{id}/why", "orchestration_why.html", why, "orchestration_why_patches.html", _topics, nav="runs"),
)
