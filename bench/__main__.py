"""`python -m bench`: figure A of Quarterdeck and of the limit, round by round beside each other, as one JSON document on stdout.

Everything runs on throw-away data; progress goes to stderr. Only ratios mean something on a machine that does other things.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import msgspec

from bench import work
from bench.figures import Figures, median_of, ratio_over_rounds
from bench.machine import machine
from bench.pipeline import WARM_LAUNCHES, WINDOW, Sizes
from bench.replay import replay
from bench.work import Then

ROUND_TIMEOUT_S = 300.0
RECEIPT_P50_MS_MAX = 5.0


class Plan(NamedTuple):
    """What a bench does."""

    rounds: int
    sizes: Sizes
    then: Then
    replayed: int


QUICK = Plan(rounds=1, sizes=Sizes(launches=64, singles=10, paced_s=0.5), then=Then.FAIL, replayed=20)


class RoundFailed(Exception):
    """A round did not give figures; the message ends with what it wrote."""


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def one_round(pipeline: str, plan: Plan, data: Path) -> Figures:
    """Return the figures of one round, which is a process of its own. Raises RoundFailed."""
    data.mkdir()
    sizes = plan.sizes
    arguments = ["--launches", str(sizes.launches), "--singles", str(sizes.singles), "--paced-s", str(sizes.paced_s), "--then", plan.then]
    command = [sys.executable, "-m", "bench.round", pipeline, "--data", str(data), *arguments]
    begun = time.monotonic()
    # a session of its own: whatever becomes of it, its children are found and stopped
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    try:
        out, err = child.communicate(timeout=ROUND_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise RoundFailed(f"a round of {pipeline} took longer than {ROUND_TIMEOUT_S:g} s") from error
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    if child.returncode != 0:
        raise RoundFailed(f"a round of {pipeline} ended with {child.returncode}:\n{err.decode(errors='replace')[-3000:]}")
    figures: Figures = msgspec.json.decode(out)
    receipt = figures["receipt_ms"]["p50"]
    _say(f"{pipeline}: {figures['launches_per_s']:g} launches/s, receipt p50 {receipt:g} ms ({time.monotonic() - begun:.0f} s)")
    return figures


def bench(plan: Plan) -> Figures:
    """Run all rounds, A B A B, and return the document. Raises RoundFailed."""
    ours: list[Figures] = []
    limits: list[Figures] = []
    with tempfile.TemporaryDirectory(prefix="quarterdeck-bench-") as folder:
        data = Path(folder)
        where = machine(data)
        for number in range(plan.rounds):
            ours.append(one_round("quarterdeck", plan, data / f"quarterdeck-{number}"))
            limits.append(one_round("limit", plan, data / f"limit-{number}"))
    ratios = ratio_over_rounds(ours, limits)
    quarterdeck = median_of(ours)
    return {
        "figure": "A: launch accepted, init ended, each recorded and shown by a query",
        "machine": where,
        "settings": _settings(plan),
        "quarterdeck": quarterdeck,
        "limit": median_of(limits),
        "ratio": ratios,
        "targets": {
            "launches_per_s_at_least_the_limit": ratios["launches_per_s"] >= 1.0,
            "receipt_p50_at_most_5_ms": quarterdeck["receipt_ms"]["p50"] <= RECEIPT_P50_MS_MAX,
        },
        "rounds": {"quarterdeck": ours, "limit": limits},
        "replay": replay(plan.replayed),
    }


def _settings(plan: Plan) -> Figures:
    return {
        "sync_interval": "always",
        "rounds": plan.rounds,
        "launches": plan.sizes.launches,
        "warm_launches": min(WARM_LAUNCHES, plan.sizes.launches),
        "singles": plan.sizes.singles,
        "clients": 1,
        "window": WINDOW,
        "nodes": len(work.NODES),
        "node_processes": len(work.NODE_PROCESSES),
        "node_capacity": work.NODE_CAPACITY,
        "executor": f"null, then {plan.then}",
    }


def _plan(arguments: list[str]) -> Plan:
    parser = argparse.ArgumentParser(prog="bench", description="Measure figure A; one JSON document on stdout.")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each pipeline, in turn")
    parser.add_argument("--launches", type=int, default=2000, help="launches submitted as fast as possible")
    parser.add_argument("--latency", type=int, default=200, help="launches submitted one by one")
    parser.add_argument("--then", type=Then, choices=list(Then), default=Then.FAIL, help="how the null executor ends an orchestration")
    parser.add_argument("--quick", action="store_true", help="a few seconds: shows that it works, measures nothing")
    found = parser.parse_args(arguments)
    if found.quick:
        return QUICK
    return Plan(max(1, found.rounds), Sizes(max(1, found.launches), max(1, found.latency), paced_s=5.0), found.then, replayed=1000)


def main(arguments: list[str]) -> int:
    """Print the document; return the exit code: 1 when a round failed."""
    try:
        document = bench(_plan(arguments))
    except RoundFailed as error:
        _say(str(error))
        return 1
    print(msgspec.json.format(msgspec.json.encode(document)).decode())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
