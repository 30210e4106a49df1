"""Bytes to structs and back, with versions. Pure.

A reader accepts version n and n-1 of the schema. Bytes that do not decode raise `Malformed`, which says what and where;
the caller keeps the bytes in the dead-letter stream. JSON with a field that stands twice is refused, since readers differ
in which of the two counts; so is a command's body that is nested too deeply, since the ledger keeps it as it came and every
reader of the ledger has to decode what stands around it as well.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from bus_schemas.canonical import HASH_PREFIX
from bus_schemas.commands import COMMAND_TYPES, Command, CommandEnvelope
from bus_schemas.decisions import LedgerMessage, Receipt
from bus_schemas.ids import shown
from bus_schemas.orders import StopOrder, WorkOrder
from bus_schemas.reasons import Reason
from bus_schemas.reports import REPORT_BYTES_MAX, Beat, Report
from bus_schemas.texts import NOT_BLANK, explained

VERSION = 1
"""Of the schema. The version before it is read too."""

OLDEST_READ = max(1, VERSION - 1)

ZERO_HASH = "0" * 64
"""`prev` of the first message of a subject."""

BODY_DEPTH_MAX = 32
"""Objects and lists inside each other in the body of a command."""

T = TypeVar("T", bound=Struct)

_encoder = msgspec.json.Encoder()
_envelope = msgspec.json.Decoder(CommandEnvelope)
_commands: dict[str, msgspec.json.Decoder[Any]] = {name: msgspec.json.Decoder(kind) for name, kind in COMMAND_TYPES.items()}
_ledger = msgspec.json.Decoder(LedgerMessage)
_report = msgspec.json.Decoder(Report)
_order = msgspec.json.Decoder(WorkOrder)
_stop = msgspec.json.Decoder(StopOrder)
_beat = msgspec.json.Decoder(Beat)
_receipt = msgspec.json.Decoder(Receipt)
_object = msgspec.json.Decoder(dict[str, Any])

_MISSING = ("Object missing required field", "Expected `str` of length >= 1", f"Expected `str` matching regex {NOT_BLANK!r}")
_TOO_LONG = ("Expected `str` of length <=", "Expected `array` of length <=")


class Malformed(ValueError):
    """Bytes that are not what they should be; the message says what was found and where."""


class BadCommand(NamedTuple):
    """A command whose envelope is good and whose body is not: it is refused with this code."""

    code: Reason
    message: str


def encode(value: Any) -> bytes:
    """Return `value` as JSON bytes."""
    return _encoder.encode(value)


def body_sha256(data: bytes) -> str:
    """Return the hex SHA-256 of a stored body."""
    return hashlib.sha256(data).hexdigest()


def _decode(decoder: msgspec.json.Decoder[T], data: bytes, noun: str) -> T:
    # RecursionError: deeply nested JSON; ValueError: bytes that are not UTF-8
    try:
        value = decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise Malformed(f"{noun} does not decode: {explained(error)}") from error
    version = getattr(value, "v", VERSION)
    if not OLDEST_READ <= version <= VERSION:
        raise Malformed(f"{noun} has schema version {version}; this reader takes {OLDEST_READ} to {VERSION}")
    return value


def _repeated(data: bytes) -> list[str | None]:
    """Return for each object of the JSON `data`, inner ones first, a field that stands in it twice, or None. Raises RecursionError."""
    found: list[str | None] = []

    def look(pairs: list[tuple[str, Any]]) -> None:
        once = len(dict(pairs)) == len(pairs)
        found.append(None if once else Counter(name for name, _ in pairs).most_common(1)[0][0])

    json.loads(data.decode(), object_pairs_hook=look)
    return found


def decode_envelope(data: bytes) -> CommandEnvelope:
    """Return a command's envelope, its body still raw. Raises Malformed."""
    envelope = _decode(_envelope, data, "command")
    if _encoder.encode(envelope) == data:
        return envelope  # what we would write ourselves has no field twice
    try:
        name = _repeated(data)[-1]
    except (RecursionError, ValueError) as error:
        raise Malformed(f"command does not decode: {explained(error)}") from error
    if name is not None:
        raise Malformed(f"command has the field {shown(name)} twice")
    return envelope


