"""Placement: which node takes an orchestration. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bus_schemas.entities import Node
from bus_schemas.policy import Policy, models_of
from bus_schemas.routing import agent_for
from controller.orchestration import Orchestration


def not_offered(models: Iterable[str], node: Node) -> list[str]:
    """Return the models that no agent of a node takes."""
    return [model for model in models if agent_for(node.agents, model) is None]


def least_loaded(nodes: Iterable[Node], load: Mapping[str, int]) -> Node | None:
    """Return the node with the fewest open runs for its capacity; the first by name among equals, None where there is none."""
    return min(nodes, key=lambda node: (load.get(node.id, 0) / max(1, node.capacity), node.id), default=None)


def models_needed(o: Orchestration, policy: Policy) -> tuple[str, ...]:
    """Return the models that the rest of an orchestration needs: those of the policy and of tasks that are not done."""
    of_tasks = (task.model for phase in o.phases for task in phase.tasks if task.model is not None and task.status in ("pending", "in_progress"))
    return tuple(dict.fromkeys((*models_of(policy), *of_tasks)))


def elsewhere(o: Orchestration, nodes: Iterable[Node], load: Mapping[str, int]) -> Node | None:
    """Return the node that an orchestration would go on on, other than its own; None where none fits.

    `nodes` are online. A cordoned node takes no new work.
    """
    needed = models_needed(o, o.active_policy)
    return least_loaded((node for node in nodes if node.id != o.node and not node.cordoned and not not_offered(needed, node)), load)
