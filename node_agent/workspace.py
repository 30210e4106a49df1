"""Workspaces: one clone for each orchestration, one worktree for each run, commits, and what goes back to the repository.

Owns the clones, worktrees and mirrors below the node's data folder. The clone shares its objects with the project's
repository, is made when it is missing (an orchestration may have come from another node), and has no remote.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import anyio
import anyio.to_thread

from bus_schemas.orders import WorkOrder
from bus_schemas.reports import FinalizeResult, InitResult, TaskResult
from node_agent.durable import sync_file_system
from node_agent.environment import IDENTITY
from node_agent.git import DURABLE, GitFailed, git, said
from node_agent.repository import BRANCH_PREFIX, Repository, Unusable, branch_under_prefix, free_branch, repository
from node_agent.run_dir import RunDir, orchestration_dir

SUMMARY_COMMITS_MAX = 500
PUSH_TRIES_MAX = 3
PUSH_RETRY_S = 0.2
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


class MergeConflict(Exception):
    """Commits that a run starts from do not merge; `paths` are in conflict."""

    def __init__(self, commit: str, paths: tuple[str, ...]) -> None:
        """Keep the paths."""
        super().__init__(f"commit {commit[:12]} does not merge: {', '.join(paths)}")
        self.paths = paths


class HistoryLost(Exception):
    """What a run left does not contain the commits that it started from."""


class Saved(NamedTuple):
    """The commit that a run left, and whether there was anything to commit."""

    head: str
    is_new: bool


def attempt_ref(order: WorkOrder, attempt: int | None = None) -> str:
    """Return the ref that keeps what an attempt of a run left."""
    return f"refs/qd/{order.orchestration}/{order.run}.{order.attempt if attempt is None else attempt}"


def commit_message(order: WorkOrder, *, note: str = "") -> bytes:
    """Return the message under which the node commits what a run left."""
    task = order.inputs.task
    subject = " ".join(task.subject.split()) if task is not None else f"{order.kind} of phase {order.inputs.phase}"
    trailers = [f"Quarterdeck-Run: {order.run}.{order.attempt}"]
    if task is not None:
        trailers.append(f"Quarterdeck-Task: {task.phase}/{task.number}")
    return f"{subject or 'Task'}{note}\n\n{chr(10).join(trailers)}\n".encode()


class Workspaces:
    """The clones and worktrees of one node."""

    def __init__(self, data: Path) -> None:
        """Work below `data`."""
        self._data = data
        self._mirrors = data / "mirrors"
        self._locks: dict[Path, anyio.Lock] = {}

    def clone_path(self, order: WorkOrder) -> Path:
        """Return where the clone of an orchestration is."""
        return orchestration_dir(self._data, order.orchestration) / "clone"

    def _locked(self, path: Path) -> anyio.Lock:
        return self._locks.setdefault(path, anyio.Lock())

    async def _clone(self, order: WorkOrder, source: Repository) -> Path:
        """Return the clone of an orchestration, made if it is missing, with its own configuration; callers hold its lock."""
        clone = self.clone_path(order)
        kept = clone.parent / "clone.config"
        if not kept.exists():
            fresh = clone.parent / "clone.new"
            for leftover in (fresh, clone):
                await anyio.to_thread.run_sync(lambda path: shutil.rmtree(path, ignore_errors=True), leftover)
            clone.parent.mkdir(parents=True, exist_ok=True)
            async with self._locked(self._mirrors):
                await source.clone(fresh, self._mirrors)
            # an agent's own commits are as durable as ours
            await git("config", *DURABLE.split("="), where=fresh)
            fresh.rename(clone)
            shutil.copyfile(clone / "config", kept.with_suffix(".new"))
            # what stands in `kept` says that the clone is whole, also after a power cut
            await anyio.to_thread.run_sync(sync_file_system, clone.parent)
            kept.with_suffix(".new").rename(kept)
        elif (clone / "config").read_bytes() != kept.read_bytes():
            shutil.copyfile(kept, clone / "config")  # an agent has been there: what stands in it could run programs of its choice
        return clone

    async def _has(self, clone: Path, commit: str) -> bool:
        with contextlib.suppress(GitFailed):
            await git("cat-file", "-e", f"{commit}^{{commit}}", where=clone)
            return True
        return False

    async def init(self, order: WorkOrder) -> InitResult:
        """Return the start of an orchestration: its clone, base commit and branch; the base is kept by a ref. Raises Unusable, GitFailed."""
        source = repository(order.workspace.repo)
        wanted = branch_under_prefix(order.workspace.branch)
        tip = f"refs/heads/{order.workspace.default_branch}"
        refs = await source.refs(tip, f"refs/heads/{BRANCH_PREFIX.rstrip('/')}", f"refs/heads/{BRANCH_PREFIX}*")
        if tip not in refs:
            raise Unusable(await _without_branch(order, source))
        await git("check-ref-format", f"refs/heads/{wanted}")
        branch = free_branch(wanted, refs)
        clone = self.clone_path(order)
        async with self._locked(clone):
            await self._clone(order, source)
            await self._fetch(order, source, clone, (refs[tip],))
        await self._push(source, clone, refs[tip], attempt_ref(order))
        return InitResult(base=refs[tip], path=str(clone), branch=branch)

    async def _fetch(self, order: WorkOrder, source: Repository, clone: Path, commits: tuple[str, ...]) -> None:
        missing = [commit for commit in commits if not await self._has(clone, commit)]
        if missing and not source.is_path:
            async with self._locked(self._mirrors):
                await source.mirror(self._mirrors)
            missing = [commit for commit in missing if not await self._has(clone, commit)]
        if missing:
            raise Unusable(f"repository {order.workspace.repo} does not have commit {', '.join(missing)} that {order.run} starts from")

    async def prepare(self, order: WorkOrder, run: RunDir) -> str:
        """Return the commit that a fresh worktree stands at: the first of the base, the others merged into it.

        Only for an attempt of which nothing was started: a worktree left half made is made anew. Raises Unusable, GitFailed,
        MergeConflict.
        """
        base = order.workspace.base
        if not base or not all(_COMMIT.fullmatch(commit) for commit in base):
            raise Unusable(f"the order of {order.run} does not name the commits to start from: {base!r}")
        source = repository(order.workspace.repo)
        clone = self.clone_path(order)
        async with self._locked(clone):
            await self._clone(order, source)
            await self._fetch(order, source, clone, base)
            await self._remove(clone, run)
            await git("worktree", "add", "--quiet", "--detach", "--", str(run.tree), base[0], where=clone)
        for commit in base[1:]:
            await self._merge(order, run, commit)
        return base[0] if len(base) == 1 else await self.head(order, run)

    async def _merge(self, order: WorkOrder, run: RunDir, commit: str) -> None:
        env = self._inside(order, run)
        subject = await said("log", "-1", "--format=%s", commit, env=env)
        message = f"Merge '{subject}'\n\nQuarterdeck-Run: {order.run}.{order.attempt}"
        # the time of the order, so that making the same merge again gives the same commit
        at = order.issued_at.isoformat()
        try:
            await git("merge", "--quiet", "--no-ff", "--no-edit", "--no-verify", "-m", message, commit, where=run.tree, env={**env, **_dated(at)})
        except GitFailed as failure:
            unmerged = await git("diff", "--name-only", "--diff-filter=U", "-z", where=run.tree, env=env)
            paths = tuple(path for path in unmerged.decode(errors="replace").split("\0") if path)
            if not paths:
                raise
            raise MergeConflict(commit, paths) from failure

    def _inside(self, order: WorkOrder, run: RunDir) -> dict[str, str]:
        """Return the environment for git in a worktree, whatever an agent made of the `.git` file in there."""
        clone = self.clone_path(order)
        return {"GIT_DIR": str(clone / "worktrees" / run.tree.name), "GIT_COMMON_DIR": str(clone), "GIT_WORK_TREE": str(run.tree)}

    async def head(self, order: WorkOrder, run: RunDir) -> str:
        """Return the commit that a worktree stands at. Raises GitFailed."""
        return await said("rev-parse", "--verify", "HEAD^{commit}", env=self._inside(order, run))

    async def save(self, order: WorkOrder, run: RunDir, base: str, *, note: str = "") -> Saved:
        """Commit what is left uncommitted and return the head. Raises HistoryLost when it does not contain `base`, GitFailed."""
        env = self._inside(order, run)
        clone = self.clone_path(order)
        async with self._locked(clone):
            await self._clone(order, repository(order.workspace.repo))
        if not stat.S_ISDIR(os.lstat(run.tree).st_mode):
            raise HistoryLost(f"the worktree of {order.run}.{order.attempt} is no longer a folder")
        # everything that could hold it is dead
        with contextlib.suppress(FileNotFoundError):
            (Path(env["GIT_DIR"]) / "index.lock").unlink()
        await git("add", "--all", "--", ".", where=run.tree, env=env)
        staged = await _changed("diff", "--cached", "--quiet", where=run.tree, env=env)
        if staged:
            message = commit_message(order, note=note)
            await git("commit", "--quiet", "--no-verify", "--cleanup=whitespace", "--file=-", where=run.tree, env=env, stdin=message)
        head = await self.head(order, run)
        if head != base and await _changed("merge-base", "--is-ancestor", base, head, where=run.tree, env=env):
            raise HistoryLost(f"what {order.run}.{order.attempt} left at {head[:12]} does not contain {base[:12]} that it started from")
        return Saved(head, head != base)

    async def measured(self, order: WorkOrder, base: str, head: str) -> TaskResult:
        """Return the range from `base` to `head` with its size. Raises GitFailed."""
        options = ("--numstat", "-z", "--no-renames", "--no-ext-diff", "--no-textconv")
        listed = await git("diff", *options, base, head, "--", where=self.clone_path(order))
        rows = [line.split(b"\t", 2) for line in listed.split(b"\0") if line]
        # a binary file counts as `-`
        return TaskResult(
            base=base,
            head=head,
            files=len(rows),
            insertions=sum(int(row[0]) for row in rows if row[0].isdigit()),
            deletions=sum(int(row[1]) for row in rows if row[1].isdigit()),
        )

    async def publish(self, order: WorkOrder, head: str) -> None:
        """Keep `head` in the project's repository under the ref of this attempt. Raises GitFailed, Unusable."""
        await self._push(repository(order.workspace.repo), self.clone_path(order), head, attempt_ref(order))

    async def _push(self, source: Repository, clone: Path, commit: str, ref: str) -> None:
        for left in range(PUSH_TRIES_MAX - 1, -1, -1):
            try:
                await source.push(clone, commit, ref)
                return
            except GitFailed:  # the operator may be using the repository right now: locks go away
                if not left:
                    raise
                await anyio.sleep(PUSH_RETRY_S)

    async def finalize(self, order: WorkOrder, head: str) -> FinalizeResult:
        """Write `head` to the branch in the project's repository, and a summary beside it.

        Never moves a branch that somebody else made or moved: only one that is not there, or that an earlier attempt of this
        run wrote; else the next free suffix is taken, and reported. Raises GitFailed, Unusable.
        """
        source = repository(order.workspace.repo)
        clone = self.clone_path(order)
        async with self._locked(clone):
            await self._clone(order, source)
            await self._fetch(order, source, clone, (head,))
        await self._push(source, clone, head, attempt_ref(order))
        branch = await self._write_branch(order, source, clone, head)
        summary = f"refs/qd/{order.orchestration}/summary"
        await self._push(source, clone, await self._summary(order, clone, head, branch), summary)
        return FinalizeResult(head=head, branch=branch, refs=(f"refs/heads/{branch}", summary))

    async def _write_branch(self, order: WorkOrder, source: Repository, clone: Path, head: str) -> str:
        wanted = branch_under_prefix(order.workspace.branch)
        lost: GitFailed | None = None
        for _ in range(PUSH_TRIES_MAX):
            refs = await source.refs("refs/heads/qd", f"refs/heads/{BRANCH_PREFIX}*", f"refs/qd/{order.orchestration}/*")
            earlier = {refs.get(attempt_ref(order, attempt)) for attempt in range(1, order.attempt)} - {None}
            found = refs.get(f"refs/heads/{wanted}")
            if found == head:
                return wanted
            branch = wanted if found in earlier else free_branch(wanted, refs)
            try:
                await source.push_expecting(clone, head, f"refs/heads/{branch}", refs.get(f"refs/heads/{branch}"))
                return branch
            except GitFailed as failure:
                lost = failure  # somebody was faster: look again
        raise Unusable(f"branch {wanted} could not be written: {lost}")

    async def _summary(self, order: WorkOrder, clone: Path, head: str, branch: str) -> str:
        """Return a tag object whose message tells what the orchestration did."""
        listed = await said("log", "--reverse", "--no-merges", f"-n{SUMMARY_COMMITS_MAX}", "--format=%h %s", *_ours(order), head, "--", where=clone)
        lines = [
            f"{' '.join(order.inputs.feature.split())}: done by {order.orchestration}",
            "",
            f"Design: {order.inputs.design_title}",
            f"Branch: {branch}",
            f"Phases: {order.inputs.total_phases}",
            *(f"Ticket: {ticket.id} {ticket.title}" for ticket in order.inputs.tickets),
            "",
            *(f"- {line}" for line in listed.splitlines()),
        ]
        stamp = f"{IDENTITY[0]} <{IDENTITY[1]}> {int(order.issued_at.timestamp())} +0000"
        tag = f"object {head}\ntype commit\ntag {order.orchestration}\ntagger {stamp}\n\n" + "\n".join(lines) + "\n"
        return (await git("mktag", where=clone, stdin=tag.encode())).decode().strip()

    async def discard(self, order: WorkOrder, run: RunDir, *, with_work: bool) -> bool:
        """Remove the worktree of an ended run; one with work in it only if `with_work`. Return whether it is gone. Raises GitFailed."""
        clone = self.clone_path(order)
        if not run.tree.exists():
            return True
        async with self._locked(clone):
            if not with_work and await said("status", "--porcelain", where=run.tree, env=self._inside(order, run)):
                return False
            await self._remove(clone, run)
        return not run.tree.exists()

    async def _remove(self, clone: Path, run: RunDir) -> None:
        for folder in (run.tree, clone / "worktrees" / run.tree.name):
            await anyio.to_thread.run_sync(remove_tree, folder)


