"""Bugs that the simulation found, each as the smallest thing that shows it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import anyio
import anyio.lowlevel
import pytest
from msgspec.structs import replace
from nats.aio.msg import Msg

from bus.bootstrap import Sync, ensure_all
from bus.connection import Bus, Credentials, Stored, connect
from bus.pull import Delivery
from bus.request import CommandClient, QueryService, ask
from bus_schemas import codec, subjects
from bus_schemas import commands as c
from bus_schemas import events as e
from bus_schemas.decisions import Decision, TimerCause
from bus_schemas.reports import Ended, Outcome, Report, Started
from cli.audit import evidence as audit
from cli.audit.judge import verify
from controller.batch import Batch, ReportItem
from controller.heads import decide_heads
from controller.lane import Lane
from controller.ledger import Ledger
from controller.project import Aggregate
from controller.service import Controller
from tests.simulation.actors import URL
from tests.simulation.exhaustive import scenario
from tests.simulation.host import SimHost
from tests.simulation.jetstream import SimServer
from tests.simulation.link import Network
from tests.simulation.loop import SimLoop, simulate
from tests.simulation.schedule import Fault
from tests.simulation.world import play
from tests.unit.controller.world import World as Story

T0 = datetime(2030, 1, 1, tzinfo=UTC)


def test_recording_heads_does_not_turn_the_time_of_the_registry_back() -> None:
    # seed 7: a controller whose clock is behind takes over and records heads
    decision = decide_heads(Aggregate("plane", at=T0), {"shop": (5, "0" * 64)}, T0 - timedelta(seconds=3))

    assert decision is not None
    assert decision.at == T0


@pytest.mark.parametrize("seed", [5, 8, 10, 11])
def test_what_a_stopped_controller_stores_after_it_was_replaced_is_acted_on(seed: int) -> None:
    # it is stopped before the append of a launch for longer than its lease, goes on, stores, answers, and dies before it sends the order:
    # the launch is acknowledged, and nobody asks again
    base = scenario()
    for controller in base.controllers:
        faults = (
            Fault(0.0, "stall-at", controller, 3.6, amount=1, place="controller.decided"),
            Fault(0.02, "failpoint", controller, 20.0, amount=1, place="controller.before-order"),
        )
        result = play(replace(base, seed=seed, ops=base.ops[:1], faults=faults, chaos_s=30.0))
        assert not result.violations, result.violations


def _stored(story: Story) -> list[Stored]:
    """Return the ledger of a story as its stream would hold it."""
    heads: dict[str, str] = {}
    found: list[Stored] = []
    for seq, message in story.ledger:
        data = codec.encode(replace(message, prev=heads.get(message.project, codec.ZERO_HASH)))
        heads[message.project] = codec.body_sha256(data)
        found.append(Stored(subjects.ledger(message.project), seq, T0, data, {}))
    return found


def _verdict(story: Story) -> list[str]:
    """Return what the verifier finds wrong with how the orchestrations of a story move; its keys and registry are made up."""
    ledger = [audit.Stored(stored.seq, stored.subject, T0.timestamp(), stored.data) for stored in _stored(story)]
    return [
        f"{found.invariant} {found.where}: {found.text}" for found in verify(audit.Evidence(ledger=ledger)).violations if found.invariant == "I20"
    ]


def test_a_phase_that_is_complete_is_not_checked_again_while_finalize_waits_for_its_gate() -> None:
    # seed 30075: without a phase review the orchestration still executes when it asks for finalize
    overrides = {"review": {"enforcement": "task_only"}, "flow": {"human_gates": ["finalize"]}}
    story = Story(overrides=overrides)
    while not story.o.holds:
        story.step()
    assert story.status == "executing"
    checks = len(story.events(e.VerifyRecorded))

    story.do(c.Pause("shop-o1"))
    story.do(c.Resume("shop-o1"))
    story.do(c.PolicySet("shop-o1", {"flow": {"max_parallel_tasks": 3}}, 1))
    story.do(c.GateReject("shop-o1", "not yet"))
    story.do(c.Retry("shop-o1"))

    assert story.o.gate is not None
    assert len(story.events(e.VerifyRecorded)) == checks
    assert len([event for event in story.events() if isinstance(event, e.PhaseMoved) and event.status == "complete"]) == 1
    assert not _verdict(story)


def test_a_second_reviewer_that_is_wanted_while_the_first_one_reads_is_asked() -> None:
    # seed 1004: consensus was turned on, the first verdict waited for a second one, and nobody had ordered it
    story = Story(overrides={"review": {"enforcement": "phase_only"}})
    first = story.until("review")
    story.start(first)
    story.do(c.PolicySet("shop-o1", {"model": {"review_consensus": True}}, 1))
    story.end(first)
    story.finish()

    assert story.status == "complete"
    assert [event.reviewer for event in story.events() if isinstance(event, e.VerdictRecorded)] == ["primary", "secondary"]
    assert not _verdict(story)


def test_a_second_reviewer_that_failed_and_is_not_wanted_any_more_does_not_hold_the_phase() -> None:
    overrides = {"model": {"review_consensus": True}, "review": {"enforcement": "phase_only"}, "flow": {"max_task_attempts": 1}}
    story = Story(overrides=overrides)
    story.until("review")
    first, second = story.open("review")
    story.end(first)
    story.start(second)
    story.fail(second)
    story.do(c.PolicySet("shop-o1", {"model": {"review_consensus": False}}, 1))
    story.do(c.Retry("shop-o1"))
    story.finish()

    assert story.status == "complete"
    assert not story.o.open_actions
    assert not _verdict(story)


def test_an_order_that_was_published_twice_is_marked_as_dispatched_once() -> None:
    # seed 30335: after a take-over, or in one controller that begins again from the ledger
    story = Story()
    run = story.open()[0]
    ledger = Ledger(None, "c1")  # type: ignore[arg-type]
    for stored in _stored(story):
        assert ledger.fold_stored(stored) is not None
    batch = Batch(ledger, "shop", replace(story.context(), plane=ledger.plane))
    mark = e.RunDispatched("shop-o1", run.id, run.attempt)
    for _ in range(2):
        batch.add(Decision(at=story.now, cause=TimerCause("test")))
        batch.mark_dispatched([mark, mark])

    assert [event for decision in batch.decisions for event in decision.events] == [mark]


async def _append(bus: Bus, stored: Stored) -> None:
    last = await bus.last(subjects.LEDGER, stored.subject)
    await bus.append(stored.subject, stored.data, expect_last=0 if last is None else last.seq)


def test_a_disbelief_from_a_time_when_less_was_known_buries_no_report() -> None:
    # seed 30184: a stalled controller holds reports on a run that its replacement has ordered; deciding the first one reads that back
    story = Story()
    run = story.open()[0]
    *known, launched = _stored(story)
    reports: tuple[tuple[str, Report], ...] = (("started", Started(1, "boot", "claim", T0)), ("ended", Ended(1, Outcome.LOST, T0)))

    async def main(loop: SimLoop) -> tuple[int, int]:
        network = Network(loop)
        server = SimServer(network)
        server.start()

        async def stalled() -> tuple[int, int]:
            bus = await connect(URL, "c1", Credentials("c1"), retry=True)
            await ensure_all(bus, sync=Sync.ALWAYS)
            for stored in known:
                await _append(bus, stored)
            controller = Controller(bus, "c1", Sync.ALWAYS)
            await controller.ledger.catch_up()
            lane = controller._lanes["shop"] = Lane(controller.ledger, "shop", controller._context, lambda _: [], controller._after)
            batch = Batch(controller.ledger, "shop", replace(story.context(), plane=controller.ledger.plane))
            for kind, report in reports:
                subject = subjects.report(run.node, "shop", run.id, run.attempt, run.nonce, kind)
                message = Msg(bus.nc, subject, "$JS.ACK.REP.c.1.1.1.1.0", codec.encode(report))
                batch.take(ReportItem(Delivery(bus, message), subjects.parse_report(subject), report))
            assert all(answer.dead_letter is not None for answer in batch.answers), "it does not know the run"
            await _append(bus, launched)
            await controller._after(batch, None)
            await bus.close()
            return len(lane), len(server.stored(subjects.DLQ))

        return await SimHost(loop, network, "c1").run(stalled())

    assert simulate(main, 1) == (len(reports), 0)


def test_a_command_that_is_read_while_the_lease_is_given_back_does_not_end_the_controller() -> None:
    # seed 1012530: the lease was lost and the pull loop, not yet cancelled, had the first command of a project in its hands
    story = Story()

    async def main(loop: SimLoop) -> list[str]:
        network = Network(loop)
        server = SimServer(network)
        server.start()

        async def replaced() -> list[str]:
            bus = await connect(URL, "c1", Credentials("c1"), retry=True)
            await ensure_all(bus, sync=Sync.ALWAYS)
            controller = Controller(bus, "c1", Sync.ALWAYS)
            await controller.stand_by()
            for stored in _stored(story):
                await _append(bus, stored)
            await controller.ledger.catch_up()
            body = codec.encode(CommandClient(bus, c.Via.CLI).envelope(c.TicketAdd("shop", "a ticket"), "k-1"))
            message = Msg(bus.nc, subjects.command("ops1", "shop", "ticket-add", False), "$JS.ACK.CMD.c.1.1.1.1.0", body)
            release = controller._ownership.release

            async def read_and_release() -> None:
                assert controller._on_command(Delivery(bus, message)) is None
                await release()

            controller._ownership.release, controller._ownership.keep = read_and_release, anyio.lowlevel.checkpoint  # type: ignore[method-assign]
            await controller.be_active()
            await bus.close()
            return [stored.subject for stored in server.stored(subjects.LEDGER) if b"a ticket" in stored.data]

        return await SimHost(loop, network, "c1").run(replaced())

    assert simulate(main, 1) == [], "it is decided by whoever is active now"


def test_queries_that_are_to_be_answered_while_the_bus_is_away_are_answered_once_it_is_back() -> None:
    # seed 22: a controller took over just before it was cut off; nats-py's service gave up after ten seconds, and the controller ended
    async def main(loop: SimLoop) -> dict[str, object]:
        network = Network(loop)
        SimServer(network).start()

        async def hello(_: dict[str, object]) -> dict[str, object]:
            return {"hello": "there"}

        async def serve() -> None:
            bus = await connect(URL, "c1", Credentials("c1"), retry=True)
            network.cut("c1")
            await QueryService(bus, "controller", "1.0.0", {"hello": hello}).run()

        async def asks() -> dict[str, object]:
            bus = await connect(URL, "k1", Credentials("k1"), retry=True)
            await anyio.sleep(30)
            network.heal("c1")
            await anyio.sleep(5)
            assert not serving.done(), serving.exception()
            return await ask(bus, "hello", {})

        serving = SimHost(loop, network, "c1").run(serve())
        return await SimHost(loop, network, "k1").run(asks())

    assert simulate(main, 1) == {"hello": "there"}


def test_a_controller_whose_clock_is_days_ahead_deletes_no_reports_of_today() -> None:
    # seed 2168: an end that its node could not know to be stored was deleted, and stored a second time; a start claim would go the same way
    base = scenario()
    faults = (Fault(0.01, "clock", "c1", amount=3 * 86400.0), Fault(0.01, "clock", "c2", amount=3 * 86400.0), Fault(1.0, "kill", "c1", 0.3))
    result = play(replace(base, faults=(*faults, Fault(1.0, "kill", "c2", 0.3))))

    assert not result.violations
    assert result.seen.get("a report was deleted", 0) == 0
