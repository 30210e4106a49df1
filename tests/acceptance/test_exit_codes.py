"""Each exit code of the table, by a real process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

from bus.embedded import free_port
from tests.acceptance.deck import QD, Client, Deck, waiting


def test_0_done(deck: Deck) -> None:
    deck.qd("ls")


def test_1_something_is_wrong(alone: Client) -> None:
    done = alone.qd("doctor", code=1)
    assert "✗ bus" in done.out


def test_2_the_command_line_is_wrong(alone: Client) -> None:
    for arguments in (
        ("ls", "--nonsense"),
        ("nonsense",),
        ("show",),
        ("launch", "shop-d1"),
        ("ls", "-o", "xml"),
        ("ls", "-o", "csv"),
        ("design", "move", "shop-d1", "up"),
    ):
        assert alone.run(*arguments).code == 2, arguments


def test_3_it_does_not_exist(deck: Deck, shop: str) -> None:
    deck.refused("show", "shop-o9999", code=3, reason="validation_entity_not_found")


def test_4_it_is_not_allowed(deck: Deck, greeting: str) -> None:
    deck.qd("flag", "set", "cp.launch", "off")
    try:
        error = deck.refused("launch", greeting, "--node", "deck", "--model", "shell", code=4, reason="validation_feature_disabled")
        assert "qd flag set" in error["hint"]
    finally:
        deck.qd("flag", "set", "cp.launch", "on")
    wrong = deck.work / "wrong-token"
    wrong.write_text("nonsense")
    deck.refused("ls", "--token-file", str(wrong), code=4, reason="validation_not_authorized")


def test_5_its_state_does_not_allow_it(deck: Deck, greeting: str) -> None:
    o = deck.json("launch", greeting, "--node", "deck", "--model", "shell", "--feature", "Five", "--wait=end")["orchestration"]
    deck.refused("pause", o, code=5, reason="validation_invalid_state")


def test_6_it_is_refused(deck: Deck, greeting: str) -> None:
    deck.refused("launch", greeting, "--node", "deck", "--model", "gpt-nine", code=6, reason="validation_model_unroutable")


def test_7_it_ended_other_than_complete_and_8_the_wait_was_too_long(deck: Deck, shop: str, tmp_path: Path) -> None:
    design = deck.design(shop, "Seven", waiting(tmp_path / "never"))
    late = deck.qd("launch", design, "--node", "deck", "--model", "shell", "--wait=end", "--timeout", "1s", "-o", "json", code=8)
    assert late.json["status"] in ("accepted", "completed")
    assert late.error["action"] == late.json["action"]
    o = late.json["orchestration"]
    watcher = deck.start("watch", o, "--exit-status", "-o", "json")
    deck.qd("cancel", o, "--yes")
    out, err = watcher.communicate(timeout=30)
    assert watcher.returncode == 7, (out, err)


def test_9_nothing_can_be_reached_and_nothing_was_sent(alone: Client) -> None:
    alone.refused("ls", code=9, reason="unreachable")
    alone.refused("ls", "--server", f"nats://127.0.0.1:{free_port()}", code=9, reason="unreachable")
    gone = {"url": "nats://127.0.0.1:4", "token_file": "/nowhere", "pid": gone_pid(), "data": "/"}
    (alone.state / "up.json").write_text(json.dumps(gone))
    stale = alone.refused("pause", "shop-o1", code=9, reason="unreachable")
    assert "is gone" in stale["message"]


def gone_pid() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_10_sent_and_the_outcome_is_not_known(alone: Client) -> None:
    port = free_port()
    bus = alone.start("serve", "bus", "--port", str(port), "-o", "json")
    try:
        assert bus.stdout is not None
        assert bus.stdout.readline().startswith('{"schema":"qd.service/1"')
        here = ("--server", f"nats://127.0.0.1:{port}", "--token-file", str(alone.folder / "data" / "bus" / "token"))
        assert "controller" in alone.refused("ls", *here, code=9, reason="unreachable")["message"]
        unknown = alone.qd("pause", "shop-o1", *here, "--timeout", "1s", code=10)
        assert unknown.out == ""
        key = unknown.err.split()[1]
        assert unknown.err.startswith(f"idempotency-key {key}\n")
        assert f"--idempotency-key {key}" in unknown.err
        error = alone.qd("pause", "shop-o1", *here, "--timeout", "1s", "--retry-last", "-o", "json", code=10).error
        assert (error["code"], error["retryable"], key in error["hint"]) == ("outcome_unknown", True, True)
        assert alone.qd("bus", "init", *here, "--dry-run").out.count("same") == 12
        bus.send_signal(signal.SIGTERM)
        assert bus.wait(10) == 0
    finally:
        bus.kill()
        bus.communicate()


def test_11_the_record_is_not_what_it_was_written_as(alone: Client, tmp_path: Path) -> None:
    message = '{"seq":2,"subject":"qd.ledger.shop","stored_at":"2026-11-25T09:00:00Z","data":"no decision"}\n'
    (tmp_path / "ledger.jsonl").write_text(message)
    assert "no export" not in alone.refused("audit", "verify", "--evidence", str(tmp_path), code=11, reason="audit_failed")["message"]
    (tmp_path / "ledger.jsonl").write_text("rubbish\n")
    assert "line 1" in alone.refused("audit", "verify", "--evidence", str(tmp_path), code=11, reason="audit_failed")["message"]


def test_20_a_dry_run_found_that_something_would_change(deck: Deck, shop: str) -> None:
    deck.qd("ticket", "add", shop, "--title", "Never", "--dry-run", code=20)


def test_130_interrupted(deck: Deck, shop: str, tmp_path: Path) -> None:
    design = deck.design(shop, "Interrupted", waiting(tmp_path / "never"))
    o = deck.json("launch", design, "--node", "deck", "--model", "shell")["orchestration"]
    watcher = deck.start("watch", o)
    assert watcher.stdout is not None
    assert watcher.stdout.readline()
    watcher.send_signal(signal.SIGINT)
    _, err = watcher.communicate(timeout=10)
    assert watcher.returncode == 130, err
    assert "what was accepted goes on" in err
    assert deck.json("cancel", o, "--yes", "--wait=done")["status"] == "completed"


def test_141_the_reader_went_away(alone: Client) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = alone.start("explain", stdout=writer)
    os.close(writer)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (141, "")


def test_reading_takes_less_than_four_tenths_of_a_second_when_nothing_is_warm(deck: Deck) -> None:
    times: list[float] = []
    for _ in range(8):
        began = time.perf_counter()
        subprocess.run([QD, "ls", "-o", "json"], env=deck.env, capture_output=True, check=True)
        times.append(time.perf_counter() - began)
    assert min(times) < 0.4, times
