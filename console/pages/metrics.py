"""Metrics: how launches end, how long actions take, what fails and why, what waits and what it costs; each chart with its table and SQL."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, NamedTuple

import anyio

from bus import host
from bus_schemas.reasons import Reason
from console.backend import Problem
from console.news import ANY
from console.page import Context, Page, Visit

SPANS = {"1h": 3600, "24h": 86_400, "7d": 7 * 86_400, "30d": 30 * 86_400, "all": None}
BUCKETS = {"1h": "5 minutes", "24h": "1 hour", "7d": "6 hours", "30d": "1 day", "all": "1 day"}
ROWS_MAX = 500
REST_S = 5.0
"""Between two looks while there is news; the answers are the same for all who look."""
LOOK_EVERY_S = 60.0
"""Also without news: what is older than the time that is shown falls out of it."""
SQL_AT_ONCE = 2
"""Statements run in processes of their own: more at once are not sooner done."""


class Question(NamedTuple):
    """Something that is asked of the timeline, and how its answer is drawn: the column along, and the columns up."""

    name: str
    title: str
    sql: str
    kind: str
    along: str
    up: tuple[str, ...]
    empty: str


def questions(span: str) -> tuple[Question, ...]:
    """Return the questions of the page for a time span."""
    seconds = SPANS[span]
    since = "NULL" if seconds is None else f"TIMESTAMP '{host.now() - timedelta(seconds=seconds):%Y-%m-%d %H:%M:00}'"
    bucket = BUCKETS[span]
    return (
        Question(
            "success",
            "Launches",
            "SELECT bucket, requested, completed, failed, refused, pending, launch_success_rate\n"
            f"FROM launch_success(since := {since}, bucket := '{bucket}')",
            "lines",
            "bucket",
            ("completed", "failed", "refused"),
            "Nothing was launched in this time.",
        ),
        Question(
            "latency",
            "How long actions take",
            f"SELECT type, stage, count, p50_ms, p95_ms, p99_ms, max_ms\nFROM action_latency(since := {since})\n"
            "WHERE stage IN ('received_to_accepted', 'queued_to_started')",
            "bars",
            "type",
            ("p50_ms", "p95_ms", "p99_ms"),
            "No action was taken in this time.",
        ),
        Question(
            "failures",
            "What failed, and why",
            "SELECT reason_code, sum(count)::BIGINT AS count, string_agg(DISTINCT type, ', ') AS actions\n"
            f"FROM failure_distribution(since := {since})\nGROUP BY reason_code ORDER BY count DESC",
            "bars",
            "reason_code",
            ("count",),
            "Nothing was refused and nothing failed in this time.",
        ),
        *_standing(since),
    )


def _standing(since: str) -> tuple[Question, ...]:
    """Return the questions about what waits, what it costs and who did it."""
    return (
        Question(
            "gates",
            "How long gates waited for a human",
            "SELECT gate, opened, waiting, approved, rejected, wait_p50_s, wait_p95_s FROM gate_wait",
            "bars",
            "gate",
            ("wait_p50_s", "wait_p95_s"),
            "No gate was opened yet: no policy here asks for one.",
        ),
        Question(
            "cost",
            "What it cost",
            f"SELECT \"group\" AS day, attempts, input_tokens, output_tokens, usd\nFROM cost_by('day', since := {since}) ORDER BY day",
            "bars",
            "day",
            ("usd",),
            "No agent has reported a cost in this time; the built-in shell agent costs nothing.",
        ),
        Question(
            "occupancy",
            "What the nodes did",
            "SELECT node, capacity, attempts, running, queued, failed, lost, busy_s, queue_p50_ms, queue_p95_ms FROM node_occupancy",
            "bars",
            "node",
            ("attempts", "failed", "lost"),
            "No node has run anything yet.",
        ),
    )


async def load(visit: Visit) -> Context:
    """Return all answers; a question that fails is told in its place. Raises Problem when the timeline is away."""
    span = visit.choice("since", tuple(SPANS), "7d")
    asked = questions(span)
    answers: dict[str, dict[str, Any]] = {}
    limiter = anyio.CapacityLimiter(SQL_AT_ONCE)

    async def answer(question: Question) -> None:
        async with limiter:
            try:
                answers[question.name] = {**await visit.backend.ask("sql", sql=question.sql, limit=ROWS_MAX, may_be_older=True), "problem": None}
            except Problem as problem:
                answers[question.name] = {"columns": [], "rows": [], "truncated": False, "problem": problem}

    async with anyio.create_task_group() as tasks:
        for question in asked:
            tasks.start_soon(answer, question)
    first = answers[asked[0].name]["problem"]
    if first is not None and first.code not in (Reason.INVALID_STATE, Reason.INTERNAL) and all(a["problem"] is not None for a in answers.values()):
        raise first
    headline = await visit.backend.ask("report", name="launches")
    ever = dict(zip(headline["columns"], headline["rows"][0], strict=True)) if headline["rows"] else {}
    return {"span": span, "spans": tuple(SPANS), "questions": asked, "answers": answers, "headline": ever}


PAGES = (Page("/metrics", "metrics.html", load, "metrics_patches.html", lambda visit: frozenset({ANY}), LOOK_EVERY_S, nav="metrics", rest_s=REST_S),)
