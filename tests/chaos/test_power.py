"""One power cut in the middle of everything: no receipt, no report, no commit is lost, and all goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.disk import why_not
from tests.chaos.power import cut_again_and_again

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(why_not() is not None, reason=why_not() or "")]


async def test_a_power_cut_loses_nothing_that_was_acknowledged_and_everything_goes_on(tmp_path: Path) -> None:
    report = await cut_again_and_again(tmp_path, cuts=1, seed=1)

    assert report.cuts >= 1
    assert report.receipts_acknowledged > 5
    assert (report.lost, report.duplicated, report.repository, report.answers, report.stuck) == ([], [], [], [], [])
