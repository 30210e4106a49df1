"""The lease over the real bus: a standby has it soon after its owner is gone, at once when it is given back, and never while it is renewed."""

from __future__ import annotations

import time

import anyio
import pytest

from bus.connection import Bus
from controller.owner import LEASE_S, LOOK_EVERY_S, RENEW_EVERY_S, Ownership

pytestmark = pytest.mark.anyio

SLACK_S = 0.4
GOAL_S = 3.0


async def test_a_standby_has_the_lease_within_the_goal_after_its_owner_is_gone_and_not_while_it_is_renewed(bus: Bus) -> None:
    first, second = Ownership(bus, "first"), Ownership(bus, "second")
    await first.acquire()
    taken_at: list[float] = []

    async def stand_by() -> None:
        await second.acquire()
        taken_at.append(time.monotonic())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stand_by)
        with anyio.move_on_after(LEASE_S - RENEW_EVERY_S + 2 * LOOK_EVERY_S):
            await first.keep()
        gone_at = time.monotonic()
        assert not taken_at
    waited_s = taken_at[0] - gone_at
    assert LEASE_S - RENEW_EVERY_S - SLACK_S < waited_s < LEASE_S + LOOK_EVERY_S + SLACK_S
    assert LEASE_S + LOOK_EVERY_S < GOAL_S


async def test_a_lease_that_is_given_back_is_taken_at_the_next_look(bus: Bus) -> None:
    first, second = Ownership(bus, "first"), Ownership(bus, "second")
    await first.acquire()
    await first.release()
    with anyio.fail_after(LOOK_EVERY_S + SLACK_S):
        await second.acquire()
    with anyio.fail_after(LEASE_S):
        await first.keep()  # ends: it is another's
