"""`qd policy`: presets, hashes, and the policies of an orchestration."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from cyclopts import App, Parameter

from bus_schemas import ids
from bus_schemas.policy import PRESETS, SECTIONS, Policy, PolicyError, check_hash, policy_hash, whole
from bus_schemas.reasons import Reason
from cli.arguments import document, object_of, safe
from cli.context import Ctx, OrchestrationArgument
from cli.failure import Failure
from cli.table import Column, Table
from cli.text import cell, short_hash

app = App(name="policy", help="Which models work, how work is judged, how it flows.")

POLICY_BYTES_MAX = 64 * 1024


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
    at_launch: Annotated[bool, Parameter(help="The snapshot of the launch instead of the active policy.")] = False,
    ctx: Ctx,
) -> None:
    """Show the policy of an orchestration: the active one, or the snapshot of its launch."""
    o = await ctx.find("orchestration", safe(ids.orchestration_id, name))
    policy = msgspec.convert(o["policy_snapshot" if at_launch else "active_policy"], Policy)
    facts = {"orchestration": o["id"], "preset_origin": o["preset_origin"], "revision": 1 if at_launch else o["policy_revision"]}
    if not ctx.out.one("policy", {**facts, **_described(policy)}, o["id"]):
        ctx.out.line(f"{o['id']}  {o['preset_origin']}, revision {facts['revision']}  {policy_hash(policy)}")
        values = msgspec.to_builtins(policy)
        rows = tuple((f"{section}.{field}", _shown(value)) for section, fields in values.items() for field, value in fields.items())
        ctx.out.table(Table((Column("FIELD", "id"), Column("VALUE")), rows), empty="")


def _described(policy: Policy) -> dict[str, Any]:
    return {"hash": policy_hash(policy), "check_hash": check_hash(policy), "policy": msgspec.to_builtins(policy)}


def _shown(value: Any) -> str:
    return "-" if value is None else (cell(value) or "none")
