"""Checks of policies and revisions: the snapshot never changes, changes fold, runs use what is in force, revisions count up (I8, I9). Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from bus_schemas.canonical import canonical_hash
from bus_schemas.policy import PRESETS, Preset
from cli.audit import facts as f
from cli.audit.case import Case
from cli.audit.deeds import CommandCause, Deed, shown_place
from cli.audit.verdict import Finding

Document = dict[str, dict[str, Any]]
"""A policy as it is stored: section, field, value."""


class Documents:
    """Policies by their stored bytes, each decoded and hashed once: there are few, and many mentions of them."""

    def __init__(self) -> None:
        """Know none yet."""
        self._known: dict[bytes, tuple[Document, str]] = {}

    def read(self, raw: msgspec.Raw) -> tuple[Document, str]:
        """Return a policy and the canonical hash of it. Raises msgspec.MsgspecError."""
        data = bytes(raw)
        known = self._known.get(data)
        if known is None:
            document: Document = msgspec.json.decode(data)
            known = self._known[data] = (document, canonical_hash(document))
        return known


def _patched(policy: Document, patch: Any) -> Document:
    """Return a policy with the named fields changed."""
    merged = {section: dict(fields) for section, fields in policy.items()}
    for section, fields in (patch or {}).items():
        merged.setdefault(section, {}).update(fields)
    return merged


def _presets() -> dict[str, Document]:
    return {name.value: msgspec.to_builtins(PRESETS[Preset(name)]) for name in Preset}


def snapshots(case: Case) -> Iterator[Finding]:
    """I8: the hash of a launch is the one of its stored policy, which is what the command asked for."""
    documents, presets = Documents(), _presets()
    for place, deed, event in case.history.policies:
        if type(event) is not f.OrchestrationLaunched:
            continue
        policy, policy_hash = documents.read(event.policy)
        if policy_hash != event.policy_hash:
            yield Finding(shown_place(place), f"{event.orchestration} has policy hash {event.policy_hash}; its stored policy has {policy_hash}")
        asked = _asked(deed, presets)
        if asked is not None and not _same(asked, policy):
            yield Finding(shown_place(place), f"{event.orchestration} has another policy than its launch asked for")


def _asked(deed: Deed, presets: dict[str, Document]) -> Document | None:
    cause = deed.cause
    if type(cause) is not CommandCause or cause.type != "launch":
        return None
    body: dict[str, Any] = msgspec.json.decode(cause.body)
    if body.get("policy") is not None:
        whole: Document = body["policy"]
        return whole
    return _patched(presets[body.get("preset", Preset.BALANCED.value)], body.get("overrides"))


def _same(one: Document, other: Document) -> bool:
    return one == other or msgspec.json.encode(one, order="sorted") == msgspec.json.encode(other, order="sorted")


def changes_fold(case: Case) -> Iterator[Finding]:
    """I8, I9: the active policy of an orchestration is its snapshot with the accepted patches in their order; each one's revision is the one
    before plus one, and its command named that one before."""
    documents = Documents()
    active: dict[str, tuple[int, Document]] = {}
    for place, deed, event in case.history.policies:
        if type(event) is f.OrchestrationLaunched:
            active[event.orchestration] = (1, documents.read(event.policy)[0])
        else:
            revision, before = active.get(event.orchestration, (0, {}))
            after = documents.read(event.policy)[0]
            if event.revision != revision + 1:
                yield Finding(shown_place(place), f"the policy of {event.orchestration} gets revision {event.revision} after {revision}")
            wanted, target = _wanted(deed, before)
            if target is not None and target != event.revision - 1:
                yield Finding(shown_place(place), f"revision {event.revision} of {event.orchestration} was asked for on top of {target}")
            if wanted is not None and not _same(wanted, after):
                yield Finding(shown_place(place), f"revision {event.revision} of {event.orchestration} is not what was asked for")
            named = {f"{section}.{name}" for section in after for name in after[section] if before.get(section, {}).get(name) != after[section][name]}
            if named != set(event.changed):
                found = f"revision {event.revision} of {event.orchestration} names {', '.join(event.changed) or 'nothing'} as changed"
                yield Finding(shown_place(place), f"{found}; changed are {', '.join(sorted(named)) or 'none'}")
            active[event.orchestration] = (event.revision, after)


def _wanted(deed: Deed, before: Document) -> tuple[Document | None, int | None]:
    cause = deed.cause
    if type(cause) is not CommandCause:
        return None, None
    body: dict[str, Any] = msgspec.json.decode(cause.body)
    patch = {"model": {body["role"]: body["model"]}} if cause.type == "set-role-model" else body.get("patch")
    return _patched(before, patch), body.get("target_revision")


def runs_use_what_is_in_force(case: Case) -> Iterator[Finding]:
    """I8: an attempt is queued with the revision of the policy that is in force, and with the model of its role in it, or of its task."""
    documents = Documents()
    active: dict[str, tuple[int, Document]] = {}
    models: dict[tuple[str, str | None, int | None], str | None] = {}
    for place, _, event in case.history.plans:
        kind = type(event)
        if kind is f.RunQueued:
            revision, policy = active.get(event.orchestration, (0, {}))
            if event.policy_revision != revision:
                yield Finding(shown_place(place), f"{event.run}.{event.attempt} uses policy revision {event.policy_revision}; {revision} is in force")
            own = models.get((event.orchestration, event.phase, event.task)) if event.kind == "task" else None
            expected = own or ("" if event.role == "node" else policy.get("model", {}).get(event.role))
            if event.model != expected:
                yield Finding(shown_place(place), f"{event.run}.{event.attempt} uses model {event.model!r}; {expected!r} is in force")
        elif kind is f.OrchestrationLaunched:
            active[event.orchestration] = (1, documents.read(event.policy)[0])
        elif kind is f.PolicyChanged:
            active[event.orchestration] = (event.revision, documents.read(event.policy)[0])
        elif kind is f.PhasePlanned:
            for task in event.tasks:
                models[event.orchestration, event.phase, task.number] = task.model
        elif kind is f.TaskInserted:
            models[event.orchestration, event.phase, event.task] = event.model
        elif kind is f.TaskEdited and event.model is not None:
            models[event.orchestration, event.phase, event.task] = event.model or None


def catalogue_revisions(case: Case) -> Iterator[Finding]:
    """I9: the revisions of a design are 1, 2, 3; a launch names the current one and the number of phases it has."""
    revisions: dict[str, tuple[int, int]] = {}
    for place, _, event in case.history.designs:
        kind = type(event)
        if kind is f.OrchestrationLaunched:
            known = revisions.get(event.design)
            if known != (event.design_revision, event.total_phases):
                found = f"{event.orchestration} is of {event.design} revision {event.design_revision} with {event.total_phases} phases"
                yield Finding(shown_place(place), f"{found}; the design has (revision, phases) {known}")
        elif kind is f.DesignAdded:
            if event.design.revision != 1:
                yield Finding(shown_place(place), f"{event.design.id} begins with revision {event.design.revision}")
            revisions[event.design.id] = (event.design.revision, event.design.phase_count)
        else:
            revision, phases = revisions.get(event.design, (0, 0))
            if event.revision != revision + 1:
                yield Finding(shown_place(place), f"{event.design} gets revision {event.revision} after {revision}")
            count = event.phase_count if kind is f.DesignEdited else None
            revisions[event.design] = (event.revision, phases if count is None else count)


def plan_revisions(case: Case) -> Iterator[Finding]:
    """I9: the revisions of a phase's plan are 1, 2, 3: one more for each plan and each change by an operator, never for a start; those of a
    task too: one more for a start, a change, a skip, a new try, and for an inserted task that it then waits for. Repairs are 1, 2."""
    plans: dict[tuple[str, str], int] = {}
    tasks: dict[tuple[str, str, int], tuple[str, int]] = {}
    repairs: dict[tuple[str, str], int] = {}
    for place, _, event in case.history.plans:
        kind = type(event)
        if kind not in _PLANNING:
            continue
        phase = (event.orchestration, event.phase)
        named = f"phase {event.phase} of {event.orchestration}"
        if kind is f.RepairStarted:
            if event.repair != repairs.get(phase, 0) + 1:
                yield Finding(shown_place(place), f"{named} gets repair {event.repair} after {repairs.get(phase, 0)}")
            repairs[phase] = event.repair
            continue
        revision = event.revision if kind is f.PhasePlanned else event.plan_revision
        if revision is not None:
            if revision != plans.get(phase, 0) + 1:
                yield Finding(shown_place(place), f"the plan of {named} gets revision {revision} after {plans.get(phase, 0)}")
            plans[phase] = revision
        if kind is f.TaskMoved or kind is f.TaskEdited:
            status, before = tasks.get((*phase, event.task), ("pending", 0))
            after = event.status if kind is f.TaskMoved else status
            step = 1 if kind is f.TaskEdited or (status, after) in _STEPS else 0
            if event.revision != before + step:
                yield Finding(
                    shown_place(place), f"task {event.phase}.{event.task} of {event.orchestration} gets revision {event.revision} after {before}"
                )
            tasks[*phase, event.task] = (after, event.revision)
            continue
        for number in [task.number for task in event.tasks] if kind is f.PhasePlanned else [event.task]:
            tasks[*phase, number] = ("pending", 1)
        for number in event.blocks if kind is f.TaskInserted else ():
            status, before = tasks.get((*phase, number), ("pending", 0))
            tasks[*phase, number] = (status, before + 1)


_PLANNING = frozenset({f.PhasePlanned, f.TaskMoved, f.TaskEdited, f.TaskInserted, f.RepairStarted})
_STEPS = frozenset({("pending", "in_progress"), ("pending", "skipped"), ("blocked", "pending")})
"""Moves of a task that make its revision one more."""
