"""What the driver sees of the installation while faults are at work: a probe that always asks, and the beats of the nodes.

Owns a client of its own that goes past the proxy, so that what it sees is the services' part and not that of its own network.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from typing import NamedTuple

import anyio
import anyio.abc
import msgspec
from nats.aio.msg import Msg

from bus.connection import connect
from bus.request import CommandClient
from bus_schemas import codec
from bus_schemas import commands as c
from tests.chaos.rig import Component, Rig, Role
from tests.chaos.workload_calls import Caller, CallLog

PROBE_EVERY_S = 0.2
PROBES_AT_ONCE = 60
PROJECT = "probe"
LOOK_EVERY_S = 0.02


class Probe(NamedTuple):
    """A probe that was answered, in seconds of the monotonic clock."""

    asked_s: float
    answered_s: float


class Watch:
    """The probes and the beats so far. `run` must be running."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._probes: deque[Probe] = deque(maxlen=2000)
        self._boots: dict[str, str] = {}
        self._beats: dict[str, float] = {}
        self.stopping = anyio.Event()

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Probe and listen until `stopping`; return when every probe was answered."""
        bus = await connect(self._rig.server.url, PROJECT, self._rig.server.credentials)
        await bus.subscribe("qd.beat.*", self._on_beat)
        log = CallLog(self._rig.folder / f"client-{PROJECT}.jsonl", PROJECT)
        try:
            async with CommandClient(bus, c.Via.API) as client:
                caller = Caller(client, log, bus.principal)
                await caller.ask(c.ProjectAdd(PROJECT, str(self._rig.repo)), f"{PROJECT}-project")
                await caller.ask(c.TicketAdd(PROJECT, "Probe"), f"{PROJECT}-ticket")
                task_status.started()
                await self._probe(caller)
        finally:
            with anyio.CancelScope(shield=True):
                await bus.close()

    async def _probe(self, caller: Caller) -> None:
        free = anyio.Semaphore(PROBES_AT_ONCE)

        async def once(number: int) -> None:
            async with free:
                asked_s = time.monotonic()
                await caller.ask(c.TicketEdit(f"{PROJECT}-t1", title=f"Probe {number}"), f"{PROJECT}-{number}")
                self._probes.append(Probe(asked_s, time.monotonic()))

        async with anyio.create_task_group() as tasks:
            for number in itertools.count(1):
                if self.stopping.is_set():
                    return
                tasks.start_soon(once, number)
                with anyio.move_on_after(PROBE_EVERY_S):
                    await self.stopping.wait()
                while free.value == 0 and not self.stopping.is_set():
                    await anyio.sleep(LOOK_EVERY_S)

    async def _on_beat(self, message: Msg) -> None:
        try:
            beat = codec.decode_beat(message.data)
        except (codec.Malformed, msgspec.MsgspecError):
            return
        name = self._boots.get(beat.boot)
        if name is None:
            name = self._newcomer(beat.node)
            self._boots[beat.boot] = name
        self._beats[name] = time.monotonic()

    def _newcomer(self, node: str) -> str:
        """Return which process a boot that was never seen belongs to: of twins, the one whose newest life has not beaten yet."""
        twins = [item for item in self._rig.of(Role.NODE) if item.node == node]
        silent = [item for item in twins if self._beats.get(item.name, 0.0) < item.started_at]
        found = min(silent or twins, key=lambda item: item.started_at, default=None)
        return node if found is None else found.name

    # ── recovery ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def answered(self, since_s: float) -> float | None:
        """Return when the first probe that was asked after `since_s` was answered."""
        return min((probe.answered_s for probe in self._probes if probe.asked_s >= since_s), default=None)

    def beaten(self, component: Component, since_s: float) -> float | None:
        """Return when a node has beaten after `since_s`."""
        last = self._beats.get(component.name, 0.0)
        return last if last >= since_s else None
