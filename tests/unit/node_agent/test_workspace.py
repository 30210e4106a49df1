"""Workspaces on real repositories: what is made, kept and published, and what of the operator's is never touched."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bus_schemas.orders import RunKind, TaskBrief, WorkOrder
from bus_schemas.reports import FinalizeResult
from node_agent.git import GitFailed
from node_agent.repository import Repository, Unusable, branch_under_prefix, free_branch, repository
from node_agent.run_dir import RunDir, run_dir
from node_agent.workspace import HistoryLost, MergeConflict, Workspaces, remove_tree
from tests.unit.node_agent.orders import order

pytestmark = pytest.mark.anyio

ENV = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}


def git(where: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=op", "-c", "user.email=op@example.org", *arguments]
    return subprocess.run(command, cwd=where, env=ENV, check=True, capture_output=True, text=True).stdout.strip()


def commit(where: Path, name: str, text: str = "x\n") -> str:
    (where / name).write_text(text)
    git(where, "add", name)
    git(where, "commit", "--quiet", "--no-verify", f"--message={name}")
    return git(where, "rev-parse", "HEAD")


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    path = tmp_path / "repo"
    path.mkdir()
    git(path, "init", "--quiet", "--initial-branch=main")
    commit(path, "README")
    return path


class Desk:
    """A node's workspaces and orders for one repository."""

    def __init__(self, data: Path, repo: Path | str) -> None:
        self.data, self.repo, self.workspaces = data, str(repo), Workspaces(data)

    def order(self, kind: RunKind = RunKind.TASK, number: int = 1, base: tuple[str, ...] = (), **changes: Any) -> WorkOrder:
        workspace = {"repo": self.repo, "base": base, **changes.pop("workspace", {})}
        return order(kind, number, workspace=workspace, **changes)

    async def ready(self, base: tuple[str, ...], number: int = 1, **changes: Any) -> tuple[WorkOrder, RunDir, str]:
        asked = self.order(number=number, base=base, **changes)
        run = run_dir(self.data, asked)
        return asked, run, await self.workspaces.prepare(asked, run)


@pytest.fixture
def desk(tmp_path: Path, repo: Path) -> Desk:
    return Desk(tmp_path / "data", repo)


async def test_init_pins_the_tip_of_the_default_branch(desk: Desk, repo: Path) -> None:
    tip = git(repo, "rev-parse", "main")
    asked = desk.order(RunKind.INIT)
    for _ in range(2):  # the same order after a restart
        found = await desk.workspaces.init(asked)
        assert (found.base, found.branch, Path(found.path)) == (tip, "qd/greeter", desk.data / "work" / "shop-o1" / "clone")
    assert git(repo, "rev-parse", "refs/qd/shop-o1/shop-o1-r1.1") == tip
    assert git(repo, "for-each-ref", "--format=%(refname)", "refs/heads") == "refs/heads/main"


async def test_a_branch_that_exists_gets_a_suffix(desk: Desk, repo: Path) -> None:
    git(repo, "branch", "qd/greeter")
    git(repo, "branch", "qd/greeter-2")
    assert (await desk.workspaces.init(desk.order(RunKind.INIT))).branch == "qd/greeter-3"


@pytest.mark.parametrize(
    ("workspace", "text"),
    [
        ({"repo": "/nowhere"}, "not a folder"),
        ({"repo": "relative/path"}, "neither an absolute path"),
        ({"repo": "--upload-pack=touch /tmp/x"}, "neither an absolute path"),
        ({"repo": "ext::sh -c touch% /tmp/x"}, "neither an absolute path"),
        ({"repo": "https://user@example.org/a b"}, "neither an absolute path"),
        ({"default_branch": "missing"}, "no branch missing with a commit, but main: `qd project edit shop --default-branch main`"),
        ({"default_branch": "--all"}, "no branch --all"),
    ],
)
async def test_a_repository_that_cannot_be_used_is_refused_with_the_reason(desk: Desk, workspace: dict[str, str], text: str) -> None:
    with pytest.raises(Unusable, match=text):
        await desk.workspaces.init(desk.order(RunKind.INIT, workspace=workspace))


async def test_a_folder_that_is_no_repository_is_refused(desk: Desk, tmp_path: Path) -> None:
    with pytest.raises(GitFailed, match="repository"):
        await desk.workspaces.init(desk.order(RunKind.INIT, workspace={"repo": str(tmp_path)}))


