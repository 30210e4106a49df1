"""The plan of an orchestration as an operator changes it: pending tasks are edited, skipped, given a model; new ones are inserted."""

from __future__ import annotations

from bus import host
from console.page import Context, Page, Visit
from console.pages import orchestration

CHANGEABLE = ("planned", "executing", "blocked")


async def load(visit: Visit) -> Context:
    """Return the plan with what can be changed in it, and why the rest cannot. Raises Problem."""
    context = await orchestration.head(visit)
    o = context["o"]
    nodes = (await visit.backend.ask("nodes"))["items"]
    models = sorted({model for node in nodes if node["id"] == o["node"] for agent in node["agents"] for model in agent["models"]})
    ended = o["status"] in ("complete", "failed", "cancelled")
    open_phases = [p["phase"] for p in o["plan"] if p["status"] in CHANGEABLE and not ended]
    return {**context, "tab": "plan", "models": models, "open_phases": open_phases, "locked": ended, "form_key": host.unique()}


PAGES = (
    Page(
        "/orchestrations/{id}/plan/edit",
        "orchestration_editor.html",
        load,
        "orchestration_editor_patches.html",
        lambda visit: frozenset({visit.params["id"]}),
        nav="runs",
    ),
)
