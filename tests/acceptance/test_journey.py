"""What a stranger does with the README: from a repository to the answer of how long it took and whether it succeeded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.acceptance.deck import GREETING, Deck, git, make_repo


@pytest.fixture(scope="module")
def launched(deck: Deck) -> tuple[str, Path]:
    """Do what the README says and return the orchestration and the repository."""
    repo = make_repo(deck.folder / "garden")
    design = deck.work / "design.md"
    design.write_text(GREETING)
    added = deck.qd("project", "add", "garden", "--repo", str(repo), "--check", "test -e greeting.txt")
    assert "project-add  garden" in added.out
    assert added.err.startswith("idempotency-key ")
    deck.qd("design", "add", "garden", "--title", "Greeting", "--file", "design.md", "--complexity", "simple")
    refused = deck.qd("launch", "garden-d1", "--node", "auto", "--model", "shell", code=6)
    assert refused.out.startswith("refused  garden-a")
    assert "simple needs the markers objective_defined, scope_bounded  [validation_not_ready]" in refused.err
    assert "hint:  `qd design mark` sets markers" in refused.err
    for marker in ("objective_defined", "scope_bounded"):
        deck.qd("design", "mark", "garden-d1", marker)
    deck.qd("ticket", "add", "garden", "--title", "Visitors are not greeted", "--design", "garden-d1", "--priority", "high")
    done = deck.qd("launch", "garden-d1", "--node", "auto", "--ticket", "garden-t1", "--model", "shell", "--wait=end")
    assert done.out.startswith("completed  garden-a")
    assert "garden-o1  on deck  revision 1" in done.out
    assert "orchestration complete" in done.err
    assert "design only" not in done.err
    return "garden-o1", repo


def test_the_work_is_a_branch_whose_log_a_person_can_read(launched: tuple[str, Path], deck: Deck) -> None:
    repo = launched[1]
    assert git(repo, "log", "--format=%s", "qd/greeting").splitlines() == ["count it", "write the greeting", "Begin"]
    assert git(repo, "show", "qd/greeting:greeting.txt") == "hello\n"
    assert git(repo, "status", "--porcelain") == ""
    assert git(repo, "log", "--format=%s", "main") == "Begin\n"


def test_the_list_and_the_orchestration_say_what_became_of_it(launched: tuple[str, Path], deck: Deck) -> None:
    listed = deck.json("ls", "--project", "garden")
    assert listed["schema"] == "qd.orchestration-list/1"
    assert [(o["id"], o["status"], o["hold"]) for o in listed["items"]] == [("garden-o1", "complete", None)]
    assert deck.qd("ls", "--project", "garden", "-o", "name").out == "garden-o1\n"
    shown = deck.json("show", "GARDEN-o1")
    assert shown["schema"] == "qd.orchestration/1"
    assert [task["subject"] for task in shown["plan"][0]["tasks"]] == ["write the greeting", "count it"]
    assert shown["plan"][0]["verify"] == "passed"
    assert (shown["tickets"], shown["design_only"], shown["policy_revision"]) == (["garden-t1"], False, 1)
    human = deck.qd("show", "garden-o1").out
    assert "✓ complete   phase 1/1" in human
    assert "write the greeting" in human
    assert deck.json("ticket", "show", "garden-t1")["status"] == "in_review"


def test_the_policy_of_the_launch_can_be_hashed_again(launched: tuple[str, Path], deck: Deck) -> None:
    shown = deck.json("policy", "show", "garden-o1", "--at-launch")
    assert shown["hash"] == deck.json("show", "garden-o1")["policy_snapshot_hash"]
    assert shown["policy"]["model"]["reviewer_secondary"] == "shell"
    assert deck.qd("policy", "hash", "-", stdin=json.dumps(shown["policy"])).out.strip() == shown["hash"]


def test_the_timeline_has_each_row_once_and_pages_without_a_gap(launched: tuple[str, Path], deck: Deck) -> None:
    whole = deck.json("timeline", "garden-o1")
    positions = [row["position"] for row in whole["items"]]
    assert len(positions) == len(set(positions)) > 20
    assert whole["next"] is None
    assert whole["items"][0]["type"] == "launch"
    assert "complete" in {row["status"] for row in whole["items"] if row["type"] == "orchestration-moved"}
    first = deck.json("timeline", "garden-o1", "--limit", "5")
    second = deck.json("timeline", "garden-o1", "--limit", "1000", "--after", first["next"])
    assert [row["position"] for row in (*first["items"], *second["items"])] == positions
    human = deck.qd("timeline", "garden-o1", "--utc").out
    assert "orchestration complete" in human


def test_a_follower_of_what_has_ended_gets_it_all_and_comes_back(launched: tuple[str, Path], deck: Deck) -> None:
    watched = deck.qd("watch", "garden-o1", "--exit-status")
    assert "task 1 of phase 1 completed: write the greeting" in watched.out
    assert watched.out.splitlines()[-1].startswith("garden-o1  ✓ complete")
    lines = [json.loads(line) for line in deck.qd("watch", "garden-o1", "-o", "ndjson").out.splitlines()]
    assert {line["schema"] for line in lines} == {"qd.timeline/1", "qd.orchestration/1"}
    assert [line["position"] for line in lines[:-1]] == [row["position"] for row in deck.json("timeline", "garden-o1")["items"]]


def test_the_output_of_an_agent_and_what_it_was_asked_can_be_read(launched: tuple[str, Path], deck: Deck) -> None:
    runs = deck.json("show", "garden-o1", "--runs")["items"]
    task = next(run for run in runs if run["kind"] == "task")
    log = deck.qd("logs", "garden-o1", "--run", task["run"]).out
    assert "the greeting is written\n" in log
    assert f"==> {task['run']} attempt 1 on deck <==" in deck.qd("logs", "garden-o1").out
    assert deck.qd("logs", task["run"], "--follow").out == log
    assert deck.json("logs", "garden-o1")["items"][0]["cursor"] > 0
    prompt = deck.qd("logs", "garden-o1", "--run", "r4", "--prompt").out
    assert "echo hello > greeting.txt" in prompt
    assert "nonce" not in deck.json("logs", "garden-o1", "--run", "r4", "--prompt")


def test_reports_and_sql_say_how_long_it_took_and_whether_it_succeeded(launched: tuple[str, Path], deck: Deck) -> None:
    report = deck.json("report", "launches", "--since", "24h", "--by", "project")
    garden = next(item for item in report["items"] if item["group"] == "garden")
    assert (garden["completed"], garden["refused"], garden["orchestrations_complete"]) == (1, 1, 1)
    assert {item["type"] for item in deck.json("report", "latency")["items"]} >= {"launch", "run"}
    assert "validation_not_ready" in deck.qd("report", "failures").out
    sql = "SELECT id, status, duration_ms > 0 AS took FROM orchestrations WHERE project = 'garden'"
    assert deck.json("sql", sql)["items"] == [{"id": "garden-o1", "status": "complete", "took": True}]
    assert deck.qd("sql", sql, "-o", "csv").out == "id,status,took\ngarden-o1,complete,True\n"
    assert "orchestrations" in deck.qd("sql", "--tables").out
    assert "duration_ms" in deck.qd("sql", "--describe", "orchestrations").out


def test_a_row_limit_is_announced_and_never_silent(launched: tuple[str, Path], deck: Deck) -> None:
    cut = deck.qd("sql", "SELECT * FROM range(50)", "--limit", "3", "-o", "ndjson")
    assert cut.out == '{"range":0}\n{"range":1}\n{"range":2}\n'
    assert "only the first 3 rows are shown" in cut.err
    assert deck.json("sql", "SELECT * FROM range(50)", "--limit", "3")["truncated"] is True
    assert deck.qd("sql", "--file", "-", stdin="SELECT 42 AS answer").out.split() == ["answer", "42"]


def test_every_request_is_an_action_that_can_be_found_by_its_key(launched: tuple[str, Path], deck: Deck) -> None:
    actions = deck.json("action", "ls", "--project", "garden")["items"]
    launch = next(action for action in actions if action["type"] == "launch" and action["status"] == "completed")
    shown = deck.json("action", "show", "--project", "garden", "--key", launch["idempotency_key"])
    assert shown["action"] == launch["action"]
    assert (shown["requested_by"], shown["via"]) == ("local", "cli")
    assert deck.qd("action", "wait", launch["action"]).code == 0


def test_the_fleet_and_the_health_can_be_looked_at(deck: Deck) -> None:
    node = deck.json("node", "show", "deck")
    assert (node["online"], node["capacity"], node["agents"][0]["models"]) == (True, 4, ["shell"])
    health = deck.json("doctor")
    assert health["healthy"] is True
    assert {check["check"] for check in health["checks"]} == {
        *("bus", "streams", "sync", "controller", "commands", "dead letters", "timeline", "nodes"),
    }
    assert {flag["flag"] for flag in deck.json("flag", "ls")["items"]} >= {"cp.launch", "require_reason"}
    assert {stream["stream"] for stream in deck.json("bus", "info")["streams"]} >= {"CMD", "LEDGER", "REP"}
    assert deck.json("bus", "info")["sync"] == "always"


def test_a_shell_completes_verbs_and_ids(launched: tuple[str, Path], deck: Deck) -> None:
    assert "garden-o1\tGreeting" in deck.qd("__complete", "show", "gard").out.splitlines()
    assert "deck" in deck.qd("__complete", "launch", "garden-d1", "--node", "").out.splitlines()
    assert "complete" in deck.qd("completion", "bash").out
