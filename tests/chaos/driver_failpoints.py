"""A round over all failpoints: each of them with each action until it was really obeyed so often, in one installation under work.

Owns nothing of its own. Lanes work at the same time: one for the two controllers, one for each node, for the timeline and for each
client. A lane arms its process, waits until it gets there, waits until it was seen at work again, and goes on with what was hit least.
"""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple, Protocol

import anyio
import msgspec

from tests.chaos import faults
from tests.chaos.faults import Ground, Healed, Kind
from tests.chaos.rig import TWIN_SUFFIX, Component, Rig, Role

ACTIONS = ("kill", "sleep")
HIT_S = 15.0
RARE_HIT_S = 45.0
"""For so long it is waited for what is rare."""
RARE = frozenset({"controller.withdrawn", "node.stop-received", "client.stored", "client.receipt-read"})
"""What only some commands lead to, or what waits for a controller while those are killed one after the other."""
SLEEPS_MS = (200, 1000, 4500)
MISSES_MAX = 8
"""After so many more waits in vain than hits are wanted a failpoint is left, and the round is short of it."""
IDLE_S = 0.2
UP_S = 60.0
"""Within which a process that was started has a connection."""
STANDS_BY_S = 0.3
"""From then until a controller is ready to take over."""
ARMING_S = 0.05
TAKE_OVER = "controller.lease-taken"

Wanted = tuple[str, str]
"""A failpoint and what happens there."""


class Hit(NamedTuple):
    """An order that was obeyed: by which process, at which monotonic second."""

    wanted: Wanted
    pid: int
    at_s: float


class HitLog:
    """What failpoints really did, read as it is written."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset = path, 0
        self._hits: list[Hit] = []

    def read(self) -> list[Hit]:
        """Return all of them so far."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
            whole = data[: data.rfind(b"\n") + 1]
            self._offset += len(whole)
            lines = (msgspec.json.decode(line) for line in whole.splitlines())
            self._hits += [Hit((line["failpoint"], line["action"]), line["pid"], line["mono_ns"] / 1e9) for line in lines]
        return self._hits

    def counts(self) -> Counter[Wanted]:
        """Return how often each was obeyed."""
        return Counter(hit.wanted for hit in self.read())

    def of(self, pid: int, wanted: Wanted, since_s: float) -> Hit | None:
        """Return when a process obeyed an order that it got after `since_s`."""
        return next((hit for hit in reversed(self.read()) if hit.pid == pid and hit.wanted == wanted and hit.at_s >= since_s), None)


class Injector(Protocol):
    """Whoever applies a fault and waits for the recovery from it."""

    rig: Rig

    async def inject(self, kind: Kind, target: Component | None) -> None:
        """Apply a fault and return when what it hit was seen at work again."""
        ...


