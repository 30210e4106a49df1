"""The simulated server answers as the real one does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.simulation.differential import restarts, run

pytestmark = pytest.mark.anyio

FIRST = 930
COUNT = 300
"""Half of them with a restart of the server in their middle."""


async def test_the_simulated_server_answers_random_sequences_as_the_real_one_does(tmp_path: Path) -> None:
    assert {restarts(seed) for seed in range(FIRST, FIRST + COUNT)} == {True, False}

    outcome = await run(FIRST, COUNT, tmp_path)

    assert outcome.sequences == COUNT
    assert not outcome.divergent, "\n".join(f"seed {seed}: {difference}" for seed, difference in outcome.divergent.items())
