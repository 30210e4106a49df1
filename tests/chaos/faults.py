"""The kinds of faults: how each is injected and healed, on whom, and from when its recovery counts.

`KINDS` is the table; whoever has more kinds adds rows. A fault returns the monotonic time from which recovery counts: its healing,
or its injection where another process has to take over. Goals are of the research on reliability, R7, in seconds.
"""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from typing import NamedTuple

import anyio
import msgspec

from bus import failpoint
from bus_schemas import subjects
from tests.chaos.driver_watch import Watch
from tests.chaos.proxy import HALF_OPEN, PARTITION, Flow, Weather
from tests.chaos.rig import FAKETIME, TWIN_SUFFIX, Component, Rig, Role

GOALS_S = {"broker": 1.0, "controller": 3.0, "node": 3.0, "partition": 5.0, "peer-noticed": 6.0}
"""By class of recovery; classes that are not here have no goal."""

ALL_ROLES = (Role.CONTROLLER, Role.NODE, Role.TIMELINE, Role.CLIENT)
SERVICES = (Role.CONTROLLER, Role.NODE, Role.TIMELINE)
HIT_S = 12.0
"""For so long it is waited that a failpoint is reached; a component that was armed may still reach it later."""
UP_S = 1.5
"""Within which a restarted controller stands by."""
BUS = "bus"
NULL = "null"
"""The node whose runs do nothing, at once: it comes by these failpoints never."""
ONLY_REAL_WORK = frozenset({"node.spawning", "node.spawned", "node.stop-received"})
OFFSETS_S = (-3600.0, -60.0, -5.0, 5.0, 60.0, 3600.0)


class Healed(NamedTuple):
    """What a fault came to: the class of its recovery (None: there is none), from when that counts, and of which component."""

    recovery: str | None
    since_s: float
    component: Component | None = None


class Ground(NamedTuple):
    """What faults are applied to, and with which dice."""

    rig: Rig
    watch: Watch
    dice: random.Random
    arming: set[str]
    """Roles of which a process is on its way to a failpoint."""


class Kind(NamedTuple):
    """A kind of fault. Its target is a component of `roles`, or the bus, or (neither) what it finds itself."""

    name: str
    weight: float
    roles: tuple[Role, ...]
    apply: Callable[[Ground, Component | None], Awaitable[Healed]]
    on_bus: bool = False


def class_of(component: Component) -> str:
    """Return the class under which recovery of a process is counted."""
    return component.role.value


# ── processes ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def kill(ground: Ground, target: Component | None) -> Healed:
    """SIGKILL; the supervisor starts it again. A controller has a standby, so its recovery counts from the kill."""
    assert target is not None
    since_s = time.monotonic()
    life = target.lives
    target.process.signal(signal.SIGKILL)
    await ground.rig.until(f"{target.name} lives again", lambda: target.lives > life, 10)
    return Healed(class_of(target), since_s if target.role is Role.CONTROLLER else target.started_at, target)


async def stall(ground: Ground, target: Component | None) -> Healed:
    """SIGSTOP and SIGCONT. A controller that is stalled for longer than its lease comes back as a zombie."""
    assert target is not None
    long = target.role is Role.CONTROLLER and ground.dice.random() < 0.6
    for_s = ground.dice.uniform(4, 9) if long else ground.dice.uniform(0.3, 4) if target.role is Role.CONTROLLER else ground.dice.uniform(0.3, 12)
    since_s = time.monotonic()
    target.process.signal(signal.SIGSTOP)
    await anyio.sleep(for_s)
    target.process.signal(signal.SIGCONT)
    return Healed(f"{class_of(target)}-stall", since_s if long else time.monotonic(), target)


async def term(ground: Ground, target: Component | None) -> Healed:
    """SIGTERM, as a supervisor does: a controller gives its lease back."""
    assert target is not None
    since_s, life = time.monotonic(), target.lives
    target.process.signal(signal.SIGTERM)
    await anyio.sleep(0.5)
    target.process.signal(signal.SIGTERM)  # a node drains until a second one
    with anyio.move_on_after(10):
        await ground.rig.until(f"{target.name} lives again", lambda: target.lives > life, 15)
    if target.lives == life:
        target.process.signal(signal.SIGKILL)
        await ground.rig.until(f"{target.name} lives again", lambda: target.lives > life, 15)
    return Healed(f"{class_of(target)}-stop", since_s if target.role is Role.CONTROLLER else target.started_at, target)


async def broker_kill(ground: Ground, _: Component | None) -> Healed:
    """SIGKILL of nats-server; it comes back on the same store and port."""
    await ground.rig.kill_bus()
    await anyio.sleep(ground.dice.choice((0.0, 0.3, 2.0, 5.0)))
    await ground.rig.server.start()
    return Healed("broker", time.monotonic())


