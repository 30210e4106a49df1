"""Mutants: bugs of history, by kind. Each kind says where it can be planted and plants it; what would change nothing is no place for it.

A place is left out where the contract allows both: a dispatch may go unrecorded, a hold may be set again in other words, work
may end while its node is still marked as lost.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Sequence
from copy import deepcopy
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from msgspec.structs import replace

from bus_schemas.canonical import canonical_hash
from bus_schemas.ids import PLANE
from bus_schemas.subjects import parse_report
from cli.audit.checks_states import FLAG_OF
from cli.audit.evidence import Evidence, RepositoryState, Stored, Survivor, TimelineRow, Witnessed
from tests.unit.audit.book import Book, Json, Place


class Kind(NamedTuple):
    """A kind of bug: where it can be planted in a book, and how. It is planted in the sealed evidence where `tampers`."""

    name: str
    sites: Callable[[Any], Sequence[Any]]
    plant: Callable[[Any, Any, random.Random], Any]
    tampers: bool = False


KINDS: list[Kind] = []


def bug(name: str, sites: Callable[[Book], Sequence[Any]]) -> Callable[[Callable[[Book, Any, random.Random], None]], None]:
    """Register a bug of the system: after it was planted, the book is sealed."""

    def register(plant: Callable[[Book, Any, random.Random], None]) -> None:
        KINDS.append(Kind(name, sites, plant))

    return register


def tampering(name: str, sites: Callable[[Evidence], Sequence[Any]]) -> Callable[[Callable[[Evidence, Any, random.Random], Evidence]], None]:
    """Register a change of sealed evidence."""

    def register(plant: Callable[[Evidence, Any, random.Random], Evidence]) -> None:
        KINDS.append(Kind(name, sites, plant, tampers=True))

    return register


def mutant(kind: Kind, evidence: Evidence, rng: random.Random) -> Evidence | None:
    """Return the evidence with one bug of a kind, or None where there is no place for it."""
    if kind.tampers:
        sites = kind.sites(evidence)
        changed: Evidence | None = kind.plant(evidence, rng.choice(sites), rng) if sites else None
        return changed
    book = Book(evidence)
    sites = kind.sites(book)
    if not sites:
        return None
    kind.plant(book, rng.choice(sites), rng)
    return book.sealed()


# ── events ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _droppable(book: Book) -> list[Place]:
    needed = {FLAG_OF.get(decision["cause"]["type"]) for _, decision in book.commands(status="accepted")}
    return [
        p
        for p in book.events()
        if p.event["type"] not in ("run-dispatched", "heads-recorded")
        and p.event.get("hold") != "node_lost"
        and ("flag" not in p.event or p.event["flag"] in needed)
    ]


@bug("event dropped", _droppable)
def _(book: Book, at: Place, _: random.Random) -> None:
    del at.decision["events"][at.index]


ONCE = (
    "run-queued",
    "run-started",
    "run-ended",
    "run-withdrawn",
    "orchestration-moved",
    "orchestration-launched",
    "action-completed",
    "action-failed",
    "policy-changed",
    "phase-planned",
    "task-edited",
    "task-inserted",
    "gate-opened",
    "gate-resolved",
    "design-added",
    "ticket-added",
)


@bug("event doubled", lambda book: book.events(*ONCE))
def _(book: Book, at: Place, _: random.Random) -> None:
    at.decision["events"].insert(at.index, deepcopy(at.event))


def _pairs(book: Book) -> list[tuple[Json, Json]]:
    starts = {(p.event["run"], p.event["attempt"]): p.decision for p in book.events("run-started")}
    ends = {(p.event["run"], p.event["attempt"]): p.decision for p in book.events("run-ended")}
    return [(starts[key], ends[key]) for key in starts if key in ends and starts[key] is not ends[key]]


@bug("start and end swapped", _pairs)
def _(book: Book, at: tuple[Json, Json], _: random.Random) -> None:
    one, other = at
    for name in ("cause", "events", "because"):
        one[name], other[name] = other.get(name), one.get(name)


@bug("run renumbered", lambda book: [p for p in book.events("run-queued") if p.event["attempt"] == 1])
def _(book: Book, at: Place, _: random.Random) -> None:
    head, _dash, number = at.event["run"].rpartition("-r")
    book.rename(at.event["run"], f"{head}-r{int(number) + 100}")


@bug("attempt reused", lambda book: [p for p in book.events("run-queued") if p.event["attempt"] > 1])
def _(book: Book, at: Place, _: random.Random) -> None:
    at.event["attempt"] -= 1


@bug("attempt skipped", lambda book: book.events("run-queued"))
def _(book: Book, at: Place, _: random.Random) -> None:
    at.event["attempt"] += 1


@bug("event of another run", lambda book: book.events("run-started", "run-ended", "run-withdrawn"))
def _(book: Book, at: Place, rng: random.Random) -> None:
    others = sorted({p.event["run"] for p in book.events("run-queued")} - {at.event["run"]})
    at.event["run"] = rng.choice(others) if others else at.event["run"] + "9"


@bug("status changed", lambda book: book.events("orchestration-moved", "phase-moved", "task-moved"))
def _(book: Book, at: Place, rng: random.Random) -> None:
    values = {
        "orchestration-moved": ("validating", "planning", "executing", "reviewing", "finalizing", "complete", "failed", "cancelled"),
        "phase-moved": ("planning", "planned", "executing", "reviewing", "complete", "skipped", "blocked"),
        "task-moved": ("pending", "in_progress", "completed", "skipped", "blocked"),
    }[at.event["type"]]
    at.event["status"] = rng.choice([value for value in values if value != at.event["status"]])


@bug("revision gap", lambda book: [p for p in book.events() if isinstance(p.event.get("revision"), int) and p.event["type"] != "node-registered"])
def _(book: Book, at: Place, _: random.Random) -> None:
    at.event["revision"] += 1


@bug("plan revision gap", lambda book: [p for p in book.events() if isinstance(p.event.get("plan_revision"), int)])
def _(book: Book, at: Place, _: random.Random) -> None:
    at.event["plan_revision"] += 1


@bug("nonce reused", lambda book: book.events("run-queued")[1:])
def _(book: Book, at: Place, _: random.Random) -> None:
    at.event["nonce"] = book.events("run-queued")[0].event["nonce"]


@bug("other node", lambda book: book.events("run-started", "run-ended", "run-queued"))
def _(book: Book, at: Place, _: random.Random) -> None:
    at.event["node"] = "n2" if at.event["node"] == "n1" else "n1"


@bug("report of another node", lambda book: [d for _, d in book.decisions() if d["cause"]["cause"] == "report"])
def _(book: Book, at: Json, _: random.Random) -> None:
    at["cause"]["node"] = "n2" if at["cause"]["node"] == "n1" else "n1"


@bug(
    "work not continued",
    lambda book: [p for p in book.events("run-queued") if p.event.get("base") and p.event["kind"] not in ("task", "task-review")],
)
def _(book: Book, at: Place, _: random.Random) -> None:
    at.event["base"] = ["c-of-somebody"]


def _too_early(book: Book) -> list[tuple[Json, int]]:
    """Return planned tasks that started, each with another one of the plan that was not done by then."""
    found: list[tuple[Json, int]] = []
    planned = {(p.event["orchestration"], p.event["phase"], task["number"]): task for p in book.events("phase-planned") for task in p.event["tasks"]}
    done: set[tuple[str, str, int]] = set()
    for p in book.events("task-moved"):
        key = (p.event["orchestration"], p.event["phase"], p.event["task"])
        if p.event["status"] in ("completed", "skipped"):
            done.add(key)
        elif p.event["status"] == "in_progress" and key in planned:
            found += [(planned[key], other[2]) for other in planned if other[:2] == key[:2] and other != key and other not in done]
    return found


@bug("task started too early", _too_early)
def _(book: Book, at: tuple[Json, int], _: random.Random) -> None:
    task, needed = at
    task["depends_on"] = [*task.get("depends_on", ()), needed]


@bug("edit after start", lambda book: [p for p in book.events("task-moved") if p.event["status"] in ("in_progress", "completed")])
def _(book: Book, at: Place, _: random.Random) -> None:
    edit = {"type": "task-edited", "revision": at.event["revision"] + 1, "plan_revision": 2, "description": "late"}
    edit |= {name: at.event[name] for name in ("orchestration", "phase", "task")}
    at.decision["events"].insert(at.index + 1, edit)


@bug("start while paused", lambda book: [p for p in book.events("hold-set") if p.event["hold"] == "paused" and _open_of(book, p)])
def _(book: Book, at: Place, _: random.Random) -> None:
    queued = _open_of(book, at)[0]
    cause = {"cause": "report", "node": queued["node"], "run": queued["run"], "attempt": queued["attempt"], "kind": "started"}
    cause["stored_at"] = at.decision["at"]
    started = {"type": "run-started"} | {name: queued[name] for name in ("orchestration", "run", "attempt", "node")}
    book.insert_after(at.decision, {"at": at.decision["at"], "cause": cause, "events": [started]})
    project = at.message["project"]
    subject = f"qd.rep.{queued['node']}.{project}.{queued['run']}.{queued['attempt']}.{queued['nonce']}.started"
    book.reports.append(Stored(10**6, subject, at.message["_stored_at_s"], b'{"type":"started"}'))


def _open_of(book: Book, at: Place) -> list[Json]:
    """Return what is queued and not over at a place, of its orchestration."""
    open_: dict[tuple[str, int], Json] = {}
    for p in book.events():
        if p.event.get("orchestration") == at.event["orchestration"]:
            if p.event["type"] == "run-queued":
                open_[p.event["run"], p.event["attempt"]] = p.event
            elif p.event["type"] in ("run-ended", "run-withdrawn"):
                open_.pop((p.event["run"], p.event["attempt"]), None)
        if p.event is at.event:
            break
    return list(open_.values())


@bug("held twice", lambda book: [p for p in book.events("hold-set") if p.event["hold"] in ("pausing", "paused", "gate", "node_lost", "cancelling")])
def _(book: Book, at: Place, _: random.Random) -> None:
    at.decision["events"].insert(at.index, deepcopy(at.event))


@bug("launch of another revision", lambda book: book.events("orchestration-launched"))
def _(book: Book, at: Place, _: random.Random) -> None:
    at.event["design_revision"] += 1


@bug("stale report with effects", lambda book: [p for p in book.events("report-stale") if len(p.decision["events"]) == 1])
def _(book: Book, at: Place, _: random.Random) -> None:
    ended = {"type": "run-ended", "node": at.decision["cause"]["node"], "outcome": "succeeded"}
    at.decision["events"] = [ended | {name: at.event[name] for name in ("orchestration", "run", "attempt")}]


@bug("ended twice", lambda book: book.events("run-ended"))
def _(book: Book, at: Place, _: random.Random) -> None:
    book.insert_after(at.decision, {**deepcopy(at.decision), "events": [deepcopy(at.event)]})


@bug("terminal dropped", lambda book: [p for p in book.events("orchestration-moved") if p.event["status"] in ("complete", "failed", "cancelled")])
def _(book: Book, at: Place, _: random.Random) -> None:
    book.drop(at.decision)


@bug(
    "report decision dropped",
    lambda book: [d for _, d in book.decisions() if any(e["type"] in ("run-ended", "run-started") for e in d.get("events", ()))],
)
def _(book: Book, at: Json, _: random.Random) -> None:
    book.drop(at)


# ── policy ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@bug("policy hash changed", lambda book: book.events("orchestration-launched"))
def _(book: Book, at: Place, _: random.Random) -> None:
    at.event["policy_hash"] = "sha256-" + "0" * 64


@bug("policy snapshot changed", lambda book: book.events("orchestration-launched"))
def _(book: Book, at: Place, rng: random.Random) -> None:
    section, field, value = rng.choice([("flow", "max_task_attempts", 19), ("model", "planner", "gpt-x"), ("review", "enforcement", "none")])
    at.event["policy"][section][field] = value
    at.event["policy_hash"] = canonical_hash(at.event["policy"])


@bug("policy change lost", lambda book: [p for p in book.events("policy-changed") if p.event.get("changed")])
def _(book: Book, at: Place, _: random.Random) -> None:
    earlier = [p for p in book.events("orchestration-launched", "policy-changed") if p.event["orchestration"] == at.event["orchestration"]]
    index = next(i for i, p in enumerate(earlier) if p.event is at.event)
    at.event["policy"] = deepcopy(earlier[index - 1].event["policy"])


@bug("run with another revision", lambda book: book.events("run-queued"))
def _(book: Book, at: Place, rng: random.Random) -> None:
    at.event["policy_revision"] += rng.choice([-1, 1])


@bug("run with another model", lambda book: [p for p in book.events("run-queued") if p.event["role"] != "node"])
def _(book: Book, at: Place, _: random.Random) -> None:
    at.event["model"] = "sonnet"


@bug(
    "flag ignored",
    lambda book: [p for p in book.events("flag-changed") if p.event["flag"] == "cp.launch"] if book.commands("launch", status="accepted") else [],
)
def _(book: Book, at: Place, _: random.Random) -> None:
    at.event["on"] = False


# ── commands, keys, answers ──────────────────────────────────────────────────────────────────────────────────────────


@bug("principal flipped", lambda book: book.commands())
def _(book: Book, at: tuple[Json, Json], _: random.Random) -> None:
    cause = at[1]["cause"]
    cause["by"] = "bob" if cause["by"] == "ana" else "ana"


@bug("said by another", lambda book: book.events("gate-resolved", "comment-added", "task-inserted"))
def _(book: Book, at: Place, _: random.Random) -> None:
    if at.event["type"] == "comment-added":
        at.event["comment"]["author"] = "eve"
    else:
        at.event["by"] = "eve"


@bug("key decided twice", lambda book: [(m, d) for m, d in book.commands() if d["action"].get("reason_code") not in NOT_KEPT])
def _(book: Book, at: tuple[Json, Json], _: random.Random) -> None:
    message, decision = at
    count = sum("action" in d for m, d in book.decisions() if m["project"] == message["project"])
    last = [m for m in book.messages if m["project"] == message["project"]][-1]
    again = {"at": last["decisions"][-1]["at"], "cause": deepcopy(decision["cause"])}
    again["action"] = {"id": f"{message['project']}-a{count + 1}", "status": "refused", "reason_code": "validation_invalid_state"}
    last["decisions"].append(again)


NOT_KEPT = ("validation_expired", "validation_idempotency_mismatch")


@bug("body changed", lambda book: book.commands())
def _(book: Book, at: tuple[Json, Json], _: random.Random) -> None:
    if len(at[1]["cause"]["type"]) < 64:
        at[1]["cause"]["body"]["feature"] = "planted"
    else:
        at[1]["cause"]["key"] += "x"  # a type that was cut: its hash cannot be made again


@bug("acknowledged refusal lost", lambda book: [(m, d) for m, d in book.commands(status="refused") if d["action"]["id"] in book.acknowledged()])
def _(book: Book, at: tuple[Json, Json], _: random.Random) -> None:
    message, decision = at
    lost = int(decision["action"]["id"].rpartition("-a")[2])
    count = sum("action" in d for m, d in book.decisions() if m["project"] == message["project"])
    book.drop(decision)
    renamed = {f"{message['project']}-a{n}": f"{message['project']}-a{n - 1}" for n in range(lost + 1, count + 1)}
    for old, new in renamed.items():
        book.rename(old, new)
    book.calls = [
        replace(call, receipt=replace(call.receipt, action=renamed.get(call.receipt.action, call.receipt.action))) if call.receipt else call
        for call in book.calls
    ]


@bug("outcome dropped", lambda book: book.events("action-completed", "action-failed"))
def _(book: Book, at: Place, _: random.Random) -> None:
    del at.decision["events"][at.index]


@bug("outcome flipped", lambda book: book.events("action-completed", "action-failed"))
def _(book: Book, at: Place, _: random.Random) -> None:
    if at.event["type"] == "action-completed":
        at.event.update({"type": "action-failed", "reason_code": "validation_invalid_state"})
    else:
        at.event["type"] = "action-completed"
        del at.event["reason_code"]


@bug("refusal with effects", lambda book: book.commands(status="refused"))
def _(book: Book, at: tuple[Json, Json], _: random.Random) -> None:
    at[1]["events"] = [{"type": "action-completed", "action": at[1]["action"]["id"]}]


def _answered(book: Book) -> list[int]:
    return [index for index, call in enumerate(book.calls) if call.receipt is not None and call.outcome == "ok"]


@bug("answer of another action", _answered)
def _(book: Book, at: int, rng: random.Random) -> None:
    receipt = book.calls[at].receipt
    assert receipt is not None
    others = sorted({d["action"]["id"] for _, d in book.decisions() if "action" in d} - {receipt.action})
    book.calls[at] = replace(book.calls[at], receipt=replace(receipt, action=rng.choice(others)))


@bug("answer turned", _answered)
def _(book: Book, at: int, _: random.Random) -> None:
    call = book.calls[at]
    assert call.receipt is not None
    book.calls[at] = replace(call, outcome="refused", receipt=replace(call.receipt, status="refused", reason_code="validation_not_ready"))


@bug("command of nobody", lambda book: book.commands())
def _(book: Book, at: tuple[Json, Json], _: random.Random) -> None:
    at[1]["cause"]["id"] = "cmd-of-nobody"


# ── the log ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _followers(book: Book) -> list[tuple[Json, Json]]:
    """Return each decision with the one before it in its project."""
    latest: dict[str, Json] = {}
    found: list[tuple[Json, Json]] = []
    for message, decision in book.decisions():
        if message["project"] in latest:
            found.append((latest[message["project"]], decision))
        latest[message["project"]] = decision
    return found


@bug("time going back", _followers)
def _(book: Book, at: tuple[Json, Json], _: random.Random) -> None:
    before, decision = at
    decision["at"] = (datetime.fromisoformat(before["at"]) - timedelta(seconds=1)).isoformat()


@bug("decided against a later registry", lambda book: [m for m in book.messages if m["project"] != PLANE])
def _(book: Book, at: Json, _: random.Random) -> None:
    at["_plane_seq"] = len(book.messages) + 1


@bug("head that was not", lambda book: book.events("heads-recorded"))
def _(book: Book, at: Place, rng: random.Random) -> None:
    head = rng.choice(at.event["heads"])
    head["false"] = True
    head.update(rng.choice([{"sha256": "0" * 64}, {"seq": head["seq"] + 500}]))


@bug("batch stored twice", lambda book: book.messages[1:])
def _(book: Book, at: Json, _: random.Random) -> None:
    at["batch"] = book.messages[0]["batch"]


@bug("project not registered", lambda book: book.events("project-added"))
def _(book: Book, at: Place, _: random.Random) -> None:
    at.event["project"]["id"] = "another"


def _ledger(evidence: Evidence) -> list[Stored]:
    return list(evidence.ledger or ())


@tampering("byte flipped", lambda evidence: range(len(_ledger(evidence))))
def _(evidence: Evidence, at: int, rng: random.Random) -> Evidence:
    ledger = _ledger(evidence)
    data = bytearray(ledger[at].data)
    # the last one has nobody behind it who holds its hash: there, where something else is written down of it
    index = rng.randrange(len(data)) if at + 1 < len(ledger) and _is_followed(ledger, at) else data.index(b'"prev":"') + 10
    data[index] ^= 1
    ledger[at] = ledger[at]._replace(data=bytes(data))
    return evidence._replace(ledger=ledger)


def _is_followed(ledger: list[Stored], at: int) -> bool:
    return any(later.subject == ledger[at].subject for later in ledger[at + 1 :])


@tampering("message dropped", lambda evidence: range(len(_ledger(evidence)) - 1))
def _(evidence: Evidence, at: int, _: random.Random) -> Evidence:
    ledger = _ledger(evidence)
    del ledger[at]
    return evidence._replace(ledger=ledger)


@tampering("messages swapped", lambda evidence: range(len(_ledger(evidence)) - 1))
def _(evidence: Evidence, at: int, _: random.Random) -> Evidence:
    ledger = _ledger(evidence)
    one, other = ledger[at], ledger[at + 1]
    ledger[at], ledger[at + 1] = one._replace(subject=other.subject, data=other.data), other._replace(subject=one.subject, data=one.data)
    return evidence._replace(ledger=ledger)


@bug("tail dropped", lambda book: [m for m in book.messages[-1:] if _is_witnessed(book, m)])
def _(book: Book, at: Json, _: random.Random) -> None:
    book.messages.remove(at)


def _is_witnessed(book: Book, message: Json) -> bool:
    """Return whether somebody else wrote down what the message says: a client that was answered, or a node that reported."""
    told = book.acknowledged()
    return any(d.get("action", {}).get("id") in told or any(e["type"] == "run-ended" for e in d.get("events", ())) for d in message["decisions"])


# ── nodes and agents ─────────────────────────────────────────────────────────────────────────────────────────────────


def _starts(evidence: Evidence) -> list[Witnessed]:
    return [seen for seen in evidence.witness or () if seen.event == "start"]


@tampering("started twice", _starts)
def _(evidence: Evidence, at: Witnessed, _: random.Random) -> Evidence:
    return evidence._replace(witness=[*(evidence.witness or ()), replace(at, at=at.at_s + 0.001, pid=200)])


@tampering("started by itself", _starts)
def _(evidence: Evidence, at: Witnessed, _: random.Random) -> Evidence:
    return evidence._replace(witness=[*(evidence.witness or ()), replace(at, attempt=at.attempt + 50, nonce=None)])


@tampering("started elsewhere", _starts)
def _(evidence: Evidence, at: Witnessed, _: random.Random) -> Evidence:
    changed = replace(at, node="n2" if at.node == "n1" else "n1")
    return evidence._replace(witness=[changed if seen is at else seen for seen in evidence.witness or ()])


@tampering("started before its claim", _starts)
def _(evidence: Evidence, at: Witnessed, _: random.Random) -> Evidence:
    changed = replace(at, at=at.at_s - 3600.0)
    return evidence._replace(witness=[changed if seen is at else seen for seen in evidence.witness or ()])


@tampering("told another text", lambda evidence: [seen for seen in _starts(evidence) if seen.text_hash is not None])
def _(evidence: Evidence, at: Witnessed, _: random.Random) -> Evidence:
    changed = replace(at, text_hash="0" * 64)
    return evidence._replace(witness=[changed if seen is at else seen for seen in evidence.witness or ()])


def _withdrawn(evidence: Evidence) -> list[Json]:
    book = Book(evidence)
    return [p.event for p in book.events("run-withdrawn")]


@tampering("started though withdrawn", _withdrawn)
def _(evidence: Evidence, at: Json, _: random.Random) -> Evidence:
    last_s = max((seen.at_s for seen in evidence.witness or ()), default=0.0)
    seen = Witnessed(last_s, at["orchestration"], at["run"], at["attempt"], "start")
    return evidence._replace(witness=[*(evidence.witness or ()), seen])


def _claims(evidence: Evidence) -> list[Stored]:
    started = {(seen.run, seen.attempt) for seen in _starts(evidence)}
    found = []
    for report in evidence.reports or ():
        subject = parse_report(report.subject)
        if subject.kind == "started" and (subject.run, subject.attempt) in started:
            found.append(report)
    return found


@tampering("started without a claim", _claims)
def _(evidence: Evidence, at: Stored, _: random.Random) -> Evidence:
    return evidence._replace(reports=[report for report in evidence.reports or () if report is not at])


@tampering("claim was withdrawn", _claims)
def _(evidence: Evidence, at: Stored, _: random.Random) -> Evidence:
    changed = at._replace(data=at.data.replace(b'"started"', b'"withdrawn"'))
    return evidence._replace(reports=[changed if report is at else report for report in evidence.reports or ()])


@tampering("report stored twice", lambda evidence: list(evidence.reports or ()))
def _(evidence: Evidence, at: Stored, _: random.Random) -> Evidence:
    return evidence._replace(reports=[*(evidence.reports or ()), at._replace(seq=10**6)])


@tampering("end of nobody", lambda evidence: [r for r in evidence.reports or () if r.subject.endswith(".ended")])
def _(evidence: Evidence, at: Stored, _: random.Random) -> Evidence:
    return evidence._replace(reports=[report for report in evidence.reports or () if report is not at])


# ── the timeline, and what lies around ───────────────────────────────────────────────────────────────────────────────


def _timeline(evidence: Evidence) -> list[TimelineRow]:
    return list(evidence.timeline or ())


@tampering("timeline row missing", lambda evidence: range(len(_timeline(evidence))))
def _(evidence: Evidence, at: int, _: random.Random) -> Evidence:
    rows = _timeline(evidence)
    return evidence._replace(timeline=rows[:at] + rows[at + 1 :])


@tampering("timeline row twice", lambda evidence: range(len(_timeline(evidence))))
def _(evidence: Evidence, at: int, _: random.Random) -> Evidence:
    rows = _timeline(evidence)
    return evidence._replace(timeline=[*rows[:at], rows[at], *rows[at:]])


@tampering("timeline row changed", lambda evidence: range(len(_timeline(evidence))))
def _(evidence: Evidence, at: int, rng: random.Random) -> Evidence:
    rows = _timeline(evidence)
    row = rows[at]
    changes: list[dict[str, Any]] = [
        {"type": "ticket-moved" if row.type != "ticket-moved" else "hold-set"},
        {"project": "another"},
        {"idx": row.idx + 90},
    ]
    changes += [{"run": row.run + "9"}, {"attempt": 99}] if row.run is not None else []
    rows[at] = replace(row, **rng.choice(changes))
    return evidence._replace(timeline=rows)


def _once(_: Evidence) -> list[int]:
    return [0]


@bug("moved from elsewhere", lambda book: book.events("ticket-moved", "design-moved"))
def _(book: Book, at: Place, _: random.Random) -> None:
    at.event["previous"] = "draft" if at.event["previous"] != "draft" else "archived"


@tampering("message on another subject", lambda evidence: range(len(_ledger(evidence))))
def _(evidence: Evidence, at: int, _: random.Random) -> Evidence:
    ledger = _ledger(evidence)
    ledger[at] = ledger[at]._replace(subject="qd.ledger.another")
    return evidence._replace(ledger=ledger)


def _spawned(evidence: Evidence) -> list[tuple[int, int]]:
    return [(j, at) for j, journal in enumerate(evidence.journals or ()) for at, line in enumerate(journal.lines) if line.type == "spawning"]


@tampering("spawned twice by its journal", _spawned)
def _(evidence: Evidence, at: tuple[int, int], _: random.Random) -> Evidence:
    journals = list(evidence.journals or ())
    journal = journals[at[0]]
    journals[at[0]] = journal._replace(lines=(*journal.lines, journal.lines[at[1]]))
    return evidence._replace(journals=journals)


@tampering("answers came late", lambda evidence: [0] if any(call.done_at_s for call in evidence.calls or ()) else [])
def _(evidence: Evidence, _at: int, _: random.Random) -> Evidence:
    return evidence._replace(calls=[replace(call, done_at_s=call.done_at_s + 7200.0) if call.done_at_s else call for call in evidence.calls or ()])


@tampering("process left", _once)
def _(evidence: Evidence, _at: int, rng: random.Random) -> Evidence:
    return evidence._replace(survivors=[Survivor(rng.randint(2, 9999), "sh", state="zombie")])


@tampering("repository touched", _once)
def _(evidence: Evidence, _at: int, rng: random.Random) -> Evidence:
    (repository,) = evidence.repositories or ()
    after = repository.after
    refs = {**after.refs, "refs/heads/main": "c7"}
    changed = [replace(after, refs=refs), replace(after, head="refs/heads/x"), replace(after, index="i9"), replace(after, files={})]
    changed.append(RepositoryState({**after.refs, "refs/tags/v1": "c1"}, after.head, after.index, after.files))
    return evidence._replace(repositories=[replace(repository, after=rng.choice(changed))])


@tampering("secret told", _once)
def _(evidence: Evidence, _at: int, rng: random.Random) -> Evidence:
    (canary,) = evidence.canaries or ()
    written = rng.choice([canary.encode(), base64.b64encode(b"x" * rng.randint(0, 2) + canary.encode() + b" and more")])
    where = rng.choice(["log", "report", "ledger"])
    if where == "log":
        return evidence._replace(sinks={"qd.log": b"at " + written + b"!"})
    if where == "report":
        reports = list(evidence.reports or ())
        reports[0] = reports[0]._replace(data=reports[0].data[:-1] + b',"detail":"' + written + b'"}')
        return evidence._replace(reports=reports)
    ledger = _ledger(evidence)
    ledger[-1] = ledger[-1]._replace(data=ledger[-1].data[:-1] + b',"note":"' + written + b'"}')
    return evidence._replace(ledger=ledger)
