"""The steps of an action, each with how long it took."""

from __future__ import annotations

from typing import Any

import pytest

from console.pages.audit import chain, link

AT = "2026-11-23T09:30:15.000000Z"


def action(status: str, accepted: str | None = None, completed: str | None = None) -> dict[str, Any]:
    return {"status": status, "received_at": AT, "accepted_at": accepted, "completed_at": completed}


def test_a_completed_action_has_three_steps_with_what_each_took() -> None:
    found = chain(action("completed", "2026-11-23T09:30:15.250000Z", "2026-11-23T09:30:17.250000Z"))
    assert [(word, took) for word, _, took in found] == [("requested", None), ("accepted", 250.0), ("completed", 2000.0)]


def test_an_accepted_action_is_not_told_as_completed() -> None:
    assert [word for word, _, _ in chain(action("accepted", "2026-11-23T09:30:15.250000Z"))] == ["requested", "accepted"]


def test_a_failed_action_says_so_at_its_end() -> None:
    assert chain(action("failed", AT, AT))[-1][0] == "failed"


def test_a_refused_action_was_never_accepted() -> None:
    assert [(word, took) for word, _, took in chain(action("refused"))] == [("requested", None), ("refused", None)]


@pytest.mark.parametrize("accepted", ["2026-11-23T09:30:14.000000Z", "2026-11-23T09:30:15+00:00"])
def test_a_clock_that_went_back_gives_no_negative_time(accepted: str) -> None:
    assert chain(action("accepted", accepted))[1][2] == 0.0


def test_a_page_has_an_address_with_its_filters_and_its_place() -> None:
    assert (
        link({"project": "shop", "type": "", "code": "validation_gate"}, after="shop-a7") == "/audit?project=shop&code=validation_gate&after=shop-a7"
    )
    assert link({"project": ""}) == "/audit"
