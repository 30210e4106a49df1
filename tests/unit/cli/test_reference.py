"""The page docs/cli.md, the tree of verbs, and what a verb imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cli import reference
from cli.commands import VERBS, build

ROOT = Path(__file__).parents[3]

HEAVY = ("duckdb", "pyarrow", "pydantic", "rich.console", "rich.table", "nats.micro", "uvloop", "controller", "timeline", "node_agent", "anyio")
"""What a verb that reads must not pay for."""


def words() -> list[str]:
    """Return every verb as it is typed."""
    app = build(whole=True)
    found: list[str] = []
    for name in (name for verbs in VERBS.values() for name, _ in verbs):
        inner = [word for word in app[name] if not word.startswith("-")]
        found += [f"{name} {word}" for word in inner] if inner else [name]
    return found


def test_the_page_is_what_the_help_texts_say() -> None:
    assert (ROOT / "docs" / "cli.md").read_text() == reference.markdown(), "run: python -m cli.reference > docs/cli.md"


@pytest.mark.parametrize("word", words())
def test_each_verb_stands_in_the_page_and_says_what_it_does(word: str) -> None:
    app = build(whole=True)
    for part in word.split():
        app = app[part]
    assert app.help.strip().endswith((".", "`."))
    assert f"## `qd {word}`" in (ROOT / "docs" / "cli.md").read_text()


def test_a_verb_that_reads_imports_nothing_heavy() -> None:
    code = (
        "import sys; from cli.main import execute; execute(['ls', '-o', 'json', '--server', 'nats://127.0.0.1:1']);"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60, check=True)
    assert "unreachable" in done.stderr
    assert done.stdout.strip() == "[]"


def test_the_demo_design_is_one_that_the_shell_agent_can_run() -> None:
    from importlib import resources

    from bus_schemas.design import phase_problems, shell_phase

    body = resources.files("cli").joinpath("demo_design.md").read_text()
    assert phase_problems(body) == ()
    phases = [shell_phase(body, number) for number in (1, 2)]
    assert [len(phase.tasks) for phase in phases] == [3, 2]
    assert all(phase.check and not phase.problems for phase in phases)
