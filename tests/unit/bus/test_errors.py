"""Errors of the bus: each kind with one fate."""

from __future__ import annotations

import pytest

from bus import errors


def test_a_conflict_says_the_last_sequence_where_the_server_named_it() -> None:
    assert errors.Conflict("wrong last sequence: 7", 7).last_seq == 7
    assert errors.Conflict("wrong last sequence").last_seq is None
    assert str(errors.Conflict("wrong last sequence: 7", 7)) == "wrong last sequence: 7"


@pytest.mark.parametrize("certain", [errors.Conflict, errors.AlreadyThere, errors.Rejected, errors.Denied, errors.ConsumerGone])
def test_an_outcome_that_is_certain_is_never_caught_as_one_that_is_unknown(certain: type[Exception]) -> None:
    assert not issubclass(certain, errors.Unavailable)
    assert issubclass(errors.NotSent, errors.Unavailable)
