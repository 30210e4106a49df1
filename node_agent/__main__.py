"""`python -m node_agent`: one node agent in the foreground. SIGTERM and SIGINT drain it; a second one ends it."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from pathlib import Path

import anyio
from pydantic import ValidationError

from bus.connection import EX_TEMPFAIL
from bus.errors import Denied
from bus.foreground import EX_REFUSED, ConnectionLost
from node_agent.config import NodeConfig
from node_agent.service import DataInUse, serve

EX_USAGE = 64


def _config(arguments: list[str]) -> NodeConfig:
    parser = argparse.ArgumentParser(prog="node_agent", description="Run one node of Quarterdeck.")
    parser.add_argument("--server", required=True, help="URL of the bus")
    parser.add_argument("--name", required=True, help="id of the node")
    parser.add_argument("--data", required=True, type=Path, help="folder of this node alone")
    parser.add_argument("--token-file", type=Path, help="file with the token of embedded mode")
    parser.add_argument("--seed-file", type=Path, help="nkey seed of this node")
    parser.add_argument("--label", action="append", default=[], metavar="K=V")
    parser.add_argument("--capacity", type=int, default=2, help="attempts at a time")
    parser.add_argument("--drain-grace-s", type=float, default=20.0)
    parser.add_argument("--stop-running", action="store_true", help="stop what runs at the end, instead of leaving it to be found again")
    found = parser.parse_args(arguments)
    return NodeConfig(
        server=found.server,
        name=found.name,
        data=found.data.absolute(),
        token=None if found.token_file is None else found.token_file.read_text().strip(),
        seed_file=found.seed_file,
        labels=dict(label.partition("=")[::2] for label in found.label),
        capacity=found.capacity,
        drain_grace_s=found.drain_grace_s,
        leave_running=not found.stop_running,
    )


async def _run(config: NodeConfig) -> None:
    drain = anyio.Event()
    async with anyio.create_task_group() as tasks:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            tasks.start_soon(_serve_until_drained, config, drain, tasks.cancel_scope)
            async for _ in signals:
                if drain.is_set():
                    tasks.cancel_scope.cancel()
                drain.set()


async def _serve_until_drained(config: NodeConfig, drain: anyio.Event, scope: anyio.CancelScope) -> None:
    await serve(config, drain=drain)
    scope.cancel()


def main(arguments: list[str]) -> int:
    """Serve; return the exit code: 0 after a drain, 1 refused by the bus, 64 usage, 75 when a supervisor may try again."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        config = _config(arguments)
    except (ValidationError, OSError) as error:
        print(error, file=sys.stderr)
        return EX_USAGE
    code = 0
    try:
        anyio.run(_run, config, backend_options={"use_uvloop": sys.platform != "win32"})
    except* (ConnectionLost, DataInUse) as failures:
        print(*failures.exceptions, sep="\n", file=sys.stderr)
        code = EX_TEMPFAIL
    except* Denied as failures:
        print(*failures.exceptions, sep="\n", file=sys.stderr)
        code = EX_REFUSED
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
