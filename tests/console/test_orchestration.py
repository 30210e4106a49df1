"""The page of an orchestration in Chromium: it is watched live through its tabs and steered from the page alone."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import expect

from tests.acceptance.deck import Deck, waiting
from tests.console.conftest import Watched
from tests.console.http import Http

pytestmark = pytest.mark.anyio

TALK = """## Phase 1

### Task 1: talk until told to end
```sh
printf '\\033[32mgreen\\033[0m <b>not bold</b>\\n'
for i in $(seq 300); do test -e {marker} && break; echo "word $i"; sleep 0.1; done
seq 3 > talked.txt
```

### Task 2: after
Depends on: 1
```sh
echo done > after.txt
```
"""


def launch(deck: Deck, design: str, *more: str) -> str:
    return str(deck.json("launch", design, "--node", "auto", "--model", "shell", *more)["orchestration"])


async def state(watched: Watched, word: str) -> None:
    await expect(watched.page.locator("#head h1")).to_contain_text(word)


async def test_a_run_is_watched_live_through_its_tabs_to_its_end(deck: Deck, watched: Watched, http: Http, tmp_path: Path) -> None:
    page, marker = watched.page, tmp_path / "go"
    o = launch(deck, deck.design("shop", "Talk", TALK.format(marker=marker)))
    await watched.open(f"/orchestrations/{o}")
    await expect(page.locator(".gantt .bar.running")).to_have_count(1)
    await expect(page.locator(".gantt .now")).to_have_count(1)
    await expect(page.locator(".gantt")).to_contain_text("1.2 after")
    await expect(page).to_have_title(re.compile("executing"))
    await page.get_by_role("link", name="1.1 talk until told to end").click()

    log = page.locator("#log")
    await expect(log).to_contain_text("word 3")
    await expect(page.locator("#L1 .text")).to_have_text("green <b>not bold</b>")
    before = await log.locator(".line").count()
    await page.locator("#reason").fill("half a sente")
    await expect(log.locator(".line").nth(before + 5)).to_be_visible()  # it goes on by itself
    keys = await page.locator('#head input[name="key"]').evaluate_all("all => all.map((key) => key.value)")
    marker.touch()
    await expect(page.locator("#log-end")).to_have_text("end of the log")
    await state(watched, "complete")
    await expect(page).to_have_title(re.compile("complete"))
    assert await page.locator('#head input[name="key"]').evaluate_all("all => all.map((key) => key.value)") == keys, "patches bring no keys"
    assert len(set(keys)) == len(keys) > 1
    await expect(page.locator("#reason")).to_have_value("half a sente")
    numbers = await log.locator("a.no").all_inner_texts()
    assert numbers == [str(n) for n in range(1, len(numbers) + 1)]

    run = page.url.partition("run=")[2]
    await page.get_by_placeholder("search the whole log").fill("WORD 2")
    await page.get_by_role("button", name="Search").click()
    await expect(log.locator(".line").first).to_contain_text("word 2")
    await log.locator("a.no").first.click()
    await expect(page.locator(":target")).to_contain_text("word 2")
    text = http.get(f"/orchestrations/{o}/logs/text?run={run}")
    assert text.headers["content-disposition"] == f'attachment; filename="{run}.log"'
    assert [line for line in text.body.decode().splitlines() if "bold" in line] == ["green <b>not bold</b>"]

    await page.get_by_role("link", name="Changes").click()
    row = page.locator("#change-1-1")
    await expect(row).to_contain_text("+3")
    await row.locator("summary").first.click()
    await row.locator("details.file summary").click()
    await expect(row.locator(".diff-text .add")).to_have_count(3)

    await page.get_by_role("link", name="Events").click()
    permalink = page.locator("#events th a").nth(4)
    place = await permalink.inner_text()
    await permalink.click()
    await expect(page.locator("#events th a").first).to_have_text(place)
    await expect(page.locator("tr:target")).to_contain_text(place)

    await page.get_by_role("link", name="Usage").click()
    await expect(page.locator("#usage")).to_contain_text("No agent has reported tokens")
    await page.get_by_role("link", name="Raw").click()
    await page.locator(".orders details").last.locator("summary").click()
    await expect(page.locator(".orders details").last).to_contain_text('"feature": "Talk"')
    document = http.get(f"/orchestrations/{o}/raw/document")
    assert json.loads(document.body)["id"] == o
    for word in ("Pause", "Stop now", "Resume", "Retry", "Cancel…"):
        button = page.get_by_role("group", name="Actions").get_by_role("button", name=word)
        await expect(button).to_be_disabled()
        await expect(button).to_have_attribute("aria-description", "it is complete")
    await expect(page.get_by_role("link", name="Launch again like this")).to_have_attribute("href", f"/launch?clone={o}")


async def test_it_is_paused_resumed_and_cancelled_from_the_page(deck: Deck, watched: Watched, tmp_path: Path) -> None:
    page, marker = watched.page, tmp_path / "go"
    o = launch(deck, deck.design("shop", "Steered", waiting(marker)))
    await watched.open(f"/orchestrations/{o}/why")
    actions = page.get_by_role("group", name="Actions")
    await state(watched, "executing")
    await page.locator("#reason").fill("lunch")
    await actions.get_by_role("button", name="Pause").click()
    flight = page.locator(".in-flight")
    await expect(flight).to_contain_text("pause requested")
    await expect(flight).to_contain_text("waits for 1 run")
    await expect(flight).to_contain_text("“lunch”")
    await expect(actions.get_by_role("button", name="Pause")).to_be_disabled()
    await expect(actions.get_by_role("button", name="Pause")).to_have_attribute("aria-description", "it is already pausing")
    marker.touch()
    await expect(page.locator("#hold-paused")).to_be_visible()
    await expect(flight).to_have_count(0)
    marker.unlink()
    await actions.get_by_role("button", name="Resume").click()
    await expect(page.locator("#hold-paused")).to_have_count(0)
    await state(watched, "complete")

    o = launch(deck, deck.design("shop", "Cancelled", waiting(tmp_path / "never")))
    await watched.open(f"/orchestrations/{o}")
    await expect(page.locator(".gantt .bar.running")).to_have_count(1)
    await actions.get_by_role("button", name="Cancel…").click()
    dialog = page.get_by_role("dialog", name=f"Cancel {o}")
    await dialog.locator("#cancel-id").fill("shop-o")
    await dialog.get_by_role("button", name="Cancel it").click()
    await expect(dialog).to_be_visible()  # another id is not taken
    assert deck.json("show", o)["status"] == "executing"
    await dialog.locator("#cancel-id").fill(o)
    await dialog.get_by_role("button", name="Cancel it").click()
    await expect(dialog).to_be_hidden()
    await state(watched, "cancelled")
    await expect(page.locator(".gantt .bar.cancelled")).to_have_count(1)


async def test_a_gate_is_judged_where_it_holds_and_typing_is_left_alone(deck: Deck, watched: Watched) -> None:
    page = watched.page
    o = launch(deck, "shop-d1", "--set", 'flow.human_gates=["plan"]')
    await watched.open(f"/orchestrations/{o}/plan")
    hold = page.locator("#hold-gate")
    await expect(hold.locator(".subject")).to_contain_text("write the greeting")
    feedback = hold.locator("#gate-feedback")
    await feedback.focus()
    await page.keyboard.type("say it ")
    deck.qd("policy", "set", o, "flow.max_parallel_tasks=4", "--if-revision", "1")
    await expect(page.locator("#head .facts")).to_contain_text("r2")  # patched while somebody types
    await page.keyboard.type("louder")
    await expect(feedback).to_have_value("say it louder")
    await hold.get_by_role("button", name="Reject").click()
    await expect(page.locator(".receipt.good").first).to_contain_text("gate-reject")
    await expect(hold.locator(".subject")).to_be_visible()
    deck.until(f"[g['gate'] for g in a['items'] if g['orchestration'] == '{o}'] == ['plan']", "gate", "ls")
    await expect(page.locator("#tab")).to_contain_text("plan revision 2")
    await hold.get_by_role("button", name="Approve").click()
    await state(watched, "complete")
    await page.get_by_role("link", name="Timeline").click()
    await expect(page.locator(".gantt path.gate")).to_have_count(2)


async def test_its_tabs_have_no_barrier_that_axe_knows(deck: Deck, watched: Watched) -> None:
    o = deck.json("ls")["items"][0]["id"]
    for tab in ("", "/events", "/logs", "/raw"):
        await watched.open(f"/orchestrations/{o}{tab}")
        found = (await Axe().run(watched.page)).response["violations"]
        assert [(violation["id"], violation["nodes"][0]["html"]) for violation in found] == [], tab


@pytest.mark.parametrize("path", ["logs/text?run=shop-o1-r1", "logs/more?run=../x", "raw/order?run=shop-o9-r1", "changes/diff?task=1.1&file=999999"])
async def test_fragments_of_another_orchestration_are_not_given(http: Http, path: str) -> None:
    answer = http.get(f"/orchestrations/other-o1/{path}")
    assert answer.status in (404, 422)


@pytest.mark.parametrize("query", ["events?before=x", "events?at=1.2.3", "logs?run=nope", "logs?after=-1"])
async def test_an_address_that_means_nothing_says_so(deck: Deck, http: Http, query: str) -> None:
    o = deck.json("ls")["items"][0]["id"]
    answer = http.get(f"/orchestrations/{o}/{query}")
    assert answer.status in (404, 422)
    assert b"Traceback" not in answer.body


def test_beside_a_gate_stands_how_much_its_phase_changed(deck: Deck, http: Http) -> None:
    o = launch(deck, "shop-d1", "--feature", "Judged by size", "--set", 'flow.human_gates=["review"]')
    deck.until(f"[g['gate'] for g in a['items'] if g['orchestration'] == '{o}'] == ['review']", "gate", "ls")
    for place in ("/inbox", f"/orchestrations/{o}"):
        deadline, shown = time.monotonic() + 10, ""
        while "write the greeting" not in shown and time.monotonic() < deadline:  # the timeline reads it a moment later
            page = http.get(place).body.decode()
            shown = page[page.index(f"gate-{o}" if place == "/inbox" else "hold-gate") :].partition("</table>")[0]
            time.sleep(0.05)
        assert '<strong>2</strong> files <span class="good">+2</span>' in shown
        assert "count it" in shown
        assert f'href="/orchestrations/{o}/changes"' in shown
    deck.qd("cancel", o, "--yes")
