"""The node agent against a real server and a real repository, with the test in the place of the controller."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest
from msgspec.structs import replace

from bus.errors import Denied
from bus_schemas import codec, subjects
from bus_schemas.orders import RunKind, WorkOrder
from bus_schemas.reports import (
    Ended,
    FinalizeResult,
    InitResult,
    Outcome,
    PlanResult,
    ReviewResult,
    RunningAttempt,
    TaskResult,
    ValidateResult,
    Verdict,
    VerifyResult,
    Withdrawn,
)
from bus_schemas.routing import AgentOffer
from node_agent.executor import RunContext
from node_agent.service import DataInUse, serve
from tests.integration.bus_world import built
from tests.integration.node_world import (
    World,
    git,
    make_consumers,
    make_order,
    make_repository,
    node,
    processes_with,
    report_subject,
    task_order,
    until,
    world,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as found:
        yield found


async def test_a_whole_orchestration_ends_as_a_branch_of_the_repository(made: World) -> None:
    (made.repo / "README").write_text("edited, not committed\n")
    (made.repo / "note").write_text("untracked\n")
    before = git(made.repo, "status", "--porcelain=v2", "--branch"), git(made.repo, "for-each-ref", "refs/heads")
    began = time.monotonic()
    async with node(made):
        init = (await made.do(make_order(made.repo, RunKind.INIT, 1))).result
        assert isinstance(init, InitResult)
        assert init.branch == "qd/greeter"
        assert init.base == git(made.repo, "rev-parse", "main")

        validated = await made.do(make_order(made.repo, RunKind.VALIDATE, 2, base=(init.base,)))
        assert validated.result == ValidateResult(Verdict.PASS)
        assert validated.head == init.base

        plan = (await made.do(make_order(made.repo, RunKind.PLAN, 3, base=(init.base,)))).result
        assert isinstance(plan, PlanResult)
        assert [(task.number, task.subject, task.depends_on) for task in plan.tasks] == [(1, "write the greeting", ()), (2, "shout it", (1,))]

        first = await made.do(make_order(made.repo, RunKind.TASK, 4, base=(init.base,), task=1))
        assert isinstance(first.result, TaskResult)
        assert (first.result.base, first.result.files, first.result.insertions) == (init.base, 1, 1)
        assert first.head == first.result.head == git(made.repo, "rev-parse", "refs/qd/shop-o1/shop-o1-r4.1")
        assert first.head is not None

        judged = await made.do(make_order(made.repo, RunKind.TASK_REVIEW, 5, base=(first.head,), task=1))
        assert judged.result == ReviewResult(Verdict.PASS)

        gaps = await made.do(make_order(made.repo, RunKind.REVIEW, 6, base=(first.head,)))
        assert gaps.outcome is Outcome.SUCCEEDED
        assert isinstance(gaps.result, ReviewResult)
        assert gaps.result.verdict is Verdict.GAPS
        assert "exit code 2" in gaps.result.findings[0].text

        second = await made.do(make_order(made.repo, RunKind.TASK, 7, base=(first.head,), task=2))
        assert second.head is not None
        verified = await made.do(make_order(made.repo, RunKind.VERIFY, 8, base=(second.head,), check="cat shout.txt; exit 4"))
        assert verified.outcome is Outcome.SUCCEEDED
        assert verified.result == VerifyResult(passed=False, exit_code=4, tail="HELLO\n")

        reviewed = await made.do(make_order(made.repo, RunKind.REVIEW, 9, base=(second.head,)))
        assert reviewed.result == ReviewResult(Verdict.PASS)

        final = (await made.do(make_order(made.repo, RunKind.FINALIZE, 10, base=(second.head,)))).result
        assert final == FinalizeResult(second.head, "qd/greeter", ("refs/heads/qd/greeter", "refs/qd/shop-o1/summary"))
        printed = await made.output(make_order(made.repo, RunKind.TASK, 4))
    assert time.monotonic() - began < 15

    assert printed == b"repair 0 of 1/1\n"
    assert git(made.repo, "log", "--format=%an <%ae> %s", "main..qd/greeter").splitlines() == [
        "Quarterdeck <qd@localhost> shout it",
        "Quarterdeck <qd@localhost> write the greeting",
    ]
    assert "Quarterdeck-Run: shop-o1-r7.1\nQuarterdeck-Task: 1/2" in git(made.repo, "log", "-1", "--format=%B", "qd/greeter")
    assert git(made.repo, "show", "qd/greeter:shout.txt") == "HELLO"
    assert "shout it" in git(made.repo, "cat-file", "-p", "refs/qd/shop-o1/summary")
    # of what the operator has, nothing moved
    after_refs = "\n".join(line for line in git(made.repo, "for-each-ref", "refs/heads").splitlines() if "refs/heads/qd/" not in line)
    assert (git(made.repo, "status", "--porcelain=v2", "--branch"), after_refs) == before
    # ended runs leave no folders behind
    assert list((made.folder / "node" / "runs").iterdir()) == []
    assert sorted(path.name for path in (made.folder / "node" / "work" / "shop-o1").iterdir()) == ["clone", "clone.config"]


async def test_an_order_that_comes_twice_runs_once(made: World) -> None:
    witness = made.folder / "witness"
    order = task_order(made, 1, f"echo ran >> {witness}; sleep 0.3")
    async with node(made):
        await made.send(order)
        await made.started(order)
        await made.send(order)  # while it runs
        assert (await made.ended(order)).outcome is Outcome.SUCCEEDED
        await made.send(order)  # after its end
        other = task_order(made, 2, "true")
        await made.do(other)
        await until(made.orders_are_done)
    async with node(made):
        await made.send(order)  # to a node agent that was started anew
        await made.do(task_order(made, 3, "true"))
        await until(made.orders_are_done)

    assert witness.read_text() == "ran\n"


async def test_a_withdrawn_order_never_runs(made: World) -> None:
    witness = made.folder / "witness"
    order = task_order(made, 1, f"touch {witness}")
    withdrawal = Withdrawn(codec.VERSION, "controller", datetime.now(UTC))
    assert await made.bus.write_once(report_subject(order, "started"), codec.encode(withdrawal))
    async with node(made):
        await made.send(order)
        await made.do(task_order(made, 2, "true"))
        await until(made.orders_are_done)
        assert await made.bus.last(subjects.REP, report_subject(order, "ended")) is None
        assert RunningAttempt("shop-o1-r1", 1) not in (await made.beat()).running

    assert not witness.exists()


async def test_a_stop_ends_a_run_as_cancelled_with_its_reason(made: World) -> None:
    order = task_order(made, 1, "echo going; trap '' TERM; (setsid sleep 300 &) ; sleep 300")
    async with node(made):
        await made.send(order)
        await until(lambda: made.output(order))
        await made.stop(order)
        await anyio.sleep(0.05)
        await made.stop(replace(order, nonce="another"))  # of an attempt that is not here: harmless
        ended = await made.ended(order)

    assert (ended.outcome, ended.reason_code, ended.process_started) == (Outcome.CANCELLED, "dispatch_cancelled", True)
    assert ended.tail == "going\n"


async def test_a_stop_that_comes_before_its_order_keeps_it_from_starting(made: World) -> None:
    witness = made.folder / "witness"
    order = task_order(made, 1, f"touch {witness}")
    async with node(made):
        await made.stop(order, "dispatch_timeout")
        await until(made.a_stop_was_taken)
        ended = await made.do(order)

    assert (ended.outcome, ended.reason_code, ended.process_started) == (Outcome.CANCELLED, "dispatch_timeout", False)
    assert not witness.exists()


async def test_a_failed_task_says_why_and_keeps_what_it_left(made: World) -> None:
    order = task_order(made, 1, "echo half > half.txt\nls /nowhere\necho not reached")
    async with node(made):
        ended = await made.do(order)

    assert (ended.outcome, ended.reason_code, ended.exit_code, ended.head) == (Outcome.FAILED, "dispatch_cli_exit_nonzero", 2, None)
    assert "/nowhere" in ended.tail
    assert "not reached" not in ended.tail
    assert git(made.repo, "show", "refs/qd/shop-o1/shop-o1-r1.1:half.txt") == "half"


async def test_a_task_over_its_time_limit_is_stopped_with_all_its_descendants(made: World) -> None:
    mark = f"qd-test-{os.getpid()}"
    order = task_order(made, 1, f"trap '' TERM\n(setsid sh -c ': {mark}; sleep 300' &)\n: {mark}; sleep 300", timeout_s=0.5)
    async with node(made):
        ended = await made.do(order)

    assert (ended.outcome, ended.reason_code) == (Outcome.TIMED_OUT, "dispatch_timeout")
    assert processes_with(mark) == []


async def test_tasks_that_ran_side_by_side_are_merged_for_the_next_run(made: World) -> None:
    async with node(made):
        left = await made.do(task_order(made, 1, "echo left > left"))
        right = await made.do(task_order(made, 2, "echo right > right"))
        clash = await made.do(task_order(made, 3, "echo other > left"))
    assert left.head
    assert right.head
    assert clash.head
    async with node(made):
        verified = await made.do(make_order(made.repo, RunKind.VERIFY, 4, base=(left.head, right.head), check="cat left right"))
        conflict = await made.do(make_order(made.repo, RunKind.VERIFY, 5, base=(left.head, right.head, clash.head), check="true"))

    assert verified.result == VerifyResult(passed=True, exit_code=0, tail="left\nright\n")
    assert git(made.repo, "log", "-1", "--format=%P %s", verified.head or "") == f"{left.head} {right.head} Merge 'a block'"
    assert git(made.repo, "rev-parse", "refs/qd/shop-o1/shop-o1-r4.1") == verified.head
    assert (conflict.outcome, conflict.reason_code, conflict.process_started) == (Outcome.FAILED, "execution_merge_conflict", True)
    assert "left" in conflict.detail


async def test_a_model_that_no_agent_takes_and_a_task_without_a_block_are_failures_of_their_own(made: World) -> None:
    async with node(made):
        unroutable = await made.do(task_order(made, 1, "true", model="opus"))
        order = task_order(made, 2, "true")
        assert order.inputs.task is not None
        blockless = replace(order, inputs=replace(order.inputs, task=replace(order.inputs.task, description="only words")))
        empty = await made.do(blockless)

    assert (unroutable.outcome, unroutable.reason_code, unroutable.process_started) == (Outcome.FAILED, "dispatch_cli_not_found", False)
    assert "opus" in unroutable.detail
    assert (empty.outcome, empty.reason_code) == (Outcome.FAILED, "dispatch_payload_invalid")
    assert "a block" in empty.detail


async def test_orders_that_cannot_be_read_are_terminated_and_do_not_stop_the_node(made: World) -> None:
    foreign = replace(task_order(made, 1, "true"), node="b")
    async with node(made):
        await made.bus.append("qd.work.a.shop-o1-r7.1", b"{not json")
        await made.bus.append("qd.work.a.shop-o1-r8.1", codec.encode(foreign))
        await made.bus.append("qd.work.a.shop-o1-r9.1", codec.encode(replace(foreign, node="a", run="../../etc")))
        await made.bus.append("qd.ctl.a.shop-o1-r9.1", b"\x00")
        assert (await made.do(task_order(made, 2, "true"))).outcome is Outcome.SUCCEEDED
        await until(made.orders_are_done)


async def test_the_node_waits_for_its_consumers_and_says_what_it_is(tmp_path: Path) -> None:
    async with world(tmp_path, consumers=False) as made, node(made, labels={"zone": "x"}, capacity=3):
        beat = await made.beat()
        assert (beat.node, beat.capacity, beat.labels, beat.draining) == ("a", 3, {"zone": "x"}, False)
        assert [(agent.name, agent.models) for agent in beat.agents] == [("shell", ("shell",))]
        await make_consumers(made)
        assert (await made.do(task_order(made, 1, "true"))).outcome is Outcome.SUCCEEDED


async def test_a_node_with_a_key_of_its_own_needs_no_more_than_a_node_may_do(tmp_path: Path) -> None:
    repo = make_repository(tmp_path / "repo")
    async with built(tmp_path / "bus") as accounts, anyio.create_task_group() as tasks:
        made = World(accounts.server, accounts.controller, repo, tmp_path)
        config = made.config(seed_file=accounts.seeds["a"])
        await tasks.start(lambda task_status: serve(config, task_status=task_status))
        order = task_order(made, 2, "echo hello; echo x > x; sleep 0.3")
        lost = task_order(made, 3, "true")
        assert await made.bus.write_once(report_subject(lost, "started"), b"withdrawn, or rubbish")
        await made.send(lost)
        assert (await made.do(order)).outcome is Outcome.SUCCEEDED
        stopped = task_order(made, 4, "echo up; sleep 60")
        await made.send(stopped)
        await until(lambda: made.output(stopped))
        await made.stop(stopped)
        assert (await made.ended(stopped)).outcome is Outcome.CANCELLED
        assert await made.output(order) == b"hello\n"
        await until(made.orders_are_done)
        assert (await made.beat()).node == "a"
        tasks.cancel_scope.cancel()


async def test_a_node_with_a_wrong_token_is_denied(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        with pytest.raises(Denied):
            await serve(made.config(token="wrong"))


async def test_a_data_folder_serves_one_node_agent(made: World) -> None:
    async with node(made):
        with pytest.raises(DataInUse, match="another node agent"):
            await serve(made.config())


async def test_a_node_takes_no_more_orders_than_it_has_slots(made: World) -> None:
    gate = made.folder / "gate"
    orders = [task_order(made, number, f"while [ ! -e {gate} ]; do sleep 0.05; done") for number in range(1, 5)]
    async with node(made, capacity=2):
        for order in orders:
            await made.send(order)
        await made.started(orders[0])
        await made.started(orders[1])
        await anyio.sleep(0.7)
        assert await made.bus.last(subjects.REP, report_subject(orders[2], "started")) is None
        assert (await made.bus.api(f"CONSUMER.INFO.{subjects.WORK}.work-a"))["num_pending"] == 2
        gate.touch()
        assert [(await made.ended(order)).outcome for order in orders] == [Outcome.SUCCEEDED] * 4


async def test_one_run_that_breaks_the_executor_does_not_end_the_node(made: World) -> None:
    class Broken:
        recovers = False

        def offers(self) -> tuple[AgentOffer, ...]:
            return ()

        async def run(self, order: WorkOrder, context: RunContext) -> Ended:
            raise KeyError("a bug")

        async def forget(self, order: WorkOrder) -> None:
            assert order.project == "shop"

        def leave(self, contexts: list[RunContext]) -> None:
            assert contexts == []

    order = task_order(made, 1, "true")
    async with anyio.create_task_group() as tasks:
        await tasks.start(lambda task_status: serve(made.config(), executor=Broken(), task_status=task_status))
        ended = await made.do(order)
        tasks.cancel_scope.cancel()
    assert (ended.outcome, ended.reason_code) == (Outcome.FAILED, "execution_internal")
    assert "a bug" in ended.detail
