"""`qd pause`, `resume`, `retry`, `cancel`: steering what runs."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from bus_schemas import ids
from bus_schemas.commands import Cancel, Pause, PauseMode, Resume, Retry
from cli.arguments import safe
from cli.context import Ctx, OrchestrationArgument
from cli.writing import Write, confirm, write


async def pause(
    name: OrchestrationArgument,
    /,
    *,
    mode: Annotated[Literal["drain", "stop"], Parameter(help="drain lets running runs end; stop stops them, and they do not count.")] = "drain",
    write_: Write | None = None,
    ctx: Ctx,
) -> int:
    """Pause an orchestration: nothing new starts.

    --wait=done waits until nothing runs any more.
    """
    return await write(ctx, Pause(orchestration=safe(ids.orchestration_id, name), mode=PauseMode(mode)), write_)


async def resume(name: OrchestrationArgument, /, *, write_: Write | None = None, ctx: Ctx) -> int:
    """Resume a paused orchestration exactly where it stood."""
    return await write(ctx, Resume(orchestration=safe(ids.orchestration_id, name)), write_)


async def retry(
    name: OrchestrationArgument,
    /,
    *,
    phase: Annotated[str | None, Parameter(help="The phase that is meant; refused if it is not the one that failed.")] = None,
    task: Annotated[int | None, Parameter(help="Only this blocked task; the others stay blocked.")] = None,
    write_: Write | None = None,
    ctx: Ctx,
) -> int:
    """Retry what failed of a blocked orchestration, or what a lost node held, with fresh attempts."""
    wanted = None if phase is None else safe(ids.phase_id, phase)
    return await write(ctx, Retry(orchestration=safe(ids.orchestration_id, name), phase=wanted, task=task), write_)


async def cancel(
    name: OrchestrationArgument,
    /,
    *,
    abandon: Annotated[bool, Parameter(help="Give up runs on a node that is lost instead of waiting for it.")] = False,
    write_: Write | None = None,
    ctx: Ctx,
) -> int:
    """Cancel an orchestration for good; its runs are stopped.

    Needs --yes, or a typed confirmation on a terminal.
    """
    orchestration = safe(ids.orchestration_id, name)
    if write_ is None or not write_.dry_run:
        confirm(ctx, f"Cancelling {orchestration} ends it for good", orchestration)
    return await write(ctx, Cancel(orchestration=orchestration, abandon=abandon), write_)
