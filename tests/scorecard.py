"""The score card: every figure of trust, measured and written by one command. `python -m tests.scorecard` writes `scorecard.json`.

Each part is a command of its own that prints JSON; the card keeps what it printed, with the command, the commit, when and how long.
Parts that are not run keep what an earlier run found, under the commit of that time; the short forms (`--quick`) stand beside the
long ones, under `quick`, and never in their place. A part that fails is written down too, and the next one is run. No figure is
typed by hand. Owns the card, which is written after each part, and the processes of the part that runs.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
CARD = ROOT / "scorecard.json"
ENDS_S = 30.0
"""In which a part that took too long has to clean up, before it is killed."""
PASSED = r"(?P<tests_passed>\d+) passed"


class Part(NamedTuple):
    """A part of the card: its name, what it shows, its command in a long and in a quick form, and how many minutes it may take.

    Where it prints no JSON, `reads` are patterns whose named groups are the figures.
    """

    name: str
    shows: str
    command: tuple[str, ...]
    quick: tuple[str, ...]
    minutes_max: float
    reads: tuple[str, ...] = ()


PARTS = (
    Part(
        "simulation",
        "seeded worlds of the real services under faults: violations",
        ("-m", "tests.simulation", "--first", "0", "--seeds", "100000", "--jobs", "2"),
        ("-m", "tests.simulation", "--first", "0", "--seeds", "200", "--jobs", "2"),
        600,
    ),
    Part(
        "differential",
        "the simulated server against the real one: sequences that differ",
        ("-m", "tests.simulation.differential", "--first", "0", "--sequences", "10000"),
        ("-m", "tests.simulation.differential", "--first", "0", "--sequences", "300"),
        30,
        (r"(?P<sequences>\d+) sequences, (?P<answers>\d+) answers compared .*: (?P<diverge>\d+) diverge.* (?P<under_load_only>\d+) differed",),
    ),
    Part(
        "chaos",
        "random faults on real processes: lost, duplicated, stuck, recovery by class",
        ("-m", "tests.chaos.driver", "--minutes", "30"),
        ("-m", "tests.chaos.driver", "--minutes", "2"),
        45,
    ),
    Part(
        "failpoints",
        "each named failpoint with kill and with sleep",
        ("-m", "tests.chaos.driver", "--failpoints", "20"),
        ("-m", "tests.chaos.driver", "--failpoints"),
        90,
    ),
    Part(
        "power",
        "power cuts on a loop file system: acknowledged and lost",
        ("-m", "tests.chaos.power", "--cuts", "30", "--seed", "100"),
        ("-m", "tests.chaos.power", "--cuts", "2", "--seed", "1"),
        40,
    ),
    Part(
        "controls",
        "negative controls: checks that go red when the protection is taken away",
        ("-m", "pytest", "tests/chaos/controls", "tests/simulation/test_controls.py"),
        ("-m", "pytest", "tests/chaos/controls", "tests/simulation/test_controls.py"),
        15,
        (PASSED,),
    ),
    Part(
        "planted",
        "planted history bugs that the verifier finds",
        ("-m", "pytest", "tests/unit/audit"),
        ("-m", "pytest", "tests/unit/audit"),
        15,
        (r"(?P<caught>\d+) of (?P<planted>\d+) planted bugs of (?P<kinds>\d+) kinds caught", PASSED),
    ),
    Part("verifier", "a million events judged: seconds", ("-m", "bench.verify"), ("-m", "bench.verify", "--events", "100000"), 20),
    Part(
        "growth",
        "start-up, memory and cost per launch beside many stored orchestrations",
        ("-m", "bench.growth", "--orchestrations", "1000000"),
        ("-m", "bench.growth", "--orchestrations", "10000"),
        90,
    ),
    Part("coverage", "branches of pure modules", ("-m", "tests.pure_coverage", "--json"), ("-m", "tests.pure_coverage", "--json"), 20),
    Part("mutation", "mutants of the core that the tests kill", ("-m", "tests.mutation"), ("-m", "tests.mutation", "--sample", "200"), 90),
)


def main() -> int:
    """Run the parts and write the card; return 1 when one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the short form of each part")
    parser.add_argument("--only", default="", help=f"comma-separated, of {', '.join(part.name for part in PARTS)}")
    parser.add_argument("--out", type=Path, default=CARD)
    given = parser.parse_args()
    wanted = set(filter(None, given.only.split(",")))
    unknown = wanted - {part.name for part in PARTS}
    if unknown:
        parser.error(f"no part is called {', '.join(sorted(unknown))}")
    failed = []
    for part in PARTS:
        if wanted and part.name not in wanted:
            continue
        print(f"{part.name}: {part.shows} …", file=sys.stderr, flush=True)
        found = run(part, part.quick if given.quick else part.command)
        put(given.out, "quick" if given.quick else "parts", part.name, found)
        print(f"  exit {found['exit']} after {found['took_s']:g} s", file=sys.stderr, flush=True)
        if found["exit"] != 0:
            failed.append(part.name)
    print(json.dumps({"written": str(given.out), "failed": failed}))
    return 1 if failed else 0


