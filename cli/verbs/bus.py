"""`qd bus`: the streams of a bus, made and looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from cli.context import Ctx
from cli.exits import UNREACHABLE, UNSAFE_SYNC, Exit
from cli.failure import Failure, usage
from cli.session import unless_refused
from cli.table import Column, Table
from cli.text import cell

if TYPE_CHECKING:
    from bus.bootstrap import Sync
    from bus.connection import Bus

app = App(name="bus", help="The bus: its streams, made and looked at.")

REPLICAS = (1, 3, 5)


@app.command
async def init(
    *,
    monitor: Annotated[str | None, Parameter(help="The monitoring URL of the server, like http://127.0.0.1:8222, to see whether it syncs.")] = None,
    allow_unsafe_sync: Annotated[bool, Parameter(help="Also on a server that may lose acknowledged writes when the power goes.")] = False,
    replicas: Annotated[int, Parameter(help="How many servers keep each message: 1, or 3 or 5 in a cluster.")] = 1,
    dry_run: Annotated[bool, Parameter(help="Only say what differs. Exit 20 if something does.")] = False,
    ctx: Ctx,
) -> int:
    """Make every stream and consumer as it must be, and note how the server writes."""
    from bus.bootstrap import REPLICAS_SAFE, Sync, ensure_all
    from bus.connection import ApiFailure
    from bus.errors import Unavailable
    from bus.sync import BadMonitor

    if replicas not in REPLICAS:
        raise usage(f"--replicas {replicas} is not possible: {', '.join(map(str, REPLICAS))}")
    bus = await ctx.bus()
    try:
        sync = await unless_refused(bus, _sync(bus, monitor))
        safe = sync is Sync.ALWAYS or replicas >= REPLICAS_SAFE
        if not safe and not allow_unsafe_sync and not dry_run:
            found = "does not sync every write" if sync is Sync.UNSAFE else "does not show how it syncs"
            raise Failure(UNSAFE_SYNC, f"the server at {bus.url} {found}; nothing was changed")
        changes = await unless_refused(bus, ensure_all(bus, replicas=replicas, sync=sync, dry_run=dry_run))
    except BadMonitor as error:
        raise usage(f"--monitor: {error}") from error
    except (Unavailable, ApiFailure) as error:
        raise Failure(
            UNREACHABLE, f"the JetStream API of {bus.url} did not do it: {error}", hint="Is JetStream on, and may you use its API?"
        ) from error
    items = [{"thing": change.thing, "done": change.done, "detail": change.detail} for change in changes]
    if not ctx.out.many("change", {"items": items, "next": None, "sync": str(sync)}, "thing"):
        columns = (Column("THING", "id"), Column("DONE", "id"), Column("DETAIL"))
        ctx.out.table(Table(columns, tuple((cell(i["thing"]), cell(i["done"]), cell(i["detail"])) for i in items)), empty="")
        ctx.out.note(f"sync {sync}" + ("" if safe else ": acknowledged work could be lost when the power goes"))
    return Exit.WOULD_CHANGE if dry_run and any(change.done == "differs" for change in changes) else Exit.DONE


async def _sync(bus: Bus, monitor: str | None) -> Sync:
    """Return how the server writes: as it says itself, else as it was noted before."""
    from bus.bootstrap import Sync, sync_of
    from bus.connection import ApiFailure
    from bus.sync import detect_sync

    found = await detect_sync(bus, monitor)
    if found is not Sync.UNKNOWN:
        return found
    try:
        return await sync_of(bus)
    except ApiFailure:
        return Sync.UNKNOWN  # there is no ledger yet to note it on


@app.command
async def info(*, ctx: Ctx) -> None:
    """Show the server and its streams: how much is in them, how it writes."""
    from bus.bootstrap import sync_of
    from bus.connection import ApiFailure
    from bus.errors import Unavailable
    from bus_schemas.subjects import STREAMS

    bus = await ctx.bus()
    items: list[dict[str, Any]] = []
    for spec in STREAMS:
        try:
            found = await unless_refused(bus, bus.api(f"STREAM.INFO.{spec.name}"))
        except ApiFailure as failure:
            items.append({"stream": spec.name, "missing": True, "detail": failure.description})
        except Unavailable as error:
            raise Failure(UNREACHABLE, f"the JetStream API of {bus.url} does not answer: {error}") from error
        else:
            items.append(_stream(spec.name, found))
    try:
        sync = str(await sync_of(bus))
    except ApiFailure:
        sync = "unknown"
    facts = {"url": bus.url, "principal": bus.principal, "sync": sync}
    if ctx.options.output == "json":
        ctx.out.json({"schema": "qd.bus/1", **facts, "streams": items})
    elif not ctx.out.many("stream", {"items": items, "next": None}, "stream"):
        _show_info(ctx, facts, items)


def _stream(name: str, found: dict[str, Any]) -> dict[str, Any]:
    state, config = found["state"], found["config"]
    return {
        "stream": name,
        "missing": False,
        "messages": state["messages"],
        "bytes": state["bytes"],
        "first_seq": state["first_seq"],
        "last_seq": state["last_seq"],
        "consumers": state["consumer_count"],
        "replicas": config["num_replicas"],
        "subjects": config["subjects"],
    }


def _show_info(ctx: Ctx, facts: dict[str, Any], items: list[dict[str, Any]]) -> None:
    ctx.out.line(f"{facts['url']}  as {facts['principal']}  sync {facts['sync']}")
    columns = (
        Column("STREAM", "id"),
        Column("MESSAGES", "number"),
        Column("BYTES", "number"),
        Column("LAST", "number"),
        Column("CONSUMERS", "number"),
        Column("REPLICAS", "number"),
        Column("SUBJECTS"),
    )
    rows = tuple(
        (i["stream"], "missing", "", "", "", "", cell(i["detail"]))
        if i["missing"]
        else (i["stream"], *(str(i[key]) for key in ("messages", "bytes", "last_seq", "consumers", "replicas")), cell(i["subjects"]))
        for i in items
    )
    ctx.out.table(Table(columns, rows), empty="")
    ctx.out.note(f"the same with the NATS tool: nats --server {facts['url']} stream report")
