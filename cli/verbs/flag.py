"""`qd flag`: feature flags."""

from __future__ import annotations

from typing import Literal

from cyclopts import App

from bus_schemas import ids
from bus_schemas.commands import FlagRollback, FlagSet
from cli.arguments import safe
from cli.context import Ctx, FlagArgument
from cli.render import fleet
from cli.writing import Write, write

app = App(name="flag", help="Feature flags: which kinds of command are taken.")


@app.command
async def ls(*, ctx: Ctx) -> None:
    """List the flags."""
    answer = await ctx.ask("flags")
    if not ctx.out.many("flag", answer, "flag"):
        ctx.out.table(fleet.flags(answer["items"]), empty="No flag.")


@app.command(name="set")
async def set_(name: FlagArgument, value: Literal["on", "off"], /, *, write_: Write | None = None, ctx: Ctx) -> int:
    """Turn a flag on or off."""
    return await write(ctx, FlagSet(flag=name, on=value == "on"), write_, about=name)


@app.command
async def rollback(action: str, /, *, write_: Write | None = None, ctx: Ctx) -> int:
    """Put a flag back to what it was before an action changed it; the last change of that flag only."""
    return await write(ctx, FlagRollback(action=safe(ids.action_id, action)), write_, about=action)
