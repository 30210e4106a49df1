"""Bugs that the simulation found, each as the smallest thing that shows it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from controller.heads import decide_heads
from controller.project import Aggregate

T0 = datetime(2030, 1, 1, tzinfo=UTC)


def test_recording_heads_does_not_turn_the_time_of_the_registry_back() -> None:
    # seed 7: a controller whose clock is behind takes over and records heads
    decision = decide_heads(Aggregate("plane", at=T0), {"shop": (5, "0" * 64)}, T0 - timedelta(seconds=3))

    assert decision is not None
    assert decision.at == T0