class Round:
    """One round: what is wanted, what was hit, and what was waited for in vain."""

    def __init__(
        self, injector: Injector, times: int, actions: tuple[str, ...], points: tuple[str, ...], dice: random.Random, ends_at_s: float
    ) -> None:
        """Want each of `points` with each action so many times, until the monotonic clock says `ends_at_s`."""
        self._injector, self._rig, self._dice = injector, injector.rig, dice
        self._times, self._actions, self._points, self._ends_at_s = times, actions, points, ends_at_s
        self._log = HitLog(self._rig.folder / "failpoints.jsonl")
        self._under_way: Counter[Wanted] = Counter()
        self._misses: Counter[Wanted] = Counter()

    async def play(self) -> None:
        """Return when everything was hit as often as wanted, or was missed too often, or the time is over."""
        alone = [item for item in self._rig.of(Role.NODE, Role.TIMELINE, Role.CLIENT) if not item.name.endswith(TWIN_SUFFIX)]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._lane, Role.CONTROLLER, None)
            for component in alone:
                tasks.start_soon(self._lane, component.role, component)

    def short(self) -> dict[str, int]:
        """Return what was hit less often than wanted, and how often."""
        counts = self._log.counts()
        wanted = [(name, action) for name in self._points for action in self._actions]
        return {f"{name}:{action}": counts[name, action] for name, action in wanted if counts[name, action] < self._times}

    # ── lanes ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _lane(self, role: Role, component: Component | None) -> None:
        while time.monotonic() < self._ends_at_s:
            open_ = self._open(role, component)
            counts = self._log.counts() + self._under_way
            wanted = [item for item in open_ if counts[item] < self._times]
            if not open_:
                return
            if not wanted:  # others are at it, and may miss
                await anyio.sleep(IDLE_S)
                continue
            self._dice.shuffle(wanted)
            await self._one(min(wanted, key=lambda item: counts[item] + self._misses[item]), component)

    def _open(self, role: Role, component: Component | None) -> list[Wanted]:
        """Return what a lane can do and is not done."""
        counts = self._log.counts()
        names = [name for name in self._points if faults.role_of(name) == role.value]
        if component is not None and component.name == faults.NULL:
            names = [name for name in names if name not in faults.ONLY_REAL_WORK]
        pairs = [(name, action) for name in names for action in self._actions]
        return [item for item in pairs if counts[item] < self._times and self._misses[item] < self._times + MISSES_MAX]

    async def _one(self, wanted: Wanted, component: Component | None) -> None:
        name, action = wanted

        async def apply(_: Ground, __: Component | None) -> Healed:
            return await self._at(name, action, component)

        self._under_way[wanted] += 1
        try:
            await self._injector.inject(Kind("failpoint", 1, (), apply), None)
        finally:
            self._under_way[wanted] -= 1

    async def _at(self, name: str, action: str, component: Component | None) -> Healed:
        """Arm a process and wait until it gets there; its recovery counts from then, that of a stall from its end."""
        sleep_ms = self._dice.choice(SLEEPS_MS)
        count = 1 if name in RARE else self._dice.choice((1, 1, 2, 3))
        order = f"{name}:{action}{f'={sleep_ms}' if action == 'sleep' else ''}@{count}"
        target = await self._armed_controller(name, order) if component is None else await self._armed(component, order)
        pid, since_s = target.process.pid, time.monotonic()
        deadline_s = since_s + (RARE_HIT_S if name in RARE else HIT_S)
        while (hit := self._log.of(pid, (name, action), since_s - ARMING_S)) is None and time.monotonic() < deadline_s:
            await anyio.sleep(0.02)
        self._rig.note("failpoint", order=order, target=target.name, hit=hit is not None)
        if hit is None:
            self._misses[name, action] += 1
            return Healed(None, time.monotonic(), target)
        if action == "kill":
            return Healed(faults.class_of(target), hit.at_s, target)
        await anyio.sleep(sleep_ms / 1000)
        return Healed(f"{faults.class_of(target)}-stall", hit.at_s if target.role is Role.CONTROLLER else time.monotonic(), target)

    # ── arming ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _armed(self, component: Component, order: str) -> Component:
        await self._rig.until(f"{component.name} is up", lambda: component.is_up, UP_S)
        component.order(order)
        return component

    async def _armed_controller(self, name: str, order: str) -> Component:
        """Arm the active controller once the other one can take over; who is to die at the take-over itself is the other one."""
        rig = self._rig
        await rig.until("both controllers are up", lambda: all(item.is_up for item in rig.of(Role.CONTROLLER)), UP_S)
        await anyio.sleep(STANDS_BY_S)
        active = await rig.active()
        while active is None:
            await anyio.sleep(IDLE_S)
            active = await rig.active()
        if name != TAKE_OVER:
            return await self._armed(active, order)
        standby = next(item for item in rig.of(Role.CONTROLLER) if item is not active)
        await self._armed(standby, f"{order.partition('@')[0]}@1")
        active.process.signal(self._dice.choice((signal.SIGTERM, signal.SIGKILL)))
        return standby
