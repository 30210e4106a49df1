"""All tabs of an orchestration, and the fragments and files that belong to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from console.page import Page
from console.pages import (
    orchestration,
    orchestration_changes,
    orchestration_events,
    orchestration_logs,
    orchestration_raw,
    orchestration_timeline,
    orchestration_usage,
)

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from console.app import Console

PAGES: tuple[Page, ...] = (
    *orchestration_timeline.PAGES,
    *orchestration.PAGES,
    *orchestration_events.PAGES,
    *orchestration_logs.PAGES,
    *orchestration_changes.PAGES,
    *orchestration_usage.PAGES,
    *orchestration_raw.PAGES,
)


def routes(console: Console) -> list[BaseRoute]:
    """Return what is loaded when it is opened, and what can be taken away."""
    return [*orchestration_logs.routes(console), *orchestration_changes.routes(console), *orchestration_raw.routes(console)]
