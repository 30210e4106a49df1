"""The Gantt chart: where bars stand, what they look like, how wide they are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console import gantt
from console.gantt import BAR_MIN, LABEL, RIGHT, WIDTH, Attempt, Hold, Lane, Scale, chart

T0 = datetime(2026, 11, 24, 12, tzinfo=UTC)
LEFT, EDGE = LABEL, WIDTH - RIGHT


def at(s: float) -> datetime:
    return T0 + timedelta(seconds=s)


def attempt(queued: float, started: float | None, ended: float | None, status: str = "succeeded", number: int = 1) -> Attempt:
    return Attempt("shop-o1-r1", number, status, at(queued), None if started is None else at(started), None if ended is None else at(ended))


def bars(*attempts: Attempt, now: datetime | None = None, holds: tuple[Hold, ...] = ()) -> tuple[gantt.Bar, ...]:
    return chart([Lane("task", "", attempts)], holds, now).rows[0].bars


def test_the_scale_begins_at_the_first_start_and_ends_at_the_last_end() -> None:
    (bar,) = bars(attempt(0, 0, 100))
    assert (bar.x, bar.x + bar.width) == (LEFT, EDGE)


def test_what_waited_before_the_first_start_makes_nothing_small() -> None:
    (bar,) = bars(attempt(-3600, 0, 10))
    assert (bar.look, bar.x, bar.width) == ("succeeded", LEFT, EDGE - LEFT)


def test_waiting_between_the_first_start_and_its_own_is_a_dashed_piece_before_the_bar() -> None:
    found = chart([Lane("a", "", (attempt(0, 0, 100),)), Lane("b", "", (attempt(0, 50, 100),))], [], None).rows[1].bars
    assert [bar.look for bar in found] == ["queued", "succeeded"]
    assert found[0].x + found[0].width == found[1].x
    assert "waited 50s" in found[0].title


def test_a_run_that_goes_on_reaches_to_now() -> None:
    found = chart([Lane("a", "", (attempt(0, 0, 10),)), Lane("b", "", (attempt(0, 5, None, "started"),))], [], at(20))
    assert found.rows[1].bars[-1].look == "running"
    assert found.rows[1].bars[-1].x + found.rows[1].bars[-1].width == found.now_x
    assert found.rows[1].bars[-1].grows


@pytest.mark.parametrize(("spent_s", "before_s", "end_s"), [(0.5, 0, 1), (7.9, 7, 8), (100, 90, 105), (119, 105, 120), (3599, 3000, 3600)])
def test_the_scale_of_what_goes_on_ends_at_a_round_time_soon(spent_s: float, before_s: float, end_s: float) -> None:
    going = [attempt(0, 0, None, "started")]
    scale = gantt.scale_of(going, [], at(spent_s))
    assert scale is not None
    assert (scale.end, gantt.steady_now(going, at(spent_s))) == (at(end_s), at(before_s))


def test_until_the_next_round_time_the_drawing_stays_the_same() -> None:
    lanes = [
        Lane("a", "g", (attempt(0, 0, 10),)),
        Lane("b", "g", (attempt(0, 5, None, "started"),)),
        Lane("c", "g", (attempt(3, None, None, "queued"),)),
    ]
    attempts = [one for lane in lanes for one in lane.attempts]
    holds = [Hold("gate", at(50), None, "plan")]
    first, second, later = (chart(lanes, holds, gantt.steady_now(attempts, at(s))) for s in (90.5, 104.5, 105.5))
    assert first == second != later
    assert [[bar.grows for bar in row.bars] for row in first.rows] == [[True], [False], [False, True], [True]]
    assert first.bands[0].grows


def test_how_long_it_ran_before_counts_for_what_goes_on() -> None:
    row = chart([Lane("a", "", (attempt(0, 0, 10, "failed"), attempt(10, 20, None, "started", 2)))], [], at(50)).rows[0]
    assert (row.text, row.tries, row.running_s) == ("40s", " ×2", at(10).timestamp())


def test_the_words_are_of_this_moment_also_where_the_bars_are_of_a_round_one() -> None:
    group, row = chart([Lane("a", "g", (attempt(0, 0, None, "started"),))], [], at(90), clock=at(104)).rows
    assert (group.text, row.text) == ("1m 44s", "1m 44s")


def test_blocks_hold_all_lines_and_fill_the_drawing() -> None:
    found = chart([Lane(str(n), "", (attempt(0, 0, 10),)) for n in range(45)], [], None)
    assert [len(block.rows) for block in found.blocks] == [10, 10, 10, 10, 5]
    assert tuple(row for block in found.blocks for row in block.rows) == found.rows
    assert [block.top for block in found.blocks] + [found.height] == [0.0, *(block.top + block.height for block in found.blocks)]


def test_an_ended_orchestration_has_no_line_of_now() -> None:
    assert chart([Lane("a", "", (attempt(0, 0, 10),))], [], None).now_x is None


def test_no_bar_is_narrower_than_can_be_seen() -> None:
    found = chart([Lane("a", "", (attempt(0, 0, 86_400),)), Lane("b", "", (attempt(10, 10, 10.01),))], [], None)
    assert found.rows[1].bars[-1].width == BAR_MIN


@pytest.mark.parametrize(
    ("status", "look"),
    [
        ("started", "running"),
        ("succeeded", "succeeded"),
        ("failed", "failed"),
        ("timed_out", "failed"),
        ("lost", "lost"),
        ("cancelled", "cancelled"),
        ("a word of tomorrow", "queued"),
    ],
)
def test_each_status_has_its_look(status: str, look: str) -> None:
    assert bars(attempt(0, 0, 5, status))[-1].look == look


def test_one_that_was_withdrawn_before_it_started_waited_and_ends_in_a_mark() -> None:
    found = chart([Lane("a", "", (attempt(0, 0, 100),)), Lane("b", "", (attempt(20, None, 60, "withdrawn"),))], [], None)
    waited, mark = found.rows[1].bars
    assert (waited.look, mark.look, mark.width) == ("queued", "cancelled", gantt.MARK)
    assert mark.x + mark.width == waited.x + waited.width < EDGE


def test_attempts_of_a_run_stand_on_one_line_and_are_counted() -> None:
    row = chart([Lane("a", "", (attempt(0, 0, 10, "failed"), attempt(10, 12, 30, number=2)))], [], None).rows[0]
    assert [bar.look for bar in row.bars] == ["failed", "queued", "succeeded"]
    assert row.text + row.tries == "28s ×2"


def test_lines_of_a_group_have_a_heading_with_one_bar_over_all_of_them() -> None:
    lanes = [Lane("init", "", (attempt(0, 0, 10),)), Lane("a", "Phase 1", (attempt(10, 10, 30),)), Lane("b", "Phase 1", (attempt(10, 20, 50),))]
    rows = chart(lanes, [], None).rows
    assert [(row.label, row.is_group) for row in rows] == [("init", False), ("Phase 1", True), ("a", False), ("b", False)]
    span = rows[1].bars[0]
    assert span.x == rows[2].bars[0].x
    assert span.x + span.width == EDGE
    assert [round(b.y - a.y) for a, b in pairwise(rows)] == [20, 20, 20]


def test_of_a_folded_group_only_the_heading_is_drawn() -> None:
    lanes = [Lane("a", "Phase 1", (attempt(0, 0, 30),)), Lane("b", "Phase 2", (attempt(30, 30, 50),))]
    rows = chart(lanes, [], None, frozenset({"Phase 1"})).rows
    assert [row.label for row in rows] == ["Phase 1", "Phase 2", "b"]
    assert rows[0].text == "30s"


def test_before_anything_has_started_planned_lines_stand_without_a_scale() -> None:
    found = chart([Lane("1.1 say it", "Phase 1", (), "pending")], [], at(5))
    assert [row.label for row in found.rows] == ["Phase 1", "1.1 say it"]
    assert (found.ticks, found.bands, found.now_x, found.begins) == ((), (), None, None)
    assert not any(row.bars for row in found.rows)


def test_an_empty_orchestration_is_an_empty_drawing() -> None:
    assert chart([], [], at(0)).rows == ()


def test_a_hold_is_a_band_and_a_gate_has_a_diamond() -> None:
    found = chart([Lane("a", "", (attempt(0, 0, 100),))], [Hold("paused", at(20), at(40), "by ana"), Hold("gate", at(50), None, "plan")], at(100))
    paused, gate = found.bands
    assert (paused.kind, paused.is_gate, paused.title) == ("paused", False, "paused for 20s: by ana")
    assert (gate.is_gate, gate.x + gate.width, gate.title) == (True, found.now_x, "gate: plan")


def test_the_scale_reaches_over_a_hold_that_ended_last() -> None:
    (bar,) = bars(attempt(0, 0, 10), holds=(Hold("gate", at(10), at(20)),))
    assert bar.x + bar.width < EDGE


def test_a_long_name_is_cut_and_kept_whole_beside() -> None:
    row = chart([Lane("x" * 100, "", ())], [], None).rows[0]
    assert len(row.label) == gantt.LABEL_CHARS_MAX
    assert row.label.endswith("…")
    assert row.full == "x" * 100


@pytest.mark.parametrize(
    ("span_s", "text"), [(0.08, "80ms"), (4.25, "4.2s"), (59.9, "59s"), (185, "3m 05s"), (7800, "2h 10m"), (273_600, "3d 4h"), (-1, "0ms")]
)
def test_durations_are_said_in_two_units(span_s: float, text: str) -> None:
    assert gantt.words(span_s) == text


@pytest.mark.parametrize(("span_s", "text"), [(0, "0"), (30, "30s"), (90, "1m 30s"), (120, "2m"), (5400, "1h 30m"), (259_200, "3d")])
def test_ticks_say_no_units_that_are_zero(span_s: int, text: str) -> None:
    assert gantt.exact(span_s) == text


@given(st.floats(0.001, 10**9))
def test_a_scale_has_few_lines_at_even_distances(span_s: float) -> None:
    ticks = gantt.ticks_of(Scale(T0, T0 + timedelta(seconds=span_s)))
    assert 1 <= len(ticks) <= gantt.TICKS_MAX
    assert ticks[0] == (LEFT, "0")
    assert all(LEFT <= tick.x <= EDGE + 0.1 for tick in ticks)
    gaps = {round(b.x - a.x) for a, b in pairwise(ticks)}
    assert not gaps or max(gaps) - min(gaps) <= 1


_S = st.floats(-1e6, 1e6)


@given(st.lists(st.tuples(_S, st.none() | _S, st.none() | _S, st.sampled_from(sorted(gantt._LOOKS))), max_size=12), st.none() | _S)
def test_whatever_the_clocks_say_every_bar_is_inside_the_drawing(
    rows: list[tuple[float, float | None, float | None, str]], now: float | None
) -> None:
    lanes = [Lane(str(n), "g", (attempt(*row),)) for n, row in enumerate(rows)]
    found = chart(lanes, [], None if now is None else at(now))
    for row in found.rows:
        for bar in row.bars:
            assert LEFT <= bar.x <= EDGE
            assert bar.width >= BAR_MIN or bar.look == "queued"
            assert bar.x + bar.width <= EDGE + gantt.MARK + 0.1
