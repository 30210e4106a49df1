"""What comes next: the state machine of an orchestration (domain §6). Pure.

A report is accepted only from the status its row of `TABLE` requires; in any other status it is recorded as stale and
changes nothing. Holds stand beside the status and never erase it: under a hold that stops, runs are queued and not
dispatched, so clearing the hold continues exactly there.

    init ──▶ validating ──▶ planning ──▶ executing ──▶ reviewing ──▶ (next phase) … finalizing ──▶ complete
                               ▲             │             │
                               └── repair ───┴──── gaps ───┘   beyond two repairs: N.5, then N.5.5, then failed

After gaps comes a new run; after a failure the same run with the next attempt. An attempt counts once its process started.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec.structs import replace

from bus_schemas import events as e
from bus_schemas.entities import Node
from bus_schemas.events import GateKind, HoldKind, OrchestrationStatus, PhaseStatus, TaskStatus
from bus_schemas.ids import main_phase, remediation_phase
from bus_schemas.orders import Issue, RunKind
from bus_schemas.policy import Enforcement, HumanGate
from bus_schemas.reasons import Reason
from bus_schemas.reports import (
    Ended,
    FinalizeResult,
    Finding,
    InitResult,
    Outcome,
    PlanResult,
    ReviewResult,
    TaskResult,
    ValidateResult,
    Verdict,
    VerifyResult,
)
from controller import budgets, tasks
from controller.draft import PRIMARY, SECONDARY, Draft
from controller.orchestration import REJECTIONS_MAX, REPAIRS_MAX, UNSTARTED_MAX, Orchestration, Phase, Run
from controller.standing import block, move, open_gate, order_anew
from controller.verdicts import judged, open_findings


class Row(NamedTuple):
    """A row of the state machine: a report, the status it requires, and the statuses it may lead to."""

    report: RunKind
    requires: OrchestrationStatus
    then: tuple[OrchestrationStatus, ...]


_S = OrchestrationStatus
TABLE: tuple[Row, ...] = (
    Row(RunKind.INIT, _S.LAUNCHING, (_S.VALIDATING, _S.FAILED)),
    Row(RunKind.VALIDATE, _S.VALIDATING, (_S.PLANNING, _S.FINALIZING)),
    Row(RunKind.PLAN, _S.PLANNING, (_S.EXECUTING,)),
    # with no check and no phase review the last task of a phase leads straight to the next phase, or to the end
    Row(RunKind.TASK, _S.EXECUTING, (_S.EXECUTING, _S.REVIEWING)),
    Row(RunKind.TASK_REVIEW, _S.EXECUTING, (_S.EXECUTING, _S.REVIEWING, _S.PLANNING, _S.FINALIZING)),
    Row(RunKind.VERIFY, _S.EXECUTING, (_S.REVIEWING, _S.PLANNING, _S.FINALIZING, _S.FAILED)),
    Row(RunKind.REVIEW, _S.REVIEWING, (_S.PLANNING, _S.FINALIZING, _S.FAILED)),
    Row(RunKind.FINALIZE, _S.FINALIZING, (_S.COMPLETE,)),
)
REQUIRES: dict[RunKind, OrchestrationStatus] = {row.report: row.requires for row in TABLE}


# ── after a run ended ────────────────────────────────────────────────────────────────────────────────────────────────


_RESULTS: dict[RunKind, type] = {
    RunKind.INIT: InitResult,
    RunKind.VALIDATE: ValidateResult,
    RunKind.PLAN: PlanResult,
    RunKind.TASK: TaskResult,
    RunKind.TASK_REVIEW: ReviewResult,
    RunKind.VERIFY: VerifyResult,
    RunKind.REVIEW: ReviewResult,
    RunKind.FINALIZE: FinalizeResult,
}


def usable(o: Orchestration, run: Run, ended: Ended, node: Node | None) -> Ended:
    """Return `ended`, or the malformed end that it really is: a result of the wrong kind, or a plan that cannot be done."""
    if ended.outcome is not Outcome.SUCCEEDED:
        return ended
    problems: list[str] = []
    if not isinstance(ended.result, _RESULTS[run.kind]):
        found = "none" if ended.result is None else type(ended.result).__name__
        problems = [f"the result of a {run.kind} run is of the wrong kind: {found}"]
    elif isinstance(ended.result, PlanResult):
        planned, problems = tasks.numbered(o.current(), ended.result.tasks)
        problems = problems or tasks.unroutable(planned, node)
    if not problems:
        return ended
    detail = f"the {run.kind} cannot be used: {'; '.join(problems)}"[:4000]
    return replace(ended, outcome=Outcome.FAILED, reason_code=Reason.OUTPUT_MALFORMED.value, detail=detail)


def run_ended(draft: Draft, o: Orchestration, run: Run, ended: Ended) -> None:
    """Go on after an attempt that was recorded as ended."""
    cancelling = o.hold(HoldKind.CANCELLING) is not None
    if ended.outcome is Outcome.SUCCEEDED:
        if cancelling and run.kind is not RunKind.FINALIZE:
            return
        _succeeded(draft, o, run, ended)
    elif not cancelling:
        _failed(draft, o, run, ended)


def _failed(draft: Draft, o: Orchestration, run: Run, ended: Ended) -> None:
    code, detail = ended.reason_code or Reason.INTERNAL.value, ended.detail
    if code == Reason.QUOTA_EXHAUSTED:
        budgets.hold_for_quota(draft, o, run, ended)
        draft.queue_again(draft.orchestration(o.id), run, run.previous_error)
    elif ended.outcome is Outcome.CANCELLED:
        draft.queue_again(o, run, run.previous_error)
    elif code == Reason.OUTPUT_MALFORMED and run.kind in (RunKind.VALIDATE, RunKind.PLAN, RunKind.REVIEW, RunKind.TASK_REVIEW):
        _malformed(draft, o, run, detail)
    elif run.counted < o.active_policy.flow.max_task_attempts and run.unstarted < UNSTARTED_MAX:
        draft.queue_again(o, run, detail or code)
    else:
        _exhausted(draft, o, run, code, detail)


def _malformed(draft: Draft, o: Orchestration, run: Run, detail: str) -> None:
    if run.malformed <= 1:
        draft.queue_again(o, run, detail)
    else:
        _exhausted(draft, o, run, Reason.OUTPUT_MALFORMED.value, detail)


def _exhausted(draft: Draft, o: Orchestration, run: Run, code: str, detail: str) -> None:
    what = f"{run.kind} ({run.id}) failed {run.attempt} times"
    text = f"{what}: {detail}" if detail else what
    if run.kind is RunKind.INIT:
        move(draft, o, OrchestrationStatus.FAILED, code=Reason.INIT_FAILED, text=text)
    elif run.kind in (RunKind.TASK, RunKind.TASK_REVIEW) and run.phase is not None and run.task is not None:
        tasks.block(draft, o, run.phase, run.task, code, text)
        advance(draft, draft.orchestration(o.id))
    else:
        block(draft, o, text, code)


def _succeeded(draft: Draft, o: Orchestration, run: Run, ended: Ended) -> None:
    if ended.head is not None and run.kind not in (RunKind.TASK, RunKind.TASK_REVIEW, RunKind.INIT, RunKind.FINALIZE):
        _heads(draft, o, run.base, ended.head)
        o = draft.orchestration(o.id)
    match run.kind, ended.result:
        case RunKind.INIT, InitResult() as result:
            draft.emit(e.WorkspaceReady(orchestration=o.id, base=result.base, path=result.path, branch=result.branch))
            for action in o.open_actions:
                if action.type == "launch":
                    draft.emit(e.ActionCompleted(action.id))
            move(draft, draft.orchestration(o.id), OrchestrationStatus.VALIDATING)
            draft.queue(draft.orchestration(o.id), RunKind.VALIDATE, base=(result.base,))
        case RunKind.VALIDATE, ValidateResult() as result:
            _validated(draft, o, result)
        case RunKind.PLAN, PlanResult() as result:
            _planned(draft, o, result)
        case RunKind.TASK, TaskResult() as result:
            _task_done(draft, o, run, ended.head or result.head, result)
        case RunKind.TASK_REVIEW, ReviewResult() as result:
            _task_judged(draft, o, run, result)
        case RunKind.VERIFY, VerifyResult() as result:
            _verified(draft, o, result)
        case RunKind.REVIEW, ReviewResult() as result:
            _reviewed(draft, o, run, result)
        case RunKind.FINALIZE, FinalizeResult():
            move(draft, o, OrchestrationStatus.COMPLETE)
        case _:
            raise AssertionError(f"{run.id}: `usable` let a result of the wrong kind through")


def _heads(draft: Draft, o: Orchestration, contained: tuple[str, ...], head: str) -> None:
    heads = (*(known for known in o.heads if known not in contained and known != head), head)
    if heads != o.heads:
        draft.emit(e.HeadsMoved(orchestration=o.id, heads=heads))


def _validated(draft: Draft, o: Orchestration, result: ValidateResult) -> None:
    draft.emit(e.ValidationRecorded(orchestration=o.id, verdict=result.verdict, findings=result.findings))
    if result.verdict in (Verdict.PASS, Verdict.WARNING):
        next_phase(draft, o, 0)
    else:
        block(draft, o, f"the validator says stop: {_texts(result.findings)}", Reason.NOT_READY.value)


def _texts(findings: tuple[Finding, ...]) -> str:
    return "; ".join(finding.text for finding in findings)[:2000] or "no reason given"


# ── phases ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def next_phase(draft: Draft, o: Orchestration, after: int) -> None:
    """Begin the next enabled main phase after number `after`; finalize when there is none. Skipped ones are recorded."""
    enabled = o.active_policy.flow.phases_enabled
    for number in range(after + 1, o.total_phases + 1):
        if enabled is None or number in enabled:
            begin_phase(draft, o, str(number), ())
            return
        draft.emit(e.PhaseMoved(orchestration=o.id, phase=str(number), status=PhaseStatus.SKIPPED, message="not in phases_enabled"))
    o = draft.orchestration(o.id)
    if HumanGate.FINALIZE in o.active_policy.flow.human_gates:
        open_gate(draft, o, GateKind.FINALIZE, None, f"all phases are done; finalize writes branch {o.branch}")
    else:
        finalize(draft, o)


def finalize(draft: Draft, o: Orchestration) -> None:
    """Order the last run."""
    move(draft, o, OrchestrationStatus.FINALIZING)
    draft.queue(draft.orchestration(o.id), RunKind.FINALIZE, base=o.heads)


def begin_phase(draft: Draft, o: Orchestration, phase: str, issues: tuple[Issue, ...]) -> None:
    """Plan a phase; `issues` are what the plan must answer."""
    draft.emit(e.PhaseMoved(orchestration=o.id, phase=phase, status=PhaseStatus.PLANNING))
    if issues:
        draft.emit(e.IssuesRaised(orchestration=o.id, phase=phase, issues=issues))
    move(draft, o, OrchestrationStatus.PLANNING, phase=phase)
    o = draft.orchestration(o.id)
    draft.queue(o, RunKind.PLAN, phase=phase, base=o.heads)


def _planned(draft: Draft, o: Orchestration, result: PlanResult) -> None:
    phase = o.current()
    planned, _ = tasks.numbered(phase, result.tasks)
    draft.emit(e.PhasePlanned(orchestration=o.id, phase=phase.id, revision=phase.revision + 1, tasks=planned))
    draft.emit(e.PhaseMoved(orchestration=o.id, phase=phase.id, status=PhaseStatus.PLANNED))
    o = draft.orchestration(o.id)
    if HumanGate.PLAN in o.active_policy.flow.human_gates:
        lines = "\n".join(f"{task.number}. {task.subject}" for task in planned)
        open_gate(draft, o, GateKind.PLAN, phase.id, f"plan of phase {phase.id}:\n{lines}")
    else:
        execute(draft, o)


def execute(draft: Draft, o: Orchestration) -> None:
    """Start the tasks of a planned phase."""
    draft.emit(e.PhaseMoved(orchestration=o.id, phase=o.current().id, status=PhaseStatus.EXECUTING))
    move(draft, o, OrchestrationStatus.EXECUTING)
    advance(draft, draft.orchestration(o.id))


def advance(draft: Draft, o: Orchestration) -> None:
    """Start every task that is ready; with none open, verify the phase, or block it when tasks are blocked.

    Under a hold that stops, ready tasks stay pending, so that an operator can still change them; `go_on` starts them.
    """
    if not o.is_stopping:
        tasks.start_ready(draft, o, o.current())
    o = draft.orchestration(o.id)
    phase = o.current()
    if any(task.status is TaskStatus.IN_PROGRESS for task in phase.tasks) or tasks.ready(phase):
        return
    blocked = [task for task in phase.tasks if task.status is TaskStatus.BLOCKED]
    if blocked:
        numbers = ", ".join(str(task.number) for task in blocked)
        draft.emit(e.PhaseMoved(orchestration=o.id, phase=phase.id, status=PhaseStatus.BLOCKED, reason_code=blocked[0].reason_code))
        block(draft, o, f"phase {phase.id}: task {numbers} failed and nothing else can run", blocked[0].reason_code)
        return
    verify(draft, o)


def go_on(draft: Draft, o: Orchestration) -> None:
    """Start what is ready where the tasks of a phase are being done: after a hold is gone, or the plan or the policy changed."""
    if o.status is not OrchestrationStatus.EXECUTING or o.hold(HoldKind.BLOCKED) is not None or o.current().status is PhaseStatus.COMPLETE:
        return
    if not any(run.kind is RunKind.VERIFY for run in o.open_runs()):
        advance(draft, o)


def resume(draft: Draft, o: Orchestration) -> None:
    """Continue exactly where it stands, after a hold that stopped it is gone."""
    if not o.is_stopping:
        order_anew(draft, o)
        go_on(draft, draft.orchestration(o.id))


def verify(draft: Draft, o: Orchestration) -> None:
    """Run the project's check; without one it is recorded as skipped and the review begins."""
    phase = o.current()
    project = draft.context.plane.projects.get(o.project)
    if project is None or not project.check:
        draft.emit(e.VerifyRecorded(orchestration=o.id, phase=phase.id, status="skipped"))
        _begin_review(draft, draft.orchestration(o.id))
    else:
        draft.queue(o, RunKind.VERIFY, phase=phase.id, base=o.heads)


