"""Mutation testing of the core with mutmut: `just mutation`. Prints JSON; exits 1 where the score is below the goal.

The tree is copied into a folder of its own first, so that a change made meanwhile is not tested half. Which modules are mutated and
by which tests is `[tool.mutmut]` in pyproject.toml; why, is in docs/adr/0011-mutation-testing.md.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from tests.mutation.equivalent import change_of, known

ROOT = Path(__file__).parents[2]
COPIED = ("bus_schemas", "bus", "controller", "node_agent", "timeline", "cli", "tests", "docs", "pyproject.toml", "README.md")
GOAL = 0.85
STATUS = {0: "survived", 1: "killed", 3: "killed", 5: "no_tests", 33: "no_tests", None: "not_checked"}
"""Of mutmut's exit codes; every other one says that time was up, or that the process died of the mutant."""


def copied(folder: Path) -> None:
    """Put the tree into `folder`, without caches and histories."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".hypothesis", "wire", "*.duckdb"))
        else:
            shutil.copy(source, folder / name)


def mutmut(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run mutmut in `folder` and wait for it."""
    # what it says goes over the same line again and again: kept for a failure only
    return subprocess.run([sys.executable, "-m", "mutmut", *arguments], cwd=folder, capture_output=True, text=True, check=False)


def tried(folder: Path, chosen: list[str], processes: int) -> dict[str, int]:
    """Try the mutants with the selection of tests, in several processes; return mutmut's code for what became of each."""
    tree = folder / "mutants"
    settings = tomllib.loads((folder / "pyproject.toml").read_text())["tool"]["mutmut"]
    wishes = folder / "wishes"
    wishes.write_text("\n".join(chosen))
    command = [sys.executable, "-m", "pytest", "-p", "tests.mutation.trial", *settings["pytest_add_cli_args"]]
    command += settings["pytest_add_cli_args_test_selection"]
    environment = {**os.environ, "PYTHONPATH": str(tree), "QD_MUTANTS": str(wishes)}
    running = [
        subprocess.Popen(command, cwd=tree, env={**environment, "QD_MUTANTS_PART": f"{part}/{processes}"}, stdout=subprocess.PIPE, text=True)
        for part in range(processes)
    ]
    said = [process.communicate()[0] for process in running]
    found: dict[str, int] = {}
    for part, text in enumerate(said):
        path = folder / f"wishes.{part}"
        if not path.is_file():
            raise SystemExit(f"the trial did not end well:\n{text[-4000:]}")
        found |= {mutant: int(code) for mutant, code in (line.split() for line in path.read_text().splitlines())}
    return found


def exit_codes(folder: Path) -> dict[str, int | None]:
    """Return the exit code of each mutant by its name; None where it was not run."""
    found: dict[str, int | None] = {}
    for path in sorted((folder / "mutants" / "controller").glob("*.py.meta")):
        found |= json.loads(path.read_text())["exit_code_by_key"]
    return found


def function_of(mutant: str) -> str:
    """Return the function that a mutant is of, as `module.name` or `module.Class.name`."""
    whole = mutant.rpartition("__mutmut_")[0].removeprefix("controller.")
    module, _, name = whole.partition(".")
    return f"{module}.{name.removeprefix('x_').removeprefix('xǁ').replace('ǁ', '.')}"


def score_of(counts: Counter[str]) -> float:
    """Return the part that was killed of what could be; a mutant whose time was up was noticed too."""
    possible = sum(counts.values()) - counts["equivalent"] - counts["not_checked"]
    return (counts["killed"] + counts["timeout"]) / possible if possible else 1.0


def figures(counts: Counter[str]) -> dict[str, Any]:
    """Return what is printed of a module, or of all."""
    names = ("killed", "survived", "timeout", "no_tests", "equivalent", "not_checked")
    return {"mutants": sum(counts.values()), **{name: counts[name] for name in names}, "score": round(score_of(counts), 4)}


def judge(folder: Path, codes: dict[str, int]) -> tuple[dict[str, Counter[str]], list[dict[str, str]]]:
    """Return the counts by module, and what survived and can be told."""
    equivalents = known()
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    survivors: list[dict[str, str]] = []
    for mutant, code in codes.items():
        status, function = STATUS.get(code, "timeout"), function_of(mutant)
        if status in ("survived", "no_tests"):
            change = change_of(function, mutmut(folder, "show", mutant).stdout)
            if change in equivalents:
                status = "equivalent"
            else:
                survivors.append({"mutant": mutant, "status": status, "before": change.before, "after": change.after})
        counts[function.partition(".")[0]][status] += 1
    return counts, survivors


def main() -> int:
    """Run, print, and return 0 when the goal is reached."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=int, help="so many mutants instead of all, chosen by --seed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", default="", help="mutants whose names start so, such as controller.progress")
    parser.add_argument("--survivors", type=Path, help="a file to write what survived to, as JSON lines")
    arguments = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="qd-mutation-") as name:
        folder = Path(name)
        copied(folder)
        done = mutmut(folder, "run", "--max-children", "1", "controller.none*")  # makes the mutants, runs none
        names = sorted(mutant for mutant in exit_codes(folder) if mutant.startswith(arguments.only))
        if not names:
            print(done.stdout[-4000:], done.stderr[-4000:], file=sys.stderr)
            return 2
        size = len(names) if arguments.sample is None else min(arguments.sample, len(names))
        chosen = random.Random(arguments.seed).sample(names, size)
        by_module, survivors = judge(folder, tried(folder, chosen, arguments.processes))
    if arguments.survivors is not None:
        arguments.survivors.write_text("".join(json.dumps(survivor, ensure_ascii=False) + "\n" for survivor in survivors))
    total = sum(by_module.values(), Counter[str]())
    answer = {
        **figures(total),
        "sample": arguments.sample,
        "seed": arguments.seed if arguments.sample is not None else None,
        "seconds": round(time.monotonic() - started),
        "by_module": {module: figures(counts) for module, counts in sorted(by_module.items())},
    }
    print(json.dumps(answer, indent=2))
    return int(score_of(total) < GOAL)


if __name__ == "__main__":
    sys.exit(main())
