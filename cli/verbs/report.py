"""`qd report` and `qd sql`: history as tables, from DuckDB."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import App, Parameter

from cli.arguments import document, since_time
from cli.context import Ctx
from cli.failure import usage
from cli.render import history

app = App(name="report", help="What launches came to, how long actions took, what failed.")

STATEMENT_BYTES_MAX = 64 * 1024

Since = Annotated[str | None, Parameter(help="Only newer: a duration like 24h, or a time.")]
Until = Annotated[str | None, Parameter(help="Only older: a duration before now, or a time.")]
By = Annotated[str | None, Parameter(help="Group by this field.")]


async def _report(ctx: Ctx, name: str, since: str | None, until: str | None, by: str | None) -> None:
    begin, end = since_time("--since", since), since_time("--until", until)
    answer = await ctx.ask("report", name=name, since=begin, until=end, by=by)
    print_table(ctx, "report", answer, {"name": name, "since": begin, "until": end}, empty="Nothing in that time.")


@app.command
async def launches(*, since: Since = None, until: Until = None, by: By = None, ctx: Ctx) -> None:
    """Report how many launches and orchestrations succeeded."""
    await _report(ctx, "launches", since, until, by)


@app.command
async def latency(*, since: Since = None, until: Until = None, by: By = None, ctx: Ctx) -> None:
    """Report how long actions took, by type: received to accepted, accepted to completed."""
    await _report(ctx, "latency", since, until, by)


@app.command
async def failures(*, since: Since = None, until: Until = None, by: By = None, ctx: Ctx) -> None:
    """Report what was refused and what failed, by reason code."""
    await _report(ctx, "failures", since, until, by)


async def sql(
    statement: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    /,
    *,
    file: Annotated[
        str | None, Parameter(name=["--file", "-f"], allow_leading_hyphen=True, help="Read the statement from a file; - is stdin.")
    ] = None,
    tables: Annotated[bool, Parameter(help="List the tables, views and macros.")] = False,
    describe: Annotated[str | None, Parameter(help="Show the columns of a table.")] = None,
    limit: Annotated[int | None, Parameter(help="At most so many rows.")] = None,
    ctx: Ctx,
) -> None:
    """Ask the history in SQL, read only.

    The dialect is DuckDB's. -o table, json, ndjson or csv. `qd sql --tables` shows what there is to ask.
    """
    chosen = [value for value in (statement, file, describe, tables or None) if value is not None]
    if len(chosen) != 1:
        raise usage('name one of: a statement in quotes, --file F, --tables, --describe TABLE; like qd sql "SELECT * FROM orchestrations"')
    if tables or describe is not None:
        answer = await ctx.ask("tables", describe=describe)
    else:
        text = statement if statement is not None else document("--file", str(file), limit_bytes=STATEMENT_BYTES_MAX)
        answer = await ctx.ask("sql", sql=text, limit=limit)
    print_table(ctx, "row", answer, {}, empty="No row.")


def print_table(ctx: Ctx, noun: str, answer: dict[str, Any], facts: dict[str, Any], *, empty: str) -> None:
    """Print a table as asked: drawn, JSON, a line a row, CSV, or its first column. Says so when a limit cut it."""
    items = history.items(answer)
    match ctx.options.output:
        case "json":
            kept = {key: value for key, value in answer.items() if key != "rows"}
            schema = f"qd.{noun}/1" if noun == "report" else f"qd.{noun}-list/1"
            ctx.out.json({"schema": schema, **facts, "items": items, "next": None, **kept})
        case "ndjson":
            for item in items:
                ctx.out.json(item)
        case "csv":
            _csv(ctx, answer)
        case "name":
            for row in answer["rows"]:
                ctx.out.line("" if row[0] is None else str(row[0]))
        case _:
            ctx.out.table(history.table(answer), empty=empty)
    if answer["truncated"] and ctx.options.output != "json":
        ctx.out.warn(f"only the first {len(items)} rows are shown; there are more: --limit N, or a narrower question")


def _csv(ctx: Ctx, answer: dict[str, Any]) -> None:
    import csv
    import io

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(history.names(answer))
    writer.writerows(["" if value is None else value for value in row] for row in answer["rows"])
    ctx.out.raw(text.getvalue())