def _verified(draft: Draft, o: Orchestration, result: VerifyResult) -> None:
    phase = o.current()
    status = "passed" if result.passed else "failed"
    draft.emit(e.VerifyRecorded(orchestration=o.id, phase=phase.id, status=status, exit_code=result.exit_code))
    if result.passed:
        _begin_review(draft, draft.orchestration(o.id))
    else:
        text = f"the check exited {result.exit_code}:\n{result.tail}"[:16_000]
        gaps(draft, draft.orchestration(o.id), (Issue(text=text, source="verify", severity="p0"),))


# ── tasks ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _task_done(draft: Draft, o: Orchestration, run: Run, head: str, result: TaskResult) -> None:
    phase = o.current()
    task = phase.task(run.task) if run.task is not None and run.phase == phase.id else None
    if task is None or task.status is not TaskStatus.IN_PROGRESS:
        return
    base = task.git_range[0] if task.git_range else result.base
    if o.active_policy.review.enforcement is Enforcement.PHASE_ONLY:
        tasks.complete(draft, o, phase.id, task, (base, head))
        advance(draft, draft.orchestration(o.id))
        return
    draft.emit(
        e.TaskMoved(
            orchestration=o.id, phase=phase.id, task=task.number, status=TaskStatus.IN_PROGRESS, revision=task.revision, git_range=(base, head)
        )
    )
    draft.queue(draft.orchestration(o.id), RunKind.TASK_REVIEW, phase=phase.id, task=task.number, base=(head,))


