"""The console as a service: its connection, its news, its web server.

Owns the port. Ends its streams before the web server waits for them (a stream that stays open would hold it for ever).
"""

from __future__ import annotations

import logging
import socket
from types import FrameType
from typing import Any

import anyio
import anyio.abc
import uvicorn

from bus.connection import connect
from bus.foreground import ConnectionLost
from bus.request import CommandClient
from bus_schemas.commands import Via
from console.app import Console, application
from console.backend import Backend
from console.config import ConsoleConfig
from console.news import News
from console.session import Sessions

log = logging.getLogger(__name__)

STOP_S = 3


class CannotListen(Exception):
    """The address is taken, or not ours."""


class _Server(uvicorn.Server):
    """A web server whose signals and end are ours."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.should_exit = True


async def serve(config: ConsoleConfig, *, task_status: anyio.abc.TaskStatus[str] = anyio.TASK_STATUS_IGNORED) -> None:
    """Be a console until cancelled; `task_status` is told the address with a one-time token. Raises Denied, CannotListen, ConnectionLost."""
    bus = await connect(config.server, "console", config.credentials, retry=True)
    try:
        async with CommandClient(bus, Via.CONSOLE) as client:
            news, sessions = News(bus), Sessions(config.data)
            console = Console(config, Backend(bus, client), news, sessions)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(news.follow)
                tasks.start_soon(_fail_when_closed, bus)
                await _web(console, config, sessions, task_status)
                tasks.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await bus.close()


async def _fail_when_closed(bus: Any) -> None:
    await bus.closed.wait()
    raise ConnectionLost(f"the connection to the bus is gone: {bus.failure}")


def _listener(config: ConsoleConfig) -> socket.socket:
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((config.host, config.port))
    except OSError as error:
        if not config.or_free_port:
            listener.close()
            raise CannotListen(f"cannot listen on {config.host}:{config.port}: {error.strerror}") from error
        listener.bind((config.host, 0))
    return listener


async def _web(console: Console, config: ConsoleConfig, sessions: Sessions, task_status: anyio.abc.TaskStatus[str]) -> None:
    options = uvicorn.Config(
        application(console),
        host=config.host,
        port=config.port,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        date_header=True,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=STOP_S,
        h11_max_incomplete_event_size=32 * 1024,
        limit_concurrency=1200,
        ssl_certfile=config.certificate,
        ssl_keyfile=config.certificate_key,
    )
    listener = _listener(config)
    options.load()
    server = _Server(options)
    server.lifespan = options.lifespan_class(options)
    await server.startup(sockets=[listener])
    port = listener.getsockname()[1]
    scheme = "https" if config.is_encrypted else "http"
    host = f"[{config.host}]" if ":" in config.host else config.host
    sessions.note_address(f"{scheme}://{host}:{port}")
    task_status.started(f"{scheme}://{host}:{port}/login?token={sessions.login_token}")
    log.info("console on %s://%s:%d", scheme, host, port)
    try:
        await server.main_loop()
    finally:
        with anyio.CancelScope(shield=True):
            await console.live.end()
            await server.shutdown(sockets=[listener])
