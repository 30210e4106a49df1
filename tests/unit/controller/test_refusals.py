"""Refusals: each control command in each status that does not allow it, and with each way of being wrong.

A refusal is one code, one recorded action, a message that names what was wrong and what is allowed, and nothing else. Which cells are
refused is told here once more, by a table of its own, and not read from the core.
"""

from __future__ import annotations

import copy
import functools
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
import pytest

from bus_schemas import codec
from bus_schemas import commands as c
from bus_schemas import events as e
from bus_schemas.codec import BadCommand
from bus_schemas.decisions import ActionStatus, CommandCause, Decision, TimerCause
from bus_schemas.entities import Flag
from bus_schemas.events import GateKind, HoldKind
from bus_schemas.events import OrchestrationStatus as S
from bus_schemas.ids import PLANE
from bus_schemas.orders import RunKind
from bus_schemas.policy import Role
from bus_schemas.reasons import Reason
from controller.decide import decide_command, home
from controller.leases import Lost
from controller.project import Aggregate
from tests.unit.controller.world import World

SHOP_O1 = "shop-o1"
BODIES: dict[str, dict[str, Any]] = {
    "pause": {"orchestration": SHOP_O1, "mode": "drain"},
    "resume": {"orchestration": SHOP_O1},
    "cancel": {"orchestration": SHOP_O1, "abandon": False},
    "retry": {"orchestration": SHOP_O1, "phase": "1", "task": 1},
    "gate-approve": {"orchestration": SHOP_O1, "note": "good"},
    "gate-reject": {"orchestration": SHOP_O1, "feedback": "more tests"},
    "set-policy": {"orchestration": SHOP_O1, "patch": {"flow": {"max_parallel_tasks": 3}}, "target_revision": 1},
    "set-role-model": {"orchestration": SHOP_O1, "role": "reviewer", "model": "haiku", "target_revision": 1},
    "task-edit": {"orchestration": SHOP_O1, "phase": "1", "task": 2, "target_revision": 1, "subject": "better", "description": "as said"},
    "task-set-model": {"orchestration": SHOP_O1, "phase": "1", "task": 2, "target_revision": 1, "model": "haiku"},
    "task-skip": {"orchestration": SHOP_O1, "phase": "1", "task": 2, "target_revision": 1},
    "task-insert": {
        "orchestration": SHOP_O1,
        "phase": "1",
        "after": 1,
        "subject": "between",
        "depends_on": [1],
        "target_revision": 1,
        "description": "as said",
        "model": "haiku",
        "blocks": [2],
    },
    "node-cordon": {"node": "n1"},
    "node-uncordon": {"node": "n1"},
    "node-drain": {"node": "n1"},
    "flag-set": {"flag": "require_reason", "on": True},
    "flag-rollback": {"action": "plane-a1"},
}
"""A good body of each control command, with every field that it has."""

ORDERS = [name for name, body in BODIES.items() if "orchestration" in body]
"""The commands to an orchestration."""
TASK_CHANGES = ["task-edit", "task-set-model", "task-skip"]
REVISED = [name for name, body in BODIES.items() if "target_revision" in body]
OPTIONAL = {
    "pause": {"mode"},
    "cancel": {"abandon"},
    "retry": {"phase", "task"},
    "gate-approve": {"note"},
    "task-edit": {"subject", "description"},
    "task-set-model": {"model"},
    "task-insert": {"description", "model", "blocks"},
}


# ── asking ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def ask(world: World, kind: str, body: Any, *, reason: str | None = None) -> tuple[Decision, Aggregate, Aggregate]:
    """Put a command, good or bad, before the decider as it comes from the bus; return the decision, and the ledger's state before and after."""
    raw = msgspec.Raw(codec.encode(body))
    command = codec.decode_command(c.CommandEnvelope(1, kind, "x1", datetime(2026, 1, 1, tzinfo=UTC), c.Via.CLI, "k", raw))
    project = "shop" if kind in ORDERS or kind not in BODIES else PLANE
    if not isinstance(command, BadCommand):
        try:
            project = c.subject_project(command)
        except ValueError:
            project = "shop"
    cause = CommandCause("x1", kind, "x1", "ana", "cli", project, world.now, "h", raw, reason=reason)
    ledger = home(project, world.states[PLANE])
    before = world.states[ledger]
    decision = world._append(ledger, decide_command(before, cause, command, world.context()))
    return decision, before, world.states[ledger]