def _task_judged(draft: Draft, o: Orchestration, run: Run, result: ReviewResult) -> None:
    phase = o.current()
    task = phase.task(run.task) if run.task is not None and run.phase == phase.id else None
    if task is None or task.git_range is None or task.status is not TaskStatus.IN_PROGRESS:
        return
    verdict = judged(result, o.active_policy.review, repairs=task.rejections)
    draft.emit(
        e.VerdictRecorded(
            orchestration=o.id,
            phase=phase.id,
            task=task.number,
            reviewer=PRIMARY,
            verdict=verdict,
            findings=result.findings,
            model=run.model,
        )
    )
    if verdict is Verdict.PASS:
        tasks.complete(draft, o, phase.id, task, task.git_range)
        advance(draft, draft.orchestration(o.id))
    elif task.rejections + 1 >= REJECTIONS_MAX:
        text = f"rejected {REJECTIONS_MAX} times: {_texts(result.findings)}"
        tasks.block(draft, o, phase.id, task.number, Reason.REVIEW_EXHAUSTED.value, text)
        advance(draft, draft.orchestration(o.id))
    else:
        tasks.send_back(draft, o, phase.id, task, _issues(result.findings, "task-review"))


def _issues(findings: tuple[Finding, ...], source: str) -> tuple[Issue, ...]:
    found = tuple(Issue(text=finding.text, source=source, severity=finding.severity, detector=finding.detector) for finding in findings)
    return found or (Issue(text="the reviewer found gaps and named none", source=source),)


