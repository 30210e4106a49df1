"""What an audit has to say: which checks over how much, what is wrong and where. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

from msgspec import Struct

from bus_schemas.chain import CHAIN, HEADS, SEQUENCE, Chain
from bus_schemas.violation import Violation
from cli.audit.export import FILES, LINES, SIGNED, Judged
from cli.audit.verdict import Verdict
from cli.table import Column, Table
from cli.text import cell

TIMELINE, CONTROLLER = "timeline", "controller"

SHOWN_MAX = 50
"""Violations that a human is shown; a program gets all that were kept."""

EXPLAINED = {
    SEQUENCE: "every message is there, in order",
    CHAIN: "each message names the hash of the one before it",
    HEADS: "what was noted of the ledger elsewhere is in it",
    LINES: "each line follows the one before it",
    FILES: "each file is what the manifest says",
    TIMELINE: "it goes on reading, and has no alarm",
    CONTROLLER: "it has stopped no project",
    SIGNED: "the manifest was signed by who it should be",
}


class Check(Struct, frozen=True, omit_defaults=True):
    """One thing that was looked at: over how many of what, how many violations; `skipped` says why it was not."""

    check: str
    about: str
    over: int
    of: str
    violations: int
    skipped: str | None = None


class Audit(NamedTuple):
    """The whole of it. `source` says what was audited."""

    source: str
    checks: tuple[Check, ...]
    violations: tuple[Violation, ...]
    facts: dict[str, Any]

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong with what was checked."""
        return not self.violations


def _check(name: str, over: int, of: str, violations: tuple[Violation, ...], skipped: str | None = None) -> Check:
    return Check(name, EXPLAINED.get(name, ""), over, of, sum(found.invariant == name for found in violations), skipped)


def of_chain(chain: Chain, violations: tuple[Violation, ...]) -> tuple[Check, ...]:
    """Return the checks of a walk."""
    late = f"{chain.unmet} heads were recorded too late to be compared" if chain.unmet else None
    return (
        _check(SEQUENCE, chain.messages, "messages", violations),
        _check(CHAIN, chain.messages, f"messages of {len(chain.heads)} projects", violations),
        _check(HEADS, chain.met, "noted heads", violations, late or (None if chain.met else "nobody has noted one")),
    )


def of_service(name: str, violations: list[Violation], skipped: str | None = None) -> Check:
    """Return the check of what a service says of itself; `skipped` says why it could not be asked."""
    return _check(name, int(skipped is None), "service", tuple(violations), skipped)


ABOUT = {
    "I1": "each attempt starts its agent at most once",
    "I2": "each key is decided once",
    "I3": "nothing that was acknowledged is lost",
    "I4": "everything has a cause",
    "I5": "each accepted action reaches one end",
    "I6": "nothing starts while it is paused or cancelled",
    "I7": "a started task is never edited",
    "I8": "runs use the policy that is in force",
    "I9": "revisions rise by one",
    "I10": "events stand in their order",
    "I11": "the timeline is the ledger, row by row",
    "I12": "work runs where it was given",
    "I13": "each command is of whom the server knew",
    "I14": "what was taken back has no effect",
    "I15": "answers come back after a fault",
    "I16": "no process outlives its run",
    "I17": "the user's repository is not touched",
    "I18": "no secret stands anywhere",
    "I20": "the ledger folds: every transition is one of the table",
}
"""Invariants in a few words; docs/evidence.md has them whole."""


def of_verdict(verdict: Verdict) -> tuple[Check, ...]:
    """Return the checks of the invariants; one that was not checked at all is there with its reason."""
    names = sorted({*verdict.checked, *verdict.skipped, *(found.invariant for found in verdict.violations)}, key=_by_number)
    return tuple(
        Check(
            name,
            ABOUT.get(name, ""),
            verdict.checked.get(name, 0),
            "times",
            sum(found.invariant == name for found in verdict.violations),
            verdict.skipped.get(name),
        )
        for name in names
    )


def _by_number(name: str) -> tuple[str, int]:
    digits = name.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    return name[: len(name) - len(digits)], int(digits) if digits.isdecimal() else 0


def of_export(read: Judged) -> Audit:
    """Return the audit of an export."""
    violations = read.findings
    signed = "it is not signed" if read.signed_by is None else None
    checks = (
        _check(FILES, read.files, "files", violations),
        _check(LINES, read.lines, "lines", violations),
        *of_chain(read.chain, violations),
        _check(SIGNED, int(read.signed_by is not None), "signatures", violations, signed),
    )
    facts: dict[str, Any] = {"bytes": read.bytes, "rows": read.chain.rows, "signed_by": read.signed_by}
    if read.manifest is not None:
        manifest = read.manifest
        facts |= {
            "exported_at": manifest.exported_at,
            "exported_by": manifest.exported_by,
            "tool": manifest.tool,
            "project": manifest.project,
            "since_seq": manifest.since_seq,
            "stream_last_seq": manifest.stream_last_seq,
        }
    return Audit(f"export {read.folder}", checks, violations, facts)


def as_object(audit: Audit) -> dict[str, Any]:
    """Return the audit as `-o json` prints it."""
    return {"sound": audit.is_sound, "source": audit.source, "checks": audit.checks, "violations": audit.violations, **audit.facts}


def table(audit: Audit) -> Table:
    """Return the table of what was checked."""
    columns = (Column("CHECK", "id"), Column("OVER", "id"), Column("WRONG", "number"), Column("ABOUT"))
    rows = tuple(
        (check.check, _over(check), str(check.violations), cell(check.about) + (" (in part)" if check.skipped else ""))
        for check in audit.checks
        if check.over or check.violations or not check.skipped
    )
    return Table(columns, rows)


def _over(check: Check) -> str:
    noun = check.of if check.over != 1 else check.of.removesuffix("s")
    return f"{check.over} {noun}"


def unchecked(audit: Audit) -> list[str]:
    """Return what was not checked, or only in part, each with its reason."""
    return [f"{check.check}: {check.skipped}" for check in audit.checks if check.skipped]
