"""`qd task`: the tasks of a plan, and how an operator changes those that have not started."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import App, Parameter

from bus_schemas import ids
from bus_schemas.commands import TaskEdit, TaskInsert, TaskModelSet, TaskSkip
from bus_schemas.reasons import Reason
from cli.arguments import prose, safe
from cli.context import Ctx, OrchestrationArgument
from cli.failure import Failure, usage
from cli.render import plan
from cli.writing import Write, write

app = App(name="task", help="The tasks of a plan: look at them, change, skip and insert those that have not started.")

DESCRIPTION_BYTES_MAX = 64 * 1024
PhaseArgument = Annotated[str, Parameter(name="PHASE")]
TaskArgument = Annotated[int, Parameter(name="TASK")]
Description = Annotated[
    str | None, Parameter(allow_leading_hyphen=True, help="The whole of what is to be done: a file, - for stdin, or text with a blank in it.")
]
TaskRevision = Annotated[int, Parameter(name="--if-revision", help="The task's revision as you saw it; another one is a conflict (exit 5).")]


@app.command
async def ls(
    name: OrchestrationArgument,
    /,
    *,
    phase: Annotated[str | None, Parameter(help="Only of this phase.")] = None,
    ctx: Ctx,
) -> None:
    """List the tasks in the order in which they are looked at."""
    o = await ctx.find("orchestration", safe(ids.orchestration_id, name))
    wanted = None if phase is None else safe(ids.phase_id, phase)
    items = [task for known in o["plan"] for task in known["tasks"] if wanted in (None, known["phase"])]
    if not ctx.out.many("task", {"position": o["position"], "items": items, "next": None}, "number"):
        ctx.out.table(plan.tasks(items), empty="No task yet: the plan is still to come.")
        revisions = ", ".join(f"phase {known['phase']}: {known['revision']}" for known in o["plan"] if known["tasks"])
        if revisions:
            ctx.out.note(f"plan revisions (for `qd task insert --if-revision`): {revisions}")


@app.command
async def show(name: OrchestrationArgument, phase: PhaseArgument, number: TaskArgument, /, *, ctx: Ctx) -> None:
    """Show a task with its description."""
    found = await _task(ctx, name, phase, number)
    if not ctx.out.one("task", found, f"{found['phase']}.{found['number']}"):
        for line in plan.task(found):
            ctx.out.line(line)


async def _task(ctx: Ctx, name: str, phase: str, number: int) -> dict[str, Any]:
    o = await ctx.find("orchestration", safe(ids.orchestration_id, name))
    wanted = safe(ids.phase_id, phase)
    for known in o["plan"]:
        for task in known["tasks"]:
            if (known["phase"], task["number"]) == (wanted, number):
                return {"orchestration": o["id"], **task}
    raise Failure(Reason.ENTITY_NOT_FOUND, f"{o['id']} has no task {number} in phase {wanted}", hint=f"`qd task ls {o['id']}` lists them.")


@app.command
async def edit(
    name: OrchestrationArgument,
    phase: PhaseArgument,
    number: TaskArgument,
    /,
    *,
    if_revision: TaskRevision,
    subject: Annotated[str | None, Parameter(allow_leading_hyphen=True, help="Another subject.")] = None,
    description: Annotated[
        str | None, Parameter(allow_leading_hyphen=True, help="Another description: a file, - for stdin, or text with a blank in it.")
    ] = None,
    write_: Write | None = None,
    ctx: Ctx,
) -> int:
    """Change the text of a pending task. --dry-run shows what would change."""
    command = TaskEdit(
        orchestration=safe(ids.orchestration_id, name),
        phase=safe(ids.phase_id, phase),
        task=number,
        target_revision=if_revision,
        subject=subject,
        description=None if description is None else prose("--description", description, limit_bytes=DESCRIPTION_BYTES_MAX),
    )
    return await write(ctx, command, write_)


@app.command
async def model(
    name: OrchestrationArgument,
    phase: PhaseArgument,
    number: TaskArgument,
    model_: Annotated[str, Parameter(name="MODEL")],
    /,
    *,
    if_revision: TaskRevision,
    write_: Write | None = None,
    ctx: Ctx,
) -> int:
    """Give a pending task a model of its own; `policy` gives it the one of the policy again."""
    command = TaskModelSet(
        orchestration=safe(ids.orchestration_id, name),
        phase=safe(ids.phase_id, phase),
        task=number,
        target_revision=if_revision,
        model=None if model_ == "policy" else model_,
    )
    return await write(ctx, command, write_)


@app.command
async def skip(
    name: OrchestrationArgument,
    phase: PhaseArgument,
    number: TaskArgument,
    /,
    *,
    if_revision: TaskRevision,
    write_: Write | None = None,
    ctx: Ctx,
) -> int:
    """Leave a pending task out; what depends on it goes on without it."""
    command = TaskSkip(orchestration=safe(ids.orchestration_id, name), phase=safe(ids.phase_id, phase), task=number, target_revision=if_revision)
    return await write(ctx, command, write_)


@app.command
async def insert(
    name: OrchestrationArgument,
    phase: PhaseArgument,
    /,
    *,
    after: Annotated[int, Parameter(help="The task behind which it takes its place; 0 makes it the first.")],
    subject: Annotated[str, Parameter(allow_leading_hyphen=True, help="What is to be done, in a line.")],
    depends_on: Annotated[str, Parameter(help="Numbers of tasks that must be done before, like 1,2; or none.")],
    if_revision: Annotated[int, Parameter(name="--if-revision", help="The plan's revision as you saw it (`qd task ls`); another one is a conflict.")],
    description: Annotated[
        str | None, Parameter(allow_leading_hyphen=True, help="The whole task: a file, - for stdin, or text with a blank in it.")
    ] = None,
    model: Annotated[str | None, Parameter(help="A model of its own. Default: the one of the policy.")] = None,
    blocks: Annotated[
        str | None, Parameter(help="Numbers of pending tasks that shall wait for it, or none. Default: those behind it that depend on --after.")
    ] = None,
    write_: Write | None = None,
    ctx: Ctx,
) -> int:
    """Insert a task into the plan of a phase. --dry-run shows the queue before and after."""
    command = TaskInsert(
        orchestration=safe(ids.orchestration_id, name),
        phase=safe(ids.phase_id, phase),
        after=after,
        subject=subject,
        depends_on=numbers("--depends-on", depends_on),
        target_revision=if_revision,
        description="" if description is None else prose("--description", description, limit_bytes=DESCRIPTION_BYTES_MAX),
        model=model,
        blocks=None if blocks is None else numbers("--blocks", blocks),
    )
    return await write(ctx, command, write_)


def numbers(option: str, given: str) -> tuple[int, ...]:
    """Return the task numbers in `1,2`; none of them for `none`. Raises Failure (usage)."""
    if given == "none":
        return ()
    parts = [part.strip() for part in given.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise usage(f"{option} {given[:60]!a} is not valid: expected numbers like 1,2, or none")
    return tuple(int(part) for part in parts)
