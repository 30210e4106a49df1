"""Nodes with the null executor: real node agents, real claims, journals and reports, and runs that do nothing.

`python -m bench.null_node --server URL --token-file FILE --data FOLDER NODE...` serves all named nodes in one process until TERM.
"""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import anyio

from bench import work
from bench.work import Then
from bus.foreground import run_service
from bus_schemas import codec
from bus_schemas.orders import RunKind, WorkOrder
from bus_schemas.reasons import Reason
from bus_schemas.reports import Ended, Finding, InitResult, Outcome, ValidateResult, Verdict
from bus_schemas.routing import AgentOffer
from node_agent.config import NodeConfig
from node_agent.executor import RunContext
from node_agent.service import serve


class NullExecutor:
    """Ends every run at once; nothing is cloned, nothing is spawned."""

    recovers = True
    """The node keeps its journal, as one with agents does: it belongs to the cost of a run."""

    def __init__(self, then: Then) -> None:
        """Keep orchestrations from going on as `then` says."""
        self._then = then

    def offers(self) -> tuple[AgentOffer, ...]:
        """Return the null agent, which takes the model `null`."""
        return work.OFFERS

    async def run(self, order: WorkOrder, context: RunContext) -> Ended:
        """Return the end of a run that did nothing."""
        now = datetime.now(UTC)
        if order.kind is not RunKind.INIT:
            result = ValidateResult(Verdict.STOP, (Finding("the null executor goes no further"),))
            return Ended(v=codec.VERSION, outcome=Outcome.SUCCEEDED, at=now, result=result)
        if self._then is Then.FAIL:
            return Ended(v=codec.VERSION, outcome=Outcome.FAILED, at=now, reason_code=Reason.INIT_FAILED.value, detail="null executor")
        clone = InitResult(base="0" * 40, path=f"/null/{order.orchestration}", branch=order.workspace.branch)
        return Ended(v=codec.VERSION, outcome=Outcome.SUCCEEDED, at=now, result=clone)

    async def forget(self, order: WorkOrder) -> None:
        """Nothing was left behind."""

    def leave(self, contexts: list[RunContext]) -> None:
        """Nothing runs."""


async def _serve(configs: list[NodeConfig], then: Then) -> None:
    async with anyio.create_task_group() as tasks:
        for config in configs:
            tasks.start_soon(partial(serve, config, executor=NullExecutor(then)))


def main(arguments: list[str]) -> int:
    """Serve nodes; return the exit code."""
    parser = argparse.ArgumentParser(prog="bench.null_node", description="Run nodes that do nothing.")
    parser.add_argument("--server", required=True)
    parser.add_argument("--token-file", required=True, type=Path)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--then", type=Then, choices=list(Then), default=Then.FAIL)
    parser.add_argument("nodes", nargs="+")
    found = parser.parse_intermixed_args(arguments)
    token = found.token_file.read_text().strip()
    configs = [NodeConfig(server=found.server, name=name, data=found.data / name, token=token, capacity=work.NODE_CAPACITY) for name in found.nodes]
    return run_service("null nodes", partial(_serve, configs, found.then))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
