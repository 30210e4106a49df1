"""The guard: whether a statement of an analyst only reads our tables, judged on DuckDB's own syntax tree. Pure but for DuckDB's parser.

That a statement counts as SELECT says little: `WITH x AS (DELETE … RETURNING …) SELECT` counts as one too. So the tree is
walked: exactly one statement, only query nodes that read, only table functions and tables that reach no file. It is the
first of several walls; behind it stand a file opened for reading, a locked configuration and a process with limits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import duckdb
import msgspec

LENGTH_MAX = 100_000

READING_NODES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})

TABLE_FUNCTIONS = frozenset(
    {"range", "generate_series", "unnest", "json_each", "json_tree", "repeat", "histogram", "histogram_values", "summary"}
    | {"duckdb_tables", "duckdb_views", "duckdb_columns", "duckdb_functions", "duckdb_types", "duckdb_keywords"}
)
"""Table functions that anybody may call, besides the macros of `views.sql`. Some others take a path, some a bare pointer."""

FUNCTIONS_DENIED = frozenset(
    {"getenv", "getvariable", "current_setting", "write_log", "force_checkpoint", "checkpoint", "sleep_ms", "pg_sleep", "nextval", "currval"}
    | {"setval", "setseed", "query", "query_table", "current_query", "json_execute_serialized_sql", "json_deserialize_sql", "json_serialize_plan"}
    | {"to_aggregate_state", "parse_duckdb_log_message", "__internal_json_copy_to_json", "__internal_json_copy_to_geojson", "stats"}
)
_DENIED_STARTS = ("read_", "parquet_", "pragma_", "sniff_", "glob", "copy_", "arrow_", "pandas_", "python_", "which_secret")

SCHEMAS = frozenset({"", "main", "information_schema", "pg_catalog"})
CATALOGS = frozenset({"", "timeline"})

_PATH_LIKE = re.compile(r"[/\\.:*?\[\]{}~]|^$")


class Forbidden(Exception):
    """A statement that is not run; the message says what in it is not allowed."""


def parser() -> duckdb.DuckDBPyConnection:
    """Return a connection that is only good for parsing."""
    return duckdb.connect(":memory:", config={"enable_external_access": "false", "lock_configuration": "true", "threads": "1"})


def check(connection: duckdb.DuckDBPyConnection, sql: str, macros: frozenset[str]) -> None:
    """Return when `sql` is one statement that only reads; `macros` are our table macros. Raises Forbidden.

    A statement that does not parse is left to DuckDB, which says better what is wrong: Forbidden has its message.
    """
    if len(sql) > LENGTH_MAX:
        raise Forbidden(f"the statement has {len(sql)} characters; at most {LENGTH_MAX}")
    try:
        (tree,) = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchall()[0]
        parsed = msgspec.json.decode(tree)
    except (duckdb.Error, msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise Forbidden(f"the statement cannot be parsed: {error}") from error
    if parsed.get("error"):
        raise Forbidden(_why_not(str(parsed.get("error_type", "")), str(parsed.get("error_message", ""))))
    statements = parsed.get("statements", [])
    if len(statements) != 1:
        raise Forbidden(f"one statement at a time; there are {len(statements)}")
    for found in _dicts(statements[0]):
        _check_node(found)
        _check_function(found, macros)
        _check_table(found)


def _why_not(kind: str, message: str) -> str:
    if kind == "not implemented":
        return "only SELECT, FROM, WITH … SELECT, VALUES, DESCRIBE and SUMMARIZE are run: this is for reading"
    return message or "the statement cannot be parsed"


def _dicts(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every object of the tree; without recursion, since its depth is the sender's choice."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield item
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def _check_node(found: dict[str, Any]) -> None:
    kind = found.get("type")
    if isinstance(kind, str) and kind.endswith("_NODE") and kind not in READING_NODES:
        raise Forbidden(f"{kind.removesuffix('_NODE').removesuffix('_QUERY').lower()} is not allowed: this is for reading")


def _check_function(found: dict[str, Any], macros: frozenset[str]) -> None:
    if found.get("type") == "TABLE_FUNCTION":
        function = found.get("function")
        name = str(function.get("function_name", "")).lower() if isinstance(function, dict) else ""
        if name not in TABLE_FUNCTIONS and name not in macros:
            raise Forbidden(f"table function {name} is not allowed; `qd sql --tables` lists what there is")
    name = str(found.get("function_name", "")).lower()
    if name in FUNCTIONS_DENIED or name.startswith(_DENIED_STARTS):
        raise Forbidden(f"function {name} is not allowed")


def _check_table(found: dict[str, Any]) -> None:
    if found.get("type") != "BASE_TABLE":
        return
    catalog, schema, table = (str(found.get(name) or "").lower() for name in ("catalog_name", "schema_name", "table_name"))
    if schema == "timeline" and not catalog:
        catalog, schema = schema, ""
    if catalog not in CATALOGS or schema not in SCHEMAS or _PATH_LIKE.search(table) or (table.startswith("duckdb_") and table not in TABLE_FUNCTIONS):
        raise Forbidden(f"table {'.'.join(filter(None, (catalog, schema, table)))[:100]} is not one of ours; `qd sql --tables` lists what there is")
