"""A sample of every event, in the order in which an orchestration may have them."""

from __future__ import annotations

from datetime import timedelta

from bus_schemas import events as e
from bus_schemas.entities import Comment, Complexity, Design, DesignStatus, Node, Priority, Project, Ticket, TicketStatus
from bus_schemas.ids import DesignId, NodeId, ProjectId, TicketId
from bus_schemas.orders import Issue, RunKind
from bus_schemas.policy import FlowPolicy, HumanGate, ModelPolicy, OnNodeLoss, Policy, policy_hash
from bus_schemas.reports import Outcome, Verdict
from tests.golden.commands import AT
from tests.golden.reports import AGENTS, BASE, FINDINGS, HEAD, NONCE, ORDER, RESULTS, TASKS, USAGE

LATER = AT + timedelta(minutes=5)
SHOP, DESIGN, TICKET, LAUNCHED, RUN, NODE = "shop", "shop-d3", "shop-t17", "shop-o12", "shop-o12-r7", "mac-mini-1"

POLICY = Policy(
    model=ModelPolicy("claude-opus-4", "sonnet", "haiku", "gpt-5", "gemini-2.5-pro", True),
    review=ORDER.review,
    flow=FlowPolicy(
        phases_enabled=(1, 3),
        human_gates=(HumanGate.PLAN, HumanGate.FINALIZE),
        max_parallel_tasks=4,
        max_task_attempts=3,
        run_timeout_s=600,
        on_node_loss=OnNodeLoss.MOVE,
        budget_usd=12.5,
        budget_tokens=2_000_000,
    ),
)

