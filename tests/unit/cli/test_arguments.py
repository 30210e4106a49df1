"""Arguments: ids that are not safe end in the client, documents are bounded, overrides take their place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bus_schemas import ids
from bus_schemas.policy import PRESETS, ROLES, Preset, resolve
from cli.arguments import DOCUMENT_BYTES_MAX, any_id, document, json_or_text, object_of, pairs, safe, since_time
from cli.exits import Exit
from cli.failure import Failure
from cli.verbs.launch import overrides

UNSAFE = ["*", ">", "a.b", "", "x" * 5120, "a\nb", "a\n", "a\0b", "..", "shop-o1\n", "shop o1", "é-o1", "-", "\u202e"]


@pytest.mark.parametrize("text", UNSAFE, ids=ascii)
@pytest.mark.parametrize(
    "check", [ids.project_id, ids.node_id, ids.design_id, ids.ticket_id, ids.orchestration_id, ids.action_id, ids.run_id, any_id]
)
def test_an_id_that_is_not_safe_never_leaves_the_client(check: Any, text: str) -> None:
    with pytest.raises(ids.BadId):
        check(text) if check is any_id else safe(check, text)


def test_ids_are_lower_cased_before_they_are_checked() -> None:
    assert safe(ids.orchestration_id, "SHOP-O12") == "shop-o12"
    assert any_id("Shop-D3") == "shop-d3"


def test_a_letter_that_lower_cases_into_ascii_is_not_smuggled_in() -> None:
    with pytest.raises(ids.BadId):
        safe(ids.project_id, "\u212aelvin")  # KELVIN SIGN lower-cases to k


def test_a_document_is_read_whole_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "design.md"
    path.write_bytes(b"x" * DOCUMENT_BYTES_MAX)
    assert len(document("--file", str(path))) == DOCUMENT_BYTES_MAX
    path.write_bytes(b"x" * (DOCUMENT_BYTES_MAX + 1))
    with pytest.raises(Failure) as failure:
        document("--file", str(path))
    assert (failure.value.code, failure.value.exit_code) == ("validation_too_large", Exit.REFUSED)


def test_an_endless_file_is_not_read_to_its_end() -> None:
    with pytest.raises(Failure, match="more than 204800 bytes"):
        document("--file", "/dev/zero")


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [("latin1.md", b"caf\xe9", "validation_invalid_payload"), ("missing.md", None, "usage"), ("nul\0.md", None, "usage"), (".", None, "usage")],
)
def test_a_document_that_cannot_be_used_is_one_clear_error(tmp_path: Path, name: str, data: bytes | None, code: str) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(Failure) as failure:
        document("--file", f"{tmp_path}/{name}")
    assert failure.value.code == code


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"model": {}}', {"model": {}}),
        ("[model]\nexecutor = 'shell'\n", {"model": {"executor": "shell"}}),
        ("# c\n[flow]\n", {"flow": {}}),
        ("", {}),
    ],
)
def test_a_policy_is_read_as_json_or_as_toml(text: str, value: dict[str, Any]) -> None:
    assert object_of("--policy", text) == value


@pytest.mark.parametrize("text", ["{", "[1, 2]", "{'a': 1}", '"x"', "a = ", "[" * 5000, "nonsense", '{"a":1} x'])
def test_a_policy_that_is_neither_is_refused_as_invalid_payload(text: str) -> None:
    with pytest.raises(Failure) as failure:
        object_of("--policy", text)
    assert (failure.value.code, failure.value.exit_code) == ("validation_invalid_payload", Exit.REFUSED)


def test_pairs_keep_everything_behind_the_first_equals_sign() -> None:
    assert pairs("--label", ["a=b=c", "d="]) == {"a": "b=c", "d": ""}
    assert pairs("--label", None) == {}
    with pytest.raises(Failure, match="NAME=VALUE"):
        pairs("--label", ["novalue"])


def test_a_value_is_json_where_it_can_be_and_text_else() -> None:
    assert [json_or_text(text) for text in ("4", "true", "null", '["plan"]', "opus", "{", "1e9999")] == [
        4,
        True,
        None,
        ["plan"],
        "opus",
        "{",
        "1e9999",
    ]


def test_one_model_is_for_all_roles_the_secondary_reviewer_too() -> None:
    assert overrides(["shell"], None) == {"model": dict.fromkeys((*map(str, ROLES), "reviewer_secondary"), "shell")}


def test_a_role_named_later_wins_over_the_model_for_all() -> None:
    found = overrides(["shell", "reviewer=opus"], None)["model"]
    assert (found["executor"], found["reviewer"]) == ("shell", "opus")


def test_settings_go_to_their_section_with_or_without_its_name() -> None:
    found = overrides(None, ["flow.max_parallel_tasks=3", 'human_gates=["plan"]', "enforcement=task_only"])
    assert found == {"flow": {"max_parallel_tasks": 3, "human_gates": ["plan"]}, "review": {"enforcement": "task_only"}}
    assert resolve(PRESETS[Preset.BALANCED], found).flow.max_parallel_tasks == 3


def test_a_field_that_no_policy_has_is_suggested_away() -> None:
    with pytest.raises(Failure, match=r"flow\.max_parallel_tasks"):
        overrides(None, ["max_paralel_tasks=3"])


def test_what_a_named_section_may_hold_is_left_to_the_controller() -> None:
    assert overrides(None, ["flow.nonsense=1", "nowhere.x=y"]) == {"flow": {"nonsense": 1}, "nowhere": {"x": "y"}}


def test_a_time_since_is_a_duration_before_now_or_a_time() -> None:
    assert since_time("--since", None) is None
    assert since_time("--since", "2026-11-23T08:00:00+02:00") == "2026-11-23T06:00:00Z"
    assert str(since_time("--since", "24h")).endswith("Z")
    with pytest.raises(Failure, match="not a duration"):
        since_time("--since", "yesterday-ish")
