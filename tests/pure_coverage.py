"""Branch coverage of every shipped pure module, by the unit tests and the golden files. Exits 1 below 100 %.

`python -m tests.pure_coverage` runs the tests and prints what is left, one line for each module; with `--json` figures by package.
Pure is what `tests/test_architecture.py` holds to purity: the listed core, and every module whose docstring says so.
"""

from __future__ import annotations

import argparse
import ast
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from tests.test_architecture import MODULES, ROOT, SHIPPED, Module

TESTS = ("tests/unit", "tests/golden")


class Gap(NamedTuple):
    """What no test reached in a module: lines, and jumps from line to line."""

    lines: tuple[int, ...]
    jumps: tuple[tuple[int, int], ...]


def pure_modules() -> list[Module]:
    """Return the shipped modules that say they are pure, by name."""
    return sorted((module for module in MODULES.values() if module.is_pure and module.package in SHIPPED), key=lambda module: module.name)


def gap_of(module: Module, measured: dict[str, Any]) -> Gap:
    """Return what is left in a module of a coverage report. No match falls through its last case: mypy proves each exhaustive."""
    bodies = {node.cases[-1].pattern.lineno: node.cases[-1].body[0].lineno for node in ast.walk(module.tree) if isinstance(node, ast.Match)}
    jumps = tuple((a, b) for a, b in measured["missing_branches"] if a not in bodies or b == bodies[a])
    return Gap(tuple(measured["missing_lines"]), jumps)


def measure(tests: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Run the tests and return coverage's report of each pure module, by name."""
    modules = pure_modules()
    with tempfile.TemporaryDirectory() as folder:
        data, report = Path(folder, "coverage"), Path(folder, "report.json")
        include = ",".join(str(module.path.relative_to(ROOT)) for module in modules)
        source = ",".join(sorted({module.package for module in modules}))
        run = [sys.executable, "-m", "coverage", "run", "--branch", f"--data-file={data}", f"--source={source}", "-m", "pytest", *tests]
        done = subprocess.run([*run, "-p", "no:cacheprovider"], cwd=ROOT, check=False)
        if done.returncode != 0:
            raise SystemExit(f"the tests ended with {done.returncode}: what they reached says nothing")
        subprocess.run(
            [sys.executable, "-m", "coverage", "json", f"--data-file={data}", f"--include={include}", "-o", str(report), "-q"], cwd=ROOT, check=True
        )
        files = json.loads(report.read_text())["files"]
    return {module.name: files[str(module.path.relative_to(ROOT))] for module in modules if str(module.path.relative_to(ROOT)) in files}


def main() -> int:
    """Print what is left; return 1 where something is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="figures by package, as JSON")
    parser.add_argument("tests", nargs="*", default=TESTS)
    arguments = parser.parse_args()
    measured = measure(tuple(arguments.tests))
    totals: dict[str, dict[str, int]] = defaultdict(lambda: {"modules": 0, "statements": 0, "branches": 0, "lines_left": 0, "branches_left": 0})
    for module in pure_modules():
        if module.name not in measured:
            print(f"{module.name}: never imported", file=sys.stderr)
            totals[module.package]["lines_left"] += 1
            continue
        gap, summary = gap_of(module, measured[module.name]), measured[module.name]["summary"]
        total = totals[module.package]
        total["modules"] += 1
        total["statements"] += summary["num_statements"]
        total["branches"] += summary["num_branches"]
        total["lines_left"] += len(gap.lines)
        total["branches_left"] += len(gap.jumps)
        if gap.lines or gap.jumps:
            jumps = " ".join(f"{a}->{b if b > 0 else 'exit'}" for a, b in gap.jumps)
            print(f"{module.name}: lines {list(gap.lines)} jumps {jumps}", file=sys.stderr)
    print(json.dumps(totals, indent=2) if arguments.json else f"{len(measured)} pure modules measured")
    return int(any(total["lines_left"] or total["branches_left"] for total in totals.values()))


if __name__ == "__main__":
    sys.exit(main())