async def test_the_operators_repository_keeps_all_it_has(desk: Desk, repo: Path) -> None:
    base = git(repo, "rev-parse", "HEAD")
    git(repo, "checkout", "--quiet", "-b", "topic")
    (repo / "README").write_text("edited\n")
    (repo / "staged").write_text("staged\n")
    git(repo, "add", "staged")
    (repo / "untracked").write_text("untracked\n")
    git(repo, "stash", "push", "--quiet", "--", "README")
    (repo / "README").write_text("edited again\n")
    files = {path: path.read_bytes() for path in repo.rglob("*") if path.is_file() and path.relative_to(repo).parts[:2] not in _GROWING}
    refs = git(repo, "for-each-ref", "refs/heads", "refs/stash")

    await desk.workspaces.init(desk.order(RunKind.INIT))
    asked, run, head = await desk.ready((base,), 2)
    (run.tree / "new").write_text("new\n")
    saved = await desk.workspaces.save(asked, run, head)
    await desk.workspaces.publish(asked, saved.head)
    written = await desk.workspaces.finalize(desk.order(RunKind.FINALIZE, 3, (saved.head,)), saved.head)

    assert git(repo, "rev-parse", written.branch) == saved.head
    assert {path: path.read_bytes() for path in files} == files
    assert git(repo, "for-each-ref", "refs/heads/main", "refs/heads/topic", "refs/stash") == refs


_GROWING = ((".git", "objects"), (".git", "refs"), (".git", "logs"))


