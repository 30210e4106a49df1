"""Evidence of a run, taken from whoever wrote it down and put into the form of `docs/evidence.md`.

Reads the rig's folder and the bus; writes the evidence folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec

from bus.bootstrap import NO_CONSUMER
from bus.connection import ApiFailure
from bus.reader import Reader, stream_state
from bus_schemas import subjects
from cli.audit.evidence import Answer, Call, Circumstances, Fault, Repository, RepositoryState, Survivor, Witnessed
from cli.audit.folder import line_of
from tests.chaos.figures import Injected
from tests.chaos.rig import TWIN_SUFFIX, Rig, Role

MARK = "QD_RUN_DIR"
DUMPS = {"ledger.jsonl": (subjects.LEDGER, "qd.ledger.*"), "rep.jsonl": (subjects.REP, "qd.rep.>"), "dlq.jsonl": (subjects.DLQ, ">")}
CLOCK_SKEW_S = 0.1


async def streams(rig: Rig, evidence: Path) -> None:
    """Write ledger, reports and dead letters as the bus holds them."""
    for name, (stream, filter_) in DUMPS.items():
        last = (await stream_state(rig.bus, stream)).last_seq
        with (evidence / name).open("wb") as file:
            if not last:
                continue
            wanted = subjects_of(stream) if filter_ == ">" else (filter_,)
            async with aclosing(Reader(rig.bus, stream, wanted, 1).batches()) as batches:
                async for batch in batches:
                    file.writelines(line_of(item.seq, item.subject, item.stored_at, item.data, item.headers) for item in batch)
                    if batch[-1].seq >= last:
                        break


def subjects_of(stream: str) -> tuple[str, ...]:
    """Return the subjects of a stream."""
    return next(spec.subjects for spec in subjects.STREAMS if spec.name == stream)


async def pending(rig: Rig) -> dict[str, int]:
    """Return the durable consumers that have something to deliver or to be acknowledged, and how much."""
    found: dict[str, int] = {}
    nodes = {component.node for component in rig.components.values() if component.role is Role.NODE}
    specs = [*subjects.CONTROLLER_CONSUMERS, *(spec for node in nodes for spec in subjects.node_consumers(node, 1))]
    for spec in specs:
        try:
            info = await rig.bus.api(f"CONSUMER.INFO.{spec.stream}.{spec.name}")
        except ApiFailure as failure:
            if failure.err_code != NO_CONSUMER:
                raise
            continue
        if waiting := info["num_pending"] + info["num_ack_pending"]:
            found[f"{spec.stream}/{spec.name}"] = waiting
    return found


def survivors(folder: Path) -> list[Survivor]:
    """Return the processes of agents below a folder that run now, and their shims."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            where = _run_dir(process)
            if where is not None and where.is_relative_to(folder):
                run, _, attempt = where.name.partition(".")
                state = (process / "stat").read_text().rpartition(")")[2].split()[0]
                found.append(Survivor(int(process.name), (process / "comm").read_text().strip(), run, int(attempt.partition(".")[0]), state))
    return found


def _run_dir(process: Path) -> Path | None:
    """Return the run folder that a process of /proc belongs to: named in its environment, or the last word of a shim's command."""
    words = (process / "cmdline").read_bytes().split(b"\0")
    if any(word.endswith(b"shim.py") for word in words):
        return Path(words[-2].decode())
    variables = (process / "environ").read_bytes().split(b"\0")
    return next((Path(value[len(MARK) + 1 :].decode()) for value in variables if value.startswith(MARK.encode() + b"=")), None)


