"""`qd gate`: where an orchestration waits for a human."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from bus_schemas import ids
from bus_schemas.commands import GateApprove, GateReject
from cli.arguments import safe
from cli.context import Ctx, GateArgument, ProjectFilter
from cli.render import fleet
from cli.writing import Write, write

app = App(name="gate", help="Where orchestrations wait for a human to judge.")


@app.command
async def ls(*, project: ProjectFilter = None, ctx: Ctx) -> None:
    """List the gates that wait, oldest first."""
    slug = None if project is None else safe(ids.project_id, project)
    answer = await ctx.ask("gates", project=slug)
    if not ctx.out.many("gate", answer, "orchestration"):
        ctx.out.table(fleet.gates(answer["items"], ctx.out.now), empty="No gate waits.")


@app.command
async def show(name: GateArgument, /, *, ctx: Ctx) -> None:
    """Show what is to be judged at the gate of an orchestration."""
    found = await ctx.find("gate", safe(ids.orchestration_id, name))
    if not ctx.out.one("gate", found, found["orchestration"]):
        for line in fleet.gate(found, ctx.out.now):
            ctx.out.line(line)


@app.command
async def approve(
    name: GateArgument,
    /,
    *,
    note: Annotated[str, Parameter(allow_leading_hyphen=True, help="A remark for the record.")] = "",
    write_: Write | None = None,
    ctx: Ctx,
) -> int:
    """Let an orchestration pass the gate it waits at."""
    return await write(ctx, GateApprove(orchestration=safe(ids.orchestration_id, name), note=note), write_)


@app.command
async def reject(
    name: GateArgument,
    /,
    *,
    feedback: Annotated[str, Parameter(allow_leading_hyphen=True, help="What must be done better; it reaches the next prompt.")],
    write_: Write | None = None,
    ctx: Ctx,
) -> int:
    """Send an orchestration back from the gate it waits at."""
    return await write(ctx, GateReject(orchestration=safe(ids.orchestration_id, name), feedback=feedback), write_)