async def test_no_hook_of_the_operators_repository_runs(desk: Desk, repo: Path, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    hooks = repo / ".git" / "hooks"
    elsewhere = repo / ".husky"
    names = ("pre-receive", "update", "post-receive", "post-update", "reference-transaction", "push-to-checkout", "post-checkout", "pre-commit")
    for folder in (hooks, elsewhere):
        folder.mkdir(exist_ok=True)
        for name in (*names, "commit-msg", "pre-push", "pre-merge-commit", "post-merge", "post-commit", "prepare-commit-msg"):
            (folder / name).write_text(f"#!/bin/sh\necho {name} >> {witness}\nexit 1\n")
            (folder / name).chmod(0o755)
    base = git(repo, "rev-parse", "HEAD")
    for setting in ("", ".husky"):
        if setting:
            git(repo, "config", "core.hooksPath", setting)
        number = 1 if not setting else 4
        await desk.workspaces.init(desk.order(RunKind.INIT, number))
        asked, run, head = await desk.ready((base,), number + 1)
        (run.tree / f"new{number}").write_text("new\n")
        saved = await desk.workspaces.save(asked, run, head)
        await desk.workspaces.publish(asked, saved.head)
        await desk.workspaces.finalize(desk.order(RunKind.FINALIZE, number + 2, (saved.head,)), saved.head)
    assert not witness.exists()


async def test_what_an_agent_wrote_into_the_clone_runs_nothing(desk: Desk, repo: Path, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    evil = tmp_path / "evil"
    evil.write_text(f"#!/bin/sh\necho ran >> {witness}\ncat\n")
    evil.chmod(0o755)
    asked, run, head = await desk.ready((git(repo, "rev-parse", "HEAD"),))
    for key in ("core.fsmonitor", "filter.evil.clean", "filter.evil.process", "diff.external", "core.sshCommand", "gpg.program", "core.editor"):
        git(run.tree, "config", key, str(evil))
    git(run.tree, "config", "commit.gpgSign", "true")
    (run.tree / ".gitattributes").write_text("* filter=evil\n")
    (run.tree / "new").write_text("new\n")
    # and a repository of its own, with a configuration of its own
    (run.tree / ".git").unlink()
    git(run.tree, "init", "--quiet")
    git(run.tree, "config", "core.fsmonitor", str(evil))

    saved = await desk.workspaces.save(asked, run, head)
    await desk.workspaces.publish(asked, saved.head)
    assert not witness.exists()
    assert git(repo, "show", f"{saved.head}:new") == "new"


async def test_what_is_left_is_committed_under_the_name_of_the_task(desk: Desk, repo: Path) -> None:
    base = git(repo, "rev-parse", "HEAD")
    asked, run, head = await desk.ready((base,), inputs={"task": TaskBrief("2", 7, "# add\n  a thing")})
    (run.tree / "a b").write_text("1\n2\n")
    (run.tree / "README").unlink()
    (run.tree / "binary").write_bytes(bytes(range(256)))
    # a git process that was killed leaves its lock
    (desk.workspaces.clone_path(asked) / "worktrees" / run.tree.name / "index.lock").touch()

    saved = await desk.workspaces.save(asked, run, head)
    again = await desk.workspaces.save(asked, run, head)  # after a restart
    assert (saved.is_new, again.head) == (True, saved.head)
    measured = await desk.workspaces.measured(asked, base, saved.head)
    assert (measured.base, measured.head, measured.files, measured.insertions, measured.deletions) == (base, saved.head, 3, 2, 1)
    await desk.workspaces.publish(asked, saved.head)
    assert git(repo, "log", "-1", "--format=%an <%ae>%n%B", saved.head) == (
        "Quarterdeck <qd@localhost>\n# add a thing\n\nQuarterdeck-Run: shop-o1-r1.1\nQuarterdeck-Task: 2/7"
    )


async def test_nothing_to_commit_leaves_the_commit_it_started_from(desk: Desk, repo: Path) -> None:
    base = git(repo, "rev-parse", "HEAD")
    asked, run, head = await desk.ready((base,))
    assert await desk.workspaces.save(asked, run, head) == (base, False)


async def test_commits_that_the_agent_made_itself_count(desk: Desk, repo: Path) -> None:
    base = git(repo, "rev-parse", "HEAD")
    asked, run, head = await desk.ready((base,))
    git(run.tree, "checkout", "--quiet", "-b", "mine")
    made = commit(run.tree, "own")
    assert await desk.workspaces.save(asked, run, head) == (made, True)


async def test_a_history_that_was_rewritten_is_not_taken(desk: Desk, repo: Path) -> None:
    commit(repo, "second")
    asked, run, head = await desk.ready((git(repo, "rev-parse", "HEAD"),))
    git(run.tree, "reset", "--quiet", "--hard", "HEAD~1")
    commit(run.tree, "other")
    with pytest.raises(HistoryLost, match="does not contain"):
        await desk.workspaces.save(asked, run, head)


async def test_a_worktree_that_became_a_link_is_not_taken(desk: Desk, repo: Path) -> None:
    asked, run, head = await desk.ready((git(repo, "rev-parse", "HEAD"),))
    remove_tree(run.tree)
    run.tree.symlink_to("/etc")
    with pytest.raises(HistoryLost, match="no longer a folder"):
        await desk.workspaces.save(asked, run, head)


async def test_bases_are_merged_the_same_way_each_time(desk: Desk, repo: Path) -> None:
    base = git(repo, "rev-parse", "HEAD")
    sides = []
    for name in ("left", "right", "middle"):
        git(repo, "checkout", "--quiet", "--detach", base)
        sides.append(commit(repo, name))
    git(repo, "checkout", "--quiet", "main")
    _, run, head = await desk.ready(tuple(sides))
    assert {path.name for path in run.tree.iterdir()} == {".git", "README", "left", "right", "middle"}
    assert all(git(run.tree, "merge-base", side, head) == side for side in sides)
    assert (await desk.ready(tuple(sides)))[2] == head

    contained = await desk.ready((sides[0], base), 2)
    assert contained[2] == sides[0]


async def test_bases_that_do_not_merge_name_the_paths(desk: Desk, repo: Path) -> None:
    base = git(repo, "rev-parse", "HEAD")
    sides = []
    for text in ("one\n", "two\n"):
        git(repo, "checkout", "--quiet", "--detach", base)
        sides.append(commit(repo, "ä file", text))
    with pytest.raises(MergeConflict) as caught:
        await desk.ready(tuple(sides))
    assert caught.value.paths == ("ä file",)


@pytest.mark.parametrize("base", [(), ("main",), ("--all",), ("0" * 40,)])
async def test_a_base_that_is_no_commit_of_the_repository_is_refused(desk: Desk, base: tuple[str, ...]) -> None:
    with pytest.raises(Unusable):
        await desk.ready(base)


async def test_a_clone_that_is_missing_is_made_from_the_refs_of_the_repository(desk: Desk, repo: Path, tmp_path: Path) -> None:
    asked, run, head = await desk.ready((git(repo, "rev-parse", "HEAD"),))
    (run.tree / "new").write_text("new\n")
    saved = await desk.workspaces.save(asked, run, head)
    await desk.workspaces.publish(asked, saved.head)

    moved = Desk(tmp_path / "other-node", repo)
    _, elsewhere, _ = await moved.ready((saved.head,), 2)
    assert (elsewhere.tree / "new").read_text() == "new\n"


async def test_a_url_is_read_through_a_mirror_and_written_directly(repo: Path, tmp_path: Path) -> None:
    desks = [Desk(tmp_path / name, f"file://{repo}") for name in ("one", "two")]
    (repo / ".git" / "hooks" / "pre-receive").write_text("#!/bin/sh\nexit 1\n")
    (repo / ".git" / "hooks" / "pre-receive").chmod(0o755)
    ready = await desks[0].workspaces.init(desks[0].order(RunKind.INIT))
    asked, run, head = await desks[0].ready((ready.base,), 2)
    (run.tree / "new").write_text("new\n")
    saved = await desks[0].workspaces.save(asked, run, head)
    await desks[0].workspaces.publish(asked, saved.head)
    # the other node had its mirror before that commit was there
    await desks[1].workspaces.init(desks[1].order(RunKind.INIT))
    _, elsewhere, _ = await desks[1].ready((saved.head,), 3)
    assert (elsewhere.tree / "new").read_text() == "new\n"
    written = await desks[1].workspaces.finalize(desks[1].order(RunKind.FINALIZE, 4, (saved.head,)), saved.head)
    assert git(repo, "rev-parse", written.branch) == saved.head


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a repository to somebody else")
async def test_a_repository_of_another_user_is_used_all_the_same(desk: Desk, repo: Path) -> None:
    for path in (repo, *repo.rglob("*")):
        os.chown(path, 12345, 12345)
    ready = await desk.workspaces.init(desk.order(RunKind.INIT))
    asked, run, head = await desk.ready((ready.base,), 2)
    (run.tree / "new").write_text("new\n")
    saved = await desk.workspaces.save(asked, run, head)
    await desk.workspaces.publish(asked, saved.head)
    assert (await finalized(desk, saved.head)).head == saved.head


async def finalized(desk: Desk, head: str, attempt: int = 1, number: int = 9) -> FinalizeResult:
    return await desk.workspaces.finalize(desk.order(RunKind.FINALIZE, number, (head,), attempt=attempt), head)


async def test_a_branch_that_somebody_else_made_or_moved_is_left_alone(desk: Desk, repo: Path) -> None:
    base = git(repo, "rev-parse", "HEAD")
    git(repo, "checkout", "--quiet", "--detach")
    first, second, foreign = commit(repo, "first"), commit(repo, "second"), commit(repo, "foreign")
    git(repo, "checkout", "--quiet", "main")

    assert (await finalized(desk, first)).branch == "qd/greeter"
    assert (await finalized(desk, first)).branch == "qd/greeter"  # the same attempt again
    assert (await finalized(desk, second, attempt=2)).branch == "qd/greeter"  # a later attempt of the same run
    assert git(repo, "rev-parse", "qd/greeter") == second
    # a straggler of the attempt before must not put it back
    assert (await finalized(desk, first)).branch == "qd/greeter-2"
    assert git(repo, "rev-parse", "qd/greeter") == second

    git(repo, "update-ref", "refs/heads/qd/greeter", foreign)
    assert (await finalized(desk, second, attempt=3)).branch == "qd/greeter-3"
    assert git(repo, "rev-parse", "qd/greeter") == foreign
    assert git(repo, "rev-parse", "main") == base


async def test_a_branch_outside_of_the_nodes_prefix_is_written_below_it(desk: Desk, repo: Path) -> None:
    head = git(repo, "rev-parse", "HEAD")
    asked = desk.order(RunKind.FINALIZE, 1, (head,), workspace={"branch": "main"})
    assert (await desk.workspaces.finalize(asked, head)).branch == "qd/main"
    assert branch_under_prefix("qd/x") == "qd/x"


async def test_a_worktree_with_work_in_it_is_kept(desk: Desk, repo: Path) -> None:
    asked, run, _ = await desk.ready((git(repo, "rev-parse", "HEAD"),))
    (run.tree / "work").write_text("precious\n")
    assert not await desk.workspaces.discard(asked, run, with_work=False)
    assert (run.tree / "work").exists()
    assert await desk.workspaces.discard(asked, run, with_work=True)
    assert not run.tree.exists()
    assert await desk.workspaces.discard(asked, run, with_work=False)  # twice is harmless


def test_a_folder_that_was_made_unreadable_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    (folder / "b" / "c").mkdir(parents=True)
    (folder / "b" / "c" / "d").write_text("x")
    (folder / "link").symlink_to("/etc")
    (folder / "b" / "c").chmod(0)
    (folder / "b").chmod(0)
    remove_tree(folder)
    assert not folder.exists()
    assert Path("/etc/passwd").exists()
    remove_tree(folder)


def test_what_is_a_repository() -> None:
    for url in ("https://example.org/a.git", "ssh://git@example.org/a", "git@example.org:a/b.git", "file:///a"):
        assert repository(url) == Repository(url)
        assert not repository(url).is_path
    for text in ("", "-x", "/nowhere/at/all", "a/b", "http://a b", "/tmp\nx", "user@-oProxyCommand:x y"):
        with pytest.raises(Unusable):
            repository(text)


def test_a_free_branch_is_the_first_that_nothing_stands_in_the_way_of() -> None:
    assert free_branch("qd/a", {}) == "qd/a"
    assert free_branch("qd/a", {"refs/heads/qd/a": "1"}) == "qd/a-2"
    assert free_branch("qd/a", {"refs/heads/qd/a/b": "1"}) == "qd/a-2"
    with pytest.raises(Unusable, match="refs/heads/qd"):
        free_branch("qd/a", {"refs/heads/qd": "1"})
    with pytest.raises(Unusable, match="qd/a-99"):
        free_branch("qd/a", {f"refs/heads/qd/a-{n}": "1" for n in range(2, 100)} | {"refs/heads/qd/a": "1"})
