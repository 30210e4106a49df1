"""A schedule: all that will be done in a simulation, by whom and when, and all that will go wrong. Pure data, made from a seed.

It is explicit so that it can be written down, edited, shrunk and played again. What a command is made of stands in `MENU`, a
table that grows with the commands of the house.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from bus import failpoint

PROJECT = "shop"
MARKERS = ("objective_defined", "scope_bounded")


class Op(Struct, frozen=True):
    """A command that a client sends at `at_s`, again and again with the same key until its outcome is known.

    `tries` bounds that (0: for ever). `verb` is a row of `MENU`; `args` are its parameters. `dry`: it is only asked what it would do.
    """

    at_s: float
    client: str
    verb: str
    key: str
    args: dict[str, Any] = {}
    tries: int = 0
    reason: str = ""
    dry: bool = False


class Fault(Struct, frozen=True):
    """Something that goes wrong at `at_s` for `for_s`. `target` is a process; `amount` depends on the kind (see `faults`).

    Kinds that wait for something (`at_step`, `failpoint`) do so from `at_s` on.
    """

    at_s: float
    kind: str
    target: str = ""
    for_s: float = 0.0
    amount: float = 0.0
    place: str = ""


MODELS = ("shell", "shell-*")


class NodeSpec(Struct, frozen=True):
    """A node agent: the process's name, the node's id (twins share it), how many runs at once, and which models its agent takes."""

    process: str
    node: str
    capacity: int = 2
    models: tuple[str, ...] = MODELS


class Schedule(Struct, frozen=True):
    """All that is decided beforehand. `trouble` is how often an agent does not simply succeed."""

    seed: int
    controllers: tuple[str, ...]
    nodes: tuple[NodeSpec, ...]
    clients: tuple[str, ...]
    ops: tuple[Op, ...]
    faults: tuple[Fault, ...]
    trouble: float = 0.15
    chaos_s: float = 20.0
    phases: int = 1
    check: str | None = None
    skew_s: dict[str, float] = {}
    index: bool = False
    """Whether the controllers keep an index file each."""
    quota: float = 0.0
    """How often an agent ends because the quota of its model is used up."""


# ── commands ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class Plan(Struct):
    """What the generator knows while it makes commands."""

    rng: random.Random
    launches: int = 0
    tickets: int = 0
    nodes: tuple[str, ...] = ()
    phases: int = 1
    clients: tuple[str, ...] = ()

    def orchestration(self) -> str:
        """Return one that may exist, mostly."""
        return f"{PROJECT}-o{self.rng.randint(1, max(1, self.launches))}"


SHELL = dict.fromkeys(("validator", "planner", "executor", "reviewer", "reviewer_secondary"), "shell")


def _overrides(plan: Plan) -> dict[str, Any]:
    rng = plan.rng
    flow: dict[str, Any] = {"run_timeout_s": rng.choice([5, 10, 20]), "max_parallel_tasks": rng.randint(1, 3), "max_task_attempts": rng.randint(1, 3)}
    flow["on_node_loss"] = rng.choice(["wait", "wait", "retry", "move", "move", "move"])
    if rng.random() < 0.1:
        flow.update(_budget(rng))
    gates = [gate for gate in ("plan", "review", "finalize") if rng.random() < 0.25]
    if gates:
        flow["human_gates"] = gates
    if plan.phases > 1 and rng.random() < 0.2:
        flow["phases_enabled"] = [plan.phases]
    enforcement = rng.choice(["task_and_phase", "task_only", "phase_only", "phase_only"])
    models = {**SHELL, "review_consensus": rng.random() < 0.5}
    if rng.random() < 0.1:
        models["executor"] = rng.choice(["shell-2", "shell-3"])
    return {"model": models, "review": {"enforcement": enforcement}, "flow": flow}


def _budget(rng: random.Random) -> dict[str, Any]:
    return rng.choice([{"budget_usd": rng.choice([0.02, 0.1, 5.0])}, {"budget_tokens": rng.choice([500, 2000, 10**6])}])


def _launch(plan: Plan) -> dict[str, Any]:
    plan.launches += 1
    tickets = [f"{PROJECT}-t{plan.rng.randint(1, plan.tickets)}"] if plan.tickets and plan.rng.random() < 0.3 else []
    node = "auto" if plan.rng.random() < 0.3 else plan.rng.choice(plan.nodes)
    return {"feature": f"feature {plan.launches}", "node": node, "overrides": _overrides(plan), "tickets": tickets}


def _ticket(plan: Plan) -> dict[str, Any]:
    plan.tickets += 1
    return {"title": f"ticket {plan.tickets}"}


def _below_one(rng: random.Random) -> float:
    """Return which of several, as a part of 1: cut, since one that is rounded up points behind the last (seed 1000345)."""
    return int(rng.random() * 10_000) / 10_000


def _read(plan: Plan) -> dict[str, Any]:
    """Return how an operator reads before a change: how long it waits for something to change, how long it thinks, and how old its view is."""
    rng = plan.rng
    return {
        "orchestration": plan.orchestration(),
        "patience_s": rng.choice([0.0, 2.0, 6.0]),
        "thinks_s": round(rng.choice([0.0, rng.uniform(0.0, 0.3), rng.uniform(0.0, 2.0)]), 3),
        "stale": 1 if rng.random() < 0.12 else 0,
        "pick": _below_one(rng),
    }


def _patch(plan: Plan) -> dict[str, Any]:
    rng = plan.rng
    patches: list[dict[str, Any]] = [
        {"flow": {"max_parallel_tasks": rng.randint(1, 4)}},
        {"flow": {"on_node_loss": rng.choice(["wait", "retry", "move"])}},
        {"flow": {"human_gates": rng.choice([[], ["review"], ["finalize"], ["plan", "review"]])}},
        {"flow": {"run_timeout_s": rng.choice([6, 15])}},
        {"flow": _budget(rng)},
        {"flow": {"budget_usd": 50.0, "budget_tokens": 10**7}},
        {"model": {"planner": "shell-2", "review_consensus": rng.random() < 0.5}},
        {"review": {"enforcement": rng.choice(["task_and_phase", "task_only", "phase_only"])}},
        {"model": {"planner": "nobody"}},
    ]
    if plan.phases > 1:
        patches += [{"flow": {"phases_enabled": rng.choice([[1], [plan.phases], list(range(1, plan.phases + 1)), [7]])}}] * 5
    return {**_read(plan), "patch": rng.choice(patches)}


def _role_model(plan: Plan) -> dict[str, Any]:
    role = plan.rng.choice(["executor", "executor", "reviewer", "planner", "nobody"])
    return {**_read(plan), "role": role, "model": plan.rng.choice(["shell", "shell-2", "shell-3", "opus"])}


def _edit(plan: Plan) -> dict[str, Any]:
    return {**_read(plan), "text": f"text {plan.rng.randint(1, 99)}"}


def _task_model(plan: Plan) -> dict[str, Any]:
    return {**_read(plan), "model": plan.rng.choice(["shell-2", "shell-3", None])}


def _insert(plan: Plan) -> dict[str, Any]:
    blocks = plan.rng.choice([None, None, "pending", "pending", "pending", "any", "any", "nothing", "unknown"])
    return {**_edit(plan), "depends": plan.rng.random() < 0.5, "model": plan.rng.choice([None, None, "shell-4"]), "blocks": blocks}


def _flag(plan: Plan) -> dict[str, Any]:
    flag = plan.rng.choice(["cp.runtime_controls", "cp.policy_reconfiguration", "cp.task_reconfiguration", "cp.launch", "require_reason"])
    return {"flag": flag, "on": plan.rng.random() < 0.5}


class Row(Struct, frozen=True):
    """A row of the menu: how often it is ordered, and how its arguments are made."""

    weight: int
    args: Callable[[Plan], dict[str, Any]]


MENU: dict[str, Row] = {
    "launch": Row(8, _launch),
    "tend": Row(30, lambda plan: {"orchestration": plan.orchestration(), "chance": _below_one(plan.rng)}),
    "pause": Row(7, lambda plan: {"orchestration": plan.orchestration(), "mode": "drain"}),
    "pause-stop": Row(5, lambda plan: {"orchestration": plan.orchestration(), "mode": "stop"}),
    "resume": Row(8, lambda plan: {"orchestration": plan.orchestration()}),
    "cancel": Row(3, lambda plan: {"orchestration": plan.orchestration()}),
    "cancel-abandon": Row(7, lambda plan: {**_read(plan), "patience_s": 20.0}),
    "cancel-late": Row(5, lambda plan: {**_read(plan), "patience_s": 12.0, "thinks_s": round(plan.rng.uniform(0, 0.05), 3)}),
    "pause-at-order": Row(6, lambda plan: {**_read(plan), "thinks_s": round(plan.rng.uniform(0, 0.03), 3)}),
    "retry": Row(5, lambda plan: {"orchestration": plan.orchestration()}),
    "retry-task": Row(6, lambda plan: {**_read(plan), "patience_s": 15.0}),
    "set-policy": Row(9, _patch),
    "set-role-model": Row(4, _role_model),
    "task-edit": Row(6, _edit),
    "task-set-model": Row(4, _task_model),
    "task-skip": Row(4, _read),
    "task-insert": Row(7, _insert),
    "gate-approve": Row(4, lambda plan: {"orchestration": plan.orchestration()}),
    "gate-reject": Row(2, lambda plan: {"orchestration": plan.orchestration(), "feedback": "again"}),
    "ticket-add": Row(5, _ticket),
    "design-edit": Row(1, lambda plan: {"title": f"title {plan.rng.randint(1, 9)}"}),
    "node-cordon": Row(1, lambda plan: {"node": plan.rng.choice(plan.nodes)}),
    "node-uncordon": Row(3, lambda plan: {"node": plan.rng.choice(plan.nodes)}),
    "node-drain": Row(2, lambda plan: {"node": plan.rng.choice(plan.nodes)}),
    "flag-set": Row(4, _flag),
    "flag-rollback": Row(3, lambda plan: {"pick": _below_one(plan.rng)}),
    "expired": Row(2, lambda plan: {"title": "too late", "valid_for_s": 0.001}),
    "dry-run": Row(1, lambda plan: {"title": "only asked"}),
    "bad": Row(1, lambda plan: {}),
}
"""What clients order. `tend` looks at the ledger and does what the orchestration waits for; see `actors`."""

RIVALS = frozenset({"set-policy", "set-role-model", "task-edit", "task-set-model", "task-skip", "task-insert", "pause", "cancel-late"})
"""What somebody else may order at the same time, with a key of its own: two operators read the same revision, or stop the same thing."""

REHEARSED = RIVALS | {"launch", "pause-stop", "resume", "cancel", "retry", "gate-approve", "node-cordon", "node-drain", "flag-set"}
"""What may be asked for as a dry run first, with the same key."""


def _ops(plan: Plan, clients: tuple[str, ...], chaos_s: float, count: int) -> list[Op]:
    rng = plan.rng
    verbs, weights = list(MENU), [row.weight for row in MENU.values()]
    ops = [Op(0.5, clients[0], "launch", "k-launch-0", _launch(plan), reason="first")]
    if rng.random() < 0.15:
        ops.append(Op(round(rng.uniform(0.6, chaos_s / 2), 3), rng.choice(clients), "flag-set", "k-why", {"flag": "require_reason", "on": True}))
    for number in range(count):
        verb = rng.choices(verbs, weights)[0]
        at_s = round(rng.uniform(0.6, chaos_s), 3)
        reason = "because" if rng.random() < 0.6 else ""
        op = Op(at_s, rng.choice(clients), verb, f"k-{number}", MENU[verb].args(plan), tries=rng.choice([0, 0, 0, 1]), reason=reason)
        ops.append(op)
        if verb in REHEARSED and rng.random() < 0.12:
            ops.append(replace(op, at_s=round(at_s - rng.choice([0.0, rng.uniform(0, 0.5)]), 3), dry=True))
        if rng.random() < 0.12:  # somebody else sends the same again, later or at once
            ops.append(Op(round(at_s + rng.choice([0.0, 0.01, rng.uniform(0, 10)]), 3), rng.choice(clients), verb, op.key, op.args))
        elif verb in RIVALS and rng.random() < 0.25:
            rival = {
                **op.args,
                **{name: value for name, value in MENU[verb].args(plan).items() if name not in ("orchestration", "patience_s", "stale", "pick")},
            }
            ops.append(Op(round(at_s + rng.choice([0.0, 0.02]), 3), rng.choice(clients), verb, f"{op.key}-rival", rival, reason=reason))
        elif rng.random() < 0.06:  # the same key for something else
            other = rng.choice(verbs)
            ops.append(Op(round(at_s + rng.uniform(0, 3), 3), rng.choice(clients), other, op.key, MENU[other].args(plan)))
    return ops


# ── faults ───────────────────────────────────────────────────────────────────────────────────────────────────────────

CONTROLLER_POINTS, NODE_POINTS, CLIENT_POINTS = (
    tuple(name for name in failpoint.NAMES if name.startswith(who)) for who in ("controller.", "node.", "client.")
)


class World(Struct, frozen=True):
    """Whom a fault may hit."""

    controllers: tuple[str, ...]
    nodes: tuple[str, ...]
    clients: tuple[str, ...]

    def anybody(self, rng: random.Random) -> str:
        """Return a process; controllers and nodes more often than clients."""
        return rng.choice([*self.controllers, *self.controllers, *self.nodes, *self.nodes, *self.clients])


def _kill(rng: random.Random, at_s: float, world: World) -> Fault:
    return Fault(at_s, "kill", world.anybody(rng), round(rng.choice([0.05, 0.5, rng.uniform(0.5, 8)]), 3))


def _at_step(rng: random.Random, at_s: float, world: World) -> Fault:
    return Fault(at_s, "at-step", world.anybody(rng), round(rng.uniform(0.05, 3), 3), amount=rng.randint(1, 400))


def _failpoint(rng: random.Random, at_s: float, world: World) -> Fault:
    target = world.anybody(rng)
    points = CONTROLLER_POINTS if target in world.controllers else NODE_POINTS if target in world.nodes else CLIENT_POINTS
    place = "node.spawning" if target in world.nodes and rng.random() < 0.25 else rng.choice(points)
    return Fault(at_s, "failpoint", target, round(rng.uniform(0.05, 4), 3), amount=rng.randint(1, 6), place=place)


def _stall_at(rng: random.Random, at_s: float, world: World) -> Fault:
    target = rng.choice([*world.controllers, *world.nodes])
    points = CONTROLLER_POINTS if target in world.controllers else NODE_POINTS
    return Fault(at_s, "stall-at", target, round(rng.uniform(0.5, 14), 3), amount=rng.randint(1, 6), place=rng.choice(points))


def _on(kind: str, whom: str, low_s: float, high_s: float) -> Callable[[random.Random, float, World], Fault]:
    def make(rng: random.Random, at_s: float, world: World) -> Fault:
        target = world.anybody(rng) if whom == "anybody" else rng.choice(getattr(world, whom)) if whom else ""
        return Fault(at_s, kind, target, round(rng.uniform(low_s, high_s), 3), amount=_below_one(rng))

    return make


def _cut_off(rng: random.Random, at_s: float, world: World) -> Fault:
    return Fault(
        round(min(at_s, rng.uniform(0.8, 6.0)), 3),
        "cut-off",
        rng.choice(world.nodes),
        round(rng.choice([rng.uniform(11, 16), rng.uniform(30, 42)]), 3),
    )


def _clock(rng: random.Random, at_s: float, world: World) -> Fault:
    step_s = rng.choice([-3600.0, 3600.0, -3 * 86400.0, 3 * 86400.0, rng.uniform(-30, 30)])
    return Fault(at_s, "clock", rng.choice([*world.controllers, *world.nodes]), amount=round(step_s, 3))


FAULTS: dict[str, tuple[int, Callable[[random.Random, float, World], Fault]]] = {
    "kill": (14, _kill),
    "at-step": (10, _at_step),
    "failpoint": (24, _failpoint),
    "stall-at": (14, _stall_at),
    "power": (6, _on("power", "nodes", 0.5, 6)),
    "empty": (5, _on("empty", "nodes", 0.3, 12)),
    "cut-off": (6, _cut_off),
    "partition": (8, _on("partition", "anybody", 0.2, 12)),
    "half-open": (4, _on("half-open", "anybody", 0.2, 10)),
    "reset": (6, _on("reset", "anybody", 0, 0)),
    "zombie": (5, _on("zombie", "controllers", 3.5, 10)),
    "stall": (7, _on("stall", "anybody", 0.2, 9)),
    "server": (5, _on("server", "", 0.1, 4)),
    "delay": (4, _on("delay", "", 1, 8)),
    "duplicate": (4, _on("duplicate", "", 1, 8)),
    "reorder": (4, _on("reorder", "", 1, 8)),
    "slow-disk": (3, _on("slow-disk", "", 1, 8)),
    "lost-acks": (5, _on("lost-acks", "", 1, 8)),
    "clock": (5, _clock),
}
"""Every kind of fault: how often, and how one is made."""


def generate(seed: int) -> Schedule:
    """Return the schedule of a seed."""
    rng = random.Random(f"schedule/{seed}")
    controllers = tuple(f"c{n}" for n in range(1, rng.choice([1, 2, 2, 3]) + 1))
    nodes = _nodes(rng)
    clients = tuple(f"k{n}" for n in range(1, rng.randint(1, 3) + 1))
    phases = rng.choice([1, 1, 1, 2, 3])
    chaos_s = round(rng.uniform(6, 24), 3)
    plan = Plan(rng, nodes=tuple(dict.fromkeys(spec.node for spec in nodes)), phases=phases)
    world = World(controllers, tuple(spec.process for spec in nodes), clients)
    kinds, weights = list(FAULTS), [weight for weight, _ in FAULTS.values()]
    faults = []
    for _ in range(rng.choice([0, 2, 4, 6, 8, 10, 12, 16])):
        kind = rng.choices(kinds, weights)[0]
        faults.append(FAULTS[kind][1](rng, round(rng.uniform(0.3, chaos_s), 3), world))
    # whoever is cut off comes back while chaos still reigns
    chaos_s = max([chaos_s, *(fault.at_s + fault.for_s + 1.0 for fault in faults if fault.kind == "cut-off")])
    ops = _ops(plan, clients, chaos_s, rng.randint(6, 24))
    for number, fault in enumerate(fault for fault in faults if fault.kind == "cut-off" and rng.random() < 0.9):
        at_s = round(fault.at_s + 8.0, 3)  # somebody sees what the node held stand still, and gives it up
        ops.append(Op(at_s, rng.choice(clients), "cancel-abandon", f"k-abandon-{number}", {**_read(plan), "patience_s": 16.0}, reason="lost"))
    trouble = rng.choice([0.0, 0.1, 0.2, 0.4, 0.6])
    if trouble > 0.3:
        at_s = round(rng.uniform(2.0, 6.0), 3)
        ops.append(Op(at_s, rng.choice(clients), "retry-task", "k-again", {**_read(plan), "patience_s": 30.0, "stale": 0}, reason="once more"))
    return Schedule(
        seed=seed,
        controllers=controllers,
        nodes=nodes,
        clients=clients,
        ops=tuple(sorted(ops, key=lambda op: op.at_s)),
        faults=tuple(sorted(faults, key=lambda fault: fault.at_s)),
        trouble=trouble,
        chaos_s=chaos_s,
        phases=phases,
        check=rng.choice([None, "make test"]),
        index=rng.random() < 0.4,
        quota=rng.choice([0.0, 0.0, 0.03]),
        skew_s={name: round(rng.uniform(-5, 5), 3) for name in (*world.controllers, *world.nodes) if rng.random() < 0.5},
    )


def _nodes(rng: random.Random) -> tuple[NodeSpec, ...]:
    count = rng.choice([1, 2, 2, 2, 3])
    specs = [NodeSpec(f"n{n}", f"n{n}", rng.randint(1, 3), _models(rng, n)) for n in range(1, count + 1)]
    if rng.random() < 0.25:
        specs.append(replace(specs[0], process="n1-twin"))
    return tuple(specs)


def _models(rng: random.Random, number: int) -> tuple[str, ...]:
    """Return what a node's agent takes: mostly everything; the first node takes at least what every launch names."""
    if rng.random() < 0.7:
        return MODELS
    choices = [("shell", "shell-2"), ("shell", "shell-3"), ("shell",)]
    return rng.choice(choices if number == 1 else [*choices, ("shell-2", "shell-3")])
