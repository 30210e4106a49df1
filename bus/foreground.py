"""A service in the foreground: run until a signal, and end with an exit code that a supervisor understands.

Owns the signal handlers of the process.
"""

from __future__ import annotations

import gc
import logging
import signal
import sys
from collections.abc import Awaitable, Callable

import anyio

from bus.bootstrap import UnsafeSync
from bus.connection import EX_TEMPFAIL
from bus.errors import Denied

EX_REFUSED = 1


class ConnectionLost(Exception):
    """The connection to the bus is closed for good: exit, and let a supervisor start a new process."""


async def _until_signal(service: Callable[[], Awaitable[None]]) -> None:
    async with anyio.create_task_group() as tasks:

        async def stop_on_signal() -> None:
            with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
                async for _ in received:
                    tasks.cancel_scope.cancel()
                    return

        tasks.start_soon(stop_on_signal)
        await service()
        tasks.cancel_scope.cancel()


def loop_options(*, with_duckdb: bool) -> dict[str, bool]:
    """Return the options of the event loop: uvloop, but not where a process is forked beside the threads of DuckDB before 3.12.

    uvloop runs Python code in the child of a fork (uvloop #749), and until CPython 3.12 (#112275) that can wait for ever for a lock
    that a thread of C code held.
    """
    return {"use_uvloop": sys.platform != "win32" and (sys.version_info >= (3, 12) or not with_duckdb)}


def spare_collector() -> None:
    """Let the garbage collector look at young objects less often, and never again at what was loaded up to now.

    Nearly all that a service makes is frozen values that are freed by their counts; a pass over everything finds nothing and takes long.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def run_service(name: str, service: Callable[[], Awaitable[None]], *, with_duckdb: bool = False) -> int:
    """Run `service` until it ends or SIGTERM or SIGINT comes; return the exit code. `with_duckdb`: see `loop_options`.

    0 after a signal; 1 when the bus refused us or could lose acknowledged writes; 75 when the connection was lost for good.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    code = 0
    spare_collector()
    try:
        anyio.run(_until_signal, service, backend_options=loop_options(with_duckdb=with_duckdb))
    except* (UnsafeSync, Denied) as group:
        logging.getLogger(name).critical("%s", group.exceptions[0])
        code = EX_REFUSED
    except* ConnectionLost as group:
        logging.getLogger(name).critical("%s", group.exceptions[0])
        code = EX_TEMPFAIL
    return code
