"""Ids for shell completion, asked of the controller at the moment of the TAB. Quick, or nothing: a shell waits for it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

COMPLETION_TIMEOUT_S = 1.5

Completer = Callable[[Any], list[tuple[str, str]]]


def ids_of(query: str, *, field: str = "id", told: str = "") -> Completer:
    """Return a completer with the ids of a list, each with the field `told` beside it; an empty list when nobody answers."""

    def complete(context: Any) -> list[tuple[str, str]]:
        from cli.failure import Failure
        from cli.options import merge
        from cli.output import Output
        from cli.session import Session

        async def ask() -> list[dict[str, Any]]:
            options = merge({"timeout": f"{COMPLETION_TIMEOUT_S}s"}, os.environ, {}, {})
            async with Session(options, Output(options)) as session:
                answer = await session.ask(query, limit=200)
                items: list[dict[str, Any]] = answer["items"]
                return items

        try:
            items = asyncio.run(ask())
        except Failure:
            return []
        return [(str(item[field]), str(item.get(told) or "")) for item in items]

    return complete


projects = ids_of("projects", told="name")
designs = ids_of("designs", told="title")
tickets = ids_of("tickets", told="title")
orchestrations = ids_of("orchestrations", told="feature")
gates = ids_of("gates", field="orchestration", told="feature")
actions = ids_of("actions", field="action", told="type")
nodes = ids_of("nodes")
flags = ids_of("flags", field="flag")
