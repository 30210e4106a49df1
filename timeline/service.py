"""The timeline's loops: read the ledger into DuckDB, answer queries, keep a SQL worker ready.

Owns the connection and the file; it writes nothing to the bus.
"""

from __future__ import annotations

import contextlib
import logging

import anyio
import anyio.abc

from bus.bootstrap import refuse_unsafe
from bus.connection import ApiFailure, Bus, connect
from bus.errors import Unavailable
from bus.foreground import ConnectionLost
from bus.request import QueryService
from timeline.config import TimelineConfig
from timeline.database import Database
from timeline.ingest import Ingest
from timeline.logs import Logs
from timeline.queries import VERSION, Queries
from timeline.sql_service import SqlService
from timeline.store import InUse, Store

log = logging.getLogger(__name__)

RETRY_S = 1.0


async def serve(config: TimelineConfig, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
    """Be the timeline until cancelled. Raises UnsafeSync, Denied, and ConnectionLost."""
    bus = await connect(config.server, "timeline", config.credentials, retry=True)
    database = Database(Store(config.database, memory_bytes=config.memory_bytes), config.published)
    try:
        await _first_contact(bus, config.allow_unsafe_sync)
        await _open(database)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_watch_connection, bus)
            ingest = Ingest(bus, database)
            sql = SqlService(database.publish, timeout_s=config.sql_timeout_s, memory_bytes=config.sql_memory_bytes)
            queries = Queries(database, ingest, sql, Logs(bus))
            tasks.start_soon(ingest.run)
            tasks.start_soon(sql.run)
            await tasks.start(QueryService(bus, "qd-timeline", VERSION, queries.handlers()).run)
            with contextlib.suppress(Unavailable):
                await bus.flush()  # whoever hears that we started can ask at once
            task_status.started()
    finally:
        with anyio.CancelScope(shield=True):
            await database.close()
            await bus.close()


async def _first_contact(bus: Bus, allow_unsafe_sync: bool) -> None:
    while True:
        try:
            await refuse_unsafe(bus, allow_unsafe_sync=allow_unsafe_sync)
            return
        except (Unavailable, ApiFailure) as error:
            log.warning("waiting for the bus to be set up (`qd bus init`): %s", error)
            await anyio.sleep(RETRY_S)


async def _open(database: Database) -> None:
    """Open the file; while another process has it, wait: it may be a timeline that is about to end."""
    while True:
        try:
            await database.open()
            return
        except InUse as error:
            log.warning("%s", error)
            await anyio.sleep(RETRY_S)


async def _watch_connection(bus: Bus) -> None:
    await bus.closed.wait()
    raise ConnectionLost(bus.failure or "the connection is closed")
