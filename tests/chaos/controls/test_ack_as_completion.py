"""Control 4: the acknowledgement of an order taken for the record that it was done.

JetStream takes an acknowledgement that comes after its ack wait, and so for a delivery that somebody else is working on: the
message is gone, and if both workers die then, so is the work. The product acknowledges when the start is claimed, and calls
done only what has an end report.
"""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from bus.bootstrap import ensure_all
from bus.connection import Bus, connect
from bus.embedded import EmbeddedServer
from bus.pull import PullLoop
from bus_schemas.reports import Outcome
from tests.integration.node_world import NodeProcess, task_order, until, world

pytestmark = pytest.mark.anyio

ACK_WAIT_S = 0.4


def lost_work(accepted: set[str], waiting: set[str], recorded: set[str], witness: Path) -> list[str]:
    """Return the work that nobody will do: not waiting any more, or recorded as done, and without the witness of its end. Pure."""
    done = set(witness.read_text().split())
    return sorted((accepted - waiting - recorded - done) | (recorded - done))


async def _waits(bus: Bus) -> bool:
    return bool((await bus.api("STREAM.INFO.JOBS"))["state"]["messages"])


async def test_a_late_acknowledgement_makes_work_vanish_where_it_is_the_record_of_completion(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    witness.touch()
    async with EmbeddedServer(tmp_path / "bus") as server:
        first, second = [await connect(server.url, name, server.credentials) for name in ("first", "second")]
        await first.api("STREAM.CREATE.JOBS", {"name": "JOBS", "subjects": ["jobs.>"], "retention": "workqueue", "storage": "file"})
        consumer = {"durable_name": "w", "ack_policy": "explicit", "ack_wait": int(ACK_WAIT_S * 1e9)}
        await first.api("CONSUMER.CREATE.JOBS.w", {"stream_name": "JOBS", "config": consumer, "action": "create"})
        await first.append("jobs.1", b"job-1")
        async with PullLoop(first, "JOBS", "w", want=1) as one:
            stalled = (await one.batch())[0]  # the first worker stalls over its ack wait
        async with PullLoop(second, "JOBS", "w", want=1) as two:
            with anyio.fail_after(10):
                again = (await two.batch())[0]  # the second gets it and begins
        assert again.delivered == 2
        await stalled.ack()  # the first comes back, says that it is done, and dies with what it had
        await first.flush()
        with anyio.fail_after(5):
            while await _waits(second):
                await anyio.sleep(0.02)
        # the second dies in the middle; to whoever takes the acknowledgement for the record, the job is done
        waiting = {"job-1"} if await _waits(second) else set[str]()
        recorded = {"job-1"} - waiting
        assert lost_work({"job-1"}, waiting, recorded, witness) == ["job-1"]
        for bus in (first, second):
            await bus.close()


async def test_the_product_loses_no_order_that_was_acknowledged_and_calls_nothing_done_that_is_not(tmp_path: Path) -> None:
    witness, gate = tmp_path / "witness", tmp_path / "gate"
    witness.touch()
    async with world(tmp_path) as made:
        await ensure_all(made.bus)
        order = task_order(made, 1, f"while [ ! -e {gate} ]; do sleep 0.05; done; echo {'$QD_RUN'} >> {witness}")
        with NodeProcess(made) as node:
            await made.send(order)
            await made.started(order)
            await until(made.orders_are_done)  # acknowledged: by the acknowledgement alone it would be done
            assert lost_work({order.run}, set(), {order.run}, witness) == [order.run]
            node.kill()
        with NodeProcess(made):
            gate.touch()
            ended = await made.ended(order)
        recorded = {order.run} if ended.outcome is Outcome.SUCCEEDED else set[str]()
        assert lost_work({order.run}, set(), recorded, witness) == []
        assert recorded == {order.run}
