"""Ids and what makes one valid. Pure.

Every id is a safe NATS subject token. An id that is not valid is refused, never escaped, and is
checked before a byte is published: one bad subject can close a NATS connection for good.
"""

from __future__ import annotations

import re
from typing import NewType

ProjectId = NewType("ProjectId", str)
DesignId = NewType("DesignId", str)
TicketId = NewType("TicketId", str)
OrchestrationId = NewType("OrchestrationId", str)
RunId = NewType("RunId", str)
NodeId = NewType("NodeId", str)
ActionId = NewType("ActionId", str)
PhaseId = NewType("PhaseId", str)

PLANE = ProjectId("plane")
"""The reserved project: owns the registry of projects, the nodes and the flags. Nobody can make it."""

TOKEN_LENGTH_MAX = 63
KEY_BYTES_MAX = 200
SLUG_LENGTH_MAX = 32

_SLUG = re.compile(r"[a-z](?:[a-z0-9-]{0,30}[a-z0-9])?")
_TOKEN = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_NUMBERED = re.compile(r"(?P<project>[a-z](?:[a-z0-9-]{0,30}[a-z0-9])?)-(?P<kind>[dtoa])(?P<number>[1-9][0-9]{0,11})")
_RUN = re.compile(r"(?P<orchestration>[a-z](?:[a-z0-9-]{0,30}[a-z0-9])?-o[1-9][0-9]{0,11})-r(?P<number>[1-9][0-9]{0,8})")
_PHASE = re.compile(r"[1-9][0-9]{0,3}(?:\.5){0,2}")


class BadId(ValueError):
    """An id that must not reach the bus; the message says what was found and what is allowed."""


def shown(value: object, length: int = 60) -> str:
    """Return `value` as it may stand in a message: quoted, control characters escaped, cut to `length`."""
    text = ascii(value) if isinstance(value, str) else ascii(str(value))
    return text if len(text) <= length else text[: length - 4] + "...'"


def _checked(pattern: re.Pattern[str], text: str, noun: str, allowed: str) -> str:
    # fullmatch, since `$` would let a trailing newline through
    if not isinstance(text, str) or pattern.fullmatch(text) is None:
        raise BadId(f"{noun} {shown(text)} is not valid: {allowed}")
    return text


def project_id(text: str) -> ProjectId:
    """Return `text` as a project id. Raises BadId."""
    return ProjectId(_checked(_SLUG, text, "project", "1-32 of a-z, 0-9 and -, starting with a letter, not ending with -"))


def node_id(text: str) -> NodeId:
    """Return `text` as a node id. Raises BadId."""
    return NodeId(_checked(_SLUG, text, "node", "1-32 of a-z, 0-9 and -, starting with a letter, not ending with -"))


def principal(text: str) -> str:
    """Return `text` as the name of an operator or service. Raises BadId."""
    return _checked(_SLUG, text, "principal", "1-32 of a-z, 0-9 and -, starting with a letter, not ending with -")


def token(text: str, noun: str = "id") -> str:
    """Return `text` if it is safe as one subject token. Raises BadId."""
    return _checked(_TOKEN, text, noun, "1-63 of a-z, 0-9 and -, starting with a letter or digit")


def _numbered(text: str, kind: str, noun: str) -> str:
    match = _NUMBERED.fullmatch(text) if isinstance(text, str) else None
    if match is None or match["kind"] != kind:
        raise BadId(f"{noun} {shown(text)} is not valid: a project, then -{kind} and a number, like shop-{kind}3")
    return text


def design_id(text: str) -> DesignId:
    """Return `text` as a design id. Raises BadId."""
    return DesignId(_numbered(text, "d", "design"))


def ticket_id(text: str) -> TicketId:
    """Return `text` as a ticket id. Raises BadId."""
    return TicketId(_numbered(text, "t", "ticket"))


def orchestration_id(text: str) -> OrchestrationId:
    """Return `text` as an orchestration id. Raises BadId."""
    return OrchestrationId(_numbered(text, "o", "orchestration"))


def action_id(text: str) -> ActionId:
    """Return `text` as an action id. Raises BadId."""
    return ActionId(_numbered(text, "a", "action"))


def run_id(text: str) -> RunId:
    """Return `text` as a run id. Raises BadId."""
    return RunId(_checked(_RUN, text, "run", "an orchestration, then -r and a number, like shop-o12-r7"))


def phase_id(text: str) -> PhaseId:
    """Return `text` as a phase id: `N`, `N.5` or `N.5.5`. Raises BadId."""
    return PhaseId(_checked(_PHASE, text, "phase", "N, N.5 or N.5.5"))


def project_of(text: str) -> ProjectId:
    """Return the project that a design, ticket, orchestration, action or run id belongs to. Raises BadId."""
    match = _NUMBERED.fullmatch(text) or _RUN.fullmatch(text)
    if match is None:
        raise BadId(f"id {shown(text)} is not valid: expected something like shop-d3, shop-t17, shop-o12 or shop-a44")
    head = match["project"] if "project" in match.groupdict() else match["orchestration"].rpartition("-")[0]
    return ProjectId(head)


def orchestration_of(run: str) -> OrchestrationId:
    """Return the orchestration of a run id. Raises BadId."""
    return OrchestrationId(run_id(run).rpartition("-r")[0])


def main_phase(phase: str) -> int:
    """Return the number of the main phase that `phase` is or remedies."""
    return int(phase.split(".", 1)[0])


def remediation_phase(phase: str) -> PhaseId | None:
    """Return the phase that remedies `phase` (`1` → `1.5` → `1.5.5`), or None: beyond that the orchestration fails."""
    return None if phase.count(".") >= 2 else PhaseId(phase + ".5")


def phase_token(phase: str) -> str:
    """Return `phase` as a subject token (`1.5` → `1-5`)."""
    return phase.replace(".", "-")


def idempotency_key(text: str) -> str:
    """Return `text` as an idempotency key: printable UTF-8, 1-200 bytes. Raises BadId."""
    # lone surrogates, which have no UTF-8, are not printable
    if not isinstance(text, str) or not text or not text.isprintable() or text.isspace():
        raise BadId(f"idempotency key {shown(text)} is not valid: 1-200 bytes of printable text")
    size_bytes = len(text.encode())
    if size_bytes > KEY_BYTES_MAX:
        raise BadId(f"idempotency key of {size_bytes} bytes is too long: at most {KEY_BYTES_MAX}")
    return text


def slug_of(feature: str) -> str:
    """Return the slug of a feature name: lower case, every other run of characters one `-`, at most 40; may be empty."""
    return re.sub(r"[^a-z0-9]+", "-", feature.lower()).strip("-")[:40].strip("-")
