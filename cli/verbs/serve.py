"""`qd serve`: one service in the foreground, for a supervisor or a container."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from cli import folders
from cli.arguments import pairs
from cli.context import Ctx
from cli.exits import Exit
from cli.verbs.up import Capacity, Label, capacity_of, node_name, port

if TYPE_CHECKING:
    from cli.foreground import Part

app = App(name="serve", help="One service in the foreground, for a supervisor or a container.")

Data = Annotated[str | None, Parameter(help="Where it keeps its things. Default: below the folder of `qd up`.")]
Unsafe = Annotated[bool, Parameter(help="Work on a bus that may lose acknowledged writes when the power goes.")]


@app.command
def bus(
    *,
    data: Data = None,
    bus_port: Annotated[int, Parameter(name="--port", help="Where it listens.")] = 4222,
    host: Annotated[str, Parameter(help="On which address. The one token opens it, so leave it on loopback unless the network is your own.")] = (
        "127.0.0.1"
    ),
    ctx: Ctx,
) -> int:
    """Run nats-server with every write synced, and make the streams."""
    from cli import foreground

    folder = _data(data, "bus")
    foreground.run(ctx.out, partial(_bus, ctx, folder, port("--port", bus_port), host), with_duckdb=False)
    return _ended(ctx)


async def _bus(ctx: Ctx, folder: Path, bus_port: int, host: str) -> None:
    from bus.bootstrap import Sync
    from bus.embedded import EmbeddedServer
    from cli import stack
    from cli.endpoint import Endpoint

    with stack.owned(folder):
        async with EmbeddedServer(folder, port=bus_port, host=host) as server:
            await stack.set_up(Endpoint(server.url, server.credentials), Sync.ALWAYS)
            _started(ctx, {"service": "bus", "url": server.url, "token_file": str(server.token_file)})
            code = await server.wait()
            raise RuntimeError(f"nats-server ended with exit code {code}; its log is {server.log_file}")


@app.command
def controller(*, data: Data = None, allow_unsafe_sync: Unsafe = False, ctx: Ctx) -> int:
    """Run a controller; a second one stands by and takes over."""
    from cli import stack

    return _run(ctx, stack.controller_part(ctx.endpoint, _data(data, "controller"), allow_unsafe_sync=allow_unsafe_sync))


@app.command
def timeline(*, data: Data = None, allow_unsafe_sync: Unsafe = False, ctx: Ctx) -> int:
    """Run the timeline: the ledger in DuckDB."""
    from cli import stack

    return _run(ctx, stack.timeline_part(ctx.endpoint, _data(data, "timeline"), allow_unsafe_sync=allow_unsafe_sync))


@app.command
def node(
    *,
    name: Annotated[str | None, Parameter(help="Its name. Default: this machine's.")] = None,
    label: Label = None,
    capacity: Capacity = None,
    data: Data = None,
    grace: Annotated[str, Parameter(help="How long running agents may go on after a signal; a second signal ends at once.")] = "20s",
    stop_running: Annotated[bool, Parameter(help="Stop the agents at the end; else they go on and are found again.")] = False,
    ctx: Ctx,
) -> int:
    """Run a node: it takes work orders and runs agents."""
    import anyio

    from cli import stack

    plan = stack.NodePlan(node_name(name), pairs("--label", label), capacity_of(capacity))
    drain = anyio.Event()

    def on_signal() -> None:
        drain.set()
        ctx.out.note("draining: no new work; a second signal ends at once")

    folder = _data(data, f"nodes/{plan.name}")
    part = stack.node_part(ctx.endpoint, folder, plan, leave_running=not stop_running, grace_s=_grace_s(grace), drain=drain)
    return _run(ctx, part, on_signal)


@app.command
def console(
    *,
    host: Annotated[str, Parameter(help="On which address. Beyond loopback it needs a certificate.")] = "127.0.0.1",
    console_port: Annotated[int, Parameter(name="--port", help="Where it listens; 0 takes a free one.")] = 8642,
    name: Annotated[list[str] | None, Parameter(help="A name by which browsers may call it, beside its address; may be repeated.")] = None,
    certificate: Annotated[str | None, Parameter(help="A PEM file with the certificate chain.")] = None,
    certificate_key: Annotated[str | None, Parameter(help="A PEM file with its key.")] = None,
    read_only: Annotated[bool, Parameter(help="Show everything, change nothing.")] = False,
    data: Data = None,
    ctx: Ctx,
) -> int:
    """Run the console: the web page where operators work."""
    from cli import foreground, stack

    plan = stack.ConsolePlan(
        port("--port", console_port),
        host,
        tuple(name or ()),
        None if certificate is None else Path(certificate),
        None if certificate_key is None else Path(certificate_key),
        read_only,
        lambda address: _started(ctx, {"service": "console", "url": address}),
    )
    part = stack.console_part(ctx.endpoint, _data(data, "console"), plan)
    foreground.run(ctx.out, partial(part.serve, task_status=_Silent()), with_duckdb=False)
    return _ended(ctx)


class _Silent:
    """Says nothing: the console has told its address already."""

    def started(self, value: None = None) -> None:
        return


def _grace_s(text: str) -> float:
    from cli.durations import parse_duration_s
    from cli.failure import usage

    try:
        return parse_duration_s(text)
    except ValueError as error:
        raise usage(f"--grace: {error}") from error


def _run(ctx: Ctx, part: Part, on_signal: Callable[[], None] | None = None) -> int:
    from cli import foreground

    serve = partial(part.serve, task_status=_Announcement(ctx, part.name))
    foreground.run(ctx.out, serve, with_duckdb=part.name == "timeline", on_signal=on_signal)
    return _ended(ctx)


class _Announcement:
    """Says that a service has started, when it says so itself."""

    def __init__(self, ctx: Ctx, name: str) -> None:
        self._ctx, self._name = ctx, name

    def started(self, value: None = None) -> None:
        _started(self._ctx, {"service": self._name, "url": self._ctx.endpoint.url})


def _started(ctx: Ctx, facts: dict[str, Any]) -> None:
    if not ctx.out.one("service", facts, facts["url"]):
        token = f"  token {facts['token_file']}" if "token_file" in facts else ""
        ctx.out.line(f"{facts['service']} serves  {facts['url']}{token}")


def _ended(ctx: Ctx) -> int:
    ctx.out.note("ended")
    return Exit.DONE


def _data(given: str | None, part: str) -> Path:
    folder = Path(given).absolute() if given else folders.data_dir() / part
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder
