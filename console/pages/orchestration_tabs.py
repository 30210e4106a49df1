"""All tabs of an orchestration, and the fragments and files that belong to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from console.page import Page
from console.pages import orchestration, orchestration_timeline

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from console.app import Console

PAGES: tuple[Page, ...] = (*orchestration_timeline.PAGES, *orchestration.PAGES)


def routes(console: Console) -> list[BaseRoute]:
    """Return what is loaded when it is opened, and what can be taken away."""
    return []
