"""`qd demo`: everything at work in half a minute, on a throw-away folder."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from cli import folders, registration
from cli.context import Ctx
from cli.exits import NOT_COMPLETE, Exit
from cli.failure import Failure
from cli.verbs.up import READY_S_MAX, client_of, register

if TYPE_CHECKING:
    from cli.demo import Done, Story
    from cli.stack import Plan, Running

NODES = ("deck-1", "deck-2")


def demo(
    *,
    keep: Annotated[bool, Parameter(help="Leave it running afterwards, until Ctrl-C, and keep its folder.")] = False,
    ctx: Ctx,
) -> int:
    """See everything work in half a minute, on a throw-away folder.

    Starts a bus, a controller, a timeline and two nodes, makes a repository and a design of two phases, launches it, and shows
    what came of it. Exit 0 only when the orchestration is complete.
    """
    from cli import foreground, stack
    from cli.demo import Story, make_repository

    folder = Path(tempfile.mkdtemp(prefix="qd-demo-"))
    story = Story(ctx.out)
    story.lines([("Quarterdeck demo", "bold"), (f"Everything is in {folder}{', which stays' if keep else ', which goes away at the end'}.", "")])
    try:
        repo = make_repository(folder)
        nodes = tuple(stack.NodePlan(name, {"demo": "yes"}, 2) for name in NODES)
        plan = stack.Plan(data=folder / "data", nodes=nodes, leave_running=False)
        results: list[Done] = []
        play = partial(_play, ctx, plan, story, repo, keep, results, time.monotonic())
        foreground.run(ctx.out, partial(stack.run_stack, plan, play), with_duckdb=True)
    finally:
        registration.remove(folders.state_dir(), os.getpid())
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    if not results:
        return Exit.INTERRUPTED
    done = results[0]
    if done.status != "complete":
        raise Failure(NOT_COMPLETE, f"{done.orchestration} ended {done.status}")
    return Exit.DONE


async def _play(ctx: Ctx, plan: Plan, story: Story, repo: Path, keep: bool, results: list[Done], began: float, running: Running) -> None:
    import anyio

    from cli import stack
    from cli.demo import Demo

    async with client_of(ctx.out, running) as session:
        story.chapter("Bus, controller, timeline and two nodes start in this process")
        missing = await stack.until_ready(session.ask, len(plan.nodes), timeout_s=READY_S_MAX)
        if missing:
            raise Failure("unexpected", f"after {READY_S_MAX:g} s these did not answer: {', '.join(missing)}")
        story.say(f"{running.endpoint.url}   nodes {', '.join(NODES)}   up in {time.monotonic() - began:.1f} s")
        done = await Demo(session, story, repo).play()
        results.append(done)
    took_s = time.monotonic() - began
    story.lines([("", ""), (f"{done.orchestration} {done.status}: {done.took_s:.1f} s from the first command, {took_s:.1f} s in all.", "bold green")])
    if not story.is_told:
        ctx.out.one("demo", {**done._asdict(), "took_s": round(took_s, 3)}, done.orchestration)
    if keep:
        _tell_how_to_talk(ctx, plan, running, story, done)
        await anyio.sleep_forever()


def _tell_how_to_talk(ctx: Ctx, plan: Plan, running: Running, story: Story, done: Done) -> None:
    before = registration.read(folders.state_dir())
    if before is not None and before.pid != os.getpid() and registration.is_alive(before):
        how = f"qd --server {running.endpoint.url} --token-file {running.token_file}"
    else:
        register(ctx, running, plan.data)
        how = "qd"
    examples = (
        "ls",
        f"show {done.orchestration}",
        f"timeline {done.orchestration}",
        'sql "SELECT type, count(*) FROM events GROUP BY ALL"',
        "doctor",
    )
    lines = [("", ""), ("It goes on until Ctrl-C. In another terminal:", "bold"), *((f"   {how} {example}", "") for example in examples)]
    story.lines([*lines, (f"   git -C {done.repo} log {done.branch}", "")])
