"""Status × report, generated from the table: what a report does in the status that takes it, and that it does nothing in every other."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from bus_schemas import commands as c
from bus_schemas import events as e
from bus_schemas.decisions import Decision, TimerCause
from bus_schemas.events import HoldKind, RunStatus
from bus_schemas.events import OrchestrationStatus as S
from bus_schemas.orders import RunKind
from bus_schemas.reports import Finding, Outcome, Result, ReviewResult, Usage, ValidateResult, Verdict, VerifyResult
from controller.orchestration import LIVE, Orchestration, Run
from controller.progress import REQUIRES, TABLE
from controller.reports import Repeated
from tests.unit.controller.world import GAPS, World

GOOD_OR_BAD = [*Outcome]
CELLS = list(itertools.product(RunKind, S))
STALE_CELLS = [(kind, status) for kind, status in CELLS if REQUIRES[kind] is not status]
VERDICTS: dict[RunKind, tuple[Result, ...]] = {
    RunKind.VALIDATE: (ValidateResult(Verdict.PASS), ValidateResult(Verdict.WARNING), ValidateResult(Verdict.STOP, (Finding("no"),))),
    RunKind.TASK_REVIEW: (ReviewResult(Verdict.PASS), GAPS),
    RunKind.REVIEW: (ReviewResult(Verdict.PASS), GAPS),
    RunKind.VERIFY: (VerifyResult(True, 0), VerifyResult(False, 1, "boom")),
}


def with_open(kind: RunKind) -> tuple[World, Run]:
    """Return a world in which a run of this kind has started, and that run."""
    world = World(check="make test")
    run = world.until(kind.value)
    world.start(run)
    return world, run


def put_into(world: World, status: S) -> None:
    """Make the orchestration stand in another status, without what a decision would do besides."""
    moved = e.OrchestrationMoved(orchestration="shop-o1", status=status, previous=world.o.status)
    world._append("shop", Decision(at=world.now, cause=TimerCause("test"), events=(moved,)))


def but_for_the_run(o: Orchestration, run: Run) -> Orchestration:
    """Return the orchestration without what any end is recorded with: the run, and what it cost."""
    task_attempts = tuple(
        msgspec.structs.replace(phase, tasks=tuple(msgspec.structs.replace(task, attempts=0) for task in phase.tasks)) for phase in o.phases
    )
    runs = tuple(known for known in o.runs if known.id != run.id)
    return msgspec.structs.replace(o, runs=runs, phases=task_attempts, tokens=0, usd=None)


def test_the_table_has_a_row_for_every_report_and_no_second_one() -> None:
    assert [row.report for row in TABLE] == list(RunKind)
    assert {row.report: row.requires for row in TABLE} == REQUIRES


def test_every_live_status_takes_a_report_and_no_ended_one_does() -> None:
    assert {row.requires for row in TABLE} == LIVE
    assert not LIVE & {S.COMPLETE, S.FAILED, S.CANCELLED}


def test_a_row_leads_only_to_statuses_of_which_each_can_be_left_or_is_an_end() -> None:
    assert {then for row in TABLE for then in row.then} | {S.LAUNCHING, S.CANCELLED} == set(S)


@pytest.mark.parametrize("outcome", GOOD_OR_BAD)
@pytest.mark.parametrize(("kind", "status"), STALE_CELLS)
def test_a_report_in_a_status_that_does_not_take_it_is_stale_and_changes_nothing(kind: RunKind, status: S, outcome: Outcome) -> None:
    world, run = with_open(kind)
    put_into(world, status)
    before = world.o
    decision = world.end(run, usage=Usage(3, 4, 0.5)) if outcome is Outcome.SUCCEEDED else world.fail(run, outcome=outcome)

    assert [type(event) for event in decision.events] == [e.RunEnded, e.ReportStale]
    stale = decision.events[1]
    assert (stale.run, stale.attempt, stale.kind) == (run.id, run.attempt, "ended")
    assert (f"it is {status}" if status in LIVE else f"shop-o1 is {status}") in stale.message
    assert but_for_the_run(world.o, run) == but_for_the_run(before, run)
    ended = world.o.run(run.id)
    assert ended is not None
    assert (ended.status.value, ended.is_open) == (outcome.value, False)
    assert world.o.tokens - before.tokens == (7 if outcome is Outcome.SUCCEEDED else 0)


@pytest.mark.parametrize("kind", RunKind)
@pytest.mark.parametrize("status", sorted(S))
def test_a_report_that_was_stale_is_only_acknowledged_when_it_comes_again(kind: RunKind, status: S) -> None:
    world, run = with_open(kind)
    put_into(world, status)
    world.end(run)
    before = len(world.ledger)

    assert world.end(run) == Repeated()
    assert world.start(run) == Repeated()
    assert len(world.ledger) == before


@pytest.mark.parametrize("kind", RunKind)
def test_a_report_in_the_status_that_takes_it_leads_to_where_its_row_says(kind: RunKind) -> None:
    row = next(row for row in TABLE if row.report is kind)
    for result in VERDICTS.get(kind, (None,)):
        world, run = with_open(kind)
        assert world.o.status is row.requires
        decision = world.end(run, result)

        assert not any(isinstance(event, e.ReportStale) for event in decision.events)
        assert world.o.status in {*row.then, row.requires}
        assert world.open() or world.holds or not world.o.is_live


@pytest.mark.parametrize("status", sorted({*S} - LIVE))
@pytest.mark.parametrize("kind", RunKind)
def test_a_start_in_an_orchestration_that_has_ended_is_recorded_and_starts_nothing(kind: RunKind, status: S) -> None:
    world = World(check="make test")
    run = world.until(kind.value)
    put_into(world, status)
    decision = world.start(run)

    assert isinstance(decision, Decision)
    assert [type(event) for event in decision.events] == [e.RunStarted]
    assert world.o.status is status


@pytest.mark.parametrize("status", sorted({*S} - LIVE))
@pytest.mark.parametrize("kind", RunKind)
def test_an_order_withdrawn_from_an_orchestration_that_has_ended_is_not_queued_again(kind: RunKind, status: S) -> None:
    world = World(check="make test")
    run = world.until(kind.value)
    put_into(world, status)
    decision = world.withdraw(run)

    assert isinstance(decision, Decision)
    assert [type(event) for event in decision.events] == [e.RunWithdrawn]
    assert world.open() == []


@pytest.mark.parametrize("kind", RunKind)
def test_an_end_of_an_attempt_that_was_withdrawn_is_stale(kind: RunKind) -> None:
    world = World(check="make test")
    run = world.until(kind.value)
    world.do(c.Cancel("shop-o1"))
    world.withdraw(run)
    before = world.o
    decision = world.end(run)

    assert [(type(event), event.message) for event in decision.events] == [(e.ReportStale, "the attempt was withdrawn")]
    assert world.o == before
    assert before.runs[-1].status is RunStatus.WITHDRAWN


@pytest.mark.parametrize("kind", RunKind)
@pytest.mark.parametrize("hold", [HoldKind.PAUSING, HoldKind.PAUSED, HoldKind.BUDGET, HoldKind.QUOTA])
def test_under_a_hold_that_stops_a_report_is_taken_and_what_follows_waits(kind: RunKind, hold: HoldKind) -> None:
    world, run = with_open(kind)
    before = world.o.status
    put_hold = e.HoldSet(orchestration="shop-o1", hold=hold, reason="held")
    world._append("shop", Decision(at=world.now, cause=TimerCause("test"), events=(put_hold,)))
    decision = world.end(run)

    assert not any(isinstance(event, e.ReportStale) for event in decision.events)
    assert world.o.outstanding() == ()
    assert all(left.held for left in world.open())
    assert world.o.status is not before or world.open() or kind in (RunKind.PLAN, RunKind.TASK, RunKind.TASK_REVIEW)
