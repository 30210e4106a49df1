"""Steering what runs: gates, pause and resume, cancel, keys that are used again."""

from __future__ import annotations

from pathlib import Path

from tests.acceptance.deck import GREETING, Deck, waiting

LAUNCH = ("--node", "deck", "--model", "shell")


def test_a_launch_without_tickets_is_taken_with_a_warning(deck: Deck, greeting: str) -> None:
    done = deck.qd("launch", greeting, *LAUNCH, "--feature", "Warned", "--wait=done")
    assert "warning: design only" in done.err
    assert deck.json("show", done.out.split()[3])["design_only"] is True


def test_a_gate_waits_for_a_human_and_goes_on_when_approved(deck: Deck, greeting: str) -> None:
    launched = deck.json("launch", greeting, *LAUNCH, "--feature", "Gated", "--set", 'human_gates=["plan"]')
    o = launched["orchestration"]
    deck.until("a['hold'] and a['hold']['kind'] == 'gate'", "show", o)
    assert [gate["orchestration"] for gate in deck.json("gate", "ls")["items"]] == [o]
    shown = deck.qd("gate", "show", o).out
    assert f"qd gate approve {o}" in shown
    assert f"qd gate approve {o}" in deck.qd("show", o).out
    refused = deck.refused("gate", "reject", o, "--feedback", " ", code=6, reason="validation_missing_field")
    assert refused["action"] is not None
    rejected = deck.json("gate", "reject", o, "--feedback", "say hello louder")
    assert rejected["status"] in ("accepted", "completed")
    deck.until("a['hold'] and a['hold']['kind'] == 'gate' and a['plan'][0]['revision'] == 2", "show", o)
    approved = deck.qd("gate", "approve", o, "--note", "good")
    assert o in approved.out
    assert deck.qd("watch", o, "--exit-status").code == 0
    deck.refused("gate", "approve", o, code=5, reason="validation_invalid_state")


def test_a_pause_is_completed_when_nothing_runs_and_resume_goes_on_where_it_stood(deck: Deck, shop: str, tmp_path: Path) -> None:
    marker = tmp_path / "go-on"
    design = deck.design(shop, "Pausable", waiting(marker))
    o = deck.json("launch", design, *LAUNCH)["orchestration"]
    deck.until("a['phase'] == '1' and a['plan'][0]['tasks'] and a['plan'][0]['tasks'][0]['status'] == 'in_progress'", "show", o)
    paused = deck.json("pause", o)
    assert paused["status"] == "accepted"
    late = deck.qd("action", "wait", paused["action"], "--timeout", "300ms", "-o", "json", code=8)
    assert late.error["action"] == paused["action"]
    assert late.json["status"] == "accepted"
    marker.touch()
    assert deck.json("action", "wait", paused["action"])["status"] == "completed"
    view = deck.json("show", o)
    assert (view["hold"]["kind"], [task["status"] for task in view["plan"][0]["tasks"]][1]) == ("paused", "pending")
    assert f"next      qd resume {o}" in deck.qd("show", o).out
    deck.refused("retry", o, code=5, reason="validation_invalid_state")
    deck.qd("resume", o, "--reason", "lunch is over")
    assert deck.qd("watch", o, "--exit-status").code == 0
    assert deck.json("action", "ls", "--orchestration", o)["items"][0]["reason"] == "lunch is over"


def test_cancel_asks_first_and_then_ends_it_for_good(deck: Deck, shop: str, tmp_path: Path) -> None:
    design = deck.design(shop, "Cancellable", waiting(tmp_path / "never"))
    o = deck.json("launch", design, *LAUNCH)["orchestration"]
    unasked = deck.qd("cancel", o, "-o", "json", code=2)
    assert "--yes" in unasked.error["message"]
    assert deck.qd("cancel", o, "--dry-run", code=20).out.startswith("would be accepted")
    assert deck.json("cancel", o, "--yes", "--wait=done")["status"] == "completed"
    assert deck.json("show", o)["status"] == "cancelled"
    ended = deck.qd("watch", o, "--exit-status", "-o", "json", code=7)
    assert ended.error["message"].startswith(f"{o} ended cancelled")


