"""Launch: what, where, by which policy; with what it comes to beside it, before anything is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from bus import host
from bus_schemas.commands import Launch
from bus_schemas.design import phases
from bus_schemas.policy import PRESETS, Preset
from bus_schemas.reasons import Reason
from console import forms, launching
from console.backend import Backend, Problem
from console.equivalent import command_line
from console.page import Context, Page, Visit

if TYPE_CHECKING:
    from console.app import Console

LIMIT = 500
PRESET_NAMES = tuple(preset.value for preset in Preset)


async def load(visit: Visit) -> Context:
    """Return the form, filled by the query string: a project, a design, tickets, a preset, or `clone` of an orchestration. Raises Problem."""
    ask = visit.backend.ask
    cloned = await ask("orchestration", id=visit.query["clone"]) if visit.query.get("clone") else None
    projects = (await ask("projects"))["items"]
    chosen = cloned["project"] if cloned is not None else visit.query.get("project", "")
    project = chosen if chosen or not projects else projects[0]["id"]
    designs = [d for d in (await ask("designs", project=project, limit=LIMIT))["items"] if d["status"] != "archived"] if project else []
    wanted = cloned["design"] if cloned is not None else visit.query.get("design", "")
    ready = next((d["id"] for d in designs if not d["problems"]), "")
    design = next((d for d in designs if d["id"] == (wanted or ready)), None)
    tickets = (await ask("tickets", project=project, limit=LIMIT))["items"] if project else []
    nodes = (await ask("nodes"))["items"]
    preset = _preset(visit, cloned)
    values = msgspec.to_builtins(PRESETS[Preset(preset)]) if cloned is None else cloned["active_policy"]
    return {
        "projects": projects,
        "project": project,
        "designs": designs,
        "design": design,
        "phases": await _phases(visit.backend, design),
        "tickets": [t for t in tickets if t["status"] not in ("done", "canceled")],
        "picked": set(cloned["tickets"]) if cloned is not None else set(visit.query.getlist("tickets")),
        "nodes": sorted(nodes, key=lambda n: (not n["online"], n["cordoned"], n["id"])),
        "node": "auto",
        "models": sorted({model for node in nodes if node["online"] for agent in node["agents"] for model in agent["models"]}),
        "fields": launching.fields(),
        "values": values,
        "legends": launching.LEGENDS,
        "presets": PRESET_NAMES,
        "preset": preset,
        "cloned": cloned,
        "key": host.unique(),
    }


def _preset(visit: Visit, cloned: dict[str, Any] | None) -> str:
    if cloned is not None and cloned["preset_origin"] in PRESET_NAMES:
        return str(cloned["preset_origin"])
    return visit.choice("preset", PRESET_NAMES, Preset.BALANCED.value)


async def _phases(backend: Backend, design: dict[str, Any] | None) -> list[dict[str, Any]]:
    if design is None:
        return []
    body = (await backend.ask("design", id=design["id"]))["body"] or ""
    return [{"number": phase.number, "title": phase.title} for phase in phases(body)]


PAGES = (Page("/launch", "launch.html", load, nav="launch"),)


def routes(console: Console) -> list[Route]:
    """Return the panel that says what the form comes to."""

    async def resolve(request: Request) -> Response:
        try:
            form = await forms.read(request)
            command = forms.command_of("launch", form)
        except Problem as problem:
            if problem.code != Reason.MISSING_FIELD:
                return HTMLResponse(console.templates.get_template("launch_resolved.html").render({"problem": problem}), problem.status)
            return HTMLResponse(console.templates.get_template("launch_resolved.html").render({"problem": problem}))
        assert isinstance(command, Launch)
        pruned = launching.pruned(command)
        found = launching.resolved(pruned)
        design = await console.backend.ask("design", id=pruned.design)
        enabled = None if found.policy is None else found.policy.flow.phases_enabled
        context = {
            "problem": None,
            "found": found,
            "equivalent": command_line(pruned, reason=form.one("reason").strip() or None),
            "phases": [(p.number, p.title, enabled is None or p.number in enabled) for p in phases(design["body"] or "")],
            "design": design,
            "design_only": not pruned.tickets,
        }
        return HTMLResponse(console.templates.get_template("launch_resolved.html").render(context))

    return [Route("/launch/resolve", resolve, methods=["POST"])]
