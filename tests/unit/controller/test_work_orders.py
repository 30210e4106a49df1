"""Orders are derived from the state, and the largest one fits into a message."""

from __future__ import annotations

from bus_schemas import codec
from bus_schemas import commands as c
from bus_schemas.orders import RunKind, WorkOrder
from bus_schemas.reports import Finding, PlannedTask, PlanResult, ReviewResult, Verdict
from bus_schemas.subjects import PAYLOAD_BYTES_MAX
from controller.work_orders import order_of
from tests.unit.controller.world import SHELL, T0, World


def order(world: World, kind: str) -> WorkOrder:
    run = world.until(kind)
    return order_of(world.project, world.states["plane"].projects["shop"], world.o, run, T0)


def test_an_order_names_everything_its_run_needs() -> None:
    world = World(check="make test", launch=False)
    world.do(c.TicketAdd("shop", "Sum", "right to the cent"))
    world.do(c.Launch("shop-d1", "n1", overrides=SHELL, tickets=("shop-t1",)))
    plan = order(world, "plan")
    task = order(world, "task")
    review = order(world, "task-review")
    verify = order(world, "verify")

    assert [ticket.title for ticket in plan.inputs.tickets] == ["Sum"]
    assert (plan.inputs.phase, plan.kind, plan.role, plan.model) == ("1", RunKind.PLAN, "planner", "shell")
    assert task.inputs.task is not None
    assert (task.inputs.task.subject, task.workspace.base) == ("task 1", ("c0",))
    assert review.inputs.judge == ("c0", review.workspace.base[0])
    assert verify.inputs.check == "make test"
    assert len({plan.nonce, task.nonce, review.nonce, verify.nonce}) == 4


def test_the_same_attempt_gives_the_same_order_from_whatever_controller() -> None:
    world = World()
    run = world.until("task")
    project = world.states["plane"].projects["shop"]

    assert order_of(world.project, project, world.o, run, T0) == order_of(world.project, project, world.o, run, T0)


def test_a_repair_knows_the_issues_and_counts_up_into_the_remediation_phases() -> None:
    world = World()
    repairs = []
    for _ in range(4):
        world.end(world.until("review"), ReviewResult(Verdict.GAPS, (Finding("no test"),)))
        plan = order(world, "plan")
        repairs.append((plan.inputs.phase, plan.inputs.repair, plan.inputs.issues[0].text))

    assert repairs == [("1", 1, "no test"), ("1", 2, "no test"), ("1.5", 3, "no test"), ("1.5.5", 4, "no test")]


def test_the_largest_order_fits_into_a_message() -> None:
    world = World(launch=False)
    # every character costs two bytes on the wire
    world.do(c.DesignEdit("shop-d1", body="## Phase 1\n" + '"' * 199_000))
    for n in range(8):
        world.do(c.TicketAdd("shop", f"t{n}", '"' * 15_000))
    world.do(c.Launch("shop-d1", "n1", overrides=SHELL, tickets=tuple(f"shop-t{n}" for n in range(1, 9))))
    big = '"' * 60_000
    world.end(world.until("plan"), PlanResult(tuple(PlannedTask(n, f"t{n}", big) for n in range(1, 5))))
    findings = tuple(Finding('"' * 15_000) for _ in range(9))
    sizes = [len(codec.encode(order(world, "task")))]
    world.end(world.until("review"), ReviewResult(Verdict.GAPS, findings))
    sizes.append(len(codec.encode(order(world, "plan"))))

    assert max(sizes) < PAYLOAD_BYTES_MAX
