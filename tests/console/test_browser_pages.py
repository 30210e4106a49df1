"""Every page: for everybody (axe), with what hostile people wrote, without JavaScript, by keys alone, and where nothing may be changed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, expect

from tests.acceptance.deck import Deck
from tests.console.conftest import Watched, logged_in, standing
from tests.console.http import Http

pytestmark = pytest.mark.anyio

RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa"]}
HOSTILE = (
    "<script>window.ran=1</script><img src=x onerror=window.ran=2>\"'><svg/onload=window.ran=3>"
    '</textarea></title></pre><a href="javascript:window.ran=4">x</a> {{7*7}} {% raw %} \u202egnp.exe\u202c [x](javascript:window.ran=5)'
)
SHOUT = """## Phase 1

### Task 1: <img src=x onerror=window.ran=6> {{7*7}}
```sh
printf '%s\\n' '<script>window.ran=7</script> <img src=x onerror=window.ran=8> {{7*7}}'
printf '\\033[31mred\\033[0m \\033]8;;javascript:window.ran=9\\033\\\\link\\033]8;;\\033\\\\ \\033]0;title\\007\\n'
date > out.txt
```
"""


class Places:
    """The addresses of every page, with something on each."""

    def __init__(self, deck: Deck, marker: Path) -> None:
        deck.qd("project", "add", "trap", "--repo", str(deck.folder / "shop"), "--name", HOSTILE[:180])
        design = deck.design("trap", HOSTILE[:120], SHOUT.replace("## Phase 1", f"{HOSTILE}\n\n## Phase 1: {HOSTILE[:80]}"))
        ticket = deck.json("ticket", "add", "trap", "--title", HOSTILE[:120], "--file", "-", stdin=HOSTILE)["ticket"]
        deck.qd("ticket", "comment", ticket, HOSTILE)
        deck.qd("design", "comment", design, HOSTILE)
        launched = ("launch", design, "--node", "auto", "--model", "shell", "--ticket", ticket)
        o = deck.json(*launched, "--reason", HOSTILE, "--feature", "<b>shout</b> {{7*7}}", "--set", 'flow.human_gates=["plan"]')["orchestration"]
        deck.until("a['items']", "gate", "ls", "--project", "trap")
        deck.qd("gate", "reject", o, "--feedback", HOSTILE)
        deck.until("a['items']", "gate", "ls", "--project", "trap")
        deck.qd("gate", "approve", o, "--note", HOSTILE)
        deck.until("a['status'] in ('complete', 'failed')", "show", o)
        held = deck.json(*launched[:6], "--feature", "<i>held</i>", "--set", 'flow.human_gates=["plan"]')["orchestration"]
        deck.until("a['items']", "gate", "ls", "--project", "trap")
        going = deck.json("launch", deck.design("trap", "Going", standing(marker)), "--node", "auto", "--model", "shell")["orchestration"]
        deck.until("a['plan']", "show", going)
        self.ended, self.held, self.going = o, held, going
        tabs = ("", "/plan", "/plan/edit", "/why", "/policy", "/events", "/logs", "/changes", "/usage", "/raw")
        self.paths = (
            *("/", "/launch?project=trap", f"/launch?clone={o}", "/inbox", "/nodes", "/nodes/deck", "/audit", "/metrics", "/catalogue", "/flags"),
            *("/projects/trap", f"/designs/{design}", f"/tickets/{ticket}", "/audit?project=trap&status=completed"),
            *(f"/orchestrations/{o}{tab}" for tab in tabs),
            *(f"/orchestrations/{going}{tab}" for tab in ("", "/plan/edit", "/policy")),
            f"/orchestrations/{held}",
        )


@pytest.fixture(scope="module")
def places(deck: Deck, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    marker = tmp_path_factory.mktemp("places") / "go"
    yield Places(deck, marker)
    marker.touch()


async def settled(page: Page) -> None:
    """Wait until the scripts of a page have run."""
    await page.wait_for_load_state("load")
    await page.wait_for_timeout(150)


COLOURS = {"runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}}
"""What can differ between two schemes of one page."""


@pytest.mark.parametrize(("scheme", "rules"), [("light", RULES), ("dark", COLOURS)], ids=["light", "dark"])
async def test_no_page_keeps_anybody_out(browser: Browser, deck: Deck, places: Places, scheme: str, rules: dict[str, object]) -> None:
    context = await logged_in(browser, deck, color_scheme=scheme, reduced_motion="reduce")
    watched = Watched(await context.new_page(), str(deck.facts["console"]).partition("/login")[0])
    found: dict[str, list[str]] = {}
    for path in places.paths:
        await watched.open(path)
        await settled(watched.page)
        await watched.page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        answer = await Axe().run(watched.page, options=rules)
        if answer.response["violations"]:
            found[path] = [f"{v['id']}: {v['nodes'][0]['target']}" for v in answer.response["violations"]]
    assert found == {}
    watched.check()
    await context.close()


async def test_what_somebody_wrote_is_text_on_every_page(watched: Watched, places: Places) -> None:
    page, seen = watched.page, 0
    page.on("dialog", lambda dialog: watched.wrong.append("a dialog opened"))
    for path in places.paths:
        await watched.open(path)
        await settled(page)
        assert await page.evaluate("window.ran") is None, path
        assert (
            await page.locator("main img, main script, [onerror], [onload], a[href^='javascript:'], main b, main i, main svg[onload]").count() == 0
        ), path
        seen += "<script>window.ran=1</script>" in await page.locator("main").inner_text()
        assert "49" not in (await page.locator("h1").first.inner_text()), path
    assert seen >= 4


async def test_what_a_run_printed_is_text(watched: Watched, places: Places) -> None:
    await watched.open(f"/orchestrations/{places.ended}/logs")
    text = watched.page.locator("#tab")
    runs = watched.page.locator('a[href*="logs?run="]')
    for index in range(await runs.count()):
        await watched.open(f"/orchestrations/{places.ended}/logs")
        await runs.nth(index).click()
        await settled(watched.page)
        if "<script>window.ran=7</script>" in await text.inner_text():
            break
    await expect(text).to_contain_text("<script>window.ran=7</script> <img src=x onerror=window.ran=8> {{7*7}}")
    await expect(text).to_contain_text("red")
    assert "\x1b" not in await text.inner_text()
    assert await watched.page.evaluate("window.ran") is None


async def test_every_page_can_be_read_without_javascript(browser: Browser, deck: Deck, places: Places) -> None:
    context = await logged_in(browser, deck, java_script_enabled=False)
    page = await context.new_page()
    base = str(deck.facts["console"]).partition("/login")[0]
    shown = {
        "/": places.ended,
        "/inbox": places.held,
        "/nodes": "deck",
        "/audit": "launch",
        "/catalogue": "trap",
        "/flags": "cp.launch",
        "/metrics": "launch",
        f"/orchestrations/{places.ended}/plan": "1.1",
        f"/orchestrations/{places.ended}/policy": "balanced",
    }
    for path in places.paths:
        answer = await page.goto(base + path)
        assert answer is not None
        assert answer.status == 200, path
        assert (await page.title()).endswith("Quarterdeck")
        assert shown.get(path, "") in await page.content(), path
    await context.close()


# ── keys ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_pages_are_reached_and_rows_are_walked_by_keys_alone(watched: Watched, places: Places) -> None:
    page = watched.page
    await watched.open("/")
    await page.keyboard.press("j")
    first = await page.evaluate("document.activeElement.getAttribute('href')")
    await page.keyboard.press("j")
    assert await page.evaluate("document.activeElement.getAttribute('href')") != first
    await page.keyboard.press("k")
    assert await page.evaluate("document.activeElement.getAttribute('href')") == first
    await page.keyboard.press("o")
    await page.wait_for_url(f"**{first}")
    await page.keyboard.press("]")
    await page.wait_for_url(f"**{first}/*")
    await page.keyboard.press("[")
    await page.wait_for_url(f"**{first}")
    for key, path in {"a": "/audit", "n": "/nodes", "i": "/inbox"}.items():
        await page.keyboard.press("g")
        await page.keyboard.press(key)
        await page.wait_for_url(f"**{path}")
    await page.keyboard.press("?")
    await expect(page.locator("#keys")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.locator("#keys")).to_be_hidden()
    await watched.open("/audit")
    await page.keyboard.press("/")
    assert await page.evaluate("document.activeElement.type") == "search"
    await page.keyboard.type("g?j")
    assert page.url.endswith("/audit")


async def test_the_palette_goes_to_pages_ids_and_actions(watched: Watched, places: Places) -> None:
    page = watched.page
    await watched.open("/")
    await page.keyboard.press("Control+k")
    await page.keyboard.type(places.going)
    await page.keyboard.press("Enter")
    await page.wait_for_url(f"**/orchestrations/{places.going}")
    await page.keyboard.press("Control+k")
    await page.keyboard.type("cancel")
    await page.keyboard.press("Enter")
    await expect(page.locator("dialog#cancel")).to_be_visible()
    await page.keyboard.press("Escape")


async def test_single_keys_can_be_switched_off(watched: Watched) -> None:
    page = watched.page
    await watched.open("/")
    await page.keyboard.press("?")
    await page.locator("#keys-off").check()
    await page.keyboard.press("Escape")
    await page.reload()
    await page.keyboard.press("?")
    await expect(page.locator("#keys")).to_be_hidden()
    await page.keyboard.press("Control+k")
    await expect(page.locator("#palette")).to_be_visible()


# ── a console that is read-only ──────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def read_only(deck: Deck, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a console beside the deck's own, which changes nothing, with a link to log in."""
    folder = tmp_path_factory.mktemp("read-only")
    process = deck.start("serve", "console", "--read-only", "--port", "0", "--data", str(folder), "-o", "json")
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())["url"]
    finally:
        process.terminate()
        process.communicate(timeout=10)


