"""The score card: every figure of trust, measured and written by one command. `python -m tests.scorecard` writes `scorecard.json`.

Each part is a command of its own that prints JSON; the card keeps what it printed, with the command, the commit, when and how long.
Parts that are not run keep what an earlier run found, under the commit of that time. No figure is typed by hand.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
CARD = ROOT / "scorecard.json"


class Part(NamedTuple):
    """A part of the card: its name, what it shows, its command in a long and in a quick form, and how many minutes it may take."""

    name: str
    shows: str
    command: tuple[str, ...]
    quick: tuple[str, ...]
    minutes_max: float


PARTS = (
    Part(
        "simulation",
        "seeded worlds of the real services under faults: violations",
        ("-m", "tests.simulation", "--seeds", "100000", "--jobs", "2", "--minutes", "20"),
        ("-m", "tests.simulation", "--seeds", "200", "--jobs", "2"),
        30,
    ),
    Part(
        "differential",
        "the simulated server against the real one: sequences that differ",
        ("-m", "tests.simulation.differential", "--sequences", "10000"),
        ("-m", "tests.simulation.differential", "--sequences", "300"),
        30,
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
        ("-m", "pytest", "tests/chaos/controls", "tests/simulation/test_controls.py", "-q"),
        ("-m", "pytest", "tests/chaos/controls", "tests/simulation/test_controls.py", "-q"),
        15,
    ),
    Part(
        "planted",
        "planted history bugs that the verifier finds",
        ("-m", "pytest", "tests/unit/audit", "-q"),
        ("-m", "pytest", "tests/unit/audit", "-q"),
        15,
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
    card: dict[str, Any] = json.loads(given.out.read_text()) if given.out.exists() else {"schema": "qd.scorecard/1", "parts": {}}
    failed = []
    for part in PARTS:
        if wanted and part.name not in wanted:
            continue
        print(f"{part.name}: {part.shows} …", file=sys.stderr, flush=True)
        card["parts"][part.name] = found = run(part, part.quick if given.quick else part.command)
        given.out.write_text(json.dumps(card, indent=1, sort_keys=True) + "\n")
        if found["exit"] != 0:
            failed.append(part.name)
    print(json.dumps({"written": str(given.out), "failed": failed}))
    return 1 if failed else 0


def run(part: Part, command: tuple[str, ...]) -> dict[str, Any]:
    """Return what a part printed, with what is to be known of its run."""
    began = time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=part.minutes_max * 60, stdin=subprocess.DEVNULL, check=False
        )
        code, out, err = done.returncode, done.stdout, done.stderr
    except subprocess.TimeoutExpired as late:
        code, out, err = -1, _text(late.stdout), f"not done after {part.minutes_max:g} minutes"
    return {
        "shows": part.shows,
        "command": " ".join(("python", *command)),
        "commit": commit(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "took_s": round(time.monotonic() - began, 1),
        "exit": code,
        "figures": last_object(out) or {"said": out.strip().splitlines()[-3:]},
        **({"error": err.strip().splitlines()[-5:]} if code != 0 else {}),
    }


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
