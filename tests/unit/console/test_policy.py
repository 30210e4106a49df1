"""A change of the policy that came too late: three columns, and what is taken over."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bus_schemas.commands import PolicySet
from bus_schemas.policy import PRESETS, Preset, resolve
from bus_schemas.reasons import Reason
from console.backend import Backend, Problem
from console.pages import policy

BASE = PRESETS[Preset.BALANCED]


def values(**flow: Any) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(resolve(BASE, {"flow": flow})))
    return found


class Answers(Backend):
    """Answers the `policy` query from revisions that are given."""

    def __init__(self, *revisions: dict[str, Any]) -> None:
        self.revisions = revisions

    async def ask(self, name: str, /, **params: Any) -> dict[str, Any]:
        assert name == "policy"
        number = params.get("revision") or len(self.revisions)
        return {"revision": number, "policy": self.revisions[number - 1], "action": f"shop-a{number}"}


def change(**flow: Any) -> PolicySet:
    return PolicySet("shop-o1", {"flow": flow}, 1)


@pytest.mark.anyio
async def test_a_conflict_has_what_was_seen_theirs_and_yours() -> None:
    backend = Answers(values(), values(run_timeout_s=77, max_parallel_tasks=3))
    found = await policy.conflict(backend, change(run_timeout_s=88, budget_usd=5.0))
    rows = {path: (old, theirs, yours, both) for path, old, theirs, yours, both in found.rows}
    assert rows == {
        "flow.run_timeout_s": (BASE.flow.run_timeout_s, 77, 88, True),
        "flow.max_parallel_tasks": (BASE.flow.max_parallel_tasks, 3, BASE.flow.max_parallel_tasks, False),
        "flow.budget_usd": (BASE.flow.budget_usd, BASE.flow.budget_usd, 5.0, False),
    }
    assert (found.seen, found.newest, found.who) == (1, 2, "shop-a2")


@pytest.mark.anyio
async def test_what_they_changed_and_you_did_not_is_taken_over() -> None:
    backend = Answers(values(), values(run_timeout_s=77, max_parallel_tasks=3))
    found = await policy.conflict(backend, change(run_timeout_s=88))
    assert found.theirs == {"flow.max_parallel_tasks": 3}


@pytest.mark.anyio
async def test_the_same_change_by_both_is_no_clash() -> None:
    found = await policy.conflict(Answers(values(), values(run_timeout_s=77)), change(run_timeout_s=77))
    assert [row[4] for row in found.rows] == [False]


@pytest.mark.anyio
async def test_a_wrong_change_that_is_also_late_is_told_as_wrong() -> None:
    with pytest.raises(Problem) as refused:
        await policy.conflict(Answers(values(), values(run_timeout_s=77)), change(max_parallel_tasks=0))
    assert refused.value.code == Reason.INVALID_PAYLOAD


@pytest.mark.anyio
async def test_a_change_names_only_what_differs_from_the_revision_shown() -> None:
    shown = values()
    patch = {section: dict(fields) for section, fields in shown.items()}
    patch["flow"]["run_timeout_s"] = 88
    pruned = await policy.pruned(Answers(shown, values(run_timeout_s=77)), PolicySet("shop-o1", patch, 1))
    assert pruned.patch == {"flow": {"run_timeout_s": 88}}


@pytest.mark.anyio
async def test_a_form_without_a_change_is_passed_on_for_the_controller_to_refuse() -> None:
    shown = values()
    command = PolicySet("shop-o1", shown, 1)
    assert await policy.pruned(Answers(shown), command) == command


def test_differences_are_told_field_by_field() -> None:
    assert policy.differences(values(), values(run_timeout_s=77)) == [("flow.run_timeout_s", BASE.flow.run_timeout_s, 77)]
