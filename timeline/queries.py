"""Queries: history and analytics, answered from the file, the log and the SQL workers. Reads only.

Every answer carries the ledger position it is true for. A query that names a `min_seq` waits for it, and fails when it
does not come: an older answer would look like the one that was asked for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC
from typing import Any

import duckdb
import msgspec

from bus import host
from bus.connection import ApiFailure
from bus.errors import Unavailable
from bus.request import QueryFailed, QueryHandler
from bus_schemas import ids
from bus_schemas.decisions import Position
from bus_schemas.reasons import Reason
from bus_schemas.views import AuditHead, AuditView, TableView, TimelineRow, TimelineStatusView
from timeline import past_actions, reports
from timeline.cells import cells
from timeline.database import Database
from timeline.ingest import Ingest
from timeline.logs import Logs
from timeline.sql_service import SqlService
from timeline.store import Table

VERSION = "1.0.0"

ROWS_DEFAULT, ROWS_MAX = 100, 1000
SQL_ROWS_DEFAULT, SQL_ROWS_MAX = 1000, 10_000
MIN_SEQ_WAIT_S = 8.0
"""Less than a client waits for its answer, so that it hears why."""
WAIT_MAX_S = 20.0
NEW_RUNS_EVERY_S = 1.0
"""While output is waited for: how often a run that began meanwhile is taken in."""
PAGE_BYTES_MAX = 700 * 1024
DETAIL_BYTES_MAX = 128 * 1024

_TIMELINE = """
SELECT seq, idx, occurred_at, project, orchestration, category, type, principal, via, summary, status, reason_code, phase, task, run, attempt, node,
  action, payload::VARCHAR
FROM events WHERE orchestration = $orchestration
  AND seq >= $after_seq::UBIGINT AND (seq > $after_seq::UBIGINT OR idx > $after_idx)
  AND seq <= $before_seq::UBIGINT AND (seq < $before_seq::UBIGINT OR idx < $before_idx)
  AND ($category IS NULL OR category = $category) AND ($types IS NULL OR list_contains($types::VARCHAR[], type))
