"""The judge: which checks there are, what each needs, and the verdict over all of them. Pure."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import NamedTuple

from bus_schemas.violation import VIOLATIONS_MAX, Violation
from cli.audit import checks_actions, checks_decisions, checks_keys, checks_ledger, checks_outside, checks_policy, checks_runs, checks_states
from cli.audit.canary import forms
from cli.audit.case import Case
from cli.audit.deeds import CommandCause
from cli.audit.evidence import Evidence
from cli.audit.history import History
from cli.audit.verdict import Figures, Finding, Verdict


class Check(NamedTuple):
    """A check of an invariant: what it is counted over, and which parts of the evidence it cannot do without."""

    invariant: str
    run: Callable[[Case], Iterator[Finding]]
    over: Callable[[Case], int]
    needs: tuple[str, ...] = ("ledger",)


def _messages(case: Case) -> int:
    return len(case.history.messages)


def _decisions(case: Case) -> int:
    return len(case.history.judged)


def _commands(case: Case) -> int:
    return len(case.history.commands)


def _flow(case: Case) -> int:
    return len(case.history.flow)


def _runs(case: Case) -> int:
    return len(case.history.runs)


def _calls(case: Case) -> int:
    return len(case.calls)


def _witness(case: Case) -> int:
    return len(case.witness)


def _reports(case: Case) -> int:
    return len(case.reports)


CHECKS: tuple[Check, ...] = (
    Check("I1", checks_runs.one_start_witnessed, _witness, ("witness",)),
    Check("I1", checks_runs.one_claim, _witness, ("ledger", "witness", "reports")),
    Check("I1", checks_runs.journal_before_start, _witness, ("witness", "journals")),
    Check("I2", checks_keys.decided_once, _commands),
    Check("I2", checks_keys.bodies_are_hashed, _commands),
    Check("I2", checks_keys.answered_alike, _calls, ("calls",)),
    Check("I3", checks_keys.acknowledged_is_there, _calls, ("ledger", "calls")),
    Check("I3", checks_actions.ends_are_there, _reports, ("ledger", "reports")),
    Check("I3", checks_actions.delivered_is_there, lambda case: sum(len(journal.lines) for journal in case.journals), ("ledger", "journals")),
    Check("I3", checks_ledger.sequence, _messages),
    Check("I4", checks_keys.commands_were_sent, _commands, ("ledger", "calls")),
    Check("I4", checks_runs.ordered, _witness, ("ledger", "witness")),
    Check("I4", checks_runs.reports_were_sent, _reports, ("ledger", "reports")),
    Check("I4", checks_states.registered_before, _decisions),
    Check("I5", checks_actions.decided_whole, _decisions),
    Check("I5", checks_actions.ended_once, lambda case: len(case.history.ends)),
    Check("I5", checks_actions.nothing_hangs, _commands),
    Check("I6", checks_runs.no_start_recorded_beyond_a_stop, _flow),
    Check("I6", checks_runs.nothing_runs_when_stopped, _flow),
    Check("I6", checks_runs.no_start_witnessed_beyond_a_stop, _witness, ("ledger", "witness")),
    Check("I7", checks_states.tasks_move, _flow),
    Check("I7", checks_states.texts_are_the_edited_ones, _witness, ("ledger", "witness")),
    Check("I8", checks_policy.snapshots, lambda case: len(case.standings)),
    Check("I8", checks_policy.runs_use_what_is_in_force, _runs),
    Check("I9", checks_policy.changes_fold, _flow),
    Check("I9", checks_policy.catalogue_revisions, _decisions),
    Check("I9", checks_policy.plan_revisions, _flow),
    Check("I10", checks_runs.in_order, _runs),
    Check("I10", checks_ledger.clock, _decisions),
    Check("I10", checks_ledger.counters, _decisions),
    Check("I11", checks_ledger.timeline_is_ledger, _decisions, ("ledger", "timeline")),
    Check("I12", checks_runs.node_of, _flow),
    Check("I13", checks_keys.principals, _commands),
    Check("I13", checks_keys.principals_of_clients, _calls, ("ledger", "calls")),
    Check("I13", checks_keys.principals_of_subjects, lambda case: len(case.commands), ("ledger", "commands")),
    Check("I14", checks_runs.fenced, _decisions),
    Check("I14", checks_runs.nonces, _runs),
    Check("I14", checks_runs.over_is_over, _witness, ("ledger", "witness")),
    Check("I15", checks_outside.recovers, lambda case: len(case.faults), ("faults", "calls")),
    Check("I16", checks_outside.no_survivors, lambda case: len(case.survivors), ("survivors",)),
    Check("I17", checks_outside.repositories_untouched, lambda case: len(case.repositories), ("repositories",)),
    Check("I18", checks_outside.no_canaries, lambda case: len(case.canaries), ("canaries",)),
    Check("I20", checks_ledger.decodable, _messages),
    Check("I20", checks_ledger.chain, _messages),
    Check("I20", checks_ledger.recorded_heads, lambda case: len(case.history.catalogue)),
    Check("I20", checks_ledger.batches, _messages),
    Check("I20", checks_ledger.registry_seen, _messages),
    Check("I20", checks_states.orchestrations_move, _flow),
    Check("I20", checks_states.phases_move, _flow),
    Check("I20", checks_states.holds_and_gates, _flow),
    Check("I20", checks_states.catalogue_moves, lambda case: len(case.history.catalogue)),
    Check("I20", checks_decisions.hang_together, _decisions),
    Check("I20", checks_decisions.work_continues, _decisions),
)

INVARIANTS = tuple(dict.fromkeys(check.invariant for check in CHECKS))
"""Those that are checked, in their order."""

OF_LEDGER = tuple(check for check in CHECKS if check.needs == ("ledger",))
"""The checks that the ledger alone is enough for."""

OF_OTHERS = tuple(check for check in CHECKS if check.needs != ("ledger",))
"""The checks that ask somebody else too."""

NOT_HERE = {"I19": "bad input is judged case by case, by tests of its own"}

WANTED: dict[str, str] = {
    "ledger": "the ledger",
    "reports": "the stored reports",
    "commands": "the stored commands",
    "calls": "a client log",
    "witness": "a witness log",
    "journals": "the journals of the nodes",
    "faults": "a fault log",
    "survivors": "a process table",
    "timeline": "the rows of the timeline",
    "repositories": "the states of the user's repositories",
    "canaries": "planted secrets",
}
"""What each part of the evidence is called."""


class Looked(NamedTuple):
    """What some of the checks came to: what is wrong, what each invariant was checked over, and for want of what it was not."""

    violations: list[Violation]
    checked: dict[str, int]
    wanting: dict[str, dict[str, None]]


def verify(evidence: Evidence) -> Verdict:
    """Return the verdict over all evidence. Reads each stream once."""
    with spared():
        return judge(evidence, history_of(evidence))


def history_of(evidence: Evidence) -> History:
    """Return the history of the ledger of some evidence, with the planted secrets that stand in it."""
    return History(evidence.ledger or (), tuple(form for canary in evidence.canaries or () for form in forms(canary)))


@contextmanager
def spared() -> Iterator[None]:
    """Spare the garbage collector: there are millions of small values and no cycles, and it takes half the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def judge(evidence: Evidence, history: History) -> Verdict:
    """Return the verdict over a history that was fed message by message, and the rest of the evidence."""
    case = Case(evidence, history)
    return verdict_of(case, look(evidence, case, CHECKS))