def refused(world: World, kind: str, body: Any, **options: Any) -> tuple[str, str]:
    """Ask for what must be refused, see that nothing but the refusal is recorded, and return its code and message."""
    messages = len(world.ledger)
    decision, before, after = ask(world, kind, body, **options)
    action = decision.action
    assert action is not None
    assert action.status is ActionStatus.REFUSED, f"{kind} was accepted: {[e.type_of(event) for event in decision.events]}"
    assert decision.events == ()
    assert len(world.ledger) == messages + 1
    recorded = {"actions", "commands", "action_count", "at"}
    changed = {name for name in before.__struct_fields__ if name not in recorded and not getattr(before, name) == getattr(after, name)}  # noqa: SIM201 - rpds
    assert changed == set()
    assert (after.action_count, len(after.actions)) == (before.action_count + 1, len(before.actions) + 1)
    receipt = after.actions[action.id]
    assert (receipt.status, receipt.reason_code, receipt.message) == ("refused", action.reason_code, action.message)
    assert action.reason_code in set(Reason)
    assert action.message
    assert action.message.isprintable()
    assert len(action.message) <= 700
    return str(action.reason_code), action.message


# ── status × command ─────────────────────────────────────────────────────────────────────────────────────────────────


class Cell(NamedTuple):
    """Where an orchestration stands: its status, and one hold or none."""

    status: S
    hold: HoldKind | None


RUN_IN = {
    S.LAUNCHING: RunKind.INIT,
    S.VALIDATING: RunKind.VALIDATE,
    S.PLANNING: RunKind.PLAN,
    S.EXECUTING: RunKind.TASK,
    S.REVIEWING: RunKind.REVIEW,
    S.FINALIZING: RunKind.FINALIZE,
}
ENDED = (S.COMPLETE, S.FAILED, S.CANCELLED)
CELLS = [*(Cell(status, hold) for status in RUN_IN for hold in (None, *HoldKind)), *(Cell(status, None) for status in ENDED)]


@functools.cache
def _standing(cell: Cell) -> World:
    world = World(check="make test")
    if cell.status in ENDED:
        world.until("task")
        events: list[e.Event] = [e.OrchestrationMoved(orchestration=SHOP_O1, status=cell.status, previous=S.EXECUTING)]
    else:
        world.start(world.until(RUN_IN[cell.status].value))
        events = []
    if cell.hold is HoldKind.GATE:
        events.append(e.GateOpened(orchestration=SHOP_O1, gate=GateKind.FINALIZE, phase=None, subject="judge it"))
        events.append(e.HoldSet(orchestration=SHOP_O1, hold=HoldKind.GATE, reason="judge it"))
    elif cell.hold is not None:
        events.append(e.HoldSet(orchestration=SHOP_O1, hold=cell.hold, reason="held for a test"))
    world._append("shop", Decision(at=world.now, cause=TimerCause("test"), events=tuple(events)))
    assert (world.o.status, world.o.hold(cell.hold) is not None if cell.hold else not world.o.holds) == (cell.status, True)
    return world


def standing(cell: Cell) -> World:
    """Return a world of one's own in which the orchestration stands there."""
    world = copy.copy(_standing(cell))
    world.states, world.ledger, world.online = dict(world.states), list(world.ledger), set(world.online)
    return world