def test_the_same_key_and_request_take_effect_once(deck: Deck, greeting: str) -> None:
    arguments = ("launch", greeting, *LAUNCH, "--feature", "Once", "--idempotency-key", "once-1")
    first, second = deck.json(*arguments), deck.json(*arguments)
    assert (first["duplicate"], second["duplicate"]) == (False, True)
    assert (first["action"], first["orchestration"], first["position"]) == (second["action"], second["orchestration"], second["position"])
    assert "nothing happened again" in deck.qd(*arguments).out
    other = deck.refused(
        "launch", greeting, *LAUNCH, "--feature", "Twice", "--idempotency-key", "once-1", code=6, reason="validation_idempotency_mismatch"
    )
    assert first["action"] in other["message"]


def test_retry_last_uses_the_key_again_and_only_for_the_same_request(deck: Deck, greeting: str) -> None:
    first = deck.json("launch", greeting, *LAUNCH, "--feature", "Again")
    again = deck.json("launch", greeting, *LAUNCH, "--feature", "Again", "--retry-last")
    assert (again["duplicate"], again["action"], again["idempotency_key"]) == (True, first["action"], first["idempotency_key"])
    other = deck.qd("launch", greeting, *LAUNCH, "--feature", "Other", "--retry-last", "-o", "json", code=2)
    assert "was another request" in other.error["message"]


def test_a_command_that_is_not_waited_for_is_decided_all_the_same(deck: Deck, shop: str) -> None:
    sent = deck.json("ticket", "add", shop, "--title", "Unwaited", "--no-wait", "--idempotency-key", "unwaited-1")
    assert sent == {"schema": "qd.sent/1", "type": "ticket-add", "project": shop, "idempotency_key": "unwaited-1"}
    found = deck.until("a['items'] and a['items'][0]['idempotency_key'] == 'unwaited-1'", "action", "ls", "--project", shop, "--limit", "1")
    assert found["items"][0]["status"] == "completed"


def test_a_dry_run_says_what_would_be_decided_and_records_nothing(deck: Deck, shop: str, greeting: str) -> None:
    before = deck.json("action", "ls", "--project", shop, "--limit", "1")["items"][0]["action"]
    preview = deck.qd("launch", greeting, *LAUNCH, "--feature", "Dry", "--dry-run", "-o", "json", code=20)
    assert preview.json["status"] == "accepted"
    deck.refused("launch", greeting, "--node", "nowhere", "--model", "shell", "--dry-run", code=3, reason="validation_entity_not_found")
    assert deck.json("action", "ls", "--project", shop, "--limit", "1")["items"][0]["action"] == before
    assert "Dry" not in deck.qd("ls", "--project", shop).out


def test_a_command_that_is_too_old_is_never_executed_late(deck: Deck, shop: str) -> None:
    done = deck.run("ticket", "add", shop, "--title", "Late", "--valid-for", "0.000001", "-o", "json")
    assert (done.code, done.error["code"], done.error["retryable"]) == (6, "validation_expired", True)


def test_designs_and_tickets_are_changed_and_moved(deck: Deck, shop: str) -> None:
    design = deck.json("design", "add", shop, "--title", "Draft", "--file", "-", stdin=GREETING)["design"]
    assert deck.json("design", "edit", design, "--title", "Better", "--complexity", "complex")["revision"] == 2
    assert deck.json("design", "move", design, "in_review")["revision"] == 3
    refused = deck.refused("design", "move", design, "archived", code=5, reason="validation_invalid_state")
    assert "in_review" in refused["message"]
    deck.qd("design", "comment", design, "-- what about farewells?")
    shown = deck.json("design", "show", design)
    assert (shown["title"], shown["status"], shown["comments"][0]["body"]) == ("Better", "in_review", "-- what about farewells?")
    ticket = deck.json("ticket", "add", shop, "--title", "T", "--file", "-", stdin="details")["ticket"]
    deck.qd("ticket", "move", ticket, "blocked")
    deck.qd("ticket", "edit", ticket, "--priority", "urgent")
    shown = deck.json("ticket", "show", ticket)
    assert (shown["status"], shown["priority"], shown["body"]) == ("blocked", "urgent", "details")
    assert deck.json("project", "edit", shop, "--check", "true")["status"] == "completed"
    assert deck.json("project", "edit", shop, "--check", "")["status"] == "completed"
    assert deck.json("project", "show", shop)["check"] is None
