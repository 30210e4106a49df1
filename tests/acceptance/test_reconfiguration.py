"""Reconfiguring what runs, through the installed command: policy between phases, tasks of a plan, gates, and an answer to `why`."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from cli.text import between
from tests.acceptance.deck import Deck, git, waiting

LAUNCH = ("--node", "deck", "--model", "shell")


def steps(marker: Path) -> str:
    """A design of two phases; the first task waits for `marker`, each task adds a line to a file."""
    return f"""## Phase 1

### Task 1: first
```sh
for i in $(seq 300); do test -e {marker} && break; sleep 0.1; done
echo first >> steps.txt
```

### Task 2: second
Depends on: 1
```sh
echo second >> steps.txt
```

## Phase 2

### Task 1: third
```sh
echo third >> steps.txt
```
"""


def launched(deck: Deck, shop: str, title: str, body: str, *options: str) -> str:
    o: str = deck.json("launch", deck.design(shop, title, body), *LAUNCH, *options)["orchestration"]
    return o


def in_first_task(deck: Deck, o: str) -> None:
    deck.until("a['plan'][0]['tasks'] and a['plan'][0]['tasks'][0]['status'] == 'in_progress'", "show", o)


def test_a_task_inserted_before_a_pending_one_runs_in_the_new_order(deck: Deck, shop: str, repo: Path, tmp_path: Path) -> None:
    marker = tmp_path / "go"
    o = launched(deck, shop, "Inserted", steps(marker), "--set", "max_parallel_tasks=1")
    in_first_task(deck, o)
    remedy = "A remedy:\n\n```sh\necho remedy >> steps.txt\n```\n"
    arguments = ("task", "insert", o, "1", "--after", "1", "--subject", "remedy", "--depends-on", "1", "--if-revision", "1", "--description", remedy)
    preview = deck.json(*arguments, "--dry-run", code=20)
    assert (preview["diff"]["queue_before"], preview["diff"]["queue_after"]) == (["1.2"], ["1.3", "1.2"])
    assert "queue   1.2\n      →   1.3 1.2" in deck.qd(*arguments, "--dry-run", code=20).out
    assert deck.json("task", "show", o, "1", "2")["depends_on"] == [1], "a dry run changes nothing"
    inserted = deck.json(*arguments)
    assert (inserted["status"], inserted["task"], inserted["revision"]) == ("completed", "1.3", 2)
    conflict = deck.refused(*arguments, code=5, reason="validation_revision_conflict")
    assert "revision 2, not 1" in conflict["message"]
    assert [task["number"] for task in deck.json("task", "ls", o, "--phase", "1")["items"]] == [1, 3, 2]
    marker.touch()
    assert deck.qd("watch", o, "--exit-status").code == 0
    branch = deck.json("show", o)["branch"]
    assert git(repo, "show", f"{branch}:steps.txt").split() == ["first", "remedy", "second", "third"]


def test_pending_tasks_are_edited_skipped_and_given_a_model_and_a_started_one_is_not(deck: Deck, shop: str, tmp_path: Path) -> None:
    marker = tmp_path / "go"
    o = launched(deck, shop, "Edited", steps(marker))
    in_first_task(deck, o)
    assert deck.json("task", "edit", o, "1", "2", "--if-revision", "1", "--subject", "second, better")["revision"] == 2
    deck.refused("task", "edit", o, "1", "2", "--if-revision", "1", "--subject", "late", code=5, reason="validation_revision_conflict")
    deck.refused("task", "edit", o, "1", "1", "--if-revision", "2", "--subject", "late", code=5, reason="validation_invalid_state")
    deck.refused("task", "edit", o, "1", "7", "--if-revision", "1", "--subject", "late", code=3, reason="validation_entity_not_found")
    deck.refused("task", "edit", o, "1", "2", "--if-revision", "2", code=6, reason="validation_missing_field")
    deck.refused("task", "model", o, "1", "2", "gpt-9", "--if-revision", "2", code=6, reason="validation_model_unroutable")
    assert deck.json("task", "model", o, "1", "2", "shell", "--if-revision", "2")["revision"] == 3
    assert deck.json("task", "model", o, "1", "2", "policy", "--if-revision", "3")["revision"] == 4
    assert deck.json("task", "skip", o, "1", "2", "--if-revision", "4")["status"] == "completed"
    marker.touch()
    assert deck.qd("watch", o, "--exit-status").code == 0
    assert [task["status"] for task in deck.json("task", "ls", o, "--phase", "1")["items"]] == ["completed", "skipped"]
    refusals = [a["reason_code"] for a in deck.json("action", "ls", "--orchestration", o, "--status", "refused")["items"]]
    assert len(refusals) == 5, "every refusal is an action on record"


def test_a_bad_dependency_is_refused_and_named(deck: Deck, shop: str, tmp_path: Path) -> None:
    o = launched(deck, shop, "Cyclic", steps(tmp_path / "never"))
    in_first_task(deck, o)
    base = ("task", "insert", o, "1", "--after", "1", "--subject", "x", "--if-revision", "1")
    assert "cycle" in deck.refused(*base, "--depends-on", "2", "--blocks", "2", code=6, reason="validation_dependency_invalid")["message"]
    assert "task 9" in deck.refused(*base, "--depends-on", "9", code=6, reason="validation_dependency_invalid")["message"]
    assert "task 1" in deck.refused(*base, "--depends-on", "none", "--blocks", "1", code=6, reason="validation_dependency_invalid")["message"]
    deck.refused(
        "task",
        "insert",
        o,
        "2",
        "--after",
        "0",
        "--subject",
        "x",
        "--depends-on",
        "none",
        "--if-revision",
        "0",
        code=5,
        reason="validation_invalid_state",
    )
    assert deck.qd(*base, "--depends-on", "one", "-o", "json", code=2).error["message"].startswith("--depends-on 'one' is not valid")
    deck.qd("cancel", o, "--yes")


def test_a_policy_changed_between_phases_is_used_by_the_later_runs_and_the_launch_stays_as_it_was(deck: Deck, shop: str, tmp_path: Path) -> None:
    marker = tmp_path / "go"
    o = launched(deck, shop, "Repoliced", steps(marker))
    in_first_task(deck, o)
    snapshot = deck.json("policy", "show", o, "--at-launch")
    preview = deck.qd("policy", "set", o, 'flow.human_gates=["finalize"]', "run_timeout_s=600", "--if-revision", "1", "--dry-run", code=20).out
    assert "flow.human_gates: none → finalize" in preview
    assert "flow.run_timeout_s: 1800 → 600" in preview
    assert deck.json("policy", "set", o, 'flow.human_gates=["finalize"]', "run_timeout_s=600", "--if-revision", "1")["revision"] == 2
    late = deck.refused("policy", "model", o, "executor", "shell", "--if-revision", "1", code=5, reason="validation_revision_conflict")
    assert "flow.human_gates = finalize" in late["message"]
    deck.refused("policy", "set", o, "flow.speed=9", "--if-revision", "2", code=6, reason="validation_invalid_payload")
    deck.refused("policy", "model", o, "planner", "gpt-9", "--if-revision", "2", code=6, reason="validation_model_unroutable")
    marker.touch()
    deck.until("a['hold'] and a['hold']['kind'] == 'gate'", "show", o)
    assert deck.json("gate", "show", o)["gate"] == "finalize"
    assert deck.json("policy", "show", o, "--at-launch")["hash"] == snapshot["hash"]
    second = deck.json("policy", "show", o, "--revision", "2")
    assert (second["changed"], second["policy"]["flow"]["run_timeout_s"]) == (["flow.run_timeout_s", "flow.human_gates"][::-1], 600)
    changes = {item["field"]: item["after"] for item in deck.json("policy", "diff", o)["items"]}
    assert changes == {"flow.human_gates": ["finalize"], "flow.run_timeout_s": 600}
    deck.refused("policy", "show", o, "--revision", "9", code=3, reason="validation_entity_not_found")
    revisions = [run["policy_revision"] for run in deck.json("show", o, "--runs")["items"]]
    assert revisions == sorted(revisions)
    assert (revisions[0], revisions[-1]) == (1, 2)
    deck.qd("gate", "approve", o)
    assert deck.qd("watch", o, "--exit-status").code == 0


def test_feedback_of_a_rejected_plan_reaches_the_next_planner_and_the_approved_one_is_done(deck: Deck, shop: str, tmp_path: Path) -> None:
    marker = tmp_path / "go"
    marker.touch()
    o = launched(deck, shop, "Judged", steps(marker), "--set", 'human_gates=["plan"]')
    deck.until("a['hold'] and a['hold']['kind'] == 'gate'", "show", o)
    assert f"qd gate approve {o}" in deck.qd("why", o).out
    deck.qd("gate", "reject", o, "--feedback", "name the file")
    deck.until("a['hold'] and a['hold']['kind'] == 'gate' and a['plan'][0]['revision'] == 2", "show", o)
    tasks = deck.json("task", "ls", o, "--phase", "1")["items"]
    assert [task["status"] for task in tasks] == ["skipped", "skipped", "pending", "pending"]
    issues = [row for row in deck.json("timeline", o)["items"] if row["type"] == "issues-raised"]
    assert "name the file" in str(issues[-1]["detail"])
    planner = deck.json("sql", f"SELECT run FROM runs WHERE orchestration = '{o}' AND kind = 'plan' ORDER BY queued_at")["items"][-1]["run"]
    asked = deck.json("logs", o, "--run", planner, "--prompt")["inputs"]  # as it was asked then, although the plan is made
    assert ([issue["text"] for issue in asked["issues"]], len(asked["tasks"])) == (["name the file"], 2)
    for _ in (1, 2):
        deck.qd("gate", "approve", o)
        deck.until("a['status'] in ('complete',) or (a['hold'] and a['hold']['kind'] == 'gate')", "show", o)
    assert deck.json("show", o)["status"] == "complete"


def test_reviewers_who_disagree_wait_for_the_operator(deck: Deck, shop: str, tmp_path: Path) -> None:
    first = tmp_path / "first"
    body = f"## Phase 1\n### Task 1: a\n```sh\ndate > a\n```\n### Check\n```sh\nmkdir {first}\n```\n"
    o = launched(deck, shop, "Disputed", body, "--set", "review_consensus=true", "--set", "enforcement=phase_only")
    view = deck.until("a['hold'] and a['hold']['kind'] == 'gate'", "show", o)
    assert view["hold"]["reason_code"] == "execution_consensus_disagreement"
    shown = deck.qd("gate", "show", o).out
    assert "primary says" in shown
    assert "secondary says" in shown
    deck.qd("gate", "approve", o)
    assert deck.qd("watch", o, "--exit-status").code == 0


def test_gaps_to_the_end_of_all_remedies_fail_and_stay_failed(deck: Deck, shop: str) -> None:
    body = "## Phase 1\n### Task 1: a\n```sh\ndate >> a\n```\n### Check\n```sh\necho never good; exit 1\n```\n"
    o = launched(deck, shop, "Hopeless", body, "--set", "enforcement=phase_only")
    ended = deck.qd("watch", o, "--exit-status", "-o", "json", code=7)
    assert ended.error["code"] == "execution_review_exhausted"
    phases = [(phase["phase"], phase["repairs"]) for phase in deck.json("show", o)["plan"]]
    assert phases == [("1", 2), ("1.5", 0), ("1.5.5", 0)]
    deck.refused("retry", o, code=5, reason="validation_invalid_state")


def test_a_cancel_against_finalize_ends_one_way_or_the_other(deck: Deck, shop: str, repo: Path, tmp_path: Path) -> None:
    marker = tmp_path / "go"
    marker.touch()
    o = launched(deck, shop, "Late cancel", steps(marker), "--set", 'human_gates=["finalize"]')
    deck.until("a['hold'] and a['hold']['kind'] == 'gate'", "show", o)
    deck.qd("gate", "approve", o)
    cancel = deck.run("cancel", o, "--yes", "-o", "json")
    view = deck.until("a['status'] in ('complete', 'cancelled')", "show", o)
    if cancel.code != 0:
        assert (cancel.error["code"], view["status"]) == ("validation_invalid_state", "complete")
        return
    action = deck.until("a['status'] in ('completed', 'failed')", "action", "show", cancel.json["action"])
    assert (action["status"], view["status"]) in (("completed", "cancelled"), ("failed", "complete"))
    has_branch = view["branch"] in git(repo, "branch", "--list", "--format=%(refname:short)", "qd/*").split()
    assert has_branch or view["status"] == "cancelled"


def test_why_names_what_waits_and_what_frees_it_and_the_past_can_be_looked_at(deck: Deck, shop: str, tmp_path: Path) -> None:
    marker = tmp_path / "go"
    o = launched(deck, shop, "Asked why", waiting(marker))
    in_first_task(deck, o)
    before = deck.json("show", o)["position"]
    found = deck.json("why", o)
    assert any("runs on deck" in text for text in found["running"])
    assert [(w["what"], w["reason"]) for w in found["obstacles"]] == [("task 2 of phase 1", "it waits for task 1 (in_progress)")]
    deck.qd("pause", o)
    paused = deck.json("why", o)
    assert paused["hold"] == "pausing"
    assert "has ended" in paused["obstacles"][0]["frees"]
    marker.touch()
    deck.until("a['hold'] and a['hold']['kind'] == 'paused'", "show", o)
    assert deck.json("why", o)["obstacles"][0]["frees"] == f"qd resume {o}"
    past = deck.json("show", o, "--at", before)
    assert (past["holds"], past["plan"][0]["tasks"][0]["status"]) == ([], "in_progress")
    assert f"took      {between(past['created_at'], None, datetime.fromisoformat(past['as_of']))}   " in deck.qd("show", o, "--at", before).out
    deck.refused("show", o, "--at", "1", code=3, reason="validation_entity_not_found")
    deck.qd("resume", o)
    assert deck.qd("watch", o, "--exit-status").code == 0
    assert "it is complete" in deck.qd("why", o).out


def test_a_flag_is_turned_off_refuses_with_its_code_and_is_rolled_back(deck: Deck, shop: str, tmp_path: Path) -> None:
    o = launched(deck, shop, "Flagged", waiting(tmp_path / "never"))
    off = deck.json("flag", "set", "cp.task_reconfiguration", "off")
    deck.refused("task", "skip", o, "1", "2", "--if-revision", "1", code=4, reason="validation_feature_disabled")
    assert deck.json("flag", "rollback", off["action"])["status"] == "completed"
    flags = {flag["flag"]: flag["on"] for flag in deck.json("flag", "ls")["items"]}
    assert flags["cp.task_reconfiguration"] is True
    deck.refused("flag", "rollback", off["action"], code=3, reason="validation_entity_not_found")
    assert deck.json("cancel", o, "--yes", "--wait=done")["status"] == "completed"


def test_a_drain_says_before_what_it_will_do(deck: Deck, shop: str, tmp_path: Path) -> None:
    marker = tmp_path / "go"
    o = launched(deck, shop, "Drained", waiting(marker))
    in_first_task(deck, o)
    preview = deck.qd("node", "drain", "deck", "--dry-run", code=20).out
    assert o in preview
    assert "no other node fits: it stays" in preview
    deck.qd("node", "drain", "deck")
    assert "draining" in deck.qd("node", "ls").out
    deck.refused("launch", deck.design(shop, "More", waiting(marker)), *LAUNCH, code=6, reason="validation_node_offline")
    deck.qd("node", "uncordon", "deck")
    marker.touch()
    assert deck.qd("watch", o, "--exit-status").code == 0
