"""Pulling orders for free slots, and no more: an order that waits on a full node could run elsewhere.

Owns the node's `work` consumer.
"""

from __future__ import annotations

import anyio

from bus.connection import Bus
from bus.pull import Delivery, PullLoop
from bus_schemas.subjects import WORK


class SlotPull(PullLoop):
    """A pull loop that asks for at most as many orders as there are free slots, and for at least half as many."""

    def __init__(self, bus: Bus, node: str, capacity: int, *, busy: int) -> None:
        """Have `capacity` slots, of which `busy` are taken by attempts found in the journal."""
        self._free = capacity - busy
        self._freed = anyio.Event()
        super().__init__(bus, WORK, f"work-{node}", want=max(0, self._free))

    async def orders(self) -> list[Delivery]:
        """Return the orders that have come, each of which takes a slot; waits for the first, and for a slot. Raises ConsumerGone."""
        while True:
            await self.batch(0)  # waits for one, takes none: first the slots are counted, then new ones are asked for
            n = min(self.waiting, self._free)
            if n > 0:
                break
            self._freed = anyio.Event()
            await self._freed.wait()
        self._free -= n
        self.want = max(0, self._free)
        return await self.batch(n)

    async def release(self) -> None:
        """Give a slot back, and ask for orders when too few are asked for."""
        self._free += 1
        self.want = max(0, self._free)
        self._freed.set()
        if self._outstanding <= self.want // 2:  # a request for each slot alone would be one more message for every run
            await self._pull()
