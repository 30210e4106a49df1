"""`python -m tests.simulation`: run one seed, many seeds, or a schedule; shrink one that fails."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import msgspec

from tests.simulation import exhaustive
from tests.simulation.campaign import campaign, lower_priority
from tests.simulation.schedule import Schedule, generate
from tests.simulation.shrink import shrink
from tests.simulation.world import Result, play


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this seed and print its trace hash")
    parser.add_argument("--schedule", type=Path, help="run the schedule of this file instead")
    parser.add_argument("--seeds", type=int, help="run so many seeds")
    parser.add_argument("--first", type=int, default=0, help="the first of many seeds")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--minutes", type=float, help="stop after so many minutes")
    parser.add_argument("--shrink", type=Path, metavar="FILE", help="reduce the failing seed or schedule, and write it there")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the schedule of the seed there")
    parser.add_argument("--exhaustive", metavar="PROCESS", help="kill this process (c1, n1, k1) at every step of a short scenario")
    parser.add_argument("--every", type=int, default=1, help="with --exhaustive: at every n-th step only")
    parser.add_argument("--verbose", action="store_true", help="tell what happens")
    parser.add_argument("--summary", type=Path, metavar="FILE", help="write the summary there too")
    return parser.parse_args()


def _tell(result: Result) -> int:
    print(f"seed {result.seed}: {result.hash}, {result.steps} steps, {result.virtual_s:.1f} virtual s, faults {result.faults}")
    for violation in result.violations:
        print(f"  {violation.invariant}: {violation.text}")
    if result.violations:
        print(result.dump)
    return 1 if result.violations else 0


def _shrunk(schedule: Schedule, file: Path) -> int:
    wanted = {violation.invariant for violation in play(schedule).violations}
    if not wanted:
        print("this schedule does not fail")
        return 1
    small = shrink(schedule, lambda candidate: bool(wanted & {violation.invariant for violation in play(candidate).violations}))
    file.write_bytes(msgspec.json.format(msgspec.json.encode(small), indent=1))
    print(f"{len(schedule.ops)} commands and {len(schedule.faults)} faults became {len(small.ops)} and {len(small.faults)}; written to {file}")
    return _tell(play(small))


def main() -> int:
    """Do what was asked; return 0 when nothing failed."""
    options = _options()
    if options.seeds is not None:
        lower_priority()
        summary = campaign(options.first, options.seeds, options.jobs, options.minutes, lambda text: print(text, file=sys.stderr, flush=True))
        text = json.dumps(summary.as_object(), indent=1)
        print(text)
        if options.summary:
            options.summary.write_text(text)
        return 1 if summary.failures else 0
    if options.exhaustive:
        return exhaustive.main(options.exhaustive, options.every)
    schedule = msgspec.json.decode(options.schedule.read_bytes(), type=Schedule) if options.schedule else generate(options.seed or 0)
    if options.write:
        options.write.write_bytes(msgspec.json.format(msgspec.json.encode(schedule), indent=1))
    if options.shrink:
        return _shrunk(schedule, options.shrink)
    return _tell(play(schedule, print if options.verbose else None))


if __name__ == "__main__":
    sys.exit(main())
