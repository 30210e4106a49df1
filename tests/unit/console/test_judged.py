"""What a gate judges: the changes of its phase, or of all phases, as the nodes measured them."""

from __future__ import annotations

from typing import Any

import pytest

from console import rendering
from console.judged import SHOWN_MAX, Judged, TaskChange, before

ROWS: list[list[Any]] = [
    ["shop-o1", "1", 1, "table", 1, 24, 0],
    ["shop-o1", "1", 2, "client", 2, 61, 3],
    ["shop-o1", "2", 1, "page", 1, 5, 5],
    ["shop-o2", "1", 1, "other", 9, 9, 9],
    ["shop-o1", "1", 3, None, 0, 0, 0],
]


def gate(phase: str | None, kind: str = "review") -> dict[str, Any]:
    return {"orchestration": "shop-o1", "phase": phase, "gate": kind, "since": "2026-11-25T00:00:00Z"}


def shown(judged: Judged, phase: str | None = "1", kind: str = "review") -> str:
    return rendering.environment().get_template("gate_judged.html").render(judged=judged, gate=gate(phase, kind))


def test_a_gate_of_a_phase_judges_that_phase_and_one_behind_all_judges_all() -> None:
    assert [task.place for task in before(gate("1"), ROWS).tasks] == ["1.1", "1.2", "1.3"]
    whole = before(gate(None, "finalize"), ROWS)
    assert (whole.files, whole.insertions, whole.deletions) == (4, 90, 8)


def test_a_task_that_changed_nothing_is_not_listed() -> None:
    assert [task.place for task in before(gate("1"), ROWS).changed] == ["1.1", "1.2"]


def test_a_long_list_is_cut_and_its_sums_are_not() -> None:
    judged = Judged(tuple(TaskChange(f"1.{n}", "x", 1, 2, 3) for n in range(1, 31)))
    assert (len(judged.changed), judged.files, judged.insertions) == (SHOWN_MAX, 30, 60)
    assert "and 18 more tasks" in shown(judged)


@pytest.mark.parametrize(
    ("judged", "phase", "kind", "words"),
    [
        (Judged((TaskChange("1.1", "table", 1, 24, 0),)), "1", "review", "1</strong> file "),
        (Judged((TaskChange("1.1", "table", 1, 24, 0),)), None, "finalize", "in all phases"),
        (Judged(), "1", "plan", "A plan is judged before its work"),
        (Judged(), "1", "review", "No task of this phase has reported a change."),
        (Judged(), None, "finalize", "No task has reported a change."),
        (Judged(note="the timeline is away"), "1", "review", "not known right now: the timeline is away"),
    ],
)
def test_beside_the_gate_stands_what_is_known(judged: Judged, phase: str | None, kind: str, words: str) -> None:
    assert words in shown(judged, phase, kind)
