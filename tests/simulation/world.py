"""A world: server, controllers, nodes with their machines, and clients, made from a schedule, with what goes wrong in it.

Owns everything of one simulated run and the temporary folder of its journals. The services are the real ones; only clock, randomness,
network, server and agents are simulated.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import shutil
import tempfile
import unittest.mock
import warnings
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, ClassVar

import anyio
import anyio.to_thread
from msgspec import Struct
from nats import errors

from bus import failpoint, host
from bus.bootstrap import Sync, ensure_all
from bus.connection import WRONG_LAST_SEQ, Credentials, connect
from bus_schemas import codec, subjects
from bus_schemas.entities import Flag
from bus_schemas.ids import PLANE
from controller import service as controller_service
from controller.config import ControllerConfig
from controller.ledger import Ledger
from controller.orchestration import Orchestration
from controller.project import Aggregate, fold
from node_agent import service as node_service
from node_agent.config import NodeConfig
from tests.simulation.actors import URL, Sheet, client
from tests.simulation.coverage import notice, seen
from tests.simulation.evidence import Call, Evidence, Record, Violation
from tests.simulation.executor import SimExecutor
from tests.simulation.facts import facts_of
from tests.simulation.faults import Faults
from tests.simulation.host import Killed, SimHost
from tests.simulation.invariants import violations
from tests.simulation.jetstream import SimServer
from tests.simulation.jetstream_streams import Failure, Stored, Stream
from tests.simulation.link import Network
from tests.simulation.loop import Deadlock, Runaway, SimLoop, simulate
from tests.simulation.machine import OUTSIDE, Machine, Witnessed
from tests.simulation.schedule import MARKERS, PROJECT, NodeSpec, Op, Schedule
from tests.simulation.verified import verdict_of

RESTART_S = 0.5
PRELUDE_S = 60.0
QUIET_WITHIN_S = 240.0
QUIET_FOR_S = 3.0
LOOK_EVERY_S = 0.5
STEPS_MAX = 1_500_000
THREAD_S = 0.02
"""The longest that work in a thread takes, in virtual time."""
MEMORY = Path("/dev/shm")
"""Where journals are kept if it is there: their real syncs take time that the simulation does not count."""


class Result(Struct):
    """What came of a schedule. `hash` tells two runs apart; `dump` says where everything stood when it failed."""

    seed: int
    hash: str
    violations: list[Violation]
    steps: int
    virtual_s: float
    faults: dict[str, int]
    seen: dict[str, int]
    decisions: int = 0
    starts: int = 0
    calls: int = 0
    dump: str = ""


class SeenLedger(Ledger):
    """A controller's ledger that the simulation can look at; which one belongs to whom is told by the host it is made on."""

    by_host: ClassVar[dict[Any, SeenLedger]] = {}

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.by_host[host.current.get()] = self


class Slot:
    """A process of the schedule: what it runs, on which host right now, and whether it is to run at all."""

    def __init__(self, name: str, skew_s: float, main: Callable[[SimHost], Coroutine[Any, Any, None]], data: Path | None = None) -> None:
        self.name, self.skew_s, self.main, self.data = name, skew_s, main, data
        self.host: SimHost | None = None
        self.incarnation = 0
        self.dying: asyncio.Task[None] | None = None


