import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bus import failpoint

ROOT = Path(__file__).parents[3]


def test_each_failpoint_stands_at_exactly_one_place_of_the_code() -> None:
    packages = ("bus", "controller", "node_agent", "timeline", "cli")
    code = "\n".join(path.read_text() for package in packages for path in (ROOT / package).rglob("*.py"))
    found = sorted(re.findall(r'^\s+failpoint\("([a-z.-]+)"\)', code, re.MULTILINE))
    assert found == sorted(failpoint.NAMES)


@pytest.mark.parametrize("order", ["no-such:kill", "node.beat", "node.beat:explode", "node.beat:sleep", "node.beat:kill=3", "node.beat:kill@x"])
def test_an_order_that_cannot_be_read_is_refused_and_says_what_is_allowed(order: str) -> None:
    with pytest.raises(failpoint.BadFailpoint, match=r"node\.beat|is not known"):
        failpoint.parse(order)


def _reach(order: str, times: int) -> subprocess.CompletedProcess[str]:
    program = f"import time; from bus.failpoint import failpoint\nfor n in range({times}):\n    failpoint('node.beat'); print(n, flush=True)"
    return subprocess.run([sys.executable, "-c", program], env={"QD_FAILPOINTS": order}, cwd=ROOT, capture_output=True, text=True, timeout=30)


def test_kill_ends_the_process_the_named_time_it_is_reached() -> None:
    done = _reach("node.beat:kill@3", 5)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "0\n1\n")


def test_sleep_stalls_the_process_and_it_goes_on() -> None:
    done = _reach("node.beat:sleep=30@2+", 3)
    assert (done.returncode, done.stdout) == (0, "0\n1\n2\n")


def test_an_observer_is_told_of_every_place_that_is_reached() -> None:
    reached: list[str] = []
    failpoint.observe(reached.append)
    try:
        failpoint.failpoint("node.beat")
        failpoint.failpoint("client.stored")
    finally:
        failpoint.observe(None)
    failpoint.failpoint("node.beat")
    assert reached == ["node.beat", "client.stored"]


def test_orders_that_are_obeyed_are_written_down_before_they_take_effect(tmp_path: Path) -> None:
    log = tmp_path / "hits"
    program = "from bus.failpoint import failpoint\nfailpoint('node.acked')\nfailpoint('node.beat')\nfailpoint('node.beat')"
    environment = {"QD_FAILPOINTS": "node.acked:sleep=1,node.beat:kill@2", "QD_FAILPOINTS_LOG": str(log)}
    subprocess.run([sys.executable, "-c", program], env=environment, cwd=ROOT, check=False, timeout=30)
    found = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["failpoint"], line["action"]) for line in found] == [("node.acked", "sleep"), ("node.beat", "kill")]


def test_a_process_that_runs_takes_other_orders_from_a_file_at_a_signal(tmp_path: Path) -> None:
    orders = tmp_path / "orders"
    orders.write_text("node.beat:kill@2")
    program = (
        "import os, signal\nfrom bus.failpoint import failpoint\nfailpoint('node.beat')\nos.kill(os.getpid(), signal.SIGUSR2)\n"
        "for n in range(3):\n    failpoint('node.beat'); print(n, flush=True)"
    )
    environment = {"QD_FAILPOINTS": "node.acked:kill", "QD_FAILPOINTS_FILE": str(orders)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "0\n")