def code_in(kind: str, cell: Cell) -> Reason | None:
    """Return the code with which a command is refused where an orchestration stands; None where it is allowed."""
    if cell.status in ENDED or cell.hold is HoldKind.CANCELLING:
        return Reason.INVALID_STATE
    hold = cell.hold
    match kind:
        case "pause":
            return Reason.INVALID_STATE if hold in (HoldKind.PAUSING, HoldKind.PAUSED) else None
        case "resume":
            return None if hold in (HoldKind.PAUSING, HoldKind.PAUSED, HoldKind.BUDGET, HoldKind.QUOTA) else Reason.INVALID_STATE
        case "retry":
            return None if hold in (HoldKind.BLOCKED, HoldKind.NODE_LOST) else Reason.INVALID_STATE
        case "gate-approve" | "gate-reject":
            return None if hold is HoldKind.GATE else Reason.INVALID_STATE
        case "cancel" | "set-policy" | "set-role-model":
            return None
        case _:
            pass
    if cell.status in (S.LAUNCHING, S.VALIDATING, S.PLANNING):
        return Reason.INVALID_STATE if kind == "task-insert" else Reason.ENTITY_NOT_FOUND  # no plan yet, so no tasks
    return None if cell.status is S.EXECUTING else Reason.INVALID_STATE


def plain_body(kind: str) -> dict[str, Any]:
    return {"orchestration": SHOP_O1} if kind == "retry" else BODIES[kind]


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: f"{cell.status}-{cell.hold}")
@pytest.mark.parametrize("kind", ORDERS)
def test_a_command_where_it_does_not_fit_is_refused_and_says_where_the_orchestration_stands(kind: str, cell: Cell) -> None:
    expected = code_in(kind, cell)
    if expected is None:
        if kind not in ("retry", "gate-approve", "gate-reject"):  # those need more than a hold: their stories are told elsewhere
            decision, _, _ = ask(standing(cell), kind, plain_body(kind))
            assert decision.action is not None
            assert (decision.action.status, decision.action.reason_code) == (ActionStatus.ACCEPTED, None)
        return
    code, message = refused(standing(cell), kind, plain_body(kind))

    assert code == expected
    said = {SHOP_O1, "task 2", "phase 1"}
    assert any(word in message for word in said), message
    if cell.status in ENDED:
        assert message == f"{SHOP_O1} is {cell.status}; it has ended"
    elif cell.hold is HoldKind.CANCELLING:
        assert message == f"{SHOP_O1} is being cancelled"


@pytest.mark.parametrize(
    ("kind", "hold", "proposal"),
    [
        ("resume", HoldKind.GATE, "`qd gate approve shop-o1` or `qd gate reject shop-o1"),
        ("resume", HoldKind.BLOCKED, "`qd retry shop-o1` or `qd cancel shop-o1`"),
        ("resume", HoldKind.NODE_LOST, "`qd retry shop-o1`"),
        ("retry", HoldKind.GATE, "`qd gate approve shop-o1`"),
        ("retry", HoldKind.QUOTA, "it is held: quota"),
        ("pause", HoldKind.PAUSED, "already paused"),
        ("pause", HoldKind.PAUSING, "already pausing"),
        ("gate-approve", None, "waits at no gate"),
        ("gate-reject", None, "waits at no gate"),
    ],
)
def test_a_refusal_by_status_says_what_to_do_instead(kind: str, hold: HoldKind | None, proposal: str) -> None:
    assert proposal in refused(standing(Cell(S.EXECUTING, hold)), kind, plain_body(kind))[1]


@pytest.mark.parametrize("kind", TASK_CHANGES)
def test_a_task_that_has_started_is_not_changed(kind: str) -> None:
    world = standing(Cell(S.EXECUTING, None))
    task = world.o.current().task(1)
    assert task is not None
    code, message = refused(world, kind, {**BODIES[kind], "task": 1, "target_revision": task.revision})

    assert (code, message) == (Reason.INVALID_STATE, "task 1 of phase 1 is in_progress; only pending tasks can be changed")


@pytest.mark.parametrize("kind", ["node-cordon", "node-uncordon", "node-drain"])
def test_a_node_is_not_put_where_it_stands_already(kind: str) -> None:
    world = standing(Cell(S.EXECUTING, None))
    if kind != "node-uncordon":
        ask(world, kind, BODIES[kind])
    code, message = refused(world, kind, BODIES[kind])

    assert code == Reason.INVALID_STATE
    assert (
        message
        == {
            "node-cordon": "node n1 is already cordoned",
            "node-uncordon": "node n1 is not cordoned",
            "node-drain": "node n1 is already being drained",
        }[kind]
    )


