"""The policy of an orchestration: what it was launched with, what holds now, what each run used, and its change with the revision seen."""

from __future__ import annotations

from typing import Any

import msgspec

from bus import host
from bus_schemas.commands import PolicySet
from bus_schemas.policy import Policy, PolicyError, resolve
from console import launching
from console.backend import Backend, Problem
from console.page import Context, Page, Visit
from console.pages import orchestration


async def load(visit: Visit) -> Context:
    """Return the active policy as a form, its revisions, and which runs used which. Raises Problem."""
    context = await orchestration.head(visit)
    o = context["o"]
    revisions = [await visit.backend.ask("policy", orchestration=o["id"], revision=n) for n in range(1, o["policy_revision"] + 1)][-20:]
    runs = await visit.backend.ask_all("runs", orchestration=o["id"])
    used: dict[int, int] = {}
    for run in runs:
        if run["started_at"] is not None:
            used[run["policy_revision"]] = used.get(run["policy_revision"], 0) + 1
    going = [run for run in runs if run["status"] == "started"]
    return {
        **context,
        "tab": "policy",
        "fields": launching.fields(),
        "legends": launching.LEGENDS,
        "values": o["active_policy"],
        "revisions": revisions,
        "differences": {r["revision"]: _differences(revisions, r) for r in revisions},
        "used": used,
        "going": going,
        "form_key": host.unique(),
    }


def _differences(revisions: list[dict[str, Any]], revision: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    before = next((known for known in revisions if known["revision"] == revision["revision"] - 1), None)
    return [] if before is None else differences(before["policy"], revision["policy"])


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return (section.field, old, new) where two policies differ."""
    return [(f"{s}.{f}", before[s].get(f), after[s][f]) for s in after for f in after[s] if before[s].get(f) != after[s][f]]


async def pruned(backend: Backend, command: PolicySet) -> PolicySet:
    """Return a change that names only what differs from the revision that its form showed. Raises Problem."""
    shown = await backend.ask("policy", orchestration=command.orchestration, revision=command.target_revision or None)
    patch = {
        section: {name: value for name, value in values.items() if shown["policy"].get(section, {}).get(name, ...) != value}
        for section, values in command.patch.items()
        if isinstance(values, dict)
    }
    kept = {section: values for section, values in patch.items() if values}
    return msgspec.structs.replace(command, patch=kept) if kept else command


class Conflict(msgspec.Struct):
    """A change that came too late: what was shown, what holds now, what was wanted, field by field."""

    orchestration: str
    seen: int
    newest: int
    who: str
    rows: list[tuple[str, Any, Any, Any, bool]]
    """(field, seen, theirs, yours, both changed it)."""

    @property
    def theirs(self) -> dict[str, Any]:
        """What they changed and you did not: it is taken over when yours is applied on theirs."""
        return {path: theirs for path, old, theirs, yours, _ in self.rows if yours == old and theirs != old}


async def conflict(backend: Backend, command: PolicySet) -> Conflict:
    """Return the three columns of a conflict. Raises Problem."""
    seen = await backend.ask("policy", orchestration=command.orchestration, revision=command.target_revision)
    newest = await backend.ask("policy", orchestration=command.orchestration)
    base = msgspec.convert(seen["policy"], Policy)
    try:
        yours = msgspec.json.decode(msgspec.json.encode(resolve(base, command.patch)))
    except PolicyError as error:
        raise Problem("validation_invalid_payload", str(error)) from error
    mine = {path: new for path, _, new in differences(seen["policy"], yours)}
    theirs = {path: new for path, _, new in differences(seen["policy"], newest["policy"])}
    rows = []
    for path in dict.fromkeys((*theirs, *mine)):
        section, _, name = path.partition(".")
        old = seen["policy"][section][name]
        both = path in mine and path in theirs and mine[path] != theirs[path]
        rows.append((path, old, theirs.get(path, old), mine.get(path, old), both))
    return Conflict(command.orchestration, command.target_revision, newest["revision"], newest["action"], rows)


PAGES = (
    Page(
        "/orchestrations/{id}/policy",
        "orchestration_policy.html",
        load,
        "orchestration_policy_patches.html",
        lambda visit: frozenset({visit.params["id"]}),
        nav="runs",
    ),
)
