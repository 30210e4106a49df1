"""`qd ticket`: pieces of wanted work, whose text reaches the agents of a launch that names them."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import App, Parameter

from bus_schemas import ids
from bus_schemas.commands import CommentAdd, TicketAdd, TicketEdit, TicketMove
from bus_schemas.entities import Priority, TicketStatus
from cli.arguments import document, safe
from cli.context import Ctx, ProjectArgument, ProjectFilter, TicketArgument
from cli.render import catalogue
from cli.writing import Write, write

app = App(name="ticket", help="Pieces of wanted work, which a launch can take up.")

Urgency = Literal["low", "medium", "high", "urgent"]
Status = Literal["todo", "in_progress", "in_review", "blocked", "done", "canceled"]
Design = Annotated[str | None, Parameter(help="The design it belongs to.")]
Body = Annotated[str | None, Parameter(name=["--file", "-f"], allow_leading_hyphen=True, help="Its text; - reads stdin. At most 16 KiB.")]
BODY_BYTES_MAX = 16 * 1024


@app.command
async def add(
    project: ProjectArgument,
    /,
    *,
    title: Annotated[str, Parameter(allow_leading_hyphen=True, help="Its title.")],
    design: Design = None,
    file: Body = None,
    priority: Annotated[Urgency, Parameter(help="How urgent it is.")] = "medium",
    write_: Write | None = None,
    ctx: Ctx,
) -> int:
    """Add a ticket to a project."""
    command = TicketAdd(
        project=safe(ids.project_id, project),
        title=title,
        body="" if file is None else document("--file", file, limit_bytes=BODY_BYTES_MAX),
        design=None if design is None else safe(ids.design_id, design),
        priority=Priority(priority),
    )
    return await write(ctx, command, write_)


@app.command
async def edit(
    ticket: TicketArgument,
    /,
    *,
    title: Annotated[str | None, Parameter(allow_leading_hyphen=True, help="Another title.")] = None,
    design: Design = None,
    file: Body = None,
    priority: Annotated[Urgency | None, Parameter(help="Another urgency.")] = None,
    write_: Write | None = None,
    ctx: Ctx,
) -> int:
    """Change a ticket; only what is named changes."""
    command = TicketEdit(
        ticket=safe(ids.ticket_id, ticket),
        title=title,
        body=None if file is None else document("--file", file, limit_bytes=BODY_BYTES_MAX),
        design=None if design is None else safe(ids.design_id, design),
        priority=None if priority is None else Priority(priority),
    )
    return await write(ctx, command, write_)


@app.command
async def move(ticket: TicketArgument, status: Status, /, *, write_: Write | None = None, ctx: Ctx) -> int:
    """Move a ticket to another status."""
    return await write(ctx, TicketMove(ticket=safe(ids.ticket_id, ticket), status=TicketStatus(status)), write_)


@app.command
async def comment(
    ticket: TicketArgument, text: Annotated[str, Parameter(allow_leading_hyphen=True)], /, *, write_: Write | None = None, ctx: Ctx
) -> int:
    """Add a comment to a ticket."""
    return await write(ctx, CommentAdd(target=safe(ids.ticket_id, ticket), body=text), write_)


@app.command
async def ls(
    *,
    project: ProjectFilter = None,
    design: Annotated[str | None, Parameter(help="Only of this design.")] = None,
    limit: Annotated[int | None, Parameter(help="At most so many.")] = None,
    after: Annotated[str | None, Parameter(help="Go on after this id (`next` of the page before).")] = None,
    ctx: Ctx,
) -> None:
    """List the tickets."""
    slug = None if project is None else safe(ids.project_id, project)
    of = None if design is None else safe(ids.design_id, design)
    answer = await ctx.ask("tickets", project=slug, design=of, limit=limit, after=after)
    if not ctx.out.many("ticket", answer, "id"):
        ctx.out.table(catalogue.tickets(answer["items"], ctx.out.now), empty="No ticket yet: qd ticket add PROJECT --title T")
        ctx.more(answer)


@app.command
async def show(ticket: TicketArgument, /, *, ctx: Ctx) -> None:
    """Show a ticket with its text and its comments."""
    found = await ctx.find("ticket", safe(ids.ticket_id, ticket))
    if not ctx.out.one("ticket", found, found["id"]):
        for line in catalogue.ticket(found, ctx.out.zone):
            ctx.out.line(line)
