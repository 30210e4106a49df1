"""Chaos: a full installation under continuous work and a random, seeded schedule of faults; then calm, evidence, and a verdict.

`python -m tests.chaos.driver --minutes 30` ends with figures as JSON: what was lost, duplicated and stuck (0, 0 and 0 or it fails), faults
by kind, failpoints hit, recovery by class against its goal. The evidence folder is kept when something is wrong, or where `--evidence` says.
"""

from __future__ import annotations

import argparse
import logging
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import anyio.lowlevel
import msgspec

from bus import failpoint
from cli.audit import folder as audit_folder
from cli.audit import judge
from cli.audit.evidence import Evidence, Survivor
from tests.chaos import driver_evidence, faults, figures
from tests.chaos.driver_failpoints import ACTIONS, Round
from tests.chaos.driver_watch import Watch
from tests.chaos.faults import KINDS, Ground, Healed, Kind
from tests.chaos.figures import Injected
from tests.chaos.rig import TWIN_SUFFIX, Component, Rig, Role, rig

log = logging.getLogger("chaos")

RECOVER_S = 60.0
"""After so long without recovery a fault is given up, and the run has failed."""
HEAL_S = 60.0
"""In which everything must have ended and nothing be waiting once there are no faults any more."""
LOOK_EVERY_S = 0.05
PAUSE_S = 0.7
AT_ONCE = 3
ALONE = 0.35
"""The share of faults that are alone, so that their recovery is theirs."""
NODES = ("alpha", "bravo")
VIOLATIONS_SHOWN = 50
MINUTES = 5.0
ROUND_MINUTES = 60.0
"""A round of failpoints ends by itself, long before."""
WRONG = ("lost", "duplicated", "stuck", "violations", "not_recovered", "not_quiet", "failpoints_short")
"""Figures that must be nothing."""


class Options(NamedTuple):
    """What to do, for how long, with which dice."""

    minutes: float
    seed: int
    kinds: tuple[str, ...] = ()
    failpoints: int = 0
    """In place of the schedule: each failpoint and action until it was hit so often."""
    actions: tuple[str, ...] = ACTIONS
    """What happens at the failpoints of such a round."""
    points: tuple[str, ...] = failpoint.NAMES
    """Which they are."""
    storm: int = 3
    """Launches a second on the node that does nothing."""
    live: int = 4
    """Real orchestrations of each client at once."""


