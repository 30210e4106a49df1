"""The board: rows of the live work as they stand, so that an event finds the rows it changes. Pure memory.

It is only a cache of the file: every change is written with the batch that made it, and what was dropped is loaded
again when an event names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from msgspec import Struct

from timeline.rows import ActionRow, FlagRow, GateRow, NodeRow, OrchestrationRow, PhaseRow, RunRow, TableRow, TaskRow, UsageRow

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
        kind = type(row)
        self.changed[kind, _PLACES[kind](self, row)] = row

    def load(self, rows: Iterable[TableRow]) -> None:
        """Take rows that the file has already; orchestrations before what is under them."""
        for row in rows:
            _PLACES[type(row)](self, row)

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


# each puts a row where it is looked up, and returns what names it among its kind


def _place_action(board: Board, row: ActionRow) -> object:
    board.actions[row.id] = row
    return row.id


def _place_orchestration(board: Board, row: OrchestrationRow) -> object:
    family = board.families.get(row.id)
    if family is None:
        board.families[row.id] = Family(row)
    else:
        family.orchestration = row
    return row.id


def _place_phase(board: Board, row: PhaseRow) -> object:
    board.families[row.orchestration].phases[row.phase] = row
    return row.orchestration, row.phase


def _place_task(board: Board, row: TaskRow) -> object:
    board.families[row.orchestration].tasks[row.phase, row.task] = row
    return row.orchestration, row.phase, row.task


def _place_run(board: Board, row: RunRow) -> object:
    key = row.run, row.attempt
    board.families[row.orchestration].runs[key] = row
    return key


def _place_gate(board: Board, row: GateRow) -> object:
    board.families[row.orchestration].gate = row if row.status == "open" else None
    return row.seq, row.idx


def _place_node(board: Board, row: NodeRow) -> object:
    board.nodes[row.id] = row
    return row.id


def _place_flag(board: Board, row: FlagRow) -> object:
    return row.flag


def _place_usage(board: Board, row: UsageRow) -> object:
    return row.seq, row.idx


_PLACES: dict[type[Struct], Callable[[Board, Any], object]] = {
    ActionRow: _place_action,
    OrchestrationRow: _place_orchestration,
    PhaseRow: _place_phase,
    TaskRow: _place_task,
    RunRow: _place_run,
    GateRow: _place_gate,
    NodeRow: _place_node,
    FlagRow: _place_flag,
    UsageRow: _place_usage,
}
