"""`qd doctor`: is everything as it should be, and if not, what to do."""

from __future__ import annotations

import base64
import time
from typing import Any, NamedTuple

from cli.context import Ctx
from cli.exits import UNREACHABLE, Exit
from cli.failure import Failure
from cli.session import unless_refused
from cli.text import cell

BEHIND_MAX = 1000
"""Ledger messages that a timeline may have before it; more than a second's work is a fault."""
DEAD_LETTERS_SHOWN = 3
COMMAND_WAIT_S = 3.0
"""For a command that is answered within milliseconds where all is well."""
SIGNS = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "red"), "skip": ("·", "dim")}


class Check(NamedTuple):
    """One thing that was looked at: `state` is ok, warn, fail or skip."""

    name: str
    state: str
    detail: str
    hint: str = ""


async def doctor(*, ctx: Ctx) -> int:
    """Look whether everything is as it should be.

    Bus, streams, sync, controller, dead letters, timeline, nodes; each with what to do about it. Exit 1 when something is wrong.
    """
    checks: list[Check] = []
    began = time.monotonic()
    try:
        bus = await ctx.bus()
    except Failure as failure:
        if failure.code != UNREACHABLE:
            raise
        checks.append(Check("bus", "fail", failure.message, failure.hint))
    else:
        checks.append(Check("bus", "ok", f"{bus.url} answers as {bus.principal} in {(time.monotonic() - began) * 1000:.0f} ms"))
        checks += [await _streams(ctx), *await _controller(ctx), await _timeline(ctx), await _nodes(ctx)]
    _print(ctx, checks)
    if any(check.state == "fail" for check in checks):
        ctx.out.note(f"{sum(check.state == 'fail' for check in checks)} of {len(checks)} checks failed")
        return Exit.UNEXPECTED
    return Exit.DONE


def _print(ctx: Ctx, checks: list[Check]) -> None:
    items = [{"check": c.name, "state": c.state, "detail": c.detail, "hint": c.hint or None} for c in checks]
    healthy = all(check.state != "fail" for check in checks)
    if ctx.out.one("doctor", {"healthy": healthy, "checks": items}, "healthy" if healthy else "unhealthy"):
        return
    for check in checks:
        sign, style = SIGNS[check.state]
        ctx.out.lines([(f"{sign} {check.name:<13} {cell(check.detail)}", style)])
        if check.hint:
            ctx.out.lines([(f"  {'':<13} {check.hint}", "")])


async def _streams(ctx: Ctx) -> Check:
    """Compare the streams; on a connection of its own, since asking what is not permitted ends a connection."""
    from bus.bootstrap import ensure_all
    from bus.connection import ApiFailure
    from bus.errors import Unavailable

    bus = await ctx.connect()
    try:
        changes = await unless_refused(bus, ensure_all(bus, dry_run=True))
    except Failure:
        return Check("streams", "skip", "this identity may not look at them")
    except (Unavailable, ApiFailure) as error:
        return Check("streams", "fail", str(error), "Is JetStream on? `qd bus init` makes the streams.")
    finally:
        await bus.close()
    wrong = [change for change in changes if change.done == "differs"]
    if wrong:
        text = "; ".join(f"{change.thing}: {change.detail}" for change in wrong[:3])
        return Check("streams", "fail", f"{len(wrong)} of {len(changes)} are not as they should be: {text}", "`qd bus init` makes them so.")
    return Check("streams", "ok", f"all {len(changes)} streams and consumers are as they should be")


async def _controller(ctx: Ctx) -> list[Check]:
    try:
        status = await ctx.ask("status")
    except Failure as failure:
        return [
            Check("controller", "fail", failure.message, "Start one: `qd serve controller` (or `qd up`). One that runs: is the disk of the bus full?")
        ]
    sync = Check("sync", "ok", "every write is on disk before it is acknowledged")
    if status["sync"] != "always":
        how = "syncs only now and then" if status["sync"] == "unsafe" else "does not show how it syncs"
        text = f"the bus {how}: acknowledged work could be lost when the power goes"
        sync = Check("sync", "warn", text, "Set `sync_interval: always` in its jetstream block, then `qd bus init --monitor URL`.")
    active = Check("controller", "ok", f"{status['owner']} is active, at {status['position']}; {status['live']} orchestrations live")
    stopped = status["stopped_projects"]
    if stopped:
        text = "; ".join(f"{project}: {why}" for project, why in stopped.items())
        active = Check(
            "controller",
            "fail",
            f"{len(stopped)} projects are stopped: {text}",
            "Their ledger is not what it was written as: `qd audit verify` names each place. Nothing is decided on them.",
        )
    return [sync, active, await _commands(ctx), await _dead_letters(ctx, int(status["dead_letters"]))]


