"""The client of nats-py, with two of its faults contained: a late PONG, and a reading task that ends without a word.

Owns nothing beyond what nats-py owns. nats-py 2.16 sets the result of whatever future waits first for a PONG; one whose waiter gave up is
done already, which raises in the reading task. That task then ends, and the connection counts as connected and hears nothing until its
pings have gone unanswered for six seconds (nats.py #624 is its twin in the flusher, #914 the silent end).
"""

from __future__ import annotations

import asyncio

import nats.errors
from nats.aio.client import Client


class ContainedClient(Client):
    """A client that a late PONG cannot make deaf, and that connects again at once when its reading ends for any other reason."""

    async def _process_pong(self) -> None:
        if self._pongs and self._pongs[0].done():
            # its waiter gave up or was cancelled; the server is alive all the same
            self._pongs.pop(0)
            self._pongs_received += 1
            self._pings_outstanding = 0
            return
        await super()._process_pong()

    async def _read_loop(self) -> None:
        await super()._read_loop()
        # a task that was replaced, or that ended because the connection did, has nothing to say
        if self._reading_task is asyncio.current_task() and self.is_connected:
            await self._process_op_err(nats.errors.UnexpectedEOF())