class Run:
    """One run: the rig with its work, the schedule, and what came of it."""

    def __init__(self, made: Rig, watch: Watch, options: Options) -> None:
        self.rig, self.watch, self.options = made, watch, options
        self.injected: list[Injected] = []
        self.never: list[str] = []
        self.short: dict[str, int] = {}
        """Failpoints of a round that were not hit as often as asked for."""
        self._dice = random.Random(options.seed)
        self._ground = Ground(made, watch, self._dice, set())
        self._bus_busy = False
        self._at_work = 0

    # ── the schedule ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def chaos(self) -> None:
        """Inject faults until the time is over, some of them alone, the others up to three at once."""
        kinds = [kind for kind in KINDS if not self.options.kinds or kind.name in self.options.kinds]
        ends_at = time.monotonic() + self.options.minutes * 60
        while time.monotonic() < ends_at:
            alone = self._dice.random() < ALONE
            await self._until_at_most(0 if alone else AT_ONCE - 1)
            await anyio.sleep(self._dice.expovariate(1 / PAUSE_S))
            kind = self._dice.choices(kinds, [kind.weight for kind in kinds])[0]
            found, target = self._target(kind)
            if not found:
                continue
            if alone:
                await self.inject(kind, target)
            else:
                self.rig.tasks.start_soon(self.inject, kind, target)
                await anyio.lowlevel.checkpoint()
        await self._until_at_most(0)

    async def _until_at_most(self, count: int) -> None:
        while self._at_work > count:
            await anyio.sleep(LOOK_EVERY_S)

    def _target(self, kind: Kind) -> tuple[bool, Component | None]:
        """Return whether there is a target now, and which; None is the bus, or what the fault finds itself."""
        if not kind.roles:
            return not (kind.on_bus and self._bus_busy), None
        free = [component for component in self.rig.of(*kind.roles) if not component.busy and component.process.runs]
        return bool(free), self._dice.choice(free) if free else None

    async def inject(self, kind: Kind, target: Component | None) -> None:
        """Apply a fault and return when what it hit was seen at work again."""
        self._at_work += 1
        self._busy(kind, target, True)
        name = faults.BUS if target is None else target.name
        at_s = self.rig.note("inject", kind=kind.name, target=name)
        try:
            healed = await kind.apply(self._ground, target)
            await self._recover(kind, name, at_s, healed)
        finally:
            self._busy(kind, target, False)
            self._at_work -= 1

    def _busy(self, kind: Kind, target: Component | None, busy: bool) -> None:
        if target is not None:
            target.busy = busy
        elif kind.on_bus:
            self._bus_busy = busy

    async def _recover(self, kind: Kind, name: str, at_s: float, healed: Healed) -> None:
        healed_s = self.rig.note("healed", kind=kind.name, target=name)
        component = healed.component
        name = name if component is None else component.name
        recovered_s = await self._recovered(healed) if healed.recovery is not None else None
        ended_s = self.rig.note("recovered", kind=kind.name, target=name, recovery=healed.recovery, at_s=recovered_s)
        is_seen = component is None or component.role is not Role.CLIENT
        self.injected.append(Injected(kind.name, name, at_s, healed_s, healed.recovery if is_seen else None, healed.since_s, recovered_s, ended_s))
        if is_seen and healed.recovery is not None and recovered_s is None and (component is None or component.wanted):
            self.never.append(f"{kind.name} of {name}: not recovered after {RECOVER_S:g} s")

    async def _recovered(self, healed: Healed) -> float | None:
        """Return when what a fault had hit was seen at work again, or None when that did not come to be."""
        component = healed.component
        target_seq = await self.rig.ledger_seq() if component is not None and component.role is Role.TIMELINE else 0
        deadline = time.monotonic() + RECOVER_S
        while time.monotonic() < deadline:
            if component is None or component.role is Role.CONTROLLER:
                found = self.watch.answered(healed.since_s)
            elif component.role is Role.NODE:
                found = self.watch.beaten(component, healed.since_s)
            elif component.role is Role.TIMELINE:
                found = time.monotonic() if await self.rig.timeline_seq() >= target_seq else None
            else:
                return None
            if found is not None or (component is not None and not component.wanted):
                return found
            await anyio.sleep(LOOK_EVERY_S)
        return None

    async def failpoints(self) -> None:
        """Reach each failpoint with each action as often as asked for, or until the time is over."""
        ends_at_s = time.monotonic() + self.options.minutes * 60
        this = Round(self, self.options.failpoints, self.options.actions, self.options.points, self._dice, ends_at_s)
        await this.play()
        self.short = this.short()

    # ── calm ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def heal(self) -> dict[str, Any]:
        """End all faults, let the work end, and return what has not, after at most a minute: an empty object when all is well."""
        self.rig.note("calm")
        self.rig.calm()
        for component in self.rig.components.values():
            if component.armed is not None or (component.name.endswith(TWIN_SUFFIX) and not component.wanted):
                self.rig.restart(component)
        self.rig.stop_file.touch()
        stuck: dict[str, Any] = {}
        try:
            await self.rig.until("all clients are done", lambda: not self.rig.of(Role.CLIENT), HEAL_S)
        except TimeoutError:
            stuck["clients"] = [component.name for component in self.rig.of(Role.CLIENT)]
        self.watch.stopping.set()
        for name, done in (("consumers", self._nothing_pending), ("timeline", self._caught_up), ("processes", self._nothing_runs)):
            try:
                await self.rig.until(name, done, HEAL_S / 2)
            except TimeoutError:
                stuck[name] = await self._dump(name)
        self.rig.note("quiet", stuck=stuck)
        return stuck

    async def _nothing_pending(self) -> bool:
        return not await driver_evidence.pending(self.rig)

    async def _caught_up(self) -> bool:
        return await self.rig.timeline_seq() >= await self.rig.ledger_seq()

    async def _nothing_runs(self) -> bool:
        return not self._survivors()

    def _survivors(self) -> list[Survivor]:
        return driver_evidence.survivors(self.rig.folder)

    async def _dump(self, name: str) -> Any:
        match name:
            case "consumers":
                return await driver_evidence.pending(self.rig)
            case "timeline":
                return {"timeline": await self.rig.ask("timeline-status"), "ledger": await self.rig.ledger_seq()}
            case _:
                return msgspec.to_builtins(self._survivors())


def furnish(made: Rig, options: Options) -> None:
    """Put the whole installation together."""
    made.controllers(2)
    for name in NODES:
        made.node(name, 4)
    made.node(NODES[0], 4, twin=True)
    made.null_node(faults.NULL)
    made.serve("timeline", Role.TIMELINE)
    for number in (1, 2):
        made.client(f"ops{number}", NODES, live=options.live, seed=options.seed)
    made.client("storm", (faults.NULL,), live=options.storm, seed=options.seed, module="tests.chaos.workload_storm")


def _start(made: Rig, *roles: Role) -> None:
    for component in made.components.values():
        if component.role in roles and not component.name.endswith(TWIN_SUFFIX):
            component.start()


Schedule = Callable[[Run], Awaitable[None]]