def test_a_retry_of_what_a_lost_node_held_is_refused_where_no_node_could_take_it() -> None:
    world = standing(Cell(S.EXECUTING, None))
    world.online.clear()
    world.duty(Lost(SHOP_O1, "n1"))
    code, message = refused(world, "retry", plain_body("retry"))

    assert code == Reason.NODE_OFFLINE
    assert message == "node n1 is offline, and no other online node offers shell"


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ({"phase": "2"}, Reason.INVALID_STATE, "not phase 2"),
        ({"phase": "1", "task": 9}, Reason.ENTITY_NOT_FOUND, "no task 9"),
        ({"task": 2}, Reason.INVALID_STATE, "task 2 of phase 1 is pending, not blocked"),
    ],
)
def test_a_retry_of_what_did_not_fail_is_refused(body: dict[str, Any], code: Reason, said: str) -> None:
    found, message = refused(standing(Cell(S.EXECUTING, HoldKind.BLOCKED)), "retry", {"orchestration": SHOP_O1, **body})
    assert found == code
    assert said in message


# ── what is not there ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ORDERS)
@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("shop-o9", Reason.ENTITY_NOT_FOUND, "there is no orchestration shop-o9"),
        ("nope-o1", Reason.ENTITY_NOT_FOUND, "there is no project nope; known: shop"),
        ("shop-d1", Reason.ENTITY_NOT_FOUND, "there is no orchestration shop-d1"),
        ("Shop", Reason.INVALID_PAYLOAD, "id 'Shop' is not valid"),
        ("", Reason.INVALID_PAYLOAD, "id '' is not valid"),
        ("shop-o1\x1b[2J", Reason.INVALID_PAYLOAD, "is not valid"),
    ],
)
def test_an_orchestration_that_is_not_there_is_named(kind: str, name: str, code: Reason, said: str) -> None:
    found, message = refused(standing(Cell(S.EXECUTING, None)), kind, {**BODIES[kind], "orchestration": name})
    assert found == code
    assert said in message


NOT_THERE: list[tuple[str, dict[str, Any], Reason, str]] = [
    *((kind, {"phase": "7"}, Reason.ENTITY_NOT_FOUND, "shop-o1 has no phase '7'; it has 1") for kind in (*TASK_CHANGES, "task-insert")),
    *((kind, {"phase": "one"}, Reason.INVALID_PAYLOAD, "phase 'one' is not valid: N, N.5 or N.5.5") for kind in (*TASK_CHANGES, "task-insert")),
    *((kind, {"task": 77}, Reason.ENTITY_NOT_FOUND, "phase 1 has no task 77; it has 1, 2") for kind in TASK_CHANGES),
    ("task-insert", {"after": 77}, Reason.ENTITY_NOT_FOUND, "phase 1 has no task 77 to insert after; it has 1, 2"),
    ("task-insert", {"depends_on": [77]}, Reason.DEPENDENCY_INVALID, "it depends on task 77, which does not exist"),
    ("task-insert", {"blocks": [77]}, Reason.DEPENDENCY_INVALID, "it blocks task 77, which does not exist"),
    ("task-insert", {"blocks": [1], "depends_on": []}, Reason.DEPENDENCY_INVALID, "it blocks task 1, which is in_progress"),
    ("task-insert", {"depends_on": [2], "blocks": [2]}, Reason.DEPENDENCY_INVALID, "the dependencies form a cycle"),
    ("task-insert", {"depends_on": [3], "blocks": []}, Reason.DEPENDENCY_INVALID, "it depends on task 3, which does not exist"),
    ("task-insert", {"model": "gpt-9"}, Reason.MODEL_UNROUTABLE, "node n1 does not offer gpt-9; it offers"),
    ("task-set-model", {"model": "gpt-9"}, Reason.MODEL_UNROUTABLE, "node n1 does not offer gpt-9; it offers"),
    ("set-role-model", {"model": "gpt-9"}, Reason.MODEL_UNROUTABLE, "node n1 does not offer gpt-9; it offers"),
    ("set-policy", {"patch": {"model": {"planner": "gpt-9"}}}, Reason.MODEL_UNROUTABLE, "node n1 does not offer gpt-9; it offers"),
    ("set-role-model", {"role": "boss"}, Reason.INVALID_PAYLOAD, f"role 'boss' is not known; allowed: {', '.join(Role)}"),
    ("set-policy", {"patch": {"nonsense": {"x": 1}}}, Reason.INVALID_PAYLOAD, "nonsense"),
    ("set-policy", {"patch": {"flow": {"nonsense": 1}}}, Reason.INVALID_PAYLOAD, "nonsense"),
    ("set-policy", {"patch": {"flow": {"max_parallel_tasks": 0}}}, Reason.INVALID_PAYLOAD, "max_parallel_tasks"),
    ("set-policy", {"patch": {"flow": {"on_node_loss": "pray"}}}, Reason.INVALID_PAYLOAD, "pray"),
    ("set-policy", {"patch": {"review": {"enforcement": "none"}}}, Reason.INVALID_PAYLOAD, "enforcement"),
    ("set-policy", {"patch": {"flow": {"run_timeout_s": "long"}}}, Reason.INVALID_PAYLOAD, "run_timeout_s"),
    ("set-policy", {"patch": {"flow": 5}}, Reason.INVALID_PAYLOAD, "flow"),
    ("pause", {"mode": "brake"}, Reason.INVALID_PAYLOAD, "mode"),
    *((kind, {"node": "n9"}, Reason.ENTITY_NOT_FOUND, "there is no node 'n9'; known: n1") for kind in ("node-cordon", "node-uncordon", "node-drain")),
    ("flag-set", {"flag": "cp.fly"}, Reason.ENTITY_NOT_FOUND, f"there is no flag 'cp.fly'; allowed: {', '.join(Flag)}"),
    ("flag-rollback", {"action": "plane-a99"}, Reason.ENTITY_NOT_FOUND, "action plane-a99 is not the last change of a flag; those are none"),
    ("flag-rollback", {"action": "yesterday"}, Reason.INVALID_PAYLOAD, "action 'yesterday' is not valid"),
]


