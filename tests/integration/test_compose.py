"""The images and compose.yaml: bus, controller, node and timeline in containers, and one launch through them.

Needs a container engine and a base image: `QD_BASE`, or debootstrap as root, or the registry's. Where one is missing it says so.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

from bus.embedded import STORE_BYTES_MAX_DEFAULT, configuration

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "compose"
TAG = "test"
IMAGE, BUS_IMAGE = f"quarterdeck:{TAG}", f"quarterdeck-bus:{TAG}"
BUILD_TIMEOUT_S = 800.0
COMMAND_TIMEOUT_S = 120.0

LAUNCH = r"""
set -eu
git init -q -b main /repos/shop
cd /repos/shop
echo hello > README.md
git add .
git -c user.name=ana -c user.email=ana@localhost commit -qm first
qd project add shop --repo /repos/shop >&2
qd design add shop --title Words --complexity simple --mark objective_defined --mark scope_bounded --file - >&2 <<'D'
# Words

## Phase 1: write

### Task 1: one
```sh
echo one > one
```

### Task 2: two
Depends on: 1
```sh
cat one > two; echo two >> two
```

### Check
```sh
grep -q two two
```
D
qd launch shop-d1 --node auto --model shell --feature words --wait=end --timeout 90s -o json
qd sql "SELECT id, status FROM orchestrations" -o json
git log --format=%an:%s qd/words
id -u
"""

Shell = Callable[[str], str]
"""Runs a script in the container of the node and returns its stdout; raises AssertionError with its output when it fails."""


def docker(*arguments: str, timeout_s: float = COMMAND_TIMEOUT_S) -> subprocess.CompletedProcess[str]:
    """Run the engine's own client, which compose/build needs too; one that takes too long has failed."""
    try:
        return subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as error:
        return subprocess.CompletedProcess(error.cmd, 1, "", f"no answer within {timeout_s:g} s")


def last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]


def engine_missing() -> str | None:
    """Return why no container engine can be used, or None."""
    if shutil.which("docker") is None:
        return "no container engine: there is no docker on PATH"
    asked = docker("version", timeout_s=20)
    return None if asked.returncode == 0 else f"no container engine answers: {last_line(asked.stderr)}"


def base_choice() -> list[str]:
    """Return the arguments of compose/build for the base image that can be had here; skips where none can."""
    if os.environ.get("QD_BASE"):
        return []
    if os.getuid() == 0 and shutil.which("debootstrap") and shutil.which("apt-get"):
        return ["--debootstrap"]
    default = next(line.partition("=")[2] for line in (COMPOSE / "Dockerfile").read_text().splitlines() if line.startswith("ARG BASE="))
    if docker("image", "inspect", default).returncode != 0:
        pulled = docker("pull", "--quiet", default)
        if pulled.returncode != 0:
            pytest.skip(f"no base image: QD_BASE is not set, this is not root with debootstrap, and {default}: {last_line(pulled.stderr)}")
    return []


