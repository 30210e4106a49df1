"""Orchestrations as humans see them: the list, one with its plan, and the line of progress. Pure.

Where an orchestration stands and what holds it are two things, and are never shown as one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, tzinfo
from typing import Any

from cli.table import Column, Table, marked
from cli.text import ago, between, cell, moment, money, short_hash

View = Mapping[str, Any]
Line = tuple[str, str]
"""A line and the style it is shown in; an empty style is plain."""

ENDED = ("complete", "failed", "cancelled")


def table(items: Iterable[View], now: datetime) -> Table:
    """Return the table of orchestrations."""
    columns = (
        Column("STATUS", "id"),
        Column("ID", "id"),
        Column("HOLD"),
        Column("FEATURE"),
        Column("PHASE", "id"),
        Column("NODE"),
        Column("POLICY"),
        Column("TOOK", "number"),
        Column("COST", "number"),
        Column("LAUNCHED"),
    )
    rows = tuple(
        (
            marked(o["status"]),
            cell(o["id"]),
            "" if o["hold"] is None else f"{o['hold']['kind']}: {cell(o['hold']['reason'])}",
            cell(o["feature"]),
            phase_of(o),
            cell(o["node"]),
            f"{cell(o['preset_origin'])} r{o['policy_revision']}",
            between(o["created_at"], o["ended_at"], now),
            money(o["cost_usd"]),
            ago(o["created_at"], now),
        )
        for o in items
    )
    return Table(columns, rows)


def phase_of(o: View) -> str:
    """Return `i/n`: the phase it stands in, and how many main phases there are."""
    return f"{o['phase'] or '-'}/{o['total_phases']}"


def lines(o: View, now: datetime, zone: tzinfo | None) -> list[Line]:
    """Return an orchestration with its holds, its plan, and what can be done next."""
    head: list[Line] = [(f"{cell(o['id'])}  {cell(o['feature'])}", "bold"), (f"  status    {_status(o)}", _style(o))]
    head += [(f"  hold      ◆ {h['kind']}: {cell(h['reason'])}  ({ago(h['since'], now)})", "yellow") for h in o["holds"]]
    tickets = ", ".join(map(cell, o["tickets"])) if o["tickets"] else "none (design only)"
    facts = [
        f"  design    {cell(o['design'])} revision {o['design_revision']}   tickets {tickets}",
        f"  node      {cell(o['node'])}   branch {cell(o['branch'])}   head {short_hash(o['head'])}",
        f"  policy    {cell(o['preset_origin'])}, revision {o['policy_revision']}   launched with {short_hash(o['policy_snapshot_hash'])}",
        f"  launched  {moment(o['created_at'], zone)} by {cell(o['requested_by'])} ({cell(o['action'])})",
        f"  took      {between(o['created_at'], o['ended_at'], now)}   cost {money(o['cost_usd'])}   tokens {o['tokens']}",
    ]
    plan = [line for phase in o["plan"] for line in _phase(phase)]
    return head + [(fact, "") for fact in facts] + plan + [(f"  next      {step}", "bold") for step in next_steps(o)]


def _status(o: View) -> str:
    why = cell(o["message"]) or cell(o["reason_code"])
    code = f"  [{o['reason_code']}]" if o["reason_code"] else ""
    return f"{marked(o['status'])}{f': {why}{code}' if why else ''}   phase {phase_of(o)}"


def _style(o: View) -> str:
    return {"complete": "green", "failed": "red", "cancelled": "dim"}.get(o["status"], "cyan")


def _phase(p: View) -> list[Line]:
    repairs = f"   repairs {p['repairs']}" if p["repairs"] else ""
    verify = f"   check {p['verify']}" if p["verify"] else ""
    found: list[Line] = [(f"  phase {p['phase']}   {marked(p['status'])}{verify}{repairs}   plan revision {p['revision']}", "")]
    for t in p["tasks"]:
        depends = f"  after {cell(t['depends_on'])}" if t["depends_on"] else ""
        commits = f"  {t['git_range'][0][:8]}..{t['git_range'][1][:8]}" if t["git_range"] else ""
        tries = f"  {t['attempts']} attempts" if t["attempts"] > 1 else ""
        model = f"  {cell(t['model'])}" if t["model"] else ""
        why = f"  {t['reason_code']}" if t["reason_code"] else ""
        found.append((f"    {marked(t['status']):<14}{t['number']:>3}  {cell(t['subject'])}{depends}{model}{tries}{commits}{why}", ""))
    return found


def _budget(o: View) -> str:
    """Return the name of the budget that is reached."""
    flow = (o["active_policy"] or {}).get("flow", {})
    limit = flow.get("budget_usd")
    return "budget_usd" if limit is not None and (o["cost_usd"] or 0) >= limit else "budget_tokens"


def next_steps(o: View) -> list[str]:
    """Return what an operator can do with an orchestration that waits for one."""
    steps = {
        "gate": f"qd gate show {o['id']}   then: qd gate approve {o['id']}   or: qd gate reject {o['id']} --feedback TEXT",
        "blocked": f"qd timeline {o['id']} says why; qd retry {o['id']} tries again, qd cancel {o['id']} ends it",
        "node_lost": f"qd node show {o['node']}; it goes on when the node is back; qd retry {o['id']} does not wait",
        "paused": f"qd resume {o['id']}",
        "budget": f"qd policy set {o['id']} flow.{_budget(o)}=N --if-revision {o['policy_revision']}, then qd resume {o['id']}",
        "quota": f"qd resume {o['id']}",
    }
    return [steps[o["hold"]["kind"]]] if o["hold"] is not None and o["hold"]["kind"] in steps else []


def progress(o: View, now: datetime) -> str:
    """Return where an orchestration stands in one line: status, hold, phase i of n, tasks, time, cost."""
    hold = f" · held: {o['hold']['kind']}" if o["hold"] is not None else ""
    plan = next((p for p in o["plan"] if p["phase"] == o["phase"]), None)
    tasks = ""
    if plan is not None and plan["tasks"]:
        done = sum(t["status"] in ("completed", "skipped") for t in plan["tasks"])
        going = [t for t in plan["tasks"] if t["status"] == "in_progress"]
        tasks = f" · {done}/{len(plan['tasks'])} tasks" + (f" · {cell(going[0]['subject'])}" if going else "")
    phase = f" · phase {o['phase']} of {o['total_phases']}" if o["phase"] else ""
    took = between(o["created_at"], o["ended_at"], now)
    return f"{marked(o['status'])}{hold}{phase}{tasks} · {took} · {money(o['cost_usd'])}"


def runs(items: Iterable[View], now: datetime) -> Table:
    """Return the table of runs."""
    columns = (
        Column("RUN", "id"),
        Column("STATUS", "id"),
        Column("KIND"),
        Column("PHASE"),
        Column("TASK", "number"),
        Column("MODEL"),
        Column("NODE"),
        Column("TOOK", "number"),
        Column("WHY"),
    )
    rows = tuple(
        (
            f"{cell(r['run'])}.{r['attempt']}",
            marked(r["status"]),
            cell(r["kind"]),
            cell(r["phase"]),
            cell(r["task"]),
            cell(r["model"]),
            cell(r["node"]),
            between(r["started_at"], r["ended_at"], now),
            cell(r["reason_code"] or r["detail"]),
        )
        for r in items
    )
    return Table(columns, rows)
