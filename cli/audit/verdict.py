"""The verdict: what is wrong with the evidence of a run, which invariants were checked over how much of it, and which could not be. Pure."""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Struct

from bus_schemas.violation import Violation


class Recovery(Struct, frozen=True):
    """How fast answers came again after faults of a class, in seconds from heal to first answer. `open` had none."""

    faults: int
    p50_s: float | None
    p99_s: float | None
    max_s: float | None
    open: int = 0


class Figures(Struct, frozen=True):
    """What was counted on the way. Of the calls without an answer, `recovered` stand in the ledger and `absent` do not."""

    messages: int = 0
    decisions: int = 0
    events: int = 0
    unknown_events: int = 0
    actions: int = 0
    orchestrations: int = 0
    attempts: int = 0
    calls: int = 0
    calls_unknown: int = 0
    recovered: int = 0
    absent: int = 0
    acknowledged_lost: int = 0
    duplicated: int = 0
    stuck: int = 0
    starts_witnessed: int = 0
    recovery: dict[str, Recovery] = {}


class Verdict(Struct, frozen=True):
    """The judgement. `checked` counts what each invariant was checked over; `skipped` says for want of what it was not (wholly)."""

    violations: tuple[Violation, ...]
    checked: dict[str, int]
    skipped: dict[str, str]
    figures: Figures

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong with what was checked."""
        return not self.violations


class Finding(NamedTuple):
    """What a check found wrong: where, and what."""

    where: str
    text: str