@pytest.fixture(scope="module")
def images() -> None:
    """Build both images."""
    missing = engine_missing()
    if missing is not None:
        pytest.skip(missing)
    built = subprocess.run(
        [str(COMPOSE / "build"), *base_choice()],
        env={**os.environ, "QD_TAG": TAG},
        capture_output=True,
        text=True,
        timeout=BUILD_TIMEOUT_S,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr


class Facts(NamedTuple):
    """What the launch script printed."""

    receipt: dict[str, object]
    orchestrations: list[dict[str, object]]
    commits: list[str]
    uid: int


def launch(shell: Shell) -> Facts:
    receipt, rows, *rest = shell(LAUNCH).splitlines()
    return Facts(json.loads(receipt), json.loads(rows)["items"], rest[:-1], int(rest[-1]))


def check(facts: Facts) -> None:
    assert facts.receipt["status"] == "completed"
    assert facts.receipt["node"] == "box"
    assert facts.orchestrations == [{"id": "shop-o1", "status": "complete"}]
    assert facts.commits == ["Quarterdeck:two", "Quarterdeck:one", "ana:first"]
    assert facts.uid == 1000


@pytest.fixture
def bus_folder(tmp_path: Path) -> Path:
    """Return a folder with the configuration and the token of a bus in a container."""
    folder = tmp_path / "bus"
    folder.mkdir(mode=0o755)
    (folder / "token").write_text("t" * 40)
    text = configuration(
        port=4222,
        host="0.0.0.0",
        store=Path("/data"),
        store_bytes=STORE_BYTES_MAX_DEFAULT,
        sync="always",
        authorization=f'authorization {{ token: "{"t" * 40}" }}\nhttp: "0.0.0.0:8222"',
    )
    (folder / "nats.conf").write_text(text)
    for file in folder.iterdir():
        file.chmod(0o644)
    return folder


def service(network: Network, bus_folder: Path, *command: str) -> DockerContainer:
    """Return a container of our image, ready to be started."""
    container = DockerContainer(IMAGE).with_network(network).with_volume_mapping(str(bus_folder), "/bus", "ro").with_command(list(command))
    return container.with_env("QD_SERVER", "nats://bus:4222").with_env("QD_TOKEN_FILE", "/bus/token").with_kwargs(init=True, cap_drop=["ALL"])


def test_a_launch_runs_to_its_end_through_services_in_containers(images: None, bus_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(testcontainers_config, "ryuk_disabled", True)  # its image would come from a registry
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(Network())
        bus = DockerContainer(BUS_IMAGE).with_network(network).with_network_aliases("bus").with_volume_mapping(str(bus_folder), "/bus", "ro")
        stack.enter_context(bus.waiting_for(LogMessageWaitStrategy("Server is ready")))
        streams = stack.enter_context(service(network, bus_folder, "bus", "init", "--monitor", "http://bus:8222"))
        assert streams.wait() == 0, streams.get_logs()
        for command in (("controller",), ("timeline",), ("node", "--name", "box", "--stop-running")):
            container = service(network, bus_folder, "serve", *command, "--data", "/data")
            started = stack.enter_context(container.waiting_for(LogMessageWaitStrategy(f"{command[0]}.* serves")))
        check(launch(lambda script: _exec(started, script)))


def _exec(container: DockerContainer, script: str) -> str:
    wrapped: Any = container.get_wrapped_container()
    code, output = wrapped.exec_run(["sh", "-c", script], demux=True)
    stdout, stderr = ((part or b"").decode() for part in output)
    assert code == 0, stdout + stderr
    return stdout


def compose_program() -> list[str]:
    """Return how compose is called here; skips where it is missing."""
    for program in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(program[0]) and subprocess.run([*program, "version"], capture_output=True, check=False).returncode == 0:
            return program
    pytest.skip("neither `docker compose` nor docker-compose is here")


@pytest.fixture
def stack(images: None) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """Return how the stack of compose.yaml is spoken to; nothing of it is left afterwards."""
    program = [*compose_program(), "-p", f"qd-test-{os.getpid()}", "-f", str(COMPOSE / "compose.yaml")]
    environment = {**os.environ, "QD_IMAGE": IMAGE, "QD_BUS_IMAGE": BUS_IMAGE}

    def compose(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*program, *arguments], env=environment, input=stdin, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False
        )

    yield compose
    down = compose("down", "--volumes", "--timeout", "20")
    assert down.returncode == 0, down.stderr


def test_the_stack_of_compose_yaml_comes_up_and_runs_a_launch(stack: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    up = stack("up", "--detach")
    assert up.returncode == 0, up.stderr + stack("logs", "--no-color").stdout

    def shell(script: str) -> str:
        done = stack("exec", "-T", "node", "sh", stdin=script)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    check(launch(shell))
    doctor = stack("exec", "-T", "node", "qd", "doctor")
    assert doctor.returncode == 0, doctor.stdout