@pytest.mark.parametrize(("kind", "fields", "code", "said"), NOT_THERE)
def test_what_is_not_there_or_not_allowed_is_named_with_what_is(kind: str, fields: dict[str, Any], code: Reason, said: str) -> None:
    found, message = refused(standing(Cell(S.EXECUTING, None)), kind, {**BODIES[kind], **fields})
    assert found == code
    assert said in message


@pytest.mark.parametrize("kind", ["", "Pause", "reboot", "x" * 500, "pause\n"])
def test_an_action_that_does_not_exist_is_named_with_those_that_do(kind: str) -> None:
    code, message = refused(standing(Cell(S.EXECUTING, None)), kind, {"orchestration": SHOP_O1})
    assert code == Reason.UNKNOWN_ACTION
    assert message.startswith("no action is called ")
    assert "pause, resume, cancel, retry" in message


# ── revisions ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("named", [0, 2, 3, 2**31])
@pytest.mark.parametrize("kind", REVISED)
def test_a_revision_that_is_not_the_current_one_is_refused_and_the_current_one_named(kind: str, named: int) -> None:
    code, message = refused(standing(Cell(S.EXECUTING, None)), kind, {**BODIES[kind], "target_revision": named})
    assert code == Reason.REVISION_CONFLICT
    assert f"at revision 1, not {named}" in message


@pytest.mark.parametrize("kind", REVISED)
def test_the_second_of_two_changes_that_saw_the_same_revision_is_refused(kind: str) -> None:
    world = standing(Cell(S.EXECUTING, None))
    first, _, _ = ask(world, kind, BODIES[kind])
    assert first.action is not None
    assert first.action.status is ActionStatus.ACCEPTED
    again = {**BODIES[kind], "blocks": []} if kind == "task-insert" else BODIES[kind]
    code, message = refused(world, kind, again)

    if kind == "task-skip":
        assert (code, message) == (Reason.INVALID_STATE, "task 2 of phase 1 is skipped; only pending tasks can be changed")
    else:
        assert code == Reason.REVISION_CONFLICT
        assert "at revision 2, not 1" in message


