"""The format of an export: stored messages word for word, one a line, and a manifest that stands for all of them. Pure.

A line begins with a hash over itself and the line before it, so that no byte of a file can change, no line go, come or move
without the next line saying so. The manifest has for each file its size, its hash and the last of these, and ends with its own
hash. Whoever rewrites all of it consistently is found by a signature, or by heads that were noted elsewhere.
"""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from typing import NamedTuple

import msgspec
from msgspec import Struct

from bus_schemas.chain import Chain
from bus_schemas.events import RecordedHead
from bus_schemas.violation import Violation

SCHEMA = "qd.export/1"
MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
LEDGER_FILE, REPORTS_FILE = "ledger.jsonl", "rep.jsonl"

FILES, LINES, SIGNED = "files", "lines", "signature"

LINE_BYTES_MAX = 8 * 1024**2
"""Of a line of an export: a body of a megabyte in which every character is escaped."""

_HASH_LENGTH = 64
_BEFORE, _AFTER = b'{"chain":"', b'",'
_START = len(_BEFORE) + _HASH_LENGTH + len(_AFTER)
_HEX = re.compile(rb"[0-9a-f]{64}")
_MANIFEST_END = re.compile(rb'(.*\n)  "manifest_sha256": "([0-9a-f]{64})"\n}\n', re.DOTALL)


class FileFacts(Struct, frozen=True, omit_defaults=True):
    """What a file of an export holds: which stream, from which message to which, how many, and what the whole must hash to."""

    name: str
    stream: str
    stream_created: datetime
    lines: int
    bytes: int
    sha256: str
    chain: str
    first_seq: int | None = None
    last_seq: int | None = None


class Manifest(Struct, frozen=True, omit_defaults=True):
    """What an export is: of which ledger, by whom, when, with which tool, and its files.

    `heads` are the newest messages of the projects in it; `stream_last_seq` is where the whole ledger ended. `project` and
    `since_seq` say that it is a part. `signer` is the public key that signed it.
    """

    schema: str
    exported_at: datetime
    exported_by: str
    tool: str
    stream: str
    stream_created: datetime
    stream_last_seq: int
    files: tuple[FileFacts, ...]
    heads: tuple[RecordedHead, ...]
    project: str | None = None
    since_seq: int = 1
    signer: str | None = None


class Signature(Struct, frozen=True):
    """Who signed a manifest, and the signature of its bytes in base64."""

    signer: str
    signature: str


class LineChain:
    """The chain of hashes along the lines of a file. Starts with the file's name, so that no file passes for another."""

    def __init__(self, name: str) -> None:
        """Stand before the first line."""
        self.chain = hashlib.sha256(name.encode()).hexdigest()
        self._claimed = self.chain
        self.lines = self.bytes = 0
        self._whole = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Of all lines so far."""
        return self._whole.hexdigest()

    def wrap(self, line: bytes) -> bytes:
        """Return a line of `folder.line_of` as it stands in an export, and go on behind it."""
        self.chain = self._claimed = _hash(self.chain, line[1:])
        wrapped = _BEFORE + self.chain.encode() + _AFTER + line[1:]
        self._take(wrapped)
        return wrapped

    def read(self, line: bytes) -> str | None:
        """Go on behind a line of an export; return what is wrong with it, or None.

        After a line that is wrong the next may follow what that one is or what it says it is: one damage is one finding.
        """
        self._take(line)
        head, claimed, rest = line[: len(_BEFORE)], line[len(_BEFORE) : len(_BEFORE) + _HASH_LENGTH], line[_START:]
        found = [_hash(chain, rest) for chain in (self.chain, self._claimed)]
        is_framed = head == _BEFORE and _HEX.fullmatch(claimed) is not None and line[_START - len(_AFTER) : _START] == _AFTER
        self.chain = found[0]
        self._claimed = claimed.decode() if is_framed else self.chain
        if not line.endswith(b"\n"):
            return "it is cut off: the end of the line is gone"
        if not is_framed:
            return "it does not begin with its hash as it was written: it was changed"
        if self._claimed not in found:
            return f"expected hash {self._claimed}, found {found[0]}: it was changed, or a line before it was put in, taken out or moved"
        self.chain = self._claimed
        return None

    def _take(self, line: bytes) -> None:
        self.lines += 1
        self.bytes += len(line)
        self._whole.update(line)


def _hash(chain: str, rest: bytes) -> str:
    return hashlib.sha256(chain.encode() + rest).hexdigest()


def manifest_bytes(manifest: Manifest) -> bytes:
    """Return a manifest as it is written: JSON for humans too, with its own hash in its last line."""
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    head = text.removesuffix(b"\n}") + b",\n"
    return head + b'  "manifest_sha256": "' + hashlib.sha256(head).hexdigest().encode() + b'"\n}\n'


class ReadManifest(NamedTuple):
    """A manifest as it was found; None where it cannot be understood, and what is wrong with it."""

    manifest: Manifest | None
    wrong: str | None


def read_manifest(data: bytes) -> ReadManifest:
    """Return the manifest in these bytes, as far as they can be understood, and what is wrong with them."""
    match = _MANIFEST_END.fullmatch(data)
    wrong: str | None
    if match is None:
        wrong = "it does not end with the line of its own hash: it was cut off or changed"
    else:
        found = hashlib.sha256(match[1]).hexdigest()
        wrong = None if found == match[2].decode() else f"expected hash {match[2].decode()}, found {found}: a byte of it or of that line was changed"
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, ValueError) as error:
        return ReadManifest(None, wrong or f"it cannot be understood: {error}")
    if manifest.schema != SCHEMA:
        wrong = wrong or f"it is of schema {manifest.schema!r}; this reader takes {SCHEMA}"
    return ReadManifest(manifest, wrong)


class Judged(NamedTuple):
    """What was found in an export: how much of it there is, the walk along its ledger, who signed it, and what is wrong."""

    folder: str
    manifest: Manifest | None
    files: int
    lines: int
    bytes: int
    chain: Chain
    signed_by: str | None
    findings: tuple[Violation, ...]