def _ours(order: WorkOrder) -> tuple[str, str]:
    return ("--fixed-strings", f"--grep=Quarterdeck-Run: {order.orchestration}-r")


def _dated(at: str) -> dict[str, str]:
    return {"GIT_AUTHOR_DATE": at, "GIT_COMMITTER_DATE": at}


async def _changed(*arguments: str, where: Path, env: Mapping[str, str]) -> bool:
    """Return whether a git command said no (exit code 1). Raises GitFailed."""
    try:
        await git(*arguments, where=where, env=env)
    except GitFailed as failure:
        if failure.code == 1:
            return True
        raise
    return False


def remove_tree(path: Path) -> None:
    """Remove a folder with all in it, also folders that were made unreadable. Raises OSError when something stays."""
    if path.is_symlink() or path.is_file():
        path.unlink()
        return
    if not path.exists():
        return
    for parent, folders, _ in os.walk(path):
        for folder in folders:
            inner = os.path.join(parent, folder)
            if not os.path.islink(inner) and not os.access(inner, os.R_OK | os.W_OK | os.X_OK):
                os.chmod(inner, 0o700)
    shutil.rmtree(path)


async def _without_branch(order: WorkOrder, source: Repository) -> str:
    text = f"repository {order.workspace.repo} has no branch {order.workspace.default_branch} with a commit"
    found = sorted(ref.removeprefix("refs/heads/") for ref in await source.refs("refs/heads/*"))
    if not found:
        return f"{text}, and no other"
    return f"{text}, but {', '.join(found[:3])}: `qd project edit {order.project} --default-branch {found[0]}`"
