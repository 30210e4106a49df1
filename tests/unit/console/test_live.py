"""Live pages: rendered once for all who look, coalesced, resumed by sequence, ended when the server ends."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest

from bus.connection import Bus, connect
from bus.embedded import EmbeddedServer
from console import live as live_module
from console.live import Full, Live, event
from console.news import ANY, News

pytestmark = pytest.mark.anyio
TOPICS = frozenset({"shop-o1"})


@pytest.fixture
async def news(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[News]:
    """News of a real connection, told by the test."""
    async with EmbeddedServer(tmp_path_factory.mktemp("bus")) as server:
        bus: Bus = await connect(server.url, "local", server.credentials)
        try:
            yield News(bus)
        finally:
            await bus.close()


class Pages:
    """Renders what it is told to, and counts."""

    def __init__(self) -> None:
        self.html, self.count = "<p>one</p>", 0

    async def render(self) -> str:
        self.count += 1
        return self.html


def tell(news: News, seq: int, *topics: str) -> None:
    news.seq = seq
    news.tell(seq, frozenset({ANY, *topics}))


async def patch(stream: AsyncIterator[str]) -> str:
    """Return the next event that is no beat."""
    with anyio.fail_after(5):
        while (found := await anext(stream)).startswith("event: qd-beat"):
            pass
    return found


async def quiet(stream: AsyncIterator[str], s: float) -> bool:
    """Return whether no patch comes for a while; the stream is over afterwards."""
    with anyio.move_on_after(s):
        await patch(stream)
        return False
    return True


async def test_the_first_word_of_a_stream_is_where_the_ledger_is(news: News) -> None:
    news.seq = 41
    stream = Live(news).stream("/x", TOPICS, Pages().render, 41)
    assert (await anext(stream)).startswith("event: qd-beat\ndata: live 41 ")
    await stream.aclose()


async def test_a_page_that_is_as_new_as_the_ledger_is_not_sent_again(news: News) -> None:
    pages = Pages()
    news.seq = 41
    assert await quiet(Live(news).stream("/x", TOPICS, pages.render, 41), 0.5)
    assert pages.count == 0


async def test_a_browser_that_comes_back_is_told_what_it_missed(news: News) -> None:
    news.seq = 41
    stream = Live(news).stream("/x", TOPICS, Pages().render, 40)
    assert await patch(stream) == "id: 41\ndata: <p>one</p>\n\n"
    await stream.aclose()


async def test_news_about_a_page_is_sent_and_news_about_another_is_not(news: News) -> None:
    pages, live = Pages(), Live(news)
    stream = live.stream("/x", TOPICS, pages.render, 0)
    await anext(stream)
    tell(news, 1, "shop-o2")
    await anyio.sleep(0.1)
    assert pages.count == 0
    tell(news, 2, "shop-o1")
    assert (await patch(stream)).startswith("id: 2\n")
    await stream.aclose()


async def test_many_news_are_one_patch(news: News) -> None:
    pages, live = Pages(), Live(news)
    stream = live.stream("/x", TOPICS, pages.render, 0)
    await anext(stream)
    for seq in range(1, 101):
        tell(news, seq, "shop-o1")
    assert (await patch(stream)).startswith("id: 100\n")
    assert pages.count == 1
    await stream.aclose()


async def test_what_many_look_at_is_rendered_once_for_all(news: News) -> None:
    pages, live = Pages(), Live(news)
    streams = [live.stream("/x", TOPICS, pages.render, 0) for _ in range(20)]
    for stream in streams:
        await anext(stream)
    tell(news, 1, "shop-o1")
    assert {await patch(stream) for stream in streams} == {"id: 1\ndata: <p>one</p>\n\n"}
    assert pages.count == 1
    assert live.viewers == 20
    for stream in streams:
        await stream.aclose()
    assert live.viewers == 0


async def test_a_page_that_looks_the_same_is_not_sent(news: News) -> None:
    pages, live = Pages(), Live(news)
    stream = live.stream("/x", TOPICS, pages.render, 0)
    await anext(stream)
    tell(news, 1, "shop-o1")
    await patch(stream)
    tell(news, 2, "shop-o1")
    assert await quiet(stream, 0.7)
    assert pages.count == 2


async def test_who_is_asked_may_hear_of_it_later_than_we_and_a_page_that_broke_is_looked_at_again(news: News) -> None:
    class Late(Pages):
        async def render(self) -> str:
            if self.count == 2:
                self.count += 1
                raise RuntimeError("broken once")
            await super().render()
            return self.html if self.count != 4 else "<p>two</p>"

    pages, live = Late(), Live(news)
    stream = live.stream("/x", TOPICS, pages.render, 0)
    await anext(stream)
    tell(news, 1, "shop-o1")
    assert "one" in await patch(stream)
    tell(news, 2, "shop-o1")
    assert "two" in await patch(stream)
    await stream.aclose()


async def test_one_who_comes_later_is_sent_what_the_page_has_become(news: News) -> None:
    pages, live = Pages(), Live(news)
    first = live.stream("/x", TOPICS, pages.render, 0)
    await anext(first)
    tell(news, 5, "shop-o1")
    await patch(first)
    late = live.stream("/x", TOPICS, pages.render, 3)
    assert (await patch(late)).startswith("id: 5\n")
    await first.aclose()
    await late.aclose()


async def test_all_streams_end_when_the_server_ends(news: News) -> None:
    live = Live(news)
    stream = live.stream("/x", TOPICS, Pages().render, 0)
    await anext(stream)
    async with anyio.create_task_group() as tasks:

        async def drain() -> None:
            with anyio.fail_after(2):
                assert [found async for found in stream if not found.startswith("event: qd-beat")] == []

        tasks.start_soon(drain)
        await anyio.sleep(0.05)
        await live.end()
    assert live.viewers == 0


async def test_more_viewers_than_we_keep_up_with_are_refused(news: News, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "VIEWERS_MAX", 1)
    live = Live(news)
    one = live.stream("/x", TOPICS, Pages().render, 0)
    await anext(one)
    with pytest.raises(Full):
        await anext(live.stream("/x", TOPICS, Pages().render, 0))
    await one.aclose()


def test_html_of_several_lines_is_one_event() -> None:
    assert event("<p>\na\rb\n\n</p>", 7) == "id: 7\ndata: <p>\ndata: a\ndata: b\ndata: \ndata: </p>\n\n"