async def run(options: Options, work: Path, evidence: Path, schedule: Schedule | None = None) -> dict[str, Any]:
    """Run once and return the figures; `work` is where everything lives, `evidence` is written. Default: the schedule of the options."""
    evidence.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    async with rig(work, seed=options.seed) as made:
        furnish(made, options)
        _start(made, Role.CONTROLLER, Role.NODE, Role.TIMELINE)
        await made.ready()
        watch = Watch(made)
        await made.tasks.start(watch.run)
        before = driver_evidence.repository_state(made.repo)
        _start(made, Role.CLIENT)
        this = Run(made, watch, options)
        await (schedule or (Run.failpoints if options.failpoints else Run.chaos))(this)
        faults_s = time.monotonic() - started
        stuck = await this.heal()
        (evidence / "processes.json").write_bytes(msgspec.json.encode(driver_evidence.survivors(work)))
        await driver_evidence.streams(made, evidence)
    bounds_s = {kind.name: RECOVER_S for kind in KINDS}
    driver_evidence.files(made, evidence, this.injected, before, bounds_s)
    found = {
        "seed": options.seed,
        "minutes": options.minutes,
        "took_s": round(time.monotonic() - started, 1),
        "faults_s": round(faults_s, 1),
        **_of_evidence(audit_folder.load(evidence)),
        **_of_run(this, stuck),
    }
    found["ok"] = not any(found[name] for name in WRONG)
    (evidence / "figures.json").write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2))
    return found


def _of_evidence(loaded: Evidence) -> dict[str, Any]:
    assert loaded.ledger is not None
    assert loaded.calls is not None
    assert loaded.witness is not None
    verdict = judge.verify(loaded)
    return {
        **figures.counted(loaded.ledger, loaded.calls, loaded.witness),
        "verified": verdict.checked,
        "not_verified": verdict.skipped,
        "violations": [f"{item.invariant} {item.where}: {item.text}" for item in verdict.violations[:VIOLATIONS_SHOWN]],
    }


def _of_run(this: Run, stuck: dict[str, Any]) -> dict[str, Any]:
    hits = faults.hits(this.rig)
    return {
        "faults": dict(sorted(Counter(fault.kind for fault in this.injected).items())),
        "failpoints": {f"{name}:{action}": hits[name, action] for name in failpoint.NAMES for action in ACTIONS},
        "failpoints_short": this.short,
        "recovery": figures.recovery(this.injected, faults.GOALS_S),
        "peer_noticed_s": figures.spread([seconds for seconds in this.rig.noticed_s if seconds is not None]),
        "not_noticed": sum(seconds is None for seconds in this.rig.noticed_s),
        "not_recovered": this.never,
        "not_quiet": stuck,
        "ended_by_themselves": dict(Counter(this.rig.unexpected_ends)),
    }


def options_of(arguments: list[str]) -> tuple[Options, Path | None]:
    """Return the options of a command line, and where the evidence is to go."""
    parser = argparse.ArgumentParser(prog="tests.chaos.driver", description=__doc__)
    parser.add_argument("--minutes", type=float, default=None, help=f"default: {MINUTES:g}; for a round of failpoints at most {ROUND_MINUTES:g}")
    parser.add_argument("--seed", type=int, default=None, help="of the schedule and the work; default: another each time")
    parser.add_argument("--kinds", default="", help=f"comma-separated, of {', '.join(kind.name for kind in KINDS)}")
    parser.add_argument("--failpoints", type=int, nargs="?", const=1, default=0, help="only failpoints: each with each action so often (1)")
    parser.add_argument("--actions", default=",".join(ACTIONS), help="what happens at these failpoints")
    parser.add_argument("--points", default="", help="only failpoints whose names begin like this")
    parser.add_argument("--storm", type=int, default=3, help="launches a second beside the real work")
    parser.add_argument("--evidence", type=Path, default=None, help="keep the evidence here; default: only when something is wrong")
    found = parser.parse_args(arguments)
    seed = random.SystemRandom().randrange(10**6) if found.seed is None else found.seed
    kinds = tuple(filter(None, found.kinds.split(",")))
    unknown = set(kinds) - {kind.name for kind in KINDS}
    if unknown:
        parser.error(f"no such kinds: {', '.join(sorted(unknown))}")
    actions = tuple(found.actions.split(","))
    if not set(actions) <= set(ACTIONS):
        parser.error(f"actions are {', '.join(ACTIONS)}")
    points = tuple(name for name in failpoint.NAMES if name.startswith(found.points))
    minutes = found.minutes or (ROUND_MINUTES if found.failpoints else MINUTES)
    return Options(minutes, seed, kinds, found.failpoints, actions, points, found.storm), found.evidence


def main(arguments: list[str]) -> int:
    """Run, print the figures; return 0 when nothing is wrong."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    options, wanted = options_of(arguments)
    work = Path(tempfile.mkdtemp(prefix="qd-chaos-"))
    evidence = (wanted or work / "evidence").absolute()
    log.info("seed %d, in %s", options.seed, work)
    found = anyio.run(run, options, work, evidence)
    print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    if found["ok"]:
        shutil.rmtree(work)
    else:
        log.error("something is wrong; the evidence is in %s, everything else in %s", evidence, work)
    return 0 if found["ok"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
