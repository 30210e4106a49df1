"""Pages of a list of a service, one after the other. Owns nothing: it asks through what it is given."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any


async def all_pages(ask: Callable[..., Awaitable[dict[str, Any]]]) -> dict[str, Any]:
    """Return all pages of a list as one answer, the last one with the items of all; `ask` takes `after`. Raises what `ask` raises."""
    answer = await ask()
    items = list(answer["items"])
    while answer["next"] is not None:
        answer = await ask(after=answer["next"])
        items += answer["items"]
    return {**answer, "items": items}
