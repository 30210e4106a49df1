"""The bench works: the document has its shape and its counts are right. Nothing is said of times."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.figures import latency_ms, median_of, percentile, ratio_of, ratio_over_rounds
from bench.freshness import Look, ages_s
from bench.watch import LedgerEntry

ROOT = Path(__file__).parents[2]


def test_the_quick_bench_prints_one_document_with_both_pipelines_and_their_ratio() -> None:
    done = subprocess.run([sys.executable, "-m", "bench", "--quick"], cwd=ROOT, capture_output=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr.decode()
    document: dict[str, Any] = json.loads(done.stdout)

    for pipeline in ("quarterdeck", "limit"):
        (figures,) = document["rounds"][pipeline]
        assert figures["launches"] == 64
        assert {figures[name]["n"] for name in ("receipt_ms", "done_ms", "duplicate_ms")} == {10}
        assert figures["messages_per_launch"]["CMD"] == figures["messages_per_launch"]["WORK"] == 1
        assert figures["messages_per_launch"]["REP"] == 2
    ours, limit = document["quarterdeck"], document["limit"]
    assert limit["messages_per_launch"]["LEDGER"] == 2
    assert ours["messages_per_launch"]["LEDGER"] < 2
    assert ours["freshness_ms"]["n"] > 0
    assert "freshness_ms" not in limit
    processes = {"client", "nats-server", "controller", "nodes-0", "nodes-1", "total"}
    assert set(ours["rss_peak_mb"]) == set(ours["cpu_ms_per_launch"]) == processes | {"timeline"}
    assert set(limit["rss_peak_mb"]) == set(limit["cpu_ms_per_launch"]) == processes
    assert ours["rss_peak_mb"]["total"] > 0
    assert {"launches_per_s", "receipt_ms", "done_ms", "duplicate_ms", "rss_peak_mb", "cpu_ms_per_launch"} <= set(document["ratio"])
    assert document["settings"]["sync_interval"] == "always"
    assert document["settings"]["executor"].startswith("null")
    replayed = document["replay"]
    assert replayed["decisions"] > replayed["orchestrations"] == 20
    assert replayed["replay_events_per_s"] > 0


def test_a_percentile_is_a_sample_that_enough_samples_do_not_exceed() -> None:
    samples = [float(number) for number in range(100, 0, -1)]
    assert (percentile(samples, 50), percentile(samples, 99), percentile(samples, 100)) == (50.0, 99.0, 100.0)
    assert (percentile([7.0], 1), percentile([], 50)) == (7.0, None)
    assert latency_ms([0.002, 0.001, 0.003]) == {"p50": 2.0, "p99": 3.0, "n": 3}


def test_a_median_over_rounds_keeps_the_tree_and_passes_over_what_a_round_did_not_measure() -> None:
    rounds = [{"a": 1, "b": {"c": 10.0}}, {"a": 3, "b": {"c": 30.0}}, {"a": 2, "b": {"c": None}}]
    assert median_of(rounds) == {"a": 2.0, "b": {"c": 20.0}}


def test_ratios_are_taken_round_by_round_and_only_of_what_both_have() -> None:
    ours = [{"rate": 100.0, "ms": {"p50": 4.0, "n": 5}, "own": 1.0}, {"rate": 50.0, "ms": {"p50": 8.0, "n": 5}, "own": 1.0}]
    limits = [{"rate": 200.0, "ms": {"p50": 2.0, "n": 5}}, {"rate": 50.0, "ms": {"p50": 4.0, "n": 5}}]
    assert ratio_over_rounds(ours, limits) == {"rate": 0.75, "ms": {"p50": 2.0}}
    assert ratio_of({"rate": 1.0}, {"rate": 0.0}) == {}


def test_a_ledger_message_is_as_old_as_it_was_when_a_look_first_showed_it() -> None:
    entries = [LedgerEntry(5, 100.0, 1), LedgerEntry(6, 100.1, 1), LedgerEntry(9, 100.2, 1)]
    looks = [Look(100.05, 4), Look(100.15, 6), Look(100.3, 6)]
    assert ages_s(entries, looks) == pytest.approx([0.15, 0.05])
