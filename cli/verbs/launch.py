"""`qd launch`: start an orchestration of a design on a node."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from bus_schemas import ids
from bus_schemas.commands import Launch
from bus_schemas.policy import SECTIONS, Preset, Role
from cli import completing
from cli.arguments import document, json_or_text, object_of, pairs, safe
from cli.context import Ctx, DesignArgument
from cli.exits import Exit
from cli.failure import usage
from cli.writing import Write

POLICY_BYTES_MAX = 64 * 1024


async def launch(
    design: DesignArgument,
    /,
    *,
    node: Annotated[str, Parameter(completer=completing.nodes, help="Where to run it; auto takes the least loaded node that fits.")],
    feature: Annotated[
        str | None, Parameter(allow_leading_hyphen=True, help="Its name, which makes the branch's. Default: the design's title.")
    ] = None,
    ticket: Annotated[
        list[str] | None, Parameter(completer=completing.tickets, help="A ticket to take up; may be repeated. Without any the launch is design only.")
    ] = None,
    preset: Annotated[str | None, Parameter(help="strict, balanced (default) or fast.")] = None,
    model: Annotated[list[str] | None, Parameter(help="MODEL for all roles, or ROLE=MODEL; may be repeated. `shell` needs no agent CLI.")] = None,
    set_: Annotated[
        list[str] | None,
        Parameter(name="--set", help="PATH=VALUE changes a field of the policy, like flow.max_parallel_tasks=4; VALUE is JSON, else text."),
    ] = None,
    policy: Annotated[str | None, Parameter(allow_leading_hyphen=True, help="A whole policy as JSON or TOML; - reads stdin.")] = None,
    branch: Annotated[str | None, Parameter(help="The branch to make, below qd/.")] = None,
    label: Annotated[list[str] | None, Parameter(help="K=V that the node must have, with --node auto; may be repeated.")] = None,
    write_: Write | None = None,
    ctx: Ctx,
) -> int:
    """Launch a design on a node.

    --wait=end follows it to its end (exit 7 unless complete). A launch without tickets is design only, and says so.
    """
    if policy is not None and (preset is not None or model or set_):
        raise usage("--policy is a whole policy: --preset, --model and --set cannot stand beside it")
    if label and node != "auto":
        raise usage("--label chooses a node, so it needs --node auto")
    command = Launch(
        design=safe(ids.design_id, design),
        node=safe(ids.node_id, node),
        feature=feature,
        labels=pairs("--label", label),
        tickets=tuple(safe(ids.ticket_id, name) for name in ticket or ()),
        branch=branch,
        preset=preset if preset is not None else Preset.BALANCED.value,
        overrides=overrides(model, set_),
        policy=None if policy is None else object_of("--policy", document("--policy", policy, limit_bytes=POLICY_BYTES_MAX)),
    )
    options = write_ or Write()
    if options.wait == "end" and not options.dry_run:
        return await _to_the_end(ctx, command, options)
    from cli import submission

    return await submission.write(ctx, command, options, None)


def overrides(models: list[str] | None, settings: list[str] | None) -> dict[str, Any]:
    """Return the overrides that --model and --set make: {section: {field: value}}. The controller says which are allowed."""
    found: dict[str, Any] = {}
    for text in models or ():
        role, equals, model = text.partition("=")
        if equals:
            found.setdefault("model", {})[role] = model
        else:
            found.setdefault("model", {}).update({known.value: text for known in Role})
    for path, text in pairs("--set", settings).items():
        section, dot, field = path.partition(".")
        if not dot:
            section, field = _section_of(path), path
        if not isinstance(found.setdefault(section, {}), dict):
            raise usage(f"--set {path[:60]!a} contradicts another --set")
        found[section][field] = json_or_text(text)
    return found


def _section_of(field: str) -> str:
    """Return the section that has a field of this name; the names of fields are unique. Raises Failure (usage)."""
    import difflib

    fields = {name: section for section, kind in SECTIONS.items() for name in kind.__struct_fields__}
    if field in fields:
        return fields[field]
    near = difflib.get_close_matches(field, fields, 3)
    meant = f"; did you mean {', '.join(f'{fields[name]}.{name}' for name in near)}?" if near else f"; sections: {', '.join(SECTIONS)}"
    raise usage(f"--set {field[:60]!a} is no field of a policy{meant}")


async def _to_the_end(ctx: Ctx, command: Launch, options: Write) -> int:
    from cli import following, submission
    from cli.exits import UNREACHABLE, WAITED_TOO_LONG
    from cli.failure import Failure
    from cli.render.orchestrations import next_steps
    from cli.verbs.orchestration import not_complete

    receipt = await submission.submit(ctx, command, options)
    assert receipt is not None
    assert receipt.orchestration is not None
    submission.warn(ctx, receipt)
    ctx.out.note(f"accepted  {receipt.action}  {receipt.orchestration}; `qd watch {receipt.orchestration}` follows it from elsewhere")
    view: dict[str, Any] = {}
    try:
        async for step in following.follow(ctx, receipt.orchestration, timeout_s=ctx.options.timeout_s):
            view = step.view
            following.tell_aside(ctx, step)
    except Failure as failure:
        if failure.code in (WAITED_TOO_LONG, UNREACHABLE):
            submission.show(ctx, receipt, None, warned=True)
            steps = next_steps(view) if view else []
            hint = f"It waits for you: {steps[0]}" if steps else failure.hint
            raise Failure(failure.code, failure.message, hint=hint, action=receipt.action, exit_code=Exit.WAITED_TOO_LONG) from failure
        raise
    ctx.out.progress("")
    final = submission.receipt_from(await ctx.ask("action", id=receipt.action))
    submission.show(ctx, final, None, warned=True)
    if view["status"] != "complete":
        raise not_complete(view)
    return Exit.DONE
