"""What all tests share."""

from __future__ import annotations

import pytest

from bus.foreground import loop_options


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    # timelines run in some tests
    return "asyncio", loop_options(with_duckdb=True)