EVENTS: tuple[e.Event, ...] = (
    e.FlagChanged(flag="require_reason", on=True, previous=True),
    e.HeadsRecorded(heads=(e.RecordedHead(SHOP, 418, "5b" * 32),)),
    e.NodeRegistered(Node(id=NodeId(NODE), labels={"os": "linux"}, capacity=4, agents=AGENTS, cordoned=True, registered_at=AT, draining=True)),
    e.NodeCordonChanged(node=NODE, cordoned=True, draining=True),
    e.ProjectAdded(Project(id=ProjectId(SHOP), name="The shop", repo="/srv/git/shop", default_branch="trunk", check="make test", created_at=AT)),
    e.ProjectEdited(Project(id=ProjectId(SHOP), name="Shop", repo="https://git.example/shop.git")),
    e.DesignAdded(
        Design(
            id=DesignId(DESIGN),
            project=ProjectId(SHOP),
            title="Basket – zum Körbchen",
            body="## Phase 1: Lines\n\n```sh\necho '\"one\"'\n```\n",
            status=DesignStatus.APPROVED,
            complexity=Complexity.SIMPLE,
            completed_markers=("objective_defined", "scope_bounded"),
            phase_count=1,
            revision=2,
            created_at=AT,
            updated_at=LATER,
        )
    ),
    e.DesignEdited(design=DESIGN, revision=3, title="Basket", body="## Phase 1\n", complexity=Complexity.COMPLEX, phase_count=1),
    e.DesignMarked(design=DESIGN, marker="risk_assessment", completed=True, revision=4),
    e.DesignMoved(design=DESIGN, status=DesignStatus.IN_REVIEW, previous=DesignStatus.DRAFT, revision=5),
    e.TicketAdded(
        Ticket(
            id=TicketId(TICKET),
            project=ProjectId(SHOP),
            title="Basket loses lines",
            body="After a reload.",
            design=DesignId(DESIGN),
            status=TicketStatus.BLOCKED,
            priority=Priority.URGENT,
            created_at=AT,
            updated_at=LATER,
        )
    ),
    e.TicketEdited(ticket=TICKET, title="Basket loses a line", body="Once.", design="shop-d4", priority=Priority.LOW),
    e.TicketMoved(ticket=TICKET, status=TicketStatus.IN_PROGRESS, previous=TicketStatus.TODO, orchestration=LAUNCHED),
    e.CommentAdded(Comment(target=TICKET, author="ana", body="Seen again on Monday.", at=AT)),
    e.OrchestrationLaunched(
        orchestration=LAUNCHED,
        design=DESIGN,
        design_revision=5,
        feature="Basket",
        slug="basket",
        branch="qd/basket",
        node=NODE,
        total_phases=3,
        policy=POLICY,
        policy_hash=policy_hash(POLICY),
        preset_origin="custom",
        tickets=(TICKET, "shop-t18"),
        design_only=True,
    ),
    e.OrchestrationMoved(
        orchestration=LAUNCHED,
        status=e.OrchestrationStatus.FAILED,
        previous=e.OrchestrationStatus.REVIEWING,
        phase="1.5.5",
        reason_code="execution_review_exhausted",
        message="phase 1.5.5 still has gaps",
    ),
    e.WorkspaceReady(orchestration=LAUNCHED, base=BASE, path="/var/lib/qd/work/shop-o12", branch="qd/basket"),
    e.HeadsMoved(orchestration=LAUNCHED, heads=(BASE, HEAD)),
    e.ValidationRecorded(orchestration=LAUNCHED, verdict=Verdict.WARNING, findings=FINDINGS),
    e.PhaseMoved(orchestration=LAUNCHED, phase="1.5", status=e.PhaseStatus.BLOCKED, reason_code="execution_verify_failed", message="exit code 2"),
    e.PhasePlanned(orchestration=LAUNCHED, phase="1", revision=2, tasks=TASKS),
    e.RepairStarted(orchestration=LAUNCHED, phase="1", repair=1),
    e.IssuesRaised(
        orchestration=LAUNCHED, phase="1", issues=(Issue(text="Name the tables first.", source="gate", severity="p2", detector="names"),), task=2
    ),
    e.VerifyRecorded(orchestration=LAUNCHED, phase="1", status="failed", exit_code=2),
    e.VerdictRecorded(orchestration=LAUNCHED, phase="1", reviewer="secondary", verdict=Verdict.GAPS, task=2, findings=FINDINGS, model="haiku"),
    e.TaskMoved(
        orchestration=LAUNCHED,
        phase="1",
        task=2,
        status=e.TaskStatus.BLOCKED,
        revision=3,
        git_range=(BASE, HEAD),
        rejected=True,
        reason_code="execution_review_exhausted",
        message="rejected three times",
        plan_revision=4,
    ),
    e.PolicyChanged(orchestration=LAUNCHED, revision=2, policy=Policy(), changed=("model.executor",)),
    e.TaskEdited(
        orchestration=LAUNCHED, phase="1", task=2, revision=2, plan_revision=3, subject="Keep it", description="In the session.", model="haiku"
    ),
    e.TaskInserted(
        orchestration=LAUNCHED,
        phase="1",
        plan_revision=4,
        task=5,
        after=1,
        subject="Lock the table",
        description="First.",
        depends_on=(1,),
        model="opus",
        blocks=(2,),
        by="ana",
    ),
    e.NodeAssigned(orchestration=LAUNCHED, node="mac-mini-2", previous="mac-mini-1", reason="node mac-mini-1 is lost"),
    e.RunQueued(
        orchestration=LAUNCHED,
        run=RUN,
        attempt=2,
        nonce=NONCE,
        kind=RunKind.TASK_REVIEW,
        node=NODE,
        role="reviewer",
        model="haiku",
        policy_revision=3,
        phase="1",
        task=2,
        base=(BASE, HEAD),
        reviewer="secondary",
        previous_error="exit code 3",
    ),
    e.RunDispatched(orchestration=LAUNCHED, run=RUN, attempt=2),
    e.RunStarted(orchestration=LAUNCHED, run=RUN, attempt=2, node=NODE, queue_ms=12.5),
    e.RunWithdrawn(orchestration=LAUNCHED, run=RUN, attempt=2),
    e.RunEnded(
        orchestration=LAUNCHED,
        run=RUN,
        attempt=2,
        node=NODE,
        outcome=Outcome.TIMED_OUT,
        counts=False,
        reason_code="dispatch_timeout",
        detail="over 1800 s",
        exit_code=143,
        signal=15,
        duration_ms=1_800_250.5,
        tail="still going\n",
        result=RESULTS[3],
        head=HEAD,
        agent="claude",
        model="claude-haiku-4-5",
        session="s-1",
        usage=USAGE,
    ),
    e.ReportStale(orchestration=LAUNCHED, run=RUN, attempt=1, kind="ended", message="attempt 2 is the newest"),
    e.HoldSet(orchestration=LAUNCHED, hold=e.HoldKind.PAUSING, reason="asked by ana", reason_code="dispatch_cancelled", stop=True, until=AT),
    e.HoldCleared(orchestration=LAUNCHED, hold=e.HoldKind.PAUSED),
    e.GateOpened(orchestration=LAUNCHED, gate=e.GateKind.PLAN, phase="1", subject="2 tasks"),
    e.GateResolved(
        orchestration=LAUNCHED, gate=e.GateKind.CONSENSUS_DISAGREEMENT, phase="1", approved=False, by="ana", text="Name the tables first."
    ),
    e.ActionOpened(orchestration=LAUNCHED, action="shop-a44", kind="pause"),
    e.ActionCompleted(action="shop-a44"),
    e.ActionFailed(action="shop-a45", reason_code="validation_invalid_state", message="shop-o12 is already complete"),
)
