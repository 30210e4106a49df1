"""Nodes: who is there, what runs on them, which agents they offer; cordon and drain, with what a drain would do."""

from __future__ import annotations

from bus import host
from console.news import NODES
from console.page import Context, Page, Visit

LOOK_EVERY_S = 2.0


async def load_all(visit: Visit) -> Context:
    """Return all nodes. Raises Problem."""
    return {"nodes": (await visit.backend.ask("nodes"))["items"], "key": host.unique()}


async def load_one(visit: Visit) -> Context:
    """Return a node, with the orchestrations that are on it and where they would go. Raises Problem."""
    node = await visit.backend.ask("node", id=visit.params["id"])
    placed = await visit.backend.ask("placement", node=visit.params["id"])
    return {"node": node, "placed": placed["items"], "key": host.unique()}


PAGES = (
    Page("/nodes", "nodes.html", load_all, "nodes_patches.html", lambda visit: frozenset({NODES}), LOOK_EVERY_S, nav="nodes"),
    Page("/nodes/{id}", "node.html", load_one, "node_patches.html", lambda visit: frozenset({NODES}), LOOK_EVERY_S, nav="nodes"),
)
