"""`qd project`: repositories that are worked on."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from bus_schemas import ids
from bus_schemas.commands import ProjectAdd, ProjectEdit
from cli.arguments import safe
from cli.context import Ctx, ProjectArgument
from cli.render import catalogue
from cli.writing import Write, write

app = App(name="project", help="Repositories that are worked on.")

Check = Annotated[str | None, Parameter(allow_leading_hyphen=True, help="The shell command that `verify` runs; none: verify is skipped.")]


@app.command
async def add(
    slug: str,
    /,
    *,
    repo: Annotated[str, Parameter(help="A path, or a git URL that the nodes can reach.")],
    check: Check = None,
    name: Annotated[str | None, Parameter(help="A name for humans. Default: the slug.")] = None,
    default_branch: Annotated[str, Parameter(help="The branch that work starts from.")] = "main",
    write_: Write | None = None,
    ctx: Ctx,
) -> int:
    """Register a repository as a project."""
    project = safe(ids.project_id, slug)
    command = ProjectAdd(project=project, repo=_place(repo), name=name, default_branch=default_branch, check=check)
    return await write(ctx, command, write_, about=project)


@app.command
async def edit(
    project: ProjectArgument,
    /,
    *,
    repo: Annotated[str | None, Parameter(help="Another path or URL.")] = None,
    check: Check = None,
    name: Annotated[str | None, Parameter(help="Another name for humans.")] = None,
    default_branch: Annotated[str | None, Parameter(help="Another branch that work starts from.")] = None,
    write_: Write | None = None,
    ctx: Ctx,
) -> int:
    """Change a project; only what is named changes. An empty --check removes it."""
    slug = safe(ids.project_id, project)
    place = None if repo is None else _place(repo)
    command = ProjectEdit(project=slug, repo=place, name=name, default_branch=default_branch, check=check)
    return await write(ctx, command, write_, about=slug)


@app.command
async def ls(*, ctx: Ctx) -> None:
    """List the projects."""
    answer = await ctx.ask("projects")
    if not ctx.out.many("project", answer, "id"):
        ctx.out.table(catalogue.projects(answer["items"], ctx.out.now), empty="No project yet: qd project add SLUG --repo PATH")


@app.command
async def show(project: ProjectArgument, /, *, ctx: Ctx) -> None:
    """Show a project."""
    found = await ctx.find("project", safe(ids.project_id, project))
    if not ctx.out.one("project", found, found["id"]):
        for line in catalogue.project(found, ctx.out.zone):
            ctx.out.line(line)


def _place(repo: str) -> str:
    """Return the repository as nodes of this machine find it: a path that exists here is made absolute."""
    import os

    return os.path.abspath(repo) if repo and "\0" not in repo and os.path.isdir(repo) else repo
