"""Timeline: all attempts of an orchestration as a Gantt chart drawn here, and the same as a list."""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime
from typing import Any

from bus import host
from bus_schemas import ids
from console import gantt
from console.backend import Backend, Problem
from console.page import Context, Visit
from console.pages import orchestration

LOOK_EVERY_S = 3.0
"""The scale goes on in steps, also without news."""
EVENTS_MAX = 500
CACHED_MAX = 64
MANY = 200
"""Lines of a chart from which on phases that are done are folded, and rows of the list that are shown at first."""
BLOCK_ROWS = 20
"""Rows of the list that are sent together when one of them has changed."""
_EDGES = ("hold-set", "hold-cleared", "gate-opened", "gate-resolved")
_FIRST, _LAST = ("init", "validate"), ("finalize",)


class Earlier:
    """Attempts that are no longer the newest of their run. They never change, so they are asked for once."""

    def __init__(self) -> None:
        """Know none."""
        self._known: OrderedDict[tuple[str, int], list[Context]] = OrderedDict()

    async def of(self, backend: Backend, orchestration: str, newest: list[Context]) -> list[Context]:
        """Return the attempts of `orchestration` before the `newest`, by their time. Raises Problem while the timeline is away or behind."""
        count = sum(run["attempt"] - 1 for run in newest)
        if count == 0:
            return []
        key = (ids.orchestration_id(orchestration), count)
        if key not in self._known:
            answer = await backend.ask("attempts", orchestration=key[0])
            found = [dict(zip(answer["columns"], row, strict=True)) for row in answer["rows"]]
            last = {run["run"]: run["attempt"] for run in newest}
            earlier = [attempt for attempt in found if attempt["attempt"] < last.get(attempt["run"], 0)]
            if len(earlier) < count and not answer["truncated"]:
                return earlier  # the timeline has not read all of it yet: ask again the next time
            self._known[key] = earlier
            while len(self._known) > CACHED_MAX:
                self._known.popitem(last=False)
        return self._known[key]


_EARLIER = Earlier()


async def load(visit: Visit) -> Context:
    """Return the chart and the list. Raises Problem; a timeline that is away is a note, since the newest attempts are known without it."""
    context = await orchestration.head(visit)
    o = context["o"]
    newest = await visit.backend.ask_all("runs", orchestration=o["id"])
    notes = []
    try:
        earlier = await _EARLIER.of(visit.backend, o["id"], newest)
    except Problem as problem:
        earlier = []
        notes.append(f"Earlier attempts are missing: {problem.message}.")
    try:
        holds = holds_of(await _edges(visit.backend, o), o)
    except Problem as problem:
        holds = [gantt.Hold(hold["kind"], _time(hold["since"]), None, hold["reason"]) for hold in o["holds"]]
        notes.append(f"Holds and gates that are over are missing: {problem.message}.")
    attempts = sorted([*earlier, *newest], key=lambda run: (run["queued_at"], run["run"], run["attempt"]))
    drawn = lanes(o, attempts)
    clock = now = None if o["status"] in orchestration.ENDED else host.now()
    if now is not None and visit.is_streamed:
        now = gantt.steady_now([attempt for lane in drawn for attempt in lane.attempts], now)
    whole = visit.query.get("all") == "1" or len(drawn) <= MANY
    folded = frozenset() if whole else frozenset(_group(phase) for phase in o["plan"] if phase["status"] == "complete")
    shown = attempts if visit.query.get("all") == "1" else attempts[-MANY:]
    return {
        **context,
        "tab": "timeline",
        "chart": gantt.chart(drawn, holds, now, folded, clock=clock),
        "attempts": shown,
        "blocks": blocks(shown, len(attempts) - len(shown)),
        "hidden": len(attempts) - len(shown),
        "folded": len(folded),
        "notes": notes,
        "work_of": work_of,
    }


