"""Real services as real processes, started by the installed `qd serve`, to be killed and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

QD = str(Path(sys.executable).parent / "qd")


class Process:
    """A program in a process of its own, with a log; it can be killed, stalled, ended and started again."""

    def __init__(self, name: str, argv: list[str], environment: dict[str, str], log: Path) -> None:
        self.name, self.argv, self.environment, self.log = name, argv, environment, log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, more: dict[str, str] | None = None) -> None:
        """Start it, with `more` in the environment of this life only."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.argv, env={**self.environment, **(more or {})}, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    @property
    def runs(self) -> bool:
        """Whether it was started and has not ended."""
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        """Of the newest life."""
        assert self.process is not None
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it, if it runs."""
        if self.runs:
            os.kill(self.pid, number)

    def kill(self) -> None:
        assert self.process is not None
        assert self.process.poll() is None, f"{self.name} had ended by itself: {self.log.read_text()[-2000:]}"
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Service(Process):
    """One service of the installed `qd serve`."""

    def __init__(self, name: str, arguments: list[str], environment: dict[str, str], log: Path) -> None:
        super().__init__(name, [QD, "serve", *arguments], environment, log)


class Services:
    """A controller, a node and a timeline against one bus."""

    def __init__(self, folder: Path, server: str, token_file: Path) -> None:
        self.folder = folder
        state = folder / "state"
        state.mkdir(parents=True, exist_ok=True)
        self.environment = {
            **os.environ,
            "QD_SERVER": server,
            "QD_STATE_DIR": str(state),
            "NO_COLOR": "1",
        }
        self._shared = ["--server", server, "--token-file", str(token_file)]
        self.controller = self._service("controller", ["controller", "--data", str(folder / "controller")])
        self.node = self._service("node", ["node", "--name", "n1", "--capacity", "4", "--data", str(folder / "node")])
        self.timeline = self._service("timeline", ["timeline", "--data", str(folder / "timeline")])
        self.all = [self.controller, self.node, self.timeline]

    def _service(self, name: str, arguments: list[str]) -> Service:
        return Service(name, [*arguments, *self._shared], self.environment, self.folder / f"{name}.log")

    def another_timeline(self, data: Path) -> Service:
        return self._service("rebuild", ["timeline", "--data", str(data)])

    def qd(self, *arguments: str, timeout_s: float = 60.0, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [QD, *arguments, *self._shared], env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s
        )
        assert not check or done.returncode == 0, f"qd {' '.join(arguments)} → {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def until(self, what: str, condition: object, deadline_s: float = 30.0) -> None:
        at = time.monotonic()
        while not condition():  # type: ignore[operator]
            assert time.monotonic() - at < deadline_s, f"never: {what}"
            time.sleep(0.05)
