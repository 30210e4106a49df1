"""Usage: the tokens and the cost that agents reported, by role, model and task, and the time that runs took."""

from __future__ import annotations

from typing import Any, NamedTuple

from bus_schemas import ids
from console.backend import Problem
from console.page import Context, Visit
from console.pages import orchestration

LOOK_EVERY_S = 10.0
"""The timeline may read the ledger a little later than the page hears of it."""
ROWS_MAX = 200
_SUMS = "count(*) AS attempts, sum(input_tokens)::BIGINT AS input_tokens, sum(output_tokens)::BIGINT AS output_tokens, sum(usd)::DOUBLE AS usd"
_WORK = "CASE WHEN task IS NOT NULL THEN phase || '.' || task WHEN phase IS NOT NULL THEN 'phase ' || phase || ' ' || kind ELSE kind END"


class Split(NamedTuple):
    """A table of the tab: how what was used is split, by the expression `by`. `what` names the first column."""

    name: str
    title: str
    what: str
    by: str


SPLITS = (Split("role", "By role", "Role", "role"), Split("model", "By model", "Model", "model"), Split("task", "By task", "Task", _WORK))


def statement(split: Split, orchestration: str) -> str:
    """Return the SQL of a table. Raises BadId."""
    where = f"WHERE orchestration = '{ids.orchestration_id(orchestration)}'"
    return f"SELECT {split.by} AS what, {_SUMS} FROM usage {where} GROUP BY 1 ORDER BY usd DESC NULLS LAST, input_tokens DESC, 1 LIMIT {ROWS_MAX}"


def everything(orchestration: str) -> str:
    """Return the SQL of all tables at once, since each statement has a process of its own. Raises BadId."""
    none = "NULL AS failed, NULL AS ran_s, NULL AS waited_s"
    used = [f"(SELECT '{split.name}' AS split, *, {none} FROM ({statement(split, orchestration)}))" for split in SPLITS]
    ran = (
        "SELECT 'time', kind, count(*), NULL, NULL, NULL, count(*) FILTER (status IN ('failed', 'timed_out', 'lost')), "
        "(sum(run_ms) / 1000)::DOUBLE AS ran_s, (sum(queue_ms) / 1000)::DOUBLE "
        f"FROM runs WHERE orchestration = '{ids.orchestration_id(orchestration)}' GROUP BY kind ORDER BY ran_s DESC NULLS LAST"
    )
    return " UNION ALL ".join([*used, f"({ran})"])


async def load(visit: Visit) -> Context:
    """Return what was used, each way it is split. Raises Problem; a timeline that is away is told in the place of the tables."""
    context = await orchestration.head(visit)
    o = context["o"]
    answers: dict[str, list[dict[str, Any]]] = {}
    problem: Problem | None = None
    try:
        found = await visit.backend.ask("sql", sql=everything(o["id"]), limit=10 * ROWS_MAX)
        for row in found["rows"]:
            named = dict(zip(found["columns"], row, strict=True))
            answers.setdefault(named["split"], []).append(named)
    except Problem as error:
        problem = error
    flow = (o["active_policy"] or {}).get("flow", {})
    return {
        **context,
        "tab": "usage",
        "splits": SPLITS,
        "statements": {split.name: statement(split, o["id"]) for split in SPLITS},
        "answers": answers,
        "problem": problem,
        "budgets": budgets(o, flow),
    }


def budgets(o: Context, flow: dict[str, Any]) -> list[tuple[str, float, float, int]]:
    """Return each budget of the policy: its unit, what is spent, its limit, and the share in percent (at most 100)."""
    found = []
    for unit, spent, limit in (("USD", o["cost_usd"] or 0.0, flow.get("budget_usd")), ("tokens", o["tokens"], flow.get("budget_tokens"))):
        if limit:
            found.append((unit, float(spent), float(limit), min(100, round(100 * spent / limit))))
    return found


PAGES = (orchestration.tab("usage", load, every_s=LOOK_EVERY_S),)
