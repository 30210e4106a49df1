"""`qd action`: every request and what became of it, refused ones too."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import App, Parameter

from bus_schemas import ids
from cli.arguments import safe, since_time
from cli.context import Ctx, ProjectFilter
from cli.failure import usage
from cli.render import fleet

Status = Literal["refused", "accepted", "completed", "failed"]

app = App(name="action", help="Requests and what became of them, refused ones too.")


@app.command
async def ls(
    *,
    project: ProjectFilter = None,
    orchestration: Annotated[str | None, Parameter(help="Only about this orchestration.")] = None,
    status: Annotated[Status | None, Parameter(help="Only these.")] = None,
    since: Annotated[str | None, Parameter(help="Only newer ones: a duration like 24h, or a time.")] = None,
    limit: Annotated[int | None, Parameter(help="At most so many.")] = None,
    after: Annotated[str | None, Parameter(help="Go on after this id (`next` of the page before).")] = None,
    ctx: Ctx,
) -> None:
    """List the actions, newest first."""
    answer = await ctx.ask(
        "actions",
        project=None if project is None else safe(ids.project_id, project),
        orchestration=None if orchestration is None else safe(ids.orchestration_id, orchestration),
        status=status,
        since=since_time("--since", since),
        limit=limit,
        after=None if after is None else safe(ids.action_id, after),
    )
    if not ctx.out.many("action", answer, "action"):
        ctx.out.table(fleet.actions(answer["items"], ctx.out.now), empty="No such action.")
        ctx.more(answer)


@app.command
async def show(
    action: str | None = None,
    /,
    *,
    project: Annotated[str | None, Parameter(help="With --key: the project the key belongs to.")] = None,
    key: Annotated[str | None, Parameter(help="Find it by its idempotency key instead of its id.")] = None,
    ctx: Ctx,
) -> None:
    """Show an action, by its id or by its idempotency key."""
    if action is not None and key is None:
        found = await ctx.find("action", safe(ids.action_id, action))
    elif action is None and key is not None and project is not None:
        found = await ctx.ask("action", project=safe(ids.project_id, project), key=ids.idempotency_key(key))
    else:
        raise usage("name an ACTION, or --project and --key")
    if not ctx.out.one("action", found, found["action"]):
        for line in fleet.action(found, ctx.out.zone):
            ctx.out.line(line)


@app.command
async def wait(action: str, /, *, ctx: Ctx) -> int:
    """Wait until an accepted action is completed. Exit 7 if it fails, 8 when --timeout (30s) is over."""
    from cli import submission

    receipt = submission.receipt_from(await ctx.find("action", safe(ids.action_id, action)))
    if receipt.status == "refused":
        await submission.refused(ctx, receipt)
    return submission.show(ctx, await submission.wait_done(ctx, receipt, None), None)
