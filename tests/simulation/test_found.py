"""Bugs that the simulation found, each as the smallest thing that shows it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from controller.heads import decide_heads
from controller.project import Aggregate
from tests.simulation.exhaustive import scenario
from tests.simulation.schedule import Fault
from tests.simulation.world import play

T0 = datetime(2030, 1, 1, tzinfo=UTC)


def test_recording_heads_does_not_turn_the_time_of_the_registry_back() -> None:
    # seed 7: a controller whose clock is behind takes over and records heads
    decision = decide_heads(Aggregate("plane", at=T0), {"shop": (5, "0" * 64)}, T0 - timedelta(seconds=3))

    assert decision is not None
    assert decision.at == T0


@pytest.mark.parametrize("seed", [5, 8, 10, 11])
def test_what_a_stopped_controller_stores_after_it_was_replaced_is_acted_on(seed: int) -> None:
    # it is stopped before the append of a launch for longer than its lease, goes on, stores, answers, and dies before it sends the order:
    # the launch is acknowledged, and nobody asks again
    base = scenario()
    for controller in base.controllers:
        faults = (
            Fault(0.0, "stall-at", controller, 3.6, amount=1, place="controller.decided"),
            Fault(0.02, "failpoint", controller, 20.0, amount=1, place="controller.before-order"),
        )
        result = play(replace(base, seed=seed, ops=base.ops[:1], faults=faults, chaos_s=30.0))
        assert not result.violations, result.violations
