"""Steering and reconfiguring from the page alone, also by two who do not know of each other."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from tests.acceptance.deck import GREETING, Deck
from tests.console.conftest import Watched, logged_in, standing

pytestmark = pytest.mark.anyio


def launch(deck: Deck, design: str, *more: str) -> str:
    return str(deck.json("launch", design, "--node", "auto", "--model", "shell", *more)["orchestration"])


@pytest.fixture
async def other(browser: Browser, deck: Deck) -> AsyncIterator[Watched]:
    """The browser of somebody else."""
    context = await logged_in(browser, deck)
    found = Watched(await context.new_page(), str(deck.facts["console"]).partition("/login")[0])
    yield found
    await context.close()
    found.check()


@pytest.fixture
def going(deck: Deck, tmp_path: Path) -> AsyncIterator[str]:
    """An orchestration whose first task goes on until the test is over."""
    marker = tmp_path / "go"
    o = launch(deck, deck.design("shop", f"Going {tmp_path.name}"[:60], standing(marker)))
    deck.until("a['plan'] and a['plan'][0]['tasks']", "show", o)
    yield o  # type: ignore[misc]
    marker.touch()


async def good(page: Page, text: str) -> None:
    await expect(page.locator("#outcome .receipt.good").last).to_contain_text(text)


async def test_two_who_change_one_policy_see_three_columns_and_lose_nothing(deck: Deck, watched: Watched, other: Watched, going: str) -> None:
    page, theirs = watched.page, other.page
    watched.expected = ("409",)
    await watched.open(f"/orchestrations/{going}/policy")
    await other.open(f"/orchestrations/{going}/policy")
    await expect(page.locator("#policy-form .note")).to_contain_text("Applies to future runs only")
    await theirs.fill("#f-run_timeout_s", "77")
    await theirs.fill("#f-max_parallel_tasks", "3")
    await theirs.get_by_role("button", name="Apply").click()
    await expect(theirs.locator("#policy-outcome")).to_contain_text("set-policy")
    await expect(page.locator("#moved")).to_contain_text("The newest is 2")

    await page.fill("#f-run_timeout_s", "88")
    await page.fill("#f-budget_usd", "5")
    await page.get_by_role("button", name="Apply").click()
    conflict = page.locator("#policy-outcome [data-code=validation_revision_conflict]")
    await expect(conflict.locator("thead th")).to_have_text(["Field", "You saw (r1)", "Theirs (r2)", "Yours"])
    clash = conflict.locator("tr", has_text="flow.run_timeout_s")
    await expect(clash).to_contain_text("both changed it")
    await expect(clash.locator("ins")).to_have_text(["77", "88"])
    await expect(page.locator("#f-run_timeout_s")).to_have_value("88")
    await conflict.get_by_role("button", name="Apply mine").click()
    await expect(page.locator("#policy-outcome")).to_contain_text("revision 3")
    await page.fill("#f-run_timeout_s", "99")
    await page.get_by_role("button", name="Apply", exact=True).click()  # what was changed here was seen here
    await expect(page.locator("#policy-outcome")).to_contain_text("revision 4")
    policy = deck.json("policy", "show", going)["policy"]
    assert (policy["flow"]["run_timeout_s"], policy["flow"]["budget_usd"], policy["flow"]["max_parallel_tasks"]) == (99, 5, 3)


async def test_a_plan_is_previewed_and_changed_task_by_task(deck: Deck, watched: Watched, going: str) -> None:
    page = watched.page
    await watched.open(f"/orchestrations/{going}/plan/edit")
    await page.locator("#details-1-2 summary").click()
    await page.locator("#s-1-2").fill("afterwards")
    form = page.locator("#form-1-2")
    await form.get_by_role("button", name="Preview").click()
    await expect(page.locator("#plan-outcome .preview")).to_contain_text("Nothing was changed.")
    await expect(page.locator("#plan-outcome ins")).to_contain_text("afterwards")
    await form.get_by_role("button", name="Save").click()
    await expect(page.locator("#plan-outcome .receipt.good")).to_contain_text("task-edit")
    await expect(page.locator("#edit-1-2")).to_contain_text("afterwards")

    await page.locator("#insert-1 [name=subject]").fill("in between")
    await page.locator("#insert-1 [name=after]").select_option("1")
    await page.locator("#insert-1 [name=depends_on]").fill("1")
    await page.locator("#insert-1 [name=description]").fill("```sh\ndate > between.txt\n```\n")
    await expect(page.locator("#at-1")).to_have_value("2")  # what this page changed itself it has seen
    await page.locator("#insert-1").get_by_role("button", name="Preview").click()
    await expect(page.locator("#plan-outcome .queue .added")).to_have_text(["1.3"])
    await page.locator("#insert-1").get_by_role("button", name="Insert").click()
    await expect(page.locator("#plan-outcome .receipt.good")).to_contain_text("task-insert")
    await expect(page.locator("#editor")).to_contain_text("in between")

    await page.locator("#edit-1-3 summary").click()
    await page.locator("#edit-1-3").get_by_role("button", name="Skip").click()
    await expect(page.locator("#edit-1-3")).to_contain_text("skipped")
    await expect(page.locator("#edit-1-1")).to_contain_text("it has started")
    tasks = {t["number"]: t for t in deck.json("show", going)["plan"][0]["tasks"]}
    assert (tasks[2]["subject"], tasks[3]["status"]) == ("afterwards", "skipped")


async def test_two_who_change_one_task_are_told_and_the_second_keeps_the_input(deck: Deck, watched: Watched, other: Watched, going: str) -> None:
    watched.expected = ("409",)
    for one in (watched, other):
        await one.open(f"/orchestrations/{going}/plan/edit")
        await one.page.locator("#details-1-2 summary").click()
    await watched.page.locator("#s-1-2").fill("mine")
    await other.page.locator("#s-1-2").fill("theirs")
    await other.page.locator("#form-1-2").get_by_role("button", name="Save").click()
    await expect(other.page.locator("#plan-outcome .receipt.good")).to_be_visible()
    await expect(watched.page.locator("#edit-1-2")).to_contain_text("theirs")
    await expect(watched.page.locator("#details-1-2")).to_have_attribute("open", "")
    await expect(watched.page.locator("#s-1-2")).to_have_value("mine")
    await watched.page.locator("#form-1-2").get_by_role("button", name="Save").click()
    await expect(watched.page.locator("#plan-outcome [data-code=validation_revision_conflict]")).to_contain_text("revision 2, not 1")
    await expect(watched.page.locator("#s-1-2")).to_have_value("mine")
    assert deck.json("show", going)["plan"][0]["tasks"][1]["subject"] == "theirs"
    await watched.page.locator("#form-1-2").get_by_role("button", name="Save").click()  # told, and meant
    await expect(watched.page.locator("#edit-1-2")).to_contain_text("mine")


async def test_a_gate_is_rejected_with_feedback_and_then_approved_from_the_inbox(deck: Deck, watched: Watched) -> None:
    page = watched.page
    o = launch(deck, deck.design("shop", "Judged", GREETING), "--set", 'flow.human_gates=["plan"]')
    await watched.open("/inbox")
    gate = page.locator(f"#gate-{o}")
    await expect(gate).to_contain_text("plan", timeout=20_000)
    await gate.get_by_role("button", name="Reject").click()
    assert await page.evaluate("document.activeElement.name") == "feedback"  # nothing is sent without a word
    await page.fill(f"#feedback-{o}", "Say it louder")
    await gate.get_by_role("button", name="Reject").click()
    await good(page, "gate-reject")
    await expect(page.locator("#outcome .receipt.good code").last).to_contain_text(f"qd gate reject {o} --feedback 'Say it louder'")
    deck.until(f"any(g['orchestration'] == '{o}' for g in a['items'])", "gate", "ls")
    await page.reload()
    await gate.get_by_role("button", name="Approve").click()
    await good(page, "gate-approve")
    await expect(gate).to_have_count(0)
    deck.until("a['status'] == 'complete'", "show", o)


async def test_a_node_is_cordoned_and_given_work_again(deck: Deck, watched: Watched) -> None:
    page = watched.page
    await watched.open("/nodes")
    await page.get_by_role("link", name="deck", exact=True).click()
    await page.fill("#reason", "a new disk")
    await page.get_by_role("button", name="Cordon", exact=True).click()
    await expect(page.locator("h1")).to_contain_text("cordoned")
    cordon = page.get_by_role("button", name="Cordon", exact=True)
    await expect(cordon).to_be_disabled()
    await expect(cordon).to_have_attribute("aria-description", "it is cordoned already")
    await page.get_by_role("button", name="Uncordon").click()
    await expect(page.locator("h1")).not_to_contain_text("cordoned")
    newest = deck.json("action", "ls", "--limit", "2")["items"]
    assert {a["type"] for a in newest} == {"node-cordon", "node-uncordon"}
    assert "a new disk" in {a["reason"] for a in newest}


async def test_a_flag_is_turned_off_and_rolled_back(deck: Deck, watched: Watched) -> None:
    page = watched.page
    await watched.open("/flags")
    row = page.locator("tr", has_text="cp.launch").first
    await row.get_by_role("button", name="Turn off").click()
    await expect(row).to_contain_text("○ off")
    await page.get_by_role("button", name="Roll back").first.click()
    await expect(row).to_contain_text("● on")


async def test_a_project_with_design_ticket_and_comments_is_made_and_changed(deck: Deck, watched: Watched) -> None:
    page = watched.page
    await watched.open("/catalogue")
    await page.fill("#project", "kiosk")
    await page.fill("#repo", str(deck.folder / "shop"))
    await page.get_by_role("button", name="Add project").click()
    await page.locator("#project-kiosk a").click()
    await page.fill("#design-title", "Opening hours")
    await page.fill("#design-body", GREETING)
    await page.get_by_role("button", name="Add design").click()
    await expect(page.locator("#design-kiosk-d1")).to_contain_text("Opening hours")
    await page.fill("#ticket-title", "Closed on Sundays")
    await page.get_by_role("button", name="Add ticket").click()
    await page.get_by_role("link", name="kiosk-t1").click()
    await page.fill("#comment", "Seen **again**")
    await page.get_by_role("button", name="Comment").click()
    await expect(page.locator("#ticket")).to_contain_text("Seen **again**")
    await page.get_by_role("button", name="Move to in progress").click()
    await expect(page.locator("#ticket .facts")).to_contain_text("in progress")
    await watched.open("/designs/kiosk-d1")
    await expect(page.locator("#design .note").first).to_be_visible()
    await page.fill("#title", "Opening times")
    await page.get_by_role("button", name="Save").click()
    await expect(page.locator("h1")).to_contain_text("Opening times")
    await page.get_by_role("button", name=re.compile("objective defined")).click()
    await expect(page.get_by_role("button", name=re.compile("✓ objective defined"))).to_have_attribute("aria-pressed", "true")
    assert deck.json("design", "show", "kiosk-d1")["title"] == "Opening times"


async def test_the_audit_shows_who_asked_for_what_and_why_it_was_refused(deck: Deck, watched: Watched) -> None:
    page = watched.page
    deck.qd("node", "cordon", "nowhere", "--reason", "to see", code=3)
    await watched.open("/audit?status=refused")
    row = page.locator("#actions tbody tr").first
    await expect(row).to_contain_text("node-cordon")
    await expect(row).to_contain_text("validation_entity_not_found")
    await expect(row).to_contain_text("“to see”")
    await row.get_by_role("link").first.click()
    await expect(page.locator("#actions .facts")).to_contain_text("idempotency key")
    await expect(page.locator("#trust")).to_contain_text("each following the hash of the one before")
    await watched.open("/audit?type=node-cordon&code=validation_entity_not_found")
    await expect(page.locator("#actions tbody tr").first).to_contain_text("“to see”")
    await page.fill("[name=type]", "launch")
    await page.get_by_role("button", name="Filter").click()
    await expect(page.locator("#actions")).to_contain_text("No action fits the filter.")


async def test_each_chart_has_a_table_twin_and_its_sql_and_goes_on_by_itself(deck: Deck, watched: Watched) -> None:
    page = watched.page
    deck.qd("node", "cordon", "nowhere", code=3)
    await watched.open("/metrics?since=all")
    charts = page.locator("[data-chart]")
    await expect(page.locator("[data-chart] canvas").first).to_be_visible()
    assert await charts.count() >= 2
    for index in range(await charts.count()):
        name = await charts.nth(index).get_attribute("data-table")
        assert await page.locator(f"#{name} tbody tr").count() >= 1
    assert await page.locator("section.panel details", has_text="SQL").count() == await page.locator("section.panel").count()

    table, chosen = page.locator("#table-failures"), page.get_by_role("link", name="all", exact=True)
    await page.locator("#answer-failures summary").click()
    await chosen.focus()
    shown = await table.inner_text()
    deck.qd("node", "cordon", "nowhere", code=3)
    await expect(table).not_to_have_text(shown, timeout=15_000, use_inner_text=True)
    await expect(table).to_be_visible()
    await expect(chosen).to_be_focused()
    await expect(page.locator('[data-table="table-failures"] canvas')).to_be_visible()


async def test_several_runs_are_ticked_by_keys_shown_and_cancelled_together(deck: Deck, watched: Watched) -> None:
    page, design = watched.page, deck.design("shop", "Several", GREETING)
    runs = [launch(deck, design, "--feature", f"Several {n}", "--set", 'flow.human_gates=["plan"]') for n in (1, 2)]
    deck.until(f"len([g for g in a['items'] if g['orchestration'] in {runs}]) == 2", "gate", "ls")
    await watched.open("/?hold=gate")
    pause = page.locator("#bulk").get_by_role("button", name="Pause…")
    await expect(pause).to_be_disabled()
    await expect(pause).to_have_attribute("aria-description", "select runs first: tick them, or press x on a row")
    for o in runs:
        await page.locator(f"#row-{o} a").focus()
        await page.keyboard.press("x")
    await expect(page.locator("#bulk-count")).to_have_text("2 selected")
    deck.qd("pause", runs[0])
    await expect(page.locator(f"#row-{runs[0]}")).to_contain_text("paused")  # patched, and still ticked
    await expect(page.locator("#bulk-count")).to_have_text("2 selected")
    await pause.click()
    dialog = page.get_by_role("dialog", name="Pause 1 run of 2")
    await expect(dialog).to_contain_text("it is already paused")
    await expect(dialog.locator("#bulk-reason")).to_be_focused()
    await page.keyboard.press("Escape")
    await page.locator("#bulk").get_by_role("button", name="Cancel…").click()
    dialog = page.get_by_role("dialog", name="Cancel 2 runs")
    await dialog.get_by_role("button", name="Cancel 2 runs").click()
    await expect(dialog).to_be_visible()  # not without the word
    await dialog.locator("#bulk-reason").fill("not needed")
    await dialog.locator("#bulk-meant").fill("cancel 2")
    await dialog.get_by_role("button", name="Cancel 2 runs").dblclick()
    sent = page.get_by_role("dialog", name="Cancel: 2 of 2 were taken").locator("#bulk-sent")
    await expect(sent).to_have_attribute("data-refused", "0")
    await expect(page.locator("#bulk-dialog [data-closes]")).to_be_focused()
    await expect(page.locator("#bulk-count")).to_have_text("none selected")
    for o in runs:
        asked = [a for a in deck.json("action", "ls", "--orchestration", o)["items"] if a["type"] == "cancel"]
        assert [a["reason"] for a in asked] == ["not needed"]


async def test_one_blocked_task_is_retried_and_the_control_says_the_command(deck: Deck, watched: Watched, tmp_path: Path) -> None:
    page = watched.page
    fails = "\n".join(f"### Task {n}: needs {n}\n```sh\ntest -e {tmp_path}/{n} && date > {n}.txt\n```" for n in (1, 2))
    o = launch(deck, deck.design("shop", "Blocked twice", f"## Phase 1\n\n{fails}\n"), "--set", "flow.max_task_attempts=1")
    deck.until("a['hold'] and a['hold']['kind'] == 'blocked'", "show", o)
    (tmp_path / "2").touch()
    await watched.open(f"/orchestrations/{o}")
    await page.get_by_role("button", name="Retry…").click()
    choice = page.locator("#retry-task-2")
    await expect(choice.locator("code")).to_have_text(f"qd retry {o} --phase 1 --task 2")
    await page.fill("#retry-reason", "it is there now")
    await choice.get_by_role("button", name="Task 1.2").click()
    await good(page, "retry accepted")
    await expect(page.locator("#outcome .receipt.good code").last).to_have_text(f"qd retry {o} --phase 1 --task 2 --reason 'it is there now'")
    await expect(page.get_by_role("dialog", name=f"Retry {o}")).to_be_hidden()
    plan = deck.until("a['plan'][0]['tasks'][1]['status'] == 'completed' and a['hold']", "show", o)["plan"][0]
    assert plan["tasks"][0]["status"] == "blocked"