class World:
    """One simulated run."""

    def __init__(self, schedule: Schedule, loop: SimLoop, folder: Path, verbose: Callable[[str], None] | None) -> None:
        self.schedule, self.loop, self.folder, self._verbose = schedule, loop, folder, verbose
        self.network = Network(loop)
        self.server = SimServer(self.network)
        self.calls: list[Call] = []
        self.witness: list[Witnessed] = []
        self.stored: list[Record] = []
        self.crashes: list[Violation] = []
        self.emptied: dict[str, float] = {}
        self.resting: dict[str, Aggregate] = {}
        self.zero_s = 0.0
        self.over = False
        self.faults = Faults(self)
        self.machines = {spec.process: Machine(spec.process, folder / spec.process, self.witness) for spec in schedule.nodes}
        self.sheets = {name: Sheet([op for op in schedule.ops if op.client == name]) for name in schedule.clients}
        self.slots: dict[str, Slot] = {}
        self._states: dict[str, Aggregate] = {}
        self._folded = 0
        self._ledgers: dict[Any, SeenLedger] = {}
        for name in schedule.controllers:
            data = folder / name if schedule.index else None
            self.slots[name] = Slot(name, schedule.skew_s.get(name, 0.0), self._controller(name), data)
        for spec in schedule.nodes:
            self.slots[spec.process] = Slot(spec.process, schedule.skew_s.get(spec.process, 0.0), self._node(spec), folder / spec.process)
        for name in schedule.clients:
            self.slots[name] = Slot(name, 0.0, self._client(name))

    def say(self, text: str) -> None:
        """Tell whoever watches."""
        if self._verbose is not None:
            self._verbose(f"{self.loop.time():10.4f}  {text}")

    # ── what runs where ──────────────────────────────────────────────────────────────────────────────────────────────

    def _controller(self, name: str) -> Callable[[SimHost], Coroutine[Any, Any, None]]:
        def main(_: SimHost) -> Coroutine[Any, Any, None]:
            data = self.folder / name if self.schedule.index else None
            return controller_service.serve(ControllerConfig(server=URL, owner=f"{name}-{self.slots[name].incarnation}", data=data))

        return main

    def _node(self, spec: NodeSpec) -> Callable[[SimHost], Coroutine[Any, Any, None]]:
        machine = self.machines[spec.process]

        def main(_: SimHost) -> Coroutine[Any, Any, None]:
            config = NodeConfig(server=URL, name=spec.node, data=machine.data, capacity=spec.capacity)
            script = (self.schedule.seed, self.schedule.trouble, self.schedule.quota)
            return node_service.serve(config, executor=SimExecutor(machine, *script, spec.models))

        return main

    def _client(self, name: str) -> Callable[[SimHost], Coroutine[Any, Any, None]]:
        return lambda _: client(name, self.sheets[name], self, self.calls, self.zero_s)

    def start(self, name: str) -> None:
        """Start a process, unless it runs."""
        slot = self.slots[name]
        if slot.host is not None:
            return
        slot.incarnation += 1
        slot.host = at = SimHost(self.loop, self.network, name, skew_s=slot.skew_s, data=slot.data)
        self.say(f"{name} starts")
        task = at.run(slot.main(at), name=f"{name}-{slot.incarnation}")
        task.add_done_callback(lambda done: self._ended(slot, at, done), context=OUTSIDE)

    def _ended(self, slot: Slot, at: SimHost, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if not at.alive or slot.host is not at or self.over:
            return
        slot.host = None
        if error is None:
            if slot.name not in self.sheets:
                self.crashes.append(Violation("service", f"{slot.name} ended by itself at {self.loop.time():.3f}"))
            return
        reason = _root(error)
        if type(reason).__name__ not in ("ConnectionLost", "Unavailable"):
            self.crashes.append(Violation("service", f"{slot.name} broke at {self.loop.time():.3f}: {type(reason).__name__}: {reason}"))
        notice("a service ended and was started again")
        self.say(f"{slot.name} ended: {reason!r}")
        self.loop.call_later(RESTART_S, self.start, slot.name, context=OUTSIDE)

    def crash(self, name: str, again_in_s: float, *, power: bool = False, empty: bool = False) -> bool:
        """Kill a process at once and start it again later, with an `empty` data folder or as it was; return whether it ran.

        Its burial takes a few steps.
        """
        slot = self.slots[name]
        at = slot.host
        if at is None or not at.alive:
            return False
        self.loop.go_on(at)
        sizes = {path: path.stat().st_size for path in slot.data.rglob("*.jsonl")} if slot.data is not None else {}
        at.crash(power=power)
        notice("a journal lost what was not synced", any(len(at._frozen[path]) < size for path, size in sizes.items()))
        if power and name in self.machines:
            self.machines[name].power_cut(self.loop.rng)
        self.say(f"{name} is {'without power' if power else 'killed'}")
        slot.dying = self.loop.create_task(self._bury(slot, at, again_in_s, empty), context=OUTSIDE.copy())
        return True

    async def _bury(self, slot: Slot, at: SimHost, again_in_s: float, empty: bool) -> None:
        await at.buried()
        if empty and slot.data is not None:
            shutil.rmtree(slot.data, ignore_errors=True)
            self.emptied[slot.name] = self.loop.time()
        if again_in_s == float("inf"):
            return
        await asyncio.sleep(again_in_s)
        slot.host = None
        self.start(slot.name)

    # ── what others may look at ──────────────────────────────────────────────────────────────────────────────────────

    def states(self) -> dict[str, Aggregate]:
        """Return the fold of what the ledger's stream holds now."""
        for message in self.server.stored(subjects.LEDGER):
            if message.seq > self._folded:
                self._folded = message.seq
                decoded = codec.decode_ledger(message.data)
                self._states[decoded.project] = fold(self._states.get(decoded.project, Aggregate(decoded.project)), decoded, message.seq)
        return self._states

    def orchestration(self, name: str) -> Orchestration | None:
        """Return an orchestration as the ledger has it now."""
        state = self.states().get(PROJECT)
        return None if state is None else state.orchestrations.get(name)

    def flag_actions(self) -> list[str]:
        """Return the actions that changed each flag last, as the ledger has it now."""
        changes = self.states().get(PLANE, Aggregate(PLANE)).flag_changes
        return [changes[flag].action for flag in sorted(changes)]

    def _is_quiet(self) -> bool:
        if not all(sheet.is_done for sheet in self.sheets.values()):
            return False
        if any(self.server.stored(stream) for stream in (subjects.CMD, subjects.CTL, subjects.WORK)):
            return False
        consumer = self.server.streams[subjects.REP].consumers.get(subjects.CONTROLLER_DURABLE)
        if consumer is None or consumer.pending or consumer.unseen:
            return False
        for state in self.states().values():
            for o in state.orchestrations.values():
                if o.is_live and (o.outstanding() or not o.holds):
                    return False
        return True

    # ── the run ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> Evidence:
        """Set up, let chaos loose, heal, wait until all is quiet; return the evidence. A world that never gets quiet says so."""
        self.server.start()
        await self._set_up()
        self.zero_s = self.loop.time()
        for name in self.schedule.clients:
            self.start(name)
        self.faults.begin()
        await asyncio.sleep(self.schedule.chaos_s)
        self.say("heal")
        self.faults.heal()
        if await self._quiet(QUIET_FOR_S):
            self.resting = dict(self.states())
            await self._close()
        return self.evidence()

    async def _quiet(self, for_s: float) -> bool:
        """Wait until all is quiet and stays so; return whether it ever was."""
        quiet_since: float | None = None
        deadline = self.loop.time() + QUIET_WITHIN_S
        while self.loop.time() < deadline:
            await asyncio.sleep(LOOK_EVERY_S)
            if not self._is_quiet():
                quiet_since = None
            elif quiet_since is None:
                quiet_since = self.loop.time()
            elif self.loop.time() - quiet_since >= for_s:
                return True
        self.crashes.append(Violation("stuck", f"not quiet {QUIET_WITHIN_S:g} s after everything was healed"))
        return False

    async def _close(self) -> None:
        """Cancel what is still held, so that every action must have found its end."""
        held = [o.id for state in self.states().values() for o in state.orchestrations.values() if o.is_live]
        if not held:
            return
        flag = {"flag": Flag.RUNTIME_CONTROLS.value, "on": True}
        ops = [Op(0.0, "closing", "flag-set", "closing", flag, reason="the end")]
        ops += [Op(0.2, "closing", "cancel", f"closing-{name}", {"orchestration": name}, reason="the end") for name in sorted(held)]
        at = SimHost(self.loop, self.network, "closing")
        await at.run(client("closing", Sheet(ops), self, self.calls, self.loop.time()), name="closing")
        await self._quiet(LOOK_EVERY_S)

    async def _set_up(self) -> None:
        body = "".join(f"## Phase {n}\n### Task 1: a\n```sh\ntrue\n```\n" for n in range(1, self.schedule.phases + 1))
        ops = [
            Op(0.0, "setup", "project-add", "setup-1", {"check": self.schedule.check}),
            Op(0.2, "setup", "design-add", "setup-2", {"body": body, "markers": list(MARKERS)}),
        ]
        sheet = Sheet(ops)
        at = SimHost(self.loop, self.network, "setup")

        async def main() -> None:
            bus = await connect(URL, "setup", Credentials())
            await ensure_all(bus, sync=Sync.ALWAYS)
            await bus.close()
            for name in self.schedule.controllers:
                self.start(name)
            for spec in self.schedule.nodes:
                self.start(spec.process)
            await client("setup", sheet, self, self.calls, self.loop.time())

        with anyio.fail_after(PRELUDE_S):
            await at.run(main(), name="setup")
            wanted = {spec.node for spec in self.schedule.nodes}
            while not wanted <= set(self.states().get(PLANE, Aggregate(PLANE)).nodes):
                await asyncio.sleep(LOOK_EVERY_S)

    def evidence(self) -> Evidence:
        """Return what everybody knows now."""
        at_s = {record.seq: record.at_s for record in self.stored if record.stream == subjects.LEDGER}
        ledger = [Record(subjects.LEDGER, m.seq, m.subject, at_s[m.seq], m.data) for m in self.server.stored(subjects.LEDGER)]
        journals = {}
        for name, machine in self.machines.items():
            path = machine.data / "journal" / "journal.jsonl"
            journals[name] = path.read_bytes() if path.exists() else b""
        notice("a report was deleted", self.server.streams[subjects.REP].last_seq > len(self.server.stored(subjects.REP)))
        notice("the server was restarted", self.server.restarts > 0)
        for stream in self.server.streams.values():
            for consumer in stream.consumers.values():
                notice("a message was delivered again", consumer.consumer_seq > stream.last_seq and not consumer.is_push)
        found = Evidence(self.calls, ledger, self.stored, self.witness, journals)
        found.active = self._held_by_active()
        found.resting, found.emptied = self.resting, dict(self.emptied)
        return found

    def _held_by_active(self) -> dict[str, Aggregate]:
        """Return the states that the active controller holds, once it has folded everything."""
        lease = self.server.streams[f"KV_{subjects.LEASE_BUCKET}"].last(f"$KV.{subjects.LEASE_BUCKET}.>")
        owner = "" if lease is None else json.loads(lease.data)["owner"]
        for slot in self.slots.values():
            if owner == f"{slot.name}-{slot.incarnation}" and slot.host in self._ledgers:
                ledger = self._ledgers[slot.host]
                last = {m.subject.rpartition(".")[2]: m.seq for m in self.server.stored(subjects.LEDGER)}
                return {project: state for project, state in ledger.states.items() if ledger.head(project).seq == last.get(project)}
        return {}

    def dump(self) -> str:
        """Return where everything stands: what an engineer asks first."""
        lines = [f"at {self.loop.time():.3f} after {self.loop.steps} steps"]
        for name, slot in self.slots.items():
            lines.append(f"  {name}: {'runs' if slot.host is not None and slot.host.alive else 'does not run'}, incarnation {slot.incarnation}")
        for name, stream in self.server.streams.items():
            consumers = {c.name: f"pending {len(c.pending)} unseen {c.unseen} waiting {len(c.waiting)}" for c in stream.consumers.values()}
            lines.append(f"  {name}: {len(stream.messages)} messages, last {stream.last_seq} {consumers}")
        for state in self.states().values():
            for o in state.orchestrations.values():
                runs = [f"{run.id}.{run.attempt} {run.kind} {run.status} on {run.node}{' held' if run.held else ''}" for run in o.open_runs()]
                lines.append(f"  {o.id}: {o.status}, holds {[h.kind.value for h in o.holds]}, open {runs}, actions {[a.id for a in o.open_actions]}")
        for name, sheet in self.sheets.items():
            lines.append(f"  {name}: {len(sheet.done)} of {len(sheet.ops)} done")
        return "\n".join(lines)


def _root(error: BaseException | None) -> BaseException | None:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def play(schedule: Schedule, verbose: Callable[[str], None] | None = None) -> Result:
    """Run a schedule and return what came of it. What the services log is not shown."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with tempfile.TemporaryDirectory(prefix="qd-sim-", dir=MEMORY if MEMORY.is_dir() else None) as folder:
            return _play(schedule, Path(folder), verbose)
    finally:
        logging.disable(disabled)


def _play(schedule: Schedule, folder: Path, verbose: Callable[[str], None] | None) -> Result:
    worlds: list[World] = []
    evidence: list[Evidence] = []
    broken: list[Violation] = []
    seen.clear()

    async def main(loop: SimLoop) -> None:
        world = World(schedule, loop, folder, verbose)
        worlds.append(world)
        with _watching(world):
            try:
                evidence.append(await world.run())
            except TimeoutError:
                broken.append(Violation("stuck", f"not set up within {PRELUDE_S:g} s"))
            finally:
                world.over = True
                world.faults.heal()

    try:
        with warnings.catch_warnings():
            # a task group that is being cancelled is given more work, which never begins
            warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
            simulate(main, schedule.seed, steps_max=STEPS_MAX)
    except (Deadlock, Runaway) as error:
        broken.append(Violation("stuck", str(error)))
    world = worlds[0]
    found = [*broken, *world.crashes, *(_judged(evidence[0], schedule) if evidence else [])]
    found += [Violation("uncaught", _said(context)) for context in world.loop.failures if not _of_the_dead(context)]
    return Result(
        seed=schedule.seed,
        hash=trace_hash(world, found),
        violations=found,
        steps=world.loop.steps,
        virtual_s=round(world.loop.time(), 3),
        faults=dict(world.faults.done),
        seen=dict(seen + facts_of(evidence[0])) if evidence else {},
        decisions=sum(len(message.decisions) for _, message in evidence[0].messages) if evidence else 0,
        starts=sum(w.what == "start" for w in world.witness),
        calls=len(world.calls),
        dump=world.dump() if found else "",
    )


def _judged(evidence: Evidence, schedule: Schedule) -> list[Violation]:
    return [*violations(evidence), *verdict_of(evidence, {spec.process: spec.node for spec in schedule.nodes})]


def _of_the_dead(context: dict[str, Any]) -> bool:
    """Return whether this is what a killed process says: its task was killed or cancelled, or found its connection closed."""
    return isinstance(_root(context.get("exception")), Killed | errors.ConnectionClosedError | asyncio.CancelledError)


def _said(context: dict[str, Any]) -> str:
    return f"{context.get('message')}: {context.get('exception')!r}"


def trace_hash(world: World, found: list[Violation]) -> str:
    """Return the hash of all that was seen: every stored message, every call, every start, and the loop's own digest."""
    lines = [f"{world.loop.digest} {world.loop.steps} {world.loop.time():.6f}"]
    lines += [f"{r.stream} {r.seq} {r.subject} {r.at_s:.6f} {codec.body_sha256(r.data)}" for r in world.stored]
    lines += [f"{c.client} {c.key} {c.sent_at_s:.6f} {c.done_at_s:.6f} {c.outcome}" for c in world.calls]
    lines += [f"{w.at_s:.6f} {w.what} {w.machine} {w.run} {w.attempt} {w.nonce}" for w in world.witness]
    lines += [f"{v.invariant} {v.text}" for v in found]
    return codec.body_sha256("\n".join(lines).encode())[:16]


def _refused(stream: str, subject: str, failure: Failure) -> None:
    notice("a compare-and-set on the ledger was lost", stream == subjects.LEDGER and failure.err_code == WRONG_LAST_SEQ)
    notice("a claim was refused: somebody else has it", stream == subjects.REP and subject.endswith(".started"))
    notice("an order was published again and was there already", stream == subjects.WORK)


@contextlib.contextmanager
def _watching(world: World) -> Iterator[None]:
    """Look at every failpoint, every stored message and every controller's ledger while a world runs; threads take virtual time."""
    store = Stream.store

    def tapped(stream: Stream, subject: str, data: bytes, headers: dict[str, str] | None, now_ns: int) -> Stored:
        try:
            stored = store(stream, subject, data, headers, now_ns)
        except Failure as failure:
            _refused(stream.name, subject, failure)
            raise
        if stream.name in (subjects.LEDGER, subjects.REP, subjects.DLQ, subjects.WORK) and not stored.duplicate:
            world.stored.append(Record(stream.name, stored.seq, subject, world.loop.time(), data))
        return stored

    async def at_once(work: Callable[..., Any], *args: Any, **_: Any) -> Any:
        await asyncio.sleep(world.loop.rng.uniform(0.0, THREAD_S))
        return work(*args)

    SeenLedger.by_host = world._ledgers
    patches: list[tuple[Any, str, Any]] = [
        (Stream, "store", tapped),
        (controller_service, "Ledger", SeenLedger),
        (anyio.to_thread, "run_sync", at_once),
    ]
    with contextlib.ExitStack() as stack:
        for owner, name, value in patches:
            stack.enter_context(unittest.mock.patch.object(owner, name, value))
        stack.callback(failpoint.observe, None)
        failpoint.observe(world.faults.reached)
        yield
