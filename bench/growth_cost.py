"""What a launch costs beside many stored ones: decided, encoded, appended, indexed. One process, which prints its figures as JSON.

Owns a connection, and an index file while no controller has it. The ledger and the bus are the real ones, and the code is that of a
lane; only processor time of this process is counted, so a slow disk or a busy machine weighs little.
"""

from __future__ import annotations

import argparse
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import anyio
import msgspec
from nats.aio.msg import Msg

from bench import work
from bench.figures import Figures, percentile, rounded
from bench.growth_ledger import preset_keys
from bus.connection import Bus, Credentials, connect
from bus.foreground import spare_collector
from bus.pull import Delivery
from bus_schemas import codec, subjects
from bus_schemas import commands as c
from controller.batch import Batch, CommandItem
from controller.draft import Context
from controller.index import Index
from controller.ledger import Ledger

BATCH = 32
WRITE_EVERY = 256
"""Launches between two writes of the index: half a second at 512 a second."""
LOOKUPS = 20_000


def item(bus: Bus, number: int, series: str) -> CommandItem:
    """Return a launch as it is taken from the command stream."""
    command = work.launch(number, series)
    kind, body, key = c.type_of(command), codec.command_body(command), work.key(number, series)
    now_ns = time.time_ns()
    reply = f"$JS.ACK.{subjects.CMD}.controller.1.{number + 1}.{number + 1}.{now_ns}.0"
    message = Msg(_client=bus.nc, subject="", reply=reply, data=b"")
    envelope = c.CommandEnvelope(codec.VERSION, kind, key, datetime.now(UTC), c.Via.API, key, body)
    subject = subjects.CommandSubject("local", work.PROJECT, kind, False)
    return CommandItem(Delivery(bus, message), subject, envelope, command, codec.body_hash(kind, body))


async def cost(bus: Bus, data: Path, launches: int, series: str) -> Figures:
    """Return the processor time of a launch in microseconds, that of a key that is looked up, and how many were launched.

    `launch_quiet_us` is the tenth percentile: what it costs where other work on the machine does not push ours out of its caches.
    """
    index = Index.open(data, "growth-cost")
    assert index is not None
    ledger = Ledger(bus, "growth-cost", index)
    await ledger.start()
    await ledger.catch_up()
    await ledger.write_index()
    index.deciding = True
    stored = ledger.state(work.PROJECT).orchestration_count
    spare_collector()
    samples: list[float] = []
    for first in range(0, launches, WRITE_EVERY):
        items = [item(bus, number, series) for number in range(first, first + WRITE_EVERY)]
        begun = time.process_time()
        for start in range(0, WRITE_EVERY, BATCH):
            await _decide(ledger, items[start : start + BATCH])
        await ledger.write_index()
        samples.append((time.process_time() - begun) / WRITE_EVERY)
    lookups = _lookups(index, stored)
    count = ledger.state(work.PROJECT).orchestration_count
    await ledger.close()
    figures = {f"launch{name}_us": rounded((percentile(samples, percent) or 0.0) * 1e6) for name, percent in (("", 50), ("_quiet", 10))}
    return {"stored": stored, **figures, **lookups, "orchestrations": count}


async def _decide(ledger: Ledger, items: list[CommandItem]) -> None:
    context = Context(now=datetime.now(UTC), seed=b"0" * 16, plane=ledger.plane, online=frozenset(work.NODES))
    batch = Batch(ledger, work.PROJECT, context)
    for one in items:
        batch.take(one)
    assert len(batch.decisions) == len(items), batch.answers
    message, _ = await ledger.append(work.PROJECT, batch.base, batch.decisions, batch.encoded, batch.state, batch.plane_seq)
    refused = [known.action for known in message.decisions if known.action is not None and known.action.reason_code is not None]
    assert not refused, refused[0]


def _lookups(index: Index, stored: int) -> Figures:
    """Return how long a key is looked for that is in the file, and one that is not, in microseconds of the clock."""
    shelf = index.shelf
    from controller.idempotency import key_digest

    step = max(1, stored // LOOKUPS)
    there = [key_digest(work.PROJECT, preset_keys(number)[number % 3]) for number in range(1, stored + 1, step)]
    absent = [key_digest(work.PROJECT, f"never-{number}") for number in range(len(there))]
    found: Figures = {}
    for name, digests in (("known_key_us", there), ("new_key_us", absent)):
        begun = time.perf_counter()
        hits = sum(shelf.find_key(digest) is not None for digest in digests)
        found[name] = rounded((time.perf_counter() - begun) / len(digests) * 1e6)
        found[f"{name[:-3]}_hits"] = hits
    return found


async def _run(server: str, token: str, data: Path, launches: int, series: str) -> None:
    bus = await connect(server, "growth-cost", Credentials("local", token))
    try:
        print(msgspec.json.encode(await cost(bus, data, launches, series)).decode())
    finally:
        await bus.close()


def main(arguments: list[str]) -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="bench.growth_cost", description="What a launch costs beside many stored ones.")
    parser.add_argument("--server", required=True)
    parser.add_argument("--token", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--launches", type=int, default=2048)
    parser.add_argument("--series", required=True)
    found = parser.parse_args(arguments)
    anyio.run(_run, found.server, found.token, found.data, found.launches, found.series, backend_options={"use_uvloop": True})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
