"""Arguments as verbs take them: ids that are safe before a byte is sent, documents from a file or stdin, `name=value` pairs.

Reads the files that are named.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from bus_schemas import ids
from bus_schemas.reasons import Reason
from cli.failure import Failure, usage

DOCUMENT_BYTES_MAX = 200 * 1024

Id = TypeVar("Id", bound=str)


def safe(check: Callable[[str], Id], text: str) -> Id:
    """Return `text`, lower-cased, as the id that `check` makes of it. Raises BadId: it never reaches the bus."""
    return check(text.lower() if text.isascii() else text)


def any_id(text: str) -> str:
    """Return `text` as some numbered id or run id. Raises BadId."""
    lowered = text.lower() if text.isascii() else text
    ids.project_of(lowered)
    return lowered


def document(option: str, path: str, *, limit_bytes: int = DOCUMENT_BYTES_MAX) -> str:
    """Return the text of a file, or of stdin for `-`. Raises Failure: usage, too large, or not UTF-8."""
    try:
        if path == "-":
            data = sys.stdin.buffer.read(limit_bytes + 1)
        else:
            with Path(path).open("rb") as file:
                data = file.read(limit_bytes + 1)
    except (OSError, ValueError) as error:
        raise usage(f"{option} {path[:200]!a} cannot be read: {error}") from error
    where = "stdin" if path == "-" else path[:200]
    if len(data) > limit_bytes:
        raise Failure(Reason.TOO_LARGE, f"{where} has more than {limit_bytes} bytes ({limit_bytes // 1024} KiB), which is the limit")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Failure(Reason.INVALID_PAYLOAD, f"{where} is not UTF-8 text: {error.reason} at byte {error.start}") from error


def prose(option: str, given: str, *, limit_bytes: int) -> str:
    """Return a text that is given as a file, as `-` for stdin, or as itself when it has a blank in it and is no file. Raises Failure."""
    if given != "-" and any(character.isspace() for character in given) and not _is_file(given):
        if len(given.encode(errors="replace")) > limit_bytes:
            raise Failure(Reason.TOO_LARGE, f"{option} has more than {limit_bytes} bytes ({limit_bytes // 1024} KiB), which is the limit")
        return given
    return document(option, given, limit_bytes=limit_bytes)


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def pairs(option: str, values: list[str] | None) -> dict[str, str]:
    """Return `name=value` arguments as a dict. Raises Failure (usage)."""
    found: dict[str, str] = {}
    for value in values or []:
        name, equals, rest = value.partition("=")
        if not equals or not name.strip():
            raise usage(f"{option} {value[:60]!a} is not NAME=VALUE")
        found[name.strip()] = rest
    return found


def json_or_text(text: str) -> Any:
    """Return the JSON value that `text` is, else the text itself."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return text


def object_of(option: str, text: str) -> dict[str, Any]:
    """Return the object that a document in JSON or TOML is. Raises Failure: invalid payload."""
    import tomllib

    wrong = "neither a JSON object nor TOML"
    if text.lstrip().startswith(("{", "[", '"')) and not _looks_like_toml(text):
        try:
            value = msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
            raise Failure(Reason.INVALID_PAYLOAD, f"{option} is not good JSON: {error}") from error
    else:
        try:
            value = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise Failure(Reason.INVALID_PAYLOAD, f"{option} is {wrong}: {error}") from error
    if not isinstance(value, dict):
        raise Failure(Reason.INVALID_PAYLOAD, f"{option} is {wrong}: it must be an object with sections")
    return value


def _looks_like_toml(text: str) -> bool:
    first = text.lstrip().split("\n", 1)[0].strip()
    return first.startswith("[") and first.endswith("]") and not first.startswith("[{") and first != "[]"


def since_time(option: str, text: str | None) -> str | None:
    """Return a moment as RFC 3339 in UTC, given as a duration before now (`24h`) or as a time. Raises Failure (usage)."""
    if text is None:
        return None
    from datetime import UTC, datetime, timedelta

    from cli.durations import parse_duration_s
    from cli.text import instant

    moment = instant(text)
    if moment is None:
        try:
            moment = datetime.now(UTC) - timedelta(seconds=parse_duration_s(text))
        except ValueError as error:
            raise usage(f"{option}: {error}, or a time like 2026-11-23T08:00:00Z") from error
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
