"""The house: who may import whom, which rooms are pure, how large a room may be."""

from __future__ import annotations

import ast
import importlib
import io
import re
import tokenize
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
DISTRIBUTION = "quarterdeck"
SHIPPED: tuple[str, ...] = tuple(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
PACKAGES = (*SHIPPED, "bench")

SERVICES = ("controller", "node_agent", "timeline")
MAY_IMPORT: dict[str, frozenset[str]] = {
    "bus_schemas": frozenset(),
    "bus": frozenset({"bus_schemas"}),
    **dict.fromkeys(SERVICES, frozenset({"bus_schemas", "bus"})),
    "console": frozenset({"bus_schemas", "bus"}),
    "cli": frozenset({"bus_schemas", "bus", *SERVICES, "console"}),
    "bench": frozenset({"bus_schemas", "bus", *SERVICES, "cli"}),
}
OWNERS: dict[str, frozenset[str]] = {
    "nats": frozenset({"bus", "bench"}),  # the bench measures against a bare pipeline
    "nkeys": frozenset({"bus"}),
    "duckdb": frozenset({"timeline"}),
    "pyarrow": frozenset({"timeline"}),
    "cyclopts": frozenset({"cli"}),
    "rich": frozenset({"cli"}),
    "starlette": frozenset({"console"}),
    "jinja2": frozenset({"console"}),
    "uvicorn": frozenset({"console"}),
}
"""Libraries that one package hides from the others."""

PURE = (
    *(f"bus_schemas.{path.stem}" for path in sorted((ROOT / "bus_schemas").glob("*.py")) if path.stem != "__init__"),
    *(
        f"controller.{name}"
        for name in (
            "budgets",
            "catalogue",
            "control",
            "decide",
            "draft",
            "evolution",
            "heads",
            "launch",
            "leases",
            "orchestration",
            "placement",
            "plan",
            "policy_changes",
            "progress",
            "project",
            "projections",
            "reports",
            "standing",
            "task_changes",
            "tasks",
            "verdicts",
            "why",
            "work_orders",
        )
    ),
    "node_agent.attempt",
    "node_agent.verdict",
    "timeline.alarm",
    "timeline.changes",
    "timeline.projection",
    "timeline.summaries",
    *(".".join(path.relative_to(ROOT).with_suffix("").parts) for path in sorted((ROOT / "cli" / "render").glob("[!_]*.py"))),
    "cli.audit.export",
    "cli.audit.notes",
    "cli.audit.report",
    "cli.exits",
    "cli.receipts",
    "cli.table",
    "cli.text",
)
"""Modules that have to be pure; others are held to it when their docstring says so."""

IMPURE_MODULES = frozenset(
    [
        "aiohttp",
        "anyio",
        "asyncio",
        "concurrent",
        "contextvars",
        "ctypes",
        "duckdb",
        "fcntl",
        "glob",
        "http",
        "httpx",
        "importlib",
        "inspect",
        "locale",
        "logging",
        "multiprocessing",
        "nats",
        "os",
        "platform",
        "psutil",
        "pwd",
        "queue",
        "random",
        "resource",
        "secrets",
        "select",
        "selectors",
        "shutil",
        "socket",
        "sqlite3",
        "ssl",
        "subprocess",
        "sys",
        "tempfile",
        "threading",
        "time",
        "urllib",
        "uuid",
        "uvloop",
        "warnings",
    ]
)
IMPURE_CALLS = frozenset(["open", "print", "input", "exec", "eval", "compile", "breakpoint", "__import__", "globals", "vars", "id"])
IMPURE_METHODS = frozenset(
    [
        "now",
        "utcnow",
        "today",
        "fromtimestamp",
        "read_text",
        "read_bytes",
        "write_text",
        "write_bytes",
        "mkdir",
        "rmdir",
        "unlink",
        "touch",
        "iterdir",
        "glob",
        "rglob",
        "stat",
        "lstat",
        "exists",
        "is_file",
        "is_dir",
        "is_symlink",
        "resolve",
        "cwd",
        "home",
        "expanduser",
        "chmod",
        "symlink_to",
        "hardlink_to",
        "getenv",
        "urandom",
    ]
)
EXCEPTIONS: dict[str, frozenset[str]] = {
    "timeline.reports": frozenset({".read_text()"}),  # its own reports.sql, once, when it is imported
    "cli.reference": frozenset({"sys"}),  # a script too: cyclopts takes the name of the program from there
}
CLAIM = re.compile(r"\bPure(?! but for\b)\b")
LINES_MAX = 500
FUNCTION_LINES_MAX = 60
NAMES_OF_NOTHING = frozenset(["util", "utils", "helper", "helpers", "common", "manager", "managers", "base", "misc", "tools", "lib", "shared"])


class Module(NamedTuple):
    """A module of ours: its dotted name and its syntax tree."""

    name: str
    path: Path
    tree: ast.Module

    @property
    def package(self) -> str:
        return self.name.partition(".")[0]

    @property
    def is_pure(self) -> bool:
        return CLAIM.search(ast.get_docstring(self.tree) or "") is not None


def _modules() -> Iterator[Module]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield Module(".".join(parts[:-1] if parts[-1] == "__init__" else parts), path, ast.parse(path.read_bytes()))


MODULES = {module.name: module for module in _modules()}
by_module = pytest.mark.parametrize("module", MODULES.values(), ids=MODULES)


def imported(module: Module) -> list[str]:
    """Return the dotted names that a module imports anywhere; a submodule of ours by its own name."""
    found: list[str] = []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module.name} imports by dots; say the whole name"
            source = node.module or ""
            found += [name if (name := f"{source}.{alias.name}") in MODULES else source for alias in node.names]
    return found


