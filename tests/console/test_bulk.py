"""Several runs asked at once: what is shown first, one command and one receipt for each, and nothing twice."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.acceptance.deck import GREETING, Deck
from tests.console.conftest import standing
from tests.console.http import Answer, Http


def launch(deck: Deck, design: str, *more: str) -> str:
    return str(deck.json("launch", design, "--node", "auto", "--model", "shell", *more)["orchestration"])


def form(verb: str, *wanted: str, key: str = "k", **more: str) -> list[tuple[str, str]]:
    return [("verb", verb), ("key", key), *more.items(), *(("ids", each) for each in wanted)]


def fates(answer: Answer) -> dict[str, str]:
    """Return what the page says of each run."""
    rows = re.findall(r'<tr><th scope="row"[^>]*>(.*?)</th>(.*?)</tr>', answer.body.decode(), re.S)
    return {re.sub("<.*?>", "", name): re.sub(r"\s+", " ", re.sub("<.*?>", " ", rest)) for name, rest in rows}


@pytest.fixture(scope="module")
def waiting(deck: Deck) -> tuple[str, str]:
    """Two orchestrations that wait at a gate."""
    design = deck.design("shop", "Held together", GREETING)
    found = tuple(launch(deck, design, "--feature", f"Together {n}", "--set", 'flow.human_gates=["plan"]') for n in (1, 2))
    deck.until(f"len([g for g in a['items'] if g['orchestration'] in {found}]) == 2", "gate", "ls")
    return found[0], found[1]


def test_each_gets_a_command_of_its_own_once_and_refusals_stand_beside_receipts(deck: Deck, http: Http, waiting: tuple[str, str]) -> None:
    one, two = waiting
    deck.qd("pause", two)
    shown = http.post("/bulk/preview", form("pause", one, two))
    assert shown.status == 200
    page = shown.body.decode()
    assert "Pause 1 run of 2" in page
    assert "it is already paused" in fates(shown)[two]
    assert f"qd pause {one} --mode drain" in page
    assert f"qd pause {two}" not in page

    sent = http.post("/bulk", form("pause", one, two, key="both", reason="lunch"))
    assert sent.status == 200
    assert "completed" in fates(sent)[one]
    assert "already paused" in fates(sent)[two]
    assert "Pause: 1 of 2 were taken" in sent.body.decode()
    again = http.post("/bulk", form("pause", one, two, key="both", reason="lunch"))
    assert "decided before" in fates(again)[one]
    actions = [a for a in deck.json("action", "ls", "--orchestration", one)["items"] if a["type"] == "pause"]
    assert [(a["reason"], a["via"], a["idempotency_key"].endswith(f".{one}")) for a in actions] == [("lunch", "console", True)]


def test_all_that_fit_the_filter_are_those_and_no_others(deck: Deck, http: Http, waiting: tuple[str, str], tmp_path: Path) -> None:
    going = launch(deck, deck.design("shop", "Not held", standing(tmp_path / "go")))
    deck.until("a['status'] == 'executing'", "show", going)
    answer = http.post("/bulk/preview", [("verb", "cancel"), ("scope", "all"), ("project", "shop"), ("hold", "gate")])
    listed = fates(answer)
    assert set(waiting) <= set(listed)
    assert going not in listed
    assert f'href="/orchestrations/{waiting[0]}"' in http.get("/?hold=gate").body.decode()
    (tmp_path / "go").touch()


def test_cancelling_several_wants_a_word(http: Http, deck: Deck, waiting: tuple[str, str]) -> None:
    assert http.post("/bulk", form("cancel", *waiting, key="no-word")).status == 422
    assert http.post("/bulk", form("cancel", *waiting, key="other-word", meant="cancel 3")).status == 422
    assert {deck.json("show", each)["status"] for each in waiting} == {"planning"}
    assert "2 of 2 were taken" in http.post("/bulk", form("cancel", *waiting, key="word", meant="cancel 2")).body.decode()
    assert {deck.until("a['status'] == 'cancelled'", "show", each)["status"] for each in waiting} == {"cancelled"}


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([("verb", "pause")], 422),
        ([("verb", "pause"), ("ids", "shop-o1/../x")], 422),
        ([("verb", "launch"), ("ids", "shop-o1")], 422),
        ([("verb", "pause"), ("ids", "shop-o99999")], 404),
        ([("verb", "pause"), *(("ids", f"shop-o{n}") for n in range(1, 502))], 422),
    ],
    ids=["none", "no-id", "no-verb", "not-there", "too-many"],
)
def test_what_means_no_runs_is_refused_before_anything_is_sent(http: Http, fields: list[tuple[str, str]], status: int) -> None:
    answer = http.post("/bulk/preview", fields)
    assert answer.status == status
    assert b"That did not work" in answer.body
    if status != 404:  # sending asks for each and is told of each
        assert http.post("/bulk", [*fields, ("key", "k")]).status == status


def test_another_site_can_ask_nothing_of_several(http: Http) -> None:
    assert http.post("/bulk", form("pause", "shop-o1"), Sec_Fetch_Site="cross-site").status == 403
    assert http.post("/bulk", form("pause", "shop-o1"), X_QD_Form=None).status == 403
