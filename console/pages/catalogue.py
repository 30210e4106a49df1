"""Catalogue: projects, designs with what keeps them from being launched, tickets; made and changed here as from the command line."""

from __future__ import annotations

from bus import host
from bus_schemas.design import MARKERS, phases
from bus_schemas.entities import DESIGN_MOVES, TICKET_MOVES, Complexity, DesignStatus, Priority, TicketStatus
from console.page import Context, Page, Visit

LIMIT = 200
COMPLEXITIES = tuple(complexity.value for complexity in Complexity)
PRIORITIES = tuple(priority.value for priority in Priority)
ALL_MARKERS = MARKERS[Complexity.COMPLEX]


async def load_projects(visit: Visit) -> Context:
    """Return the projects. Raises Problem."""
    return {"projects": (await visit.backend.ask("projects"))["items"], "key": host.unique()}


async def load_project(visit: Visit) -> Context:
    """Return a project with its designs and tickets. Raises Problem."""
    name = visit.params["id"]
    project = await visit.backend.ask("project", id=name)
    designs = await visit.backend.ask("designs", project=name, limit=LIMIT)
    tickets = await visit.backend.ask("tickets", project=name, limit=LIMIT)
    return {
        "project": project,
        "designs": designs["items"],
        "tickets": tickets["items"],
        "more_designs": designs["next"],
        "more_tickets": tickets["next"],
        "complexities": COMPLEXITIES,
        "priorities": PRIORITIES,
        "markers": ALL_MARKERS,
        "key": host.unique(),
    }


async def load_design(visit: Visit) -> Context:
    """Return a design with its phases and where it can be moved. Raises Problem."""
    design = await visit.backend.ask("design", id=visit.params["id"])
    moves = [status.value for status in DESIGN_MOVES[DesignStatus(design["status"])]]
    found = [{"number": phase.number, "title": phase.title} for phase in phases(design["body"] or "")]
    return {"design": design, "moves": moves, "phases": found, "complexities": COMPLEXITIES, "markers": ALL_MARKERS, "key": host.unique()}


async def load_ticket(visit: Visit) -> Context:
    """Return a ticket and where it can be moved. Raises Problem."""
    ticket = await visit.backend.ask("ticket", id=visit.params["id"])
    moves = [status.value for status in TICKET_MOVES[TicketStatus(ticket["status"])]]
    return {"ticket": ticket, "moves": moves, "priorities": PRIORITIES, "key": host.unique()}


def _project_of(visit: Visit) -> frozenset[str]:
    return frozenset({visit.params["id"].rpartition("-")[0] or visit.params["id"]})


PAGES = (
    Page("/catalogue", "projects.html", load_projects, "projects_patches.html", lambda visit: frozenset({"plane"}), nav="catalogue"),
    Page("/projects/{id}", "project.html", load_project, "project_patches.html", lambda visit: frozenset({visit.params["id"]}), nav="catalogue"),
    Page("/designs/{id}", "design.html", load_design, "design_patches.html", _project_of, nav="catalogue"),
    Page("/tickets/{id}", "ticket.html", load_ticket, "ticket_patches.html", _project_of, nav="catalogue"),
)
