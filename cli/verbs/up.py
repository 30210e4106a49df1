"""`qd up`: everything in one process on this machine, until a signal ends it."""

from __future__ import annotations

import os
import re
import socket
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from bus_schemas import ids
from cli import folders, registration
from cli.arguments import pairs, safe
from cli.context import Ctx
from cli.exits import Exit
from cli.failure import usage
from cli.options import Options
from cli.registration import Registration
from cli.session import Session

if TYPE_CHECKING:
    from cli.output import Output
    from cli.stack import Plan, Running

READY_S_MAX = 20.0
CAPACITY_MAX = 4096
PORT_MAX = 65535

Label = Annotated[list[str] | None, Parameter(help="K=V of the node; may be repeated.")]
Capacity = Annotated[int | None, Parameter(help="How many runs at once. Default: one a processor, at least 2.")]


def up(
    *,
    data: Annotated[str | None, Parameter(help="Where everything is kept.")] = None,
    bus_port: Annotated[int, Parameter(help="The port of the bus on 127.0.0.1; 0 takes a free one.")] = 0,
    console_port: Annotated[int | None, Parameter(help="The port of the console on 127.0.0.1. Default: 8642, else a free one.")] = None,
    no_console: Annotated[bool, Parameter(help="Run no console.")] = False,
    node: Annotated[str | None, Parameter(help="The name of the node. Default: this machine's.")] = None,
    label: Label = None,
    capacity: Capacity = None,
    stop_running: Annotated[bool, Parameter(help="Stop the agents at the end; else they go on and are found again.")] = False,
    allow_unsafe_sync: Annotated[bool, Parameter(help="With --server: work on a bus that may lose acknowledged writes.")] = False,
    ctx: Ctx,
) -> int:
    """Run bus, controller, one node, timeline and console in one process.

    With --server it works on a bus that is there already. Plain `qd ls` in another terminal finds it; Ctrl-C ends it.
    """
    from cli import foreground, stack

    console_address: list[str] = []
    plan = stack.Plan(
        data=Path(data).absolute() if data else folders.data_dir(),
        nodes=(stack.NodePlan(node_name(node), pairs("--label", label), capacity_of(capacity)),),
        port=port("--bus-port", bus_port),
        existing=ctx.endpoint if ctx.options.server is not None else None,
        allow_unsafe_sync=allow_unsafe_sync,
        leave_running=not stop_running,
        console=None
        if no_console
        else stack.ConsolePlan(None if console_port is None else port("--console-port", console_port), on_address=console_address.append),
    )
    began = time.monotonic()
    with stack.owned(plan.data):
        try:
            foreground.run(ctx.out, partial(stack.run_stack, plan, partial(_serve, ctx, plan, began, console_address)), with_duckdb=True)
        finally:
            registration.remove(folders.state_dir(), os.getpid())
    ctx.out.note("ended")
    return Exit.DONE


async def _serve(ctx: Ctx, plan: Plan, began: float, console_address: list[str], running: Running) -> None:
    import anyio

    from cli import stack

    async with client_of(ctx.out, running) as client:
        missing = await stack.until_ready(client.ask, len(plan.nodes), timeout_s=READY_S_MAX)
    if running.token_file is not None:
        register(ctx, running, plan.data)
    _announce(ctx, plan, running, missing, time.monotonic() - began, console_address[0] if console_address else None)
    await anyio.sleep_forever()


def client_of(out: Output, running: Running) -> Session:
    """Return a session with a stack of this process."""
    session = Session(Options(server=running.endpoint.url, quiet=out.options.quiet, utc=out.options.utc, color=out.options.color), out)
    session.use(running.endpoint)
    return session


def register(ctx: Ctx, running: Running, data: Path) -> None:
    """Let plain `qd ls` in another terminal find this stack; says so when it takes that place from another one."""
    folder = folders.state_dir()
    before = registration.read(folder)
    if before is not None and before.pid != os.getpid() and registration.is_alive(before):
        ctx.out.warn(f"another `qd up` (process {before.pid}, {before.url}) was registered; clients now find this one")
    registration.write(folder, Registration(running.endpoint.url, str(running.token_file), os.getpid(), str(data)))


def _announce(ctx: Ctx, plan: Plan, running: Running, missing: list[str], took_s: float, console: str | None) -> None:
    node = plan.nodes[0]
    facts = {
        "url": running.endpoint.url,
        "token_file": None if running.token_file is None else str(running.token_file),
        "pid": os.getpid(),
        "data": str(plan.data),
        "node": node.name,
        "sync": str(running.sync),
        "missing": missing,
        "console": console,
    }
    if ctx.out.one("up", facts, running.endpoint.url):
        return
    kind = "embedded nats-server, every write synced" if running.token_file is not None else f"the one at --server, sync {running.sync}"
    head = f"quarterdeck is up  {running.endpoint.url}  ({took_s:.1f}s)"
    lines = [
        (head if not missing else f"{head}, but not all of it answers: {', '.join(missing)}", "bold green" if not missing else "bold yellow"),
        (f"  bus       {kind}", ""),
        (f"  node      {node.name}, {node.capacity} runs at once", ""),
        (f"  data      {plan.data}", ""),
    ]
    if running.token_file is not None:
        lines.append((f"  token     {running.token_file}  (mode 0600)", ""))
        lines.append((f"  found by  plain `qd ls` in another terminal, through {folders.state_dir() / registration.FILE}", ""))
    agents = "agents that run go on, and are found again by the next `qd up`" if plan.leave_running else "agents that run are stopped with it"
    lines += [
        (f"  console   {console}  (works once; `qd open` makes another)" if console else "  console   none", ""),
        (f"Ctrl-C ends it; {agents}.", "dim"),
    ]
    ctx.out.lines(lines)


def node_name(text: str | None) -> str:
    """Return the name of a node: as given, else this machine's as an id. Raises BadId."""
    if text is not None:
        return safe(ids.node_id, text)
    name = re.sub(r"^[^a-z]+", "", ids.slug_of(socket.gethostname().partition(".")[0]))[:32].rstrip("-")
    return name or "node-1"


def capacity_of(value: int | None) -> int:
    """Return how many runs at once. Raises Failure (usage)."""
    chosen = max(2, os.cpu_count() or 2) if value is None else value
    if not 1 <= chosen <= CAPACITY_MAX:
        raise usage(f"--capacity {chosen} is out of range: 1 to {CAPACITY_MAX}")
    return chosen


def port(option: str, value: int) -> int:
    """Return a port. Raises Failure (usage)."""
    if not 0 <= value <= PORT_MAX:
        raise usage(f"{option} {value} is out of range: 0 to {PORT_MAX}")
    return value
