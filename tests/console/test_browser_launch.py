"""Launching from the page alone: one form is one launch, whatever happens on the way."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Route, expect

from tests.acceptance.deck import GREETING, Deck
from tests.console.conftest import Watched

pytestmark = pytest.mark.anyio


def launches(deck: Deck, feature: str) -> list[str]:
    """Return the orchestrations of a feature."""
    return [o["id"] for o in deck.json("ls", "--limit", "200")["items"] if o["feature"] == feature]


async def form(deck: Deck, watched: Watched, feature: str) -> None:
    """Open the launch form of a design that is ready, with the shell as every role's model."""
    design = deck.design("shop", feature, GREETING)
    await watched.open(f"/launch?project=shop&design={design}")
    await watched.page.fill("#all-models", "shell")
    await watched.page.press("#all-models", "Tab")
    await expect(watched.page.locator("#resolved")).to_contain_text("--model shell")


async def test_a_double_click_is_one_launch_and_it_is_seen_through_to_its_end(deck: Deck, watched: Watched) -> None:
    page = watched.page
    await form(deck, watched, "Clicked twice")
    await expect(page.locator("#resolved")).to_contain_text("Design only")
    await page.get_by_role("button", name="Launch", exact=True).dblclick()
    receipt = page.locator("#outcome .receipt.good").first
    await expect(receipt).to_contain_text("launch accepted")
    await expect(receipt.locator("code")).to_contain_text("qd launch")
    await receipt.get_by_role("link", name=re.compile(r"shop-o\d+")).click()
    await expect(page.locator("#head h1")).to_contain_text("complete", timeout=30_000)
    assert len(launches(deck, "Clicked twice")) == 1


async def test_a_cut_connection_and_another_try_are_one_launch(deck: Deck, watched: Watched) -> None:
    page = watched.page
    watched.expected = ("Failed to load resource", "net::ERR", "Failed to fetch", "Fetch API")
    await form(deck, watched, "Cut on the way")
    tries: list[str] = []

    async def cut(route: Route) -> None:
        body = route.request.post_data or ""
        tries.append(body)
        if len(tries) == 1:
            await route.fetch()  # it arrives and is decided; its answer is lost
            await route.abort("connectionreset")
        else:
            await route.continue_()

    await page.route("**/command/launch", cut)
    await page.get_by_role("button", name="Launch", exact=True).click()
    await expect(page.locator("#outcome [role=alert]")).to_contain_text("did not answer")
    await page.get_by_role("button", name="Launch", exact=True).click()
    await expect(page.locator("#outcome .receipt.good")).to_contain_text("decided before")
    assert tries[0] == tries[1]
    assert len(launches(deck, "Cut on the way")) == 1


async def test_a_page_that_is_loaded_again_launches_nothing_more(deck: Deck, watched: Watched) -> None:
    page = watched.page
    await form(deck, watched, "Loaded again")
    await page.get_by_role("button", name="Launch", exact=True).click()
    await expect(page.locator("#outcome .receipt.good")).to_be_visible()
    await page.reload()
    await expect(page.locator("#resolved")).to_contain_text("policy")
    assert len(launches(deck, "Loaded again")) == 1


async def test_presets_fill_the_fields_and_what_differs_is_marked(deck: Deck, watched: Watched) -> None:
    page = watched.page
    await form(deck, watched, "By a preset")
    parallel = page.locator("#f-max_parallel_tasks")
    found = {}
    for name in ("strict", "fast", "balanced"):
        await page.get_by_role("radio", name=name).check()
        found[name] = await parallel.input_value()
        assert found[name] == await page.locator('[data-field="flow.max_parallel_tasks"]').get_attribute(f"data-{name}")
        await expect(page.locator(".field.changed")).to_have_count(0)
    await parallel.fill("7")
    await parallel.press("Tab")
    await expect(page.locator(".field.changed")).to_have_count(1)
    await expect(page.locator("#resolved ins")).to_have_text("7")
    await expect(page.locator("#resolved code").last).to_contain_text("--set flow.max_parallel_tasks=7")


async def test_all_errors_are_shown_at_once_and_the_input_is_kept(deck: Deck, watched: Watched) -> None:
    page = watched.page
    watched.expected = ("422",)
    await form(deck, watched, "All wrong")
    for field, wrong in {"max_parallel_tasks": "0", "budget_usd": "-1", "run_timeout_s": "soon"}.items():
        await page.locator(f"#f-{field}").fill(wrong)
        await page.locator(f"#f-{field}").press("Tab")
    errors = page.locator("#resolved .errors li")
    await expect(errors).to_have_count(3)
    assert {await errors.nth(i).locator("code").inner_text() for i in range(3)} == {
        "flow.max_parallel_tasks",
        "flow.budget_usd",
        "flow.run_timeout_s",
    }
    await page.get_by_role("button", name="Launch", exact=True).click()
    await expect(page.locator("#outcome [role=alert] .code")).to_contain_text("validation_")
    await expect(page.locator("#f-run_timeout_s")).to_have_value("soon")
    assert launches(deck, "All wrong") == []


async def test_a_dry_run_says_what_would_be_and_launches_nothing(deck: Deck, watched: Watched) -> None:
    page = watched.page
    await form(deck, watched, "Only asked")
    await page.get_by_role("button", name="Dry run").click()
    await expect(page.locator("#preview")).to_contain_text("Nothing was changed.")
    assert launches(deck, "Only asked") == []
