"""Output on its way to the LOG: the bytes that a run printed, as they stand, in order.

Reads the output file of a run and publishes what is new. Each chunk carries the offset it starts at; a chunk whose
acknowledgement was lost is sent again with the same offset, so a reader skips what lies below the highest offset it has.
"""

from __future__ import annotations

import contextlib
import logging
import os

import anyio

from bus.connection import Bus
from bus.errors import Rejected, Unavailable
from bus_schemas.reports import TAIL_BYTES_MAX
from bus_schemas.subjects import LOG_CHUNK_BYTES_MAX
from node_agent.run_dir import RunDir

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.15
RETRY_S = 0.5
OFFSET_HEADER = "qd-offset"
PROJECT_HEADER = "qd-project"


class LogTail:
    """Follows the output of one run."""

    def __init__(self, bus: Bus, subject: str, project: str, run: RunDir) -> None:
        """Go on where the node agent before us stopped."""
        self._bus, self._subject, self._project, self._run = bus, subject, project, run
        self._offset = self._known_offset()
        self._ended = anyio.Event()

    def _known_offset(self) -> int:
        with contextlib.suppress(FileNotFoundError, ValueError):
            return int(self._run.logged.read_text())
        return 0

    def end(self) -> None:
        """Say that nothing more will be printed."""
        self._ended.set()

    async def follow(self) -> None:
        """Publish what is printed; return when all of it is on the bus after `end`."""
        while True:
            # asked before reading: what was printed until the end is still read after it
            ended = self._ended.is_set()
            chunk = self._next_chunk()
            if chunk:
                await self._publish(chunk)
            elif ended:
                return
            else:
                with anyio.move_on_after(LOOK_EVERY_S):
                    await self._ended.wait()

    def _next_chunk(self) -> bytes:
        with contextlib.suppress(FileNotFoundError), self._run.output.open("rb") as file:
            file.seek(self._offset)
            return file.read(LOG_CHUNK_BYTES_MAX)
        return b""

    async def _publish(self, chunk: bytes) -> None:
        headers = {OFFSET_HEADER: str(self._offset), PROJECT_HEADER: self._project}
        while True:
            try:
                await self._bus.append(self._subject, chunk, headers=headers)
                break
            except Unavailable:
                await anyio.sleep(RETRY_S)
            except Rejected as error:
                log.warning("output of %s is left out from byte %d on: %s", self._subject, self._offset, error)
                break
        self._offset += len(chunk)
        with contextlib.suppress(OSError):  # a full disk: after a restart a chunk comes twice
            self._run.logged.write_text(str(self._offset))


def tail(run: RunDir) -> str:
    """Return the end of what a run printed; bytes that are no text are replaced."""
    try:
        with run.output.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES_MAX))
            return file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