def repository_state(repo: Path) -> RepositoryState:
    """Return what an operator sees of a repository, without what is ours in it."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=repo, capture_output=True, text=True, check=True).stdout

    refs = dict(line.split(" ", 1) for line in git("for-each-ref", "--format=%(refname) %(objectname)").splitlines())
    index = repo / ".git" / "index"
    changed = [line[3:] for line in git("status", "--porcelain").splitlines()]
    return RepositoryState(
        refs=refs,
        head=(repo / ".git" / "HEAD").read_text().strip(),
        index=hashlib.sha256(git("ls-files", "--stage").encode()).hexdigest() if index.exists() else "",
        files={name: hashlib.sha256((repo / name).read_bytes()).hexdigest() for name in changed if (repo / name).is_file()},
    )


def calls(path: Path) -> Iterator[Call]:
    """Yield the calls of a client's log, tries of one key each on its own; one whose answer never came is unknown."""
    open_: dict[tuple[str, str, int], dict[str, Any]] = {}
    for line in _lines(path):
        if line["event"] == "ended":
            continue
        name = (line["project"], line["key"], line["try"])
        if line["event"] == "invoke":
            open_[name] = line
            continue
        yield _call(open_.pop(name), line)
    for line in open_.values():
        yield _call(line, None)


def _call(asked: dict[str, Any], told: dict[str, Any] | None) -> Call:
    receipt = None if told is None or "receipt" not in told else msgspec.convert(told["receipt"], Answer)
    return Call(
        client=asked["client"],
        at_s=asked["mono_ns"] / 1e9,
        call_id=asked["id"],
        project=asked["project"],
        verb=asked["type"],
        key=asked["key"],
        outcome="unknown" if told is None else told["event"],
        done_at_s=None if told is None else told["mono_ns"] / 1e9,
        principal=asked["principal"],
        body_hash=asked["body_hash"],
        receipt=receipt,
    )


def witnessed(path: Path) -> Iterator[Witnessed]:
    """Yield what the agents wrote; node and nonce stand in the folder they were run in."""
    for line in _lines(path):
        where = Path(line["run_dir"])
        yield Witnessed(
            at=line["at"],
            orchestration=line["orchestration"],
            run=line["run"],
            attempt=line["attempt"],
            event=line["event"],
            project=line["project"],
            node=where.parents[1].name.removesuffix(TWIN_SUFFIX),
            nonce=where.name.rpartition(".")[2],
            pid=line["pid"],
            task=f"{line['phase']}.{line['task']}",
        )


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):  # a torn line was never acted on
                yield msgspec.json.decode(line)


def _write(path: Path, values: Iterable[Any]) -> None:
    with path.open("wb") as file:
        file.writelines(msgspec.json.encode(value) + b"\n" for value in values)


def files(rig: Rig, evidence: Path, faults: Iterable[Injected], before: RepositoryState, bounds_s: dict[str, float]) -> None:
    """Write everything that stands in files; the services have been stopped."""
    _write(evidence / "clients.jsonl", (call for path in sorted(rig.folder.glob("client-*.jsonl")) for call in calls(path)))
    _write(evidence / "witness.jsonl", witnessed(rig.witness))
    _write(evidence / "faults.jsonl", (Fault(fault.at_s, fault.kind, fault.target, fault.healed_s) for fault in faults))
    _journals(rig, evidence / "journals")
    repository = Repository(str(rig.repo), before, repository_state(rig.repo))
    (evidence / "repos.json").write_bytes(msgspec.json.encode([repository]))
    (evidence / "canaries.json").write_bytes(msgspec.json.encode([rig.server.credentials.token]))
    (evidence / "evidence.json").write_bytes(
        msgspec.json.encode(Circumstances(quiesced=True, clients_complete=True, clock_skew_s=CLOCK_SKEW_S, recovery_bounds_s=bounds_s))
    )
    (evidence / "sinks").mkdir(exist_ok=True)
    for log in rig.folder.glob("*.log"):
        shutil.copy(log, evidence / "sinks" / log.name)
    for file in (rig.folder / "timeline").glob("timeline.duckdb*"):  # a process that was killed leaves a write-ahead log, which belongs to it
        shutil.copy(file, evidence / file.name)


def _journals(rig: Rig, folder: Path) -> None:
    """Put all lives of all journals under the node's id: twins are one node with two journals."""
    folder.mkdir(exist_ok=True)
    for component in rig.components.values():
        if component.role is not Role.NODE:
            continue
        component.keep_journal()
        for path in sorted((rig.folder / "journals").glob(f"{component.name}.*.jsonl")):
            shutil.copy(path, folder / f"{component.node}.{component.name}-{path.name.split('.')[1]}.jsonl")
