"""Which controller is active: a lease in the bucket `qd-lease`, renewed by compare-and-set.

Owns the lease's subject. The lease is only for liveness: two active controllers are safe, since each append to the ledger
is a compare-and-set. A standby takes over when the lease was not renewed for `LEASE_S`, by its own clock.
"""

from __future__ import annotations

from datetime import datetime

import anyio
from msgspec import Struct, json

from bus import host
from bus.connection import Bus
from bus.errors import Conflict, Rejected, Unavailable
from bus.failpoint import failpoint
from bus_schemas import codec
from bus_schemas.subjects import LEASE_BUCKET, LEASE_KEY

LEASE_S = 2.5
RENEW_EVERY_S = 0.5
"""An owner may stall for `LEASE_S - RENEW_EVERY_S` unnoticed, and one that is gone is replaced within `LEASE_S` and a look."""
ANSWER_S = 1.0
LOOK_EVERY_S = 0.2
SUBJECT = f"$KV.{LEASE_BUCKET}.{LEASE_KEY}"
STREAM = f"KV_{LEASE_BUCKET}"


class Lease(Struct, frozen=True):
    """Who is active; an empty owner has given it back."""

    owner: str
    at: datetime


class Ownership:
    """The lease as this controller sees it."""

    def __init__(self, bus: Bus, owner: str) -> None:
        """Nothing is held yet."""
        self._bus, self._owner = bus, owner
        self._seq = 0

    def _body(self, owner: str) -> bytes:
        return codec.encode(Lease(owner, host.now()))

    async def acquire(self) -> None:
        """Return when this controller holds the lease."""
        seen_seq, seen_at = -1, host.monotonic_s()
        while True:
            try:
                found = await self._bus.last(STREAM, SUBJECT)
                seq = 0 if found is None else found.seq
                lease = None if found is None else json.decode(found.data, type=Lease)
                if seq != seen_seq:
                    seen_seq, seen_at = seq, host.monotonic_s()
                free = lease is None or not lease.owner or lease.owner == self._owner
                if free or host.monotonic_s() - seen_at >= LEASE_S:
                    self._seq = (await self._bus.append(SUBJECT, self._body(self._owner), expect_last=seq)).seq
                    failpoint("controller.lease-taken")
                    return
            except (Conflict, Unavailable, Rejected):
                pass
            left_s = seen_at + LEASE_S - host.monotonic_s()
            await anyio.sleep(min(LOOK_EVERY_S, left_s) if left_s > 0 else LOOK_EVERY_S)

    async def keep(self) -> None:
        """Renew the lease; return when it is lost: another has it, or it could not be renewed in time."""
        renewed_at = host.monotonic_s()
        while host.monotonic_s() - renewed_at < LEASE_S:
            await anyio.sleep(RENEW_EVERY_S)
            try:
                self._seq = (await self._bus.append(SUBJECT, self._body(self._owner), expect_last=self._seq, timeout_s=ANSWER_S)).seq
                failpoint("controller.lease-renewed")
                renewed_at = host.monotonic_s()
            except Conflict:
                if not await self._is_ours():
                    return
                renewed_at = host.monotonic_s()
            except (Unavailable, Rejected):  # a store at its limit says no; there may be room again before the lease is over
                continue

    async def _is_ours(self) -> bool:
        """Return whether the lease names us, as after a renewal whose answer was lost."""
        try:
            found = await self._bus.last(STREAM, SUBJECT)
        except Unavailable:
            return False
        if found is None or json.decode(found.data, type=Lease).owner != self._owner:
            return False
        self._seq = found.seq
        return True

    async def release(self) -> None:
        """Give the lease back, so that a standby need not wait for it."""
        try:
            await self._bus.append(SUBJECT, self._body(""), expect_last=self._seq, timeout_s=ANSWER_S)
        except (Conflict, Unavailable, Rejected):
            return
