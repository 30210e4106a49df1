"""Reason codes: those of the contract, each explained."""

from __future__ import annotations

from pathlib import Path

import pytest

from bus_schemas.reasons import EXPLANATIONS, Reason, category

CONTRACT = {
    "validation": "missing_field invalid_payload unknown_action revision_conflict invalid_state entity_not_found node_offline idempotency_mismatch"
    " not_ready model_unroutable feature_disabled not_authorized too_large dependency_invalid expired",
    "dispatch": "cli_spawn_failed cli_exit_nonzero cli_not_found payload_invalid unknown_type node_lost timeout cancelled",
    "execution": "init_failed output_malformed output_too_large verify_failed review_exhausted quota_exhausted budget_exhausted"
    " consensus_disagreement policy_write_failed task_mutation_failed killed_by_signal internal",
}
"""Domain §10."""

ADDED = {"execution_merge_conflict"}
"""Codes that were found to be needed since: commits of tasks that ran side by side do not merge."""


def test_every_code_of_the_contract_exists_and_no_other_but_those_added() -> None:
    contract = {f"{prefix}_{name}" for prefix, names in CONTRACT.items() for name in names.split()}
    assert len(contract) == 35
    assert set(Reason) == contract | ADDED


@pytest.mark.parametrize("reason", Reason)
def test_a_code_has_an_explanation_in_sentences(reason: Reason) -> None:
    explanation = EXPLANATIONS[reason]
    for text in explanation:
        assert text.isprintable()
        assert len(text) > 10
        assert text.endswith((".", "?"))


@pytest.mark.parametrize("reason", Reason)
def test_the_category_of_a_code_is_its_prefix(reason: Reason) -> None:
    assert category(reason) in CONTRACT
    assert reason.startswith(category(reason) + "_")


def test_a_code_of_a_later_version_has_a_category_too() -> None:
    assert category("dispatch_shipped_by_post") == "dispatch"
    assert category("unheard") == "unheard"


def test_explanations_are_in_the_order_of_the_codes() -> None:
    assert list(EXPLANATIONS) == list(Reason)


def test_a_code_that_nothing_produces_says_that_it_is_reserved_and_no_other_does() -> None:
    root = Path(__file__).parents[3]
    packages = ("controller", "node_agent", "timeline", "cli", "console", "bus")
    sources = [path.read_text() for package in packages for path in (root / package).rglob("*.py")]
    sources.append((root / "bus_schemas" / "codec.py").read_text())
    produced = {reason for reason in Reason if any(f"Reason.{reason.name}" in source for source in sources)}
    assert {reason for reason in Reason if EXPLANATIONS[reason].cause.startswith("Reserved: ")} == set(Reason) - produced