# ── form ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


WRONG: tuple[Any, ...] = (True, 7, 2.5, "text", ["text"], {"a": 1}, None)
FITTING: dict[str, tuple[type, ...]] = {
    "orchestration": (str,),
    "mode": (),
    "abandon": (bool,),
    "phase": (str,),
    "task": (int,),
    "note": (str,),
    "feedback": (str,),
    "patch": (dict,),
    "target_revision": (int,),
    "role": (str,),
    "model": (str,),
    "subject": (str,),
    "description": (str,),
    "after": (int,),
    "depends_on": (),
    "blocks": (),
    "node": (str,),
    "flag": (str,),
    "on": (bool,),
    "action": (str,),
}
NULLABLE = {("retry", "phase"), ("retry", "task"), ("task-edit", "subject"), ("task-edit", "description"), ("task-set-model", "model")}
NULLABLE |= {("task-insert", "model"), ("task-insert", "blocks")}
WRONG_TYPES = [
    (kind, field, value)
    for kind, body in BODIES.items()
    for field in body
    for value in WRONG
    if type(value) not in FITTING[field] and not (value is None and (kind, field) in NULLABLE)
]
FIELDS = [(kind, field) for kind, body in BODIES.items() for field in body]


def test_every_control_command_of_the_contract_is_in_the_matrix_with_all_its_fields() -> None:
    catalogue = {name for name in c.COMMAND_TYPES if name.split("-")[0] in ("project", "design", "ticket", "comment", "launch")}
    assert set(BODIES) == set(c.COMMAND_TYPES) - catalogue
    assert {name: set(body) for name, body in BODIES.items()} == {name: set(c.COMMAND_TYPES[name].__struct_fields__) for name in BODIES}


@pytest.mark.parametrize(("kind", "field", "value"), WRONG_TYPES)
def test_a_field_of_the_wrong_type_is_refused_and_named(kind: str, field: str, value: Any) -> None:
    code, message = refused(standing(Cell(S.EXECUTING, None)), kind, {**BODIES[kind], field: value})
    assert code == Reason.INVALID_PAYLOAD
    assert message.startswith(f"{kind}: ")
    assert f"$.{field}" in message


@pytest.mark.parametrize(("kind", "field"), [(kind, field) for kind, field in FIELDS if field not in OPTIONAL.get(kind, set())])
def test_a_field_that_is_missing_is_refused_and_named(kind: str, field: str) -> None:
    body = {name: value for name, value in BODIES[kind].items() if name != field}
    code, message = refused(standing(Cell(S.EXECUTING, None)), kind, body)
    assert (code, message) == (Reason.MISSING_FIELD, f"{kind}: Object missing required field `{field}`")


@pytest.mark.parametrize("kind", BODIES)
def test_a_field_that_is_not_known_is_refused_and_named(kind: str) -> None:
    for name in ("by", "surprise", "Orchestration"):
        code, message = refused(standing(Cell(S.EXECUTING, None)), kind, {**BODIES[kind], name: "x"})
        assert (code, message) == (Reason.INVALID_PAYLOAD, f"{kind}: Object contains unknown field `{name}`")


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("body", [None, [], "text", 5, True])
def test_a_body_that_is_no_object_is_refused(kind: str, body: Any) -> None:
    code, message = refused(standing(Cell(S.EXECUTING, None)), kind, body)
    assert code == Reason.INVALID_PAYLOAD
    assert "Expected `object`" in message


TOO_LONG = [
    ("gate-approve", "note", 2000),
    ("gate-reject", "feedback", 16 * 1024),
    ("set-role-model", "model", 100),
    ("task-edit", "subject", 200),
    ("task-edit", "description", 64 * 1024),
    ("task-set-model", "model", 100),
    ("task-insert", "subject", 200),
    ("task-insert", "description", 64 * 1024),
    ("task-insert", "model", 100),
]


