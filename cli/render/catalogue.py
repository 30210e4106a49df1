"""Projects, designs and tickets as humans see them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, tzinfo
from typing import Any

from cli.table import Column, Table
from cli.text import ago, cell, moment

View = Mapping[str, Any]


def projects(items: Iterable[View], now: datetime) -> Table:
    """Return the table of projects."""
    columns = (
        Column("ID", "id"),
        Column("NAME"),
        Column("REPO"),
        Column("BRANCH"),
        Column("DESIGNS", "number"),
        Column("TICKETS", "number"),
        Column("LIVE", "number"),
        Column("ADDED"),
    )
    rows = tuple(
        (
            cell(p["id"]),
            cell(p["name"]),
            cell(p["repo"]),
            cell(p["default_branch"]),
            cell(p["designs"]),
            cell(p["tickets"]),
            f"{p['live']}/{p['orchestrations']}",
            ago(p["created_at"], now),
        )
        for p in items
    )
    return Table(columns, rows)


def project(p: View, zone: tzinfo | None) -> list[str]:
    """Return the lines of a project."""
    return [
        f"{cell(p['id'])}  {cell(p['name'])}",
        f"  repo      {cell(p['repo'])} ({cell(p['default_branch'])})",
        f"  check     {cell(p['check']) or 'none: verify is skipped'}",
        f"  designs   {p['designs']}   tickets {p['tickets']}   orchestrations {p['orchestrations']}, {p['live']} live",
        f"  added     {moment(p['created_at'], zone)}",
    ]


def designs(items: Iterable[View], now: datetime) -> Table:
    """Return the table of designs; what keeps one from being launched stands in its row."""
    columns = (
        Column("ID", "id"),
        Column("STATUS"),
        Column("TITLE"),
        Column("PHASES", "number"),
        Column("REV", "number"),
        Column("READY"),
        Column("CHANGED"),
    )
    rows = tuple(
        (
            cell(d["id"]),
            cell(d["status"]),
            cell(d["title"]),
            cell(d["phase_count"]),
            cell(d["revision"]),
            "no: " + cell("; ".join(d["problems"])) if d["problems"] else "yes",
            ago(d["updated_at"] or d["created_at"], now),
        )
        for d in items
    )
    return Table(columns, rows)


def design(d: View, zone: tzinfo | None) -> list[str]:
    """Return the lines of a design: head, markers, problems, text, comments."""
    done = set(d["completed_markers"])
    markers = "  ".join(f"{'✓' if marker in done else '·'} {marker}" for marker in d["required_markers"])
    lines = [
        f"{cell(d['id'])}  {cell(d['title'])}",
        f"  status    {d['status']}   {d['complexity']}   revision {d['revision']}   {d['phase_count']} phases",
        f"  markers   {markers}",
        f"  changed   {moment(d['updated_at'] or d['created_at'], zone)}",
    ]
    lines += [f"  not ready {cell(problem)}" for problem in d["problems"]] or ["  ready     yes: qd launch " + cell(d["id"]) + " --node auto"]
    return lines + _body(d) + _comments(d, zone)


def tickets(items: Iterable[View], now: datetime) -> Table:
    """Return the table of tickets."""
    columns = (Column("ID", "id"), Column("STATUS"), Column("PRIORITY"), Column("TITLE"), Column("DESIGN", "id"), Column("CHANGED"))
    rows = tuple(
        (
            cell(t["id"]),
            cell(t["status"]),
            cell(t["priority"]),
            cell(t["title"]),
            cell(t["design"]),
            ago(t["updated_at"] or t["created_at"], now),
        )
        for t in items
    )
    return Table(columns, rows)


def ticket(t: View, zone: tzinfo | None) -> list[str]:
    """Return the lines of a ticket: head, text, comments."""
    lines = [
        f"{cell(t['id'])}  {cell(t['title'])}",
        f"  status    {t['status']}   priority {t['priority']}   design {cell(t['design']) or '-'}",
        f"  changed   {moment(t['updated_at'] or t['created_at'], zone)}",
    ]
    return lines + _body(t) + _comments(t, zone)


def _body(thing: View) -> list[str]:
    text = (thing.get("body") or "").rstrip("\n")
    return ["", *(cell_line(line) for line in text.split("\n"))] if text else []


def cell_line(line: str) -> str:
    """Return a line of somebody's text with its leading blanks, without control characters."""
    return cell(line.replace("\t", "    "))


def _comments(thing: View, zone: tzinfo | None) -> list[str]:
    lines: list[str] = []
    for comment in thing.get("comments") or ():
        lines += ["", f"── {cell(comment['author'])}, {moment(comment['at'], zone)}"]
        lines += [cell_line(line) for line in comment["body"].split("\n")]
    return lines
