"""The executor that does real work: agents as processes under shims, in worktrees, with commits kept in the repository.

Owns the folders of runs. For each attempt: prepare the worktree, start the shim, follow the output, judge the end, commit,
push, and say so. A step that a restart cut off is done again where nothing was started yet, and picked up where something was.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import anyio.to_thread
from msgspec.structs import replace

from bus import host
from bus.connection import Bus
from bus_schemas import codec, subjects
from bus_schemas.codec import VERSION
from bus_schemas.orders import RunKind, WorkOrder
from bus_schemas.reasons import Reason
from bus_schemas.reports import RESULT_BYTES_MAX, Ended, Outcome, Result, VerifyResult
from bus_schemas.routing import AgentOffer, agent_for, offered
from node_agent import handover, process
from node_agent.agents.agent import Agent, Answer, Launch, Refusal
from node_agent.attempt import Exit
from node_agent.config import NodeConfig
from node_agent.environment import agent_environment
from node_agent.executor import RunContext, Stopped
from node_agent.git import GitFailed
from node_agent.output import LogTail, tail
from node_agent.repository import Unusable
from node_agent.run_dir import RunDir, run_dir
from node_agent.verdict import Evidence, Judgement, Problem, judge
from node_agent.workspace import HistoryLost, MergeConflict, Workspaces, remove_tree

log = logging.getLogger(__name__)

OUTPUT_HEAD_BYTES_MAX = 8 * 1024 * 1024
OUTPUT_TAIL_BYTES_MAX = 256 * 1024
LOG_FLUSH_S = 5.0
"""The end of a run does not wait longer for its output to be on the bus."""
DETAIL_CHARS_MAX = 4000


class SpawnFailed(Exception):
    """The shim could not be started."""


class _Check:
    """What `verify` runs: the project's own check, no agent."""

    def launch(self, order: WorkOrder, run: RunDir) -> Launch | Answer | Refusal:
        if not order.inputs.check:
            return Refusal(Reason.PAYLOAD_INVALID, "a verify order names no check")
        return Launch(argv=("sh", "-c", "--", order.inputs.check), exit_is_answer=True)

    def result(self, order: WorkOrder, ending: Exit, tail: str, handed: Result | None) -> Result | None:
        code = ending.exit_code if ending.exit_code is not None else -1
        return VerifyResult(passed=code == 0, exit_code=code, tail=tail)


class _Work(NamedTuple):
    """An attempt with all that doing it needs."""

    order: WorkOrder
    context: RunContext
    run: RunDir
    agent: Agent | _Check
    launch: Launch


