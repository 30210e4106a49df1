"""The guard, and the process behind it: attacks are refused, questions are answered."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from timeline.sql_guard import Forbidden, check, parser

MACROS = frozenset({"launch_success", "operator_timeline"})

ATTACKS = {
    "delete": "DELETE FROM actions",
    "insert": "INSERT INTO flags VALUES ('x', true, null, now())",
    "update": "UPDATE actions SET status = 'completed'",
    "merge": "MERGE INTO actions USING (SELECT 1 i) s ON actions.seq = s.i WHEN MATCHED THEN DELETE",
    "truncate": "TRUNCATE events",
    "drop": "DROP TABLE events",
    "create table": "CREATE TABLE t (i INT)",
    "create temp table": "CREATE TEMP TABLE t AS SELECT 1",
    "create view": "CREATE VIEW v AS SELECT 1",
    "create macro": "CREATE MACRO f() AS 1",
    "create secret": "CREATE SECRET s (TYPE s3, KEY_ID 'a', SECRET 'b')",
    "delete in a cte": "WITH x AS (DELETE FROM actions RETURNING id) SELECT count(*) FROM x",
    "insert in a cte": "WITH x AS (INSERT INTO flags VALUES ('x', true, null, now()) RETURNING flag) SELECT * FROM x",
    "update in a cte": "WITH x AS (UPDATE actions SET status = 'x' RETURNING id) SELECT * FROM x",
    "merge in a cte": "WITH x AS (MERGE INTO actions USING (SELECT 1 i) s ON seq = i WHEN MATCHED THEN DELETE RETURNING id) FROM x",
    "delete in a subquery": "SELECT * FROM (WITH x AS (DELETE FROM actions RETURNING id) FROM x)",
    "delete in a union": "SELECT '1' UNION ALL (WITH x AS (DELETE FROM actions RETURNING id) FROM x)",
    "copy out in a cte": "WITH c AS (COPY (SELECT 1) TO '/tmp/pwn.csv') SELECT 1",
    "copy out": "COPY actions TO '/tmp/pwn.csv'",
    "copy in": "COPY actions FROM '/etc/passwd'",
    "export": "EXPORT DATABASE '/tmp/pwn'",
    "import": "IMPORT DATABASE '/tmp/pwn'",
    "attach": "ATTACH '/tmp/x.duckdb' AS x",
    "attach memory": "ATTACH ':memory:' AS x",
    "detach": "DETACH timeline",
    "install": "INSTALL httpfs",
    "load": "LOAD '/tmp/evil.duckdb_extension'",
    "set": "SET threads = 64",
    "set external access": "SET enable_external_access = true",
    "reset": "RESET lock_configuration",
    "set variable": "SET VARIABLE a = 1",
    "pragma": "PRAGMA memory_limit = '100GB'",
    "call": "CALL pragma_version()",
    "checkpoint": "CHECKPOINT",
    "force checkpoint": "SELECT * FROM force_checkpoint()",
    "begin": "BEGIN",
    "commit": "COMMIT",
    "prepare": "PREPARE p AS DELETE FROM actions",
    "explain analyze": "EXPLAIN ANALYZE DELETE FROM actions",
    "two statements": "SELECT 1; DROP TABLE events",
    "two selects": "SELECT 1; SELECT 2",
    "nothing": "",
    "only a comment": "-- nothing",
    "read_text": "SELECT * FROM read_text('/etc/passwd')",
    "read_blob": "SELECT * FROM read_blob('/proc/self/environ')",
    "read_csv": "SELECT * FROM read_csv('/etc/passwd', header = false)",
    "read_json": "FROM read_json('/etc/x.json')",
    "read_parquet": "FROM read_parquet('/tmp/x.parquet')",
    "read_duckdb": "FROM read_duckdb('/tmp/x.duckdb', table_name = 't')",
    "bare file": "FROM '/etc/passwd.csv'",
    "bare file without folder": "FROM 'secrets.parquet'",
    "bare url": "FROM 'https://example.com/a.parquet'",
    "file in a scalar subquery": "SELECT (SELECT count(*) FROM read_text('/etc/passwd'))",
    "file in a lateral join": "SELECT * FROM (VALUES ('/etc/passwd')) t(f), read_text(f)",
    "file in a recursive cte": "WITH RECURSIVE r AS (SELECT 1 i UNION ALL SELECT i + 1 FROM r, glob('/etc/*') WHERE i < 2) FROM r",
    "glob": "SELECT * FROM glob('/etc/*')",
    "sniff": "FROM sniff_csv('/etc/passwd')",
    "parquet metadata": "FROM parquet_metadata('/etc/passwd')",
    "pointer": "FROM arrow_scan(1, 2, 3)",
    "pandas pointer": "FROM pandas_scan(1)",
    "query": "SELECT * FROM query('DROP TABLE events')",
    "query_table": "SELECT * FROM query_table('actions')",
    "serialized": "FROM json_execute_serialized_sql('{}')",
    "getenv": "SELECT getenv('HOME')",
    "current_setting": "SELECT current_setting('secret_directory')",
    "settings": "FROM duckdb_settings()",
    "secrets": "FROM duckdb_secrets()",
    "logs": "FROM duckdb_logs",
    "logging": "FROM enable_logging(storage = 'file', storage_path = '/tmp/x')",
    "sleep": "SELECT sleep_ms(100000)",
    "write log": "SELECT write_log('x')",
    "nextval": "SELECT nextval('s')",
    "other catalog": "FROM other.main.secrets",
    "system catalog": "FROM system.main.duckdb_secrets",
    "aggregate state": "SELECT to_aggregate_state('x', 'y')",
    "pivot": "PIVOT actions ON type USING count(*)",
    "too long": "SELECT 1 --" + "x" * 100_001,
    "deeply nested": "SELECT " + "(" * 5000 + "1" + ")" * 5000,
    "lone surrogate": "SELECT '\ud800'",
}

QUESTIONS = {
    "select": "SELECT id, status FROM actions WHERE status = 'failed' ORDER BY seq LIMIT 10",
    "from first": "FROM orchestrations SELECT count(*)",
    "join and window": "SELECT o.id, lag(r.queued_at) OVER (ORDER BY r.seq) FROM orchestrations o JOIN runs r ON r.orchestration = o.id",
    "cte": "WITH x AS (SELECT type, count(*) n FROM actions GROUP BY ALL) SELECT * FROM x ORDER BY n DESC",
    "recursive cte": "WITH RECURSIVE r AS (SELECT 1 i UNION ALL SELECT i + 1 FROM r WHERE i < 5) FROM r",
    "union": "SELECT 1 UNION ALL SELECT 2 EXCEPT SELECT 3",
    "values": "VALUES (1), (2)",
    "json": "SELECT payload->>'$.type', json_extract(payload, '$.run') FROM events",
    "unnest": "SELECT unnest([1, 2, 3])",
    "range": "SELECT * FROM range(10)",
    "json_each": "SELECT * FROM events, json_each(payload)",
    "macro": "FROM launch_success(TIMESTAMP '2026-11-18', NULL, INTERVAL 1 DAY)",
    "describe": "DESCRIBE actions",
    "summarize": "SUMMARIZE runs",
    "show tables": "SHOW TABLES",
    "information schema": "SELECT table_name FROM information_schema.tables",
    "catalog of columns": "FROM duckdb_columns()",
    "qualified": "SELECT * FROM timeline.main.actions",
    "semicolon and comment": "SELECT 1; -- that was all",
    "lambda": "SELECT list_transform([1, 2], lambda x: x + 1)",
    "words of attacks as text": "SELECT 'DROP TABLE events; DELETE FROM actions' AS text",
}


@pytest.fixture(scope="module")
def parsing() -> Iterator[duckdb.DuckDBPyConnection]:
    connection = parser()
    yield connection
    connection.close()


@pytest.mark.parametrize("sql", list(ATTACKS.values()), ids=list(ATTACKS))
def test_an_attack_is_refused_with_a_reason(parsing: duckdb.DuckDBPyConnection, sql: str) -> None:
    with pytest.raises(Forbidden) as refused:
        check(parsing, sql, MACROS)
    assert str(refused.value)


@pytest.mark.parametrize("sql", list(QUESTIONS.values()), ids=list(QUESTIONS))
def test_a_question_is_allowed(parsing: duckdb.DuckDBPyConnection, sql: str) -> None:
    check(parsing, sql, MACROS)


def test_a_macro_that_is_not_ours_is_refused_by_name(parsing: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(Forbidden, match="table function my_macro is not allowed"):
        check(parsing, "FROM my_macro()", MACROS)


def test_a_statement_with_an_error_is_answered_with_what_is_wrong(parsing: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(Forbidden, match='syntax error at or near "selec"'):
        check(parsing, "selec 1", MACROS)


def test_the_parser_reaches_no_file(tmp_path: Path, parsing: duckdb.DuckDBPyConnection) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    with pytest.raises(duckdb.PermissionException):
        parsing.execute(f"SELECT * FROM read_text('{tmp_path}/secret.txt')").fetchall()