async def broker_stall(ground: Ground, _: Component | None) -> Healed:
    """SIGSTOP of nats-server: every connection is silent at once."""
    await ground.rig.stall_bus(ground.dice.uniform(0.3, 8))
    return Healed("broker-stall", time.monotonic())


async def bus_full(ground: Ground, _: Component | None) -> Healed:
    """A stream is at its limit for a while: it refuses every write, and needs no restart when there is room."""
    bus, stream = ground.rig.bus, ground.dice.choice((subjects.LEDGER, subjects.CMD, subjects.REP, subjects.WORK))
    info = await bus.api(f"STREAM.INFO.{stream}")
    await bus.api(f"STREAM.UPDATE.{stream}", {**info["config"], "max_bytes": info["state"]["bytes"] + 1})
    ground.rig.note("bus-full", target=stream)
    await anyio.sleep(ground.dice.uniform(0.5, 5))
    await bus.api(f"STREAM.UPDATE.{stream}", info["config"])
    return Healed("bus-full", time.monotonic())


async def twin(ground: Ground, _: Component | None) -> Healed:
    """A second node agent with the id of another comes, or goes (and comes again later: what it claimed is its own)."""
    other = next(item for item in ground.rig.components.values() if item.name.endswith(TWIN_SUFFIX))
    if other.wanted:
        other.wanted = False
        other.process.kill()
    else:
        other.start()
    return Healed(None, time.monotonic())


async def clock(ground: Ground, target: Component | None) -> Healed:
    """The wall clock of one service is wrong and jumps, forward and back; then the service is started with the right one."""
    assert target is not None
    rig, dice = ground.rig, ground.dice
    target.set_clock(dice.choice(OFFSETS_S))
    target = await _at_work(ground, target, lambda item: rig.restart(item, own_clock=True))
    for _ in range(dice.randint(1, 3)):
        await anyio.sleep(dice.uniform(1, 5))
        target.set_clock(dice.choice(OFFSETS_S))
    target.set_clock(0)
    rig.restart(target)
    return Healed("clock", time.monotonic(), target)


# ── networks ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def weather(make: Callable[[random.Random], Weather], at_least_s: float, at_most_s: float) -> Callable[[Ground, Component | None], Awaitable[Healed]]:
    """Return a fault that gives the link of its target such weather for a while."""

    async def apply(ground: Ground, target: Component | None) -> Healed:
        assert target is not None
        target.link.turn(make(ground.dice))
        await anyio.sleep(ground.dice.uniform(at_least_s, at_most_s))
        target.link.heal()
        return Healed("partition", time.monotonic(), target)

    return apply


async def half_open(ground: Ground, target: Component | None) -> Healed:
    """The peer is gone without a word; how soon the component notices is a figure of its own."""
    assert target is not None
    link, since_s = target.link, time.monotonic()
    link.turn(HALF_OPEN)
    for_s = ground.dice.uniform(2, 10)
    noticed = None
    while time.monotonic() < since_s + for_s:
        await anyio.sleep(0.05)
        if noticed is None and (closed := link.closed_by_client_at) is not None and closed > since_s and target.process.runs:
            noticed = closed - since_s
    if for_s > GOALS_S["peer-noticed"] + 0.5:
        ground.rig.noticed_s.append(noticed)
        ground.rig.note("peer-noticed", target=target.name, after_s=None if noticed is None else round(noticed, 3))
    link.heal()
    return Healed("partition", time.monotonic(), target)


async def reset(ground: Ground, target: Component | None) -> Healed:
    """RST on every connection of a component, some times."""
    assert target is not None
    for _ in range(ground.dice.randint(1, 4)):
        target.link.reset()
        await anyio.sleep(ground.dice.uniform(0.05, 0.5))
    return Healed("partition", time.monotonic(), target)


async def everybody_apart(ground: Ground, _: Component | None) -> Healed:
    """Nobody reaches the bus for a while."""
    for component in ground.rig.components.values():
        component.link.turn(PARTITION)
    await anyio.sleep(ground.dice.uniform(0.5, 8))
    ground.rig.proxy.heal()
    return Healed("partition", time.monotonic())


# ── failpoints ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def hits(rig: Rig) -> Counter[tuple[str, str]]:
    """Return how often each failpoint was really obeyed, by (name, action)."""
    path = rig.folder / "failpoints.jsonl"
    if not path.exists():
        return Counter()
    lines = (msgspec.json.decode(line) for line in path.read_bytes().splitlines() if line.endswith(b"}"))
    return Counter((line["failpoint"], line["action"]) for line in lines)


def role_of(name: str) -> str:
    """Return whose failpoint it is."""
    return name.partition(".")[0]


