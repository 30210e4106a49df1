"""The `shell` agent: deterministic, without any account; runs the `sh` blocks that stand in the design. Pure.

Validating is parsing; planning is listing the tasks of the main phase (for a repair or a phase `N.5`: all of them again);
a task is its first `sh` block; a task review passes, since the block has exited 0; a phase review is the block below
`### Check`. A block runs as a script file under `sh -e`, as steps of CI systems do: the first command that fails ends
it. A block whose first line starts with `#!` is run by what stands there.
"""

from __future__ import annotations

from bus_schemas.design import ShellTask, first_block, phase_problems, phases, shell_phase
from bus_schemas.ids import main_phase
from bus_schemas.orders import RunKind, WorkOrder
from bus_schemas.reasons import Reason
from bus_schemas.reports import Finding, PlannedTask, PlanResult, Result, ReviewResult, ValidateResult, Verdict
from bus_schemas.routing import DEFAULT_ROUTES, AgentOffer
from node_agent.agents.agent import Answer, Launch, Refusal
from node_agent.attempt import Exit
from node_agent.run_dir import RunDir

NAME = "shell"
SCRIPT = "block"
SUBJECT_CHARS_MAX = 200
FINDING_CHARS_MAX = 16_000
FINDINGS_MAX = 50


class Shell:
    """The adapter."""

    def __init__(self, version: str) -> None:
        """Be of the version of this package."""
        self._version = version

    def offer(self) -> AgentOffer:
        """Return the one model it takes."""
        return AgentOffer(NAME, self._version, DEFAULT_ROUTES[NAME])

    def launch(self, order: WorkOrder, run: RunDir) -> Launch | Answer | Refusal:
        """Return the block to run, or the answer that needs none."""
        match order.kind:
            case RunKind.VALIDATE:
                return Answer(_validated(order.inputs.design_body))
            case RunKind.PLAN:
                return _planned(order)
            case RunKind.TASK:
                return _task(order, run)
            case RunKind.TASK_REVIEW:
                return Answer(ReviewResult(Verdict.PASS))
            case RunKind.REVIEW:
                return _review(order, run)
            case _:
                return Refusal(Reason.UNKNOWN_TYPE, f"the shell agent does not do {order.kind} runs")

    def result(self, order: WorkOrder, ending: Exit, tail: str, handed: Result | None) -> Result | None:
        """Return the verdict of a check: as handed over, else by its exit code."""
        if order.kind is not RunKind.REVIEW:
            return None
        if handed is not None and ending.exit_code == 0:
            return handed
        if ending.exit_code == 0:
            return ReviewResult(Verdict.PASS)
        text = f"the check of phase {order.inputs.phase} ended with exit code {ending.exit_code}\n\n{tail.strip()}"
        return ReviewResult(Verdict.GAPS, (Finding(text.strip()[:FINDING_CHARS_MAX]),))


def _validated(body: str) -> ValidateResult:
    problems = list(phase_problems(body))
    for phase in phases(body):
        problems += shell_phase(body, phase.number).problems
        problems += _plan_problems(shell_phase(body, phase.number).tasks)
    findings = tuple(Finding(problem[:FINDING_CHARS_MAX]) for problem in problems[:FINDINGS_MAX])
    return ValidateResult(Verdict.STOP if findings else Verdict.PASS, findings)


def _planned(order: WorkOrder) -> Answer | Refusal:
    phase = order.inputs.phase
    if phase is None:
        return Refusal(Reason.PAYLOAD_INVALID, "a plan order names no phase")
    outline = shell_phase(order.inputs.design_body, main_phase(phase))
    problems = (*outline.problems, *_plan_problems(outline.tasks))
    if problems:
        return Refusal(Reason.OUTPUT_MALFORMED, "; ".join(problems)[:FINDING_CHARS_MAX])
    return Answer(PlanResult(tuple(_planned_task(task) for task in outline.tasks)))


def _planned_task(task: ShellTask) -> PlannedTask:
    return PlannedTask(
        number=task.number, subject=task.subject[:SUBJECT_CHARS_MAX], description=task.description, depends_on=task.depends_on, model=task.model
    )


def _plan_problems(tasks: tuple[ShellTask, ...]) -> list[str]:
    """Return why tasks of a design cannot stand in a plan, which the parser of designs does not mind."""
    found = [f"task {task.number}: tasks are numbered from 1" for task in tasks if task.number < 1]
    found += [f"task {task.number}: its text is over 64 KiB" for task in tasks if len(task.description) > 64 * 1024]
    return found


def _task(order: WorkOrder, run: RunDir) -> Launch | Refusal:
    task = order.inputs.task
    if task is None:
        return Refusal(Reason.PAYLOAD_INVALID, "a task order names no task")
    block = first_block(task.description)
    if block is None:
        return Refusal(Reason.PAYLOAD_INVALID, f"task {task.number} of phase {task.phase} ({task.subject}) has no `sh` block to run")
    return Launch(argv=_argv(block, run), files={SCRIPT: block.encode()})


def _review(order: WorkOrder, run: RunDir) -> Launch | Answer | Refusal:
    if order.inputs.phase is None:
        return Refusal(Reason.PAYLOAD_INVALID, "a review order names no phase")
    check = shell_phase(order.inputs.design_body, main_phase(order.inputs.phase)).check
    if check is None:
        return Answer(ReviewResult(Verdict.PASS))
    return Launch(argv=_argv(check, run), files={SCRIPT: check.encode()}, hands_over=ReviewResult, exit_is_answer=True)


def _argv(block: str, run: RunDir) -> tuple[str, ...]:
    script = str(run.path / SCRIPT)
    return (script,) if block.startswith("#!") else ("sh", "-e", script)
