"""Ctrl-C ends a verb, also where the cancellation that it becomes is lost on the way.

Owns the handler of SIGINT while a verb runs.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")

AGAIN_S = 0.2
"""`asyncio.wait_for` before Python 3.12 gives the result back, and loses a cancellation that comes just then (CPython #86296)."""


async def _watched(main: Coroutine[Any, Any, T]) -> T:
    loop, task, first = asyncio.get_running_loop(), asyncio.current_task(), signal.getsignal(signal.SIGINT)
    assert task is not None

    def again() -> None:
        task.cancel()
        loop.call_later(AGAIN_S, again)

    def on_sigint(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(loop.call_later, AGAIN_S, again)
        if callable(first):
            first(number, frame)

    if callable(first):  # else whoever started us wants no SIGINT heard
        signal.signal(signal.SIGINT, on_sigint)
    return await main


def run(main: Coroutine[Any, Any, T]) -> T:
    """Return what a verb returns. Raises what it raises, and KeyboardInterrupt after a SIGINT."""
    before = signal.getsignal(signal.SIGINT)
    try:
        return asyncio.run(_watched(main))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGINT, before)
