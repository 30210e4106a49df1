"""Bad input: one reason code and one exit code each, nothing written but the refusal; ids that are not safe never leave the client."""

from __future__ import annotations

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from bus_schemas.policy import PRESETS, Preset
from tests.acceptance.deck import Deck

SHELL = ("--model", "shell")


class Bad(NamedTuple):
    """A command line that must fail: with this exit code and reason code, after or before it was sent."""

    arguments: tuple[str, ...]
    code: int
    reason: str
    recorded: bool
    stdin: str = ""


def launch(*arguments: str, node: str = "deck", design: str = "shop-d1") -> tuple[str, ...]:
    return ("launch", design, "--node", node, *arguments)


def half_a_policy() -> str:
    return json.dumps({"model": {"executor": "shell"}})


REFUSED = [
    Bad(("design", "add", "nowhere", "--title", "T", "--file", "-"), 3, "validation_entity_not_found", True),
    Bad(("ticket", "add", "shop", "--title", "T", "--design", "shop-d999"), 3, "validation_entity_not_found", True),
    Bad(launch(*SHELL, design="shop-d999"), 3, "validation_entity_not_found", True),
    Bad(launch(*SHELL, design="nowhere-d1"), 3, "validation_entity_not_found", True),
    Bad(launch(*SHELL, "--ticket", "other-t1"), 3, "validation_entity_not_found", True),
    Bad(launch(*SHELL, node="nowhere"), 3, "validation_entity_not_found", True),
    Bad(launch(), 6, "validation_model_unroutable", True),
    Bad(launch("--model", "no/such:model"), 6, "validation_model_unroutable", True),
    Bad(launch(*SHELL, "--label", "arch=vax", node="auto"), 6, "validation_node_offline", True),
    Bad(launch("--policy", "-"), 6, "validation_invalid_payload", True, half_a_policy()),
    Bad(launch(*SHELL, "--preset", "loose"), 6, "validation_invalid_payload", True),
    Bad(launch(*SHELL, "--set", "flow.max_parallel_tasks=none"), 6, "validation_invalid_payload", True),
    Bad(launch(*SHELL, "--set", "flow.nonsense=1"), 6, "validation_invalid_payload", True),
    Bad(launch(*SHELL, "--branch", "main"), 6, "validation_invalid_payload", True),
    Bad(launch(*SHELL, "--feature", "  "), 6, "validation_missing_field", True),
    Bad(("design", "mark", "shop-d1", "no_such_marker"), 6, "validation_invalid_payload", True),
    Bad(("design", "add", "shop", "--title", "x" * 201, "--file", "-"), 6, "validation_too_large", True),
    Bad(("project", "add", "plane", "--repo", "/tmp"), 6, "validation_invalid_payload", True),
    Bad(("project", "add", "shop", "--repo", "/tmp"), 5, "validation_invalid_state", True),
    Bad(("project", "edit", "shop"), 6, "validation_missing_field", True),
    Bad(("pause", "shop-o999"), 3, "validation_entity_not_found", True),
    Bad(("flag", "set", "cp.nonsense", "on"), 3, "validation_entity_not_found", True),
    Bad(("show", "shop-o999"), 3, "validation_entity_not_found", False),
    Bad(("node", "show", "nowhere"), 3, "validation_entity_not_found", False),
    Bad(("action", "show", "shop-a99999"), 3, "validation_entity_not_found", False),
    Bad(("timeline", "shop-o999"), 3, "validation_entity_not_found", False),
    Bad(("logs", "shop-o999"), 3, "validation_entity_not_found", False),
    Bad(("sql", "--describe", "nothing"), 3, "validation_entity_not_found", False),
    Bad(("sql", "DROP TABLE events"), 6, "validation_invalid_payload", False),
    Bad(("sql", "SELECT FROM WHERE"), 6, "validation_invalid_payload", False),
    Bad(("report", "launches", "--by", "nonsense"), 6, "validation_invalid_payload", False),
    Bad(launch("--policy", "-"), 6, "validation_invalid_payload", False, "{bad json"),
    Bad(("design", "add", "shop", "--title", "T", "--file", "-"), 6, "validation_too_large", False, "x" * 300 * 1024),
    Bad(("ticket", "add", "shop", "--title", "T", "--file", "-"), 6, "validation_too_large", False, "x" * 17 * 1024),
    Bad(("project", "add", "x" * 5120, "--repo", "/tmp"), 6, "validation_invalid_payload", False),
    Bad(("ticket", "add", "shop", "--title", "T", "--idempotency-key", "k" * 201), 6, "validation_invalid_payload", False),
    Bad(("ticket", "add", "shop", "--title", "T", "--idempotency-key", "a\nb"), 6, "validation_invalid_payload", False),
]

