"""docs/analytics.md: it names everything there is to ask, and its statements run."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from bus.connection import Stored
from tests.unit.timeline.story import whole_story
from timeline.reports import REPORTS
from timeline.rows import TABLES
from timeline.sql_guard import Forbidden, check, parser
from timeline.store import Store

PAGE = (Path(__file__).parents[3] / "docs" / "analytics.md").read_text()
STATEMENTS = [*re.findall(r'\$ qd sql "(.+)"\n', PAGE), *re.findall(r"`(FROM [^`…]+)`", PAGE)]
NOT_ANSWERED = ("DELETE FROM events", "FROM range(1000000)")


def test_it_names_every_table_view_macro_and_report(filled: Callable[[list[Stored]], Store]) -> None:
    store = filled([])
    views = store.read("SELECT view_name FROM duckdb_views() WHERE NOT internal")
    macros = store.read("SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_type = 'table_macro' AND NOT internal")
    names = {*TABLES.values(), "ingest_position", *(name for (name,) in (*views.rows, *macros.rows)), *(name.split(" by ")[0] for name in REPORTS)}
    assert sorted(name for name in names if f"`{name}" not in PAGE) == []


def test_its_statements_pass_the_guard_and_run(filled: Callable[[list[Stored]], Store]) -> None:
    store = filled(whole_story().stored())
    macros = frozenset(name for (name,) in store.read("SELECT DISTINCT function_name FROM duckdb_functions() WHERE NOT internal").rows)
    assert len(STATEMENTS) >= 9
    with parser() as parsing:
        for statement in STATEMENTS:
            if not any(part in statement for part in NOT_ANSWERED):
                check(parsing, statement, macros)
                store.read(statement)
        with pytest.raises(Forbidden):
            check(parsing, NOT_ANSWERED[0], macros)
