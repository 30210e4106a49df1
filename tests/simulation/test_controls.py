"""Negative controls: what happens when a protection is taken away. A simulation that stays green then would show nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import pytest

from bus.connection import Bus, PubAck
from bus.errors import Rejected, Unavailable
from bus.pull import Delivery
from bus_schemas import codec, subjects
from bus_schemas.reports import Withdrawn
from controller.idempotency import KeyIndex
from controller.ledger import Ledger
from controller.service import Controller
from node_agent import claim
from node_agent.attempt import Spawning, Taken
from node_agent.executor import RunContext
from tests.simulation.schedule import generate
from tests.simulation.world import play

SEEDS_MAX = 90
"""Within so many seeds each control has to turn red."""
FIRST_SEED = {"acknowledgement as completion": 180}
"""Where the search begins for a control that few seeds show; the others begin at 0."""


@contextlib.contextmanager
def claim_is_not_checked() -> Iterator[None]:
    """A node asks for the start claim and runs whatever the answer is."""
    win = claim.win

    async def always(bus: Bus, taken: Taken, boot: str) -> bool:
        await win(bus, taken, boot)
        return True

    with patch.object(claim, "win", always):
        yield


@contextlib.contextmanager
def withdrawal_is_ignored() -> Iterator[None]:
    """A claim that the controller took is read as won."""
    is_ours = claim._is_ours

    def reads(stored: bytes, ours: str) -> bool:
        return is_ours(stored, ours) or isinstance(codec.decode_report(stored), Withdrawn)

    with patch.object(claim, "_is_ours", reads):
        yield


@contextlib.contextmanager
def report_is_done_when_it_was_taken() -> Iterator[None]:
    """An acknowledgement is the record of completion: a report is acknowledged when it comes, not when it is in the ledger."""
    take = Controller._on_report

    def taking(controller: Controller, delivery: Delivery) -> str | None:
        assert controller._tasks is not None
        controller._tasks.start_soon(delivery.ack)
        return take(controller, delivery)

    with patch.object(Controller, "_on_report", taking):
        yield


@contextlib.contextmanager
def keys_are_forgotten_at_a_take_over() -> Iterator[None]:
    """A controller remembers the keys that it has decided itself, in memory."""
    fold, add = Ledger.fold_stored, KeyIndex.add

    def folding(ledger: Ledger, stored: Any) -> Any:
        with patch.object(KeyIndex, "add", lambda *_: None):
            return fold(ledger, stored)

    with patch.object(Ledger, "fold_stored", folding):
        assert KeyIndex.add is add
        yield


@contextlib.contextmanager
def ledger_is_appended_to_without_a_condition() -> Iterator[None]:
    """The compare-and-set is left out."""
    append = Bus.append

    async def appending(bus: Bus, subject: str, data: bytes, *, expect_last: int | None = None, **options: Any) -> PubAck:
        return await append(bus, subject, data, expect_last=None if subject.startswith("qd.ledger.") else expect_last, **options)

    with patch.object(Bus, "append", appending):
        yield


@contextlib.contextmanager
def start_is_not_journalled() -> Iterator[None]:
    """A node starts a process without writing down first that it will."""

    async def beginning(context: RunContext, head: str | None) -> None:
        context.spawning = Spawning(context.key, head, context.order.issued_at)

    with patch.object(RunContext, "begin_spawn", beginning):
        yield


@contextlib.contextmanager
def end_is_sent_once() -> Iterator[None]:
    """A node sends the end of an attempt once and does not look whether it was stored."""

    async def delivering(bus: Bus, order: Any, ended: Any) -> None:
        subject = subjects.report(order.node, order.project, order.run, order.attempt, order.nonce, "ended")
        with contextlib.suppress(Unavailable, Rejected):
            await bus.write_once(subject, codec.encode(ended))

    with patch.object(claim, "deliver", delivering):
        yield


CONTROLS: dict[str, tuple[Callable[[], contextlib.AbstractContextManager[None]], set[str]]] = {
    "claim not checked": (claim_is_not_checked, {"I1 one start", "I1 claim", "I6 stop", "I14 fencing"}),
    "withdrawal ignored": (withdrawal_is_ignored, {"I1 claim", "I6 stop", "I14 fencing"}),
    "acknowledgement as completion": (report_is_done_when_it_was_taken, {"I3 reports", "quiet", "stuck"}),
    "keys in memory only": (keys_are_forgotten_at_a_take_over, {"I2 keys"}),
    "no compare-and-set": (ledger_is_appended_to_without_a_condition, {"I20 chain", "I2 keys", "I10 order"}),
    "start not journalled": (start_is_not_journalled, {"I1 one start", "I1 journal"}),
    "end sent once": (end_is_sent_once, {"I3 reports", "quiet", "stuck"}),
}


def first_red(control: str, seeds: range) -> int | None:
    """Return the first seed at which a control turns red for the reason that it must."""
    broken, wanted = CONTROLS[control]
    for seed in seeds:
        with broken():
            found = {violation.invariant for violation in play(generate(seed)).violations}
        if found & wanted:
            return seed
    return None


@pytest.mark.timeout(300)
@pytest.mark.parametrize("control", CONTROLS)
def test_a_protection_that_is_taken_away_is_missed(control: str) -> None:
    first = FIRST_SEED.get(control, 0)
    seed = first_red(control, range(first, first + SEEDS_MAX))

    assert seed is not None, f"{SEEDS_MAX} seeds are green without it"
    assert not play(generate(seed)).violations, "it is the missing protection that fails"
