"""`qd design`: what is to be built, as Markdown with phases."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import App, Parameter

from bus_schemas import ids
from bus_schemas.commands import CommentAdd, DesignAdd, DesignEdit, DesignMark, DesignMove
from bus_schemas.entities import Complexity, DesignStatus
from cli.arguments import document, safe
from cli.context import Ctx, DesignArgument, ProjectArgument, ProjectFilter
from cli.render import catalogue
from cli.writing import Write, write

app = App(name="design", help="What is to be built: Markdown with the phases of the work.")

Level = Literal["simple", "standard", "complex"]
Status = Literal["draft", "in_review", "approved", "archived"]


@app.command
async def add(
    project: ProjectArgument,
    /,
    *,
    title: Annotated[str, Parameter(allow_leading_hyphen=True, help="Its title, which is also the name of the feature.")],
    file: Annotated[str, Parameter(name=["--file", "-f"], allow_leading_hyphen=True, help="The Markdown; - reads stdin. At most 200 KiB of UTF-8.")],
    complexity: Annotated[Level, Parameter(help="How much must be written down before it is ready.")] = "standard",
    mark: Annotated[list[str] | None, Parameter(help="A marker that is fulfilled already; may be repeated.")] = None,
    write_: Write | None = None,
    ctx: Ctx,
) -> int:
    """Add a design to a project."""
    slug = safe(ids.project_id, project)
    body = document("--file", file)
    command = DesignAdd(project=slug, title=title, body=body, complexity=Complexity(complexity), markers=tuple(mark or ()))
    return await write(ctx, command, write_)


@app.command
async def edit(
    design: DesignArgument,
    /,
    *,
    title: Annotated[str | None, Parameter(allow_leading_hyphen=True, help="Another title.")] = None,
    file: Annotated[str | None, Parameter(name=["--file", "-f"], allow_leading_hyphen=True, help="Another body; - reads stdin.")] = None,
    complexity: Annotated[Level | None, Parameter(help="Another complexity.")] = None,
    write_: Write | None = None,
    ctx: Ctx,
) -> int:
    """Change a design; what was launched already stays as it was."""
    name = safe(ids.design_id, design)
    body = None if file is None else document("--file", file)
    command = DesignEdit(design=name, title=title, body=body, complexity=None if complexity is None else Complexity(complexity))
    return await write(ctx, command, write_)


@app.command
async def mark(
    design: DesignArgument,
    marker: str,
    /,
    *,
    clear: Annotated[bool, Parameter(help="Take the marker back.")] = False,
    write_: Write | None = None,
    ctx: Ctx,
) -> int:
    """Set a marker of a design: something that must be written down is."""
    command = DesignMark(design=safe(ids.design_id, design), marker=marker, completed=not clear)
    return await write(ctx, command, write_)


@app.command
async def move(design: DesignArgument, status: Status, /, *, write_: Write | None = None, ctx: Ctx) -> int:
    """Move a design to another status."""
    return await write(ctx, DesignMove(design=safe(ids.design_id, design), status=DesignStatus(status)), write_)


@app.command
async def comment(
    design: DesignArgument, text: Annotated[str, Parameter(allow_leading_hyphen=True)], /, *, write_: Write | None = None, ctx: Ctx
) -> int:
    """Add a comment to a design."""
    return await write(ctx, CommentAdd(target=safe(ids.design_id, design), body=text), write_)


@app.command
async def ls(
    *,
    project: ProjectFilter = None,
    limit: Annotated[int | None, Parameter(help="At most so many.")] = None,
    after: Annotated[str | None, Parameter(help="Go on after this id (`next` of the page before).")] = None,
    ctx: Ctx,
) -> None:
    """List the designs."""
    slug = None if project is None else safe(ids.project_id, project)
    answer = await ctx.ask("designs", project=slug, limit=limit, after=after)
    if not ctx.out.many("design", answer, "id"):
        ctx.out.table(catalogue.designs(answer["items"], ctx.out.now), empty="No design yet: qd design add PROJECT --title T --file F")
        ctx.more(answer)


@app.command
async def show(design: DesignArgument, /, *, ctx: Ctx) -> None:
    """Show a design: what it lacks, its text and its comments."""
    found = await ctx.find("design", safe(ids.design_id, design))
    if not ctx.out.one("design", found, found["id"]):
        for line in catalogue.design(found, ctx.out.zone):
            ctx.out.line(line)
