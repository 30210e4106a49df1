"""A folder of evidence judged by two processes: one asks the ledger alone, the other all who saw something of it.

Both read the ledger, so that nothing but what they found goes from one to the other. Owns the second process.
"""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from cli.audit.case import Case
from cli.audit.evidence import Evidence
from cli.audit.folder import load
from cli.audit.judge import OF_LEDGER, OF_OTHERS, Looked, history_of, look, spared, verdict_of
from cli.audit.judge import verify as verify_alone
from cli.audit.verdict import Verdict

LEDGER_BYTES_MIN = 32 * 1024**2
"""Of a ledger that is worth a second process, which takes half a second to start and as much memory as the first."""


def verify(folder: Path, ledger_bytes_min: int = LEDGER_BYTES_MIN) -> Verdict:
    """Return the verdict over the evidence in a folder. Raises Unreadable."""
    evidence, ledger = load(folder), folder / "ledger.jsonl"
    alone = all(part is None for part in (evidence.reports, evidence.witness, evidence.timeline, evidence.calls))
    if alone or (os.cpu_count() or 1) < 2 or not ledger.exists() or ledger.stat().st_size < ledger_bytes_min:
        return verify_alone(evidence)
    # not forked: this process may have threads
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as second, spared():
        of_ledger = second.submit(ask_ledger, folder)
        case = Case(evidence, history_of(evidence))
        of_others = look(evidence, case, OF_OTHERS)
        return verdict_of(case, of_ledger.result(), of_others)


def ask_ledger(folder: Path) -> Looked:
    """Return what the checks of the ledger alone come to. Raises Unreadable."""
    whole = load(folder)
    evidence = Evidence(ledger=whole.ledger, circumstances=whole.circumstances)
    with spared():
        return look(evidence, Case(evidence, history_of(evidence)), OF_LEDGER)