# ── review ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _begin_review(draft: Draft, o: Orchestration) -> None:
    phase = o.current()
    if o.active_policy.review.enforcement is Enforcement.TASK_ONLY:
        complete_phase(draft, o)
        return
    draft.emit(e.PhaseMoved(orchestration=o.id, phase=phase.id, status=PhaseStatus.REVIEWING))
    move(draft, o, OrchestrationStatus.REVIEWING)
    review(draft, draft.orchestration(o.id))


def review(draft: Draft, o: Orchestration) -> None:
    """Order the reviews of the phase that are not there yet: one, or two under consensus; with none missing, go on by what they said."""
    phase = o.current()
    missing = _missing_reviewers(o, phase)
    if not missing:
        _conclude(draft, o, phase)
    under_way = {run.reviewer for run in o.open_runs() if run.kind is RunKind.REVIEW and run.phase == phase.id}
    for reviewer in missing:
        if reviewer not in under_way:
            draft.queue(draft.orchestration(o.id), RunKind.REVIEW, phase=phase.id, base=o.heads, reviewer=reviewer)


def _missing_reviewers(o: Orchestration, phase: Phase) -> list[str]:
    have = {known.reviewer for known in phase.verdicts}
    wanted = (PRIMARY, SECONDARY) if o.active_policy.model.review_consensus else (PRIMARY,)
    return [reviewer for reviewer in wanted if reviewer not in have]


