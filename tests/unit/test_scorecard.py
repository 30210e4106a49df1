"""The score card: what it keeps of a part that works, fails, hangs, or is run by somebody else meanwhile."""

import json
import sys
import time
from pathlib import Path

import pytest

from tests import scorecard
from tests.scorecard import PARTS, Part, figures, last_object, put, run


def test_the_last_object_that_a_command_prints_is_its_figures() -> None:
    assert last_object('progress {not json}\n{"a": 1}\nmore {"b": {"c": 2}}\n') == {"b": {"c": 2}}
    assert last_object('{\n "a": [\n  {"x": 1}\n ]\n}\n') == {"a": [{"x": 1}]}
    assert last_object("3 passed in 1 s") is None


def test_each_part_has_a_name_of_its_own() -> None:
    assert len({part.name for part in PARTS}) == len(PARTS)


def test_of_a_part_that_prints_no_json_the_last_line_that_says_its_figures_counts() -> None:
    reads = {part.name: part.reads for part in PARTS}
    said = "300 sequences, 4949 answers compared in 10 s (30/s): 0 diverge, 3 with two timers that ended at once, 2 differed under load only\n"
    assert figures(said, reads["differential"]) == {"sequences": 300, "answers": 4949, "diverge": 0, "under_load_only": 2}
    planted = "verifier: 538 of 538 planted bugs of 69 kinds caught\n  missed: none\n==== 90 passed in 8 s ====\n"
    assert figures(planted, reads["planted"]) == {"caught": 538, "planted": 538, "kinds": 69, "tests_passed": 90}
    assert figures("1 failed, 16 passed in 27 s", reads["controls"]) == {"tests_passed": 16}
    assert figures("no tests ran", reads["controls"]) == {"said": ["no tests ran"]}


def test_a_part_of_another_run_and_the_long_form_of_a_quick_part_are_kept(tmp_path: Path) -> None:
    card = tmp_path / "card.json"
    put(card, "parts", "one", {"exit": 0})
    put(card, "quick", "one", {"exit": 1})
    put(card, "parts", "two", {"exit": 0})
    put(card, "parts", "two", {"exit": 2})
    assert json.loads(card.read_text()) == {
        "schema": "qd.scorecard/1",
        "parts": {"one": {"exit": 0}, "two": {"exit": 2}},
        "quick": {"one": {"exit": 1}},
    }
    assert list(tmp_path.iterdir()) == [card]


def test_parts_that_fail_are_written_down_and_the_others_are_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = ("-c", "print('{\"figure\": 1}')")
    says = ("-c", "print('FAILED test_a'); raise SystemExit(1)")
    parts = (
        Part("bad", "fails", ("-c", "raise SystemExit('no')"), good, 1),
        Part("said", "fails", says, good, 1),
        Part("good", "works", good, good, 1),
    )
    monkeypatch.setattr(scorecard, "PARTS", parts)
    monkeypatch.setattr(sys, "argv", ["scorecard", "--out", str(tmp_path / "card.json")])
    assert scorecard.main() == 1
    assert json.loads(capsys.readouterr().out)["failed"] == ["bad", "said"]
    card = json.loads((tmp_path / "card.json").read_text())["parts"]
    assert card["bad"]["exit"] == 1
    assert card["bad"]["error"] == ["no"]
    assert card["said"]["error"] == ["FAILED test_a"]
    assert card["good"]["figures"] == {"figure": 1}
    assert card["good"]["commit"]


def test_of_a_part_that_takes_too_long_no_process_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scorecard, "ENDS_S", 0.2)
    alive = tmp_path / "alive"
    child = f"import pathlib, time\nwhile True: pathlib.Path({str(alive)!r}).touch(); time.sleep(0.01)"
    hangs = f"import signal, subprocess, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); subprocess.run([sys.executable, '-c', {child!r}])"
    found = run(Part("slow", "hangs", ("-c", hangs), (), 0.5 / 60), ("-c", hangs))
    assert (found["exit"], found["error"]) == (-1, ["not done after 0.00833333 minutes"])
    alive.unlink(missing_ok=True)
    time.sleep(0.1)
    assert not alive.exists()
