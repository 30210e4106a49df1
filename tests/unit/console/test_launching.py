"""The launch form: what differs from a preset is sent, and all errors are told at once."""

from __future__ import annotations

import msgspec
import pytest

from bus_schemas.commands import Launch
from bus_schemas.policy import PRESETS, SECTIONS, Preset, policy_hash, resolve
from console import launching


def whole(preset: Preset) -> dict[str, dict[str, object]]:
    """Return the values that the form has when a preset fills it."""
    found: dict[str, dict[str, object]] = msgspec.json.decode(msgspec.json.encode(PRESETS[preset]))
    return found


@pytest.mark.parametrize("preset", list(Preset))
def test_a_form_as_its_preset_filled_it_sends_no_override(preset: Preset) -> None:
    command = Launch(design="shop-d1", node="auto", preset=preset.value, overrides=whole(preset))
    assert launching.pruned(command).overrides == {}


@pytest.mark.parametrize("preset", list(Preset))
def test_only_the_changed_field_is_sent_and_the_policy_is_the_same(preset: Preset) -> None:
    overrides = whole(preset)
    overrides["flow"]["max_parallel_tasks"] = 7
    command = Launch(design="shop-d1", node="auto", preset=preset.value, overrides=overrides)
    pruned = launching.pruned(command)
    assert pruned.overrides == {"flow": {"max_parallel_tasks": 7}}
    assert resolve(PRESETS[preset], pruned.overrides) == resolve(PRESETS[preset], overrides)


def test_what_a_preset_does_not_know_is_kept_for_the_controller_to_refuse() -> None:
    command = Launch(design="shop-d1", node="auto", overrides={"flow": {"unknown": 1}, "nowhere": {"x": 2}})
    assert launching.pruned(command).overrides == command.overrides


def test_an_unknown_preset_is_left_alone_and_told() -> None:
    command = Launch(design="shop-d1", node="auto", preset="wild", overrides={"flow": {"max_parallel_tasks": 2}})
    assert launching.pruned(command) == command
    found = launching.resolved(command)
    assert found.policy is None
    assert found.errors[0][0] == "preset"


def test_all_errors_are_told_at_once() -> None:
    wrong = {"flow": {"max_parallel_tasks": 0, "budget_usd": -1, "unknown": 1}, "model": {"planner": ""}}
    found = launching.resolved(Launch(design="shop-d1", node="auto", overrides=wrong))
    assert found.policy is None
    assert {path for path, _ in found.errors} == {"flow.max_parallel_tasks", "flow.budget_usd", "flow.unknown", "model.planner"}


def test_what_a_form_comes_to_has_its_hash_and_what_changed() -> None:
    found = launching.resolved(Launch(design="shop-d1", node="auto", overrides={"flow": {"max_parallel_tasks": 7}}))
    assert found.policy is not None
    assert found.hash == policy_hash(found.policy)
    assert found.changed == [("flow.max_parallel_tasks", PRESETS[Preset.BALANCED].flow.max_parallel_tasks, 7)]


def test_the_form_has_every_field_of_the_policy_with_its_value_in_every_preset() -> None:
    fields = launching.fields()
    assert [field.path for field in fields] == [f"{section}.{name}" for section, kind in SECTIONS.items() for name in kind.__struct_fields__]
    for preset in Preset:
        assert {f.path: f.presets[preset.value] for f in fields} == {
            f"{s}.{n}": v for s, values in msgspec.to_builtins(PRESETS[preset]).items() for n, v in values.items()
        }
    assert {field.section for field in fields} == set(launching.LEGENDS)


@pytest.mark.parametrize(
    ("path", "kind"), [("flow.human_gates", "gates"), ("flow.phases_enabled", "text"), ("flow.budget_usd", "number"), ("model.planner", "text")]
)
def test_a_field_is_shown_by_its_kind(path: str, kind: str) -> None:
    assert {field.path: field.kind for field in launching.fields()}[path] == kind


def test_a_choice_offers_what_the_contract_allows() -> None:
    for field in launching.fields():
        if field.kind == "choice":
            assert set(field.presets.values()) <= set(field.choices)
