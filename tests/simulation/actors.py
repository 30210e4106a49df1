"""Clients of a simulated world: each sends its part of the schedule, asks again while the outcome is unknown, and writes down every call.

The log of calls is kept outside of the client's host: a client that is killed and started again goes on with the same keys.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import anyio

from bus.connection import Credentials, connect
from bus.errors import NotSent
from bus.request import CommandClient, OutcomeUnknown
from bus_schemas import codec, subjects
from bus_schemas import commands as c
from bus_schemas.commands import Command, subject_project
from bus_schemas.decisions import ActionStatus, Receipt
from bus_schemas.entities import Complexity
from bus_schemas.events import HoldKind, OrchestrationStatus, TaskStatus
from controller.orchestration import NOT_STARTED, Orchestration, Phase, Task
from tests.simulation.evidence import Call
from tests.simulation.schedule import PROJECT, Op

URL = "nats://sim:4222"
ANSWER_S = 4.0
AGAIN_S = 0.4
LOOK_EVERY_S = 0.1


class Request(NamedTuple):
    """A command as it is sent."""

    command: Command
    valid_for_s: float | None = None
    dry_run: bool = False
    spoiled: bool = False
    """Sent with a body that cannot be a command of its type."""
    reason: str | None = None


class Ledger(Protocol):
    """What a client may look at before it decides what to do."""

    def orchestration(self, name: str) -> Orchestration | None:
        """Return an orchestration as the ledger has it now."""
        ...

    def flag_actions(self) -> list[str]:
        """Return the actions that changed each flag last, as the ledger has it now."""
        ...


def _tend(args: dict[str, Any], ledger: Ledger) -> Request | None:
    """Return what an attentive operator would do now for an orchestration; None where nothing waits."""
    name, chance = str(args["orchestration"]), float(args["chance"])
    o = ledger.orchestration(name)
    if o is None or not o.is_live:
        return None
    holds = {hold.kind for hold in o.holds}
    if HoldKind.GATE in holds:
        return Request(c.GateApprove(name) if chance < 0.65 else c.GateReject(name, "do it again"))
    if HoldKind.BLOCKED in holds:
        return Request(c.Retry(name) if chance < 0.85 else c.Cancel(name))
    if HoldKind.PAUSED in holds:
        return Request(c.Resume(name))
    if HoldKind.NODE_LOST in holds and chance < 0.5:
        return Request(c.Retry(name))
    if HoldKind.BUDGET in holds and chance < 0.5:
        return Request(c.PolicySet(name, {"flow": {"budget_usd": 50.0, "budget_tokens": 10**7}}, o.policy_revision))
    if HoldKind.BUDGET in holds or (HoldKind.QUOTA in holds and chance < 0.3):
        return Request(c.Resume(name))
    return None


# ── changes by somebody who has read what is there ───────────────────────────────────────────────────────────────────


def _live(args: dict[str, Any], ledger: Ledger) -> Orchestration | None:
    o = ledger.orchestration(str(args["orchestration"]))
    return o if o is not None and o.is_live else None


def _revision(args: dict[str, Any], known: int) -> int:
    return max(0, known - int(args["stale"]))


def _set_policy(args: dict[str, Any], ledger: Ledger) -> Request | None:
    o = _live(args, ledger)
    return None if o is None else Request(c.PolicySet(o.id, args["patch"], _revision(args, o.policy_revision)))


def _set_role_model(args: dict[str, Any], ledger: Ledger) -> Request | None:
    o = _live(args, ledger)
    return None if o is None else Request(c.RoleModelSet(o.id, args["role"], args["model"], _revision(args, o.policy_revision)))


def _task(args: dict[str, Any], ledger: Ledger, status: TaskStatus) -> tuple[Orchestration, Phase, Task] | None:
    """Return one of the tasks of a live orchestration that have this status."""
    o = _live(args, ledger)
    if o is None:
        return None
    found = [(phase, task) for phase in o.phases for task in phase.tasks if task.status is status]
    return (o, *found[int(args["pick"] * len(found))]) if found else None


def _task_edit(args: dict[str, Any], ledger: Ledger) -> Request | None:
    found = _task(args, ledger, TaskStatus.PENDING)
    if found is None:
        return None
    o, phase, task = found
    return Request(c.TaskEdit(o.id, phase.id, task.number, _revision(args, task.revision), subject=args["text"]))


def _task_set_model(args: dict[str, Any], ledger: Ledger) -> Request | None:
    found = _task(args, ledger, TaskStatus.PENDING)
    if found is None:
        return None
    o, phase, task = found
    return Request(c.TaskModelSet(o.id, phase.id, task.number, _revision(args, task.revision), args["model"]))


def _task_skip(args: dict[str, Any], ledger: Ledger) -> Request | None:
    found = _task(args, ledger, TaskStatus.PENDING)
    if found is None:
        return None
    o, phase, task = found
    return Request(c.TaskSkip(o.id, phase.id, task.number, _revision(args, task.revision)))


def _task_insert(args: dict[str, Any], ledger: Ledger) -> Request | None:
    found = ((o, o.find_phase(o.phase)) for o in _all_live(ledger))
    o, phase = next(((o, phase) for o, phase in found if phase is not None and phase.tasks), (None, None))
    if o is None or phase is None:
        return None
    after = int(args["pick"] * (len(phase.tasks) + 1))
    depends_on = (after,) if after and args["depends"] else ()
    blocks = _blocks(args, phase, after)
    return Request(c.TaskInsert(o.id, phase.id, after, args["text"], depends_on, _revision(args, phase.revision), model=args["model"], blocks=blocks))


def _blocks(args: dict[str, Any], phase: Phase, after: int) -> tuple[int, ...] | None:
    """Return which tasks are to wait for an inserted one: some that may, some that may not, none at all, or (None) what the house says."""
    if args["blocks"] in (None, "unknown"):
        return None if args["blocks"] is None else (len(phase.tasks) + 50,)
    wanted = {"any": set(TaskStatus), "pending": {TaskStatus.PENDING}, "nothing": set[TaskStatus]()}[args["blocks"]]
    numbers = [task.number for task in phase.tasks if task.status in wanted and task.number != after]
    first = int(args["pick"] * len(numbers))
    return tuple(numbers[first : first + 2])


def _all_live(ledger: Ledger) -> list[Orchestration]:
    found = itertools.takewhile(lambda o: o is not None, (ledger.orchestration(f"{PROJECT}-o{number}") for number in itertools.count(1)))
    return [o for o in found if o is not None and o.is_live]


def _retry_task(args: dict[str, Any], ledger: Ledger) -> Request | None:
    """Return the retry of a blocked task, of whatever orchestration."""
    for o in _all_live(ledger):
        found = _task({**args, "orchestration": o.id}, ledger, TaskStatus.BLOCKED)
        if found is not None:
            return Request(c.Retry(o.id, phase=found[1].id, task=found[2].number))
    return None


def _cancel_abandon(args: dict[str, Any], ledger: Ledger) -> Request | None:
    held = [o for o in _all_live(ledger) if o.hold(HoldKind.NODE_LOST) is not None]
    return Request(c.Cancel(held[int(args["pick"] * len(held))].id, abandon=True)) if held else None


def _cancel_late(args: dict[str, Any], ledger: Ledger) -> Request | None:
    found = next((o for o in _all_live(ledger) if o.status is OrchestrationStatus.FINALIZING), None)
    return None if found is None else Request(c.Cancel(found.id))


def _pause_at_order(args: dict[str, Any], ledger: Ledger) -> Request | None:
    found = next((o for o in _all_live(ledger) if any(run.status in NOT_STARTED for run in o.outstanding())), None)
    return None if found is None else Request(c.Pause(found.id))


def _flag_rollback(args: dict[str, Any], ledger: Ledger) -> Request | None:
    actions = ledger.flag_actions()
    return Request(c.FlagRollback(actions[int(args["pick"] * len(actions))])) if actions else None


def _launch(args: dict[str, Any], _: Ledger) -> Request:
    return Request(c.Launch(f"{PROJECT}-d1", args["node"], feature=args["feature"], tickets=tuple(args["tickets"]), overrides=args["overrides"]))


def _of(make: Callable[[dict[str, Any]], Request]) -> Callable[[dict[str, Any], Ledger], Request | None]:
    return lambda args, _: make(args)


MAKE: dict[str, Callable[[dict[str, Any], Ledger], Request | None]] = {
    "launch": _launch,
    "tend": _tend,
    "pause": _of(lambda a: Request(c.Pause(a["orchestration"]))),
    "pause-stop": _of(lambda a: Request(c.Pause(a["orchestration"], c.PauseMode.STOP))),
    "resume": _of(lambda a: Request(c.Resume(a["orchestration"]))),
    "cancel": _of(lambda a: Request(c.Cancel(a["orchestration"]))),
    "cancel-abandon": _cancel_abandon,
    "cancel-late": _cancel_late,
    "pause-at-order": _pause_at_order,
    "set-policy": _set_policy,
    "set-role-model": _set_role_model,
    "task-edit": _task_edit,
    "task-set-model": _task_set_model,
    "task-skip": _task_skip,
    "task-insert": _task_insert,
    "retry-task": _retry_task,
    "flag-set": _of(lambda a: Request(c.FlagSet(a["flag"], a["on"]))),
    "flag-rollback": _flag_rollback,
    "node-drain": _of(lambda a: Request(c.NodeDrain(a["node"]))),
    "retry": _of(lambda a: Request(c.Retry(a["orchestration"]))),
    "gate-approve": _of(lambda a: Request(c.GateApprove(a["orchestration"]))),
    "gate-reject": _of(lambda a: Request(c.GateReject(a["orchestration"], a["feedback"]))),
    "ticket-add": _of(lambda a: Request(c.TicketAdd(PROJECT, a["title"]))),
    "design-edit": _of(lambda a: Request(c.DesignEdit(f"{PROJECT}-d1", title=a["title"]))),
    "node-cordon": _of(lambda a: Request(c.NodeCordon(a["node"]))),
    "node-uncordon": _of(lambda a: Request(c.NodeUncordon(a["node"]))),
    "expired": _of(lambda a: Request(c.TicketAdd(PROJECT, a["title"]), valid_for_s=a["valid_for_s"])),
    "dry-run": _of(lambda a: Request(c.TicketAdd(PROJECT, a["title"]), dry_run=True)),
    "bad": _of(lambda a: Request(c.TicketAdd(PROJECT, "spoiled"), spoiled=True)),
    "project-add": _of(lambda a: Request(c.ProjectAdd(PROJECT, "/repo", check=a["check"]))),
    "design-add": _of(lambda a: Request(c.DesignAdd(PROJECT, "Basket", a["body"], Complexity.SIMPLE, tuple(a["markers"])))),
}
"""How each verb of the schedule becomes a command."""


class Sheet:
    """What a client has still to do, and what it has chosen; outside of its host."""

    def __init__(self, ops: list[Op]) -> None:
        self.ops = ops
        self.done: set[int] = set()
        self.chosen: dict[int, Request] = {}
        self.tried: dict[int, int] = {}

    @property
    def is_done(self) -> bool:
        """Whether every outcome is known, or was given up."""
        return len(self.done) == len(self.ops)


async def client(name: str, sheet: Sheet, ledger: Ledger, calls: list[Call], zero_s: float) -> None:
    """Be a client until everything on the sheet is done. Raises as `connect`."""
    bus = await connect(URL, f"client {name}", Credentials(name), retry=True)
    try:
        async with CommandClient(bus, c.Via.CLI) as sender, anyio.create_task_group() as tasks:
            for number, op in enumerate(sheet.ops):
                if number not in sheet.done:
                    tasks.start_soon(_do, name, number, op, sheet, sender, ledger, calls, zero_s)
    finally:
        with anyio.CancelScope(shield=True):
            await bus.close()


async def _do(name: str, number: int, op: Op, sheet: Sheet, sender: CommandClient, ledger: Ledger, calls: list[Call], zero_s: float) -> None:
    loop = asyncio.get_running_loop()
    await anyio.sleep(max(0.0, zero_s + op.at_s - loop.time()))
    request = sheet.chosen.get(number) or await _read(op, ledger)
    if request is None:
        sheet.done.add(number)
        return
    request = request._replace(reason=op.reason or None, dry_run=request.dry_run or op.dry)
    sheet.chosen[number] = request
    if not sheet.tried.get(number):
        await anyio.sleep(float(op.args.get("thinks_s", 0.0)))  # what was read may change meanwhile
    while True:
        sheet.tried[number] = sheet.tried.get(number, 0) + 1
        outcome = await _call(name, op.key, request, sender, calls)
        known = outcome in ("ok", "refused")
        if known or (op.tries and sheet.tried[number] >= op.tries):
            sheet.done.add(number)
            return
        await anyio.sleep(AGAIN_S)


async def _read(op: Op, ledger: Ledger) -> Request | None:
    """Return the command that an operator makes of what is there, once there is something to make it of; None when that takes too long."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + float(op.args.get("patience_s", 0.0))
    while True:
        request = MAKE[op.verb](op.args, ledger)
        if request is not None or loop.time() >= deadline:
            return request
        await anyio.sleep(LOOK_EVERY_S)


