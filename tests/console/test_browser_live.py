"""Live pages in Chromium: what comes in does not disturb who types, and what goes down is told and comes back."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from bus.embedded import free_port
from tests.acceptance.deck import GREETING, Client, Deck, make_repo, waiting
from tests.console.conftest import Watched

pytestmark = pytest.mark.anyio
BACK_MS = 20_000
NOISE = ("Failed to load resource", "net::ERR", "ERR_CONNECTION", "503", "504", "htmx:")
"""What a browser itself says of a server that is away."""


class Parts:
    """The services of an installation, each a process of its own that can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.client = Client(folder)
        self.ports = {"bus": free_port(), "console": free_port()}
        self.client.env["QD_SERVER"] = f"nats://127.0.0.1:{self.ports['bus']}"
        self.processes: dict[str, subprocess.Popen[str]] = {}
        self.link = ""

    def start(self, name: str) -> dict[str, Any]:
        more = ["--port", str(self.ports[name])] if name in self.ports else []
        more += ["--name", "deck"] if name == "node" else []
        process = self.client.start("serve", name, *more, "--data", str(self.client.folder / "data" / name), "-o", "json")
        self.processes[name] = process
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise AssertionError(f"{name} did not start: {process.stderr.read() if process.stderr else ''}")
        facts: dict[str, Any] = json.loads(line)
        if "token_file" in facts:
            self.client.env["QD_TOKEN_FILE"] = facts["token_file"]
        if name == "console":
            self.link = facts["url"]
        return facts

    def end(self, name: str, number: int = signal.SIGKILL) -> None:
        process = self.processes.pop(name)
        process.send_signal(number)
        process.communicate(timeout=15)


@pytest.fixture(scope="module")
async def parts(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Parts]:
    parts = Parts(tmp_path_factory.mktemp("parts"))
    try:
        for name in ("bus", "controller", "node", "console"):
            parts.start(name)
        parts.client.qd("project", "add", "shop", "--repo", str(make_repo(parts.client.folder / "shop")))
        parts.client.design("shop", "Greeting", GREETING)
        yield parts
    finally:
        for name in ("console", "node", "controller", "bus"):
            if name in parts.processes:
                parts.end(name, signal.SIGTERM)


@pytest.fixture(scope="module")
async def living(browser: Browser, parts: Parts) -> AsyncIterator[Watched]:
    """A page of the installation of parts, logged in."""
    context = await browser.new_context()
    page = await context.new_page()
    await page.goto(parts.link)
    watched = Watched(page, parts.link.partition("/login")[0])
    watched.expected = NOISE
    yield watched
    await context.close()
    watched.check()


async def live(page: Page) -> None:
    await expect(page.locator("#live")).to_have_attribute("data-state", "live", timeout=BACK_MS)


async def test_text_and_caret_stay_while_patches_come(deck: Deck, watched: Watched, tmp_path: Path) -> None:
    page, marker = watched.page, tmp_path / "go"
    o = deck.json("launch", deck.design("shop", "Typed over", waiting(marker)), "--node", "auto", "--model", "shell")["orchestration"]
    deck.until("a['plan']", "show", o)
    await watched.open(f"/orchestrations/{o}")
    await live(page)
    await page.fill("#reason", "half a sentence")
    await page.evaluate("document.getElementById('reason').setSelectionRange(4, 6)")
    before = int(await page.locator("#live .seq").inner_text())
    deck.qd("pause", o)
    await expect(page.locator("#head")).to_contain_text("paus")
    deck.qd("resume", o)
    marker.touch()
    await expect(page.locator("#head h1")).to_contain_text("complete", timeout=BACK_MS)
    await expect(page.locator("#reason")).to_have_value("half a sentence")
    assert await page.evaluate("[document.activeElement.id, document.activeElement.selectionStart, document.activeElement.selectionEnd]") == [
        "reason",
        4,
        6,
    ]
    assert int(await page.locator("#live .seq").inner_text()) > before


async def test_a_console_that_goes_down_is_told_and_when_it_is_back_nothing_is_missing(parts: Parts, living: Watched) -> None:
    page = living.page
    await living.open("/catalogue")
    await live(page)
    await page.fill("#project", "half")
    parts.end("console")
    await expect(page.locator("#live")).to_have_attribute("data-state", "reconnecting", timeout=BACK_MS)
    await expect(page.locator("#behind")).to_contain_text("has not answered", timeout=BACK_MS)
    parts.client.qd("project", "add", "second", "--repo", str(parts.client.folder / "shop"))
    parts.start("console")
    await live(page)
    await expect(page.locator("#project-second")).to_be_visible(timeout=BACK_MS)
    await expect(page.locator("#behind")).to_be_hidden()
    await expect(page.locator("#project")).to_have_value("half")


async def test_a_command_while_the_controller_is_away_is_told_and_takes_effect_once(parts: Parts, living: Watched) -> None:
    page = living.page
    await living.open("/catalogue")
    await live(page)
    parts.end("controller")
    await page.fill("#project", "third")
    await page.fill("#repo", str(parts.client.folder / "shop"))
    await page.get_by_role("button", name="Add project").click()
    await page.wait_for_timeout(300)
    parts.start("controller")
    await expect(page.locator("#project-third")).to_be_visible(timeout=BACK_MS)
    await expect(page.locator("#outcome .receipt")).to_be_visible(timeout=BACK_MS)
    await live(page)
    added = [a for a in parts.client.json("action", "ls", "--limit", "50")["items"] if a["type"] == "project-add"]
    assert len([a for a in added if a["status"] == "completed"]) == 3


async def test_a_bus_that_goes_down_is_told_and_when_it_is_back_nothing_is_missing(parts: Parts, living: Watched) -> None:
    page = living.page
    await living.open("/catalogue")
    await live(page)
    parts.end("bus")
    await expect(page.locator("#live")).to_have_attribute("data-state", "behind", timeout=BACK_MS)
    await expect(page.locator("#behind")).to_contain_text("lost the bus", timeout=BACK_MS)
    parts.start("bus")
    await live(page)
    parts.client.qd("project", "add", "fourth", "--repo", str(parts.client.folder / "shop"))
    await expect(page.locator("#project-fourth")).to_be_visible(timeout=BACK_MS)
