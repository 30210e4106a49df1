"""A sample of every report and result, of beats, and of the orders they answer."""

from __future__ import annotations

from bus_schemas import reports as r
from bus_schemas.codec import VERSION
from bus_schemas.orders import Inputs, Issue, RunKind, StopOrder, TaskBrief, TicketBrief, WorkOrder, Workspace
from bus_schemas.policy import ArchitectMode, DetectorScope, Enforcement, ReviewPolicy, TestIntegrity
from bus_schemas.routing import AgentOffer
from tests.golden.commands import AT

BASE = "1f0c9d6a2b3e4f5061728394a5b6c7d8e9f00112"
HEAD = "a94a8fe5ccb19ba61c4c0873d391e987982fbbd3"
NONCE = "n0f3d5a6e7b8c4d1e"

FINDINGS = (
    r.Finding(text="The sum is rounded twice.", severity="p0", detector="money", override_reason="Only in the demo."),
    r.Finding(text="A name says less than it could."),
)
TASKS = (
    r.PlannedTask(number=1, subject="Make the file"),
    r.PlannedTask(number=2, subject="Add to it", description="One line each.", depends_on=(1,), model="haiku"),
)
AGENTS = (AgentOffer("shell", "0.1.0", ("shell",)), AgentOffer("claude", "2.0.31", ("opus", "sonnet", "haiku", "claude-*")))
USAGE = r.Usage(input_tokens=1200, output_tokens=340, usd=0.0125, computed=True)

RESULTS: tuple[r.Result, ...] = (
    r.InitResult(base=BASE, path="/var/lib/qd/work/shop-o12", branch="qd/basket"),
    r.ValidateResult(verdict=r.Verdict.WARNING, findings=FINDINGS),
    r.PlanResult(tasks=TASKS),
    r.TaskResult(base=BASE, head=HEAD, files=2, insertions=10, deletions=3),
    r.ReviewResult(verdict=r.Verdict.GAPS, findings=FINDINGS),
    r.VerifyResult(passed=False, exit_code=2, tail="1 failed\n"),
    r.FinalizeResult(head=HEAD, branch="qd/basket", refs=("refs/qd/shop-o12/shop-o12-r9.1",)),
)

ENDED_BADLY = r.Ended(
    v=VERSION,
    outcome=r.Outcome.FAILED,
    at=AT,
    process_started=False,
    reason_code="dispatch_cli_exit_nonzero",
    detail="exit code 3",
    exit_code=3,
    signal=9,
    tail="no such file\n",
    resets_at=AT,
)

REPORTS: tuple[r.Report, ...] = (
    r.Started(v=VERSION, boot="b-20261123-1", claim="c4d1e9f0", at=AT),
    r.Withdrawn(v=VERSION, by="controller-1", at=AT),
    r.Ended(
        v=VERSION,
        outcome=r.Outcome.SUCCEEDED,
        at=AT,
        result=RESULTS[3],
        head=HEAD,
        exit_code=0,
        output_bytes=2048,
        duration_ms=1234.5,
        agent="claude",
        model="claude-haiku-4-5",
        session="s-1",
        usage=USAGE,
    ),
)

BEAT = r.Beat(
    v=VERSION,
    type="beat",
    node="mac-mini-1",
    boot="b-20261123-1",
    at=AT,
    capacity=4,
    labels={"os": "linux"},
    agents=AGENTS,
    running=(r.RunningAttempt("shop-o12-r7", 2), r.RunningAttempt("shop-o12-r8", 1)),
    draining=True,
)

ORDER = WorkOrder(
    v=VERSION,
    type="work-order",
    run="shop-o12-r7",
    attempt=2,
    nonce=NONCE,
    kind=RunKind.TASK,
    project="shop",
    orchestration="shop-o12",
    node="mac-mini-1",
    role="executor",
    model="haiku",
    workspace=Workspace(repo="/srv/git/shop", slug="basket", branch="qd/basket", default_branch="trunk", base=(BASE, HEAD)),
    inputs=Inputs(
        feature="Basket",
        design_title="Basket",
        design_body="## Phase 1\n",
        total_phases=1,
        phase="1.5",
        task=TaskBrief(phase="1.5", number=2, subject="Add to it", description="One line each.", depends_on=(1,), status="in_progress"),
        tasks=(TaskBrief(phase="1.5", number=1, subject="Make the file"),),
        tickets=(TicketBrief(id="shop-t17", title="Basket loses lines", body="After a reload."),),
        issues=(Issue(text="The sum is rounded twice.", source="verify", severity="p0", detector="money"), Issue(text="Name the tables first.")),
        judge=(BASE, HEAD),
        check="make test",
        repair=1,
        previous_error="exit code 3",
    ),
    review=ReviewPolicy(
        enforcement=Enforcement.TASK_ONLY,
        detector_scope=DetectorScope.ALLOWLIST,
        architect_mode=ArchitectMode.MANUAL_ONLY,
        test_integrity_profile=TestIntegrity.MAX_STRICT,
        hard_block_detectors=False,
        allow_rare_override=False,
        require_fix_first=False,
    ),
    policy_revision=3,
    timeout_s=1800.0,
    action="shop-a44",
    issued_at=AT,
    reviewer="secondary",
    env=("PATH", "ANTHROPIC_API_KEY"),
)

STOP = StopOrder(
    v=VERSION, type="stop-order", run="shop-o12-r7", attempt=2, nonce=NONCE, node="mac-mini-1", reason_code="dispatch_cancelled", issued_at=AT
)
