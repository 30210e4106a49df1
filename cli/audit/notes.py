"""Heads as somebody noted them: the output of `qd audit heads`, as text or as JSON. Pure."""

from __future__ import annotations

import re

import msgspec
from msgspec import Struct

from bus_schemas.chain import Expected, Notes, Rolling
from bus_schemas.events import RecordedHead

_LINE = re.compile(r"(\S+) ([0-9]{1,18}) ([0-9a-f]{64})")
ALL = "*"


class BadNotes(ValueError):
    """A note of heads that cannot be understood; the message names the line."""


class Noted(Struct, frozen=True):
    """A note as JSON: the head of each project, and the hash over everything up to `last_seq`."""

    last_seq: int
    rolling_hash: str
    heads: tuple[RecordedHead, ...]


def heads_of(text: str, by: str) -> Notes:
    """Return the noted heads, and the hash over everything where it was noted. Raises BadNotes."""
    if text.lstrip().startswith("{"):
        try:
            noted = msgspec.json.decode(text, type=Noted)
        except msgspec.MsgspecError as error:
            raise BadNotes(f"it is not what `qd audit heads -o json` prints: {error}") from error
        found = tuple(Expected(head.project, head.seq, head.sha256, by) for head in noted.heads)
        return Notes(found, (Rolling(noted.last_seq, noted.rolling_hash, by),))
    heads: list[Expected] = []
    rolling: list[Rolling] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise BadNotes(f"line {number} is not a project, a sequence and a hash")
        if match[1] == ALL:
            rolling.append(Rolling(int(match[2]), match[3], by))
        else:
            heads.append(Expected(match[1], int(match[2]), match[3], by))
    if not heads and not rolling:
        raise BadNotes("there is no head in it")
    return Notes(tuple(heads), tuple(rolling))
