"""Plans, changes and reasons as humans see them: tasks, what a dry run would change, why something does not move. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from bus_schemas.decisions import Diff
from cli.render.catalogue import cell_line
from cli.table import Column, Table, marked
from cli.text import ago, cell

View = Mapping[str, Any]
CHANGE_CHARS_MAX = 60


def tasks(items: Iterable[View]) -> Table:
    """Return the table of tasks, in the order in which they are looked at."""
    columns = (
        Column("PHASE", "id"),
        Column("TASK", "number"),
        Column("STATUS", "id"),
        Column("REV", "number"),
        Column("AFTER"),
        Column("MODEL"),
        Column("TRIES", "number"),
        Column("SUBJECT"),
    )
    rows = tuple(
        (
            cell(t["phase"]),
            cell(t["number"]),
            marked(t["status"]),
            cell(t["revision"]),
            cell(t["depends_on"]) or "-",
            cell(t["model"]) or "-",
            cell(t["attempts"]),
            cell(t["subject"]) + (f"  (inserted by {cell(t['inserted_by'])})" if t["inserted_by"] else ""),
        )
        for t in items
    )
    return Table(columns, rows)


def task(t: View) -> list[str]:
    """Return the lines of a task."""
    head = f"task {t['number']} of phase {cell(t['phase'])}  {marked(t['status'])}  revision {t['revision']}"
    facts = [
        f"  subject     {cell(t['subject'])}",
        f"  after       {cell(t['depends_on']) or 'nothing'}",
        f"  model       {cell(t['model']) or 'the one of the policy'}",
        f"  attempts    {t['attempts']}   rejections {t['rejections']}",
    ]
    if t["git_range"]:
        facts.append(f"  commits     {t['git_range'][0][:12]}..{t['git_range'][1][:12]}")
    if t["reason_code"]:
        facts.append(f"  why         {t['reason_code']}")
    text = t["description"].rstrip("\n")
    return [head, *facts, *(["", *map(cell_line, text.split("\n"))] if text else [])]


def diff(found: Diff) -> list[str]:
    """Return the lines of what a command would change: the queue of pending tasks, then each field."""
    lines = []
    if found.queue_before != found.queue_after:
        lines += [f"  queue   {' '.join(found.queue_before) or 'empty'}", f"      →   {' '.join(found.queue_after) or 'empty'}"]
    lines += [f"  {change.path}: {_short(change.before)} → {_short(change.after)}" for change in found.changes]
    return lines or ["  no task and no field of the policy changes"]


def _short(text: str) -> str:
    line = cell(text)
    return '""' if not line else line if len(line) <= CHANGE_CHARS_MAX else line[: CHANGE_CHARS_MAX - 1] + "…"


def why(found: View, now: datetime) -> list[tuple[str, str]]:
    """Return the lines of why an orchestration does not move, with their styles."""
    hold = f", held: {found['hold']}" if found["hold"] else ""
    lines = [(f"{cell(found['orchestration'])}  {marked(found['status'])}{hold}", "bold")]
    lines += [(f"  ▶ {cell(text)}", "cyan") for text in found["running"]]
    for o in found["obstacles"]:
        code = f"  [{o['reason_code']}]" if o["reason_code"] else ""
        since = f"  ({ago(o['since'], now)})" if o["since"] else ""
        lines += [(f"  ◆ {cell(o['what'])}: {cell(o['reason'])}{code}{since}", "yellow"), (f"      frees it: {cell(o['frees'])}", "")]
    if not found["obstacles"]:
        lines.append(("  nothing waits" if found["running"] else "  nothing waits and nothing runs: look again in a moment", ""))
    return lines


def placement(items: Iterable[View]) -> Table:
    """Return the table of what a drain would do with the orchestrations of a node."""
    columns = (Column("ORCHESTRATION", "id"), Column("STATUS", "id"), Column("RUNS HERE TO THEIR END"), Column("GOES ON ON"))
    rows = tuple(
        (
            cell(p["orchestration"]),
            marked(p["status"]) + (f" ({p['hold']})" if p["hold"] else ""),
            cell(p["running"]) or "-",
            cell(p["target"]) if p["target"] else "no other node fits: it stays",
        )
        for p in items
    )
    return Table(columns, rows)
