"""An export, read and judged with nothing but its files. Owns the reading of them; memory is bounded by a line and the heads.

Every byte is under a hash: of the file's lines one by one, of each file as a whole, of the manifest. What is found is named with
file, line, sequence and subject.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import msgspec

from bus.identity import BadIdentity, is_signed_by
from bus_schemas.chain import HEADS, NO_NOTES, Chain, Notes
from bus_schemas.ids import PLANE
from bus_schemas.violation import VIOLATIONS_MAX, Violation
from cli.audit import export
from cli.audit.evidence import Stored
from cli.audit.export import FILES, LINES, SIGNED, FileFacts, Judged, LineChain, Manifest, Signature
from cli.audit.folder import stored_of

MANIFEST_BYTES_MAX = 256 * 1024**2
KNOWN = (export.LEDGER_FILE, export.REPORTS_FILE)


class ReadExport:
    """The judgement of the export in a folder: `read` fills it."""

    def __init__(self, folder: Path, notes: Notes = NO_NOTES, signer: str | None = None) -> None:
        """Heads that were noted elsewhere, and the key that must have signed it, are compared too."""
        self.folder = folder
        self._notes, self._signer = notes, signer
        self.manifest: Manifest | None = None
        self.lines = self.bytes = self.files = 0
        self.signed_by: str | None = None
        self.chain = Chain()
        self.findings: list[Violation] = []

    def read(self) -> None:
        """Read all of it. Raises OSError."""
        manifest = self._read_manifest()
        self._look_for_others()
        self.chain = Chain(
            first_seq=1 if manifest is None else manifest.since_seq,
            projects=None if manifest is None or manifest.project is None else frozenset({manifest.project, PLANE}),
            notes=self._notes,
        )
        facts = {} if manifest is None else {file.name: file for file in manifest.files}
        for name in facts or KNOWN:
            self._read_file(name, facts.get(name))
        self.chain.finish(None if manifest is None else manifest.stream_last_seq)
        self.findings += self.chain.findings
        if manifest is not None:
            self._compare_heads(manifest)

    def judged(self) -> Judged:
        """Return what was found."""
        return Judged(str(self.folder), self.manifest, self.files, self.lines, self.bytes, self.chain, self.signed_by, tuple(self.findings))

    def _add(self, check: str, where: str, text: str) -> None:
        if len(self.findings) < VIOLATIONS_MAX:
            self.findings.append(Violation(check, where, text))

    # ── the manifest ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _read_manifest(self) -> Manifest | None:
        path = self.folder / export.MANIFEST
        data = self._whole(path)
        if data is None:
            self._add(FILES, export.MANIFEST, "it is missing")
            return None
        self.files += 1
        self.manifest, wrong = export.read_manifest(data)
        if wrong is not None:
            self._add(FILES, export.MANIFEST, wrong)
        self._read_signature(data)
        return self.manifest

    def _whole(self, path: Path) -> bytes | None:
        try:
            with path.open("rb") as file:
                return file.read(MANIFEST_BYTES_MAX)
        except FileNotFoundError:
            return None

    def _read_signature(self, manifest: bytes) -> None:
        data = self._whole(self.folder / export.SIGNATURE)
        promised = None if self.manifest is None else self.manifest.signer
        if data is None:
            if promised is not None or self._signer is not None:
                self._add(SIGNED, export.SIGNATURE, f"it is missing; the manifest must be signed by {self._signer or promised}")
            return
        self.files += 1
        try:
            signature = msgspec.json.decode(data, type=Signature)
            raw = base64.b64decode(signature.signature, validate=True)
            good = is_signed_by(signature.signer, manifest, raw)
        except (msgspec.MsgspecError, ValueError, BadIdentity) as error:
            self._add(SIGNED, export.SIGNATURE, f"it cannot be understood: {error}")
            return
        as_written = msgspec.json.encode(Signature(signature.signer, base64.b64encode(raw).decode())) + b"\n"
        if not good or data != as_written:
            self._add(SIGNED, export.SIGNATURE, f"it is not a signature of {signature.signer} of this manifest: one of the two was changed")
        elif promised is not None and signature.signer != promised:
            self._add(SIGNED, export.SIGNATURE, f"it was made by {signature.signer}, and the manifest names {promised}")
        elif self._signer is not None and signature.signer != self._signer:
            self._add(SIGNED, export.SIGNATURE, f"it was made by {signature.signer}, expected {self._signer}")
        else:
            self.signed_by = signature.signer

    def _look_for_others(self) -> None:
        named = {*KNOWN, export.MANIFEST, export.SIGNATURE}
        for path in sorted(self.folder.iterdir()):
            if path.name not in named:
                self._add(FILES, path.name, "it is not a file of an export: somebody put it there")

    # ── the files ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _read_file(self, name: str, facts: FileFacts | None) -> None:
        if name not in KNOWN:
            self._add(FILES, export.MANIFEST, f"it names a file {name!r} that no export has")
            return
        path = self.folder / name
        if not path.is_file():
            self._add(FILES, name, "it is missing")
            return
        self.files += 1
        chain = LineChain(name)
        first = last = None
        for line in _lines(path):
            wrong = chain.read(line)
            stored = message_of(line)
            seq = None if stored is None else stored.seq
            if wrong is not None:
                self._add(LINES, self._where(name, chain.lines, stored, last), wrong)
            if stored is not None and name == export.LEDGER_FILE:
                self.chain.take(stored.seq, stored.subject, stored.data)
            first, last = first if first is not None else seq, seq if seq is not None else last
        self.lines += chain.lines
        self.bytes += chain.bytes
        if facts is not None:
            self._compare(facts, chain, first, last)

    def _where(self, name: str, number: int, stored: Stored | None, last: int | None) -> str:
        if stored is not None:
            return f"{name} line {number}, message {stored.seq} of {stored.subject}"
        return f"{name} line {number}, the message after {last or 'the beginning'}"

    def _compare(self, facts: FileFacts, chain: LineChain, first: int | None, last: int | None) -> None:
        pairs = (
            ("lines", facts.lines, chain.lines),
            ("bytes", facts.bytes, chain.bytes),
            ("the first message", facts.first_seq, first),
            ("the last message", facts.last_seq, last),
            ("the SHA-256", facts.sha256, chain.sha256),
            ("the hash of the last line", facts.chain, chain.chain),
        )
        wrong = [f"{what}: expected {expected}, found {found}" for what, expected, found in pairs if expected != found]
        if wrong:
            self._add(FILES, facts.name, f"it is not what the manifest says: {'; '.join(wrong)}")

    def _compare_heads(self, manifest: Manifest) -> None:
        noted = {head.project: head for head in manifest.heads}
        for project in sorted({*noted, *self.chain.heads}):
            expected, found = noted.get(project), self.chain.heads.get(project)
            if expected is None or found is None or (expected.seq, expected.sha256) != found:
                said = "no head" if expected is None else f"message {expected.seq} with the hash {expected.sha256}"
                there = "none" if found is None else f"message {found.seq} with {found.sha256}"
                self._add(HEADS, f"{export.MANIFEST}, project {project}", f"it names {said}, and the newest message in the export is {there}")


def message_of(line: bytes) -> Stored | None:
    """Return the stored message of a line of an export, or None where it cannot be read."""
    try:
        return stored_of(line)
    except (msgspec.MsgspecError, ValueError):
        return None


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while line := file.readline(export.LINE_BYTES_MAX):
            yield line
