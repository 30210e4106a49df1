"""Where a run keeps its files on the node. Pure: names only.

The run folder is the node's and the shim's; the agent works in the tree, and is given its home, its temporary folder and
the files it must read or write in the run folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from bus_schemas.orders import WorkOrder

# as the shim has them too, which imports nothing of ours
SPEC, IDENTITY, OUTPUT, EXIT, STOP, LOCK, ERRORS = "spec.json", "shim.json", "output", "exit.json", "stop", "lock", "shim.log"

MARK = "QD_RUN_DIR"
"""In the environment of everything a run starts, so that survivors of a killed shim are found."""


class RunDir(NamedTuple):
    """The folder of one attempt, and its worktree."""

    path: Path
    tree: Path

    @property
    def spec(self) -> Path:
        """What the shim is to do."""
        return self.path / SPEC

    @property
    def identity(self) -> Path:
        """Who the shim is, once it runs."""
        return self.path / IDENTITY

    @property
    def output(self) -> Path:
        """What the agent printed, bounded."""
        return self.path / OUTPUT

    @property
    def exit(self) -> Path:
        """How it ended, once it has."""
        return self.path / EXIT

    @property
    def stop(self) -> Path:
        """A shim that sees this file stops its run, or does not start it."""
        return self.path / STOP

    @property
    def lock(self) -> Path:
        """Held by the one process that may run this attempt."""
        return self.path / LOCK

    @property
    def errors(self) -> Path:
        """What the shim itself printed."""
        return self.path / ERRORS

    @property
    def logged(self) -> Path:
        """How many bytes of the output the bus has."""
        return self.path / "logged"

    @property
    def result(self) -> Path:
        """Where the agent hands over its result."""
        return self.path / "result.json"

    @property
    def schema(self) -> Path:
        """The JSON Schema of that result."""
        return self.path / "result.schema.json"

    @property
    def home(self) -> Path:
        """The agent's HOME."""
        return self.path / "home"

    @property
    def temporary(self) -> Path:
        """The agent's TMPDIR."""
        return self.path / "tmp"


def orchestration_dir(data: Path, orchestration: str) -> Path:
    """Return the folder of an orchestration on the node."""
    return data / "work" / orchestration


def run_dir(data: Path, order: WorkOrder) -> RunDir:
    """Return where an attempt keeps its files; the order's ids were checked."""
    # the nonce tells apart attempts that a controller ordered anew under the same number
    name = f"{order.run}.{order.attempt}"
    return RunDir(data / "runs" / f"{name}.{order.nonce}", orchestration_dir(data, order.orchestration) / name)
