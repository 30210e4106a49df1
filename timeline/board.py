"""The board: rows of the live work as they stand, so that an event finds the rows it changes. Pure memory.

It is only a cache of the file: every change is written with the batch that made it, and what was dropped is loaded
again when an event names it.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from timeline.rows import ActionRow, FlagRow, GateRow, NodeRow, OrchestrationRow, PhaseRow, RunRow, TableRow, TaskRow

ORCHESTRATIONS_MAX = 20_000
"""Kept after a batch, ended ones first to go: some kilobytes each."""
ACTIONS_MAX = 100_000


class Family(Struct):
    """An orchestration with the rows under it; only the open gate is kept."""

    orchestration: OrchestrationRow
    phases: dict[str, PhaseRow] = {}
    tasks: dict[tuple[str, int], TaskRow] = {}
    runs: dict[tuple[str, int], RunRow] = {}
    gate: GateRow | None = None


class Board:
    """Looks rows up and takes changed ones. `changed` holds what the next commit must write, in the order of first change."""

    def __init__(self) -> None:
        """Start empty."""
        self.families: dict[str, Family] = {}
        self.actions: dict[str, ActionRow] = {}
        self.nodes: dict[str, NodeRow] = {}
        self.flags: dict[str, FlagRow] = {}
        self.changed: dict[tuple[type[Struct], object], TableRow] = {}

    def family(self, orchestration: str) -> Family | None:
        """Return an orchestration with its rows, or None when it is not on the board."""
        return self.families.get(orchestration)

    def run(self, orchestration: str, run: str, attempt: int) -> RunRow | None:
        """Return an attempt, or None."""
        family = self.families.get(orchestration)
        return None if family is None else family.runs.get((run, attempt))

    def task(self, orchestration: str, phase: str, task: int) -> TaskRow | None:
        """Return a task, or None."""
        family = self.families.get(orchestration)
        return None if family is None else family.tasks.get((phase, task))

    def put(self, row: TableRow) -> None:
        """Take a new or changed row, and remember to write it."""
        self.changed[type(row), self._place(row)] = row

    def load(self, rows: Iterable[TableRow]) -> None:
        """Take rows that the file has already; orchestrations before what is under them."""
        for row in rows:
            self._place(row)

    def _place(self, row: TableRow) -> object:
        match row:
            case ActionRow():
                self.actions[row.id] = row
                return row.id
            case OrchestrationRow():
                family = self.families.get(row.id)
                if family is None:
                    self.families[row.id] = Family(row)
                else:
                    family.orchestration = row
                return row.id
            case PhaseRow():
                self.families[row.orchestration].phases[row.phase] = row
                return row.orchestration, row.phase
            case TaskRow():
                self.families[row.orchestration].tasks[row.phase, row.task] = row
                return row.orchestration, row.phase, row.task
            case RunRow():
                self.families[row.orchestration].runs[row.run, row.attempt] = row
                return row.run, row.attempt
            case GateRow():
                self.families[row.orchestration].gate = row if row.status == "open" else None
                return row.seq, row.idx
            case NodeRow():
                self.nodes[row.id] = row
                return row.id
            case FlagRow():
                self.flags[row.flag] = row
                return row.flag
            case _:
                return row.seq, row.idx

    def written(self) -> None:
        """Forget what was to be written, and drop what hardly changes again."""
        for kind, key in self.changed:
            if kind is OrchestrationRow and self.families[str(key)].orchestration.ended_at is not None:
                del self.families[str(key)]
            elif kind is ActionRow and self.actions[str(key)].status != "accepted":
                del self.actions[str(key)]
        self.changed = {}
        _drop_oldest(self.families, ORCHESTRATIONS_MAX)
        _drop_oldest(self.actions, ACTIONS_MAX)


def _drop_oldest(rows: dict[str, Family] | dict[str, ActionRow], length_max: int) -> None:
    for key in list(rows)[: max(0, len(rows) - length_max)]:
        del rows[key]
