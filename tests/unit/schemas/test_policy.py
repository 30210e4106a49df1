"""Policy: the presets of the contract, overrides, whole policies, and the canonical hash."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from bus_schemas.canonical import canonical, canonical_hash
from bus_schemas.policy import (
    ERRORS_SHOWN_MAX,
    PRESETS,
    SECTIONS,
    FlowPolicy,
    ModelPolicy,
    Policy,
    PolicyError,
    Preset,
    ReviewPolicy,
    Role,
    check_hash,
    model_for,
    models_of,
    policy_hash,
    resolve,
    whole,
)

TABLES: dict[str, dict[str, tuple[Any, Any, Any]]] = {
    "model": {
        "validator": ("opus", "opus", "opus"),
        "planner": ("opus", "opus", "opus"),
        "executor": ("opus", "opus", "haiku"),
        "reviewer": ("opus", "opus", "haiku"),
        "reviewer_secondary": ("haiku", "haiku", "haiku"),
        "review_consensus": (False, False, False),
    },
    "review": {
        "enforcement": ("task_and_phase", "task_and_phase", "phase_only"),
        "detector_scope": ("whole_repo_pattern_index", "whole_repo_pattern_index", "touched_area_only"),
        "architect_mode": ("manual_plus_auto", "manual_plus_auto", "disabled"),
        "test_integrity_profile": ("max_strict", "strict_baseline", "minimal"),
        "hard_block_detectors": (True, True, False),
        "allow_rare_override": (False, True, True),
        "require_fix_first": (True, True, False),
    },
    "flow": {
        "phases_enabled": (None, None, None),
        "human_gates": (["plan", "review", "finalize"], [], []),
        "max_parallel_tasks": (1, 2, 4),
        "max_task_attempts": (2, 2, 2),
        "run_timeout_s": (1800, 1800, 1800),
        "on_node_loss": ("wait", "wait", "wait"),
        "budget_usd": (None, None, None),
        "budget_tokens": (None, None, None),
    },
}
"""The tables of domain §5: strict, balanced, fast."""

VALUES: dict[str, list[str]] = {
    "enforcement": ["task_and_phase", "task_only", "phase_only"],
    "detector_scope": ["whole_repo_pattern_index", "touched_area_only", "architectural_allowlist_only"],
    "architect_mode": ["manual_plus_auto", "manual_only", "disabled"],
    "test_integrity_profile": ["strict_baseline", "max_strict", "minimal"],
}

CELLS = [(section, field, column) for section, fields in TABLES.items() for field in fields for column in range(3)]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def errors_of(call: Any, *arguments: Any) -> dict[str, str]:
    with pytest.raises(PolicyError) as caught:
        call(*arguments)
    return dict(caught.value.errors)


@pytest.mark.parametrize(("section", "field", "column"), CELLS)
def test_a_preset_has_the_value_of_the_table(section: str, field: str, column: int) -> None:
    preset = list(Preset)[column]
    assert msgspec.to_builtins(PRESETS[preset])[section][field] == _builtin(TABLES[section][field][column])


def _builtin(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def test_the_tables_name_every_field_of_a_policy_and_every_preset() -> None:
    assert list(Preset) == ["strict", "balanced", "fast"]
    assert {section: list(fields) for section, fields in TABLES.items()} == {
        section: [field.name for field in msgspec.structs.fields(kind)] for section, kind in SECTIONS.items()
    }
    assert set(PRESETS) == set(Preset)
    assert PRESETS[Preset.BALANCED] == Policy()


@pytest.mark.parametrize("field", VALUES)
def test_a_review_field_takes_the_values_of_the_table_and_no_other(field: str) -> None:
    for value in VALUES[field]:
        assert getattr(resolve(Policy(), {"review": {field: value}}).review, field) == value
    for other in ("", "Disabled", VALUES[field][0] + "\n", None, True, 1):
        assert f"review.{field}" in errors_of(resolve, Policy(), {"review": {field: other}})
    assert ", ".join(VALUES[field]) in errors_of(resolve, Policy(), {"review": {field: "x"}})[f"review.{field}"]


@pytest.mark.parametrize(
    ("preset", "digest"),
    [
        (Preset.STRICT, "sha256-8746ac7707ee3f2370e3c3aa76d5ddf35f7cc8164fcb09110e229c6ff4eb81be"),
        (Preset.FAST, "sha256-6b82a91c851a82fdeeaded5b8b040d69081ef6fd93df9533bc687d585e3247cd"),
    ],
)
def test_the_check_hash_is_the_one_of_the_contract(preset: Preset, digest: str) -> None:
    assert check_hash(PRESETS[preset]) == digest


def test_the_check_hash_covers_four_roles_and_seven_review_fields_only() -> None:
    changed = resolve(PRESETS[Preset.FAST], {"model": {"reviewer_secondary": "x", "review_consensus": True}, "flow": {"run_timeout_s": 1}})
    assert check_hash(changed) == check_hash(PRESETS[Preset.FAST])
    assert policy_hash(changed) != policy_hash(PRESETS[Preset.FAST])


def test_a_policy_hash_can_be_recomputed_with_nothing_but_json() -> None:
    policy = PRESETS[Preset.STRICT]
    text = json.dumps(msgspec.to_builtins(policy), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert policy_hash(policy) == "sha256-" + hashlib.sha256(text.encode()).hexdigest()
    assert len({policy_hash(policy) for policy in PRESETS.values()}) == 3


def _reversed(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _reversed(inner) for name, inner in reversed(value.items())}
    return [_reversed(inner) for inner in value] if isinstance(value, list) else value


@given(json_values)
def test_the_canonical_hash_does_not_depend_on_the_order_of_keys(value: Any) -> None:
    assert canonical_hash(value) == canonical_hash(_reversed(value))


@given(json_values)
def test_canonical_json_means_what_it_was_made_of(value: Any) -> None:
    assert msgspec.json.decode(canonical(value)) == value


def test_canonical_json_sorts_at_every_level_without_blanks() -> None:
    assert canonical({"b": [{"z": 1, "a": "ä"}], "a": None}) == '{"a":null,"b":[{"a":"ä","z":1}]}'.encode()


def test_overrides_change_what_they_name_and_nothing_else() -> None:
    policy = resolve(PRESETS[Preset.FAST], {"model": {"planner": "sonnet"}, "flow": {"human_gates": ["finalize"], "budget_usd": 2}})
    expected = msgspec.to_builtins(PRESETS[Preset.FAST])
    expected["model"]["planner"] = "sonnet"
    expected["flow"]["human_gates"] = ("finalize",)
    expected["flow"]["budget_usd"] = 2.0
    assert msgspec.to_builtins(policy) == expected
    assert resolve(policy, {}) == policy
    assert resolve(policy, {"model": {}}) == policy


def test_all_errors_of_overrides_are_found_at_once() -> None:
    errors = errors_of(
        resolve,
        Policy(),
        {
            "models": {},
            "review": [],
            "model": {"plannr": "opus", "planner": "", "executor": "a b", "reviewer": 3, "review_consensus": "yes"},
            "flow": {"max_parallel_tasks": 0, "human_gates": ["plan", "lunch"], "phases_enabled": [], "budget_usd": -1, "run_timeout_s": True},
        },
    )
    assert list(errors) == [
        "models",
        "review",
        "model.plannr",
        "model.planner",
        "model.executor",
        "model.reviewer",
        "model.review_consensus",
        "flow.max_parallel_tasks",
        "flow.human_gates",
        "flow.phases_enabled",
        "flow.budget_usd",
        "flow.run_timeout_s",
    ]
    assert errors["models"] == "unknown section; allowed: model, review, flow"
    assert "allowed: validator, planner" in errors["model.plannr"]
    assert "allowed: plan, review, finalize" in errors["flow.human_gates"]
    assert "'lunch'" in errors["flow.human_gates"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("phases_enabled", [0]),
        ("phases_enabled", [1.5]),
        ("phases_enabled", "1"),
        ("phases_enabled", [1] * 201),
        ("human_gates", ["plan"] * 4),
        ("human_gates", "plan"),
        ("max_parallel_tasks", 65),
        ("max_parallel_tasks", 1.5),
        ("max_parallel_tasks", "2"),
        ("max_parallel_tasks", 10**30),
        ("max_task_attempts", 0),
        ("max_task_attempts", 21),
        ("run_timeout_s", 0),
        ("run_timeout_s", 604801),
        ("run_timeout_s", None),
        ("on_node_loss", "panic"),
        ("budget_usd", 0),
        ("budget_usd", float("nan")),
        ("budget_usd", float("inf")),
        ("budget_usd", "5"),
        ("budget_tokens", 0),
        ("budget_tokens", 0.5),
        ("budget_tokens", 10**13),
    ],
)
def test_a_flow_value_out_of_range_or_of_another_type_is_refused(field: str, value: Any) -> None:
    assert list(errors_of(resolve, Policy(), {"flow": {field: value}})) == [f"flow.{field}"]


@pytest.mark.parametrize("model", ["opus", "gpt-5.1-codex", "o3-mini", "claude-opus-4-5@20251101", "vendor/model:free", "a" * 100, "shell"])
def test_a_model_is_a_short_word(model: str) -> None:
    assert resolve(Policy(), {"model": {"executor": model}}).model.executor == model


@pytest.mark.parametrize("model", ["", " ", "opus\n", "opus ", "-opus", "a b", "a\0", "a;b", "$(id)", "a" * 101, "ö", "*", None, 1], ids=ascii)
def test_what_is_no_model_is_refused(model: Any) -> None:
    assert list(errors_of(resolve, Policy(), {"model": {"executor": model}})) == ["model.executor"]


def test_a_refused_policy_makes_a_message_that_a_receipt_can_hold() -> None:
    with pytest.raises(PolicyError) as caught:
        resolve(Policy(), {"model": {f"{number}\x1b" + "x" * 500: 1 for number in range(5000)}, "review": {"enforcement": "y" * 100_000}})
    assert len(caught.value.errors) == 5001
    assert len(str(caught.value)) < ERRORS_SHOWN_MAX * 1000
    assert str(caught.value).endswith("and 4981 more")
    assert "\x1b" not in str(caught.value)


@given(st.dictionaries(st.sampled_from([*SECTIONS, "x"]) | st.text(), json_values, max_size=4))
def test_overrides_of_any_kind_make_a_policy_or_a_policy_error(overrides: dict[str, Any]) -> None:
    try:
        policy = resolve(Policy(), overrides)
    except PolicyError as error:
        event(f"{min(len(error.errors), 3)} errors or more")
    else:
        assert msgspec.convert(msgspec.to_builtins(policy), Policy) == policy


@pytest.mark.parametrize("preset", Preset)
def test_a_whole_policy_is_read_as_it_is_written(preset: Preset) -> None:
    document = json.loads(msgspec.json.encode(PRESETS[preset]))
    assert whole(document) == PRESETS[preset]
    assert policy_hash(whole(document)) == policy_hash(PRESETS[preset])


@pytest.mark.parametrize(("section", "field"), [(section, field) for section, fields in TABLES.items() for field in fields])
def test_a_policy_without_a_field_is_half_a_policy(section: str, field: str) -> None:
    document = json.loads(msgspec.json.encode(Policy()))
    del document[section][field]
    errors = errors_of(whole, document)
    assert list(errors) == [f"{section}.{field}"]
    assert errors[f"{section}.{field}"].startswith("missing")


@pytest.mark.parametrize("section", SECTIONS)
def test_half_a_policy_is_refused_naming_each_missing_field(section: str) -> None:
    document = json.loads(msgspec.json.encode(Policy()))
    del document[section]
    assert list(errors_of(whole, document)) == [f"{section}.{field}" for field in TABLES[section]]


def test_a_whole_policy_tells_what_is_wrong_together_with_what_is_missing() -> None:
    errors = errors_of(whole, {"model": 3, "review": {"enforcement": "x"}, "flw": {}})
    assert errors["model"] == "must be an object of fields"
    assert errors["flw"].startswith("unknown section")
    assert errors["review.enforcement"].startswith("Invalid enum value 'x'")
    assert sum(text.startswith("missing") for text in errors.values()) == 6 + 6 + 8


def test_a_secondary_reviewer_is_needed_only_under_consensus() -> None:
    assert models_of(PRESETS[Preset.FAST]) == ("opus", "haiku")
    policy = Policy(model=ModelPolicy(reviewer_secondary="sonnet"))
    assert models_of(policy) == ("opus",)
    consensus = resolve(policy, {"model": {"review_consensus": True}})
    assert models_of(consensus) == ("opus", "sonnet")


def test_each_role_has_its_model() -> None:
    policy = Policy(ModelPolicy("a", "b", "c", "d", "e"), ReviewPolicy(), FlowPolicy())
    assert {role.value: model_for(policy, role) for role in Role} == {
        "validator": "a",
        "planner": "b",
        "executor": "c",
        "reviewer": "d",
        "reviewer_secondary": "e",
    }
