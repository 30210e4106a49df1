"""Checks of attempts: started once, by order, on their node, in their order, fenced, not beyond a stop (I1, I4, I6, I10, I12, I14). Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from cli.audit import facts as f
from cli.audit.case import ENDED, STOPPING, Case
from cli.audit.deeds import Deed, ReportCause, shown_place
from cli.audit.evidence import Attempt as AttemptKey
from cli.audit.evidence import Witnessed
from cli.audit.verdict import Finding


def _name(run: str, attempt: int) -> str:
    return f"{run}.{attempt}"


def _starts(case: Case) -> Iterator[Witnessed]:
    return (seen for seen in case.witness if seen.event == "start")


# ── one start ────────────────────────────────────────────────────────────────────────────────────────────────────────


def one_start_witnessed(case: Case) -> Iterator[Finding]:
    """I1: the agent of an attempt starts at most once, and ends at most as often as it started."""
    starts = Counter((seen.run, seen.attempt) for seen in case.witness if seen.event == "start")
    ends = Counter((seen.run, seen.attempt) for seen in case.witness if seen.event == "end")
    for (run, attempt), count in starts.items():
        if count > 1:
            yield Finding(_name(run, attempt), f"its agent started {count} times")
    for (run, attempt), count in ends.items():
        if count > starts[run, attempt]:
            yield Finding(_name(run, attempt), f"its agent ended {count} times and started {starts[run, attempt]} times")


class _Claim(Struct):
    type: str = ""


_claim = msgspec.json.Decoder(_Claim)


def one_claim(case: Case) -> Iterator[Finding]:
    """I1: a report subject takes one message; whoever started has the claim of its attempt, which was stored before it started."""
    once = Counter(report.stored.subject for report in case.reported)
    for subject, count in once.items():
        if count > 1:
            yield Finding(subject, f"the write-once subject took {count} messages")
    for seen in _starts(case):
        attempt = case.attempts.get((seen.run, seen.attempt))
        if attempt is None:
            continue  # I4 says so
        claim = case.claims.get(AttemptKey(seen.run, seen.attempt, attempt.queued.nonce))
        name = _name(seen.run, seen.attempt)
        if claim is None:
            yield Finding(name, "its agent started, and nobody claimed it")
        elif not _is_of_a_node(claim.stored.data):
            yield Finding(name, "its agent started, and its claim was withdrawn")
        elif claim.stored.stored_at_s > seen.at_s + case.circumstances.clock_skew_s:
            yield Finding(name, f"its agent started {claim.stored.stored_at_s - seen.at_s:.3f} s before its claim was stored")


def _is_of_a_node(data: bytes) -> bool:
    try:
        return _claim.decode(data).type == "started"
    except msgspec.MsgspecError:
        return False


def journal_before_start(case: Case) -> Iterator[Finding]:
    """I1: what a node's journal still has in hand and whose agent started was spawning before; no attempt is spawning twice in a life."""
    started = {(seen.run, seen.attempt) for seen in _starts(case)}
    for journal in case.journals:
        latest: dict[AttemptKey, str] = {}
        spawning: Counter[AttemptKey] = Counter()
        for line in journal.lines:
            key = line.attempt
            if key is None:
                continue
            if line.type == "spawning":
                spawning[key] += 1
            if line.type != "stop":
                latest[key] = line.type
        for key, count in spawning.items():
            if count > 1:
                yield Finding(_name(key.run, key.attempt), f"the journal of {journal.node} has it spawning {count} times")
        for key, last in latest.items():
            if last == "taken" and (key.run, key.attempt) in started and _is_last_life(case, journal.node, key):
                yield Finding(_name(key.run, key.attempt), f"its agent started, and the journal of {journal.node} does not know")


def _is_last_life(case: Case, node: str, key: AttemptKey) -> bool:
    """Return whether no life of any journal knows that an attempt was spawning or is over."""
    later = ("spawning", "spawned", "finished", "delivered", "dropped")
    return not any(line.attempt == key and line.type in later for journal in case.journals for line in journal.lines)


