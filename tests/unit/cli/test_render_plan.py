"""Plans, changes and reasons as humans see them."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from bus_schemas.decisions import Change, Diff
from bus_schemas.views import ObstacleView, PlacementView, TaskView, WhyView
from cli.render import plan
from tests.unit.cli.test_render import NOW, cells, view

TASK = TaskView("1", 2, "test it", "", "pending", None, (), 1, 2, None, 0, 0, None)


def test_tasks_are_listed_with_what_they_wait_for_and_who_inserted_them() -> None:
    inserted = msgspec.structs.replace(TASK, status="completed", model="opus", depends_on=(1, 3), revision=4, attempts=2, inserted_by="ana")
    assert cells(plan.tasks([view(TASK), view(inserted)])) == [
        {
            "PHASE": "1",
            "TASK": "2",
            "STATUS": "· pending",
            "REV": "1",
            "AFTER": "-",
            "MODEL": "-",
            "TRIES": "0",
            "SUBJECT": "test it",
        },
        {
            "PHASE": "1",
            "TASK": "2",
            "STATUS": "✓ completed",
            "REV": "4",
            "AFTER": "1, 3",
            "MODEL": "opus",
            "TRIES": "2",
            "SUBJECT": "test it  (inserted by ana)",
        },
    ]


def test_a_task_is_shown_with_its_commits_and_its_reason_only_where_it_has_them() -> None:
    assert plan.task(view(TASK)) == [
        "task 2 of phase 1  · pending  revision 1",
        "  subject     test it",
        "  after       nothing",
        "  model       the one of the policy",
        "  attempts    0   rejections 0",
    ]
    blocked = msgspec.structs.replace(TASK, status="blocked", model="opus", depends_on=(1,), git_range=("a" * 40, "b" * 40), reason_code="x_y")
    assert plan.task(view(blocked)) == [
        "task 2 of phase 1  ■ blocked  revision 1",
        "  subject     test it",
        "  after       1",
        "  model       opus",
        "  attempts    0   rejections 0",
        "  commits     aaaaaaaaaaaa..bbbbbbbbbbbb",
        "  why         x_y",
    ]


def test_the_description_of_a_task_keeps_its_lines_and_cannot_steer_the_terminal() -> None:
    lines = plan.task(view(msgspec.structs.replace(TASK, description="first\n\tthen \x1b[2J\x1b]0;title\x07\n")))
    assert lines[-3:] == ["", "first", "    then ·[2J·]0;title·"]


def test_a_dry_run_shows_the_queue_only_where_it_changes_and_each_field_with_both_values() -> None:
    change = Change("2.3.subject", "", "x" * 61)
    assert plan.diff(Diff(("1.1", "1.2"), ("1.2",), (change,))) == [
        "  queue   1.1 1.2",
        "      →   1.2",
        f'  2.3.subject: "" → {"x" * 59}…',
    ]
    assert plan.diff(Diff((), ("1.1",))) == ["  queue   empty", "      →   1.1"]
    assert plan.diff(Diff(("1.1",), ())) == ["  queue   1.1", "      →   empty"]
    assert plan.diff(Diff(("1.1",), ("1.1",), (Change("flow.budget_usd", "x" * 60, "a\nb"),))) == [f"  flow.budget_usd: {'x' * 60} → a b"]


def test_a_dry_run_without_a_difference_says_so() -> None:
    assert plan.diff(Diff(("1.1",), ("1.1",))) == ["  no task and no field of the policy changes"]


def test_why_names_each_obstacle_with_its_code_its_age_and_what_frees_it() -> None:
    known = ObstacleView("task 1.2", "two attempts failed", "execution_verify_failed", NOW - timedelta(minutes=2), "qd retry shop-o1")
    other = ObstacleView("task 1.3", "waits for 1.2", None, None, "by itself")
    assert plan.why(view(WhyView("shop-o1", "executing", "blocked", ("shop-o1-r4 works on task 1.1",), (known, other))), NOW) == [
        ("shop-o1  ▶ executing, held: blocked", "bold"),
        ("  ▶ shop-o1-r4 works on task 1.1", "cyan"),
        ("  ◆ task 1.2: two attempts failed  [execution_verify_failed]  (2m00s ago)", "yellow"),
        ("      frees it: qd retry shop-o1", ""),
        ("  ◆ task 1.3: waits for 1.2", "yellow"),
        ("      frees it: by itself", ""),
    ]


@pytest.mark.parametrize(
    ("running", "said"), [((), "  nothing waits and nothing runs: look again in a moment"), (("run 4",), "  nothing waits")], ids=["idle", "busy"]
)
def test_why_says_so_where_nothing_waits(running: tuple[str, ...], said: str) -> None:
    lines = plan.why(view(WhyView("shop-o1", "planning", None, running, ())), NOW)
    assert lines[0] == ("shop-o1  ▶ planning", "bold")
    assert lines[-1] == (said, "")
    assert len(lines) == 2 + len(running)


def test_a_drain_shows_what_ends_here_and_where_the_rest_goes() -> None:
    moves = PlacementView("shop-o1", "executing", "paused", ("shop-o1-r4", "shop-o1-r5"), (), "n2")
    stays = PlacementView("shop-o2", "planning", None, (), (), None)
    assert cells(plan.placement([view(moves), view(stays)])) == [
        {
            "ORCHESTRATION": "shop-o1",
            "STATUS": "▶ executing (paused)",
            "RUNS HERE TO THEIR END": "shop-o1-r4, shop-o1-r5",
            "GOES ON ON": "n2",
        },
        {"ORCHESTRATION": "shop-o2", "STATUS": "▶ planning", "RUNS HERE TO THEIR END": "-", "GOES ON ON": "no other node fits: it stays"},
    ]
