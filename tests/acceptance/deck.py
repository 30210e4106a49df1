"""The installed `qd` in folders of its own, and a `qd up` for it to talk to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

QD = str(Path(sys.executable).with_name("qd"))
COMMAND_S_MAX = 60.0
START_S_MAX = 40.0
STOP_S_MAX = 10.0
MARKERS = ("--complexity", "simple", "--mark", "objective_defined", "--mark", "scope_bounded")

GREETING = """# Greeting

## Phase 1: say it

### Task 1: write the greeting
```sh
echo hello > greeting.txt
echo the greeting is written
```

### Task 2: count it
Depends on: 1
```sh
wc -c < greeting.txt > size.txt
```

### Check
```sh
test "$(cat greeting.txt)" = hello
```
"""


def waiting(marker: Path) -> str:
    """Return a design of two tasks, of which the first goes on until `marker` exists (half a minute at most)."""
    return f"""## Phase 1

### Task 1: wait
```sh
for i in $(seq 300); do test -e {marker} && break; sleep 0.1; done
date > waited.txt
```

### Task 2: after
Depends on: 1
```sh
date > after.txt
```
"""


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What stdout is."""
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, Any]:
        """The error object that stderr is."""
        found: dict[str, Any] = json.loads(self.err)["error"]
        return found


class Client:
    """Runs `qd` with its state, data and configuration in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.work = folder / "work"
        for path in (self.state, self.work, folder / "home", folder / "config"):
            path.mkdir(parents=True, exist_ok=True)
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder / "home"),
            "LANG": "C.UTF-8",
            "QD_STATE_DIR": str(self.state),
            "QD_DATA_DIR": str(folder / "data"),
            "QD_CONFIG_DIR": str(folder / "config"),
        }

    def start(self, *arguments: str, **more: Any) -> subprocess.Popen[str]:
        """Start a command and return its process."""
        options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen([QD, *arguments], env=self.env, cwd=self.work, **{**options, **more})

    def run(self, *arguments: str | bytes, stdin: str = "", env: dict[str, str] | None = None) -> Done:
        """Run a command to its end, whatever its exit code."""
        done = subprocess.run(
            [QD, *arguments],
            input=stdin.encode(),
            capture_output=True,
            env={**self.env, **(env or {})},
            cwd=self.work,
            timeout=COMMAND_S_MAX,
            check=False,
        )
        found = Done(done.returncode, done.stdout.decode(), done.stderr.decode())
        assert "Traceback" not in found.err, found.err
        return found

    def qd(self, *arguments: str, code: int = 0, stdin: str = "") -> Done:
        """Run a command that must end with `code`."""
        done = self.run(*arguments, stdin=stdin)
        assert done.code == code, f"qd {' '.join(arguments)[:300]} ended with {done.code}, not {code}\n{done.out}\n{done.err}"
        return done

    def json(self, *arguments: str, code: int = 0, stdin: str = "") -> Any:
        """Run a command with `-o json` and return what it printed."""
        return self.qd(*arguments, "-o", "json", code=code, stdin=stdin).json

    def refused(self, *arguments: str, code: int, reason: str, stdin: str = "") -> dict[str, Any]:
        """Run a command that must be refused with a reason code; return the error object."""
        done = self.qd(*arguments, "-o", "json", code=code, stdin=stdin)
        assert done.error["code"] == reason, done.error
        return done.error

    def design(self, project: str, title: str, body: str) -> str:
        """Add a design that is ready to be launched and return its id."""
        arguments = ("design", "add", project, "--title", title, "--file", "-", *MARKERS)
        return str(self.json(*arguments, stdin=body)["design"])

    def until(self, what: str, *arguments: str, timeout_s: float = 20.0) -> Any:
        """Ask until `what`, an expression over the answer `a`, holds; return the answer."""
        deadline = time.monotonic() + timeout_s
        while True:
            answer = self.json(*arguments)
            if eval(what, {"a": answer}):
                return answer
            assert time.monotonic() < deadline, f"{what} did not come to hold: {answer}"
            time.sleep(0.1)


class Deck(Client):
    """A client with a `qd up` of its own."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.log = folder / "up.err"
        self.process: subprocess.Popen[str] | None = None
        self.facts: dict[str, Any] = {}

    def up(self, *arguments: str) -> None:
        """Start it and wait until it says that it is up."""
        with self.log.open("w") as log:
            self.process = self.start("up", "--node", "deck", "--capacity", "4", "-o", "json", *arguments, stderr=log)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"qd up did not start:\n{self.log.read_text()}"
        self.facts = json.loads(line)
        assert self.facts["missing"] == [], self.facts

    def down(self, number: int = signal.SIGTERM) -> tuple[int, float]:
        """End it with a signal; return its exit code and how long that took in seconds."""
        assert self.process is not None
        began = time.monotonic()
        self.process.send_signal(number)
        try:
            code = self.process.wait(STOP_S_MAX)
        finally:
            self.process.kill()
            if self.process.stdout is not None:
                self.process.stdout.close()
        return code, time.monotonic() - began


def make_repo(folder: Path) -> Path:
    """Make a git repository with one commit."""
    folder.mkdir(parents=True)
    env = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": "/dev/null", "HOME": str(folder)}
    who = ("-c", "user.name=Ana", "-c", "user.email=ana@example.org")
    for arguments in (("init", "-q", "-b", "main"), (*who, "commit", "-q", "--allow-empty", "-m", "Begin")):
        subprocess.run(["git", *arguments], cwd=folder, env=env, check=True)
    return folder


def git(repo: Path, *arguments: str) -> str:
    """Return what git printed."""
    return subprocess.run(["git", "-C", str(repo), *arguments], capture_output=True, text=True, check=True).stdout
