"""From codes to exit codes, and the error object."""

from __future__ import annotations

import pytest

from bus_schemas.reasons import EXPLANATIONS, Reason
from cli.exits import MEANINGS, OWN_EXPLANATIONS, Exit, exit_of, explanation_of, is_retryable
from cli.failure import Failure, usage


@pytest.mark.parametrize("reason", list(Reason))
def test_each_reason_code_has_an_explanation_and_leads_to_the_exit_code_of_the_contract(reason: Reason) -> None:
    assert explanation_of(reason) == EXPLANATIONS[reason]
    named = {
        Reason.ENTITY_NOT_FOUND: Exit.NOT_FOUND,
        Reason.NOT_AUTHORIZED: Exit.NOT_ALLOWED,
        Reason.FEATURE_DISABLED: Exit.NOT_ALLOWED,
        Reason.REVISION_CONFLICT: Exit.CONFLICT,
        Reason.INVALID_STATE: Exit.CONFLICT,
    }
    others = Exit.REFUSED if reason.startswith("validation_") else Exit.NOT_COMPLETE
    assert exit_of(reason) == named.get(reason, others)


def test_a_code_that_this_version_does_not_know_still_leads_somewhere() -> None:
    assert exit_of("validation_something_new") == Exit.REFUSED
    assert exit_of("sql_limit") == Exit.REFUSED
    assert exit_of("execution_something_new") == Exit.NOT_COMPLETE
    assert exit_of("whatever") == Exit.UNEXPECTED
    assert explanation_of("whatever") is None


def test_the_exit_codes_are_those_of_the_contract() -> None:
    assert [int(code) for code in Exit] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 20, 130, 141]
    assert set(MEANINGS) == set(Exit)


def test_only_what_may_succeed_unchanged_is_called_retryable() -> None:
    retryable = {code for code in (*Reason, *OWN_EXPLANATIONS) if is_retryable(code)}
    assert retryable == {"validation_expired", "unreachable", "outcome_unknown", "waited_too_long"}


def test_the_error_object_has_the_fields_of_the_contract_and_the_next_step_as_hint() -> None:
    failure = Failure(Reason.NOT_READY, "not ready", action="shop-a3")
    hint = EXPLANATIONS[Reason.NOT_READY].next_step
    error = {"code": "validation_not_ready", "message": "not ready", "hint": hint, "retryable": False, "action": "shop-a3"}
    assert failure.as_object() == {"error": error}
    assert failure.as_text() == f"error: not ready  [validation_not_ready]\nhint:  {hint}"
    assert usage("no").exit_code == Exit.USAGE