def put(file: Path, form: str, name: str, found: dict[str, Any]) -> None:
    """Put what was found of a part into the card, which another run may have written to meanwhile."""
    card: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"schema": "qd.scorecard/1"}
    card.setdefault(form, {})[name] = found
    written = file.with_suffix(f".{os.getpid()}.new")
    written.write_text(json.dumps(card, indent=1, sort_keys=True) + "\n")
    written.replace(file)


def run(part: Part, command: tuple[str, ...]) -> dict[str, Any]:
    """Return what a part printed, with what is to be known of its run."""
    began, revision, at = time.monotonic(), commit(), datetime.now(UTC)
    code, out, err = _ran([sys.executable, *command], part.minutes_max * 60)
    return {
        "shows": part.shows,
        "command": " ".join(("python", *command)),
        "commit": revision,
        "at": at.isoformat(timespec="seconds"),
        "took_s": round(time.monotonic() - began, 1),
        "exit": code,
        "figures": figures(out, part.reads),
        **({"error": (err.strip() or out.strip()).splitlines()[-5:]} if code != 0 else {}),
    }


def _ran(command: list[str], timeout_s: float) -> tuple[int, str, str]:
    """Return exit code, output and errors of a command; -1 where it took too long. Nothing of it is left."""
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        out, err = process.communicate(timeout=timeout_s)
        return process.returncode, out, err
    except subprocess.TimeoutExpired as late:
        _end(process)
        return -1, _text(late.stdout), f"not done after {timeout_s / 60:g} minutes"
    except BaseException:
        _end(process)
        raise


def _end(process: subprocess.Popen[str]) -> None:
    """Let a part clean up, as after Ctrl-C, and kill what is left of it."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=ENDS_S)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for stream in (process.stdout, process.stderr):
        assert stream is not None
        stream.close()


def figures(out: str, reads: tuple[str, ...]) -> dict[str, Any]:
    """Return the figures that a part printed: its last JSON object, or what its patterns find; else its last lines."""
    if not reads:
        return last_object(out) or {"said": out.strip().splitlines()[-3:]}
    found = [last for pattern in reads for last in list(re.finditer(pattern, out))[-1:]]
    return {name: int(value) for match in found for name, value in match.groupdict().items()} or {"said": out.strip().splitlines()[-3:]}


def _text(data: bytes | str | None) -> str:
    return data.decode(errors="replace") if isinstance(data, bytes) else data or ""


def last_object(text: str) -> dict[str, Any] | None:
    """Return the last JSON object that a text ends with, or None."""
    decoder = json.JSONDecoder()
    found: dict[str, Any] | None = None
    place = text.find("{")
    while place >= 0:
        try:
            value, end = decoder.raw_decode(text, place)
        except json.JSONDecodeError:
            place = text.find("{", place + 1)
            continue
        if isinstance(value, dict):
            found = value
        place = text.find("{", end)
    return found


def commit() -> str:
    """Return the commit of the checkout, with a `+` when something is changed beside it."""
    head = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    changed = subprocess.run(["git", "status", "--porcelain", "--untracked-files=no"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return head + ("+" if any(not line.endswith("scorecard.json") for line in changed.splitlines()) else "")


if __name__ == "__main__":
    sys.exit(main())
