"""`qd policy`: presets, hashes, and the policies of an orchestration."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from cyclopts import App, Parameter

from bus_schemas import ids
from bus_schemas.commands import PolicySet, RoleModelSet
from bus_schemas.policy import PRESETS, SECTIONS, Policy, PolicyError, check_hash, policy_hash, whole
from bus_schemas.reasons import Reason
from cli.arguments import document, object_of, safe
from cli.context import Ctx, OrchestrationArgument
from cli.failure import Failure, usage
from cli.table import Column, Table
from cli.text import cell, short_hash
from cli.writing import Write, write

app = App(name="policy", help="Which models work, how work is judged, how it flows.")

POLICY_BYTES_MAX = 64 * 1024
PolicyRevision = Annotated[int, Parameter(name="--if-revision", help="The policy's revision as you saw it; another one is a conflict (exit 5).")]


@app.command
async def presets(*, ctx: Ctx) -> None:
    """Show the presets side by side, each with the hash of its whole policy."""
    items = [{"preset": name.value, **_described(policy)} for name, policy in PRESETS.items()]
    if not ctx.out.many("preset", {"items": items, "next": None}, "preset"):
        fields = [(section, field) for section, kind in SECTIONS.items() for field in kind.__struct_fields__]
        rows = [(f"{section}.{field}", *(_shown(item["policy"][section][field]) for item in items)) for section, field in fields]
        rows.append(("hash", *(short_hash(item["hash"]) for item in items)))
        ctx.out.table(Table((Column("FIELD", "id"), *(Column(item["preset"]) for item in items)), tuple(rows)), empty="")


@app.command(name="hash")
async def hash_(file: Annotated[str, Parameter(allow_leading_hyphen=True)], /, *, ctx: Ctx) -> None:
    """Print the canonical hash of a whole policy, JSON or TOML; - reads stdin."""
    try:
        policy = whole(object_of("the policy", document("the policy", file, limit_bytes=POLICY_BYTES_MAX)))
    except PolicyError as error:
        raise Failure(Reason.INVALID_PAYLOAD, str(error)) from error
    if not ctx.out.one("policy", _described(policy), policy_hash(policy)):
        ctx.out.line(policy_hash(policy))


@app.command
async def show(
    name: OrchestrationArgument,
    /,
    *,
    at_launch: Annotated[bool, Parameter(help="The snapshot of the launch instead of the active policy: revision 1.")] = False,
    revision: Annotated[int | None, Parameter(help="This revision of it, with the action that made it.")] = None,
    ctx: Ctx,
) -> None:
    """Show the policy of an orchestration: the active one, a revision of it, or the snapshot of its launch."""
    if at_launch and revision not in (None, 1):
        raise usage("--at-launch is revision 1, so it cannot stand beside another --revision")
    orchestration = safe(ids.orchestration_id, name)
    o = await ctx.find("orchestration", orchestration)
    found = await ctx.ask("policy", orchestration=orchestration, revision=1 if at_launch else revision)
    policy = msgspec.convert(found["policy"], Policy)
    facts = {
        "orchestration": o["id"],
        "preset_origin": o["preset_origin"],
        **{field: found[field] for field in ("revision", "newest", "action", "at", "changed")},
    }
    if not ctx.out.one("policy", {**facts, **_described(policy)}, o["id"]):
        made = f"by {found['action']}" + (f", which changed {', '.join(found['changed'])}" if found["changed"] else "")
        ctx.out.line(f"{o['id']}  {o['preset_origin']}, revision {found['revision']} of {found['newest']} {made}  {policy_hash(policy)}")
        values = msgspec.to_builtins(policy)
        rows = tuple((f"{section}.{field}", _shown(value)) for section, fields in values.items() for field, value in fields.items())
        ctx.out.table(Table((Column("FIELD", "id"), Column("VALUE")), rows), empty="")


@app.command(name="set")
async def set_(
    name: OrchestrationArgument,
    /,
    *assignments: Annotated[str, Parameter(name="PATH=VALUE", allow_leading_hyphen=True)],
    if_revision: PolicyRevision,
    write_: Write | None = None,
    ctx: Ctx,
) -> int:
    """Change fields of the active policy, like flow.max_parallel_tasks=4; VALUE is JSON, else text.

    Runs that start later use it; what has started keeps what it got. --dry-run shows old and new values.
    """
    if not assignments:
        raise usage("name at least one PATH=VALUE, like flow.max_parallel_tasks=4")
    orchestration = safe(ids.orchestration_id, name)
    from cli.verbs.launch import overrides

    return await write(ctx, PolicySet(orchestration=orchestration, patch=overrides(None, list(assignments)), target_revision=if_revision), write_)


@app.command
async def model(
    name: OrchestrationArgument,
    role: Annotated[str, Parameter(name="ROLE")],
    model_: Annotated[str, Parameter(name="MODEL")],
    /,
    *,
    if_revision: PolicyRevision,
    write_: Write | None = None,
    ctx: Ctx,
) -> int:
    """Change the model of one role: validator, planner, executor, reviewer or reviewer_secondary."""
    command = RoleModelSet(orchestration=safe(ids.orchestration_id, name), role=role, model=model_, target_revision=if_revision)
    return await write(ctx, command, write_)


@app.command
async def diff(
    name: OrchestrationArgument,
    /,
    *,
    revision: Annotated[int | None, Parameter(help="Compare this revision. Default: the active one.")] = None,
    against: Annotated[int, Parameter(help="With this one. Default: the launch.")] = 1,
    ctx: Ctx,
) -> None:
    """Show in which fields two revisions of a policy differ."""
    orchestration = safe(ids.orchestration_id, name)
    new = await ctx.ask("policy", orchestration=orchestration, revision=revision)
    old = await ctx.ask("policy", orchestration=orchestration, revision=against)
    fields = [(section, field) for section, kind in SECTIONS.items() for field in kind.__struct_fields__]
    items = [
        {"field": f"{section}.{field}", "before": old["policy"][section][field], "after": new["policy"][section][field]}
        for section, field in fields
        if old["policy"][section][field] != new["policy"][section][field]
    ]
    if not ctx.out.many("policy-change", {"position": new["position"], "items": items, "next": None}, "field"):
        columns = (Column("FIELD", "id"), Column(f"REVISION {old['revision']}"), Column(f"REVISION {new['revision']}"))
        rows = tuple((item["field"], _shown(item["before"]), _shown(item["after"])) for item in items)
        ctx.out.table(Table(columns, rows), empty=f"Revisions {old['revision']} and {new['revision']} are the same.")


def _described(policy: Policy) -> dict[str, Any]:
    return {"hash": policy_hash(policy), "check_hash": check_hash(policy), "policy": msgspec.to_builtins(policy)}


def _shown(value: Any) -> str:
    return "-" if value is None else (cell(value) or "none")
