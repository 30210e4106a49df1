"""The invariants of spec/reliability.md, checked over the evidence of a simulated run. Pure: evidence in, violations out.

Each check reads what it needs from scratch: none trusts what another has made of the evidence.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

import msgspec
from rpds import HashTrieMap

from bus_schemas import codec, subjects
from bus_schemas import events as e
from bus_schemas.decisions import ActionStatus, CommandCause, LedgerMessage, ReportCause
from bus_schemas.events import HoldKind, RunStatus
from bus_schemas.ids import PLANE
from bus_schemas.reasons import Reason
from bus_schemas.reports import Started
from controller.project import Aggregate, replay
from node_agent.attempt import Delivered, Finished, Key, Spawning, Taken
from node_agent.attempt import Entry as JournalEntry
from tests.simulation import control
from tests.simulation.evidence import Call, Evidence, Violation

_TERMINAL = ("complete", "failed", "cancelled")
_UNOCCUPYING = (Reason.EXPIRED.value, Reason.IDEMPOTENCY_MISMATCH.value)
_journal = msgspec.json.Decoder(JournalEntry)


def violations(evidence: Evidence) -> list[Violation]:
    """Return all that does not hold; empty is what is wanted."""
    found: list[Violation] = []
    for name, check in (CHECKS | control.CHECKS).items():
        found += [Violation(name, text) for text in check(evidence)]
    return found


# ── starts ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def one_start_per_attempt(evidence: Evidence) -> Iterator[str]:
    """I1: an attempt starts its agent at most once, on whatever machine."""
    starts = Counter((seen.run, seen.attempt) for seen in evidence.witness if seen.what == "start")
    for (run, attempt), count in starts.items():
        if count > 1:
            machines = [f"{s.machine}@{s.at_s:.3f}" for s in evidence.witness if s.what == "start" and (s.run, s.attempt) == (run, attempt)]
            yield f"{run}.{attempt} started {count} times: {', '.join(machines)}"


def no_phantom(evidence: Evidence) -> Iterator[str]:
    """I4: every start was ordered before, of this node with this nonce; every decided command was sent by a client."""
    queued = {(f.event.run, f.event.attempt): f for f in evidence.facts if isinstance(f.event, e.RunQueued)}
    for seen in evidence.witness:
        if seen.what != "start":
            continue
        fact = queued.get((seen.run, seen.attempt))
        if fact is None:
            yield f"{seen.run}.{seen.attempt} started on {seen.machine} and was never queued"
            continue
        event = fact.event
        assert isinstance(event, e.RunQueued)
        if (event.nonce, event.node) != (seen.nonce, seen.node) or fact.at_s > seen.at_s:
            yield f"{seen.run}.{seen.attempt} started on {seen.machine} at {seen.at_s:.3f} unlike it was queued at {fact.at_s:.3f}"
    sent = {call.command for call in evidence.calls}
    for entry in evidence.entries:
        cause = entry.decision.cause
        if isinstance(cause, CommandCause) and cause.id not in sent:
            yield f"command {cause.id} ({cause.type}, key {cause.key}) was decided at {entry.seq} and sent by nobody"


def claim_before_start(evidence: Evidence) -> Iterator[str]:
    """I1, I14: a start has the one stored claim of its attempt, and that claim was stored before."""
    claims: dict[tuple[str, int, str], tuple[float, bool]] = {}
    for record in evidence.stored:
        if record.stream == subjects.REP and record.subject.endswith(".started"):
            subject = subjects.parse_report(record.subject)
            said = codec.decode_report(record.data)
            claims.setdefault((subject.run, subject.attempt, subject.nonce), (record.at_s, isinstance(said, Started)))
    for seen in evidence.witness:
        if seen.what == "start":
            at_s, by_node = claims.get((seen.run, seen.attempt, seen.nonce), (float("inf"), False))
            if not by_node or at_s > seen.at_s:
                claim = f"stored at {at_s:.3f}, by a node: {by_node}"
                yield f"{seen.run}.{seen.attempt} started on {seen.machine} at {seen.at_s:.3f} without its claim ({claim})"


def stop_boundary(evidence: Evidence) -> Iterator[str]:
    """I6: nothing starts after a completed pause before its resume, nor after the end of its orchestration."""
    closed: dict[str, list[tuple[float, float, str]]] = defaultdict(list)
    since: dict[str, tuple[float, str]] = {}
    given_up: set[tuple[str, int]] = set()
    for fact in evidence.facts:
        match fact.event:
            case e.HoldSet(orchestration=o, hold=HoldKind.PAUSED):
                since.setdefault(o, (fact.at_s, "paused"))
            case e.HoldCleared(orchestration=o, hold=HoldKind.PAUSED) if o in since:
                begun, why = since.pop(o)
                closed[o].append((begun, fact.at_s, why))
            case e.OrchestrationMoved(orchestration=o, status=status) if status in _TERMINAL:
                closed[o].append((fact.at_s, float("inf"), str(status)))
            case e.RunEnded() if not isinstance(fact.decision.cause, ReportCause):
                given_up.add((fact.event.run, fact.event.attempt))
            case _:
                pass
    for o, (begun, why) in since.items():
        closed[o].append((begun, float("inf"), why))
    for seen in evidence.witness:
        if seen.what != "start" or (seen.run, seen.attempt) in given_up:
            continue
        for begun, ended, why in closed[seen.orchestration]:
            if begun < seen.at_s < ended:
                yield f"{seen.run}.{seen.attempt} started on {seen.machine} at {seen.at_s:.3f}; {seen.orchestration} is {why} from {begun:.3f} on"


def fenced(evidence: Evidence) -> Iterator[str]:
    """I14: no attempt starts after it was withdrawn or has ended, or a newer one was queued. What a lost node still does is excused."""
    over: dict[tuple[str, int], tuple[float, str]] = {}
    for fact in evidence.facts:
        match fact.event:
            case e.RunWithdrawn(run=run, attempt=attempt):
                over.setdefault((run, attempt), (fact.at_s, "withdrawn"))
            case e.RunEnded(run=run, attempt=attempt):
                word = "ended" if isinstance(fact.decision.cause, ReportCause) else "given up"
                over.setdefault((run, attempt), (fact.at_s, word))
            case _:
                pass
    for seen in evidence.witness:
        at_s, why = over.get((seen.run, seen.attempt), (float("inf"), ""))
        if seen.what == "start" and why != "given up" and at_s < seen.at_s:
            yield f"{seen.run}.{seen.attempt} started on {seen.machine} at {seen.at_s:.3f}; it was {why} at {at_s:.3f}"


# ── keys, receipts, reports ──────────────────────────────────────────────────────────────────────────────────────────


def _final(call: Call) -> bool:
    return call.outcome in ("ok", "refused") and not call.dry_run


def one_outcome_per_key(evidence: Evidence) -> Iterator[str]:
    """I2: a key is decided once; all who asked with it and the same body were told the same action."""
    decided: dict[tuple[str, str], tuple[str, str]] = {}
    for entry in evidence.entries:
        cause, action = entry.decision.cause, entry.decision.action
        if not isinstance(cause, CommandCause) or action is None or action.reason_code in _UNOCCUPYING:
            continue
        known = decided.setdefault((cause.project, cause.key), (action.id, cause.body_hash))
        if known[0] != action.id:
            yield f"key {cause.key} of {cause.project} was decided twice: {known[0]} and {action.id}"
    answers: dict[tuple[str, str, str], str] = {}
    for call in evidence.calls:
        receipt = call.receipt
        if not _final(call) or receipt is None or receipt.reason_code in _UNOCCUPYING:
            continue
        told = answers.setdefault((call.project, call.key, call.body_hash), receipt.action)
        if told != receipt.action:
            yield f"key {call.key} was answered as {told} and as {receipt.action}"
        action_id, body_hash = decided.get((call.project, call.key), ("nothing", ""))
        if (action_id, body_hash) != (receipt.action, call.body_hash):
            yield f"key {call.key} was answered as {receipt.action}; the ledger says {action_id}"


def no_receipt_lost(evidence: Evidence) -> Iterator[str]:
    """I3: what a receipt says stands in the ledger: the action, its key, whether it was refused."""
    actions = {}
    for entry in evidence.entries:
        if entry.decision.action is not None:
            actions[entry.decision.action.id] = entry.decision
    for call in evidence.calls:
        if not _final(call) or call.receipt is None:
            continue
        decision = actions.get(call.receipt.action)
        if decision is None or decision.action is None:
            yield f"{call.client} was told {call.receipt.action} for key {call.key}; the ledger has no such action"
            continue
        cause = decision.cause
        assert isinstance(cause, CommandCause)
        refused = decision.action.status is ActionStatus.REFUSED
        if (
            cause.key != call.key
            or refused != (call.receipt.status is ActionStatus.REFUSED)
            or decision.action.reason_code != call.receipt.reason_code
        ):
            if not refused and call.receipt.status is ActionStatus.FAILED:
                continue  # it failed later, and the answer to a repeat says so
            yield f"{call.client} was told {call.receipt.status} ({call.receipt.reason_code}) for {call.receipt.action}; the ledger says otherwise"


def no_report_lost(evidence: Evidence) -> Iterator[str]:
    """I3: every stored end of an ordered attempt is in the ledger, or a dead letter; what a journal calls delivered was stored."""
    queued: dict[tuple[str, int], str] = {}
    settled: set[tuple[str, int]] = set()
    given_up: set[tuple[str, int]] = set()
    for fact in evidence.facts:
        match fact.event:
            case e.RunQueued():
                queued[fact.event.run, fact.event.attempt] = fact.event.nonce
            case e.RunEnded() | e.ReportStale():
                # an attempt that the controller itself gave up is not the answer to its report, where that would be recorded as stale
                if isinstance(fact.decision.cause, ReportCause):
                    settled.add((fact.event.run, fact.event.attempt))
                else:
                    given_up.add((fact.event.run, fact.event.attempt))
            case _:
                pass
    settled |= {(run, attempt) for run, attempt in given_up if (run, attempt + 1) not in queued}
    buried = {int(r.subject.rpartition(".")[2]) for r in evidence.stored if r.stream == subjects.DLQ and r.subject.startswith("qd.dlq.REP.")}
    ends: set[Key] = set()
    for record in evidence.stored:
        if record.stream != subjects.REP or not record.subject.endswith(".ended"):
            continue
        subject = subjects.parse_report(record.subject)
        ends.add(Key(subject.run, subject.attempt, subject.nonce))
        ordered = queued.get((subject.run, subject.attempt)) == subject.nonce
        if not ordered or record.seq in buried:
            yield f"the end of {subject.run}.{subject.attempt} is not believed: ordered {ordered}, a dead letter: {record.seq in buried}"
        elif (subject.run, subject.attempt) not in settled:
            yield f"the end of {subject.run}.{subject.attempt}, stored at {record.at_s:.3f}, is not in the ledger"
    for name, data in evidence.journals.items():
        finished = {entry.key for entry in _entries(data) if isinstance(entry, Finished)}
        for entry in _entries(data):
            if isinstance(entry, Delivered) and entry.key in finished and entry.key not in ends:
                yield f"{name} delivered the end of {entry.key.run}.{entry.key.attempt}, which was never stored"


def journal_before_start(evidence: Evidence) -> Iterator[str]:
    """I1: whatever started on a machine that still holds it open stands in its journal as taken and spawning, unless the journal was lost."""
    claims = control.claims(evidence)
    for name, data in evidence.journals.items():
        entries = _entries(data)
        taken = {entry.order.nonce for entry in entries if isinstance(entry, Taken)}
        spawning = {entry.key.nonce for entry in entries if isinstance(entry, Spawning)}
        done = {entry.key.nonce for entry in entries if isinstance(entry, Delivered)}
        for seen in evidence.witness:
            if claims.get((seen.run, seen.attempt), 0.0) <= evidence.emptied.get(name, 0.0):
                continue
            if seen.machine == name and seen.what == "start" and seen.nonce not in done and not (seen.nonce in taken and seen.nonce in spawning):
                yield f"{seen.run}.{seen.attempt} started on {name}, whose journal does not know it"


def _entries(data: bytes) -> list[JournalEntry]:
    lines = data.split(b"\n")
    found: list[JournalEntry] = []
    for line in lines[:-1]:
        if line:
            found.append(_journal.decode(line))
    return found


# ── actions, order, state ────────────────────────────────────────────────────────────────────────────────────────────


def actions_end_once(evidence: Evidence) -> Iterator[str]:
    """I5: an accepted action ends at most once, a refused one never; what is still open may be waiting for something that holds it."""
    ends: Counter[str] = Counter()
    accepted: dict[str, str] = {}
    for entry in evidence.entries:
        action, cause = entry.decision.action, entry.decision.cause
        if action is not None and action.status is not ActionStatus.REFUSED and isinstance(cause, CommandCause):
            accepted[action.id] = cause.type
        for event in entry.decision.events:
            if isinstance(event, e.ActionCompleted | e.ActionFailed):
                ends[event.action] += 1
    for action_id, count in ends.items():
        if action_id not in accepted:
            yield f"{action_id} ended and was not accepted"
        if count > 1:
            yield f"{action_id} ended {count} times"
    states = folded(evidence)
    waiting = {action.id: o for state in states.values() for o in state.orchestrations.values() for action in o.open_actions}
    for action_id, kind in accepted.items():
        if ends[action_id]:
            continue
        o = waiting.get(action_id)
        if o is None or not o.is_live:
            yield f"{action_id} ({kind}) never ended, and no live orchestration has it open"
        elif kind in ("cancel", "pause"):
            yield f"{action_id} ({kind}) of {o.id} is open though everything is quiet; holds {[hold.kind.value for hold in o.holds]}"
        elif not o.holds:
            yield f"{action_id} ({kind}) of {o.id} is open though nothing holds it"


_RANK = {e.RunQueued: 0, e.RunDispatched: 1, e.RunStarted: 2, e.RunEnded: 3, e.RunWithdrawn: 3}


def attempts_in_order(evidence: Evidence) -> Iterator[str]:
    """I10: queued, dispatched, started, ended: each once, in this order, and the next attempt only after the end of the one before."""
    rank: dict[tuple[str, int], int] = {}
    newest: dict[str, int] = {}
    for fact in evidence.facts:
        event = fact.event
        if not isinstance(event, e.RunQueued | e.RunDispatched | e.RunStarted | e.RunEnded | e.RunWithdrawn):
            continue
        key = (event.run, event.attempt)
        name = type(event).__name__
        if isinstance(event, e.RunQueued):
            before = newest.get(event.run, 0)
            if event.attempt != before + 1:
                yield f"{event.run}: attempt {event.attempt} queued after attempt {before}"
            if before and rank.get((event.run, before), 0) < 3:
                yield f"{event.run}: attempt {event.attempt} queued before the end of attempt {before}"
            newest[event.run] = event.attempt
        if rank.get(key, -1) >= _RANK[type(event)]:
            yield f"{event.run}.{event.attempt}: {name} after what comes later"
        if key not in rank and not isinstance(event, e.RunQueued):
            yield f"{event.run}.{event.attempt}: {name}, and it was never queued"
        if isinstance(event, e.RunWithdrawn) and rank.get(key) == 2:
            yield f"{event.run}.{event.attempt} was withdrawn after its start"
        rank[key] = _RANK[type(event)]


def ended_once(evidence: Evidence) -> Iterator[str]:
    """I5: an orchestration ends at most once, and nothing of it moves after that."""
    over: dict[str, str] = {}
    for fact in evidence.facts:
        event = fact.event
        if isinstance(event, e.OrchestrationMoved):
            if event.orchestration in over:
                yield f"{event.orchestration} became {event.status} after it was {over[event.orchestration]}"
            if event.status in _TERMINAL:
                over[event.orchestration] = str(event.status)
        elif isinstance(event, e.RunQueued) and event.orchestration in over:
            yield f"{event.run}.{event.attempt} was queued after {event.orchestration} was {over[event.orchestration]}"


def revisions_by_one(evidence: Evidence) -> Iterator[str]:
    """I9: the revisions of an active policy grow by exactly one, and the snapshot of a launch is never changed."""
    revision: dict[str, int] = {}
    for fact in evidence.facts:
        event = fact.event
        if isinstance(event, e.OrchestrationLaunched):
            revision[event.orchestration] = 1
        elif isinstance(event, e.PolicyChanged):
            if event.revision != revision.get(event.orchestration, 0) + 1:
                yield f"policy of {event.orchestration}: revision {event.revision} after {revision.get(event.orchestration)}"
            revision[event.orchestration] = event.revision


def edits_before_start(evidence: Evidence) -> Iterator[str]:
    """I7: a task is edited only while it is pending."""
    status: dict[tuple[str, str, int], str] = {}
    for fact in evidence.facts:
        match fact.event:
            case e.TaskMoved(orchestration=o, phase=phase, task=task):
                status[o, phase, task] = str(fact.event.status)
            case e.TaskEdited(orchestration=o, phase=phase, task=task):
                if status.get((o, phase, task), "pending") != "pending":
                    yield f"task {phase}.{task} of {o} was edited while {status[o, phase, task]}"
            case _:
                pass


def folded(evidence: Evidence) -> dict[str, Aggregate]:
    """Return the state of each project as its messages in the ledger say."""
    found: dict[str, list[tuple[int, LedgerMessage]]] = defaultdict(list)
    for record, message in evidence.messages:
        found[message.project].append((record.seq, message))
    return {project: replay(project, messages) for project, messages in found.items()}


def chain_and_time(evidence: Evidence) -> Iterator[str]:
    """Each message holds the hash of the one before on its subject; the times of a project never run backwards."""
    head: dict[str, str] = {}
    at: dict[str, object] = {}
    for record, message in evidence.messages:
        if message.prev != head.get(record.subject, codec.ZERO_HASH):
            yield f"ledger message {record.seq} does not follow the one before on {record.subject}"
        head[record.subject] = codec.body_sha256(record.data)
        if record.subject != subjects.ledger(message.project):
            yield f"ledger message {record.seq} of {message.project} stands on {record.subject}"
        for decision in message.decisions:
            known = at.get(message.project)
            if known is not None and decision.at < known:  # type: ignore[operator]
                yield f"{message.project}: time runs backwards in {record.seq}"
            at[message.project] = decision.at
    first = [record for record in evidence.stored if record.stream == subjects.LEDGER]
    if [(record.seq, record.data) for record in first] != [(record.seq, record.data) for record in evidence.ledger]:
        yield f"the ledger holds {len(evidence.ledger)} messages; {len(first)} were stored"


def replays_to_what_is_held(evidence: Evidence) -> Iterator[str]:
    """I20: folding the ledger twice gives the same state, which is what the active controller holds."""
    once, again = folded(evidence), folded(evidence)
    if once != again:
        yield "two folds of the same ledger differ"
    for project, state in evidence.active.items():
        if project == PLANE and project not in once:
            continue
        known = once.get(project, Aggregate(project))
        names = [name for name in known.__struct_fields__ if not _holds(getattr(state, name), getattr(known, name))]
        lives = {name for name, o in known.orchestrations.items() if o.is_live}
        if names or not lives <= set(state.orchestrations):
            yield f"the active controller holds another state of {project} than its ledger says: {', '.join(names) or 'live orchestrations'}"


def _holds(held: object, known: object) -> bool:
    """Return whether what is held is so; a map may lack what has ended and is in the index."""
    if isinstance(held, HashTrieMap) and isinstance(known, HashTrieMap):
        return all(known.get(name) == value for name, value in held.items())
    return held == known


def quiet(evidence: Evidence) -> Iterator[str]:
    """After the heal phase nothing is on its way: every orchestration ended, or something holds it that is named."""
    for state in (evidence.resting or folded(evidence)).values():
        for o in state.orchestrations.values():
            open_runs = o.open_runs()
            if not o.is_live and open_runs:
                yield f"{o.id} is {o.status} and has open runs {[run.id for run in open_runs]}"
            elif o.is_live and o.outstanding():
                late = [f"{run.id}.{run.attempt} {run.status} on {run.node}" for run in o.outstanding()]
                yield f"{o.id} is {o.status}, holds {[hold.kind.value for hold in o.holds]}; still open: {', '.join(late)}"
            elif o.is_live and not any(hold.kind in _MAY_HOLD for hold in o.holds):
                yield f"{o.id} is {o.status} and nothing moves it; holds {[hold.kind.value for hold in o.holds]}"
            for run in o.runs:
                if run.status is RunStatus.DISPATCHED and not run.is_open:
                    yield f"{run.id} is dispatched and not open"


_MAY_HOLD = (HoldKind.PAUSED, HoldKind.GATE, HoldKind.BLOCKED, HoldKind.BUDGET, HoldKind.QUOTA)


CHECKS = {
    "I1 one start": one_start_per_attempt,
    "I1 claim": claim_before_start,
    "I1 journal": journal_before_start,
    "I2 keys": one_outcome_per_key,
    "I3 receipts": no_receipt_lost,
    "I3 reports": no_report_lost,
    "I4 phantom": no_phantom,
    "I5 actions": actions_end_once,
    "I5 ends": ended_once,
    "I6 stop": stop_boundary,
    "I7 edits": edits_before_start,
    "I9 revisions": revisions_by_one,
    "I10 order": attempts_in_order,
    "I14 fencing": fenced,
    "I20 chain": chain_and_time,
    "I20 replay": replays_to_what_is_held,
    "quiet": quiet,
}