OWN = ("data-opens", "data-theme-toggle", "data-copy", "data-closes", "data-dismiss")
"""What only moves the page itself: palette, keys, colours, the clipboard, dialogs."""
OWN_IDS = ("palette-input", "keys-off", "follow")


class Controls(HTMLParser):
    """What of a page can be pressed or filled in, beside what only looks: filters, the palette, copying."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.greyed = 0
        self.enabled: list[str] = []
        self._looks = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "form":
            self._looks = given.get("method") in ("get", "dialog")
        if tag not in ("button", "input", "select", "textarea") or given.get("type") == "hidden" or self._looks:
            return
        if "disabled" in given and given.get("title") == given.get("aria-description") == "this console is read-only":
            self.greyed += 1
        elif "data-command" in given or not (given.keys() & set(OWN) or given.get("id") in OWN_IDS):
            self.enabled.append(self.get_starttag_text() or "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._looks = False


@pytest.fixture(scope="module")
def looker(read_only: str) -> Http:
    """A client that is logged in to the read-only console."""
    return Http.logged_in(read_only)


def test_no_page_of_a_read_only_console_has_a_control_that_can_be_used(looker: Http, places: Places, http: Http) -> None:
    greyed = 0
    for path in places.paths:
        answer = looker.get(path)
        assert answer.status == 200, path
        found = Controls(answer.body.decode())
        assert found.enabled == [], path
        greyed += found.greyed
    assert greyed > 100
    assert Controls(http.get(f"/orchestrations/{places.going}").body.decode()).enabled  # elsewhere there are some


@pytest.mark.parametrize(
    "target", ["/command/flag-set", "/command/pause", "/command/launch", "/bulk", "/bulk/preview", "/launch/resolve", "/audit/verify", "/nothing"]
)
def test_whatever_is_posted_to_a_read_only_console_is_refused_at_the_wall(looker: Http, target: str) -> None:
    answer = looker.post(target, {"flag": "cp.launch", "on": "false", "verb": "cancel", "ids": "shop-o1", "orchestration": "shop-o1", "key": "k"})
    assert answer.status == 403
    assert b"read-only" in answer.body


async def test_a_read_only_console_goes_on_and_its_patches_offer_nothing_either(
    browser: Browser, read_only: str, looker: Http, places: Places, deck: Deck
) -> None:
    context = await browser.new_context()
    await context.add_cookies([{"name": "qd-session", "value": looker.cookie.partition("=")[2], "url": read_only.partition("/login")[0]}])
    page = await context.new_page()
    await page.goto(f"{read_only.partition('/login')[0]}/orchestrations/{places.going}")
    await expect(page.locator("header .badge")).to_have_text("read-only")
    deck.qd("policy", "set", places.going, "flow.budget_usd=9", "--if-revision", str(deck.json("show", places.going)["policy_revision"]))
    await expect(page.locator("#head .facts")).not_to_contain_text("balanced r1")  # patched
    for button in await page.get_by_role("group", name="Actions").get_by_role("button").all():
        await expect(button).to_have_attribute("aria-description", "this console is read-only")
    await page.goto(f"{read_only.partition('/login')[0]}/")
    await page.keyboard.press("j")
    await page.keyboard.press("x")
    await expect(page.locator("#bulk-count")).to_have_text("none selected")
    await context.close()


async def test_the_chain_is_verified_by_a_button(watched: Watched) -> None:
    await watched.open("/audit")
    await watched.page.get_by_role("button", name="Verify the chain").click()
    status = watched.page.locator("#verified [role=status]")
    await expect(status).to_contain_text("each follows the hash of the one before")
    assert " 0 heads noted elsewhere" not in await status.inner_text()
