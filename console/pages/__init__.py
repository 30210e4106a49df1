"""The pages of the console, each with the file of its noun."""

from __future__ import annotations

from typing import TYPE_CHECKING

from console.page import Page
from console.pages import audit, bulk, catalogue, flags, inbox, launch, metrics, nodes, orchestration_tabs, plan, policy, runs

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from console.app import Console

PAGES: tuple[Page, ...] = (
    *runs.PAGES,
    *orchestration_tabs.PAGES,
    *policy.PAGES,
    *plan.PAGES,
    *inbox.PAGES,
    *nodes.PAGES,
    *launch.PAGES,
    *catalogue.PAGES,
    *flags.PAGES,
    *audit.PAGES,
    *metrics.PAGES,
)


def extra_routes(console: Console) -> list[BaseRoute]:
    """Return the routes that are no pages: fragments that are loaded when they are opened, files to take away."""
    return [*audit.routes(console), *bulk.routes(console), *launch.routes(console), *orchestration_tabs.routes(console)]
