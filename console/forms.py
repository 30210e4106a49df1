"""Forms: what a browser posted, and the command that it means.

The fields of a form are named like the fields of the command; `patch.flow.budget_usd` and `overrides.model.planner` name a place inside
an object, and a field that stands several times is a list. Values are converted as the contract's types say.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import Request

from bus_schemas import codec
from bus_schemas.codec import VERSION, BadCommand
from bus_schemas.commands import COMMAND_TYPES, Command, CommandEnvelope, Via
from bus_schemas.policy import SECTIONS
from bus_schemas.reasons import Reason
from bus_schemas.texts import plain
from console.backend import Problem

FIELDS_MAX = 600
META = frozenset({"key", "reason", "dry_run", "form"})
"""Fields of a form that are not fields of its command."""
_LISTS = frozenset({"tickets", "markers", "depends_on", "blocks"})
_NUMBERS = frozenset({"task", "after", "target_revision"})
_BOOLEANS = frozenset({"on", "completed", "abandon"})
_EMPTY_IS_TEXT = frozenset({"feedback", "note", "body", "description", "subject", "title", "check", "feature"})
_PATH = re.compile(r"(patch|overrides|policy|labels)\.([A-Za-z0-9_.-]{1,100})")


class Form:
    """What was posted: the values by name, as often as they stand."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        """Keep the pairs in their order."""
        self.pairs = pairs

    def one(self, name: str, default: str = "") -> str:
        """Return the last value of a name."""
        return next((value for known, value in reversed(self.pairs) if known == name), default)

    def all(self, name: str) -> list[str]:
        """Return all values of a name."""
        return [value for known, value in self.pairs if known == name]


async def read(request: Request) -> Form:
    """Return the form of a request. Raises Problem for one that is none."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        raise Problem(Reason.INVALID_PAYLOAD, "a form is sent as application/x-www-form-urlencoded")
    try:
        text = (await request.body()).decode()
        return Form(parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), errors="strict", max_num_fields=FIELDS_MAX))
    except (ValueError, UnicodeDecodeError) as error:
        raise Problem(Reason.INVALID_PAYLOAD, f"the form cannot be read: {plain(str(error), 200)}") from error


def command_of(kind: str, form: Form) -> Command:
    """Return the command of type `kind` that a form means. Raises Problem, naming what is wrong."""
    if kind not in COMMAND_TYPES:
        raise Problem(Reason.UNKNOWN_ACTION, f"no action is called {plain(kind, 60)}")
    known = {field.name: field for field in msgspec.structs.fields(COMMAND_TYPES[kind])}
    body: dict[str, Any] = {}
    for name, value in form.pairs:
        if name in META:
            continue
        path = _PATH.fullmatch(name)
        if path is not None and path[1] in known:
            _put(body, path[1], path[2], value)
        elif name in _LISTS:
            if name != "blocks" or value.strip():  # left empty it is the contract's default
                body.setdefault(name, []).extend(_list(name, value))
        elif value or name in _EMPTY_IS_TEXT or name not in known:
            body[name] = _value(name, value)
    try:
        raw = msgspec.Raw(msgspec.json.encode(body))
    except UnicodeEncodeError as error:
        raise Problem(Reason.INVALID_PAYLOAD, "a text is not valid Unicode") from error
    envelope = CommandEnvelope(v=VERSION, type=kind, id="form", at=_ANY_TIME, via=Via.CONSOLE, key="form", body=raw)
    command = codec.decode_command(envelope)
    if isinstance(command, BadCommand):
        raise Problem(command.code, command.message)
    return command


_ANY_TIME = datetime(2026, 1, 1, tzinfo=UTC)
"""A form has no time of its own; only its command is looked at."""


def _put(body: dict[str, Any], field: str, path: str, text: str) -> None:
    """Put a value at its place inside an object; one that is given several times is a list."""
    if field == "labels":
        body.setdefault(field, {})[path] = text
        return
    section, _, name = path.partition(".")
    place = body.setdefault(field, {}).setdefault(section, {})
    if name == "human_gates":
        place[name] = [*place.get(name, []), *([text] if text else [])]
    else:
        place[name] = _policy_value(section, name, text)


def _policy_value(section: str, name: str, text: str) -> Any:
    kind = str(SECTIONS[section].__annotations__.get(name, "")) if section in SECTIONS else ""
    if name == "phases_enabled":
        return None if not text.strip() else _numbers(text)
    if text == "" and "None" in kind:
        return None
    if "bool" in kind:
        return {"true": True, "on": True, "false": False, "": False}.get(text, text)
    if "int" in kind or "float" in kind:
        return _number(text)
    return text


def _value(name: str, text: str) -> Any:
    if name in _NUMBERS:
        return _number(text)
    if name in _BOOLEANS:
        return {"true": True, "on": True, "1": True, "false": False, "0": False}.get(text, text)
    return text


def _number(text: str) -> Any:
    try:
        return int(text) if re.fullmatch(r"-?[0-9]{1,15}", text.strip()) else float(text)
    except ValueError:
        return text  # what it is instead is said by the contract's own check


def _numbers(text: str) -> list[Any]:
    return [_number(part) for part in re.split(r"[,\s]+", text.strip()) if part]


def _list(name: str, text: str) -> list[Any]:
    if name in ("depends_on", "blocks"):
        return [] if text.strip() in ("", "none") else _numbers(text)
    return [text] if text else []
