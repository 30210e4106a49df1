"""A case: the history and the other evidence side by side, with what several checks look up. Pure."""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

from msgspec import Struct

from bus_schemas import subjects
from cli.audit import facts as f
from cli.audit.deeds import ReportCause
from cli.audit.evidence import Attempt as AttemptKey
from cli.audit.evidence import Evidence, Stored
from cli.audit.history import History, Judged

SUBJECT_PARTS = 8
"""Of a report: `qd.rep.<node>.<project>.<run>.<attempt>.<nonce>.<kind>`."""

STOPPING = frozenset({"pausing", "paused", "cancelling", "budget", "quota"})
"""Holds under which no run starts."""

ENDED = frozenset({"complete", "failed", "cancelled"})
"""Statuses in which an orchestration has ended."""


class Attempt(Struct):
    """An attempt as the ledger knows it: the places of what happened to it; 0 is never a place.

    `held` says that it was queued while nothing may start; `given_up` that it was ended by something else than a report.
    """

    queued: f.RunQueued
    at: int
    held: bool
    dispatched: int = 0
    started: int = 0
    withdrawn: int = 0
    ended: int = 0
    given_up: bool = False
    stale: bool = False

    @property
    def is_over(self) -> bool:
        """Whether it can start no more."""
        return bool(self.withdrawn or self.ended)


class Reported(NamedTuple):
    """A stored report: what its subject says, and its message."""

    subject: subjects.ReportSubject
    stored: Stored


class Standing(Struct):
    """How an orchestration stands after all that the ledger says."""

    status: str = "launching"
    holds: set[str] = set()
    ended: int = 0


class Case:
    """All evidence, in memory, with indexes."""

    def __init__(self, evidence: Evidence, history: History) -> None:
        """Put `history`, which is made of the ledger of `evidence`, beside the rest of it."""
        self.history = history
        self.circumstances = evidence.circumstances
        self.calls = list(evidence.calls or ())
        self.witness = list(evidence.witness or ())
        self.journals = list(evidence.journals or ())
        self.faults = list(evidence.faults or ())
        self.survivors = list(evidence.survivors or ())
        self.repositories = list(evidence.repositories or ())
        self.commands = list(evidence.commands or ())
        self.dead_letters = list(evidence.dead_letters or ())
        self.reports = list(evidence.reports or ())
        self.timeline = evidence.timeline or ()
        self.canaries = evidence.canaries or ()
        self.sinks = evidence.sinks or {}

    @cached_property
    def actions(self) -> dict[str, Judged]:
        """The decision that first recorded each action."""
        found: dict[str, Judged] = {}
        for judged in self.history.judged:
            if judged.deed.action is not None:
                found.setdefault(judged.deed.action.id, judged)
        return found

    @cached_property
    def outcomes(self) -> dict[str, str]:
        """Whether each action that ended is completed or failed."""
        return {event.action: "completed" if type(event) is f.ActionCompleted else "failed" for _, _, event in self.history.ends if _is_end(event)}

    @cached_property
    def attempts(self) -> dict[tuple[str, int], Attempt]:
        """Every attempt that was queued; the first of each number stands."""
        found: dict[tuple[str, int], Attempt] = {}
        holds: dict[str, set[str]] = {}
        for place, deed, event in self.history.work:
            kind = type(event)
            if kind is f.RunQueued:
                held = not STOPPING.isdisjoint(holds.get(event.orchestration, ()))
                found.setdefault((event.run, event.attempt), Attempt(event, place, held))
            elif kind is f.HoldSet:
                holds.setdefault(event.orchestration, set()).add(event.hold)
            elif kind is f.HoldCleared:
                holds.get(event.orchestration, set()).discard(event.hold)
            elif kind in _OF_ATTEMPT:
                attempt = found.get((event.run, event.attempt))
                if attempt is None:
                    continue
                if kind is f.RunStarted:
                    attempt.started = attempt.started or place
                elif kind is f.RunDispatched:
                    attempt.dispatched = attempt.dispatched or place
                elif kind is f.RunWithdrawn:
                    attempt.withdrawn = attempt.withdrawn or place
                elif kind is f.ReportStale:
                    attempt.stale = True
                elif not attempt.ended:
                    attempt.ended, attempt.given_up = place, type(deed.cause) is not ReportCause
        return found

    @cached_property
    def standings(self) -> dict[str, Standing]:
        """How each orchestration stands at the end of the ledger."""
        found: dict[str, Standing] = {}
        for place, _, event in self.history.standing:
            kind = type(event)
            if kind is f.OrchestrationLaunched:
                found.setdefault(event.orchestration, Standing(holds=set()))
            elif kind in _OF_STANDING:
                standing = found.get(event.orchestration)
                if standing is None:
                    continue
                if kind is f.OrchestrationMoved:
                    standing.status = event.status
                    if event.status in ENDED:
                        standing.holds, standing.ended = set(), standing.ended or place
                elif kind is f.HoldSet:
                    standing.holds.add(event.hold)
                else:
                    standing.holds.discard(event.hold)
        return found

    @cached_property
    def reported(self) -> list[Reported]:
        """The stored reports whose subjects are ones."""
        found: list[Reported] = []
        for stored in self.reports:
            parts = stored.subject.split(".")
            if len(parts) == SUBJECT_PARTS and parts[5].isdecimal():
                found.append(Reported(subjects.ReportSubject(parts[2], parts[3], parts[4], int(parts[5]), parts[6], parts[7]), stored))
        return found

    @cached_property
    def claims(self) -> dict[AttemptKey, Reported]:
        """The stored `started` report of each attempt, by nonce."""
        found: dict[AttemptKey, Reported] = {}
        for report in self.reported:
            if report.subject.kind == "started":
                found.setdefault(AttemptKey(report.subject.run, report.subject.attempt, report.subject.nonce), report)
        return found


_OF_ATTEMPT = frozenset({f.RunStarted, f.RunDispatched, f.RunWithdrawn, f.RunEnded, f.ReportStale})
_OF_STANDING = frozenset({f.OrchestrationMoved, f.HoldSet, f.HoldCleared})


def _is_end(event: Any) -> bool:
    return type(event) is f.ActionCompleted or type(event) is f.ActionFailed
