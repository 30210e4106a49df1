"""Designs as Markdown: phases, tasks, checks and blocks, on any text."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus_schemas.design import (
    MARKERS,
    PHASES_MAX,
    Line,
    ShellTask,
    first_block,
    missing_markers,
    phase_problems,
    phases,
    shell_phase,
)
from bus_schemas.entities import Complexity
from bus_schemas.reports import TASKS_MAX

DESIGN = """\
# Shop

## Phase 1: Basket

### Task 1: Make the file
Some words.
Depends on: none

```sh
echo one > basket
```

### Task 2 - Add to it
  depends ON: 1
Model: haiku

~~~bash
echo two >> basket
~~~

### Check

```sh
grep two basket
```

## Phase 2

### Task 1
```shell
true
```
"""

fragments = st.sampled_from(
    [
        "## Phase 1\n",
        "## Phase 2: x\n",
        "### Phase 1\n",
        "### Task 1: a\n",
        "### Task 2\n",
        "### Check\n",
        "# x\n",
        "Depends on: 1, 2\n",
        "Depends on: x\n",
        "Model: opus\n",
        "```sh\n",
        "```\n",
        "~~~\n",
        "````\n",
        "   ",
        "\t",
        "\r\n",
        "\r",
        "\f",
        "\u2028",
        "#",
        "`",
        "true\n",
    ]
)
bodies = st.text(max_size=80) | st.lists(fragments | st.text(max_size=8), max_size=25).map("".join)


def numbers(body: str) -> list[int]:
    return [phase.number for phase in phases(body)]


def block(text: str) -> str:
    return f"```sh\n{text}\n```\n"


@pytest.mark.parametrize(
    "heading",
    [
        "## Phase 1",
        "## phase 1",
        "## PHASE 1",
        " ## Phase 1",
        "  ## Phase 1",
        "   ## Phase 1",
        "##\tPhase\t1",
        "##   Phase   1   ",
        "## Phase 1: Title",
        "## Phase 1 - Title",
        "## Phase 1 – Title",
        "## Phase 1. Title",
        "## Phase 1 Title",
        "## Phase 01",
        "## Phase 1 ##",
        "## Phase 1\r",
    ],
)
def test_a_level_2_heading_is_a_phase_in_any_case_with_up_to_three_leading_blanks(heading: str) -> None:
    assert numbers(f"text\n{heading}\ntext\n") == [1]


@pytest.mark.parametrize(
    "line",
    [
        "    ## Phase 1",
        "\t## Phase 1",
        "##Phase 1",
        "## Phase",
        "## Phase one",
        "## Phase 1a",
        "## Phase 12345",
        "## Phases 1",
        "## The Phase 1",
        "## Phase1",
        "# Phase 1",
        "#### Phase 1",
        "####### Phase 1",
        "Phase 1",
        "> ## Phase 1",
        "\\## Phase 1",
        "## Phase １",
        "## Phase ١",
        "text ## Phase 1",
        "x\u2028## Phase 1",
        "x\f## Phase 1",
    ],
)
def test_what_is_no_phase_heading_makes_no_phase(line: str) -> None:
    assert numbers(f"{line}\n") == []


def test_level_3_counts_only_where_level_2_has_no_phase() -> None:
    assert numbers("### Phase 1\n### Phase 2\n") == [1, 2]
    assert numbers("## Plan\n### Phase 1\n## Notes\n### Phase 2\n") == [1, 2]
    assert numbers("### Phase 1\n## Phase 7\n### Phase 2\n") == [7]
    assert phases("### Phase 1\n#### Task 1\n")[0].level == 3


@pytest.mark.parametrize(
    "fenced",
    [
        "```\n## Phase 2\n```\n",
        "```md\n## Phase 2\n```\n",
        "~~~\n## Phase 2\n~~~\n",
        "  ```\n## Phase 2\n  ```\n",
        "````\n```\n## Phase 2\n```\n## Phase 2\n````\n",
        "~~~\n```\n## Phase 2\n```\n~~~\n",
        "```\n~~~\n## Phase 2\n```\n",
        "```\n    ```\n## Phase 2\n```\n",
        "```\n``` x\n## Phase 2\n```\n",
        "```\n```~~~\n## Phase 2\n```\n",
        "```\n## Phase 2\n`````   \n",
        "~~~ sh`x\n## Phase 2\n~~~\n",
    ],
)
def test_a_fenced_heading_is_no_phase_and_the_text_after_the_fence_is_read_on(fenced: str) -> None:
    assert numbers(f"## Phase 1\n{fenced}## Phase 3\n") == [1, 3]


def test_a_fence_that_is_never_closed_reaches_to_the_end() -> None:
    assert numbers("## Phase 1\n```\n## Phase 2\n## Phase 3\n") == [1]


@pytest.mark.parametrize("text", ["```inline```", "``` x ` y", "``", "    ```", "\t```", "\\```", "a ```"])
def test_backticks_inside_of_a_line_open_no_fence(text: str) -> None:
    assert numbers(f"## Phase 1\n{text}\n## Phase 2\n") == [1, 2]


def test_a_phase_has_its_number_title_and_lines() -> None:
    first, second = phases(DESIGN)
    assert (first.number, first.title, first.level) == (1, "Basket", 2)
    assert (second.number, second.title, second.level) == (2, "", 2)
    assert first.lines[0] == Line("")
    assert Line("### Check", 3, "Check") in first.lines
    assert Line("echo one > basket", fence="sh") in first.lines
    assert Line("```sh", fence="sh", edge="open") in first.lines
    assert Line("```", fence="sh", edge="close") in first.lines


@pytest.mark.parametrize(
    ("line", "title"),
    [
        ("## a ##", "a"),
        ("## a ##  ", "a"),
        ("## a#", "a#"),
        ("## a #b", "a #b"),
        ("## ##", ""),
        ("##", ""),
        ("##   ", ""),
        ("## #", ""),
        ("##  a  b ", "a  b"),
        ("## C# and F#", "C# and F#"),
    ],
)
def test_closing_hashes_are_no_part_of_a_title(line: str, title: str) -> None:
    (phase,) = phases(f"## Phase 1\n#{line}\n")
    assert phase.lines == (Line(f"#{line}", 3, title),)


def test_the_shell_agent_reads_tasks_with_their_dependencies_and_models() -> None:
    first = shell_phase(DESIGN, 1)
    assert first.problems == ()
    assert [(task.number, task.subject, task.depends_on, task.model) for task in first.tasks] == [
        (1, "Make the file", (), None),
        (2, "Add to it", (1,), "haiku"),
    ]
    assert first.tasks[0].description.startswith("Some words.")
    assert first_block(first.tasks[0].description) == "echo one > basket\n"
    assert first_block(first.tasks[1].description) == "echo two >> basket\n"
    assert first.check == "grep two basket\n"


def test_a_task_without_a_subject_is_called_by_its_number_and_a_phase_needs_no_check() -> None:
    second = shell_phase(DESIGN, 2)
    assert second.tasks == (ShellTask(1, "Task 1", "```shell\ntrue\n```", (), None),)
    assert second.check is None
    assert second.problems == ()


def test_tasks_stand_one_level_below_their_phase_and_nowhere_else() -> None:
    body = f"## Phase 1\n# Top\n### Task 9\n## Phase 2\n### Task 1\n{block('a')}#### Task 2\n{block('b')}## Other\n### Task 3\n{block('c')}"
    assert [task.number for task in shell_phase(body, 2).tasks] == [1]
    assert shell_phase(body, 1).problems == ("phase 1 has no task; write headings like `### Task 1: subject`",)
    deep = f"### Phase 1\n#### Task 1\n{block('a')}### Task 2\n{block('b')}"
    assert [task.number for task in shell_phase(deep, 1).tasks] == [1]


def test_a_heading_between_ends_a_task_and_one_below_does_not() -> None:
    body = f"## Phase 1\n### Task 1\n#### How\n{block('a')}### Notes\nDepends on: 7\n{block('b')}"
    (task,) = shell_phase(body, 1).tasks
    assert task.depends_on == ()
    assert first_block(task.description) == "a\n"
    assert "#### How" in task.description


def test_lines_inside_of_fences_are_neither_dependencies_nor_models_nor_headings() -> None:
    body = "## Phase 1\n### Task 1\n```sh\nDepends on: 5\nModel: x\n### Task 2\n## Phase 2\n```\n"
    (task,) = shell_phase(body, 1).tasks
    assert (task.depends_on, task.model) == ((), None)
    assert first_block(task.description) == "Depends on: 5\nModel: x\n### Task 2\n## Phase 2\n"
    assert numbers(body) == [1]


@pytest.mark.parametrize(
    ("text", "depends_on"),
    [("1, 2", (1, 2)), ("1 2", (1, 2)), ("1,2,", (1, 2)), ("2,1,2", (2, 1)), ("none", ()), ("None", ()), ("", ()), (" 01 ", (1,))],
)
def test_dependencies_are_numbers_in_any_spacing_each_once(text: str, depends_on: tuple[int, ...]) -> None:
    body = f"## Phase 1\n### Task 1\n{block('a')}### Task 2\n{block('b')}### Task 3\nDepends on: {text}\n{block('c')}"
    phase = shell_phase(body, 1)
    assert phase.problems == ()
    assert phase.tasks[2].depends_on == depends_on


@pytest.mark.parametrize("text", ["x", "1; 2", "task 1", "#1", "1-2", "1.5", "-1", "١", "１", "9" * 5000, "12345"])
def test_what_is_no_list_of_task_numbers_is_a_problem(text: str) -> None:
    (problem,) = shell_phase(f"## Phase 1\n### Task 1\nDepends on: {text}\n{block('a')}", 1).problems
    assert problem.startswith("task 1: `Depends on: ")
    assert problem.endswith("is not a list of task numbers")
    assert len(problem) < 200


@pytest.mark.parametrize("model", ["x" * 101, "-x", "a;b", "$(id)", "ö"])
def test_what_is_no_model_is_a_problem(model: str) -> None:
    (problem,) = shell_phase(f"## Phase 1\n### Task 1\nModel: {model}\n{block('a')}", 1).problems
    assert problem.startswith("task 1: `Model: ")
    assert len(problem) < 200


def test_a_sentence_about_a_model_names_none() -> None:
    (task,) = shell_phase(f"## Phase 1\n### Task 1\nModel: the basket and its lines\n{block('a')}", 1).tasks
    assert task.model is None


@pytest.mark.parametrize(
    ("body", "problems"),
    [
        ("", ("the design has no phase 1",)),
        ("## Phase 2\n", ("the design has no phase 1",)),
        ("## Phase 1\n", ("phase 1 has no task; write headings like `### Task 1: subject`",)),
        ("## Phase 1\n### Task 1\n", ("task 1: no `sh` block to run",)),
        ("## Phase 1\n### Task 1\n```python\nx\n```\n", ("task 1: no `sh` block to run",)),
        (f"## Phase 1\n### Task 1\n{block('a')}### Check\nwords\n", ("phase 1: Check has no `sh` block",)),
        (f"## Phase 1\n### Task 1\n{block('a')}### Task 1\n{block('b')}", ("phase 1: task 1 stands more than once",)),
        (
            f"## Phase 1\n### Task 1\nDepends on: 1, 4\n{block('a')}",
            ("task 1 depends on task 4, which phase 1 does not have",),
        ),
    ],
)
def test_the_problems_of_a_phase_say_what_is_missing(body: str, problems: tuple[str, ...]) -> None:
    assert shell_phase(body, 1).problems == problems


def test_all_problems_of_a_phase_are_listed_together() -> None:
    problems = shell_phase("## Phase 1\n### Task 2\nDepends on: 3\n### Task 2\nDepends on: y\n### Check\n", 1).problems
    assert len(problems) == 6


def test_a_phase_has_at_most_as_many_tasks_as_a_plan_can_carry() -> None:
    task = "### Task {}\n" + block("a")
    most = "## Phase 1\n" + "".join(task.format(number) for number in range(1, TASKS_MAX + 1))
    assert shell_phase(most, 1).problems == ()
    assert shell_phase(most + task.format(TASKS_MAX + 1), 1).problems == (f"phase 1 has {TASKS_MAX + 1} tasks; at most {TASKS_MAX}",)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (block("a"), "a\n"),
        (f"{block('a')}{block('b')}", "a\n"),
        (f"```python\nx\n```\n{block('b')}", "b\n"),
        (f"```\nx\n```\n{block('b')}", "b\n"),
        (f"````md\n{block('x')}````\n{block('b')}", "b\n"),
        ("```SH\na\n```", "a\n"),
        ("``` bash title=x\na\n```", "a\n"),
        ("~~~shell\na\n~~~", "a\n"),
        ("```sh\n```", "\n"),
        ("```sh\na\n\n\nb\n```", "a\n\n\nb\n"),
        ("```sh\na\nb", "a\nb\n"),
        ("```sh\na\n", "a\n"),
        ("```sh\r\na\r\nb\r\n```\r\n", "a\nb\n"),
        ("```sh\nprintf 'a\fb\u2028c\x85d\x1ce'\n```", "printf 'a\fb\u2028c\x85d\x1ce'\n"),
        ("```sh\ncat <<E\n~~~\nE\n```", "cat <<E\n~~~\nE\n"),
        ("```sh\n  indented\n\ttab\n```", "  indented\n\ttab\n"),
        ("no block", None),
        ("", None),
        ("```shx\na\n```", None),
        ("    ```sh\n    a\n", None),
    ],
)
def test_the_first_sh_block_is_the_one_that_runs(text: str, found: str | None) -> None:
    assert first_block(text) == found


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("", "the body has no phase"),
        ("no phase", "the body has no phase"),
        ("## Phase 2\n", "phases are numbered 2; they must be 1 to 1 in order"),
        ("## Phase 0\n", "phases are numbered 0;"),
        ("## Phase 1\n## Phase 3\n", "phases are numbered 1, 3; they must be 1 to 2 in order"),
        ("## Phase 2\n## Phase 1\n", "phases are numbered 2, 1;"),
        ("## Phase 1\n## Phase 1\n", "phases are numbered 1, 1;"),
        ("## Phase 1\n## Phase 1.5\n", "phases are numbered 1, 1;"),
        ("## Phase 1\n" * 1000, f"the body has 1000 phases; at most {PHASES_MAX}"),
    ],
)
def test_phases_that_cannot_be_run_in_order_are_one_problem(body: str, problem: str) -> None:
    (found,) = phase_problems(body)
    assert found.startswith(problem)


def test_phases_from_one_on_are_no_problem() -> None:
    assert phase_problems(DESIGN) == ()
    assert phase_problems("".join(f"## Phase {number}\n" for number in range(1, PHASES_MAX + 1))) == ()


def test_the_markers_of_a_complexity_include_those_of_the_simpler_one() -> None:
    simple, standard, complex_ = (MARKERS[complexity] for complexity in Complexity)
    assert simple == ("objective_defined", "scope_bounded")
    assert standard == (*simple, "phases_outlined", "testing_strategy", "acceptance_criteria")
    assert complex_ == (*standard, "architecture_documented", "dependencies_mapped", "risk_assessment", "rollback_plan")


def test_missing_markers_are_named_in_their_order() -> None:
    assert missing_markers(Complexity.STANDARD, ("testing_strategy", "scope_bounded", "unknown")) == (
        "objective_defined",
        "phases_outlined",
        "acceptance_criteria",
    )
    assert missing_markers(Complexity.SIMPLE, MARKERS[Complexity.COMPLEX]) == ()


@given(bodies)
def test_no_text_makes_the_parser_raise(body: str) -> None:
    found = phases(body)
    assert phase_problems(body) == () or len(phase_problems(body)) == 1
    for phase in found:
        shell = shell_phase(body, phase.number)
        assert all(task.subject for task in shell.tasks)
        assert shell.problems or shell.tasks
    first_block(body)


@given(bodies, st.sampled_from(["```", "~~~", "````"]), bodies)
def test_text_in_a_fence_changes_no_phase_count(body: str, fence: str, text: str) -> None:
    before = body.replace("`", "").replace("~", "")
    inside = text.replace(fence[0], "")
    assert numbers(f"{before}\n{fence}\n{inside}\n{fence}\n") == numbers(before)
    assert numbers(f"{before}\n{fence}\n{inside}") == numbers(before)


@given(bodies)
def test_line_endings_do_not_change_what_is_read(body: str) -> None:
    unix = body.replace("\r\n", "\n").replace("\r", "\n")
    windows = unix.replace("\n", "\r\n")
    assert phases(windows) == phases(unix)
    assert [shell_phase(windows, phase.number) for phase in phases(unix)] == [shell_phase(unix, phase.number) for phase in phases(unix)]
    assert first_block(windows) == first_block(unix)


@pytest.mark.parametrize(
    "piece",
    ["# a" + " " * 1000, "#", " ", "\n", "## Phase 1\n", "### Task 1\n", "`", "~", "```\n", "# #", "Depends on: 1 ", "Phase ", "\t", "1 "],
    ids=ascii,
)
def test_a_long_body_is_read_in_a_moment_whatever_it_holds(piece: str) -> None:
    body = "## Phase 1\n### Task 1\n" + (piece * 50_000)[:50_000] + "x"
    began = time.process_time()
    phase_problems(body)
    shell_phase(body, 1)
    assert time.process_time() - began < 3  # seconds of one core; what backtracks takes half a minute