ORDER BY seq {order}, idx {order} LIMIT {limit}
"""

_ATTEMPTS = """
SELECT run, attempt, kind, "role", model, node, status, phase, task, queued_at, started_at, ended_at, reason_code, detail
FROM runs WHERE orchestration = $orchestration ORDER BY queued_at, attempt
"""

_TABLES = """
SELECT 'table' AS kind, table_name AS name, comment AS description FROM duckdb_tables() WHERE NOT internal
UNION ALL SELECT 'view', view_name, comment FROM duckdb_views() WHERE NOT internal
UNION ALL SELECT 'macro', function_name, any_value(comment) FROM duckdb_functions() WHERE function_type = 'table_macro' AND NOT internal GROUP BY 2
ORDER BY list_position(['table', 'view', 'macro'], kind), name
"""

_COLUMNS = """
SELECT column_name AS name, data_type AS type, is_nullable AS nullable, comment AS description
FROM duckdb_columns() WHERE NOT internal AND table_name = $name ORDER BY column_index
"""

_PARAMETERS = """
SELECT unnest(parameters) AS name, 'parameter' AS type, true AS nullable, NULL AS description
FROM duckdb_functions() WHERE function_type = 'table_macro' AND NOT internal AND function_name = $name
"""

_AUDIT = """
SELECT p.stream, p.created, p.last_seq, p.last_idx, p.rolling_hash, p.events, h.project, h.seq, h.sha256, coalesce(c.rows, 0)
FROM ingest_position p
LEFT JOIN (SELECT split_part(subject, '.', 3) AS project, seq, sha256 FROM ingest_heads) h ON h.project > $after
LEFT JOIN (SELECT project, count(*) AS rows FROM events GROUP BY project) c ON c.project = h.project
ORDER BY h.project
"""

HEADS_DEFAULT, HEADS_MAX = 1000, 4000
"""Heads in one answer, about 150 bytes each."""

_FIRST, _LAST = Position(0, 0), Position(2**63 - 1, 0)


class Queries:
    """The answers of the timeline."""

    def __init__(self, database: Database, ingest: Ingest, sql: SqlService, logs: Logs) -> None:
        """Answer from these."""
        self._database, self._ingest, self._sql_service, self._logs = database, ingest, sql, logs

    def handlers(self) -> dict[str, QueryHandler]:
        """Return every query with its handler."""
        answers: dict[str, Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]] = {
            "timeline": self._timeline,
            "past-actions": self._past_actions,
            "attempts": self._attempts,
            "report": self._report,
            "sql": self._sql,
            "tables": self._tables,
            "logs": self._log,
            "audit": self._audit,
        }
        handlers: dict[str, QueryHandler] = {name: self._waiting(answer) for name, answer in answers.items()}
        handlers["timeline-status"] = self._status
        return handlers

    def _waiting(self, answer: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]) -> QueryHandler:
        async def handler(params: dict[str, Any]) -> dict[str, Any]:
            await self._wait_for(params.get("min_seq"))
            position = str(self._database.position)  # before reading: what is answered is at least that new
            try:
                return {"position": position, **await answer(params)}
            except (ids.BadId, reports.BadReport) as error:
                raise QueryFailed(Reason.INVALID_PAYLOAD, str(error)) from error
            except (Unavailable, ApiFailure, duckdb.Error, OSError) as error:
                raise QueryFailed(Reason.INTERNAL, f"the timeline cannot answer now: {error}") from error

        return handler

    async def _wait_for(self, min_seq: Any) -> None:
        if min_seq is None:
            return
        seq = _integer(min_seq, "min_seq", 0, 2**63 - 1)
        if not await self._database.progress.until_seq(seq, MIN_SEQ_WAIT_S):
            why = f"; it is stopped: {self._ingest.reason}" if self._ingest.state == "stopped" else ""
            raise QueryFailed(Reason.INVALID_STATE, f"the timeline is at {self._database.progress.seq}, not yet at {seq}{why}")

    # ── the operator timeline ────────────────────────────────────────────────────────────────────────────────────────

    async def _timeline(self, params: dict[str, Any]) -> dict[str, Any]:
        orchestration = ids.orchestration_id(params.get("orchestration", ""))
        limit = _integer(params.get("limit", ROWS_DEFAULT), "limit", 1, ROWS_MAX)
        wait_s = _seconds(params.get("wait_s", 0))
        after, before = _position(params.get("after")), _position(params.get("before"))
        await self._must_exist(orchestration)
        parameters = _bounds(after or _FIRST, before or _LAST) | {
            "orchestration": orchestration,
            "category": _text(params.get("category")),
            "types": _texts(params.get("type")),
        }
        backwards = before is not None and after is None
        while True:
            position = self._database.position
            items, more = await self._page(parameters, limit, backwards)
            if items or not await self._database.progress.until_touched(orchestration, max(position, after or _FIRST).seq, wait_s):
                break
            wait_s = 0.0
        # when there was nothing, there is nothing up to `position` either
        end = (after or _FIRST) if before is not None else max(position, after or _FIRST)
        next_ = items[-1].position if items else str(end)
        previous = items[0].position if items else (None if before is None else str(before))
        return {"items": items, "next": next_, "previous": previous, "more": more, "position": str(position)}

    async def _must_exist(self, orchestration: str) -> None:
        found = await self._database.read("SELECT 1 FROM orchestrations WHERE id = $id", {"id": orchestration}, limit=1)
        if not found.rows:
            raise QueryFailed(Reason.ENTITY_NOT_FOUND, f"the timeline has no orchestration {orchestration}")

    async def _page(self, parameters: dict[str, Any], limit: int, backwards: bool) -> tuple[list[TimelineRow], bool]:
        """Return rows, oldest first, and whether there are more in the direction of reading."""
        sql = _TIMELINE.format(order="DESC" if backwards else "ASC", limit=limit + 1)
        table = await self._database.read(sql, parameters, limit=limit)
        items: list[TimelineRow] = []
        size_bytes = 0
        for row in table.rows:
            item = _timeline_row(row)
            size_bytes += min(len(row[-1].encode()), DETAIL_BYTES_MAX) + 600
            if items and size_bytes > PAGE_BYTES_MAX:
                return (items[::-1] if backwards else items), True
            items.append(item)
        return (items[::-1] if backwards else items), table.truncated

    async def _past_actions(self, params: dict[str, Any]) -> dict[str, Any]:
        limit = _integer(params.get("limit", ROWS_DEFAULT), "limit", 1, ROWS_MAX)
        return await past_actions.page(self._database, params, limit)

    async def _attempts(self, params: dict[str, Any]) -> dict[str, Any]:
        orchestration = ids.orchestration_id(params.get("orchestration", ""))
        return self._view(await self._database.read(_ATTEMPTS, {"orchestration": orchestration}), None)

    # ── tables ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _report(self, params: dict[str, Any]) -> dict[str, Any]:
        report = reports.find(params.get("name"), params.get("by"))
        now = host.now()
        times = {name: reports.time_of(params.get(name), now) for name in ("since", "until")}
        used = {name: time for name, time in times.items() if f"${name}" in report.sql}
        table = await self._database.read(report.sql, used, limit=ROWS_MAX)
        return self._view(table, reports.with_values(report.sql, used))

    async def _tables(self, params: dict[str, Any]) -> dict[str, Any]:
        name = _text(params.get("describe"))
        if name is None:
            return self._view(await self._database.read(_TABLES), None)
        for sql in (_COLUMNS, _PARAMETERS):
            table = await self._database.read(sql, {"name": name})
            if table.rows:
                return self._view(table, None)
        raise QueryFailed(Reason.ENTITY_NOT_FOUND, f"there is no table, view or macro {ids.shown(name)}; `qd sql --tables` lists them")

    def _view(self, table: Table, sql: str | None) -> dict[str, Any]:
        position = str(self._database.position)
        view = TableView(table.columns, table.types, cells(table.rows), table.truncated, position, sql)
        return msgspec.structs.asdict(view)

    async def _sql(self, params: dict[str, Any]) -> dict[str, Any]:
        sql = params.get("sql")
        if not isinstance(sql, str) or not sql.strip():
            raise QueryFailed(Reason.MISSING_FIELD, "sql is missing: a statement like SELECT count(*) FROM events")
        limit = _integer(params.get("limit", SQL_ROWS_DEFAULT), "limit", 1, SQL_ROWS_MAX)
        if self._database.ingested is None:
            raise QueryFailed(Reason.INVALID_STATE, "the timeline has not seen the ledger yet")
        # at many gigabytes the copy that it reads takes seconds: who asks again and again need not have a new one each time
        may_be_older = params.get("may_be_older") is True and params.get("min_seq") is None
        answer = await self._sql_service.query(sql, limit, may_be_older=may_be_older)
        fields = msgspec.structs.asdict(answer)
        return {name: fields[name] for name in ("columns", "types", "rows", "truncated", "position")} | {"sql": sql}

    # ── output of runs ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _log(self, params: dict[str, Any]) -> dict[str, Any]:
        run = params.get("run")
        run = None if run is None else ids.run_id(run)
        orchestration = ids.orchestration_id(params.get("orchestration") or (run or "").rpartition("-r")[0])
        after = _integer(params.get("after", 0), "after", 0, 2**63 - 1)
        limit = _integer(params.get("limit", ROWS_DEFAULT), "limit", 1, ROWS_MAX)
        wait_s = _seconds(params.get("wait_s", 0))
        await self._must_exist(orchestration)
        while True:
            runs = [run] if run is not None else await self._runs_of(orchestration)
            page = await self._logs.page(runs, after, limit, min(wait_s, NEW_RUNS_EVERY_S) if runs else 0.0)
            if page.chunks or wait_s <= 0:
                return {"items": page.chunks, "next": page.next}
            if not runs:
                await self._database.progress.until_touched(orchestration, self._database.progress.seq, min(wait_s, NEW_RUNS_EVERY_S))
            wait_s -= NEW_RUNS_EVERY_S

    async def _runs_of(self, orchestration: str) -> list[str]:
        found = await self._database.read("SELECT DISTINCT run FROM runs WHERE orchestration = $id ORDER BY run", {"id": orchestration})
        return [run for (run,) in found.rows]

    # ── how it stands ────────────────────────────────────────────────────────────────────────────────────────────────

    async def _status(self, params: dict[str, Any]) -> TimelineStatusView:
        ingested = self._database.ingested
        published = self._database.published_position
        position = self._database.position
        return TimelineStatusView(
            state=self._ingest.state,
            reason=self._ingest.reason,
            position=str(position),
            ledger_seq=self._ingest.ledger_seq,
            behind=max(0, self._ingest.ledger_seq - position.seq),
            events=0 if ingested is None else ingested.events,
            unknown_types=0 if ingested is None else ingested.unknown_types,
            dead_letters=0 if ingested is None else ingested.dead_letters,
            published_position=None if published is None else str(published),
            version=VERSION,
            alarm=self._ingest.alarm,
        )

    async def _audit(self, params: dict[str, Any]) -> dict[str, Any]:
        limit = _integer(params.get("limit", HEADS_DEFAULT), "limit", 1, HEADS_MAX)
        # one statement: position, heads and counts are of the same moment
        table = await self._database.read(_AUDIT, {"after": _text(params.get("after")) or ""}, limit=limit)
        if not table.rows:
            raise QueryFailed(Reason.INVALID_STATE, "the timeline has not seen the ledger yet")
        stream, created, last_seq, last_idx, rolling_hash, events = table.rows[0][:6]
        items = tuple(AuditHead(*row[6:]) for row in table.rows if row[6] is not None)
        view = AuditView(
            position=str(Position(last_seq, last_idx)),
            state=self._ingest.state,
            stream=stream,
            stream_created=created.replace(tzinfo=UTC),
            last_seq=last_seq,
            rolling_hash=rolling_hash,
            events=events,
            items=items,
            next=items[-1].project if table.truncated else None,
            alarm=self._ingest.alarm,
        )
        return msgspec.structs.asdict(view)


def _timeline_row(row: tuple[Any, ...]) -> TimelineRow:
    seq, idx, at, *columns, payload = row
    detail = msgspec.json.decode(payload) if len(payload) <= DETAIL_BYTES_MAX else {"omitted_bytes": len(payload)}
    project, orchestration, category, type_, by, via, summary, status, reason_code, phase, task, run, attempt, node, action = columns
    return TimelineRow(
        position=str(Position(seq, idx)),
        at=at.replace(tzinfo=UTC),
        project=project,
        orchestration=orchestration,
        category=category,
        type=type_,
        by=by,
        via=via,
        summary=summary,
        status=status,
        reason_code=reason_code,
        phase=phase,
        task=task,
        run=run,
        attempt=attempt,
        node=node,
        action=action,
        detail=detail if isinstance(detail, dict) else {"value": detail},
    )


def _bounds(after: Position, before: Position) -> dict[str, int]:
    return {"after_seq": after.seq, "after_idx": after.row, "before_seq": before.seq, "before_idx": before.row}


def _integer(value: Any, name: str, low: int, high: int) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
        return value
    raise QueryFailed(Reason.INVALID_PAYLOAD, f"{name} {ids.shown(value)} is not valid: a whole number from {low} to {high}")


def _seconds(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= WAIT_MAX_S:
        return float(value)
    raise QueryFailed(Reason.INVALID_PAYLOAD, f"wait_s {ids.shown(value)} is not valid: seconds from 0 to {WAIT_MAX_S:g}")


def _position(value: Any) -> Position | None:
    if value is None:
        return None
    try:
        position = Position.parse(value if isinstance(value, str) else str(value))
    except ValueError as error:
        raise QueryFailed(Reason.INVALID_PAYLOAD, str(error)) from error
    return min(position, _LAST)


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise QueryFailed(Reason.INVALID_PAYLOAD, f"{ids.shown(value)} is not valid: a text is wanted")


def _texts(value: Any) -> list[str] | None:
    if value is None or isinstance(value, str):
        return None if value is None else [value]
    if isinstance(value, list) and value and all(isinstance(text, str) for text in value):
        return value
    raise QueryFailed(Reason.INVALID_PAYLOAD, f"{ids.shown(value)} is not valid: a text or a list of texts is wanted")
