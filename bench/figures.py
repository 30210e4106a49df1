"""Numbers from samples: percentiles, medians over rounds, ratios. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

Figures = dict[str, Any]
"""A tree of figures: names to numbers, or to more of them. None where something was not measured."""

COUNTS = frozenset({"launches", "n"})
"""How much was measured; a ratio of it says nothing."""


def percentile(samples: Sequence[float], percent: float) -> float | None:
    """Return the smallest sample that at least `percent` % of them do not exceed; None of no samples."""
    if not samples:
        return None
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(percent / 100.0 * len(ordered)) - 1)]


def latency_ms(samples_s: Sequence[float]) -> Figures:
    """Return median, 99th percentile and count of samples given in seconds."""
    return {
        "p50": _ms(percentile(samples_s, 50)),
        "p99": _ms(percentile(samples_s, 99)),
        "n": len(samples_s),
    }


def _ms(value_s: float | None) -> float | None:
    return None if value_s is None else rounded(value_s * 1000.0)


def rounded(value: float) -> float:
    """Return `value` with four significant digits."""
    return float(f"{value:.4g}")


def median_of(rounds: Sequence[Figures]) -> Figures:
    """Return the tree whose every number is the median of that number over all rounds; what no round measured stays None."""
    return {name: _median([figures.get(name) for figures in rounds]) for name in _names(rounds)}


def _names(rounds: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for figures in rounds for name in figures))


def _median(values: Sequence[Any]) -> Any:
    trees = [value for value in values if isinstance(value, dict)]
    if trees:
        return median_of(trees)
    numbers = [value for value in values if isinstance(value, (int, float))]
    return rounded(statistics.median(numbers)) if numbers else None


def ratio_of(ours: Figures, limit: Figures) -> Figures:
    """Return ours divided by the limit's, for every number that both have and that is no count."""
    found: Figures = {}
    for name, value in ours.items():
        other = limit.get(name)
        if isinstance(value, dict) and isinstance(other, dict):
            found[name] = ratio_of(value, other)
        elif name not in COUNTS and isinstance(value, (int, float)) and isinstance(other, (int, float)) and other:
            found[name] = rounded(value / other)
    return found


def ratio_over_rounds(ours: Sequence[Figures], limits: Sequence[Figures]) -> Figures:
    """Return the median of the ratios of each round to the limit's round beside it."""
    return median_of([ratio_of(our, limit) for our, limit in zip(ours, limits, strict=True)])
