"""The pure parts of the orchestration's tabs: what can be done, what is awaited, lines of logs, lanes, holds, diffs."""

from __future__ import annotations

import re
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus_schemas.ids import BadId
from bus_schemas.views import LogChunk
from console import gantt, pieces, rendering
from console.backend import Problem
from console.pages import orchestration, orchestration_changes, orchestration_events, orchestration_timeline, orchestration_usage
from console.pages.orchestration_logs import Place, clean, lines, marked, place_of

T0 = datetime(2026, 11, 24, 12, tzinfo=UTC)


def held(*kinds: str, status: str = "executing") -> dict[str, Any]:
    holds = [{"kind": kind, "reason": kind, "since": T0.isoformat()} for kind in kinds]
    return {"id": "shop-o1", "status": status, "holds": holds, "plan": [], "ended_at": None, "cost_usd": None, "tokens": 0}


# ── actions ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("o", "possible"),
    [
        (held(), {"Pause", "Stop now", "Cancel"}),
        (held("pausing"), {"Resume", "Cancel"}),
        (held("paused"), {"Resume", "Cancel"}),
        (held("gate"), {"Pause", "Stop now", "Cancel"}),
        (held("blocked"), {"Pause", "Stop now", "Retry", "Cancel"}),
        (held("node_lost"), {"Pause", "Stop now", "Retry", "Cancel"}),
        (held("budget"), {"Pause", "Stop now", "Resume", "Cancel"}),
        (held("cancelling"), set()),
        (held("cancelling", "node_lost"), {"Cancel"}),
        (held(status="complete"), set()),
        (held("blocked", status="cancelled"), set()),
    ],
    ids=lambda value: value["status"] + "-" + "-".join(h["kind"] for h in value["holds"]) if isinstance(value, dict) else "",
)
def test_what_cannot_be_done_now_says_why(o: dict[str, Any], possible: set[str]) -> None:
    found = {control["word"]: control["why_not"] for control in orchestration.controls(o)} | {"Cancel": orchestration.cancel_why_not(o)}
    assert {word for word, why_not in found.items() if not why_not} == possible


@pytest.mark.parametrize(
    ("kind", "going", "text"),
    [
        ("pause", 2, "waits for 2 runs"),
        ("cancel", 1, "waits for 1 run"),
        ("pause", 0, "is about to be done"),
        ("launch", 0, "waits for its workspace"),
    ],
)
def test_an_action_in_flight_says_what_it_waits_for(kind: str, going: int, text: str) -> None:
    assert orchestration.waits_for(kind, going) == text


def test_every_action_has_its_command_line() -> None:
    verbs = [line.split()[1] for line in orchestration.equivalents("shop-o1")]
    assert verbs == ["pause", "pause", "resume", "retry", "cancel", "gate", "gate"]
    assert all("shop-o1" in line for line in orchestration.equivalents("shop-o1"))


def test_a_retry_offers_everything_the_phase_where_it_stands_and_each_blocked_task() -> None:
    tasks = [
        {"number": n, "subject": f"S{n}", "status": status, "reason_code": None} for n, status in ((1, "completed"), (2, "blocked"), (3, "blocked"))
    ]
    o = {**held("blocked"), "phase": "1.5", "plan": [{"phase": "1", "tasks": tasks}, {"phase": "1.5", "tasks": tasks}]}
    found = orchestration.retries(o)
    assert [(choice["phase"], choice["task"]) for choice in found] == [(None, None), ("1.5", None), ("1.5", 2), ("1.5", 3)]
    assert found[2]["equivalent"] == "qd retry shop-o1 --phase 1.5 --task 2"
    assert len({choice["name"] for choice in found}) == 4


def test_a_retry_before_the_first_phase_offers_everything() -> None:
    assert [choice["equivalent"] for choice in orchestration.retries({**held("blocked"), "phase": None})] == ["qd retry shop-o1"]


# ── logs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def chunks(*texts: str, attempt: int = 1, after: int = 0) -> list[LogChunk]:
    return [LogChunk("shop-o1-r1", attempt, "vm", 0, T0, after + n, text) for n, text in enumerate(texts, 1)]


def test_lines_are_numbered_from_one_and_go_on_over_chunks() -> None:
    found, place = lines(chunks("one\ntw", "o\nthr", "ee"), Place())
    assert [(line.number, line.text) for line in found] == [(1, "one"), (2, "two"), (3, "three")]
    assert place == Place(3, 3, 1, True)


