"""Ctrl-C: a verb ends, whatever becomes of the first cancellation."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal

import pytest

from cli import interrupt


async def interrupted(lost: int) -> None:
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(lost):
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(5)
    await asyncio.sleep(5)
    raise AssertionError("it went on")


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_an_interrupt_ends_a_verb_however_often_its_cancellation_was_lost(lost: int) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        interrupt.run(interrupted(lost))
    assert signal.getsignal(signal.SIGINT) is before


def test_a_verb_that_is_not_interrupted_gives_its_result() -> None:
    async def verb() -> int:
        return 7

    assert interrupt.run(verb()) == 7
