"""Commands from forms: decoded, sent under the key of the form, and told with the command line that does the same."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from starlette.requests import Request

from bus_schemas.commands import Launch, PolicySet
from bus_schemas.decisions import Receipt
from bus_schemas.ids import BadId, idempotency_key
from bus_schemas.reasons import Reason
from console import forms, launching
from console.backend import Backend, Problem
from console.equivalent import command_line
from console.pages import policy


class Outcome(NamedTuple):
    """What became of a form: the receipt, the command line that does the same, whether it was only a dry run."""

    receipt: Receipt
    equivalent: str
    is_preview: bool


def _who(request: Request) -> str:
    """Return what tells sessions apart: what many look at is rendered once, so they are shown the same key."""
    return hashlib.sha256(request.scope["qd.session"].encode()).hexdigest()[:8]


def session_key(form: forms.Form, request: Request) -> str:
    """Return the idempotency key that a form has in its session. Raises Problem for a form without a usable one."""
    try:
        return idempotency_key(f"{form.one('key')}.{_who(request)}" if form.one("key") else "")
    except BadId as error:
        raise Problem(Reason.INVALID_PAYLOAD, f"the form has no usable key: {error}") from error


async def perform(backend: Backend, kind: str, request: Request) -> Outcome:
    """Send the command that a form means. Raises Problem.

    The form's key is its idempotency key: sent twice, by a double click or after a cut connection, it takes effect once.
    """
    form = await forms.read(request)
    command = forms.command_of(kind, form)
    if isinstance(command, Launch):
        command = launching.pruned(command)
    elif isinstance(command, PolicySet):
        command = await policy.pruned(backend, command)
    reason = form.one("reason").strip() or None
    key = session_key(form, request)
    is_preview = form.one("dry_run") in ("true", "on", "1")
    try:
        receipt = await backend.submit(command, key, reason=reason, dry_run=is_preview)
    except Problem as problem:
        if problem.code == Reason.REVISION_CONFLICT and isinstance(command, PolicySet):
            problem.conflict = await policy.conflict(backend, command)
        raise
    return Outcome(receipt, command_line(command, reason=reason), is_preview)
