"""The query `past-actions`: requests of all times, found by what they were and what became of them, page by page. Owns nothing: it reads.

The order is that of the controller's `actions`: by the time of receipt, and by number where that is the same.
"""

from __future__ import annotations

from datetime import UTC
from typing import Any

from bus.request import QueryFailed
from bus_schemas import ids
from bus_schemas.decisions import Position
from bus_schemas.reasons import Reason
from bus_schemas.views import PastActionView
from timeline.database import Database

_FILTERS = {"project": "project", "orchestration": "orchestration", "status": "status", "type": '"type"', "code": "reason_code"}
"""Parameter to column."""
_NUMBER = "split_part(id, '-a', -1)::BIGINT"
_PLACE = f"SELECT received_at, {_NUMBER}, project FROM actions WHERE id = $id"
_REACH = """
SELECT received_at FROM actions WHERE {where} ORDER BY received_at {order} LIMIT {limit}
"""
"""How far a page reaches: few rows are then put in order, and not all that fit."""
_PAGE = """
SELECT id AS action, "type", status, project, requested_by, via, received_at, accepted_at, completed_at, orchestration, design, ticket, node, task,
  revision, reason, reason_code, message, seq, idx
FROM actions WHERE {where} ORDER BY received_at {order}, {number} {order}, project {order} LIMIT {limit}
"""


async def page(database: Database, params: dict[str, Any], limit: int) -> dict[str, Any]:
    """Return actions, newest first, that come `after` one or `before` one, else the newest. Raises QueryFailed, ids.BadId, duckdb.Error."""
    wanted = {name: _filter(name, params[name]) for name in _FILTERS if params.get(name) is not None}
    cursor = params.get("before") or params.get("after")
    backwards = params.get("before") is not None
    conditions = [f"{_FILTERS[name]} = ${name}" for name in wanted]
    if cursor is not None:
        place = await database.read(_PLACE, {"id": ids.action_id(cursor)}, limit=1)
        if not place.rows:
            return {"items": [], "next": None, "previous": None}
        wanted |= dict(zip(("at", "number", "place"), place.rows[0], strict=True))
        beyond = ">" if backwards else "<"
        conditions.append(f"received_at {beyond}= $at")
        conditions.append(f"(received_at {beyond} $at OR {_NUMBER} {beyond} $number OR ({_NUMBER} = $number AND project {beyond} $place))")
    order = "ASC" if backwards else "DESC"
    reach = await database.read(_REACH.format(where=" AND ".join(conditions) or "true", order=order, limit=limit + 1), wanted)
    if reach.rows:
        conditions.append(f"received_at {'<=' if backwards else '>='} $reach")
        wanted["reach"] = reach.rows[-1][0]
    sql = _PAGE.format(where=" AND ".join(conditions) or "true", order=order, number=_NUMBER, limit=limit + 1)
    table = await database.read(sql, wanted, limit=limit)
    items = [_view(table.columns, row) for row in table.rows]
    if backwards:
        items.reverse()
    is_newer, is_older = (table.truncated, bool(items)) if backwards else (cursor is not None, table.truncated)
    ends = (items[0].action, items[-1].action) if items else (None, None)
    return {"items": items, "next": ends[1] if is_older else None, "previous": ends[0] if is_newer else None}


def _filter(name: str, value: Any) -> Any:
    if not isinstance(value, str):
        raise QueryFailed(Reason.INVALID_PAYLOAD, f"{name} {ids.shown(value)} is not valid: a text is wanted")
    match name:
        case "project":
            return ids.project_id(value)
        case "orchestration":
            return ids.orchestration_id(value)
        case _:
            return value


def _view(columns: tuple[str, ...], row: tuple[Any, ...]) -> PastActionView:
    fields: dict[str, Any] = dict(zip(columns, row, strict=True))
    for name in ("received_at", "accepted_at", "completed_at"):
        if fields[name] is not None:
            fields[name] = fields[name].replace(tzinfo=UTC)
    return PastActionView(position=str(Position(fields.pop("seq"), fields.pop("idx"))), **fields)
