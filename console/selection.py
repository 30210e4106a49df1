"""Which runs are meant: a filter in an address or a form, and the live ones that fit it.

Asks the controller, which keeps what is live in memory: by status, page after page.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from bus_schemas.events import HoldKind, OrchestrationStatus
from console.backend import Backend
from console.page import Context

PAGE = 1000
LOOKED_AT = 1000
"""Of each status, where a page is drawn again and again."""
STATUSES = tuple(status.value for status in OrchestrationStatus)
HOLDS = tuple(kind.value for kind in HoldKind)
ENDED = ("complete", "failed", "cancelled")
LIVE = tuple(status for status in STATUSES if status not in ENDED)


class Wanted(NamedTuple):
    """A filter; what is empty takes everything."""

    project: str = ""
    status: str = ""
    hold: str = ""

    @classmethod
    def read(cls, value: Callable[[str], str]) -> Wanted:
        """Return the filter that `value` (a field by its name) means; a word that is no status or hold is left out."""
        status, hold = value("status"), value("hold")
        return cls(value("project").strip().lower(), status if status in STATUSES else "", hold if hold in HOLDS else "")

    @property
    def live_statuses(self) -> tuple[str, ...]:
        """The statuses of live runs that fit."""
        return LIVE if not self.status else tuple(status for status in LIVE if status == self.status)


def fits(o: Context, holds: frozenset[str]) -> bool:
    """Return whether an orchestration has one of these holds; without any all fit."""
    return not holds or any(hold["kind"] in holds for hold in o["holds"])


async def live(backend: Backend, wanted: Wanted, holds: frozenset[str] = frozenset(), each_max: int | None = None) -> list[Context]:
    """Return the live orchestrations that fit the filter and have one of `holds` (none: any), newest first. Raises Problem.

    `each_max`: how many of each status are looked at; None: all.
    """
    holds = holds | ({wanted.hold} if wanted.hold else frozenset())
    found: list[Context] = []
    for status in wanted.live_statuses:
        after, looked_at = None, 0
        while looked_at == 0 or (after is not None and (each_max is None or looked_at < each_max)):
            page = await backend.ask("orchestrations", status=status, project=wanted.project or None, limit=PAGE, after=after)
            found += [o for o in page["items"] if fits(o, holds)]
            after, looked_at = page["next"], looked_at + PAGE
    # one that moved on while it was asked for may stand under two statuses: the later word counts
    return sorted({o["id"]: o for o in found}.values(), key=lambda o: o["created_at"], reverse=True)
