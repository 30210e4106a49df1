"""A sample of every command, as `ana` sends them."""

from __future__ import annotations

from datetime import UTC, datetime

from bus_schemas import commands as c
from bus_schemas.codec import VERSION, command_body
from bus_schemas.entities import Complexity, DesignStatus, Priority, TicketStatus

AT = datetime(2026, 11, 23, 9, 30, 15, 250_000, tzinfo=UTC)

COMMANDS: tuple[c.Command, ...] = (
    c.ProjectAdd(project="shop", repo="/srv/git/shop", name="The shop", default_branch="trunk", check="make test"),
    c.ProjectEdit(project="shop", repo="https://git.example/shop.git", name="Shop", default_branch="main", check=""),
    c.DesignAdd(
        project="shop",
        title="Basket – zum Körbchen",
        body="# Basket\n\n## Phase 1: Lines\n\n### Task 1: Make it\n\n```sh\necho '\"one\"' > basket\n```\n",
        complexity=Complexity.SIMPLE,
        markers=("objective_defined", "scope_bounded"),
    ),
    c.DesignEdit(design="shop-d3", title="Basket", body="## Phase 1\n", complexity=Complexity.COMPLEX),
    c.DesignMark(design="shop-d3", marker="testing_strategy", completed=False),
    c.DesignMove(design="shop-d3", status=DesignStatus.IN_REVIEW),
    c.TicketAdd(project="shop", title="Basket loses lines", body="After a reload.", design="shop-d3", priority=Priority.HIGH),
    c.TicketEdit(ticket="shop-t17", title="Basket loses a line", body="Once.", design="shop-d4", priority=Priority.LOW),
    c.TicketMove(ticket="shop-t17", status=TicketStatus.DONE),
    c.CommentAdd(target="shop-t17", body="Seen again on Monday."),
    c.Launch(
        design="shop-d3",
        node="auto",
        feature="Basket",
        labels={"os": "linux"},
        tickets=("shop-t17", "shop-t18"),
        branch="qd/basket",
        preset="strict",
        overrides={"flow": {"max_parallel_tasks": 3, "human_gates": ["finalize"]}},
        policy=None,
    ),
    c.Pause(orchestration="shop-o12", mode=c.PauseMode.STOP),
    c.Resume(orchestration="shop-o12"),
    c.Cancel(orchestration="shop-o12", abandon=True),
    c.Retry(orchestration="shop-o12", phase="1.5", task=2),
    c.GateApprove(orchestration="shop-o12", note="Looks right."),
    c.GateReject(orchestration="shop-o12", feedback="Name the tables first."),
    c.NodeCordon(node="mac-mini-1"),
    c.PolicySet(orchestration="shop-o12", patch={"flow": {"budget_usd": 20.0}, "model": {"executor": "haiku"}}, target_revision=3),
    c.RoleModelSet(orchestration="shop-o12", role="reviewer", model="sonnet", target_revision=4),
    c.TaskEdit(orchestration="shop-o12", phase="1.5", task=2, target_revision=1, subject="Keep the basket", description="In the session."),
    c.TaskModelSet(orchestration="shop-o12", phase="2", task=3, target_revision=2, model="sonnet"),
    c.TaskSkip(orchestration="shop-o12", phase="2", task=4, target_revision=1),
    c.TaskInsert(
        orchestration="shop-o12",
        phase="2",
        after=1,
        subject="Lock the table",
        depends_on=(1,),
        target_revision=5,
        description="Before the migration.",
        model="opus",
        blocks=(2, 3),
    ),
    c.NodeUncordon(node="mac-mini-1"),
    c.NodeDrain(node="mac-mini-1"),
    c.FlagSet(flag="cp.launch", on=False),
    c.FlagRollback(action="plane-a7"),
)

LAUNCH_BY_POLICY = c.Launch(design="shop-d3", node="mac-mini-1", policy={"model": {"planner": "opus"}})
"""The other way to launch; a whole policy and overrides exclude each other."""


def envelope(command: c.Command) -> c.CommandEnvelope:
    """Return a command as it travels, with what is compulsory and nothing else."""
    return c.CommandEnvelope(
        v=VERSION,
        type=c.type_of(command),
        id="0f3d5a6e7b8c4d1e9f00112233445566",
        at=AT,
        via=c.Via.CLI,
        key=f"{c.type_of(command)}-2026-11-23-01",
        body=command_body(command),
    )


FULL_ENVELOPE = c.CommandEnvelope(
    v=VERSION,
    type="pause",
    id="pause-1",
    at=AT,
    via=c.Via.CONSOLE,
    key="Pause – bis Montag 🛑",
    body=command_body(c.Pause(orchestration="shop-o12")),
    by="ana",
    trace="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    reason="The node is needed elsewhere.",
    valid_for_s=30.5,
    dry_run=True,
)
