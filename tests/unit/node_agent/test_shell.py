"""The `shell` agent: what it reads from a design, and how it reads an end."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from bus_schemas import codec
from bus_schemas.orders import RunKind, TaskBrief
from bus_schemas.reasons import Reason
from bus_schemas.reports import PlanResult, ReviewResult, ValidateResult, Verdict
from bus_schemas.routing import AgentOffer
from node_agent.agents.agent import Answer, Launch, Refusal
from node_agent.agents.shell import Shell
from node_agent.attempt import Exit
from node_agent.run_dir import RunDir
from tests.unit.node_agent.orders import ended, order

RUN = RunDir(Path("/run"), Path("/tree"))
DESIGN = """## Phase 1

### Task 1: one

```sh
echo one
```

### Task 2: two
Depends on: 1
Model: haiku

words

```sh
echo two
```

### Check

```sh
test -e x
```

## Phase 2

### Task 1: three

```sh
echo three
```
"""


def launch(kind: RunKind, **inputs: object) -> Launch | Answer | Refusal:
    return Shell("1").launch(order(kind, inputs={"design_body": DESIGN, **inputs}), RUN)


def test_it_offers_the_one_model_shell() -> None:
    assert Shell("1").offer() == AgentOffer("shell", "1", ("shell",))


def test_a_design_that_parses_is_valid() -> None:
    assert launch(RunKind.VALIDATE) == Answer(ValidateResult(Verdict.PASS))


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ("no phases", "no phase"),
        ("## Phase 2\n### Task 1: a\n```sh\na\n```\n", "numbered 2"),
        ("## Phase 1\nwords\n", "no task"),
        ("## Phase 1\n### Task 1: a\nno block\n", "no `sh` block"),
        ("## Phase 1\n### Task 1: a\nDepends on: 7\n```sh\na\n```\n", "depends on task 7"),
        ("## Phase 1\n### Task 0: a\n```sh\na\n```\n", "numbered from 1"),
        ("## Phase 1\n### Task 1: a\n" + "x" * 70_000 + "\n```sh\na\n```\n", "over 64 KiB"),
    ],
)
def test_a_design_that_cannot_be_run_is_stopped_with_the_reason(body: str, word: str) -> None:
    found = launch(RunKind.VALIDATE, design_body=body)
    assert isinstance(found, Answer)
    assert isinstance(found.result, ValidateResult)
    assert found.result.verdict is Verdict.STOP
    assert word in found.result.findings[0].text
    planned = launch(RunKind.PLAN, design_body=body)
    if "numbered 2" not in word:
        assert isinstance(planned, Refusal)


@pytest.mark.parametrize("phase", ["1", "1.5", "1.5.5"])
def test_a_plan_is_all_tasks_of_the_main_phase(phase: str) -> None:
    found = launch(RunKind.PLAN, phase=phase)
    assert isinstance(found, Answer)
    assert isinstance(found.result, PlanResult)
    assert [(task.number, task.subject, task.depends_on, task.model) for task in found.result.tasks] == [
        (1, "one", (), None),
        (2, "two", (1,), "haiku"),
    ]
    assert "words" in found.result.tasks[1].description
    assert "```sh\necho two\n```" in found.result.tasks[1].description
    # what the controller is sent is what it can read
    report = replace(ended(), result=found.result)
    assert codec.decode_report(codec.encode(report)) == report


def test_a_plan_of_a_phase_the_design_does_not_have_is_refused() -> None:
    found = launch(RunKind.PLAN, phase="9")
    assert isinstance(found, Refusal)
    assert found.reason is Reason.OUTPUT_MALFORMED
    assert isinstance(launch(RunKind.PLAN, phase=None), Refusal)


def test_a_task_is_its_first_block_under_sh_e() -> None:
    task = TaskBrief("1", 1, "one", "text\n\n```sh\necho one\n```\n\n```sh\necho other\n```\n")
    assert launch(RunKind.TASK, task=task) == Launch(argv=("sh", "-e", "/run/block"), files={"block": b"echo one\n"})


def test_a_block_with_an_interpreter_of_its_own_is_run_by_that() -> None:
    task = TaskBrief("1", 1, "one", "```sh\n#!/usr/bin/env python3\nprint(1)\n```\n")
    assert launch(RunKind.TASK, task=task) == Launch(argv=("/run/block",), files={"block": b"#!/usr/bin/env python3\nprint(1)\n"})


def test_a_task_without_a_block_is_refused_by_name() -> None:
    found = launch(RunKind.TASK, task=TaskBrief("1", 4, "the fourth", "words"))
    assert isinstance(found, Refusal)
    assert found.reason is Reason.PAYLOAD_INVALID
    assert "task 4" in found.detail
    assert "the fourth" in found.detail
    assert isinstance(launch(RunKind.TASK, task=None), Refusal)


def test_a_review_runs_the_check_of_the_main_phase() -> None:
    found = launch(RunKind.REVIEW, phase="1.5")
    assert isinstance(found, Launch)
    assert (found.files, found.exit_is_answer) == ({"block": b"test -e x\n"}, True)


def test_a_phase_without_a_check_and_a_task_that_was_done_pass() -> None:
    assert launch(RunKind.REVIEW, phase="2") == Answer(ReviewResult(Verdict.PASS))
    assert launch(RunKind.TASK_REVIEW) == Answer(ReviewResult(Verdict.PASS))
    assert isinstance(launch(RunKind.REVIEW, phase=None), Refusal)


def test_what_it_does_not_do_is_refused() -> None:
    found = launch(RunKind.FINALIZE)
    assert isinstance(found, Refusal)
    assert found.reason is Reason.UNKNOWN_TYPE


def test_the_exit_code_of_a_check_is_its_verdict_unless_it_handed_over_one() -> None:
    review = order(RunKind.REVIEW, inputs={"design_body": DESIGN})
    good, bad = Exit(spawned=True, exit_code=0), Exit(spawned=True, exit_code=2)
    handed = ReviewResult(Verdict.GAPS)
    assert Shell("1").result(review, good, "", None) == ReviewResult(Verdict.PASS)
    assert Shell("1").result(review, good, "", handed) == handed
    gaps = Shell("1").result(review, bad, "x" * 20_000, ReviewResult(Verdict.PASS))
    assert isinstance(gaps, ReviewResult)
    assert gaps.verdict is Verdict.GAPS
    assert "exit code 2" in gaps.findings[0].text
    report = replace(ended(), result=gaps)
    assert codec.decode_report(codec.encode(report)) == report
    assert Shell("1").result(order(RunKind.TASK), good, "", None) is None
