"""Live pages: one stream of server-sent events for each page, patched when there is news about it.

Owns the subscriptions. What many look at is rendered once for all of them; patches are coalesced, and who has the page as it was before is
sent only what has changed; each has the ledger sequence it is true for as its id, which is where a browser that comes back goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

import anyio

from bus import host
from console import pieces
from console.backend import Problem
from console.news import News

log = logging.getLogger(__name__)

COALESCE_S = 0.25
SETTLE_S = (1.0, 5.0)
"""When a page is looked at again after news. Who is asked may hear of it later than we: a controller that has stored a decision and not
folded it yet, a timeline that is behind."""
BEAT_S = 5.0
VIEWERS_MAX = 500

Render = Callable[[], Awaitable[str]]
"""Returns the patches of a page as HTML."""


class Full(Exception):
    """More pages are open than we keep up with."""


class _Topic:
    """A page that somebody looks at: what it shows now, and who waits for the next."""

    def __init__(self, key: str, topics: frozenset[str], render: Render, every_s: float | None, rest_s: float) -> None:
        self.key, self.topics, self.render, self.every_s, self.rest_s = key, topics, render, every_s, rest_s
        self.viewers = 0
        self.seq = 0
        self.html = ""
        self.change = ""
        """What of `html` the version before had not."""
        self.version = 0
        self.dirty = asyncio.Event()
        self.changed = asyncio.Condition()
        self.task: asyncio.Task[None] | None = None


class Live:
    """All pages that are looked at right now."""

    def __init__(self, news: News) -> None:
        """Be told by `news`."""
        self._news = news
        self._pages: dict[str, _Topic] = {}
        self.ending = asyncio.Event()
        news.listen(self._on_news)

    @property
    def viewers(self) -> int:
        """How many browsers look."""
        return sum(page.viewers for page in self._pages.values())

    def _on_news(self, seq: int, topics: frozenset[str]) -> None:
        for page in self._pages.values():
            if page.topics & topics:
                page.dirty.set()

    async def stream(
        self, key: str, topics: frozenset[str], render: Render, after: int, every_s: float | None = None, rest_s: float = COALESCE_S
    ) -> AsyncIterator[str]:
        """Yield server-sent events for one viewer of the page `key`, which was rendered at sequence `after`. Raises Full.

        `every_s`: look again this often also without news, for what is not in the ledger (who is online). `rest_s`: and not more often.
        """
        if self.viewers >= VIEWERS_MAX:
            raise Full(f"{VIEWERS_MAX} pages are open already; close some")
        page = self._pages.get(key)
        if page is None:
            page = self._pages[key] = _Topic(key, topics, render, every_s, rest_s)
        page.viewers += 1
        if page.task is None:
            page.task = asyncio.create_task(self._keep(page))
        if self._news.seq > after or page.seq > after:
            page.dirty.set()
        try:
            seen = page.version if page.seq <= after else page.version - 1
            has: int | None = None
            yield self._beat()
            while not self.ending.is_set():
                if page.version > seen:
                    html = page.change if has == page.version - 1 else page.html
                    seen = has = page.version
                    yield event(html, page.seq)
                    continue
                async with page.changed:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(page.changed.wait(), BEAT_S)
                if page.version == seen:
                    yield self._beat()
        finally:
            page.viewers -= 1
            if page.viewers == 0 and self._pages.get(key) is page:
                del self._pages[key]
                if page.task is not None:
                    page.task.cancel()

    async def _keep(self, page: _Topic) -> None:
        """Render a page again whenever there is news about it, not more often than it may be, and once more when that has settled."""
        settle: tuple[float, ...] = ()
        while True:
            try:
                await asyncio.wait_for(page.dirty.wait(), settle[0] if settle else page.every_s)
                settle = SETTLE_S
                if page.rest_s > SETTLE_S[0]:  # what is seldom looked at is looked at when all have heard of it
                    await anyio.sleep(SETTLE_S[0])
            except TimeoutError:
                settle = settle[1:]
            page.dirty.clear()
            seq, begun = self._news.seq, host.monotonic_s()
            try:
                html = await page.render()
            except Exception as error:  # a page that broke once must not stand still for ever
                if not isinstance(error, Problem):
                    log.exception("page %s broke", page.key)
                await anyio.sleep(1.0)
                page.dirty.set()
                continue
            change = pieces.changed(page.html, html)
            if change:
                page.html, page.change, page.seq = html, change, seq
                page.version += 1
                await self._tell(page)
            await anyio.sleep(max(page.rest_s, host.monotonic_s() - begun))  # a page that takes long is not looked at all the time

    @staticmethod
    async def _tell(page: _Topic) -> None:
        async with page.changed:
            page.changed.notify_all()

    def _beat(self) -> str:
        """Say where the ledger is, and whether we hear of it: the page shows `live` or `behind` by that."""
        state = "live" if self._news.is_connected else "behind"
        return f"event: qd-beat\ndata: {state} {self._news.seq} {int(host.now().timestamp())}\n\n"

    async def end(self) -> None:
        """Let all streams end: the server is going down."""
        self.ending.set()
        for page in list(self._pages.values()):
            await self._tell(page)


def event(html: str, seq: int) -> str:
    """Return HTML as one server-sent event whose id is a ledger sequence."""
    lines = "\n".join(f"data: {line}" for line in html.splitlines())
    return f"id: {seq}\n{lines}\n\n"
