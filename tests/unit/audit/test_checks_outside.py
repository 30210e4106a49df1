"""Checks of what lies around the system."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from cli.audit import checks_outside as checks
from cli.audit.evidence import Evidence, Repository, RepositoryState
from tests.unit.audit.kept import found

BEFORE = RepositoryState({"refs/heads/main": "c0", "refs/tags/v1": "c0"}, "ref: refs/heads/main", "i0", {"dirty.txt": "h0"})


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"refs": {"refs/heads/main": "c7", "refs/tags/v1": "c0"}}, "refs/heads/main was c0 and is c7"),
        ({"refs": {"refs/heads/main": "c0"}}, "refs/tags/v1 was c0 and is gone"),
        ({"files": {"dirty.txt": "h0", "new.txt": "h1"}}, "file new.txt was not there and is h1"),
        ({"head": "c0"}, "HEAD was ref: refs/heads/main and is c0"),
        ({"index": "i9"}, "the index was i0 and is i9"),
    ],
    ids=["ref moved", "ref gone", "file", "HEAD", "index"],
)
def test_a_repository_is_left_as_it_was(change: dict[str, Any], text: str) -> None:
    touched = Repository("/repo", BEFORE, replace(BEFORE, **change))
    assert found(checks.repositories_untouched, Evidence(repositories=[touched])) == [("/repo", text)]


@pytest.mark.parametrize("ref", ["refs/heads/qd/basket", "refs/qd/o1/r1.1"])
def test_refs_of_ours_may_come_and_go(ref: str) -> None:
    ours = replace(BEFORE, refs={**BEFORE.refs, ref: "c9"})
    repositories = [Repository("/repo", BEFORE, ours), Repository("/other", ours, BEFORE)]
    assert found(checks.repositories_untouched, Evidence(repositories=repositories)) == []
