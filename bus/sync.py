"""How a server that is not ours writes: asked of its system account where the identity may, else of its monitoring page.

Owns that question only; what follows from the answer is `bus.bootstrap`'s.
"""

from __future__ import annotations

import contextlib
import http.client
import urllib.parse
from typing import Any

import anyio
import anyio.to_thread
import msgspec
from nats.aio.msg import Msg

from bus.bootstrap import Sync
from bus.connection import Bus, connect
from bus.errors import Denied, Unavailable

VARZ = "$SYS.REQ.SERVER.PING.VARZ"
ANSWERS_S = 0.5
"""How long all servers of a cluster have to answer: the worst of them counts."""
MONITOR_TIMEOUT_S = 3.0
MONITOR_BYTES_MAX = 4 * 1024**2


class _Config(msgspec.Struct):
    sync_always: bool = False


class _JetStream(msgspec.Struct):
    config: _Config | None = None


class _Cluster(msgspec.Struct):
    name: str = ""


class _Varz(msgspec.Struct):
    server_id: str = ""
    jetstream: _JetStream = msgspec.field(default_factory=_JetStream)
    cluster: _Cluster = msgspec.field(default_factory=_Cluster)


class _Answer(msgspec.Struct):
    data: _Varz = msgspec.field(default_factory=_Varz)


class BadMonitor(ValueError):
    """The monitoring address is not an http URL."""


async def detect_sync(bus: Bus, monitor_url: str | None) -> Sync:
    """Return how the servers behind `bus` write, the worst of them; UNKNOWN when none of them says so.

    `monitor_url` is the server's monitoring address, like http://127.0.0.1:8222; nothing else is ever connected to. Raises
    BadMonitor for another kind of address.
    """
    address = None if monitor_url is None else _address(monitor_url)
    found = await _of_system_account(bus)
    if not found and address is not None:
        varz = await anyio.to_thread.run_sync(_of_monitor, *address)
        found = [varz] if varz is not None and _is_behind(bus, varz) else []
    said = {_sync_of(varz) for varz in found}
    return next((sync for sync in (Sync.UNSAFE, Sync.UNKNOWN, Sync.ALWAYS) if sync in said), Sync.UNKNOWN)


def _sync_of(varz: _Varz) -> Sync:
    config = varz.jetstream.config
    if config is None:
        return Sync.UNKNOWN
    return Sync.ALWAYS if config.sync_always else Sync.UNSAFE


async def _of_system_account(bus: Bus) -> list[_Varz]:
    # a connection of its own: where this is refused, the refusal is fatal to the connection that asked
    answers: list[_Varz] = []
    nobody = anyio.Event()

    async def on_answer(message: Msg) -> None:
        if (message.headers or {}).get("Status") == "503":
            nobody.set()
            return
        with contextlib.suppress(msgspec.MsgspecError):
            answers.append(msgspec.json.decode(message.data, type=_Answer).data)

    try:
        probe = await connect(bus.url, "sync-probe", bus.credentials)
    except (Unavailable, Denied):
        return []
    try:
        inbox = probe.nc.new_inbox()
        await probe.subscribe(inbox, on_answer)
        await probe.publish(VARZ, b"", reply=inbox)
        with anyio.move_on_after(ANSWERS_S):
            await nobody.wait()
    except Unavailable:
        return []
    finally:
        await probe.close()
    return answers


def _address(url: str) -> tuple[str, str, int | None]:
    parts = urllib.parse.urlsplit(url)
    try:
        port = parts.port
    except ValueError as error:
        raise BadMonitor(f"monitoring address {ascii(url)[:100]}: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadMonitor(f"monitoring address {ascii(url)[:100]} is not valid: expected something like http://127.0.0.1:8222")
    return parts.scheme, parts.hostname, port


def _of_monitor(scheme: str, host: str, port: int | None) -> _Varz | None:
    kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
    with contextlib.closing(kind(host, port, timeout=MONITOR_TIMEOUT_S)) as connection:
        try:
            connection.request("GET", "/varz")
            response = connection.getresponse()
            body = response.read(MONITOR_BYTES_MAX) if response.status == http.client.OK else b""
            return msgspec.json.decode(body, type=_Varz)
        except (OSError, http.client.HTTPException, msgspec.MsgspecError):
            return None


def _is_behind(bus: Bus, varz: _Varz) -> bool:
    info: dict[str, Any] = bus.nc._server_info
    same_cluster = bool(varz.cluster.name) and varz.cluster.name == info.get("cluster")
    return varz.server_id == info.get("server_id") or same_cluster
