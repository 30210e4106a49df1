"""`qd up` as a process: found by itself, alone on its data, ended by a signal; and the demo."""

from __future__ import annotations

import json
import shutil
import signal
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

from tests.acceptance.deck import GREETING, Client, Deck, make_repo


@pytest.fixture
def other(tmp_path: Path) -> Deck:
    return Deck(tmp_path)


def test_up_keeps_everything_through_a_restart_and_leaves_nothing_behind(other: Deck) -> None:
    other.up()
    found = json.loads((other.state / "up.json").read_text())
    assert (found["pid"], found["url"]) == (other.process.pid if other.process else None, other.facts["url"])
    assert (other.state / "up.json").stat().st_mode & 0o777 == 0o600
    second = other.qd("up", "-o", "json", code=5)
    assert f"process {found['pid']}" in second.error["message"]
    assert second.error["code"] == "data_in_use"
    repo = make_repo(other.folder / "shop")
    other.qd("project", "add", "shop", "--repo", str(repo))
    design = other.design("shop", "Greeting", GREETING)
    other.qd("launch", design, "--node", "deck", "--model", "shell", "--wait=end")
    code, took_s = other.down(signal.SIGTERM)
    assert code == 0, other.log.read_text()
    assert took_s < 10
    assert not (other.state / "up.json").exists()
    other.refused("ls", code=9, reason="unreachable")

    other.up("--console-port", "0")
    link = other.qd("open", "--print").out.strip()
    assert link == other.facts["console"]
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    with browser.open(link, timeout=10) as page:
        assert b"Quarterdeck" in page.read()
    assert other.qd("open", "--print").out.strip() != link, "a link works once"
    assert other.json("show", "shop-o1")["status"] == "complete"
    assert len(other.json("timeline", "shop-o1")["items"]) > 20
    code, _ = other.down(signal.SIGINT)
    assert code == 0, other.log.read_text()


def test_a_bus_that_dies_brings_everything_down_with_a_clear_message(other: Deck) -> None:
    other.up()
    assert other.process is not None
    server = next(child for child in psutil.Process(other.process.pid).children() if "nats-server" in child.name())
    server.kill()
    assert other.process.wait(10) == 1
    assert "nats-server ended" in other.log.read_text()
    other.down()


def test_services_of_their_own_make_the_same_stack(tmp_path: Path) -> None:
    client = Client(tmp_path)
    bus = client.start("serve", "bus", "--port", "0", "-o", "json")
    assert bus.stdout is not None
    facts = json.loads(bus.stdout.readline())
    here = ("--server", facts["url"], "--token-file", facts["token_file"])
    services = [bus]
    try:
        for service in ("controller", "timeline", "node"):
            more = ("--name", "solo") if service == "node" else ()
            process = client.start("serve", service, *more, *here, "-o", "json")
            services.append(process)
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["url"] == facts["url"]
        client.until("a['items'] and a['items'][0]['online']", "node", "ls", *here)
        assert client.json("doctor", *here)["healthy"] is True
        for process in reversed(services):
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
    finally:
        for process in services:
            process.kill()
            process.communicate()


def test_the_demo_shows_a_repair_and_a_gate_and_ends_complete(alone: Client) -> None:
    began = time.monotonic()
    done = alone.qd("demo")
    assert time.monotonic() - began < 30
    for text in (
        "primary review of phase 2 found 1 gap",
        "top.sh 3 printed 2 lines, not 3",
        "repair 1 of phase 2 started",
        "$ qd gate approve harbour-o1",
        "gate finalize approved by local",
        "orchestration complete",
        "launch_success_rate         1",
        " write a test for it\n",
        "harbour-o1 complete",
    ):
        assert text in done.out, f"{text!r} is not in what the demo told:\n{done.out}"
    folder = Path(done.out.split("Everything is in ")[1].split(",")[0])
    assert not folder.exists()
    assert not (alone.state / "up.json").exists()


def test_a_demo_that_is_kept_can_be_talked_to_until_it_is_ended(alone: Client) -> None:
    demo = alone.start("demo", "--keep", "-o", "json")
    try:
        assert demo.stdout is not None
        facts = json.loads(demo.stdout.readline())
        assert (facts["status"], facts["orchestration"]) == ("complete", "harbour-o1")
        assert alone.until("a['items']", "ls")["items"][0]["id"] == "harbour-o1"
        demo.send_signal(signal.SIGINT)
        assert demo.wait(10) == 0
    finally:
        demo.kill()
        demo.communicate()
        shutil.rmtree(Path(facts["repo"]).parent, ignore_errors=True)
