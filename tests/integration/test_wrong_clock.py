"""A controller whose own clock is wrong still sees which nodes are there: only the bus's clock tells how old a beat is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest

from bus import host
from bus.bootstrap import ensure_all
from bus.connection import connect
from bus.embedded import EmbeddedServer
from bus_schemas import codec, subjects
from bus_schemas.reports import Beat
from controller.presence import Presence

pytestmark = pytest.mark.anyio


class WrongClock(host.Machine):
    """A machine whose wall clock is off."""

    def __init__(self, off: timedelta) -> None:
        self.off = off

    def now(self) -> datetime:
        return super().now() + self.off


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_node_that_beats_is_online_for_a_controller_whose_clock_is_wrong(tmp_path: Path, hours: int) -> None:
    token = host.current.set(WrongClock(timedelta(hours=hours)))
    async with EmbeddedServer(tmp_path / "bus") as server:
        bus = await connect(server.url, "test", server.credentials)
        await ensure_all(bus)

        async def beat(node: str) -> None:
            await bus.append(subjects.beat(node), codec.encode(Beat(codec.VERSION, "beat", node, "boot", datetime.now(UTC), 1)))

        presence = Presence(bus)
        await beat("before")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(presence.follow, lambda _: None)
            with anyio.fail_after(10):
                while "before" not in presence.beats:
                    await anyio.sleep(0.02)
                await beat("after")
                while "after" not in presence.beats:
                    await anyio.sleep(0.02)
            assert presence.online() == {"before", "after"}
            tasks.cancel_scope.cancel()
        await bus.close()
    host.current.reset(token)


async def test_a_beat_that_was_old_before_we_looked_is_no_sign_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controller.presence.NODE_OFFLINE_AFTER_S", 1.0)
    async with EmbeddedServer(tmp_path / "bus") as server:
        bus = await connect(server.url, "test", server.credentials)
        await ensure_all(bus)
        await bus.append(subjects.beat("gone"), codec.encode(Beat(codec.VERSION, "beat", "gone", "boot", datetime.now(UTC), 1)))
        await anyio.sleep(1.2)
        presence = Presence(bus)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(presence.follow, lambda _: None)
            with anyio.fail_after(10):
                while "gone" not in presence.beats:
                    await anyio.sleep(0.02)
            assert presence.online() == frozenset()
            tasks.cancel_scope.cancel()
        await bus.close()
