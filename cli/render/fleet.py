"""Nodes, gates, actions and flags as humans see them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, tzinfo
from typing import Any

from cli.render.catalogue import cell_line
from cli.table import Column, Table, marked
from cli.text import ago, between, cell, moment

View = Mapping[str, Any]


def nodes(items: Iterable[View], now: datetime) -> Table:
    """Return the table of nodes."""
    columns = (
        Column("ID", "id"),
        Column("STATE", "id"),
        Column("RUNS", "number"),
        Column("AGENTS"),
        Column("LABELS"),
        Column("SEEN"),
    )
    rows = tuple(
        (
            cell(n["id"]),
            state_of(n),
            f"{len(n['running'])}/{n['capacity']}",
            ", ".join(cell(agent["name"]) for agent in n["agents"]),
            cell(n["labels"]),
            ago(n["last_seen"], now),
        )
        for n in items
    )
    return Table(columns, rows)


def state_of(n: View) -> str:
    """Return whether a node is there, and whether it takes work: two things."""
    online = "online" if n["online"] else "offline"
    if n.get("draining"):
        return f"{online}, draining"
    return f"{online}, cordoned" if n["cordoned"] else online


def node(n: View, now: datetime, zone: tzinfo | None) -> list[str]:
    """Return the lines of a node."""
    lines = [
        f"{cell(n['id'])}  {state_of(n)}",
        f"  runs        {len(n['running'])} of {n['capacity']}{': ' + ', '.join(map(cell, n['running'])) if n['running'] else ''}",
        f"  labels      {cell(n['labels']) or '-'}",
        f"  seen        {ago(n['last_seen'], now)}",
        f"  registered  {moment(n['registered_at'], zone)}",
    ]
    return lines + [f"  agent       {cell(a['name'])} {cell(a['version'])}   models {cell(a['models'])}" for a in n["agents"]]


def gates(items: Iterable[View], now: datetime) -> Table:
    """Return the table of gates that wait."""
    columns = (Column("ORCHESTRATION", "id"), Column("GATE"), Column("PHASE"), Column("FEATURE"), Column("WAITS", "number"), Column("TO JUDGE"))
    rows = tuple(
        (cell(g["orchestration"]), cell(g["gate"]), cell(g["phase"]), cell(g["feature"]), between(g["since"], None, now), cell(g["subject"]))
        for g in items
    )
    return Table(columns, rows)


def gate(g: View, now: datetime) -> list[str]:
    """Return the lines of a gate: what is to be judged, and how."""
    phase = f" of phase {g['phase']}" if g["phase"] else ""
    head = [f"{cell(g['orchestration'])}  {cell(g['feature'])}", f"  gate {cell(g['gate'])}{phase}, waits for {between(g['since'], None, now)}", ""]
    body = [f"  {cell_line(line)}" for line in str(g["subject"]).split("\n")]
    answer = [f"  qd gate approve {g['orchestration']}", f"  qd gate reject {g['orchestration']} --feedback TEXT"]
    return [*head, *body, "", *answer]


def actions(items: Iterable[View], now: datetime) -> Table:
    """Return the table of actions."""
    columns = (Column("ACTION", "id"), Column("STATUS", "id"), Column("TYPE"), Column("ABOUT"), Column("BY"), Column("WHEN"), Column("WHY"))
    rows = tuple(
        (
            cell(a["action"]),
            marked(a["status"]),
            cell(a["type"]),
            cell(a["orchestration"] or a["ticket"] or a["design"] or a["node"] or a["project"]),
            cell(a["requested_by"]),
            ago(a["received_at"], now),
            cell(a["reason_code"] or a["reason"]),
        )
        for a in items
    )
    return Table(columns, rows)


def action(a: View, zone: tzinfo | None) -> list[str]:
    """Return the lines of an action."""
    about = {name: a[name] for name in ("design", "ticket", "orchestration", "node", "task") if a[name] is not None}
    lines = [
        f"{cell(a['action'])}  {a['type']}  {marked(a['status'])}",
        f"  about       {cell(about) or a['project']}",
        f"  by          {cell(a['requested_by'])} via {cell(a['via'])}   key {cell(a['idempotency_key'])}",
        f"  received    {moment(a['received_at'], zone)}",
        f"  accepted    {moment(a['accepted_at'], zone)}   position {cell(a['position'])}",
        f"  completed   {moment(a['completed_at'], zone)}",
    ]
    lines += [f"  reason      {cell(a['reason'])}"] if a["reason"] else []
    lines += [f"  warning     {cell(warning)}" for warning in a["warnings"]]
    lines += [f"  why         {cell(a['message'])}  [{a['reason_code']}]"] if a["reason_code"] else []
    return lines


def flags(items: Iterable[View]) -> Table:
    """Return the table of feature flags."""
    return Table((Column("FLAG", "id"), Column("ON")), tuple((cell(f["flag"]), "on" if f["on"] else "off") for f in items))