def fewest(found: Counter[tuple[str, str]], dice: random.Random, busy: Collection[str] = ()) -> tuple[str, str]:
    """Return the failpoint and action that was hit least so far, of roles that are not busy with another."""
    wanted = [(name, action) for name in failpoint.NAMES for action in ("kill", "sleep") if role_of(name) not in busy]
    dice.shuffle(wanted)
    return min(wanted, key=lambda item: found[item])


async def at_failpoint(ground: Ground, name: str, action: str, deadline_s: float = HIT_S) -> Healed:
    """Arm a process of the failpoint's role and wait until it gets there."""
    rig, dice = ground.rig, ground.dice
    verb = "kill" if action == "kill" else f"sleep={dice.choice((200, 1000, 4500))}"
    order = f"{name}:{verb}@{dice.choice((1, 1, 2, 3))}"
    before = hits(rig)[name, action]
    target = await _armed(ground, name, order)
    target.busy = True
    with anyio.move_on_after(deadline_s):
        await rig.until(f"{order} is reached", lambda: hits(rig)[name, action] > before, deadline_s + 1)
    target.busy = False
    hit = hits(rig)[name, action] > before
    rig.note("failpoint", order=order, target=target.name, hit=hit)
    since_s = time.monotonic()
    if not hit:
        return Healed(None, since_s, target)
    if action == "sleep":
        await anyio.sleep(float(verb.partition("=")[2]) / 1000)
        return Healed(f"{class_of(target)}-stall", since_s if target.role is Role.CONTROLLER else time.monotonic(), target)
    return Healed(class_of(target), since_s, target)


async def _armed(ground: Ground, name: str, order: str) -> Component:
    """Return a component that is armed and has work to do at that failpoint."""
    rig = ground.rig
    all_ = rig.of(Role(role_of(name)))
    if name in ONLY_REAL_WORK:
        all_ = [item for item in all_ if item.name != NULL]
    target = ground.dice.choice([item for item in all_ if not item.busy] or all_)
    return await _at_work(ground, target, lambda item: rig.restart(item, order))


async def _at_work(ground: Ground, target: Component, begin: Callable[[Component], None]) -> Component:
    """Begin a new life of a component, or of another controller where that one stands by, and return it when it has work to do."""
    rig = ground.rig
    active = await rig.active() if target.role is Role.CONTROLLER else None
    standby = next((item for item in rig.of(Role.CONTROLLER) if item is not active), None)
    if active is None or standby is None:
        begin(target)
        return target
    begin(standby)
    await anyio.sleep(UP_S)
    active.process.signal(ground.dice.choice((signal.SIGTERM, signal.SIGKILL)))
    return standby


async def some_failpoint(ground: Ground, _: Component | None) -> Healed:
    """The failpoint that was hit least so far."""
    busy = ground.arming if len(ground.arming) < len(Role) else ()
    name, action = fewest(hits(ground.rig), ground.dice, busy)
    ground.arming.add(role_of(name))
    try:
        return await at_failpoint(ground, name, action)
    finally:
        ground.arming.discard(role_of(name))


KINDS: tuple[Kind, ...] = (
    Kind("failpoint", 14, (), some_failpoint),
    Kind("kill", 4, ALL_ROLES, kill),
    Kind("term", 1, SERVICES, term),
    Kind("stall", 3, ALL_ROLES, stall),
    Kind("broker-kill", 2, (), broker_kill, on_bus=True),
    Kind("broker-stall", 1, (), broker_stall, on_bus=True),
    Kind("bus-full", 1, (), bus_full, on_bus=True),
    Kind("partition", 3, ALL_ROLES, weather(lambda _: PARTITION, 0.5, 12)),
    Kind("silent-up", 1, ALL_ROLES, weather(lambda _: Weather(up=Flow.HOLD), 0.5, 8)),
    Kind("silent-down", 1, ALL_ROLES, weather(lambda _: Weather(down=Flow.HOLD), 0.5, 8)),
    Kind("half-open", 2, ALL_ROLES, half_open),
    Kind("reset", 2, ALL_ROLES, reset),
    Kind("cut", 2, ALL_ROLES, weather(lambda dice: Weather(cut_after_bytes=dice.randint(100, 20_000)), 1, 4)),
    Kind("refuse", 1, ALL_ROLES, weather(lambda _: Weather(refuse=True, cut_after_bytes=0), 0.5, 4)),
    Kind("latency", 2, ALL_ROLES, weather(lambda dice: Weather(latency_ms=dice.uniform(20, 600), jitter_ms=dice.uniform(0, 100)), 2, 8)),
    Kind("narrow", 1, ALL_ROLES, weather(lambda dice: Weather(bytes_per_s=dice.randint(20_000, 200_000)), 2, 8)),
    Kind("everybody-apart", 1, (), everybody_apart, on_bus=True),
    Kind("twin", 1, (), twin),
    *((Kind("clock", 2, SERVICES, clock),) if FAKETIME.exists() else ()),
)