# ── by order ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def ordered(case: Case) -> Iterator[Finding]:
    """I4, I12: whatever started was queued before, for this node, with this nonce, and (after a heal) the ledger knows of it."""
    for seen in _starts(case):
        name = _name(seen.run, seen.attempt)
        attempt = case.attempts.get((seen.run, seen.attempt))
        if attempt is None:
            yield Finding(name, f"its agent started on {seen.node}, and it was never queued")
            continue
        queued = attempt.queued
        if seen.node is not None and seen.node != queued.node:
            yield Finding(name, f"its agent started on {seen.node}; it was queued for {queued.node}")
        if seen.nonce is not None and seen.nonce != queued.nonce:
            yield Finding(name, "its agent started with a nonce that is not the one it was queued with")
        if seen.orchestration != queued.orchestration:
            yield Finding(name, f"its agent says that it works for {seen.orchestration}")
        if case.history.time_of(attempt.at) > seen.at_s + case.circumstances.clock_skew_s:
            yield Finding(name, f"its agent started {case.history.time_of(attempt.at) - seen.at_s:.3f} s before it was queued")
        if case.circumstances.quiesced and not (attempt.started or attempt.stale):
            yield Finding(name, "its agent started, and the ledger knows nothing of it")


def reports_were_sent(case: Case) -> Iterator[Finding]:
    """I4: each report that a decision answers is stored, from this node, with the nonce of its attempt."""
    stored = {(r.subject.node, r.subject.run, r.subject.attempt, r.subject.kind): r.subject.nonce for r in case.reported}
    for place, _, deed in case.history.judged:
        cause = deed.cause
        if type(cause) is not ReportCause:
            continue
        nonce = stored.get((cause.node, cause.run, cause.attempt, cause.kind))
        attempt = case.attempts.get((cause.run, cause.attempt))
        if nonce is None:
            yield Finding(shown_place(place), f"it answers a report {cause.kind} of {_name(cause.run, cause.attempt)} that {cause.node} never sent")
        elif attempt is not None and attempt.queued.nonce != nonce:
            yield Finding(shown_place(place), f"it answers a report of {_name(cause.run, cause.attempt)} with another nonce than the order's")


# ── order of events ──────────────────────────────────────────────────────────────────────────────────────────────────

_RANK: dict[type, int] = {f.RunQueued: 0, f.RunDispatched: 1, f.RunStarted: 2, f.RunWithdrawn: 3, f.RunEnded: 3}


def in_order(case: Case) -> Iterator[Finding]:
    """I10: an attempt is queued, dispatched, started and ended or withdrawn, each at most once, in this order.

    Attempts of a run are 1, 2, 3, each queued when the one before is over; one that was started is never withdrawn, and one
    that counts was started.
    """
    rank: dict[tuple[str, int], int] = {}
    newest: dict[str, int] = {}
    for place, deed, event in case.history.runs:
        kind = type(event)
        if kind is f.ReportStale:
            continue
        key, own = (event.run, event.attempt), _RANK[kind]
        before = rank.get(key)
        if own == 0 and before is None and event.attempt == 1 and event.run not in newest:
            newest[event.run], rank[key] = 1, 0  # a first attempt, which nearly all are
            continue
        if before is not None and before < own and not (kind is f.RunWithdrawn and before == 2) and (before == 2 or kind is not f.RunEnded):
            rank[key] = own  # as it has to be, which is nearly always so
            continue
        for text in _out_of_order(event, deed, before, own, newest, rank):
            yield Finding(shown_place(place), text)
        rank[key] = own if before is None else max(before, own)


def _out_of_order(event: Any, deed: Deed, before: int | None, own: int, newest: dict[str, int], rank: dict[tuple[str, int], int]) -> Iterator[str]:
    kind, name = type(event), _name(event.run, event.attempt)
    if kind is f.RunQueued:
        last = newest.get(event.run, 0)
        if event.attempt != last + 1:
            yield f"{event.run}: attempt {event.attempt} is queued after attempt {last}"
        elif last and rank.get((event.run, last), 3) < 3:
            yield f"{event.run}: attempt {event.attempt} is queued while attempt {last} is open"
        newest[event.run] = max(last, event.attempt)
    elif before is None:
        yield f"{f.NAMES[kind]} of {name}, which was never queued"
    if before is not None and before >= own:
        yield f"{f.NAMES[kind]} of {name} after what has to come later, or twice"
    if kind is f.RunWithdrawn and before == 2:
        yield f"{name} is withdrawn after its start"
    if kind is f.RunEnded and event.counts and before in (0, 1) and not any(type(beside) is f.ReportStale for beside in deed.events):
        yield f"{name} counts as an attempt and never started"


