"""Waiting until the controller has folded what a question is about, for at most some seconds.

Owns nothing; it reads a ledger's position.
"""

from __future__ import annotations

from typing import Any

import anyio

from bus import host
from bus.request import QueryFailed
from bus_schemas.reasons import Reason
from controller.ledger import Ledger

WAIT_S = 10.0
LOOK_EVERY_S = 0.02


async def until_folded(ledger: Ledger, min_seq: Any) -> None:
    """Return when `min_seq` of a query is folded; at once where it names none. Raises QueryFailed when it does not come to be in time."""
    if not isinstance(min_seq, int):
        return
    deadline = host.monotonic_s() + WAIT_S
    while ledger.position_seq < min_seq:
        if host.monotonic_s() > deadline:
            raise QueryFailed(Reason.INVALID_STATE, f"the controller is at {ledger.position_seq}, not yet at {min_seq}")
        await anyio.sleep(LOOK_EVERY_S)
