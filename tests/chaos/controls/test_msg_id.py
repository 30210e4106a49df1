"""Control 2: deduplication by `Nats-Msg-Id` alone, instead of the index of keys over the ledger.

The variant is what tutorials build: the client's key is the message id, the answer is the publish acknowledgement, and whatever
the stream holds is executed.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import anyio
import msgspec
import pytest

from bus.connection import connect
from bus.embedded import EmbeddedServer
from bus_schemas import commands as c
from bus_schemas.decisions import CommandCause
from bus_schemas.events import TicketAdded
from tests.integration.ring import ring

pytestmark = pytest.mark.anyio

WINDOW_S = 0.3
KEY = "the-key"


class Answered(NamedTuple):
    """What a client was told of a request: whether it was refused."""

    key: str
    body: str
    refused: bool


def violations(answers: list[Answered], effects: list[tuple[str, str]]) -> list[str]:
    """Return what breaks "each key takes effect once, for the one body it was first used with". Pure."""
    first: dict[str, str] = {}
    wrong = [f"{key} took effect {count} times" for key, count in Counter(key for key, _ in effects).items() if count > 1]
    for answer in answers:
        body = first.setdefault(answer.key, answer.body)
        if answer.body != body and not answer.refused:
            wrong.append(f"{answer.key} with {answer.body!r} was answered as done, after it was used for {body!r}")
    return wrong


async def by_message_id(folder: Path) -> tuple[list[Answered], list[tuple[str, str]]]:
    """Send one key three times to a plane that has nothing but the server's window."""
    async with EmbeddedServer(folder) as server:
        bus = await connect(server.url, "control", server.credentials)
        try:
            config = {"name": "NAIVE", "subjects": ["naive.>"], "duplicate_window": int(WINDOW_S * 1e9), "storage": "file"}
            await bus.api("STREAM.CREATE.NAIVE", config)

            async def ask(body: str) -> Answered:
                # a request that was stored, or was a duplicate of one, counts as done
                reply = await bus.request_raw("naive.ticket", msgspec.json.encode([KEY, body]), headers={"Nats-Msg-Id": KEY})
                return Answered(KEY, body, refused="error" in msgspec.json.decode(reply.data))

            answers = [await ask("one"), await ask("another")]
            await anyio.sleep(2 * WINDOW_S)
            answers.append(await ask("one"))
            effects: list[tuple[str, str]] = []
            while (stored := await bus.next_after("NAIVE", "naive.ticket", len(effects))) is not None:
                key, body = msgspec.json.decode(stored.data)
                effects.append((key, body))
            return answers, effects
        finally:
            await bus.close()


async def by_the_product(folder: Path) -> tuple[list[Answered], list[tuple[str, str]]]:
    """Send the same three requests to a real controller, and read the effects from the ledger."""
    async with ring(folder) as made:
        await made.catalogue()

        async def ask(body: str) -> Answered:
            return Answered(KEY, body, refused=(await made.do(c.TicketAdd("shop", body), KEY)).status == "refused")

        answers = [await ask("one"), await ask("another")]
        await anyio.sleep(2 * WINDOW_S)
        answers.append(await ask("one"))
        effects = [
            (decision.cause.key, event.ticket.title)
            for decision in await made.decisions()
            if isinstance(decision.cause, CommandCause)
            for event in decision.events
            if isinstance(event, TicketAdded)
        ]
        return answers, effects


async def test_message_ids_alone_run_a_key_twice_and_swallow_another_body(tmp_path: Path) -> None:
    assert violations(*await by_message_id(tmp_path / "weak")) == [
        "the-key took effect 2 times",
        "the-key with 'another' was answered as done, after it was used for 'one'",
    ]
    answers, effects = await by_the_product(tmp_path / "real")
    assert violations(answers, effects) == []
    assert effects == [(KEY, "one")]
