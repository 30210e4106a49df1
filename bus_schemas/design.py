"""Designs as Markdown: which phases a body has, and the tasks and checks that the `shell` agent reads from it. Pure.

Phases are the headings `## Phase N` (level 2, any case, up to three leading blanks); where there is none at level 2,
those at level 3. Tasks and Check stand one level below their phase. Fenced text is never a heading.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from bus_schemas.entities import Complexity
from bus_schemas.policy import MODEL_CHARS_MAX
from bus_schemas.reports import TASKS_MAX
from bus_schemas.texts import MODEL, plain

_SPECIAL = re.compile(r" {0,3}[#`~]")
_LINE_END = re.compile(r"\r\n|\r|\n")
_FENCE_OPEN = re.compile(r" {0,3}(`{3,}(?=[^`]*\Z)|~{3,})[ \t]*([^\s`]*)")
_FENCE_CLOSE = re.compile(r" {0,3}(`{3,}|~{3,})[ \t]*")
_HASHES = re.compile(r" {0,3}(#{1,6})(?=[ \t]|\Z)")
_PHASE = re.compile(r"phase[ \t]+([0-9]{1,4})\b[ \t:.\-–—]*(.*)", re.IGNORECASE)
_TASK = re.compile(r"task[ \t]+([0-9]{1,4})\b[ \t:.\-–—]*(.*)", re.IGNORECASE)
_CHECK = re.compile(r"check[ \t]*", re.IGNORECASE)
_DEPENDS = re.compile(r"[ \t]*depends[ \t]+on[ \t]*:[ \t]*(.*)", re.IGNORECASE)
_MODEL = re.compile(r"[ \t]*model[ \t]*:[ \t]*(\S+)[ \t]*", re.IGNORECASE)
_TASK_NUMBER = re.compile(r"[0-9]{1,4}")

PHASES_MAX = 200
SHELL_FENCES = ("sh", "bash", "shell")

MARKERS: dict[Complexity, tuple[str, ...]] = {
    Complexity.SIMPLE: ("objective_defined", "scope_bounded"),
    Complexity.STANDARD: ("objective_defined", "scope_bounded", "phases_outlined", "testing_strategy", "acceptance_criteria"),
    Complexity.COMPLEX: (
        "objective_defined",
        "scope_bounded",
        "phases_outlined",
        "testing_strategy",
        "acceptance_criteria",
        "architecture_documented",
        "dependencies_mapped",
        "risk_assessment",
        "rollback_plan",
    ),
}


class Line(NamedTuple):
    """A line of a body with what it is: heading level and title, or 0.

    `fence` is the language of the fence it stands in (its delimiters too), else None; `edge` is `open` or `close` on a delimiter.
    """

    text: str
    level: int = 0
    title: str = ""
    fence: str | None = None
    edge: str = ""


class PhaseOutline(NamedTuple):
    """A phase of a design: its number, title, and the lines below its heading."""

    number: int
    title: str
    level: int
    lines: tuple[Line, ...]


class ShellTask(NamedTuple):
    """A task that the `shell` agent reads: `description` is all text below its heading, with the block to run."""

    number: int
    subject: str
    description: str
    depends_on: tuple[int, ...]
    model: str | None


class ShellPhase(NamedTuple):
    """What the `shell` agent reads of one phase. `problems` is empty when the phase can be planned."""

    tasks: tuple[ShellTask, ...]
    check: str | None
    problems: tuple[str, ...]


def _lines(body: str) -> Iterator[Line]:
    texts = _LINE_END.split(body)  # not `splitlines`, which also cuts at form feeds and the like, inside of scripts
    if not texts[-1]:
        texts.pop()
    opened, language = "", ""
    for text in texts:
        if not _SPECIAL.match(text):
            yield Line(text, fence=language) if opened else Line(text)
        elif opened:
            fence = _FENCE_CLOSE.fullmatch(text)
            closes = fence is not None and fence[1][0] == opened[0] and len(fence[1]) >= len(opened)
            yield Line(text, fence=language, edge="close" if closes else "")
            opened = "" if closes else opened
        elif fence := _FENCE_OPEN.match(text):
            opened, language = fence[1], fence[2].lower()
            yield Line(text, fence=language, edge="open")
        else:
            yield _heading(text)


def _heading(text: str) -> Line:
    hashes = _HASHES.match(text)
    if hashes is None:
        return Line(text)
    title = text[hashes.end() :].strip()
    bare = title.rstrip("#")
    if bare[-1:] in ("", " ", "\t"):  # closing hashes stand apart from the title
        title = bare.rstrip()
    return Line(text, len(hashes[1]), title)


def phases(body: str) -> tuple[PhaseOutline, ...]:
    """Return the phases of a design body in the order they stand; empty when it has none."""
    lines = tuple(_lines(body))
    for level in (2, 3):
        found: list[tuple[int, int, str]] = []
        for index, line in enumerate(lines):
            match = _PHASE.fullmatch(line.title) if line.level == level else None
            if match:
                found.append((index, int(match[1]), match[2].strip()))
        if found:
            return tuple(PhaseOutline(number, title, level, _below(lines, index, level)) for index, number, title in found)
    return ()


def _below(lines: tuple[Line, ...], index: int, level: int) -> tuple[Line, ...]:
    end = next((i for i in range(index + 1, len(lines)) if 0 < lines[i].level <= level), len(lines))
    return lines[index + 1 : end]


@lru_cache(maxsize=64)  # the same design is launched again and again
def phase_problems(body: str) -> tuple[str, ...]:
    """Return what keeps the phases of a body from being run in order: none at all, a gap, a repeat."""
    numbers = [phase.number for phase in phases(body)]
    if not numbers:
        return ("the body has no phase; write headings like `## Phase 1`",)
    if len(numbers) > PHASES_MAX:
        return (f"the body has {len(numbers)} phases; at most {PHASES_MAX}",)
    if numbers != list(range(1, len(numbers) + 1)):
        return (f"phases are numbered {', '.join(map(str, numbers))}; they must be 1 to {len(numbers)} in order",)
    return ()


def missing_markers(complexity: Complexity, completed: tuple[str, ...]) -> tuple[str, ...]:
    """Return the markers that a design of this complexity still needs, in their order."""
    return tuple(marker for marker in MARKERS[complexity] if marker not in completed)


def first_block(text: str) -> str | None:
    """Return the first fenced `sh` block of `text` without its fences, or None. A block that is never closed ends with the text."""
    block: list[str] | None = None
    for line in _lines(text):
        if block is None:
            if line.edge == "open" and line.fence in SHELL_FENCES:
                block = []
        elif line.edge == "close":
            break
        else:
            block.append(line.text)
    return None if block is None else "\n".join(block) + "\n"


def shell_phase(body: str, number: int) -> ShellPhase:
    """Return the tasks and the check of main phase `number` as the `shell` agent runs them."""
    outline = next((phase for phase in phases(body) if phase.number == number), None)
    if outline is None:
        return ShellPhase((), None, (f"the design has no phase {number}",))
    tasks: list[ShellTask] = []
    check: str | None = None
    problems: list[str] = []
    for index, line in enumerate(outline.lines):
        if line.level != outline.level + 1:
            continue
        text = "\n".join(inner.text for inner in _below(outline.lines, index, line.level))
        match = _TASK.fullmatch(line.title)
        if match:
            tasks.append(_shell_task(int(match[1]), match[2].strip(), text, problems))
        elif _CHECK.fullmatch(line.title):
            check = first_block(text)
            if check is None:
                problems.append(f"phase {number}: Check has no `sh` block")
    problems.extend(_task_problems(number, tasks))
    return ShellPhase(tuple(tasks), check, tuple(problems))


def _shell_task(number: int, subject: str, text: str, problems: list[str]) -> ShellTask:
    depends: tuple[int, ...] = ()
    model: str | None = None
    for line in _lines(text):
        if line.fence is not None:
            continue
        if match := _DEPENDS.fullmatch(line.text):
            words = [word for word in re.split(r"[,\s]+", match[1]) if word and word.lower() != "none"]
            if all(_TASK_NUMBER.fullmatch(word) for word in words):
                depends = tuple(dict.fromkeys(int(word) for word in words))
            else:
                problems.append(f"task {number}: `Depends on: {plain(match[1], 80)}` is not a list of task numbers")
        elif match := _MODEL.fullmatch(line.text):
            model = match[1]
            if len(model) > MODEL_CHARS_MAX or re.search(MODEL, model) is None:
                problems.append(f"task {number}: `Model: {plain(model, 80)}` is not the name of a model")
    if first_block(text) is None:
        problems.append(f"task {number}: no `sh` block to run")
    return ShellTask(number, subject or f"Task {number}", text.strip("\n"), depends, model)


def _task_problems(phase: int, tasks: list[ShellTask]) -> list[str]:
    if not tasks:
        return [f"phase {phase} has no task; write headings like `### Task 1: subject`"]
    if len(tasks) > TASKS_MAX:
        return [f"phase {phase} has {len(tasks)} tasks; at most {TASKS_MAX}"]
    numbers = Counter(task.number for task in tasks)
    problems = [f"phase {phase}: task {number} stands more than once" for number in sorted(numbers) if numbers[number] > 1]
    problems += [
        f"task {task.number} depends on task {n}, which phase {phase} does not have" for task in tasks for n in task.depends_on if n not in numbers
    ]
    return problems
