"""One `qd up` with its console for all tests of the console, raw HTTP for attacks, and Chromium for what people see.

Chromium is taken from `CHROMIUM` or the PATH; where there is none, the tests that need it skip and say so.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from tests.acceptance.deck import GREETING, Deck, make_repo, waiting
from tests.console.http import Http

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--no-first-run"]
expect.set_options(timeout=15_000)


@pytest.fixture(scope="session")
def deck(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deck]:
    deck = Deck(tmp_path_factory.mktemp("console"))
    deck.up("--console-port", "0")
    try:
        deck.qd("project", "add", "shop", "--repo", str(make_repo(deck.folder / "shop")))
        deck.design("shop", "Greeting", GREETING)
        yield deck
    finally:
        deck.down()


@pytest.fixture(scope="session")
def http(deck: Deck) -> Http:
    """A client that is logged in."""
    return Http.logged_in(deck.qd("open", "--print").out.strip())


@pytest.fixture(scope="session")
def chromium() -> str:
    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not found or not Path(found).exists():
        pytest.skip("no Chromium: set CHROMIUM, or install the package of your system")
    return found


@pytest.fixture(scope="module")
async def browser(chromium: str) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        await browser.close()


def standing(marker: Path) -> str:
    """Return a design of two tasks, of which the first goes on until `marker` exists (five minutes at most)."""
    return waiting(marker).replace("seq 300", "seq 3000")


class Watched:
    """A page, with everything that must not happen on it: errors on its console, requests to anybody else."""

    def __init__(self, page: Page, base: str) -> None:
        self.page, self.base = page, base
        self.wrong: list[str] = []
        self.expected: tuple[str, ...] = ()
        page.on("console", lambda message: self.wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("request", lambda request: None if request.url.startswith((base, "data:")) else self.wrong.append(f"foreign: {request.url}"))

    async def open(self, path: str) -> None:
        await self.page.goto(self.base + path)

    def check(self) -> None:
        """Assert that nothing went wrong, beside what was expected."""
        left = [text for text in self.wrong if not any(part in text for part in self.expected)]
        assert left == []


async def logged_in(browser: Browser, deck: Deck, **options: object) -> BrowserContext:
    """Return a browser context of its own that is logged in."""
    context = await browser.new_context(viewport={"width": 1280, "height": 860}, **options)  # type: ignore[arg-type]
    context.set_default_timeout(15_000)
    page = await context.new_page()
    await page.goto(deck.qd("open", "--print").out.strip())
    await page.close()
    return context


@pytest.fixture
async def watched(browser: Browser, deck: Deck) -> AsyncIterator[Watched]:
    """A page that is logged in; the test fails when its console has an error or it asks anybody else."""
    context = await logged_in(browser, deck)
    page = Watched(await context.new_page(), str(deck.facts["console"]).partition("/login")[0])
    yield page
    await context.close()
    page.check()
