"""The project's repository: where every commit of an orchestration ends up.

The node writes `refs/heads/qd/*` and `refs/qd/*` there and nothing else, with the hooks off; working tree, index, HEAD
and all other refs stay as they are. A path is used as it stands; a URL is read through a bare mirror on the node.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from pathlib import Path
from typing import NamedTuple

import anyio.to_thread

from bus_schemas.ids import shown
from node_agent.durable import sync_folder
from node_agent.git import NETWORK_TIMEOUT_S, RECEIVE_PACK, UPLOAD_PACK, git, said

BRANCH_PREFIX = "qd/"
SUFFIX_MAX = 99
_URL = re.compile(r"(?:https?|ssh|git|file)://\S+|[A-Za-z0-9_][A-Za-z0-9_.-]*@[A-Za-z0-9.-]+:\S+")


class Unusable(Exception):
    """The repository cannot be worked with; the message says why."""


class Repository(NamedTuple):
    """A repository by its address."""

    address: str

    @property
    def is_path(self) -> bool:
        """Whether the clones can share its objects without a mirror."""
        return self.address.startswith("/")

    @property
    def _is_here(self) -> bool:
        # the other side of the transport is a process of ours, whose hooks are ours to switch off
        return self.is_path or self.address.startswith("file://")

    @property
    def _reading(self) -> tuple[str, ...]:
        return (f"--upload-pack={UPLOAD_PACK}",) if self._is_here else ()

    @property
    def _writing(self) -> tuple[str, ...]:
        return (f"--receive-pack={RECEIVE_PACK}",) if self._is_here else ()

    async def refs(self, *patterns: str) -> dict[str, str]:
        """Return the refs that match, with the commits they point to. Raises GitFailed."""
        listed = await git("ls-remote", "--quiet", *self._reading, "--", self.address, *patterns, timeout_s=NETWORK_TIMEOUT_S)
        pairs = (line.split("\t", 1) for line in listed.decode(errors="replace").splitlines())
        return {ref: commit for commit, ref in pairs}

    async def clone(self, target: Path, mirrors: Path) -> None:
        """Make a bare clone at `target` that shares its objects with the repository, or with its mirror. Raises GitFailed."""
        source = self.address if self.is_path else str(await self.mirror(mirrors))
        await git("clone", "--quiet", "--bare", "--shared", f"--upload-pack={UPLOAD_PACK}", "--", source, str(target), timeout_s=NETWORK_TIMEOUT_S)
        # an agent that pushes by habit must find nowhere to push to
        await git("remote", "remove", "origin", where=target)

    async def mirror(self, mirrors: Path) -> Path:
        """Return the mirror of a URL, up to date; callers hold the lock of its folder. Raises GitFailed."""
        target = mirrors / hashlib.sha256(self.address.encode()).hexdigest()[:24]
        if not (target / "HEAD").exists():
            await git("init", "--quiet", "--bare", "--", str(target))
        wanted = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*", "+refs/qd/*:refs/qd/*")
        await git("fetch", "--quiet", "--no-tags", *self._reading, "--", self.address, *wanted, where=target, timeout_s=NETWORK_TIMEOUT_S)
        return target

    async def push(self, clone: Path, commit: str, ref: str) -> None:
        """Make `ref` point to `commit`: for refs that one attempt alone writes. Raises GitFailed."""
        await self._push(clone, f"+{commit}:{ref}")

    async def push_expecting(self, clone: Path, commit: str, ref: str, expected: str | None) -> None:
        """Make `ref` point to `commit` if it still points to `expected` (None: is not there). Raises GitFailed."""
        await self._push(clone, f"{commit}:{ref}", f"--force-with-lease={ref}:{expected or ''}")

    async def _push(self, clone: Path, refspec: str, *options: str) -> None:
        fixed = ("--quiet", "--no-verify", "--no-follow-tags", "--no-signed", "--recurse-submodules=no")
        await git("push", *fixed, *options, *self._writing, "--", self.address, refspec, where=clone, timeout_s=NETWORK_TIMEOUT_S)
        if self.is_path:
            await self._keep(refspec.rpartition(":")[2])

    async def _keep(self, ref: str) -> None:
        """Return when a ref is on disk: git syncs its content, and not the rename that makes it the ref. Raises GitFailed, OSError."""
        where = await said("rev-parse", "--path-format=absolute", "--git-path", ref, where=Path(self.address))
        with contextlib.suppress(FileNotFoundError):  # packed meanwhile, by somebody who synced it
            await anyio.to_thread.run_sync(sync_folder, Path(where).parent)


def repository(repo: str) -> Repository:
    """Return the repository that a project names. Raises Unusable for what is neither an absolute path nor a git URL."""
    if _URL.fullmatch(repo):
        return Repository(repo)
    if repo.startswith("/") and "\0" not in repo and "\n" not in repo:
        if not Path(repo).is_dir():
            raise Unusable(f"repository {shown(repo, 200)} is not a folder on this node")
        return Repository(repo)
    raise Unusable(f"repository {shown(repo, 200)} is neither an absolute path nor a git URL (https, http, ssh, git, file, user@host:path)")


def branch_under_prefix(branch: str) -> str:
    """Return the name under which the node may write `branch`: the node writes below `qd/` only."""
    return branch if branch.startswith(BRANCH_PREFIX) else BRANCH_PREFIX + branch


def free_branch(branch: str, refs: dict[str, str]) -> str:
    """Return `branch`, or with the first free suffix -2, -3, ... Raises Unusable when a ref stands in its way."""
    parts = f"refs/heads/{branch}".split("/")
    blocking = next((ref for end in range(3, len(parts)) if (ref := "/".join(parts[:end])) in refs), None)
    if blocking is not None:
        raise Unusable(f"branch {branch} cannot be made: the repository has {blocking}")
    for number in range(1, SUFFIX_MAX + 1):
        candidate = branch if number == 1 else f"{branch}-{number}"
        name = f"refs/heads/{candidate}"
        if name not in refs and not any(ref.startswith(name + "/") for ref in refs):
            return candidate
    raise Unusable(f"branch {branch} exists in the repository, and so do all up to {branch}-{SUFFIX_MAX}")