def test_a_new_attempt_begins_a_line_and_says_so() -> None:
    found, _ = lines([*chunks("a\nb"), *chunks("c\n", attempt=2, after=1)], Place())
    assert [(line.number, line.text, line.attempt) for line in found] == [(1, "a", 1), (2, "b", None), (3, "c", 2)]


def test_a_new_attempt_after_an_open_line_of_the_page_before_has_a_number_of_its_own() -> None:
    found, place = lines(chunks("c\n", attempt=2, after=9), Place(9, 5, 1, True))
    assert [(line.number, line.attempt) for line in found] == [(6, 2)]
    assert place == Place(10, 7, 2, False)


def test_the_page_of_a_line_has_that_line() -> None:
    everything = chunks("a\nb\n", "c\nd", "e\nf\n")
    for line in lines(everything, Place())[0]:
        rest = [chunk for chunk in everything if chunk.cursor > line.page.after]
        assert (line.number, line.text) in [(again.number, again.text) for again in lines(rest, line.page)[0]]


@given(st.lists(st.text(st.sampled_from("ab\n"), min_size=1), min_size=1, max_size=8), st.data())
def test_read_in_two_pages_a_log_has_the_same_numbers(texts: list[str], data: st.DataObject) -> None:
    everything = chunks(*texts)
    cut = data.draw(st.integers(0, len(everything)))
    whole, end = lines(everything, Place())
    first, place = lines(everything[:cut], Place())
    second, reached = lines(everything[cut:], place)
    assert reached == end
    by_number: dict[int, str] = {}
    for line in [*first, *second]:
        by_number[line.number] = by_number.get(line.number, "") + line.text
    assert by_number == {line.number: line.text for line in whole}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[32mok\x1b[0m", "ok"),
        ("\x1b]0;title\x07ok", "ok"),
        ("\x1b]8;;https://x.example\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("10%\r50%\rdone", "done"),
        ("dos\r", "dos"),
        ("a\tb", "a    b"),
        ("nul\x00bell\x07", "nul�bell�"),
        ("\u202eevil", "�evil"),
        ("<b>plain</b>", "<b>plain</b>"),
    ],
)
def test_what_would_play_with_a_screen_is_taken_out(text: str, shown: str) -> None:
    assert clean(text) == shown


def test_what_was_found_is_marked_and_all_of_it_escaped() -> None:
    assert marked("<b>Step</b> step", "step") == "&lt;b&gt;<mark>Step</mark>&lt;/b&gt; <mark>step</mark>"
    assert marked("a.b", "<") == "a.b"
    assert marked("x<y", "<") == "x<mark>&lt;</mark>y"


@given(st.text())
def test_nothing_that_controls_a_terminal_is_left(text: str) -> None:
    assert all(character.isprintable() or not character.isascii() for character in clean(text.replace("\n", "")))


@pytest.mark.parametrize("query", [{"after": "-1"}, {"line": "x"}, {"after": "9" * 20}, {"attempt": "²"}])
def test_a_place_that_is_none_is_refused(query: dict[str, str]) -> None:
    with pytest.raises(Problem):
        place_of(query)


# ── timeline ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def run(number: int, kind: str, *, phase: str | None = None, task: int | None = None, attempt: int = 1, role: str = "executor") -> dict[str, Any]:
    at = (T0 + timedelta(seconds=number)).isoformat()
    row = {"run": f"shop-o1-r{number}", "attempt": attempt, "kind": kind, "role": role, "model": "shell", "node": "vm", "status": "succeeded"}
    return row | {"phase": phase, "task": task, "queued_at": at, "started_at": at, "ended_at": at, "reason_code": None, "detail": ""}


def phase(name: str, *tasks: int) -> dict[str, Any]:
    return {"phase": name, "status": "executing", "tasks": [{"number": n, "subject": f"do {n}", "status": "pending"} for n in tasks]}


def test_lines_of_the_chart_follow_the_work_and_what_has_not_begun_is_last() -> None:
    o = held() | {"plan": [phase("1", 1, 2, 3), phase("1.5")]}
    runs = [run(1, "init"), run(2, "validate"), run(3, "plan", phase="1"), run(4, "task", phase="1", task=1), run(5, "task", phase="1", task=2)]
    runs += [run(6, "task-review", phase="1", task=1), run(7, "plan", phase="1.5"), run(8, "finalize")]
    found = orchestration_timeline.lanes(o, runs)
    assert [lane.label for lane in found] == [
        "init",
        "validate",
        "plan",
        "1.1 do 1",
        "↳ review of 1.1",
        "1.2 do 2",
        "1.3 do 3",
        "plan",
        "finalize",
    ]
    assert found[3].href == "/orchestrations/shop-o1/logs?run=shop-o1-r4"
    assert found[6].href == ""


def test_attempts_and_repeated_runs_of_the_same_work_share_a_line() -> None:
    o = held() | {"plan": [phase("1", 1)]}
    runs = [run(1, "task", phase="1", task=1), run(1, "task", phase="1", task=1, attempt=2), run(2, "task", phase="1", task=1)]
    (lane,) = orchestration_timeline.lanes(o, runs)
    assert len(lane.attempts) == 3
    assert lane.href.endswith("shop-o1-r2")


def test_reviewers_of_a_phase_have_lines_of_their_own() -> None:
    o = held() | {"plan": [phase("1")]}
    runs = [run(1, "review", phase="1", role="reviewer"), run(2, "review", phase="1", role="architect")]
    assert [lane.label for lane in orchestration_timeline.lanes(o, runs)] == ["review", "review by architect"]


def test_a_chart_of_five_hundred_tasks_is_drawn_in_under_300_ms() -> None:
    o = held() | {"plan": [phase("1", *range(1, 501))]}
    runs = [run(n, "task", phase="1", task=n) for n in range(1, 501)]
    runs += [run(n + 500, "task-review", phase="1", task=n, role="reviewer") for n in range(1, 501)]
    took_s = []
    for _ in range(5):
        began = time.thread_time()
        html = timeline_patches(o, runs)
        took_s.append(time.thread_time() - began)
    assert html.count('class="bar succeeded"') == 1000
    assert min(took_s) < 0.3


def timeline_patches(o: Any, runs: list[Any]) -> str:
    lanes, shown = orchestration_timeline.lanes(o, runs), runs[-orchestration_timeline.MANY :]
    now = gantt.steady_now([attempt for lane in lanes for attempt in lane.attempts], T0 + timedelta(hours=1))
    context = {"notes": [], "hidden": 0, "folded": 0, "work_of": orchestration_timeline.work_of}
    lists = {"attempts": shown, "blocks": orchestration_timeline.blocks(shown, len(runs) - len(shown))}
    drawn = {"o": o, "chart": gantt.chart(lanes, [], now), **lists, **context}
    parts = {name: rendering.environment().get_template(f"orchestration_timeline_{name}.html").render(drawn) for name in ("chart", "list")}
    return "\n".join(f'<hx-partial hx-target="#{name}" hx-swap="innerMorph">{html}</hx-partial>' for name, html in parts.items())


def test_of_a_chart_of_five_hundred_tasks_little_is_sent_when_one_ends() -> None:
    o = held() | {"plan": [phase("1", *range(1, 501))]}
    before = [run(n, "task", phase="1", task=n) for n in range(1, 501)]
    before[-1] |= {"status": "started", "ended_at": None}
    after = [*before[:-1], run(500, "task", phase="1", task=500)]
    whole = timeline_patches(o, after)
    change = pieces.changed(timeline_patches(o, before), whole)
    assert re.findall(r'hx-target="([^"]*)"', change) == ["#lanes-0", "#lanes-50", "#block-24"]
    assert len(change) < len(whole) / 10


def edge(kind: str, s: int, **detail: str) -> dict[str, Any]:
    return {"type": kind, "at": (T0 + timedelta(seconds=s)).isoformat(), "detail": detail, "summary": kind, "position": f"{s}.0"}


def test_holds_end_where_they_are_cleared_and_with_their_orchestration() -> None:
    edges = [edge("hold-set", 1, hold="paused", reason="by ana"), edge("gate-opened", 2, gate="plan"), edge("hold-cleared", 5, hold="paused")]
    found = orchestration_timeline.holds_of(edges, held())
    assert [(hold.kind, hold.until) for hold in found] == [("paused", T0 + timedelta(seconds=5)), ("gate", None)]
    ended = held(status="failed") | {"ended_at": (T0 + timedelta(seconds=9)).isoformat()}
    assert orchestration_timeline.holds_of(edges, ended)[1].until == T0 + timedelta(seconds=9)


def test_an_end_without_a_beginning_is_no_hold() -> None:
    assert orchestration_timeline.holds_of([edge("hold-cleared", 5, hold="paused")], held()) == []


# ── events, usage ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_window_that_is_linked_to_begins_with_its_row() -> None:
    from bus_schemas.decisions import Position

    assert orchestration_events.behind(Position(418, 3)) == "418.4"


def test_only_an_id_comes_into_a_statement() -> None:
    assert orchestration_usage.everything("shop-o1").count("WHERE orchestration = 'shop-o1'") == 4
    with pytest.raises(BadId):
        orchestration_usage.everything("shop-o1' OR 1=1 --")


def test_budgets_are_shown_with_what_is_spent_of_them() -> None:
    o = held() | {"cost_usd": 4.0, "tokens": 300}
    assert orchestration_usage.budgets(o, {"budget_usd": 5.0, "budget_tokens": 100}) == [("USD", 4.0, 5.0, 80), ("tokens", 300.0, 100.0, 100)]
    assert orchestration_usage.budgets(o, {"budget_usd": None}) == []


# ── changes ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_counts_of_a_diff_are_read_with_odd_names_and_binary_files() -> None:
    found = orchestration_changes.parsed("3\t1\ta b\t.txt\0-\t-\tpic.png\0")
    assert found.files == (("a b\t.txt", 3, 1), ("pic.png", None, None))
    assert (found.insertions, found.deletions) == (3, 1)


def test_lines_of_a_diff_are_told_apart() -> None:
    text = "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-old\n+new\n same\n--- was a line\n"
    assert [line.look for line in orchestration_changes.diff_lines(text)] == ["head", "head", "head", "hunk", "del", "add", "", "del"]


@pytest.mark.parametrize(
    "repo", ["https://x.example/y.git", "git@x.example:y", "file:///tmp", "ssh://x/y", "../y", "-x", "", "/nowhere/at/all", "/tmp\0x"]
)
def test_only_a_repository_that_is_a_folder_here_is_looked_into(repo: str) -> None:
    assert orchestration_changes.repository(repo) is None


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    folder = tmp_path / "repo"
    folder.mkdir()
    env = {"PATH": "/usr/bin:/bin", "GIT_CONFIG_GLOBAL": "/dev/null", "HOME": str(tmp_path)}
    who = ("-c", "user.name=Ana", "-c", "user.email=ana@example.org")

    def git(*words: str) -> None:
        subprocess.run(["git", *who, *words], cwd=folder, env=env, check=True, capture_output=True)

    git("init", "-q", "-b", "main")
    git("commit", "-q", "--allow-empty", "-m", "Begin")
    (folder / "a.txt").write_text("one\ntwo\n")
    (folder / ".gitattributes").write_text("*.txt diff=evil\n")
    git("add", ".")
    git("commit", "-q", "-m", "Add")
    evil = f"touch {tmp_path}/ran"
    for name in ("diff.external", "diff.evil.textconv", "diff.evil.command", "core.fsmonitor", "core.pager"):
        git("config", name, evil)
    return folder


@pytest.mark.anyio
async def test_changes_are_read_and_no_program_of_the_repository_is_run(repo: Path, tmp_path: Path) -> None:
    found = await orchestration_changes.changes_of(repo, "HEAD~1", "HEAD")
    assert {file.path: file.insertions for file in found.files} == {".gitattributes": 1, "a.txt": 2}
    out, cut = await orchestration_changes.diff(repo, "HEAD~1", "HEAD", "--", "a.txt")
    assert "+one" in out
    assert not cut
    assert not (tmp_path / "ran").exists()


@pytest.mark.anyio
async def test_what_git_cannot_say_is_told_in_its_words(repo: Path) -> None:
    with pytest.raises(orchestration_changes.GitFailed, match=r"bad object|unknown revision|bad revision"):
        await orchestration_changes.changes_of(repo, "0" * 40, "1" * 40)


@pytest.mark.anyio
async def test_a_diff_without_end_is_cut_off(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orchestration_changes, "GIT_BYTES_MAX", 20)
    out, cut = await orchestration_changes.diff(repo, "HEAD~1", "HEAD")
    assert (len(out), cut) == (20, True)
