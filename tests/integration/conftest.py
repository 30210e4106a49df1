"""A real server with its streams made, and a connection to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bus.bootstrap import ensure_all
from bus.connection import Bus, connect
from bus.embedded import EmbeddedServer


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EmbeddedServer]:
    async with EmbeddedServer(tmp_path / "bus") as server:
        yield server


@pytest.fixture
async def bus(server: EmbeddedServer) -> AsyncIterator[Bus]:
    bus = await connect(server.url, "test", server.credentials)
    await ensure_all(bus)
    yield bus
    await bus.close()
