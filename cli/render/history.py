"""The operator timeline, tables of reports and statements, and output of agents, as humans see them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import tzinfo
from typing import Any

from cli.table import Column, Table
from cli.text import cell, clock

View = Mapping[str, Any]

COLUMNS_OF_ONE_ROW_MAX = 8

_ALWAYS_TOLD = frozenset(
    {"action", "orchestration-launched", "phase-planned", "repair-started", "verify-recorded", "gate-opened", "gate-resolved", "action-failed"}
)
_TOLD_IN: dict[str, frozenset[str | None]] = {
    "validation-recorded": frozenset({"pass", "warning", "stop"}),
    "orchestration-moved": frozenset({"finalizing", "complete", "failed", "cancelled"}),
    "task-moved": frozenset({"completed", "blocked", "skipped"}),
    "verdict-recorded": frozenset({"gaps", "stop"}),
    "hold-set": frozenset({"pausing", "paused", "blocked", "node_lost", "budget", "quota", "cancelling"}),
    "hold-cleared": frozenset({"paused", "blocked", "node_lost", "budget", "quota"}),
}

_STYLES = {
    "task-moved": "",
    "orchestration-moved": "bold",
    "repair-started": "yellow",
    "issues-raised": "yellow",
    "gate-opened": "yellow",
    "gate-resolved": "yellow",
    "hold-set": "yellow",
}


def rows(items: Iterable[View], zone: tzinfo | None) -> Table:
    """Return the table of an operator timeline."""
    columns = (
        Column("POSITION", "id"),
        Column("TIME", "id"),
        Column("BY"),
        Column("TYPE", "id"),
        Column("WHAT"),
        Column("STATUS"),
        Column("REASON"),
    )
    found = tuple(
        (
            cell(r["position"]),
            clock(r["at"], zone),
            cell(r["by"]) or cell(r["node"]) or "·",
            cell(r["type"]),
            cell(r["summary"]),
            cell(r["status"]),
            cell(r["reason_code"]),
        )
        for r in items
    )
    if not any(row[-1] for row in found):
        return Table(columns[:-1], tuple(row[:-1] for row in found))
    return Table(columns, found)


def line(row: View, zone: tzinfo | None) -> tuple[str, str]:
    """Return one row of a timeline as the line of a follower, and its style."""
    code = row["reason_code"]
    style = "red" if code else _STYLES.get(row["type"], "")
    if row["type"] == "orchestration-moved" and row["status"] == "complete":
        style = "bold green"
    why = f"  [{cell(code)}]" if code and str(code) not in str(row["summary"]) else ""
    return f"{clock(row['at'], zone)}  {cell(row['position']):>8}  {cell(row['summary'])}{why}", style


def is_told(row: View) -> bool:
    """Return whether a follower is told this row: what was asked, what is done, what went wrong. The rest is how it came to that."""
    if row["reason_code"] or (row["category"] == "action" and row["type"] not in ("action-opened", "action-completed")):
        return True
    if row["type"] == "verdict-recorded" and row["task"] is None:
        return True
    return row["type"] in _ALWAYS_TOLD or row["status"] in _TOLD_IN.get(row["type"], ())


def table(answer: View) -> Table:
    """Return a table of a report or a statement; one long row is turned, a line a field."""
    columns = tuple(Column(cell(name), "number" if _is_number(type_) else "text") for name, type_ in zip(names(answer), answer["types"], strict=True))
    rows = tuple(tuple(_value(value) for value in row) for row in answer["rows"])
    if len(rows) == 1 and len(columns) > COLUMNS_OF_ONE_ROW_MAX:
        pairs = zip((column.title for column in columns), rows[0], strict=True)
        return Table((Column("FIELD", "id"), Column("VALUE")), tuple(pairs))
    return Table(columns, rows)


def _value(value: Any) -> str:
    return "-" if value is None else cell(value)


def _is_number(type_: str) -> bool:
    return type_.upper().split("(")[0] in ("BIGINT", "INTEGER", "DOUBLE", "DECIMAL", "FLOAT", "HUGEINT", "UBIGINT", "UINTEGER", "SMALLINT", "TINYINT")


def names(answer: View) -> list[str]:
    """Return the column names of a table, each once: a repeated one gets a number."""
    found: list[str] = []
    for name in answer["columns"]:
        number, unique = 2, name
        while unique in found:
            unique, number = f"{name}_{number}", number + 1
        found.append(unique)
    return found


def items(answer: View) -> list[dict[str, Any]]:
    """Return the rows of a table as objects."""
    columns = names(answer)
    return [dict(zip(columns, row, strict=True)) for row in answer["rows"]]


def order(o: View) -> list[str]:
    """Return a work order as the agent got it: what it was, from where, with what to answer."""
    inputs, workspace = o["inputs"], o["workspace"]
    lines = [
        f"{cell(o['run'])} attempt {o['attempt']}   {o['kind']} by {o['role']} with {cell(o['model'])} on {cell(o['node'])}",
        f"  workspace  {cell(workspace['repo'])}   branch {cell(workspace['branch'])}   base {cell(workspace.get('base')) or '-'}",
        f"  limits     {o['timeout_s']:g} s   policy revision {o['policy_revision']}   action {cell(o['action'])}",
        f"  feature    {cell(inputs['feature'])}   design {cell(inputs['design_title'])}",
        f"  phase      {inputs.get('phase') or '-'} of {inputs['total_phases']}",
    ]
    task = inputs.get("task")
    if task:
        lines += [f"  task       {task['number']}: {cell(task['subject'])}", "", *_indented(task.get("description", "")), ""]
    for label, values in (("ticket", inputs.get("tickets")), ("issue", inputs.get("issues"))):
        lines += [
            f"  {label:<9}  {cell(value.get('id') or value.get('source'))}: {cell(value.get('title') or value['text'])}" for value in values or ()
        ]
    if inputs.get("repair"):
        lines.append(f"  repair     {inputs['repair']}")
    if inputs.get("previous_error"):
        lines.append(f"  before     {cell(inputs['previous_error'])}")
    if inputs.get("check"):
        lines.append(f"  check      {cell(inputs['check'])}")
    return lines


def _indented(text: str) -> list[str]:
    return [f"    {cell(part)}" for part in text.split("\n")]
