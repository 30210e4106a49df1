"""What somebody may have meant who named something that does not exist. Reads the lists of the controller."""

from __future__ import annotations

import difflib
import re

from cli.failure import Failure
from cli.session import Session

_LISTS = {"d": "designs", "t": "tickets", "o": "orchestrations", "a": "actions"}
_NUMBERED = re.compile(r"\b([a-z][a-z0-9-]{0,31})-([dtoa])([1-9][0-9]*)\b")
_NAMED = re.compile(r"there is no (project|node) ([a-z0-9-]+)")
_OF_SOMETHING = re.compile(r"has no (phase|task) |there is no task |is not the last change of a flag")
NEAR_MAX = 3


async def nearest(session: Session, message: str) -> str | None:
    """Return a hint with the ids nearest to the one that `message` says is missing, or None when there is nothing near."""
    if _OF_SOMETHING.search(message):
        return None  # the message says what there is
    numbered = _NUMBERED.search(message)
    named = _NAMED.search(message)
    try:
        if numbered is not None and named is None:
            wanted = numbered[0]
            known = await _ids(session, _LISTS[numbered[2]], "action" if numbered[2] == "a" else "id", numbered[1])
        elif named is not None:
            wanted = named[2]
            known = await _ids(session, named[1] + "s", "id", None)
        else:
            return None
    except Failure:
        return None  # the hint is a courtesy; the failure itself is told anyway
    near = difflib.get_close_matches(wanted, known, NEAR_MAX, 0.6)
    return f"Did you mean {' or '.join(near)}?" if near else None


async def _ids(session: Session, query: str, field: str, project: str | None) -> list[str]:
    try:
        answer = await session.ask(query, project=project, limit=1000)
    except Failure:
        if project is None:
            raise
        answer = await session.ask("projects")
        return [str(item["id"]) for item in answer["items"]]
    return [str(item[field]) for item in answer["items"]]