def decode_command(envelope: CommandEnvelope) -> Command | BadCommand:
    """Return the command inside an envelope, or why it is refused."""
    decoder = _commands.get(envelope.type)
    if decoder is None:
        return BadCommand(Reason.UNKNOWN_ACTION, f"no action is called {shown(envelope.type)}; allowed: {', '.join(_commands)}")
    try:
        data = _with_tag(envelope)
        command: Command = decoder.decode(data)
        repeated = None if _encoder.encode(command) == data else next(filter(None, _repeated(data)), None)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        return BadCommand(_code(str(error)), f"{envelope.type}: {explained(error)}")
    if repeated is not None:
        return BadCommand(Reason.INVALID_PAYLOAD, f"{envelope.type}: the field {shown(repeated)} stands twice")
    return command


def _code(text: str) -> Reason:
    """Return the reason code for what the decoder says; field names come last in it, so that none can pass for another error."""
    if text.startswith(_MISSING):
        return Reason.MISSING_FIELD
    return Reason.TOO_LARGE if text.startswith(_TOO_LONG) else Reason.INVALID_PAYLOAD


def _with_tag(envelope: CommandEnvelope) -> bytes:
    """Return the body of an envelope with its type as the first field, which is what the decoders read."""
    raw = bytes(envelope.body).strip()
    if not raw.startswith(b"{"):
        return raw  # not an object: the decoder says so
    rest = raw[1:].lstrip()
    comma = b"" if rest.startswith(b"}") else b","
    return b'{"type":' + _encoder.encode(envelope.type) + comma + rest


def command_body(command: Command) -> msgspec.Raw:
    """Return the body of a command as it stands in an envelope: its fields without the tag."""
    fields = msgspec.to_builtins(command)
    del fields["type"]
    return msgspec.Raw(_encoder.encode(fields))


def body_hash(type_: str, body: msgspec.Raw) -> str:
    """Return the canonical hash of {type, body}: what an idempotency key stands for. Raises Malformed."""
    try:
        value = msgspec.json.decode(body)
        data = msgspec.json.encode({"type": type_, "body": value}, order="sorted")
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise Malformed(f"command body does not decode: {explained(error)}") from error
    if data.count(b"{") + data.count(b"[") > BODY_DEPTH_MAX and _depth_is_over(value, BODY_DEPTH_MAX):
        raise Malformed(f"command body is nested deeper than {BODY_DEPTH_MAX} levels")
    return HASH_PREFIX + hashlib.sha256(data).hexdigest()


def _depth_is_over(value: Any, limit: int) -> bool:
    """Return whether more than `limit` objects and lists stand inside each other in `value`."""
    level = [value]
    for _ in range(limit + 1):
        level = [inner for inner in level if isinstance(inner, (dict, list))]
        if not level:
            return False
        level = [inner for outer in level for inner in (outer.values() if isinstance(outer, dict) else outer)]
    return True


def decode_ledger(data: bytes) -> LedgerMessage:
    """Return a ledger message. Raises Malformed."""
    return _decode(_ledger, data, "ledger message")


def decode_report(data: bytes) -> Report:
    """Return a report. Raises Malformed."""
    if len(data) > REPORT_BYTES_MAX:
        raise Malformed(f"report has {len(data)} bytes; at most {REPORT_BYTES_MAX}")
    report: Report = _decode(_report, data, "report")
    return report


def decode_order(data: bytes) -> WorkOrder:
    """Return a work order. Raises Malformed."""
    return _decode(_order, data, "work order")


def decode_stop(data: bytes) -> StopOrder:
    """Return a stop order. Raises Malformed."""
    return _decode(_stop, data, "stop order")


def decode_beat(data: bytes) -> Beat:
    """Return a beat. Raises Malformed."""
    return _decode(_beat, data, "beat")


def decode_receipt(data: bytes) -> Receipt:
    """Return a receipt. Raises Malformed."""
    return _decode(_receipt, data, "receipt")


def decode_object(data: bytes) -> dict[str, Any]:
    """Return a JSON object, as queries and their answers are. Raises Malformed."""
    try:
        return _object.decode(data)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise Malformed(f"not a JSON object: {explained(error)}") from error
