"""The verdict on a run by its evidence. Pure.

One table, read from top to bottom; the first row that fits decides.

    never started, since the node died first      lost        dispatch_node_lost
    shim gone without a word                      lost        dispatch_node_lost
    stopped on request, or before the start       cancelled   the stop order's reason
    program not there                             failed      dispatch_cli_not_found
    program could not be started                  failed      dispatch_cli_spawn_failed
    time limit, or silent for too long            timed_out   dispatch_timeout
    ended by a signal that we did not send        failed      execution_killed_by_signal
    exit code other than 0, where that is no answer   failed  dispatch_cli_exit_nonzero
    result malformed, missing or too large        failed      execution_output_malformed, execution_output_too_large
    else                                          succeeded
"""

from __future__ import annotations

import errno
import signal
from typing import NamedTuple

from msgspec import Struct

from bus_schemas.reasons import Reason
from bus_schemas.reports import Outcome
from node_agent.attempt import Exit, StoppedBy


class Problem(NamedTuple):
    """Why there is no result that could be used."""

    reason: Reason
    detail: str


class Evidence(Struct, frozen=True):
    """What is known of a run that is over.

    `never_started`: the node died between writing down that it would start the process and doing so. `problem` is about
    the result that was handed over or should have been.
    """

    ending: Exit | None
    never_started: bool = False
    exit_is_answer: bool = False
    stop_reason: str | None = None
    problem: Problem | None = None


class Judgement(NamedTuple):
    """How the run ended; `process_started` is false when nothing was spawned, for certain."""

    outcome: Outcome
    reason_code: str | None = None
    detail: str = ""
    process_started: bool = True


def judge(evidence: Evidence) -> Judgement:
    """Return the verdict on a run."""
    ending = evidence.ending
    if ending is None and evidence.never_started:
        return Judgement(Outcome.LOST, Reason.NODE_LOST.value, "the node agent died before it could start the process", False)
    if ending is None:
        return Judgement(Outcome.LOST, Reason.NODE_LOST.value, "the process above the agent was killed; how far the agent came is not known")
    if ending.stopped_by == StoppedBy.REQUEST:
        return Judgement(Outcome.CANCELLED, evidence.stop_reason or Reason.CANCELLED.value, "stopped by order", ending.spawned)
    if not ending.spawned:
        missing = ending.spawn_errno == errno.ENOENT
        return Judgement(Outcome.FAILED, (Reason.CLI_NOT_FOUND if missing else Reason.CLI_SPAWN_FAILED).value, ending.spawn_error, False)
    if ending.stopped_by is not None:
        why = "printed nothing for too long" if ending.stopped_by == StoppedBy.IDLE else "still going at its time limit"
        return Judgement(Outcome.TIMED_OUT, Reason.TIMEOUT.value, f"{why}; stopped after {ending.duration_ms / 1000:.1f} s with all its descendants")
    if ending.signal is not None:
        return Judgement(Outcome.FAILED, Reason.KILLED_BY_SIGNAL.value, f"killed by {_signal_name(ending.signal)}, which was not sent by the node")
    if ending.exit_code != 0 and not evidence.exit_is_answer:
        return Judgement(Outcome.FAILED, Reason.CLI_EXIT_NONZERO.value, f"ended with exit code {ending.exit_code}")
    if evidence.problem is not None:
        return Judgement(Outcome.FAILED, evidence.problem.reason.value, evidence.problem.detail)
    return Judgement(Outcome.SUCCEEDED)


def _signal_name(number: int) -> str:
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