def blocks(shown: list[Context], hidden: int) -> list[tuple[int, list[Context]]]:
    """Return attempts, newest first, in numbered blocks; `hidden` older ones are not shown, so that each stays in its block."""
    found: dict[int, list[Context]] = {}
    for place, attempt in enumerate(shown, hidden):
        found.setdefault(place // BLOCK_ROWS, []).insert(0, attempt)
    return sorted(found.items(), reverse=True)


async def _edges(backend: Backend, o: Context) -> list[Context]:
    """Return where holds and gates began and ended, by position. Raises Problem."""
    # nothing held it before it was launched: the timeline need not look there
    launched = None if o["action"] is None else (await backend.ask("action", id=o["action"]))["position"]
    found: list[Context] = []
    while True:
        after = found[-1]["position"] if found else launched
        page = await backend.ask("timeline", orchestration=o["id"], type=_EDGES, after=after, limit=EVENTS_MAX)
        found += page["items"]
        if not page["more"]:
            return found


def holds_of(edges: list[Context], o: Context) -> list[gantt.Hold]:
    """Return the holds and gates that began and ended at `edges`; one that has no end is open, or ended with its orchestration."""
    opened: dict[str, Context] = {}
    found: list[gantt.Hold] = []
    for edge in edges:
        detail = edge["detail"]
        kind = "gate" if edge["type"].startswith("gate-") else str(detail.get("hold", "hold"))
        if edge["type"] in ("hold-set", "gate-opened"):
            opened[kind] = edge
        elif kind in opened:
            found.append(_hold(kind, opened.pop(kind), _time(edge["at"])))
    end = None if o["ended_at"] is None else _time(o["ended_at"])
    found += [_hold(kind, edge, end) for kind, edge in opened.items()]
    return sorted(found, key=lambda hold: hold.since)


def _hold(kind: str, edge: Context, until: datetime | None) -> gantt.Hold:
    text = str(edge["detail"].get("reason") or edge["detail"].get("gate") or edge["summary"])
    return gantt.Hold(kind, _time(edge["at"]), until, text.replace("_", " "))


def _time(text: Any) -> datetime:
    return text if isinstance(text, datetime) else datetime.fromisoformat(str(text).replace("Z", "+00:00"))


def _maybe(text: Any) -> datetime | None:
    return None if text is None else _time(text)


def lanes(o: Context, attempts: list[Context]) -> list[gantt.Lane]:
    """Return the lines of the chart: what comes before the phases, each phase with its planned tasks, and what comes after them."""
    works: OrderedDict[tuple[Any, ...], list[Context]] = OrderedDict()
    for attempt in attempts:
        works.setdefault((attempt["phase"], attempt["kind"], attempt["task"], attempt["role"]), []).append(attempt)
    subjects = {(phase["phase"], task["number"]): task for phase in o["plan"] for task in phase["tasks"]}
    found = [_lane(work, "", "") for key, work in works.items() if key[0] is None and key[1] not in _LAST]
    for phase in o["plan"]:
        found += _phase_lanes(phase, works, subjects)
    return found + [_lane(work, "", "At the end") for key, work in works.items() if key[0] is None and key[1] in _LAST]


def _phase_lanes(phase: Context, works: OrderedDict[tuple[Any, ...], list[Context]], subjects: dict[tuple[str, int], Context]) -> list[gantt.Lane]:
    """Return the lines of a phase in the order in which they began, reviews of a task under it, tasks that have not begun at the end."""
    group = _group(phase)
    mine = [(key, work) for key, work in works.items() if key[0] == phase["phase"]]
    place = {key[2]: index for index, (key, _) in enumerate(mine) if key[1] == "task"}
    order = {key: (place.get(key[2], index), index) if key[2] is not None else (index, index) for index, (key, _) in enumerate(mine)}
    found = []
    for key, work in sorted(mine, key=lambda item: order[item[0]]):
        task = subjects.get((phase["phase"], key[2]))
        found.append(_lane(work, "" if task is None else task["subject"], group))
    begun = {key[2] for key, _ in mine if key[1] == "task"}
    for task in phase["tasks"]:
        if task["number"] not in begun:
            found.append(gantt.Lane(f"{phase['phase']}.{task['number']} {task['subject']}", group, status=task["status"]))
    return found


def _group(phase: Context) -> str:
    return f"Phase {phase['phase']} {phase['status']}"


def work_of(run: Context) -> str:
    """Return what a run does: `plan`, `task 1.2`, `review of 1.2`, `review by architect`."""
    if run["kind"] == "task":
        return f"task {run['phase']}.{run['task']}"
    if run["kind"] == "task-review":
        return f"review of {run['phase']}.{run['task']}"
    if run["kind"] == "review" and run["role"] != "reviewer":
        return f"review by {run['role'].replace('_', ' ')}"
    return str(run["kind"])


def _lane(work: list[Context], subject: str, group: str) -> gantt.Lane:
    last = work[-1]
    label = f"{last['phase']}.{last['task']} {subject}".rstrip() if last["kind"] == "task" else work_of(last)
    label = f"↳ {label}" if last["kind"] == "task-review" else label
    href = f"/orchestrations/{ids.orchestration_of(last['run'])}/logs?run={last['run']}"
    return gantt.Lane(label, group, tuple(_attempt(run) for run in work), last["status"], href)


def _attempt(run: Context) -> gantt.Attempt:
    note = " ".join(part for part in (run["model"], "on", run["node"], run["reason_code"] or "") if part)
    return gantt.Attempt(run["run"], run["attempt"], run["status"], _time(run["queued_at"]), _maybe(run["started_at"]), _maybe(run["ended_at"]), note)


PAGES = (orchestration.tab("timeline", load, every_s=LOOK_EVERY_S, path=""),)
