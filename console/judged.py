"""What a gate judges: how much was changed by the tasks that stand before it, as their nodes measured and reported it.

Asks the timeline. What was changed before a gate opened changes no more, so it is asked for once.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple

from bus_schemas import ids
from bus_schemas.statuses import GateKind
from console.backend import Backend, Problem
from console.page import Context

KNOWN_MAX = 1000
ROWS_MAX = 10_000
SHOWN_MAX = 12
"""Tasks whose changes are listed beside a gate; the Changes tab has all."""
_SQL = """SELECT e.orchestration, e.phase, e.task, any_value(t.subject) AS subject, sum((e.payload->>'$.result.files')::BIGINT) AS files,
  sum((e.payload->>'$.result.insertions')::BIGINT) AS insertions, sum((e.payload->>'$.result.deletions')::BIGINT) AS deletions
FROM events e LEFT JOIN tasks t ON t.orchestration = e.orchestration AND t.phase = e.phase AND t.task = e.task
WHERE e.type = 'run-ended' AND e.orchestration IN ({ids}) AND e.payload->>'$.result.type' = 'task'
GROUP BY ALL ORDER BY e.orchestration, e.phase, e.task"""


class TaskChange(NamedTuple):
    """What the runs of a task changed; a file that several of them touched counts each time."""

    place: str
    subject: str
    files: int
    insertions: int
    deletions: int


class Judged(NamedTuple):
    """What stands before a gate; `note` says why it is not known."""

    tasks: tuple[TaskChange, ...] = ()
    note: str = ""

    @property
    def files(self) -> int:
        """Files touched, counted task by task."""
        return sum(task.files for task in self.tasks)

    @property
    def insertions(self) -> int:
        """Lines that came in."""
        return sum(task.insertions for task in self.tasks)

    @property
    def deletions(self) -> int:
        """Lines that went out."""
        return sum(task.deletions for task in self.tasks)

    @property
    def changed(self) -> tuple[TaskChange, ...]:
        """The tasks that changed something, at most as many as are shown."""
        return tuple(task for task in self.tasks if task.files)[:SHOWN_MAX]


_KNOWN: OrderedDict[tuple[str, str], Judged] = OrderedDict()
"""By orchestration and the moment its gate opened."""


def before(gate: Context, rows: list[list[Any]]) -> Judged:
    """Return what of `rows` (as the query gives them) is judged at a gate: its phase, or everything for one that stands behind all phases."""
    mine = [row for row in rows if row[0] == gate["orchestration"] and gate["phase"] in (None, row[1])]
    changes = (TaskChange(f"{phase}.{task}", subject or "", *(int(value or 0) for value in counts)) for _, phase, task, subject, *counts in mine)
    return Judged(tuple(changes))


async def of_gates(backend: Backend, gates: list[Context], position: str) -> dict[str, Judged]:
    """Return what is judged at each gate, by orchestration; `position` is the ledger position that the gates are true for.

    A plan is judged before anything is changed. A timeline that is away or behind is a note, or asked again the next time.
    """
    found = {gate["orchestration"]: Judged() for gate in gates if gate["gate"] == GateKind.PLAN}
    found |= {gate["orchestration"]: _KNOWN[_key(gate)] for gate in gates if _key(gate) in _KNOWN}
    wanted = [gate for gate in gates if gate["orchestration"] not in found]
    if not wanted:
        return found
    named = ", ".join(f"'{ids.orchestration_id(gate['orchestration'])}'" for gate in wanted)
    try:
        answer = await backend.ask("sql", sql=_SQL.format(ids=named), limit=ROWS_MAX)
    except Problem as problem:
        return found | {gate["orchestration"]: Judged(note=problem.message) for gate in wanted}
    is_whole = _seq(answer["position"]) >= _seq(position) and not answer["truncated"]
    for gate in wanted:
        found[gate["orchestration"]] = before(gate, answer["rows"])
        if is_whole:
            _KNOWN[_key(gate)] = found[gate["orchestration"]]
            while len(_KNOWN) > KNOWN_MAX:
                _KNOWN.popitem(last=False)
    return found


def _key(gate: Context) -> tuple[str, str]:
    return gate["orchestration"], str(gate["since"])


def _seq(position: str) -> int:
    return int(position.partition(".")[0])