def nonces(case: Case) -> Iterator[Finding]:
    """I14: no two attempts have one nonce."""
    known: dict[str, tuple[str, int]] = {}
    for place, _, event in case.history.numbered:
        if type(event) is f.RunQueued:
            key = (event.run, event.attempt)
            other = known.setdefault(event.nonce, key)
            if other != key:
                yield Finding(shown_place(place), f"{_name(*key)} has the nonce of {_name(*other)}")


# ── nodes ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def node_of(case: Case) -> Iterator[Finding]:
    """I12: an attempt is queued for the node of its orchestration; it is started and ended by the node it was queued for."""
    node: dict[str, str] = {}
    queued: dict[tuple[str, int], str] = {}
    for place, deed, event in case.history.work:
        kind = type(event)
        if kind is f.RunQueued:
            queued[event.run, event.attempt] = event.node
            if event.node != node.get(event.orchestration):
                yield Finding(
                    shown_place(place), f"{event.run} is queued for {event.node}; {event.orchestration} is on {node.get(event.orchestration)}"
                )
        elif kind is f.RunStarted or kind is f.RunEnded:
            expected = queued.get((event.run, event.attempt))
            cause = deed.cause
            said = cause.node if type(cause) is ReportCause else event.node
            if event.node != expected or said != expected:
                yield Finding(
                    shown_place(place), f"{_name(event.run, event.attempt)} was queued for {expected}; {event.node} is recorded, {said} said so"
                )
        elif kind is f.OrchestrationLaunched:
            node[event.orchestration] = event.node
        elif kind is f.NodeAssigned:
            if event.previous != node.get(event.orchestration):
                yield Finding(shown_place(place), f"{event.orchestration} leaves {event.previous}; it is on {node.get(event.orchestration)}")
            node[event.orchestration] = event.node


# ── fencing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def fenced(case: Case) -> Iterator[Finding]:
    """I14: a report is about the run that its decision changes; of an older attempt, or one that is over, it is stale and changes nothing."""
    newest: dict[str, int] = {}
    over: set[tuple[str, int]] = set()
    for place, _, deed in case.history.judged:
        cause = deed.cause
        key: tuple[str, int] | None = None
        if type(cause) is ReportCause:
            key = (cause.run, cause.attempt)
            latest, was_over = newest.get(cause.run), key in over
        has_effects = False
        for event in deed.events:
            kind = type(event)
            if kind is f.RunQueued:
                if event.attempt > newest.get(event.run, 0):
                    newest[event.run] = event.attempt
            elif kind in _OF_REPORT:
                if kind is f.RunEnded:
                    over.add((event.run, event.attempt))
                if key is not None and (event.run != key[0] or event.attempt != key[1]):
                    yield Finding(shown_place(place), f"a report of {_name(*key)} is recorded for {_name(event.run, event.attempt)}")
            elif kind is f.RunWithdrawn:
                over.add((event.run, event.attempt))
            if kind is not f.ReportStale:
                has_effects = True
        if key is None or not has_effects:
            continue
        if key[1] != latest:
            yield Finding(shown_place(place), f"a report of {_name(*key)} has effects; attempt {latest} is the newest")
        elif was_over:
            yield Finding(shown_place(place), f"a report of {_name(*key)} has effects after that attempt was over")


_OF_REPORT = frozenset({f.RunStarted, f.RunEnded, f.ReportStale})


def over_is_over(case: Case) -> Iterator[Finding]:
    """I14: no agent starts for an attempt that was withdrawn, or that had ended before. What a given up node still does is excused."""
    skew_s = case.circumstances.clock_skew_s
    for seen in _starts(case):
        attempt = case.attempts.get((seen.run, seen.attempt))
        if attempt is None:
            continue
        name = _name(seen.run, seen.attempt)
        if attempt.withdrawn and not attempt.ended:
            yield Finding(name, f"its agent started, and it was withdrawn at {shown_place(attempt.withdrawn)}")
        elif attempt.ended and not attempt.given_up and case.history.time_of(attempt.ended) + skew_s < seen.at_s:
            yield Finding(name, f"its agent started after it had ended at {shown_place(attempt.ended)}")


