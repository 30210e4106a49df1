"""How a server that somebody else started syncs, found out from the server itself."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from bus.bootstrap import Sync, UnsafeSync, ensure_all, refuse_unsafe
from bus.connection import Bus, Credentials, connect
from bus.embedded import EmbeddedServer, free_port
from bus.identity import Identity, Kind, accounts, make_key
from bus.sync import BadMonitor, detect_sync

pytestmark = pytest.mark.anyio


@contextlib.asynccontextmanager
async def by_hand(folder: Path, sync: str) -> AsyncIterator[tuple[Bus, str]]:
    """Start a server with a monitoring port; yield a connection and the address of its monitoring."""
    port = free_port()
    async with EmbeddedServer(folder, sync=sync, authorization=f'http: "127.0.0.1:{port}"') as server:
        bus = await connect(server.url, "test", Credentials())
        try:
            yield bus, f"http://127.0.0.1:{port}"
        finally:
            await bus.close()


@pytest.mark.parametrize(
    ("setting", "sync"), [("always", Sync.ALWAYS), ('"2m"', Sync.UNSAFE), ('"1s"', Sync.UNSAFE)], ids=["always", "the default", "each second"]
)
async def test_the_monitoring_page_shows_how_a_server_syncs(tmp_path: Path, setting: str, sync: Sync) -> None:
    async with by_hand(tmp_path, setting) as (bus, monitor):
        assert await detect_sync(bus, monitor) is sync
        assert await detect_sync(bus, monitor + "/") is sync
        assert await detect_sync(bus, None) is Sync.UNKNOWN


async def test_a_server_started_by_hand_with_the_default_is_refused(tmp_path: Path) -> None:
    async with by_hand(tmp_path, '"2m"') as (bus, monitor):
        await ensure_all(bus, sync=await detect_sync(bus, monitor))
        with pytest.raises(UnsafeSync, match="does not sync every write"):
            await refuse_unsafe(bus, allow_unsafe_sync=False)
        assert await refuse_unsafe(bus, allow_unsafe_sync=True) is Sync.UNSAFE


async def test_a_server_that_shows_nothing_is_refused_too(tmp_path: Path) -> None:
    async with by_hand(tmp_path, "always") as (bus, _):
        await ensure_all(bus, sync=await detect_sync(bus, None))
        with pytest.raises(UnsafeSync, match="does not show how it syncs"):
            await refuse_unsafe(bus, allow_unsafe_sync=False)


async def test_the_monitoring_page_of_another_server_says_nothing(tmp_path: Path) -> None:
    async with by_hand(tmp_path / "one", '"2m"') as (bus, _), by_hand(tmp_path / "two", "always") as (_, other):
        assert await detect_sync(bus, other) is Sync.UNKNOWN


@pytest.mark.parametrize("setting", ["always", '"2m"'])
async def test_an_identity_of_the_system_account_needs_no_monitoring_page(tmp_path: Path, setting: str) -> None:
    system = make_key(tmp_path, "system")
    async with EmbeddedServer(tmp_path / "server", sync=setting, authorization=accounts([], system=system.public)) as server:
        bus = await connect(server.url, "system", Credentials("system", seed_file=system.seed_file))
        assert await detect_sync(bus, None) is (Sync.ALWAYS if setting == "always" else Sync.UNSAFE)
        await bus.close()


@pytest.mark.parametrize("kind", [Kind.SERVICE, Kind.OPERATOR])
async def test_asking_does_no_harm_to_a_connection_that_may_not_ask(tmp_path: Path, kind: Kind) -> None:
    key = make_key(tmp_path, "ana")
    async with EmbeddedServer(tmp_path / "server", authorization=accounts([Identity(kind, "ana", key.public)])) as server:
        bus = await connect(server.url, "ana", Credentials("ana", seed_file=key.seed_file))
        assert await detect_sync(bus, None) is Sync.UNKNOWN
        await bus.flush()
        assert (bus.failure, bus.is_connected) == (None, True)
        await bus.close()


NO_PAGES = {
    "no JSON": b"HTTP/1.1 200 OK\r\n\r\nnot json",
    "a redirect": b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n",
    "no HTTP": b"nonsense\r\n\r\n",
    "nothing": b"",
}


@pytest.mark.parametrize("answer", NO_PAGES.values(), ids=NO_PAGES)
async def test_a_page_that_is_no_monitoring_page_says_nothing(tmp_path: Path, answer: bytes) -> None:
    async def serve(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(answer)

    port = free_port()
    async with (
        by_hand(tmp_path, "always") as (bus, _),
        await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=port) as listener,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listener.serve, serve)
        assert await detect_sync(bus, f"http://127.0.0.1:{port}") is Sync.UNKNOWN
        tasks.cancel_scope.cancel()


async def test_a_monitoring_address_where_nothing_listens_says_nothing_soon(tmp_path: Path) -> None:
    async with by_hand(tmp_path, "always") as (bus, _):
        since = time.monotonic()
        assert await detect_sync(bus, f"http://127.0.0.1:{free_port()}") is Sync.UNKNOWN
        assert time.monotonic() - since < 3


@pytest.mark.parametrize(
    "address", ["", "127.0.0.1:8222", "file:///etc/passwd", "ftp://127.0.0.1", "http://", "http://x:port", "nats://127.0.0.1:4222"]
)
async def test_what_is_no_http_address_is_refused(tmp_path: Path, address: str) -> None:
    bus = Bus("nats://127.0.0.1:1", Credentials())
    with pytest.raises(BadMonitor, match="monitoring address"):
        await detect_sync(bus, address)
