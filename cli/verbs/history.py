"""`qd timeline` and `qd logs`: what happened to an orchestration, and what its agents printed."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from bus_schemas import ids
from cli.arguments import any_id, safe
from cli.context import Ctx, OrchestrationArgument
from cli.failure import usage
from cli.render import history
from cli.text import harmless
from cli.verbs.orchestration import position

LIMIT_DEFAULT = 500
NEWS_WAIT_S = 2.0


async def timeline(
    name: OrchestrationArgument,
    /,
    *,
    follow: Annotated[bool, Parameter(name=["--follow", "-F"], help="Go on until the orchestration ends.")] = False,
    after: Annotated[str | None, Parameter(help="Only what came after this position, like 418.3.")] = None,
    before: Annotated[str | None, Parameter(help="Only what came before this position.")] = None,
    limit: Annotated[int, Parameter(help="At most so many.")] = LIMIT_DEFAULT,
    ctx: Ctx,
) -> None:
    """Show the operator timeline: every request, outcome and event, once, in the order of the ledger."""
    orchestration = safe(ids.orchestration_id, name)
    start = position("--after", after)
    if follow:
        from cli import following

        async for step in following.follow(ctx, orchestration, after=start, timeout_s=ctx.options.timeout_s):
            following.tell(ctx, step)
        ctx.out.progress("")
        return
    answer = await ctx.ask("timeline", orchestration=orchestration, after=start, before=position("--before", before), limit=limit)
    if not answer["items"]:
        await ctx.find("orchestration", orchestration)  # an empty answer must not hide a wrong name
    more = bool(answer.pop("more", False))
    if not ctx.out.many("timeline", {**answer, "next": answer["next"] if more else None}, "position"):
        ctx.out.table(history.rows(answer["items"], ctx.out.zone), empty="Nothing there.")
        if more:
            ctx.out.note(f"there are more: --after {answer['next']}" if before is None else f"there are more: --before {answer['previous']}")


async def logs(
    name: OrchestrationArgument,
    /,
    *,
    run: Annotated[str | None, Parameter(help="Only of this run, like shop-o12-r7 or r7.")] = None,
    follow: Annotated[bool, Parameter(name=["--follow", "-F"], help="Go on until the orchestration ends.")] = False,
    since: Annotated[str | None, Parameter(help="Go on after this cursor (`cursor` of a chunk in JSON).")] = None,
    prompt: Annotated[bool, Parameter(help="Show what the agent of --run was asked instead.")] = False,
    ctx: Ctx,
) -> None:
    """Show what the agents of an orchestration printed, or what they were asked."""
    wanted = any_id(name)
    orchestration = ids.orchestration_of(wanted) if "-r" in wanted.rpartition("-")[1] + wanted.rpartition("-")[2] else wanted
    chosen = _run(orchestration, run if run is not None or orchestration == wanted else wanted)
    if prompt:
        await _prompt(ctx, chosen)
        return
    after = _cursor(since)
    view = await ctx.find("orchestration", safe(ids.orchestration_id, orchestration))
    if follow:
        ctx.stay()
    printer = _Printer(ctx, chosen is not None, collect=ctx.options.output == "json" and not follow)
    while True:
        ended = view["status"] in ("complete", "failed", "cancelled")
        wait_s = NEWS_WAIT_S if follow and not ended else None
        answer = await ctx.ask("logs", wait_s=wait_s, orchestration=orchestration, run=chosen, after=after)
        printer.print(answer["items"])
        after = answer.get("next") or (answer["items"][-1]["cursor"] if answer["items"] else after)
        if not answer["items"] and (ended or not follow):
            printer.finish()
            return
        view = await ctx.find("orchestration", orchestration)


def _run(orchestration: str, run: str | None) -> str | None:
    if run is None:
        return None
    short = run.lower()
    return safe(ids.run_id, f"{orchestration}-{short}" if short[:1] == "r" and short[1:].isdecimal() else run)


def _cursor(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdecimal() or len(text) > 18:
        raise usage(f"--since {text[:40]!a} is not a cursor: a number, as `cursor` of a chunk says")
    return int(text)


class _Printer:
    """Prints chunks; between runs it says whose output comes. With `collect` they become one JSON list at the end."""

    def __init__(self, ctx: Ctx, one_run: bool, *, collect: bool) -> None:
        self._ctx, self._one_run = ctx, one_run
        self._collected: list[dict[str, Any]] | None = [] if collect else None
        self._last: tuple[str, int] | None = None
        self._line_open = False

    def print(self, chunks: list[dict[str, Any]]) -> None:
        if self._collected is not None:
            self._collected += chunks
            return
        if self._ctx.options.is_json:
            self._ctx.out.ndjson("log", chunks)
            return
        for chunk in chunks:
            attempt = (chunk["run"], chunk["attempt"])
            if attempt != self._last and not self._one_run:
                gap = "\n" if self._line_open else ""
                self._ctx.out.raw(f"{gap}==> {chunk['run']} attempt {chunk['attempt']} on {chunk['node']} <==\n")
            self._last = attempt
            text = chunk["text"]
            self._ctx.out.raw(harmless(text) if self._ctx.out.is_terminal else text)
            self._line_open = bool(text) and not text.endswith("\n")

    def finish(self) -> None:
        if self._collected is not None:
            self._ctx.out.many("log", {"items": self._collected, "next": None}, "run")


async def _prompt(ctx: Ctx, run: str | None) -> None:
    if run is None:
        raise usage("--prompt needs --run RUN: what one agent was asked")
    order = await ctx.ask("order", run=run)
    if ctx.out.one("order", order, run):
        return
    for line in history.order(order):
        ctx.out.line(line)
