"""Exit codes: what each means, and which one a reason code leads to. Pure.

The table is the contract with scripts: 9 says that nothing was sent, 10 that something may have been, so that a caller
knows whether it may repeat without the same key.
"""

from __future__ import annotations

from enum import IntEnum

from bus_schemas.reasons import EXPLANATIONS, Explanation, Reason


class Exit(IntEnum):
    """Every exit code of `qd`."""

    DONE = 0
    UNEXPECTED = 1
    USAGE = 2
    NOT_FOUND = 3
    NOT_ALLOWED = 4
    CONFLICT = 5
    REFUSED = 6
    NOT_COMPLETE = 7
    WAITED_TOO_LONG = 8
    UNREACHABLE = 9
    OUTCOME_UNKNOWN = 10
    AUDIT_FAILED = 11
    WOULD_CHANGE = 20
    INTERRUPTED = 130
    BROKEN_PIPE = 141


MEANINGS: dict[Exit, str] = {
    Exit.DONE: "Done.",
    Exit.UNEXPECTED: "Unexpected: a fault of ours, or `qd doctor` found something wrong.",
    Exit.USAGE: "The command line is wrong, or something destructive needs `--yes`.",
    Exit.NOT_FOUND: "What was named does not exist.",
    Exit.NOT_ALLOWED: "This identity may not do that, or the feature flag is off.",
    Exit.CONFLICT: "Conflict: another revision, or a state in which this cannot be done.",
    Exit.REFUSED: "Refused by validation; the reason code is given.",
    Exit.NOT_COMPLETE: "What was waited for ended, and not well (`watch --exit-status`, `launch --wait=end`, `--wait=done`, `action wait`).",
    Exit.WAITED_TOO_LONG: "Waited too long. The action is accepted and goes on; its id is printed.",
    Exit.UNREACHABLE: "The bus or the service that answers cannot be reached. Nothing was sent.",
    Exit.OUTCOME_UNKNOWN: "Sent, and the outcome is not known: repeat with the printed key.",
    Exit.AUDIT_FAILED: "`qd audit verify` found that something is not as it was promised or written; each place is named.",
    Exit.WOULD_CHANGE: "`--dry-run` found that something would change.",
    Exit.INTERRUPTED: "Interrupted (Ctrl-C). What was accepted goes on.",
    Exit.BROKEN_PIPE: "The reader of our output went away.",
}

USAGE = "usage"
UNEXPECTED = "unexpected"
UNREACHABLE = "unreachable"
OUTCOME_UNKNOWN = "outcome_unknown"
WAITED_TOO_LONG = "waited_too_long"
NOT_COMPLETE = "not_complete"
INTERRUPTED = "interrupted"
SQL_LIMIT = "sql_limit"
UNSAFE_SYNC = "unsafe_sync"
DATA_IN_USE = "data_in_use"
AUDIT_FAILED = "audit_failed"

OWN_EXPLANATIONS: dict[str, Explanation] = {
    USAGE: Explanation("The command line is not one that `qd` takes.", "`qd VERB --help` shows what it takes."),
    UNEXPECTED: Explanation("Something happened that we did not expect.", "Report it, with the output of `qd doctor`."),
    UNREACHABLE: Explanation(
        "The bus, or the service that answers, cannot be reached. Nothing was sent.",
        "Start `qd up` in another terminal, or name a running bus with --server; `qd doctor` says which part is missing.",
    ),
    OUTCOME_UNKNOWN: Explanation(
        "The command was sent, and no receipt came in time: it may have been decided or not.",
        "Repeat the very same command with --idempotency-key and the printed key (or --retry-last): it takes effect once.",
    ),
    WAITED_TOO_LONG: Explanation(
        "The time limit of the wait is over. The action is accepted and goes on.", "`qd action wait ACTION` or `qd watch ID` waits again."
    ),
    NOT_COMPLETE: Explanation("What was waited for has ended, and not well.", "`qd show ID` and `qd timeline ID` say why."),
    INTERRUPTED: Explanation("You stopped the client. What was accepted goes on.", "`qd watch ID` follows it again."),
    SQL_LIMIT: Explanation(
        "The statement took longer, or gave more, than the limits of the SQL service.", "Ask for less: fewer columns, a WHERE clause, a LIMIT."
    ),
    UNSAFE_SYNC: Explanation(
        "The bus does not sync every write, or does not show that it does: acknowledged work could be lost when the power goes.",
        "Set `sync_interval: always` in its jetstream block and run `qd bus init --monitor URL`, or allow it with --allow-unsafe-sync.",
    ),
    DATA_IN_USE: Explanation(
        "Another process works in this data folder, or it cannot be used.", "End that process, or choose another folder with --data DIR."
    ),
    AUDIT_FAILED: Explanation(
        "The ledger, an export or the evidence of a run is not what it was written as, or breaks a promise; each place was named.",
        "Keep all of it as it is, export what is there with `qd audit export DIR`, and compare with an older export or backup.",
    ),
}
"""Codes of the client itself, which never stand in the ledger."""

_EXITS: dict[str, Exit] = {
    Reason.ENTITY_NOT_FOUND: Exit.NOT_FOUND,
    Reason.NOT_AUTHORIZED: Exit.NOT_ALLOWED,
    Reason.FEATURE_DISABLED: Exit.NOT_ALLOWED,
    Reason.REVISION_CONFLICT: Exit.CONFLICT,
    Reason.INVALID_STATE: Exit.CONFLICT,
    USAGE: Exit.USAGE,
    UNREACHABLE: Exit.UNREACHABLE,
    OUTCOME_UNKNOWN: Exit.OUTCOME_UNKNOWN,
    WAITED_TOO_LONG: Exit.WAITED_TOO_LONG,
    NOT_COMPLETE: Exit.NOT_COMPLETE,
    INTERRUPTED: Exit.INTERRUPTED,
    UNSAFE_SYNC: Exit.REFUSED,
    DATA_IN_USE: Exit.CONFLICT,
    AUDIT_FAILED: Exit.AUDIT_FAILED,
}

_RETRYABLE = frozenset({UNREACHABLE, OUTCOME_UNKNOWN, WAITED_TOO_LONG, Reason.EXPIRED})


def exit_of(code: str) -> Exit:
    """Return the exit code that a reason code, or a code of the client, leads to; also for codes this version does not know."""
    known = _EXITS.get(code)
    if known is not None:
        return known
    if code.startswith(("validation_", "sql_")):
        return Exit.REFUSED
    if code.startswith(("dispatch_", "execution_")):
        return Exit.NOT_COMPLETE
    return Exit.UNEXPECTED


def explanation_of(code: str) -> Explanation | None:
    """Return what a code means and what to do next, or None for a code this version does not know."""
    own = OWN_EXPLANATIONS.get(code)
    if own is not None:
        return own
    try:
        return EXPLANATIONS[Reason(code)]
    except ValueError:
        return None


def is_retryable(code: str) -> bool:
    """Return whether the same command may succeed when it is sent again as it is."""
    return code in _RETRYABLE
