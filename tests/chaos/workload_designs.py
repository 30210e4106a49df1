"""The designs that the clients launch: small, each with another fate. Their tasks are the witness. Pure.

What a task writes into the witness file is what happened, whatever the books say: one line when it begins, one when it ends,
each in one write that is synced.
"""

from __future__ import annotations

from collections.abc import Callable

MARKERS = ("objective_defined", "scope_bounded")
SHELL = dict.fromkeys(("validator", "planner", "executor", "reviewer", "reviewer_secondary"), "shell")

TEST_SECOND = 'test "$QD_ATTEMPT" -gt 1'
_FIELDS = {
    "project": '"%s"',
    "orchestration": '"%s"',
    "run": '"%s"',
    "attempt": "%s",
    "kind": '"%s"',
    "phase": '"%s"',
    "task": '"%s"',
    "run_dir": '"%s"',
}


def note(witness: str, event: str) -> str:
    """Return the line of a block that writes an event of this attempt into the witness file."""
    fields = ",".join(f'"{name}":{form}' for name, form in _FIELDS.items())
    values = " ".join(f'"$QD_{name.upper()}"' for name in _FIELDS)
    form = f'{{"event":"{event}","at":%s,"pid":%s,{fields}}}\\n'
    return f'printf \'{form}\' "$(date +%s.%N)" "$$" {values} | dd of={witness} oflag=append conv=notrunc,fsync bs=4096 status=none'


def _task(number: int, witness: str, body: str, extra: str = "") -> str:
    work = f'{body}\necho "$QD_RUN.$QD_ATTEMPT" > "part-$QD_PHASE-$QD_TASK.txt"'
    return f"### Task {number}: part {number}\n{extra}\n```sh\n{note(witness, 'start')}\n{work}\n{note(witness, 'end')}\n```\n"


def _quick(witness: str) -> str:
    return f"## Phase 1: one\n{_task(1, witness, ':')}"


def _two(witness: str) -> str:
    return f"## Phase 1: two\n{_task(1, witness, 'sleep 0.2')}{_task(2, witness, ':', 'Depends on: 1')}"


def _flaky(witness: str) -> str:
    return f"## Phase 1: fails once\n{_task(1, witness, TEST_SECOND)}"


def _broken(witness: str) -> str:
    return f"## Phase 1: never works\n{_task(1, witness, 'exit 3')}"


def _slow(witness: str) -> str:
    return f"## Phase 1: takes long\n{_task(1, witness, 'sleep 3')}"


def _wide(witness: str) -> str:
    tasks = "".join(_task(number, witness, "sleep 0.5") for number in range(1, 6))
    return f"## Phase 1: side by side\n{tasks}"


DESIGNS: tuple[Callable[[str], str], ...] = (_quick, _two, _flaky, _broken, _slow, _wide)
"""Quick, two tasks in a row, one that fails first, one that always fails, a slow one, five side by side."""
