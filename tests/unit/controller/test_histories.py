"""Histories that are kept: the core decides today what it decided then, and what was stored still folds to the state that it had.

`QD_UPDATE_GOLDEN=1 pytest tests/unit/controller/test_histories.py` writes them anew; what changed is then read in the diff.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import msgspec
import pytest

from bus_schemas import codec
from bus_schemas.decisions import Decision, TimerCause
from bus_schemas.ids import PLANE
from controller.project import Aggregate, fold, fold_decision, replay, settled
from tests.unit.controller.stories import STORIES

FOLDER = Path(__file__).parent / "histories"
UPDATE = os.environ.get("QD_UPDATE_GOLDEN") == "1"


@pytest.mark.parametrize("name", STORIES)
def test_a_history_is_decided_word_for_word_as_it_is_kept(name: str) -> None:
    text = STORIES[name]().text()
    path = FOLDER / f"{name}.jsonl"
    if UPDATE:
        path.write_text(text)

    assert [json.loads(line) for line in text.splitlines()] == [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("name", STORIES)
def test_the_stored_messages_of_a_history_replay_to_the_state_that_was_lived(name: str) -> None:
    lines = [json.loads(line) for line in (FOLDER / f"{name}.jsonl").read_text().splitlines()]
    stored = [(line["seq"], codec.decode_ledger(json.dumps(line["message"]).encode())) for line in lines if "seq" in line]
    world = STORIES[name]()

    for project in (PLANE, "shop"):
        assert replay(project, [(seq, message) for seq, message in stored if message.project == project]) == world.states[project]


@pytest.mark.parametrize("name", STORIES)
def test_what_was_decided_on_is_after_storing_what_the_fold_gives(name: str) -> None:
    states = {PLANE: Aggregate(PLANE), "shop": Aggregate("shop")}
    for seq, message in STORIES[name]().ledger:
        overlay = states[message.project]
        for decision in message.decisions:
            overlay = fold_decision(overlay, decision, None)
        states[message.project] = fold(states[message.project], message, seq)

        assert settled(overlay, message, seq) == states[message.project]


def test_receipts_of_one_message_have_the_positions_of_their_rows() -> None:
    messages = [message for _, message in STORIES["catalogue"]().ledger if message.project == "shop"]
    together = msgspec.structs.replace(messages[0], decisions=tuple(decision for message in messages for decision in message.decisions))
    state = overlay = Aggregate("shop")
    for decision in together.decisions:
        overlay = fold_decision(overlay, decision, None)
    after = settled(overlay, together, 7)

    assert after == fold(state, together, 7)
    places = [after.actions[decision.action.id].position for decision in together.decisions if decision.action is not None]
    assert places[:4] == ["7.0", "7.3", "7.4", "7.7"]


def test_an_action_that_no_command_led_to_takes_a_row_and_has_no_receipt() -> None:
    first = next(message for _, message in STORIES["catalogue"]().ledger if message.project == "shop")
    asked = first.decisions[0]
    assert asked.action is not None
    odd = Decision(at=asked.at, cause=TimerCause("due"), action=msgspec.structs.replace(asked.action, id="shop-a99"))
    message = msgspec.structs.replace(first, decisions=(odd, asked))
    overlay = fold_decision(fold_decision(Aggregate("shop"), odd, None), asked, None)
    after = settled(overlay, message, 7)

    assert after == fold(Aggregate("shop"), message, 7)
    assert {name: receipt.position for name, receipt in after.actions.items()} == {asked.action.id: "7.1"}


def test_no_history_is_left_over_from_a_story_that_is_gone() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(STORIES)