# ── stops ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def no_start_recorded_beyond_a_stop(case: Case) -> Iterator[Finding]:
    """I6: no start or dispatch is recorded between a completed pause and its resume, after the end of an orchestration, or of an attempt
    that was queued while nothing might start."""
    paused: dict[str, int] = {}
    ended: dict[str, int] = {}
    for place, _, event in case.history.work:
        kind = type(event)
        if kind is f.RunStarted or kind is f.RunDispatched:
            boundary = paused.get(event.orchestration) or ended.get(event.orchestration)
            attempt = case.attempts.get((event.run, event.attempt))
            if boundary:
                yield Finding(shown_place(place), f"{_recorded(event)}; {event.orchestration} was stopped at {shown_place(boundary)}")
            elif attempt is not None and attempt.held:
                yield Finding(shown_place(place), f"{_recorded(event)}; it was queued at {shown_place(attempt.at)}, while nothing might start")
        elif kind is f.HoldSet and event.hold == "paused":
            paused.setdefault(event.orchestration, place)
        elif kind is f.HoldCleared and event.hold == "paused":
            paused.pop(event.orchestration, None)
        elif kind is f.OrchestrationMoved and event.status in ENDED:
            ended.setdefault(event.orchestration, place)


def _recorded(event: f.RunStarted | f.RunDispatched) -> str:
    return f"{f.name_of(event)} of {_name(event.run, event.attempt)} is recorded"


def nothing_runs_when_stopped(case: Case) -> Iterator[Finding]:
    """I6: a pause is completed, and an orchestration ends as cancelled, only when each attempt that might run is withdrawn or has ended."""
    open_: dict[str, dict[tuple[str, int], bool]] = {}
    holds: dict[str, set[str]] = {}
    for place, _, event in case.history.work:
        kind = type(event)
        if kind is f.RunQueued:
            held = not STOPPING.isdisjoint(holds.get(event.orchestration, ()))
            open_.setdefault(event.orchestration, {})[event.run, event.attempt] = held
        elif kind is f.RunEnded or kind is f.RunWithdrawn:
            open_.get(event.orchestration, {}).pop((event.run, event.attempt), None)
        elif kind is f.HoldCleared:
            holds.get(event.orchestration, set()).discard(event.hold)
        elif kind is f.HoldSet:
            holds.setdefault(event.orchestration, set()).add(event.hold)
        if (kind is f.HoldSet and event.hold == "paused") or (kind is f.OrchestrationMoved and event.status == "cancelled"):
            running = [_name(*key) for key, held in open_.get(event.orchestration, {}).items() if not held]
            if running:
                yield Finding(shown_place(place), f"{event.orchestration} is stopped while {', '.join(running)} may run")


def no_start_witnessed_beyond_a_stop(case: Case) -> Iterator[Finding]:
    """I6: no agent starts between a completed pause and its resume, or after its orchestration ended, by the clocks of bus and agent."""
    closed = _closed(case)
    skew_s = case.circumstances.clock_skew_s
    for seen in _starts(case):
        attempt = case.attempts.get((seen.run, seen.attempt))
        if attempt is None or attempt.given_up:
            continue
        for begun, ended in closed.get(seen.orchestration, ()):
            until_s = float("inf") if not ended else case.history.time_of(ended)
            if case.history.time_of(begun) + skew_s < seen.at_s < until_s - skew_s:
                yield Finding(_name(seen.run, seen.attempt), f"its agent started after {seen.orchestration} was stopped at {shown_place(begun)}")
        if attempt.held and not attempt.ended:
            yield Finding(_name(seen.run, seen.attempt), f"its agent started; it was queued at {shown_place(attempt.at)}, while nothing might start")


def _closed(case: Case) -> dict[str, list[tuple[int, int]]]:
    """Return for each orchestration the places between which nothing may start; 0: for ever."""
    found: dict[str, list[tuple[int, int]]] = {}
    paused: dict[str, int] = {}
    for place, _, event in case.history.standing:
        kind = type(event)
        if kind is f.HoldSet and event.hold == "paused":
            paused.setdefault(event.orchestration, place)
        elif kind is f.HoldCleared and event.hold == "paused" and event.orchestration in paused:
            found.setdefault(event.orchestration, []).append((paused.pop(event.orchestration), place))
        elif kind is f.OrchestrationMoved and event.status in ENDED:
            paused.pop(event.orchestration, None)
            found.setdefault(event.orchestration, []).append((place, 0))
    for orchestration, place in paused.items():
        found.setdefault(orchestration, []).append((place, 0))
    return found
