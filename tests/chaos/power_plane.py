"""The whole product on one disk whose power can be cut: bus, controller, node agent, timeline and the project's repository.

Owns their processes. Only the witness, the logs and the client's memory are elsewhere: they are the evidence.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import uuid
from pathlib import Path

import anyio
import psutil

from bus.bootstrap import Sync, ensure_all
from bus.connection import Bus, connect
from bus.embedded import EmbeddedServer, free_port
from tests.chaos.disk import LoopDisk
from tests.chaos.services import QD, Process

NODE = "n1"
GONE_S = 10.0
EVERYTHING = ("bus", "controller", "node", "timeline", "repo")
BOOT_ID = "/proc/sys/kernel/random/boot_id"


class BootedService(Process):
    """A service whose kernel says that it was booted anew each time it starts, as one does after a power cut."""

    def __init__(self, name: str, arguments: list[str], environment: dict[str, str], log: Path) -> None:
        self._boot = log.with_suffix(".boot")
        script = 'mount --bind "$0" "$1" && shift && exec "$@"'
        anew = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, str(self._boot), BOOT_ID]
        super().__init__(name, [*anew, QD, "serve", *arguments], environment, log)

    def start(self, more: dict[str, str] | None = None) -> None:
        """Start it, as `Process.start`."""
        self._boot.write_text(f"{uuid.uuid4()}\n")
        super().start(more)


class Plane:
    """Everything that writes to the disk."""

    def __init__(self, folder: Path, disk: LoopDisk, *, sync: str = "always", on_disk: tuple[str, ...] = EVERYTHING) -> None:
        """Put the data of `on_disk` on the disk, what is left in `folder`.

        `sync` other than `always` is what the product refuses unless it is told to accept it.
        """
        self.disk, self.sync = disk, sync
        self._folder, self._on_disk = folder, on_disk
        self.repo = self.data("repo")
        self.witness = folder / "witness"
        self.witness.touch()
        self.server = EmbeddedServer(self.data("bus"), port=free_port(), sync=sync)
        self._state = folder / "state"
        self._state.mkdir(exist_ok=True)
        unsafe = [] if sync == "always" else ["--allow-unsafe-sync"]
        self.controller = self._service(folder, "controller", ["controller", *unsafe])
        self.timeline = self._service(folder, "timeline", ["timeline", *unsafe])
        self.node = self._service(folder, "node", ["node", "--name", NODE, "--capacity", "3"])

    def _service(self, folder: Path, name: str, arguments: list[str]) -> BootedService:
        environment = {**os.environ, "QD_STATE_DIR": str(self._state), "NO_COLOR": "1"}
        shared = ["--data", str(self.data(name)), "--server", self.server.url, "--token-file", str(self.server.token_file)]
        return BootedService(name, [*arguments, *shared], environment, folder / f"{name}.log")

    @property
    def services(self) -> list[Process]:
        """What is killed with the power beside the server."""
        return [self.controller, self.node, self.timeline]

    def data(self, name: str) -> Path:
        """Return the data folder of a service."""
        return (self.disk.mount if name in self._on_disk else self._folder) / name

    async def start_bus(self) -> Bus:
        """Start the server on what the disk has; return a connection to it."""
        self.server.data.mkdir(exist_ok=True)
        await self.server.start()
        return await connect(self.server.url, "power-test", self.server.credentials)

    async def set_up(self, bus: Bus) -> None:
        """Make streams and a repository, once, and have them on disk, as they were before the load."""
        await ensure_all(bus, sync=Sync.ALWAYS if self.sync == "always" else Sync.UNSAFE)
        self.repo.mkdir()
        script = "git init -q -b main . && echo start > start && git add . && git -c user.name=x -c user.email=x@x commit -qm start"
        subprocess.run(["sh", "-c", script], cwd=self.repo, check=True)
        # the operator's own commit, the token and the empty streams are from long before the cut
        subprocess.run(["sync", "--file-system", self.disk.mount], check=True)

    def start_services(self) -> None:
        """Start controller, node agent and timeline."""
        for service in self.services:
            service.start()

    def freeze(self) -> list[psutil.Process]:
        """Stop the world (SIGSTOP), the server first, so that nothing is acknowledged from now on; return all that was stopped."""
        roots = [pid for pid in (self.server.pid, *(s.process.pid for s in self.services if s.process is not None)) if pid is not None]
        stopped: dict[int, psutil.Process] = {}
        while fresh := [process for process in _trees(roots) if process.pid not in stopped]:
            for process in fresh:
                stopped[process.pid] = process
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.suspend()
        return list(stopped.values())

    async def cut_power(self) -> None:
        """Let the world end at one moment, and leave the disk as it was then, mounted again; nothing runs."""
        frozen = self.freeze()
        self.disk.cut()
        await self._bury(frozen)
        self.disk.power_on()

    async def stop(self) -> None:
        """End everything, and what a node agent leaves running under its shims."""
        await self._bury(self.freeze())

    def last_words(self) -> str:
        """Return the ends of the logs."""
        return "\n".join(f"--- {service.name}\n{service.log.read_text()[-1500:]}" for service in self.services if service.log.exists())

    async def _bury(self, frozen: list[psutil.Process]) -> None:
        """Kill stopped processes and return when none of them runs. Raises TimeoutError."""
        # our own children are killed and waited for by who started them: a status that somebody else takes the event loop never sees
        self.server.kill()
        for process in frozen:
            if process.pid != self.server.pid:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGKILL)
        if self.server.pid is not None:
            await self.server.wait()
        await self.server.stop()
        for service in self.services:
            if service.process is not None:
                service.process.wait(GONE_S)
                service.process = None
        with anyio.fail_after(GONE_S):
            while any(_runs(process) for process in frozen):
                await anyio.sleep(0.01)


def _runs(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def _trees(roots: list[int]) -> list[psutil.Process]:
    found: list[psutil.Process] = []
    for root in roots:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(root)
            found += [process, *process.children(recursive=True)]
    return found
