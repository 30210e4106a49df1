"""What all tests share."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from bus.foreground import loop_options

TESTS = Path(__file__).parent


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    # timelines run in some tests
    return "asyncio", loop_options(with_duckdb=True)


def pytest_configure() -> None:
    """Hear SIGINT: who is started in the background of a shell has it ignored, and so have all whom the tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


SLOW_FIRST = ("simulation", "chaos", "console", "acceptance", "integration")
"""Folders of tests, in the order of what one file takes: started last, a file of a minute would run beside idle processes."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the slow files begin first; within a file the order stays."""
    rank = {folder: place for place, folder in enumerate(SLOW_FIRST)}
    items.sort(key=lambda item: rank.get(item.path.relative_to(TESTS).parts[0], len(rank)))
