"""Changes: the commits of each task, with what they changed where the repository is on this machine.

Owns git child processes that only read: no hooks, no programs that a repository's configuration names, no network, with a limit on
time and on size. Where the repository is elsewhere, the commands to run there are shown instead.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from bus_schemas.reasons import Reason
from console.backend import Backend, Problem
from console.page import Context, Visit
from console.pages import orchestration

if TYPE_CHECKING:
    from console.app import Console

GIT_S_MAX = 5.0
GIT_BYTES_MAX = 512 * 1024
GIT_AT_ONCE = 4
TASKS_MAX = 100
"""Of a page whose changes are counted; the rest are opened one by one."""
FILES_MAX = 400
KNOWN_MAX = 2000
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.pager=cat",
    "core.quotePath=false",
    "core.attributesFile=/dev/null",
    "protocol.allow=never",
    "submodule.recurse=false",
)
_PLAIN = ("--no-ext-diff", "--no-textconv", "--no-color", "--no-renames", "--ignore-submodules=all")


class GitFailed(Exception):
    """Git could not say it; the message is its own."""


class FileChange(NamedTuple):
    """A changed file; insertions and deletions are None for a binary one."""

    path: str
    insertions: int | None
    deletions: int | None


class Changes(NamedTuple):
    """What a range of commits changed."""

    files: tuple[FileChange, ...]

    @property
    def insertions(self) -> int:
        """Lines that came in."""
        return sum(file.insertions or 0 for file in self.files)

    @property
    def deletions(self) -> int:
        """Lines that went out."""
        return sum(file.deletions or 0 for file in self.files)


def repository(repo: str) -> Path | None:
    """Return the folder of a repository that is on this machine; None for an address, or one that is not here."""
    if not repo.startswith("/") or "\0" in repo:
        return None
    path = Path(repo)
    try:
        return path if path.is_dir() and ((path / ".git").exists() or (path / "HEAD").is_file()) else None
    except OSError:
        return None


async def diff(repo: Path, *arguments: str) -> tuple[str, bool]:
    """Return what `git diff` printed, and whether it was cut off. Raises GitFailed."""
    program = shutil.which("git")
    if program is None:
        raise GitFailed("there is no git on the machine of the console")
    settings = [word for setting in _SETTINGS for word in ("-c", setting)]
    env = {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "HOME": "/nonexistent",
        "LC_ALL": "C.UTF-8",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_LITERAL_PATHSPECS": "1",
    }
    command = [program, "--no-pager", *settings, "-C", str(repo), "diff", *_PLAIN, *arguments]
    process = await anyio.open_process(command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=env, start_new_session=True)
    said: dict[str, bytes] = {"out": b"", "err": b""}
    cut = False
    try:
        with anyio.fail_after(GIT_S_MAX):
            async with anyio.create_task_group() as tasks:
                assert process.stderr is not None
                tasks.start_soon(_take, process.stderr, said, "err", 4096)
                assert process.stdout is not None
                cut = await _take(process.stdout, said, "out", GIT_BYTES_MAX)
                if cut:
                    process.kill()
            code = await process.wait()
    except TimeoutError as error:
        raise GitFailed(f"git took longer than {GIT_S_MAX:g} s") from error
    finally:
        with anyio.CancelScope(shield=True):
            with suppress(ProcessLookupError):
                process.kill()
            await process.aclose()
    if code != 0 and not cut:
        raise GitFailed(said["err"].decode("utf-8", "replace").strip()[-400:] or f"git ended with {code}")
    return said["out"].decode("utf-8", "replace"), cut


async def _take(stream: Any, said: dict[str, bytes], name: str, bytes_max: int) -> bool:
    """Read a stream to its end, or to its limit; return whether there was more."""
    async for data in stream:
        said[name] += data
        if len(said[name]) > bytes_max:
            said[name] = said[name][:bytes_max]
            return True
    return False


def parsed(numstat: str) -> Changes:
    """Return what `git diff --numstat -z` says."""
    files = []
    for entry in numstat.split("\0"):
        plus, _, rest = entry.partition("\t")
        minus, found, path = rest.partition("\t")
        if found and path:
            files.append(FileChange(path, int(plus) if plus.isdecimal() else None, int(minus) if minus.isdecimal() else None))
    return Changes(tuple(files))


_KNOWN: OrderedDict[tuple[str, str, str], Changes] = OrderedDict()
"""What ranges of commits changed, which never changes."""


async def changes_of(repo: Path, base: str, head: str) -> Changes:
    """Return what a range of commits changed. Raises GitFailed."""
    key = (str(repo), base, head)
    if key not in _KNOWN:
        out, _ = await diff(repo, "--numstat", "-z", base, head, "--")
        _KNOWN[key] = parsed(out)
        while len(_KNOWN) > KNOWN_MAX:
            _KNOWN.popitem(last=False)
    return _KNOWN[key]


def ranges(o: Context) -> list[Context]:
    """Return the commits of each task that has some: its place, subject, and the range."""
    return [
        {"place": f"{phase['phase']}.{task['number']}", "subject": task["subject"], "base": task["git_range"][0], "head": task["git_range"][1]}
        for phase in o["plan"]
        for task in phase["tasks"]
        if task["git_range"] and all(_COMMIT.fullmatch(commit) for commit in task["git_range"])
    ]


async def load(visit: Visit) -> Context:
    """Return the commits, with what they changed where it can be looked up. Raises Problem."""
    context = await orchestration.head(visit)
    o = context["o"]
    project = await visit.backend.ask("project", id=o["project"])
    repo = repository(project["repo"])
    tasks = ranges(o)
    limiter = anyio.CapacityLimiter(GIT_AT_ONCE)
    found: dict[str, Changes] = {}
    failed: dict[str, str] = {}

    async def look(task: Context) -> None:
        assert repo is not None
        async with limiter:
            try:
                found[task["place"]] = await changes_of(repo, task["base"], task["head"])
            except GitFailed as error:
                failed[task["place"]] = str(error)

    if repo is not None:
        async with anyio.create_task_group() as group:
            for task in tasks[:TASKS_MAX]:
                group.start_soon(look, task)
    return {
        **context,
        "tab": "changes",
        "tasks": tasks,
        "found": found,
        "failed": failed,
        "repo": project["repo"],
        "is_here": repo is not None,
        "commands": commands(project["repo"], project["default_branch"], o["branch"]),
        "FILES_MAX": FILES_MAX,
    }


def commands(repo: str, default_branch: str, branch: str) -> list[str]:
    """Return the command lines that show the changes where the repository is."""
    where = ["git", "-C", repo] if repo.startswith("/") else ["git"]
    span = f"{default_branch}...{branch}"
    fetch = [] if repo.startswith("/") else [["git", "fetch", repo, f"{branch}:{branch}"]]
    wanted = [*fetch, [*where, "log", "--oneline", span], [*where, "diff", "--stat", span], [*where, "diff", span]]
    return [" ".join(shlex.quote(word) for word in words) for words in wanted]


PAGES = (orchestration.tab("changes", load),)


class DiffLine(NamedTuple):
    """A line of a diff; `look` is add, del, hunk, head or empty."""

    look: str
    text: str


def diff_lines(text: str) -> list[DiffLine]:
    """Return the lines of a diff with what each is."""
    found = []
    in_hunk = False
    for line in text.splitlines():
        if line.startswith("@@"):
            in_hunk = True
            look = "hunk"
        elif line.startswith("diff --git"):
            in_hunk = False
            look = "head"
        else:
            look = {"+": "add", "-": "del"}.get(line[:1], "") if in_hunk else "head"
        found.append(DiffLine(look, line))
    return found


async def _diff(backend: Backend, orchestration_: str, place: str, index: str) -> Context:
    """Return the diff of one file of a task. Raises Problem."""
    o = await backend.ask("orchestration", id=orchestration_)
    project = await backend.ask("project", id=o["project"])
    repo = repository(project["repo"])
    task = next((task for task in ranges(o) if task["place"] == place), None)
    if repo is None or task is None or not (index.isascii() and index.isdecimal() and len(index) < 6):
        raise Problem(Reason.ENTITY_NOT_FOUND, "there is no such change")
    try:
        files = (await changes_of(repo, task["base"], task["head"])).files
        if int(index) >= len(files):
            raise Problem(Reason.ENTITY_NOT_FOUND, "there is no such change")
        path = files[int(index)].path
        out, cut = await diff(repo, task["base"], task["head"], "--", path)
    except GitFailed as error:
        raise Problem(Reason.INTERNAL, str(error)) from error
    return {"problem": None, "lines": diff_lines(out), "cut": cut}


def routes(console: Console) -> list[Route]:
    """Return the diff of a file, which is asked for when it is opened."""

    async def show(request: Request) -> Response:
        template = console.templates.get_template("orchestration_changes_diff.html")
        query = request.query_params
        try:
            context = await _diff(console.backend, request.path_params["id"], query.get("task", ""), query.get("file", ""))
        except Problem as problem:
            return HTMLResponse(template.render({"problem": problem}), problem.status)
        return HTMLResponse(template.render(context))

    return [Route("/orchestrations/{id}/changes/diff", show)]