def _reviewed(draft: Draft, o: Orchestration, run: Run, result: ReviewResult) -> None:
    phase = o.current()
    verdict = judged(result, o.active_policy.review, repairs=phase.repairs)
    reviewer = run.reviewer or PRIMARY
    draft.emit(e.VerdictRecorded(orchestration=o.id, phase=phase.id, reviewer=reviewer, verdict=verdict, findings=result.findings, model=run.model))
    o = draft.orchestration(o.id)
    if o.hold(HoldKind.BLOCKED) is None:  # else the other one failed, and a retry asks it again
        review(draft, o)


def _conclude(draft: Draft, o: Orchestration, phase: Phase) -> None:
    verdicts = {known.verdict for known in phase.verdicts}
    if len(verdicts) > 1:
        subject = "\n".join(f"{known.reviewer} says {known.verdict}: {_texts(known.findings)}" for known in phase.verdicts)
        open_gate(draft, o, GateKind.CONSENSUS_DISAGREEMENT, phase.id, subject, Reason.CONSENSUS_DISAGREEMENT)
    elif verdicts == {Verdict.PASS}:
        _passed(draft, o, phase)
    else:
        findings = tuple(finding for known in phase.verdicts for finding in open_findings(known.findings, o.active_policy.review, phase.repairs))
        gaps(draft, o, _issues(findings, "review"))


def _passed(draft: Draft, o: Orchestration, phase: Phase) -> None:
    if HumanGate.REVIEW in o.active_policy.flow.human_gates:
        subject = f"phase {phase.id} passed its review; commits {phase.base or '?'}..{o.heads[0] if o.heads else '?'}"
        open_gate(draft, o, GateKind.REVIEW, phase.id, subject)
    else:
        complete_phase(draft, o)


def complete_phase(draft: Draft, o: Orchestration) -> None:
    """End the phase as complete and go on with the next main phase."""
    phase = o.current()
    draft.emit(e.PhaseMoved(orchestration=o.id, phase=phase.id, status=PhaseStatus.COMPLETE))
    next_phase(draft, draft.orchestration(o.id), main_phase(phase.id))


def gaps(draft: Draft, o: Orchestration, issues: tuple[Issue, ...]) -> None:
    """Repair the phase, at most twice for a main phase; then remedy it in `N.5`, then `N.5.5`; then the orchestration fails."""
    phase = o.current()
    if "." not in phase.id and phase.repairs < REPAIRS_MAX:
        draft.emit(e.RepairStarted(orchestration=o.id, phase=phase.id, repair=phase.repairs + 1))
        begin_phase(draft, draft.orchestration(o.id), phase.id, issues)
        return
    draft.emit(e.PhaseMoved(orchestration=o.id, phase=phase.id, status=PhaseStatus.COMPLETE, message="with gaps"))
    remedy = remediation_phase(phase.id)
    o = draft.orchestration(o.id)
    if remedy is None:
        text = f"phase {phase.id} still has gaps: " + "; ".join(issue.text for issue in issues)[:2000]
        move(draft, o, OrchestrationStatus.FAILED, code=Reason.REVIEW_EXHAUSTED, text=text)
    else:
        begin_phase(draft, o, remedy, issues)