def impurities(tree: ast.Module) -> list[tuple[int, str]]:
    """Return what in a tree touches the world, or waits, each with its line."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        match node:
            case ast.AsyncFunctionDef() | ast.Await() | ast.AsyncFor() | ast.AsyncWith() | ast.Global():
                found.append((node.lineno, type(node).__name__))
            case ast.Call(func=ast.Name(id=name)) if name in IMPURE_CALLS:
                found.append((node.lineno, f"{name}()"))
            case ast.Call(func=ast.Attribute(attr=name)) if name in IMPURE_METHODS:
                found.append((node.lineno, f".{name}()"))
            case _:
                pass
    return found


# ── directions ───────────────────────────────────────────────────────────────────────────────────────────────────────


@by_module
def test_a_module_imports_from_packages_below_its_own(module: Module) -> None:
    ours = {name.partition(".")[0] for name in imported(module)} & {*MAY_IMPORT, "tests"}
    assert ours - MAY_IMPORT[module.package] - {module.package} == set()


@by_module
def test_a_library_is_imported_by_the_package_that_hides_it(module: Module) -> None:
    libraries = {name.partition(".")[0] for name in imported(module)} & set(OWNERS)
    assert {library for library in libraries if module.package not in OWNERS[library]} == set()


def test_the_contract_needs_msgspec_and_the_standard_library_only() -> None:
    found = {name.partition(".")[0] for module in MODULES.values() if module.package == "bus_schemas" for name in imported(module)}
    assert found - {"bus_schemas"} <= {"__future__", "collections", "datetime", "enum", "functools", "hashlib", "json", "msgspec", "re", "typing"}


def test_every_package_that_is_shipped_has_a_direction() -> None:
    assert set(SHIPPED) <= set(MAY_IMPORT)
    assert all((ROOT / package / "__init__.py").is_file() for package in PACKAGES)


# ── purity ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", PURE)
def test_a_module_of_the_core_says_that_it_is_pure_and_imports_nothing_that_is_not(name: str) -> None:
    assert MODULES[name].is_pure, f"the docstring of {name} does not say so"
    ours = {found for found in imported(MODULES[name]) if found in MODULES}
    assert {found for found in ours if not MODULES[found].is_pure} == set()


@pytest.mark.parametrize("module", [module for module in MODULES.values() if module.is_pure], ids=lambda module: module.name)
def test_a_pure_module_has_no_clock_no_chance_no_world_and_does_not_wait(module: Module) -> None:
    worldly = [name for name in imported(module) if name.partition(".")[0] in IMPURE_MODULES]
    found = {*worldly, *(what for _, what in impurities(module.tree))}
    assert found - EXCEPTIONS.get(module.name, frozenset()) == set()


@pytest.mark.parametrize(
    "source",
    [
        "async def f(): pass",
        "def f():\n    return open('x')",
        "x = datetime.now(UTC)",
        "x = date.today()",
        "x = Path('a').read_text()",
        "print(1)",
        "def f():\n    global x",
        "async def f():\n    await g()",
    ],
)
def test_the_scan_finds_what_is_not_pure(source: str) -> None:
    assert impurities(ast.parse(source))


# ── size and names ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_no_module_has_more_lines_than_one_noun_needs() -> None:
    sizes = {name: len(module.path.read_text().splitlines()) for name, module in MODULES.items()}
    assert {name: lines for name, lines in sizes.items() if lines > LINES_MAX} == {}


def test_no_function_decides_and_does_at_such_length() -> None:
    long = {
        f"{name}.{node.name}": lines
        for name, module in MODULES.items()
        for node in ast.walk(module.tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and (lines := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES_MAX
    }
    assert long == {}


@by_module
def test_a_module_is_called_by_its_noun(module: Module) -> None:
    assert not set(module.name.split(".")) & NAMES_OF_NOTHING


@by_module
def test_a_module_says_what_it_is(module: Module) -> None:
    assert (ast.get_docstring(module.tree) or "").strip()


@by_module
def test_no_comment_puts_something_off(module: Module) -> None:
    comments = [token.string for token in tokenize.generate_tokens(io.StringIO(module.path.read_text()).readline) if token.type == tokenize.COMMENT]
    assert [comment for comment in comments if re.search(r"\b(TODO|FIXME|XXX|HACK)\b", comment)] == []


# ── the name space ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("package", SHIPPED)
def test_no_installed_dependency_ships_one_of_our_names(package: str) -> None:
    owners = {name.lower() for name in packages_distributions().get(package, [])}
    assert owners <= {DISTRIBUTION}
    found = importlib.import_module(package).__file__
    assert found is not None
    assert Path(found).resolve().is_relative_to(ROOT)
