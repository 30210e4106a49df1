"""A page: what it loads, what it shows, and what it is told about while somebody looks at it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import QueryParams

from console.backend import Backend
from console.live import COALESCE_S

Context = dict[str, Any]
Load = Callable[["Visit"], Awaitable[Context]]
TopicsOf = Callable[["Visit"], frozenset[str]]


@dataclass(frozen=True)
class Visit:
    """A look at a page: its place and its filters. Two visits with equal `key` see the same.

    `is_streamed`: for the patches of those who look at it already, whose browsers count times on by themselves.
    """

    backend: Backend
    path: str
    params: dict[str, str]
    query: QueryParams
    is_streamed: bool = False

    @property
    def key(self) -> str:
        """What the visit is told apart by."""
        return f"{self.path}?{self.query}"

    def choice(self, name: str, allowed: tuple[str, ...], default: str) -> str:
        """Return a value of the query string that is one of those allowed, else the default."""
        found = self.query.get(name, default)
        return found if found in allowed else default


@dataclass(frozen=True)
class Page:
    """A page of the console.

    `path` may have parameters (`/orchestrations/{id}`). `load` raises Problem. `patches` is the template of what is patched while it is
    looked at (`<hx-partial>` elements); None for a page that stands still. `every_s`: look again so often also without news; `rest_s`:
    however much news there is, not more often than that.
    """

    path: str
    template: str
    load: Load
    patches: str | None = None
    topics: TopicsOf = lambda visit: frozenset()
    every_s: float | None = None
    nav: str = ""
    rest_s: float = COALESCE_S