async def _commands(ctx: Ctx) -> Check:
    """Send a command as a dry run: is it stored, and answered? A server whose disk was full says so in no other way."""
    from bus.errors import Rejected, Unavailable
    from bus.request import CommandClient, OutcomeUnknown, new_key
    from bus_schemas.commands import FlagSet, Via

    bus = await ctx.connect()
    began = time.monotonic()
    try:
        async with CommandClient(bus, Via.CLI) as client:
            await unless_refused(bus, client.submit(FlagSet("doctor", True), new_key(), dry_run=True, timeout_s=COMMAND_WAIT_S))
    except Failure:
        return Check("commands", "skip", "this identity may not send any")
    except (OutcomeUnknown, Unavailable, Rejected) as error:
        return Check(
            "commands", "fail", str(error), "Is the disk of the bus full? After that its server takes writes again only once it is restarted."
        )
    finally:
        await bus.close()
    return Check("commands", "ok", f"one that changes nothing was stored and answered in {(time.monotonic() - began) * 1000:.0f} ms")


async def _dead_letters(ctx: Ctx, count: int) -> Check:
    if count == 0:
        return Check("dead letters", "ok", "none")
    if count < 0:
        return Check("dead letters", "skip", "the controller cannot see them")
    reasons = await _last_reasons(ctx)
    text = f"{count} messages could not be used" + (f"; the last: {'; '.join(reasons)}" if reasons else "")
    return Check("dead letters", "warn", text, "Their bytes are kept for 90 days in the stream DLQ.")


async def _last_reasons(ctx: Ctx) -> list[str]:
    from bus.connection import ApiFailure
    from bus.errors import Unavailable
    from bus_schemas.subjects import DLQ

    bus = await ctx.connect()
    found: list[str] = []
    try:
        seq = int((await unless_refused(bus, bus.api(f"STREAM.INFO.{DLQ}")))["state"]["last_seq"])
        while seq > 0 and len(found) < DEAD_LETTERS_SHOWN:
            message = (await bus.api(f"STREAM.MSG.GET.{DLQ}", {"seq": seq}))["message"]
            found.append(_reason(message))
            seq -= 1
    except (Unavailable, ApiFailure, Failure):
        return found  # this identity may not look, or they are gone: the count is told anyway
    finally:
        await bus.close()
    return found


def _reason(message: dict[str, Any]) -> str:
    headers = base64.b64decode(message.get("hdrs", "")).decode(errors="replace").split("\r\n")
    values = dict(line.split(": ", 1) for line in headers if ": " in line)
    return values.get("qd-reason", str(message.get("subject", "?")))[:200]


async def _timeline(ctx: Ctx) -> Check:
    try:
        status = await ctx.ask("timeline-status")
    except Failure as failure:
        return Check("timeline", "fail", failure.message, "Start one: `qd serve timeline` (or `qd up`).")
    if status["state"] != "following":
        alarm = status.get("alarm")
        hint = "Its file can be removed: it is made again from the ledger." if alarm is None else f"{_hashes(alarm)}{alarm['next_step']}"
        return Check("timeline", "fail", f"{status['state']}: {status['reason']}", hint)
    if status["reason"]:
        return Check("timeline", "fail", f"{status['behind']} ledger messages behind: {status['reason']}", "Is its disk full? It goes on by itself.")
    if status["behind"] > BEHIND_MAX:
        return Check("timeline", "fail", f"{status['behind']} ledger messages behind, at {status['position']}", "Is its disk slow or full?")
    unknown = f"; {status['unknown_types']} events of unknown types" if status["unknown_types"] else ""
    return Check("timeline", "ok", f"follows at {status['position']}, {status['behind']} behind, {status['events']} events{unknown}")


def _hashes(alarm: dict[str, Any]) -> str:
    """Return which message an alarm is about, and what was expected and found there, as far as it is known."""
    where = " ".join(str(alarm[key]) for key in ("project", "seq") if alarm.get(key) is not None)
    hashes = ", ".join(f"{key} {alarm[key]}" for key in ("expected", "found") if alarm.get(key) is not None)
    return f"{where}: {hashes}. " if hashes else ""


async def _nodes(ctx: Ctx) -> Check:
    try:
        nodes = (await ctx.ask("nodes"))["items"]
    except Failure as failure:
        return Check("nodes", "fail", failure.message)
    online = [n["id"] for n in nodes if n["online"]]
    offline = [n["id"] for n in nodes if not n["online"]]
    if not online:
        known = f"; known: {', '.join(offline)}" if offline else ""
        return Check("nodes", "fail", f"none is online{known}", "Start one: `qd serve node --name NAME` (or `qd up`).")
    if offline:
        return Check("nodes", "warn", f"online: {', '.join(online)}; offline: {', '.join(offline)}")
    return Check("nodes", "ok", f"online: {', '.join(online)}")
