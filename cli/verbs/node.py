"""`qd node`: the machines that run agents."""

from __future__ import annotations

from cyclopts import App

from bus_schemas import ids
from bus_schemas.commands import NodeCordon, NodeDrain, NodeUncordon
from cli.arguments import safe
from cli.context import Ctx, NodeArgument
from cli.render import fleet
from cli.writing import Write, write

app = App(name="node", help="The machines that run agents.")


@app.command
async def ls(*, ctx: Ctx) -> None:
    """List the nodes: who is there, what runs on them, which agents they offer."""
    answer = await ctx.ask("nodes")
    if not ctx.out.many("node", answer, "id"):
        ctx.out.table(fleet.nodes(answer["items"], ctx.out.now), empty="No node yet: qd serve node --name NAME, or qd up")


@app.command
async def show(node: NodeArgument, /, *, ctx: Ctx) -> None:
    """Show a node with its agents and the models they take."""
    found = await ctx.find("node", safe(ids.node_id, node))
    if not ctx.out.one("node", found, found["id"]):
        for line in fleet.node(found, ctx.out.now, ctx.out.zone):
            ctx.out.line(line)


@app.command
async def cordon(node: NodeArgument, /, *, write_: Write | None = None, ctx: Ctx) -> int:
    """Give a node no new work; what runs goes on."""
    return await write(ctx, NodeCordon(node=safe(ids.node_id, node)), write_)


@app.command
async def uncordon(node: NodeArgument, /, *, write_: Write | None = None, ctx: Ctx) -> int:
    """Give a node work again."""
    return await write(ctx, NodeUncordon(node=safe(ids.node_id, node)), write_)


@app.command
async def drain(node: NodeArgument, /, *, write_: Write | None = None, ctx: Ctx) -> int:
    """Give a node no new work, let its runs end, and take its orchestrations to other nodes.

    --dry-run shows what would go where.
    """
    name = safe(ids.node_id, node)
    if write_ is not None and write_.dry_run:
        from cli.render import plan

        answer = await ctx.ask("placement", node=name)
        if not ctx.options.is_json:
            ctx.out.table(plan.placement(answer["items"]), empty=f"No live orchestration is on {name}.")
        else:
            ctx.out.json({"schema": "qd.placement-list/1", **answer})
    return await write(ctx, NodeDrain(node=name), write_)