def look(evidence: Evidence, case: Case, checks: Iterable[Check]) -> Looked:
    """Run checks on a case, which is made of the evidence."""
    violations: list[Violation] = []
    checked: dict[str, int] = {}
    wanting: dict[str, dict[str, None]] = {}
    for check in checks:
        missing = [part for part in check.needs if getattr(evidence, part) is None and not (part == "ledger" and case.history.messages)]
        if missing:
            wanting.setdefault(check.invariant, {}).update(dict.fromkeys(missing))
            continue
        checked[check.invariant] = checked.get(check.invariant, 0) + check.over(case)
        violations += found(check, case)
    return Looked(violations, checked, wanting)


def verdict_of(case: Case, *looked: Looked) -> Verdict:
    """Return the verdict over a case, of which each of `looked` is a part of the checks; invariant by invariant."""
    checked = {name: sum(part.checked.get(name, 0) for part in looked) for name in INVARIANTS if any(name in part.checked for part in looked)}
    wanting = {name: {what: None for part in looked for what in part.wanting.get(name, ())} for name in INVARIANTS}
    if not case.circumstances.quiesced and "I5" in checked:
        wanting["I5"]["quiesced"] = None
    violations = [violation for name in INVARIANTS for part in looked for violation in part.violations if violation.invariant == name]
    skipped = {name: _why(name, parts, checked) for name, parts in wanting.items() if parts}
    return Verdict(tuple(violations), checked, {**skipped, **NOT_HERE}, _figures(case, violations))


def found(check: Check, case: Case) -> list[Violation]:
    """Return what a check finds wrong with a case."""
    violations: list[Violation] = []
    try:
        for finding in islice(check.run(case), VIOLATIONS_MAX):
            violations.append(Violation(check.invariant, finding.where, finding.text))
    except Exception as error:
        # evidence that was tampered with may be of any shape; what a check stumbles over is as wrong as what it finds
        violations.append(Violation(check.invariant, check.run.__name__, f"the evidence cannot be judged: {type(error).__name__}: {error}"))
    return violations


def _why(invariant: str, parts: dict[str, None], checked: dict[str, int]) -> str:
    if "quiesced" in parts:
        return "in part: it is not known that everything had come to rest"
    what = ", ".join(WANTED[part] for part in parts)
    return f"in part: there is not {what}" if invariant in checked else f"there is not {what}"


def _figures(case: Case, violations: list[Violation]) -> Figures:
    history = case.history
    keys = {(judged.deed.cause.project, judged.deed.cause.key) for judged in history.commands if type(judged.deed.cause) is CommandCause}
    unknown = [call for call in case.calls if call.outcome == "unknown"]
    recovered = sum((call.project, call.key) in keys for call in unknown)
    return Figures(
        messages=len(history.messages),
        decisions=len(history.judged),
        events=history.events,
        unknown_events=history.unknown,
        actions=len(case.actions),
        orchestrations=len(case.standings),
        attempts=len(case.attempts),
        calls=len(case.calls),
        calls_unknown=len(unknown),
        recovered=recovered,
        absent=len(unknown) - recovered,
        acknowledged_lost=sum(violation.invariant == "I3" for violation in violations),
        duplicated=sum(violation.invariant in ("I1", "I2") for violation in violations),
        stuck=sum(violation.invariant == "I5" for violation in violations) if case.circumstances.quiesced else 0,
        starts_witnessed=sum(seen.event == "start" for seen in case.witness),
        recovery=checks_outside.recovery(case),
    )