async def _call(name: str, key: str, request: Request, sender: CommandClient, calls: list[Call]) -> str:
    """Send once and write down what came of it; a call that a kill cuts off stands there as unknown."""
    loop = asyncio.get_running_loop()
    envelope = sender.envelope(request.command, key, reason=request.reason, valid_for_s=request.valid_for_s, dry_run=request.dry_run)
    body = b'{"nonsense":1}' if request.spoiled else bytes(envelope.body)
    data = codec.encode(envelope) if not request.spoiled else codec.encode(envelope).replace(bytes(envelope.body), body)
    project = subject_project(request.command)
    subject = subjects.command(name, project, envelope.type, type(request.command).control_lane)
    body_hash = codec.body_hash(envelope.type, codec.decode_envelope(data).body)
    sent_s = loop.time()
    place = len(calls)
    calls.append(
        Call(name, key, project, envelope.type, body_hash, envelope.id, sent_s, float("inf"), "unknown", None, request.dry_run, request.command)
    )
    receipt: Receipt | None = None
    try:
        receipt = await sender.submit_raw(subject, envelope.id, data, key, ANSWER_S)
        outcome = "refused" if receipt.status is ActionStatus.REFUSED else "ok"
    except OutcomeUnknown:
        outcome = "unknown"
    except NotSent:
        outcome = "nothing-sent"
    calls[place] = calls[place]._replace(done_at_s=loop.time(), outcome=outcome, receipt=receipt)
    return outcome
