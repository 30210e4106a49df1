"""What a node agent finds after the machine went down: the word of a shim, and files that may be half of what was written."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from msgspec.structs import replace

from node_agent import process
from tests.integration.test_node_agent_processes import prepared

pytestmark = pytest.mark.anyio


async def test_the_end_of_a_run_is_believed_only_if_the_machine_has_been_up_since(tmp_path: Path) -> None:
    run, spec = prepared(tmp_path, "echo done > result")
    started = process.spawn(run, spec)
    with anyio.fail_after(10):
        ending = await process.ending(run, started)
    assert ending is not None
    assert ending.exit_code == 0

    assert await process.ending(run, replace(started, kernel_boot="the boot before")) is None