@pytest.mark.parametrize(("kind", "field", "limit"), TOO_LONG)
def test_a_text_that_is_too_long_is_refused_and_the_limit_named(kind: str, field: str, limit: int) -> None:
    code, message = refused(standing(Cell(S.EXECUTING, None)), kind, {**BODIES[kind], field: "x" * (limit + 1)})
    assert code == Reason.TOO_LARGE
    assert f"length <= {limit}" in message
    assert f"$.{field}" in message


@pytest.mark.parametrize("field", ["depends_on", "blocks"])
def test_a_list_that_is_too_long_is_refused_and_the_limit_named(field: str) -> None:
    code, message = refused(standing(Cell(S.EXECUTING, None)), "task-insert", {**BODIES["task-insert"], field: [1] * 501})
    assert code == Reason.TOO_LARGE
    assert "length <= 500" in message


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("gate-reject", {"feedback": ""}),
        ("gate-reject", {"feedback": " \n\t"}),
        ("task-edit", {"subject": ""}),
        ("task-edit", {"subject": "  "}),
        ("task-insert", {"subject": " "}),
        ("set-role-model", {"model": ""}),
    ],
)
def test_a_text_that_is_blank_is_as_good_as_missing(kind: str, fields: dict[str, Any]) -> None:
    assert refused(standing(Cell(S.EXECUTING, None)), kind, {**BODIES[kind], **fields})[0] == Reason.MISSING_FIELD


def test_an_edit_that_names_nothing_is_refused() -> None:
    body = {name: value for name, value in BODIES["task-edit"].items() if name not in OPTIONAL["task-edit"]}
    code, message = refused(standing(Cell(S.EXECUTING, None)), "task-edit", body)
    assert (code, message) == (Reason.MISSING_FIELD, "nothing to change was named: subject or description")


OUT_OF_RANGE: list[tuple[str, str, Any]] = [
    *((kind, "target_revision", value) for kind in REVISED for value in (-1, 2**31 + 1, 2**70)),
    *((kind, "task", value) for kind in (*TASK_CHANGES, "retry") for value in (0, -1, 10_000)),
    ("task-insert", "after", -1),
    ("task-insert", "after", 10_000),
    ("task-insert", "depends_on", [0]),
    ("task-insert", "blocks", [10_000]),
    ("set-policy", "patch", {}),
    ("set-role-model", "model", "-rf"),
    ("set-role-model", "model", "a b"),
]


@pytest.mark.parametrize(("kind", "field", "value"), OUT_OF_RANGE)
def test_a_value_out_of_its_range_is_refused_and_named(kind: str, field: str, value: Any) -> None:
    code, message = refused(standing(Cell(S.EXECUTING, None)), kind, {**BODIES[kind], field: value})
    assert code == Reason.INVALID_PAYLOAD
    assert f"$.{field}" in message or "out of range" in message


# ── flags and reasons ────────────────────────────────────────────────────────────────────────────────────────────────


FLAG_OF = {
    **dict.fromkeys(("pause", "resume", "cancel", "retry", "gate-approve", "gate-reject"), "cp.runtime_controls"),
    **dict.fromkeys(("set-policy", "set-role-model"), "cp.policy_reconfiguration"),
    **dict.fromkeys((*TASK_CHANGES, "task-insert"), "cp.task_reconfiguration"),
}


@pytest.mark.parametrize("kind", ORDERS)
@pytest.mark.parametrize("body", ["good", {}])
def test_a_command_whose_flag_is_off_is_refused_before_its_body_is_looked_at(kind: str, body: Any) -> None:
    world = standing(Cell(S.EXECUTING, None))
    ask(world, "flag-set", {"flag": FLAG_OF[kind], "on": False})
    code, message = refused(world, kind, BODIES[kind] if body == "good" else body)

    assert (code, message) == (Reason.FEATURE_DISABLED, f"flag {FLAG_OF[kind]} is off")


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("reason", [None, "", "  "])
def test_a_command_without_a_reason_is_refused_where_one_is_compulsory(kind: str, reason: str | None) -> None:
    world = standing(Cell(S.EXECUTING, None))
    ask(world, "flag-set", {"flag": "require_reason", "on": True})
    code, message = refused(world, kind, BODIES[kind], reason=reason)

    assert code == Reason.MISSING_FIELD
    assert "--reason TEXT" in message