class Runner:
    """Does attempts on this machine."""

    recovers = True

    def __init__(self, config: NodeConfig, bus: Bus, wall: str, agents: tuple[Agent, ...]) -> None:
        """Work below the node's data folder, with processes behind `wall`."""
        self._config, self._bus, self._wall = config, bus, wall
        self._agents = {agent.offer().name: agent for agent in agents}
        self._offers = tuple(agent.offer() for agent in agents)
        self._workspaces = Workspaces(config.data)

    def offers(self) -> tuple[AgentOffer, ...]:
        """Return the agents of this node."""
        return self._offers

    async def run(self, order: WorkOrder, context: RunContext) -> Ended:
        """Do an attempt, or pick it up again, and return its end."""
        began = host.monotonic_s()
        try:
            ended = await self._perform(order, context)
        except Stopped:
            ended = _ended(Judgement(Outcome.CANCELLED, context.stop_reason, "stopped before anything was started", False))
        except SpawnFailed as failure:
            ended = _ended(Judgement(Outcome.FAILED, Reason.CLI_SPAWN_FAILED.value, str(failure), False))
        except MergeConflict as conflict:
            ended = _failed(Reason.MERGE_CONFLICT, str(conflict))
        except (GitFailed, Unusable, HistoryLost, OSError) as error:
            ended = _failed(Reason.INIT_FAILED if order.kind is RunKind.INIT else Reason.INTERNAL, str(error))
        duration_ms = ended.duration_ms or (host.monotonic_s() - began) * 1000
        return _sound(replace(ended, at=host.now(), model=order.model, duration_ms=duration_ms, agent=self._name(order)))

    def _name(self, order: WorkOrder) -> str | None:
        offer = agent_for(self._offers, order.model)
        return None if offer is None or order.kind in (RunKind.INIT, RunKind.VERIFY, RunKind.FINALIZE) else offer.name

    async def _perform(self, order: WorkOrder, context: RunContext) -> Ended:
        if context.stop_reason is not None and context.spawning is None:
            raise Stopped
        run = run_dir(self._config.data, order)
        if order.kind is RunKind.INIT:
            with context.interruptible():
                ready = await self._workspaces.init(order)
            return _succeeded(ready, ready.base)
        if order.kind is RunKind.FINALIZE:
            head = await self._base(order, context, run)
            written = await self._workspaces.finalize(order, head)
            return _succeeded(written, head)
        agent = self._agent(order)
        plan = Refusal(Reason.CLI_NOT_FOUND, self._unroutable(order)) if agent is None else agent.launch(order, run)
        match plan:
            case Refusal(reason=reason, detail=detail):
                return _ended(Judgement(Outcome.FAILED, reason.value, detail, process_started=agent is not None))
            case Answer(result=result):
                if not order.workspace.base:
                    return _succeeded(result, None)
                head = await self._base(order, context, run)
                await self._keep(order, head)
                return _succeeded(result, head)
            case _:
                pass
        assert agent is not None
        work = _Work(order, context, run, agent, plan)
        if context.spawning is None:
            await self._start(work)
        elif context.process is None:
            context.process = await process.find(run)
        return await self._conclude(work, await self._supervise(work))

    def _agent(self, order: WorkOrder) -> Agent | _Check | None:
        if order.kind is RunKind.VERIFY:
            return _Check()
        offer = agent_for(self._offers, order.model)
        return None if offer is None else self._agents[offer.name]

    def _unroutable(self, order: WorkOrder) -> str:
        return f"no agent of node {self._config.name} takes model {order.model}; it offers {offered(self._offers)}"

    async def _base(self, order: WorkOrder, context: RunContext, run: RunDir) -> str:
        """Return the one commit that has all of the base, merged if there are several."""
        with context.interruptible():
            if len(order.workspace.base) == 1:
                return order.workspace.base[0]
            return await self._workspaces.prepare(order, run)

    async def _keep(self, order: WorkOrder, head: str) -> None:
        """Keep a commit that this run made in the project's repository; the ones it started from are there."""
        if head not in order.workspace.base:
            await self._workspaces.publish(order, head)

    async def _start(self, work: _Work) -> None:
        """Make the worktree and the run's files, and start the shim."""
        with work.context.interruptible():
            await anyio.to_thread.run_sync(remove_tree, work.run.path)
            work.run.path.parent.mkdir(parents=True, exist_ok=True)
            for folder in (work.run.path, work.run.home, work.run.temporary):
                folder.mkdir(mode=0o700)  # the shim's orders hold the run's environment
            head = await self._workspaces.prepare(work.order, work.run)
            for name, data in work.launch.files.items():
                (work.run.path / name).write_bytes(data)
                (work.run.path / name).chmod(0o700)
            if work.launch.hands_over is not None:
                work.run.schema.write_bytes(handover.schema(work.launch.hands_over))
        await work.context.begin_spawn(head)
        try:
            started = process.spawn(work.run, self._spec(work))
        except OSError as error:
            raise SpawnFailed(str(error)) from error
        await work.context.spawned(started)

    def _spec(self, work: _Work) -> dict[str, Any]:
        env = {**agent_environment(work.order, work.run, os.environ), **work.launch.env}
        if work.launch.hands_over is not None:
            env |= {"QD_RESULT": str(work.run.result), "QD_RESULT_SCHEMA": str(work.run.schema)}
        return {
            "argv": work.launch.argv,
            "env": env,
            "cwd": str(work.run.tree),
            "timeout_s": work.order.timeout_s,
            "idle_s": self._config.idle_s,
            "grace_s": self._config.stop_grace_s,
            "containment": self._wall,
            "head_bytes_max": OUTPUT_HEAD_BYTES_MAX,
            "tail_bytes_max": OUTPUT_TAIL_BYTES_MAX,
        }

    async def _supervise(self, work: _Work) -> Exit | None:
        """Follow a run to its end; return how it ended, None when nobody can say."""
        subject = subjects.log(work.order.node, work.order.run, work.order.attempt)
        follower = LogTail(self._bus, subject, work.order.project, work.run)
        async with anyio.create_task_group() as tasks:
            flushed = anyio.Event()

            async def follow() -> None:
                await follower.follow()
                flushed.set()

            tasks.start_soon(follow)
            with work.context.passing_stops_to(lambda: process.request_stop(work.run, work.context.process)):
                ending = await process.ending(work.run, work.context.process)
            follower.end()
            with anyio.move_on_after(LOG_FLUSH_S):
                await flushed.wait()
            tasks.cancel_scope.cancel()
        return ending

    async def _conclude(self, work: _Work, ending: Exit | None) -> Ended:
        printed = tail(work.run)
        handed = self._handed(work)
        problem = handed if isinstance(handed, Problem) else None
        never_started = work.context.process is None and work.run.path.exists()
        judgement = judge(Evidence(ending, never_started, work.launch.exit_is_answer, work.context.stop_reason, problem))
        facts = _ended(judgement) if ending is None else _with_facts(_ended(judgement), ending, printed)
        if judgement.outcome is not Outcome.SUCCEEDED or ending is None:
            return replace(facts, detail=facts.detail + await self._salvage(work))
        assert not isinstance(handed, Problem)
        base = work.context.spawning.head if work.context.spawning is not None else None
        if base is None:
            return _failed(Reason.INTERNAL, "the journal does not say which commit the run started from")
        head, result = await self._harvest(work, base, ending, printed, handed)
        return replace(facts, result=result, head=head)

    def _handed(self, work: _Work) -> Result | Problem | None:
        if work.launch.hands_over is None:
            return None
        found = handover.read(work.run.result, work.launch.hands_over)
        if found is None and work.launch.must_hand_over:
            return Problem(Reason.OUTPUT_MALFORMED, "the agent handed over no result")
        return found

    async def _harvest(self, work: _Work, base: str, ending: Exit, printed: str, handed: Result | None) -> tuple[str, Result | None]:
        """Return what a successful run leaves: the commit, kept in the repository, and the result."""
        order = work.order
        if order.kind is not RunKind.TASK:
            await self._keep(order, base)
            return base, work.agent.result(order, ending, printed, handed)
        saved = await self._workspaces.save(order, work.run, base)
        await self._keep(order, saved.head)
        return saved.head, await self._workspaces.measured(order, base, saved.head)

    async def _salvage(self, work: _Work) -> str:
        """Keep what an unsuccessful task left, under the ref of its attempt; say where it is."""
        base = work.context.spawning.head if work.context.spawning is not None else None
        if work.order.kind is not RunKind.TASK or base is None:
            return ""
        try:
            saved = await self._workspaces.save(work.order, work.run, base, note=" (unfinished)")
            if not saved.is_new:
                return ""
            await self._workspaces.publish(work.order, saved.head)
        except (GitFailed, Unusable, HistoryLost, OSError) as error:
            log.warning("%s.%d: what it left stays in %s: %s", work.order.run, work.order.attempt, work.run.tree, error)
            return f"; what it left is in {work.run.tree} on the node"
        return f"; what it left is kept as commit {saved.head[:12]} under refs/qd/{work.order.orchestration}"

    async def forget(self, order: WorkOrder) -> None:
        """Remove the folders of an attempt whose end is on the bus; a worktree of a task with work in it stays."""
        run = run_dir(self._config.data, order)
        try:
            if await self._workspaces.discard(order, run, with_work=order.kind is not RunKind.TASK):
                await anyio.to_thread.run_sync(remove_tree, run.path)
        except (GitFailed, OSError) as error:
            log.warning("%s.%d: its folders stay in %s: %s", order.run, order.attempt, Path(run.path), error)

    def leave(self, contexts: list[RunContext]) -> None:
        """Let what runs go on under its shims, to be found again at the next start; or stop it, if the configuration says so."""
        for context in contexts:
            if context.spawning is not None and not self._config.leave_running:
                process.request_stop(run_dir(self._config.data, context.order), context.process)


