"""The bound of an embedded server's store."""

from __future__ import annotations

import pytest

from bus.embedded import STORE_BYTES_MAX_DEFAULT, STREAMS_RESERVE_BYTES, store_bound_bytes
from bus_schemas.subjects import GIB


@pytest.mark.parametrize("free_bytes", [0, GIB, 20 * GIB, 45 * GIB, 60 * GIB, 10_000 * GIB])
def test_a_store_has_room_for_what_the_streams_reserve_on_any_disk(free_bytes: int) -> None:
    assert STREAMS_RESERVE_BYTES < store_bound_bytes(free_bytes) <= STORE_BYTES_MAX_DEFAULT


def test_a_store_stays_well_below_the_free_disk_where_that_is_possible() -> None:
    assert store_bound_bytes(60 * GIB) == 48 * GIB
