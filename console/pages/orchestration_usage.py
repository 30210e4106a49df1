"""Usage: the tokens and the cost that agents reported, by role, model and task, and the time that runs took."""

from __future__ import annotations

from typing import Any, NamedTuple

import anyio

from bus_schemas import ids
from console.backend import Problem
from console.page import Context, Visit
from console.pages import orchestration

ROWS_MAX = 200
_SUMS = "count(*) AS attempts, sum(input_tokens)::BIGINT AS input_tokens, sum(output_tokens)::BIGINT AS output_tokens, sum(usd)::DOUBLE AS usd"


class Split(NamedTuple):
    """A table of the tab: how what was used is split. `what` names the first column."""

    name: str
    title: str
    what: str
    sql: str


def splits(orchestration: str) -> tuple[Split, ...]:
    """Return what is asked of an orchestration. Raises BadId."""
    where = f"WHERE orchestration = '{ids.orchestration_id(orchestration)}'"
    task = "CASE WHEN task IS NOT NULL THEN phase || '.' || task WHEN phase IS NOT NULL THEN 'phase ' || phase || ' ' || kind ELSE kind END"
    tail = f"GROUP BY 1 ORDER BY usd DESC NULLS LAST, input_tokens DESC, 1 LIMIT {ROWS_MAX}"
    return (
        Split("role", "By role", "Role", f"SELECT role, {_SUMS} FROM usage {where} {tail}"),
        Split("model", "By model", "Model", f"SELECT model, {_SUMS} FROM usage {where} {tail}"),
        Split("task", "By task", "Task", f"SELECT {task} AS task, {_SUMS} FROM usage {where} {tail}"),
        Split(
            "time",
            "Time of runs",
            "Kind",
            "SELECT kind, count(*) AS attempts, count(*) FILTER (status IN ('failed', 'timed_out', 'lost')) AS failed, "
            f"(sum(run_ms) / 1000)::DOUBLE AS ran_s, (sum(queue_ms) / 1000)::DOUBLE AS waited_s "
            f"FROM runs {where} GROUP BY 1 ORDER BY ran_s DESC NULLS LAST",
        ),
    )


async def load(visit: Visit) -> Context:
    """Return what was used, each way it is split. Raises Problem; a timeline that is away is told in the place of the tables."""
    context = await orchestration.head(visit)
    asked = splits(context["o"]["id"])
    answers: dict[str, list[dict[str, Any]]] = {}
    problems: list[Problem] = []

    async def answer(split: Split) -> None:
        try:
            found = await visit.backend.ask("sql", sql=split.sql, limit=ROWS_MAX)
        except Problem as problem:
            problems.append(problem)
            return
        answers[split.name] = [dict(zip(found["columns"], row, strict=True)) for row in found["rows"]]

    async with anyio.create_task_group() as tasks:
        for split in asked:
            tasks.start_soon(answer, split)
    flow = (context["o"]["active_policy"] or {}).get("flow", {})
    return {
        **context,
        "tab": "usage",
        "splits": [split for split in asked if split.name != "time"],
        "answers": answers,
        "problem": problems[0] if problems else None,
        "budgets": budgets(context["o"], flow),
    }


def budgets(o: Context, flow: dict[str, Any]) -> list[tuple[str, float, float, int]]:
    """Return each budget of the policy: its unit, what is spent, its limit, and the share in percent (at most 100)."""
    found = []
    for unit, spent, limit in (("USD", o["cost_usd"] or 0.0, flow.get("budget_usd")), ("tokens", o["tokens"], flow.get("budget_tokens"))):
        if limit:
            found.append((unit, float(spent), float(limit), min(100, round(100 * spent / limit))))
    return found


PAGES = (orchestration.tab("usage", load),)
