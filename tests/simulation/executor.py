"""The executor of simulated nodes: does what `node_agent.runner` does at the same places of the protocol, with fake processes.

Owns nothing that survives: a new one is made at each start of a node agent and finds again, on its machine, what was begun.
"""

from __future__ import annotations

from datetime import timedelta

import anyio
from msgspec.structs import replace

from bus import host
from bus_schemas.codec import VERSION
from bus_schemas.orders import RunKind, WorkOrder
from bus_schemas.reasons import Reason
from bus_schemas.reports import Ended, Outcome
from bus_schemas.routing import AgentOffer
from node_agent.attempt import Exit, key_of
from node_agent.executor import RunContext, Stopped
from node_agent.verdict import Evidence, Judgement, Problem, judge
from tests.simulation.coverage import notice
from tests.simulation.machine import Machine, Process
from tests.simulation.script import OWN_WORK, Part, part_of

APPEAR_S = 1.0
LOOK_EVERY_S = 0.05


class SimExecutor:
    """Does attempts on a simulated machine."""

    recovers = True

    def __init__(self, machine: Machine, seed: int, trouble: float, quota: float, models: tuple[str, ...]) -> None:
        """Let agents do what the script of `seed` says, for these models."""
        self._machine, self._seed, self._trouble, self._quota = machine, seed, trouble, quota
        self._offers = (AgentOffer("shell", "1", models),)

    def offers(self) -> tuple[AgentOffer, ...]:
        """Return the agents of this node."""
        return self._offers

    async def run(self, order: WorkOrder, context: RunContext) -> Ended:
        """Do an attempt, or find one again that was begun, and return its end."""
        part = part_of(self._seed, order, self._trouble, self._quota)
        try:
            return await self._perform(order, context, part)
        except Stopped:
            return _ended(Judgement(Outcome.CANCELLED, context.stop_reason, "stopped before anything was started", False))

    async def _perform(self, order: WorkOrder, context: RunContext, part: Part) -> Ended:
        if context.stop_reason is not None and context.spawning is None:
            raise Stopped
        if order.kind in OWN_WORK:
            return await self._own(order, context, part)
        if context.spawning is None:
            with context.interruptible():
                await anyio.sleep(part.prepares_s)
            await context.begin_spawn(order.workspace.base[0] if order.workspace.base else None)
            process: Process | None = self._machine.spawn(order, part.fate)
            assert process is not None
            await context.spawned(process.id)
        else:
            notice("a process is looked for after a restart")
            process = await self._find(order, context)
        ending = await self._supervise(context, process)
        exit_is_answer = order.kind is RunKind.VERIFY
        problem = None if part.problem is None else Problem(part.problem, "what the agent handed over cannot be used")
        verdict = judge(Evidence(ending, context.process is None, exit_is_answer, context.stop_reason, problem))
        ended = replace(_ended(verdict, ending), usage=part.usage if ending is not None and ending.spawned else None)
        if verdict.reason_code == Reason.QUOTA_EXHAUSTED and part.quota_s:
            ended = replace(ended, resets_at=ended.at + timedelta(seconds=part.quota_s))
        if verdict.outcome is not Outcome.SUCCEEDED:
            return ended
        return _handing_over(ended, part)

    async def _own(self, order: WorkOrder, context: RunContext, part: Part) -> Ended:
        if order.kind is RunKind.INIT:
            with context.interruptible():
                await anyio.sleep(part.prepares_s)
        else:
            await anyio.sleep(part.prepares_s)
        if part.result is None:
            return _ended(Judgement(Outcome.FAILED, "execution_init_failed", "the clone could not be made", True))
        return _handing_over(_ended(Judgement(Outcome.SUCCEEDED)), part)

    async def _find(self, order: WorkOrder, context: RunContext) -> Process | None:
        """Return the process that a node agent before us was about to start; None when it never came and never will."""
        key = key_of(order)
        deadline = host.monotonic_s() + APPEAR_S
        while True:
            process = self._machine.processes.get(key)
            if process is not None and process.appeared:
                notice("a process is adopted after a restart")
                context.process = process.id
                return process
            if context.process is not None:
                return process  # the journal knows it, so it had been spawned
            if host.monotonic_s() >= deadline:
                break
            await anyio.sleep(LOOK_EVERY_S)
        self._machine.locked.add(key)
        notice("a process that did not appear is locked out")
        return None

    async def _supervise(self, context: RunContext, process: Process | None) -> Exit | None:
        if process is None:
            return None
        with context.passing_stops_to(process.request_stop):
            await process.wait_gone()
        return process.exit

    async def forget(self, order: WorkOrder) -> None:
        """Keep everything: what a machine remembers is looked at after the run."""

    def leave(self, contexts: list[RunContext]) -> None:
        """Let what runs go on under its shims."""


def _ended(verdict: Judgement, ending: Exit | None = None) -> Ended:
    return Ended(
        v=VERSION,
        outcome=verdict.outcome,
        at=host.now(),
        process_started=verdict.process_started,
        reason_code=verdict.reason_code,
        detail=verdict.detail,
        exit_code=None if ending is None else ending.exit_code,
        signal=None if ending is None else ending.signal,
        duration_ms=0.0 if ending is None else ending.duration_ms,
    )


def _handing_over(ended: Ended, part: Part) -> Ended:
    return replace(ended, result=part.result, head=part.head)
