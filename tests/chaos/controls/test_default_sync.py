"""Control 1: the server's default `sync_interval`. The power-cut check must find acknowledged commands that are gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.disk import LoopDisk, why_not
from tests.chaos.power import DISK_MIB, Cuts, Report
from tests.chaos.power_plane import Plane

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(why_not() is not None, reason=why_not() or "")]


async def one_cut(folder: Path, sync: str) -> Report:
    folder.mkdir()
    with LoopDisk(folder, DISK_MIB) as disk:
        run = Cuts(Plane(folder, disk, sync=sync), seed=3)
        try:
            await run.begin()
            await run.live_and_die()
        finally:
            await run.end()
        return run.report


async def test_with_the_default_sync_the_power_cut_check_finds_acknowledged_work_that_is_gone(tmp_path: Path) -> None:
    weak = await one_cut(tmp_path / "weak", "2m")
    assert weak.receipts_acknowledged > 5
    assert len(weak.lost) > 0

    real = await one_cut(tmp_path / "real", "always")
    assert real.receipts_acknowledged > 5
    assert real.lost == []