def _succeeded(result: Result, head: str | None) -> Ended:
    return Ended(v=VERSION, outcome=Outcome.SUCCEEDED, at=host.now(), result=result, head=head)


def _sound(ended: Ended) -> Ended:
    """Return a report that the controller can read: a result that is not of the contract, or too large, is a failure here."""
    try:
        if ended.result is not None and len(codec.encode(ended.result)) > RESULT_BYTES_MAX:
            return replace(ended, **_unusable(Reason.OUTPUT_TOO_LARGE, f"the result is over {RESULT_BYTES_MAX // 1024} KiB"))
        codec.decode_report(codec.encode(ended))
    except codec.Malformed as error:
        return replace(ended, **_unusable(Reason.OUTPUT_MALFORMED, str(error)))
    return ended


def _unusable(reason: Reason, detail: str) -> dict[str, Any]:
    return {"outcome": Outcome.FAILED, "reason_code": reason.value, "detail": detail[:DETAIL_CHARS_MAX], "result": None, "head": None}


def _failed(reason: Reason, detail: str) -> Ended:
    return _ended(Judgement(Outcome.FAILED, reason.value, detail))


def _ended(judgement: Judgement) -> Ended:
    return Ended(
        v=VERSION,
        outcome=judgement.outcome,
        at=host.now(),
        process_started=judgement.process_started,
        reason_code=judgement.reason_code,
        detail=judgement.detail[:DETAIL_CHARS_MAX],
    )


def _with_facts(ended: Ended, ending: Exit, printed: str) -> Ended:
    return replace(
        ended, exit_code=ending.exit_code, signal=ending.signal, output_bytes=ending.output_bytes, duration_ms=ending.duration_ms, tail=printed
    )
