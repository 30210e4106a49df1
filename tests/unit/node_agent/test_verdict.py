"""The verdict: one row for each way in which a run can end."""

from __future__ import annotations

import pytest

from bus_schemas.reasons import Reason
from bus_schemas.reports import Outcome
from node_agent.attempt import Exit, StoppedBy
from node_agent.verdict import Evidence, Problem, judge

MALFORMED = Problem(Reason.OUTPUT_MALFORMED, "not JSON")
LARGE = Problem(Reason.OUTPUT_TOO_LARGE, "over 256 KiB")
GOOD = Exit(spawned=True, exit_code=0)

TABLE = [
    ("exit code 0", Evidence(GOOD), Outcome.SUCCEEDED, None, True),
    ("exit code 3", Evidence(Exit(spawned=True, exit_code=3)), Outcome.FAILED, "dispatch_cli_exit_nonzero", True),
    ("exit code 3 as an answer", Evidence(Exit(spawned=True, exit_code=3), exit_is_answer=True), Outcome.SUCCEEDED, None, True),
    ("a signal", Evidence(Exit(spawned=True, signal=11)), Outcome.FAILED, "execution_killed_by_signal", True),
    ("a signal is no answer", Evidence(Exit(spawned=True, signal=9), exit_is_answer=True), Outcome.FAILED, "execution_killed_by_signal", True),
    ("a real-time signal", Evidence(Exit(spawned=True, signal=40)), Outcome.FAILED, "execution_killed_by_signal", True),
    ("time limit", Evidence(Exit(spawned=True, signal=9, stopped_by=StoppedBy.TIMEOUT)), Outcome.TIMED_OUT, "dispatch_timeout", True),
    ("time limit, then exit code 0", Evidence(Exit(True, exit_code=0, stopped_by=StoppedBy.TIMEOUT)), Outcome.TIMED_OUT, "dispatch_timeout", True),
    ("silence", Evidence(Exit(spawned=True, signal=15, stopped_by=StoppedBy.IDLE)), Outcome.TIMED_OUT, "dispatch_timeout", True),
    ("stop order", Evidence(Exit(True, 0, stopped_by=StoppedBy.REQUEST), stop_reason="x_y"), Outcome.CANCELLED, "x_y", True),
    ("stop nobody gave a reason for", Evidence(Exit(True, signal=15, stopped_by=StoppedBy.REQUEST)), Outcome.CANCELLED, "dispatch_cancelled", True),
    ("stop before the start", Evidence(Exit(False, stopped_by=StoppedBy.REQUEST), stop_reason="x_y"), Outcome.CANCELLED, "x_y", False),
    ("stop that came too late", Evidence(GOOD, stop_reason="x_y"), Outcome.SUCCEEDED, None, True),
    ("no such program", Evidence(Exit(False, spawn_errno=2, spawn_error="no")), Outcome.FAILED, "dispatch_cli_not_found", False),
    ("program may not be run", Evidence(Exit(False, spawn_errno=13, spawn_error="no")), Outcome.FAILED, "dispatch_cli_spawn_failed", False),
    ("malformed result", Evidence(GOOD, problem=MALFORMED), Outcome.FAILED, "execution_output_malformed", True),
    ("too large a result", Evidence(GOOD, problem=LARGE), Outcome.FAILED, "execution_output_too_large", True),
    ("exit code before result", Evidence(Exit(True, 1), problem=MALFORMED), Outcome.FAILED, "dispatch_cli_exit_nonzero", True),
    ("shim killed", Evidence(None), Outcome.LOST, "dispatch_node_lost", True),
    ("shim killed while stopping", Evidence(None, stop_reason="x_y"), Outcome.LOST, "dispatch_node_lost", True),
    ("node died before the start", Evidence(None, never_started=True), Outcome.LOST, "dispatch_node_lost", False),
]


@pytest.mark.parametrize(("evidence", "outcome", "reason", "started"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_the_first_row_that_fits_decides(evidence: Evidence, outcome: Outcome, reason: str | None, started: bool) -> None:
    found = judge(evidence)
    assert (found.outcome, found.reason_code, found.process_started) == (outcome, reason, started)
    assert bool(found.detail) == (outcome is not Outcome.SUCCEEDED)


def test_a_signal_is_called_by_its_name() -> None:
    assert "SIGSEGV" in judge(Evidence(Exit(spawned=True, signal=11))).detail
    assert "signal 40" in judge(Evidence(Exit(spawned=True, signal=40))).detail