UNSAFE = ("*", ">", "a.b", "", "x" * 5120, "a\nb", "..", "shop-o1\n")


def test_each_bad_request_has_one_reason_code_and_one_exit_code(deck: Deck, greeting: str) -> None:
    assert greeting.startswith("shop-d")
    expected = [(bad.arguments[:3], bad.code, bad.reason, bad.recorded) for bad in REFUSED]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda bad: outcome(deck, bad), REFUSED))
    assert found == expected


def outcome(deck: Deck, bad: Bad) -> tuple[tuple[str, ...], int, str, bool]:
    done = deck.run(*bad.arguments, "-o", "json", stdin=bad.stdin)
    receipt = json.loads(done.out) if done.out else None
    error = done.error
    assert receipt is None or (receipt["status"], receipt["reason_code"], receipt["action"]) == ("refused", error["code"], error["action"])
    assert error["message"]
    assert error["hint"]
    return bad.arguments[:3], done.code, error["code"], receipt is not None


def commands_stored(deck: Deck) -> int:
    streams = deck.json("bus", "info")["streams"]
    return int(next(stream["last_seq"] for stream in streams if stream["stream"] == "CMD"))


def unsafe_commands() -> Iterable[tuple[str, ...]]:
    for text in UNSAFE:
        yield ("pause", text)
    yield ("show", "*")
    yield ("node", "show", ">")
    yield ("project", "add", "a.b", "--repo", "/tmp")
    yield ("launch", "*", "--node", "deck")
    yield ("launch", "shop-d1", "--node", "de*k")
    yield ("launch", "shop-d1", "--node", "deck", "--ticket", "*")
    yield ("design", "show", "shop-o1")


def test_an_id_that_is_not_safe_is_refused_by_the_client_before_a_byte_is_sent(deck: Deck, greeting: str) -> None:
    before = commands_stored(deck)
    commands = list(unsafe_commands())
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda arguments: deck.run(*arguments, "-o", "json"), commands))
    assert [(done.code, done.error["code"], done.out) for done in found] == [(6, "validation_invalid_payload", "")] * len(commands)
    assert commands_stored(deck) == before
    assert deck.json("doctor")["healthy"] is True


def test_bytes_that_are_no_text_are_refused_by_the_client(deck: Deck) -> None:
    done = deck.run("ticket", "add", "shop", "--title", b"caf\xe9", "-o", "json")
    assert (done.code, done.error["code"]) == (6, "validation_invalid_payload")


def test_what_does_not_exist_is_answered_with_what_may_have_been_meant(deck: Deck, greeting: str) -> None:
    hint = deck.qd("design", "show", f"{greeting}9", code=3).err.partition("Did you mean ")[2]
    assert greeting in hint
    assert "Did you mean deck" in deck.qd("node", "show", "dek", code=3).err
    assert "Did you mean" not in deck.qd("flag", "rollback", "plane-a99", code=3).err  # the message names those that can be
    assert 'Did you mean "launch"' in deck.qd("lanch", code=2).err
    assert "Did you mean validation_node_offline" in deck.qd("explain", "validation_node_ofline", code=3).err


def test_a_whole_policy_is_taken_as_json_and_as_toml(deck: Deck, greeting: str) -> None:
    import msgspec

    policy = msgspec.to_builtins(PRESETS[Preset.FAST])
    policy["model"] |= dict.fromkeys(("validator", "planner", "executor", "reviewer"), "shell")
    preview = deck.qd("launch", greeting, "--node", "deck", "--feature", "Whole", "--policy", "-", "--dry-run", stdin=json.dumps(policy), code=20)
    assert "would be accepted" in preview.out
