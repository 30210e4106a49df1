"""An export, written from the bus: streamed, in bounded memory, complete or not there at all. Owns the folder that it makes."""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec

from bus.connection import Bus, Stored
from bus.identity import public_of, sign
from bus.reader import Hole, StreamState, read_up_to, stream_state
from bus_schemas.codec import body_sha256
from bus_schemas.events import RecordedHead
from bus_schemas.ids import PLANE
from bus_schemas.subjects import LEDGER, REP, ledger
from cli.audit import export
from cli.audit.export import FileFacts, LineChain, Manifest, Signature
from cli.audit.folder import line_of

Told = Callable[[str], None]


class Asked(NamedTuple):
    """What is to be exported: everything, or one project with the registry; from a sequence on; signed with a seed file or not."""

    project: str | None
    since_seq: int
    by: str
    tool: str
    seed_file: Path | None


async def last_seq_of(bus: Bus, stream: str, subjects: tuple[str, ...]) -> int:
    """Return the newest sequence of these subjects, 0 where there is none. Raises Unavailable, ApiFailure."""
    found = [await bus.last(stream, subject) for subject in subjects]
    return max((stored.seq for stored in found if stored is not None), default=0)


async def write(bus: Bus, target: Path, asked: Asked, tell: Told) -> Manifest:
    """Write an export to the folder `target` and return its manifest; `tell` hears what could not be read.

    Raises FileExistsError when there is something of that name, OSError, BadIdentity, Unavailable and ApiFailure; then nothing is left.
    """
    partial = _begun(target)
    try:
        manifest = await _write(bus, partial, asked, tell)
        _sync(partial)
        os.rename(partial, target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    _sync(target.parent)
    return manifest


def _begun(target: Path) -> Path:
    if os.path.lexists(target):
        raise FileExistsError(f"{target} exists; an export is never written over anything")
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    partial.mkdir(mode=0o700, parents=True)
    return partial


async def _write(bus: Bus, folder: Path, asked: Asked, tell: Told) -> Manifest:
    signer = None if asked.seed_file is None else public_of(asked.seed_file)
    state = await stream_state(bus, LEDGER)
    heads: dict[str, RecordedHead] = {}

    def note(stored: Stored) -> None:
        project = stored.subject.rpartition(".")[2]
        heads[project] = RecordedHead(project, stored.seq, body_sha256(stored.data))

    messages = _ledger(bus, asked, state)
    facts = await _file(folder / export.LEDGER_FILE, LEDGER, state, messages, note, tell)
    reports = await stream_state(bus, REP)
    subjects = ("qd.rep.>",) if asked.project is None else (f"qd.rep.*.{asked.project}.>",)
    messages = read_up_to(bus, REP, subjects, 1, await last_seq_of(bus, REP, subjects))
    others = await _file(folder / export.REPORTS_FILE, REP, reports, messages, lambda stored: None, tell)
    manifest = Manifest(
        schema=export.SCHEMA,
        exported_at=datetime.now(UTC),
        exported_by=asked.by,
        tool=asked.tool,
        stream=LEDGER,
        stream_created=state.created,
        stream_last_seq=state.last_seq,
        files=(facts, others),
        heads=tuple(heads[project] for project in sorted(heads)),
        project=asked.project,
        since_seq=asked.since_seq,
        signer=signer,
    )
    data = export.manifest_bytes(manifest)
    _put(folder / export.MANIFEST, data)
    if asked.seed_file is not None and signer is not None:
        signature = Signature(signer, base64.b64encode(sign(asked.seed_file, data)).decode())
        _put(folder / export.SIGNATURE, msgspec.json.encode(signature) + b"\n")
    return manifest


async def _ledger(bus: Bus, asked: Asked, state: StreamState) -> AsyncGenerator[list[Stored], None]:
    subjects: tuple[str, ...]
    if asked.project is None:
        subjects, last_seq = ("qd.ledger.*",), state.last_seq
    else:
        subjects = (ledger(asked.project), ledger(PLANE))
        last_seq = await last_seq_of(bus, LEDGER, subjects)
    async with aclosing(read_up_to(bus, LEDGER, subjects, asked.since_seq, last_seq)) as batches:
        async for batch in batches:
            yield batch


async def _file(
    path: Path, stream: str, state: StreamState, batches: AsyncGenerator[list[Stored], None], note: Callable[[Stored], None], tell: Told
) -> FileFacts:
    """Write the messages of a stream, one a line, and return what the manifest says of the file."""
    chain = LineChain(path.name)
    first = last = None
    with path.open("xb") as file:
        os.chmod(path, 0o600)
        try:
            async with aclosing(batches) as found:
                async for batch in found:
                    for stored in batch:
                        file.write(chain.wrap(line_of(stored.seq, stored.subject, stored.stored_at, stored.data, stored.headers)))
                        note(stored)
                        first, last = first or stored.seq, stored.seq
        except Hole as hole:
            tell(f"{hole}; the export ends before it, and its verification will say so")
        _flushed(file)
    return FileFacts(path.name, stream, state.created, chain.lines, chain.bytes, chain.sha256, chain.chain, first, last)


def _put(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        os.chmod(path, 0o600)
        file.write(data)
        _flushed(file)


def _flushed(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
