"""The demo: a stack on a throw-away folder, a small repository, a design, one orchestration from launch to branch.

Everything it shows is asked of the services as `qd` asks them. Owns the throw-away folder and the repository in it.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import anyio

from bus.request import CommandClient, new_key
from bus_schemas.commands import Command, DesignAdd, GateApprove, Launch, ProjectAdd, Via, type_of
from bus_schemas.decisions import ActionStatus, Receipt
from bus_schemas.entities import Complexity
from bus_schemas.policy import Role
from cli import following, receipts
from cli.exits import UNEXPECTED, WAITED_TOO_LONG
from cli.failure import Failure
from cli.output import Output
from cli.render import history
from cli.session import Session

PROJECT = "harbour"
FEATURE = "Tally the words"
CHECK = 'for script in *.sh; do sh -n "$script"; done'
GIT_TIMEOUT_S = 20.0
RUN_S_MAX = 120.0
GIT = ("git", "-c", "user.name=Demo", "-c", "user.email=demo@localhost", "-c", "init.defaultBranch=main", "-c", "core.hooksPath=/dev/null")


class Done(NamedTuple):
    """What the demo came to."""

    orchestration: str
    status: str
    branch: str
    repo: str
    took_s: float


class Story:
    """What the demo tells: numbered chapters. A program that asked for JSON hears none of it."""

    def __init__(self, out: Output) -> None:
        """Tell it on stdout."""
        self._out, self._chapter = out, 0
        self.is_told = not out.options.is_json and out.options.output != "name"

    def chapter(self, title: str) -> None:
        """Begin a chapter."""
        self._chapter += 1
        self.lines([("", ""), (f"{self._chapter}  {title}", "bold cyan")])

    def say(self, text: str, style: str = "") -> None:
        """Say a line."""
        self.lines([(f"   {text}", style)])

    def lines(self, lines: Sequence[tuple[str, str]]) -> None:
        """Print lines as they are."""
        if self.is_told:
            self._out.lines(lines)


def make_repository(folder: Path) -> Path:
    """Make a git repository with one commit in `folder` and return its path. Raises Failure."""
    repo = folder / PROJECT
    repo.mkdir(parents=True)
    (repo / "README.md").write_text("# Harbour\n\nCounts the words of a text.\n")
    git(repo, "init", "-q")
    git(repo, "add", "README.md")
    git(repo, "commit", "-q", "-m", "Begin")
    return repo


def git(repo: Path, *arguments: str) -> str:
    """Return what git printed. Raises Failure with what it complained of."""
    try:
        done = subprocess.run([*GIT, "-C", str(repo), *arguments], capture_output=True, text=True, timeout=GIT_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failure(UNEXPECTED, f"git cannot be run: {error}", hint="The demo needs git on PATH.") from error
    if done.returncode != 0:
        raise Failure(UNEXPECTED, f"git {arguments[0]} failed: {done.stderr.strip()[:500]}", hint="")
    return done.stdout


class Demo:
    """One run of the demo, in a stack that is up."""

    def __init__(self, session: Session, story: Story, repo: Path) -> None:
        """Show `session`'s stack at work on `repo`."""
        self._session, self._story, self._repo = session, story, repo

    async def play(self) -> Done:
        """Catalogue, launch, follow, report; return what it came to. Raises Failure."""
        began = time.monotonic()
        async with CommandClient(await self._session.bus(), Via.CLI) as client:
            design = await self._catalogue(client)
            orchestration = await self._launch(client, design)
            view = await self._follow(client, orchestration)
        took_s = time.monotonic() - began
        await self._history(orchestration)
        await self._result(view)
        return Done(orchestration, view["status"], view["branch"], str(self._repo), took_s)

    async def _send(self, client: CommandClient, command: Command, said: str) -> Receipt:
        began = time.monotonic()
        receipt = await client.submit(command, new_key())
        if receipt.status is ActionStatus.REFUSED:
            raise Failure(receipt.reason_code or UNEXPECTED, f"{type_of(command)} was refused: {receipt.message}", action=receipt.action)
        took_ms = (time.monotonic() - began) * 1000
        made = receipts.name_of(receipt)
        parts = [str(receipt.status), receipt.action, made if made != receipt.action else "", f"on {receipt.node}" if receipt.node else ""]
        self._story.say(f"$ {said}", "bold")
        self._story.say(f"{'  '.join(part for part in parts if part)}  ({took_ms:.0f} ms)")
        return receipt

    async def _catalogue(self, client: CommandClient) -> str:
        self._story.chapter("A repository becomes a project, and gets a design of two phases with five tasks")
        body = resources.files("cli").joinpath("demo_design.md").read_text(encoding="utf-8")
        project = ProjectAdd(project=PROJECT, repo=str(self._repo), check=CHECK)
        await self._send(client, project, f"qd project add {PROJECT} --repo {self._repo}")
        markers = ("objective_defined", "scope_bounded")
        design = DesignAdd(project=PROJECT, title=FEATURE, body=body, complexity=Complexity.SIMPLE, markers=markers)
        receipt = await self._send(client, design, f"qd design add {PROJECT} --title '{FEATURE}' --file design.md")
        assert receipt.design is not None
        return receipt.design

    async def _launch(self, client: CommandClient, design: str) -> str:
        self._story.chapter("Launch it: the shell agent in every role, on whichever node is free, a human gate at the end")
        models = {role.value: "shell" for role in Role}
        command = Launch(design=design, node="auto", labels={"demo": "yes"}, overrides={"model": models, "flow": {"human_gates": ["finalize"]}})
        receipt = await self._send(client, command, f"qd launch {design} --node auto --model shell --set human_gates='[\"finalize\"]'")
        assert receipt.orchestration is not None
        return receipt.orchestration

    async def _follow(self, client: CommandClient, orchestration: str) -> dict[str, Any]:
        self._story.chapter(f"It runs (qd watch {orchestration})")
        view: dict[str, Any] = {}
        with anyio.move_on_after(RUN_S_MAX) as limit:
            async for step in following.follow(self._session, orchestration):
                view = step.view
                self._story.lines([(f"   {text}", style) for text, style in following.told(self._session, step)])
                if view["hold"] is not None and view["hold"]["kind"] == "gate":
                    await self._send(client, GateApprove(orchestration=orchestration, note="looks right"), f"qd gate approve {orchestration}")
        if limit.cancelled_caught:
            raise Failure(WAITED_TOO_LONG, f"{orchestration} has not ended after {RUN_S_MAX:g} s")
        return view

    async def _history(self, orchestration: str) -> None:
        if not self._story.is_told:
            return
        out = self._session.out
        self._story.chapter(f"The operator timeline, from DuckDB (qd timeline {orchestration})")
        answer = await self._session.ask("timeline", orchestration=orchestration, limit=500)
        rows = [row for row in answer["items"] if history.is_told(row) and row["type"] != "task-moved"]
        out.table(history.rows(rows, out.zone), empty="")
        self._story.say(f"and {len(answer['items']) - len(rows)} more rows about tasks, runs and queues", "dim")
        self._story.chapter("The launch report, from DuckDB (qd report launches)")
        out.table(history.table(await self._session.ask("report", name="launches")), empty="")

    async def _result(self, view: dict[str, Any]) -> None:
        if view["status"] != "complete" or not self._story.is_told:
            return
        self._story.chapter(f"What is in the repository now: branch {view['branch']}")
        log = git(self._repo, "log", "--graph", "--format=%h %s", view["branch"])
        self._story.lines([(f"   {line}", "") for line in log.splitlines()])
        stat = git(self._repo, "diff", "--stat", f"main...{view['branch']}")
        self._story.lines([("", ""), *((f"   {line}", "dim") for line in stat.splitlines())])
