"""Faults of a schedule, made true in a world: who is killed, cut off, stopped, and how bad network and server are meanwhile.

Owns nothing; it waits in virtual time outside of all hosts. `heal` ends everything at once.

    kill, power       the process dies (with `power`: with its machine, which loses what was not synced) and is started again after `for_s`
    empty             the node agent dies and comes back with an empty data folder; its agents run on, or (half the time) the machine is another one
    cut-off           nothing passes for so long that its runs are given up, moved or waited for; then it comes back
    at-step           dies after `amount` more steps of its own
    failpoint         dies when it reaches `place` for the `amount`-th time
    stall-at          is stopped there for `for_s`: a controller that decides, or a node that claims, and goes on much later
    partition         nothing passes between it and the server
    half-open         only one direction passes
    reset             its connections break
    zombie            a controller is stopped for longer than its lease, believes to be active, and goes on
    stall             the same for anybody, of any length
    server            the server is killed and started again after `for_s`
    delay, reorder    messages take long, and overtake those of other connections
    duplicate         acknowledgements are lost, so that messages are delivered again
    lost-acks         messages are stored, and whoever sent them is not told
    slow-disk         storing takes long, so that a kill of the server finds writes in flight
    clock             the wall clock steps by `amount` seconds
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

from bus import host
from tests.simulation.coverage import notice
from tests.simulation.host import SimHost
from tests.simulation.machine import OUTSIDE
from tests.simulation.schedule import Fault

if TYPE_CHECKING:
    from tests.simulation.world import World


class Faults:
    """The faults of one world."""

    def __init__(self, world: World) -> None:
        """Nothing goes wrong before `begin`."""
        self._world = world
        self.done: Counter[str] = Counter()
        self._timers: list[asyncio.TimerHandle] = []
        self._points: dict[tuple[str, str], list[Fault]] = {}
        self._reached: Counter[tuple[str, str]] = Counter()
        self._steps: dict[str, Fault] = {}
        self._stepped: Counter[str] = Counter()
        self._stopped: dict[str, SimHost] = {}
        self._cut: dict[str, None] = {}
        self._over = False

    def begin(self) -> None:
        """Let everything of the schedule happen at its time."""
        for fault in self._world.schedule.faults:
            self._later(fault.at_s, self._happen, fault)

    def _later(self, in_s: float, call: object, *args: object) -> None:
        self._timers.append(self._world.loop.call_later(in_s, call, *args, context=OUTSIDE))  # type: ignore[arg-type]

    def _happen(self, fault: Fault) -> None:
        if self._over:
            return
        match fault.kind:
            case "kill" | "power":
                self._count(fault, self._world.crash(fault.target, fault.for_s, power=fault.kind == "power"))
            case "empty":
                self._empty(fault)
            case "at-step":
                self._steps[fault.target] = fault
                self._stepped[fault.target] = 0
                self._world.loop.on_step = self._stepped_on
            case "failpoint" | "stall-at":
                self._points.setdefault((fault.target, fault.place), []).append(fault)
                self._reached[fault.target, fault.place] = 0
            case "partition" | "half-open" | "cut-off":
                self._partition(fault)
            case "reset":
                self._count(fault, True)
                self._world.network.reset(fault.target)
            case "zombie" | "stall":
                self._stop(fault)
            case "server":
                self._server(fault)
            case "clock":
                self._clock(fault)
            case _:
                self._dial(fault)

    def _count(self, fault: Fault, happened: bool) -> None:
        if happened:
            self.done[fault.kind] += 1
            self._world.say(f"fault {fault.kind} {fault.target} {fault.place} for {fault.for_s:g} s, {fault.amount:g}")

    # ── kills that wait ──────────────────────────────────────────────────────────────────────────────────────────────

    def reached(self, name: str) -> None:
        """Take in that the running task has reached a failpoint; kill its process where that was ordered. Raises Killed."""
        at = host.current.get()
        if not isinstance(at, SimHost) or not self._points:
            return
        key = (at.name, name)
        waiting = self._points.get(key)
        if not waiting or not at.alive:
            return
        self._reached[key] += 1
        for fault in waiting:
            if self._reached[key] < fault.amount:
                continue
            waiting.remove(fault)
            if fault.kind == "stall-at":
                self._stop(fault)
                return
            self._count(fault, True)
            self._world.crash(at.name, fault.for_s)
            at.die_here()

    def _stepped_on(self, handle: asyncio.Handle) -> None:
        at = handle._context.get(host.current)  # type: ignore[attr-defined]
        if not isinstance(at, SimHost) or at.name not in self._steps or not at.alive:
            return
        self._stepped[at.name] += 1
        fault = self._steps[at.name]
        if self._stepped[at.name] >= fault.amount:
            del self._steps[at.name]
            self._count(fault, self._world.crash(at.name, fault.for_s))

    # ── hosts ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _partition(self, fault: Fault) -> None:
        half = fault.kind == "half-open"
        upward = fault.amount < 0.5
        self._cut[fault.target] = None
        self._count(fault, True)
        self._world.network.cut(fault.target, to_server=not half or upward, from_server=not half or not upward)
        self._later(fault.for_s, self._join, fault.target)

    def _join(self, name: str) -> None:
        self._cut.pop(name, None)
        self._world.network.heal(name)

    def _empty(self, fault: Fault) -> None:
        self._count(fault, self._world.crash(fault.target, fault.for_s, power=fault.amount < 0.5, empty=True))

    def _stop(self, fault: Fault) -> None:
        at = self._world.slots[fault.target].host
        if at is None or not at.alive or fault.target in self._stopped:
            return
        self._stopped[fault.target] = at
        self._count(fault, True)
        self._world.loop.stop_host(at)
        self._later(fault.for_s, self._go_on, fault.target)

    def _go_on(self, name: str) -> None:
        at = self._stopped.pop(name, None)
        if at is not None:
            self._world.say(f"{name} goes on")
            self._world.loop.go_on(at)

    def _clock(self, fault: Fault) -> None:
        slot = self._world.slots[fault.target]
        slot.skew_s += fault.amount
        if slot.host is not None:
            slot.host.skew_s = slot.skew_s
        self._count(fault, True)

    # ── server and network ───────────────────────────────────────────────────────────────────────────────────────────

    def _server(self, fault: Fault) -> None:
        if self._world.server.running:
            self._count(fault, True)
            self._world.server.kill(power=fault.amount < 0.3)
            self._later(fault.for_s, self._serve)

    def _serve(self) -> None:
        if not self._world.server.running:
            self._world.server.start()

    def _dial(self, fault: Fault) -> None:
        network, server = self._world.network.dials, self._world.server.dials
        self._count(fault, True)
        match fault.kind:
            case "delay":
                network.slow_chance, network.slow_s = 0.2 * fault.amount, (0.01, 2.0)
            case "reorder":
                network.latency_s = (0.0001, 0.4 * fault.amount)
            case "duplicate":
                server.duplicate_chance = 0.8 * fault.amount
            case "lost-acks":
                server.lost_puback_chance = 0.6 * fault.amount
            case "slow-disk":
                server.disk_s = (0.0, 0.1 * fault.amount)
            case _:
                raise AssertionError(f"no fault is called {fault.kind}")
        self._later(fault.for_s, self._calm, fault.kind)

    def _calm(self, kind: str) -> None:
        network, server = self._world.network.dials, self._world.server.dials
        match kind:
            case "delay":
                network.slow_chance = 0.0
            case "reorder":
                network.latency_s = (0.0001, 0.001)
            case "duplicate":
                server.duplicate_chance = 0.0
            case "lost-acks":
                server.lost_puback_chance = 0.0
            case _:
                server.disk_s = (0.0, 0.0)

    def heal(self) -> None:
        """End every fault, and let none begin any more. Clocks stay as they are."""
        self._over = True
        for timer in self._timers:
            timer.cancel()
        self._points.clear()
        self._steps.clear()
        self._world.loop.on_step = None
        for name in list(self._stopped):
            self._go_on(name)
        for name in list(self._cut):
            self._join(name)
        for kind in ("delay", "reorder", "duplicate", "lost-acks", "slow-disk"):
            self._calm(kind)
        self._serve()
        notice("healed")
