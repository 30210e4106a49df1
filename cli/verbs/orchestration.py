"""`qd ls`, `show` and `watch`: orchestrations, as they stand and as they go on."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from bus_schemas import ids
from cli.arguments import any_id, safe
from cli.context import Ctx, OrchestrationArgument, ProjectFilter
from cli.exits import NOT_COMPLETE, Exit
from cli.failure import Failure
from cli.render import orchestrations
from cli.text import instant

NONE_YET = "No orchestration yet: qd launch DESIGN --node auto"


async def ls(
    *,
    project: ProjectFilter = None,
    status: Annotated[str | None, Parameter(help="Only in this status, like executing or complete.")] = None,
    limit: Annotated[int | None, Parameter(help="At most so many.")] = None,
    after: Annotated[str | None, Parameter(help="Go on after this id (`next` of the page before).")] = None,
    ctx: Ctx,
) -> None:
    """List the orchestrations, newest first, finished ones too."""
    slug = None if project is None else safe(ids.project_id, project)
    last = None if after is None else safe(ids.orchestration_id, after)
    answer = await ctx.ask("orchestrations", project=slug, status=_known(status), limit=limit, after=last)
    if not ctx.out.many("orchestration", answer, "id"):
        ctx.out.table(orchestrations.table(answer["items"], ctx.out.now), empty="No orchestration." if project or status or after else NONE_YET)
        ctx.more(answer)


def _known(status: str | None) -> str | None:
    """Return a status that there is. Raises Failure (usage): an empty list must not hide a wrong word."""
    if status is not None:
        from bus_schemas.events import OrchestrationStatus
        from cli.failure import usage

        if status not in set(OrchestrationStatus):
            raise usage(f"--status {status[:40]!a} is not one; there are {', '.join(OrchestrationStatus)}")
    return status


async def show(
    name: OrchestrationArgument,
    /,
    *,
    runs: Annotated[bool, Parameter(help="Show its runs instead of its plan.")] = False,
    at: Annotated[str | None, Parameter(help="As it stood after this position of the ledger, like 418.3 (`qd timeline ID` shows them).")] = None,
    ctx: Ctx,
) -> None:
    """Show an orchestration: its plan, its holds, what can be done next.

    Takes ids of designs, tickets and actions too.
    """
    wanted = any_id(name)
    kind = wanted.rpartition("-")[2][0]
    if at is not None:
        await _show_past(safe(ids.orchestration_id, wanted), position("--at", at), ctx)
    elif kind in "dta":
        await _show_other(kind, wanted, ctx)
    elif runs:
        orchestration = safe(ids.orchestration_id, wanted)
        answer = await ctx.ask_all("runs", orchestration=orchestration)
        if not ctx.out.many("run", answer, "run"):
            ctx.out.table(orchestrations.runs(answer["items"], ctx.out.now), empty="No run yet.")
    else:
        found = await ctx.find("orchestration", safe(ids.orchestration_id, wanted))
        if not ctx.out.one("orchestration", found, found["id"]):
            ctx.out.lines(orchestrations.lines(found, ctx.out.now, ctx.out.zone))


async def _show_past(orchestration: str, at: str | None, ctx: Ctx) -> None:
    found = await ctx.ask("past", id=orchestration, at=at)
    if not ctx.out.one("orchestration", found, found["id"]):
        ctx.out.note(f"as it stood at {at}; qd show {orchestration} shows it now")
        ctx.out.lines(orchestrations.lines(found, instant(found.get("as_of")) or ctx.out.now, ctx.out.zone))


async def why(name: OrchestrationArgument, /, *, ctx: Ctx) -> None:
    """Say why an orchestration does not move: each thing that waits, what holds it, and what frees it."""
    from cli.render import plan

    found = await ctx.find("why", safe(ids.orchestration_id, name))
    if not ctx.out.one("why", found, found["orchestration"]):
        ctx.out.lines(plan.why(found, ctx.out.now))


async def _show_other(kind: str, name: str, ctx: Ctx) -> None:
    from cli.verbs import action, design, ticket

    match kind:
        case "d":
            await design.show(name, ctx=ctx)
        case "t":
            await ticket.show(name, ctx=ctx)
        case _:
            await action.show(name, ctx=ctx)


async def watch(
    name: OrchestrationArgument,
    /,
    *,
    exit_status: Annotated[bool, Parameter(help="Exit 7 when it ends other than complete.")] = False,
    since: Annotated[str | None, Parameter(help="Go on after this position. Default: from the beginning.")] = None,
    ctx: Ctx,
) -> int:
    """Follow an orchestration until it ends, one line for each change.

    --verbose shows every row of its timeline; --timeout limits the wait (exit 8).
    """
    from cli import following

    orchestration = safe(ids.orchestration_id, name)
    view = None
    async for step in following.follow(ctx, orchestration, after=position("--since", since), timeout_s=ctx.options.timeout_s):
        following.tell(ctx, step)
        view = step.view
    ctx.out.progress("")
    assert view is not None
    if ctx.options.is_json:
        ctx.out.json({"schema": "qd.orchestration/1", **view})
    elif ctx.options.output == "name":
        ctx.out.line(view["id"])
    else:
        ctx.out.lines([(f"{view['id']}  {orchestrations.progress(view, ctx.out.now)}", "bold")])
    if exit_status and view["status"] != "complete":
        raise not_complete(view)
    return Exit.DONE


def not_complete(view: dict[str, object]) -> Failure:
    """Return the failure of an orchestration that ended other than complete; its own code where it has one."""
    code = str(view["reason_code"] or NOT_COMPLETE)
    text = f"{view['id']} ended {view['status']}" + (f": {view['message']}" if view["message"] else "")
    return Failure(code, text, action=str(view["action"]), exit_code=Exit.NOT_COMPLETE)


def position(option: str, text: str | None) -> str | None:
    """Return `text` if it is a place in the ledger. Raises Failure (usage)."""
    from bus_schemas.decisions import Position
    from cli.failure import usage

    if text is None:
        return None
    try:
        return str(Position.parse(text))
    except ValueError as error:
        raise usage(f"{option}: {error}") from error
