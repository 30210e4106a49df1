"""The contained client of nats-py against a real server: what made its reading task end does not make it deaf."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time

import anyio
import psutil
import pytest
from nats.aio.msg import Msg

from bus.connection import Bus
from bus.embedded import EmbeddedServer
from bus.errors import Unavailable

pytestmark = pytest.mark.anyio

HEARD_S = 1.5
"""Unanswered pings would be noticed after 4 to 6 s."""


async def heard_within(bus: Bus, limit_s: float) -> bool:
    """Return whether something published comes back to us."""
    heard = asyncio.Event()

    async def on_message(message: Msg) -> None:
        heard.set()

    await bus.subscribe("x.y", on_message)
    with anyio.move_on_after(limit_s):
        while not heard.is_set():
            with contextlib.suppress(Unavailable):
                await bus.publish("x.y", b"")
            with anyio.move_on_after(0.05):
                await heard.wait()
    return heard.is_set()


async def test_a_pong_that_comes_after_its_waiter_gave_up_does_not_make_the_connection_deaf(server: EmbeddedServer, bus: Bus) -> None:
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        with anyio.fail_after(5):
            while psutil.Process(pid).status() != psutil.STATUS_STOPPED:  # it may still answer what comes before the signal does
                await anyio.sleep(0.01)
        with anyio.move_on_after(0.1) as gave_up:
            await bus.flush()
    finally:
        os.kill(pid, signal.SIGCONT)
    assert gave_up.cancelled_caught
    assert await heard_within(bus, HEARD_S)
    await bus.flush()
    assert bus.nc.stats["reconnects"] == 0


async def test_a_connection_whose_reading_ended_connects_again_at_once(bus: Bus) -> None:
    reading = bus.nc._reading_task
    assert reading is not None
    reading.cancel()
    since = time.monotonic()
    assert await heard_within(bus, HEARD_S)
    assert time.monotonic() - since < HEARD_S
    assert bus.nc.stats["reconnects"] == 1
