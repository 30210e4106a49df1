"""`python -m bench.verify`: how fast evidence is judged, as one JSON document on stdout. Owns a throw-away folder.

The ledger is made by the core itself: orchestrations from launch to complete, in messages as group commit writes them under load.
Beside it stand what a client, the agents, the streams and the timeline would have written. A ledger alone is judged by one process,
with other evidence by two at once: times are CPU times of the slower one, so that they say the same on a machine that is busy.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import BinaryIO

import msgspec
from msgspec.structs import replace

from bench import work
from bench.figures import Figures, rounded
from bench.replay import MESSAGE_DECISIONS, NOW, Core
from bus_schemas import codec, subjects
from bus_schemas import events as e
from bus_schemas.decisions import CORE_VERSION, CommandCause, Decision, LedgerMessage, ReportCause, TimerCause, rows
from bus_schemas.entities import FLAGS_ON_AT_FIRST, Node, Project
from bus_schemas.ids import PLANE, NodeId, ProjectId
from bus_schemas.reports import Report
from cli.audit.evidence import Answer, Call, TimelineRow, Witnessed
from cli.audit.folder import line_of
from cli.audit.halves import verify as verify_evidence
from cli.audit.verdict import Verdict
from controller.orchestration import Run

EVENTS = 1_000_000


class Wrote:
    """Files of evidence, being written."""

    def __init__(self, folder: Path) -> None:
        """Open them in `folder`."""
        self.ledger, self.reports, self.calls, self.witness, self.timeline = (
            (folder / f"{name}.jsonl").open("wb") for name in ("ledger", "rep", "clients", "witness", "timeline")
        )
        (folder / "evidence.json").write_bytes(b'{"quiesced":true,"clients_complete":true,"clock_skew_s":1.0}')

    def line(self, file: BinaryIO, value: object) -> None:
        """Write a value as a line."""
        file.write(msgspec.json.encode(value) + b"\n")

    def close(self) -> None:
        """Close them."""
        for file in (self.ledger, self.reports, self.calls, self.witness, self.timeline):
            file.close()


class Written(Core):
    """A core whose decisions become a chained ledger, and whose commands and reports leave evidence."""

    def __init__(self, wrote: Wrote) -> None:
        """Begin with the registry as the first message."""
        self.wrote = wrote
        self.seq = self.stored_reports = 0
        self.heads: dict[str, str] = {}
        flags = [e.FlagChanged(flag.value, True) for flag in FLAGS_ON_AT_FIRST]
        nodes = [e.NodeRegistered(Node(NodeId(name), capacity=work.NODE_CAPACITY, agents=work.OFFERS)) for name in work.NODES]
        project = e.ProjectAdded(Project(ProjectId(work.PROJECT), "Bench", "/nowhere"))
        self._store(PLANE, (Decision(at=NOW, cause=TimerCause("bench"), events=(*flags, *nodes, project)),))
        super().__init__()

    def flush(self) -> None:
        """Store the decisions so far as one ledger message."""
        if self.decisions:
            self._store(work.PROJECT, tuple(self.decisions))
            self.decisions = []

    def _store(self, project: str, decisions: tuple[Decision, ...]) -> None:
        prev = self.heads.get(project, codec.ZERO_HASH)
        batch = f"{self.seq:032x}"
        message = LedgerMessage(codec.VERSION, "ledger-message", project, batch, "bench", prev, min(self.seq, 1), CORE_VERSION, decisions)
        data = codec.encode(message)
        self.seq += 1
        self.heads[project] = hashlib.sha256(data).hexdigest()
        self.wrote.ledger.write(line_of(self.seq, subjects.ledger(project), decisions[0].at, data))
        for row in rows(message, self.seq):
            kind = row.decision.cause.type if row.event is None and isinstance(row.decision.cause, CommandCause) else ""
            about = row.decision.action if row.event is None else row.event
            named = [getattr(about, name, None) for name in ("orchestration", "run", "attempt")]
            name = kind if row.event is None else e.type_of(row.event)
            self.wrote.line(self.wrote.timeline, TimelineRow(self.seq, row.position.row, project, name, *named))
            if row.event is None:
                self._answered(row.decision, str(row.position))

    def _answered(self, decision: Decision, position: str) -> None:
        cause, action = decision.cause, decision.action
        assert isinstance(cause, CommandCause)
        assert action is not None
        answer = Answer(action.id, "accepted", cause.project, cause.key, cause.by, cause.type, position=position)
        call = Call("bench", 0.0, cause.id, cause.project, cause.type, cause.key, "ok", 0.001, cause.by, cause.body_hash, receipt=answer)
        self.wrote.line(self.wrote.calls, call)

    def report(self, run: Run, report: Report, kind: str) -> None:
        """Decide a report, and let its stream and the agent write it down."""
        subject = subjects.report(run.node, work.PROJECT, run.id, run.attempt, run.nonce, kind)
        self.stored_reports += 1
        at = self.context.now
        self.wrote.reports.write(line_of(self.stored_reports, subject, at, codec.encode(report)))
        orchestration = run.id.rpartition("-r")[0]
        seen = Witnessed(at, orchestration, run.id, run.attempt, "start" if kind == "started" else "end", work.PROJECT, run.node, run.nonce)
        self.wrote.line(self.wrote.witness, seen)
        super().report(run, report, kind)
        last = self.decisions[-1] if self.decisions else None
        assert last is None or isinstance(last.cause, ReportCause)

    def forget(self) -> None:
        """Leave out of the state what has ended: a history is to be made, not kept."""
        empty = type(self.state)(work.PROJECT)
        self.state = replace(self.state, orchestrations=empty.orchestrations, actions=empty.actions, commands=empty.commands)


def write(folder: Path, events: int) -> Written:
    """Write the evidence of a history of at least so many events into a folder."""
    wrote = Wrote(folder)
    core = Written(wrote)
    number = 0
    while core.events < events:
        core.orchestrate(number)
        core.forget()
        number += 1
    core.flush()
    wrote.close()
    return core


def _timed(folder: Path) -> tuple[Verdict, float, float]:
    """Return the verdict, the CPU seconds of the slower process, and the seconds that passed."""
    begun, before, children = time.monotonic(), time.process_time(), _of_children()
    verdict = verify_evidence(folder)
    return verdict, max(time.process_time() - before, _of_children() - children), time.monotonic() - begun


def _of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def verify(events: int) -> Figures:
    """Return how fast a ledger alone, and a whole folder of evidence, are read from files and judged."""
    with tempfile.TemporaryDirectory(prefix="qd-verify-") as name:
        folder = Path(name)
        core = write(folder, events)
        everything, everything_s, everything_passed_s = _timed(folder)
        size_bytes = (folder / "ledger.jsonl").stat().st_size
        for other in [path for path in folder.iterdir() if path.name != "ledger.jsonl"]:
            other.unlink()
        ledger, ledger_s, ledger_passed_s = _timed(folder)
    problems = [*ledger.violations, *everything.violations]
    return {
        "events": everything.figures.events,
        "decisions": core.decided,
        "messages": core.seq,
        "decisions_a_message": MESSAGE_DECISIONS,
        "ledger_mb": rounded(size_bytes / 1e6),
        "ledger_s": rounded(ledger_s),
        "ledger_passed_s": rounded(ledger_passed_s),
        "ledger_events_per_s": rounded(ledger.figures.events / ledger_s),
        "all_evidence_s": rounded(everything_s),
        "all_evidence_passed_s": rounded(everything_passed_s),
        "all_evidence_events_per_s": rounded(everything.figures.events / everything_s),
        "checked": everything.checked,
        "violations": [f"{found.invariant} {found.where}: {found.text}" for found in problems[:20]],
        "rss_peak_mb": rounded(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "cpus": os.cpu_count() or 0,
    }


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.verify")
    parser.add_argument("--events", type=int, default=EVENTS)
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(verify(parser.parse_args().events)), indent=2) + b"\n")


if __name__ == "__main__":
    main()
