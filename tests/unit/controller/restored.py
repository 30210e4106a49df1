"""A ledger with an index, seen whole: what is in memory and what has ended, as one state for each project."""

from __future__ import annotations

from controller.index_changes import is_answered, is_over, remembering, remembering_action
from controller.ledger import Ledger
from controller.project import Aggregate
from controller.shelf import Filter


def whole_states(ledger: Ledger) -> dict[str, Aggregate]:
    """Return the states with everything brought back that has left the memory."""
    return {project: _whole(ledger, state) for project, state in ledger.states.items() if state != Aggregate(project)}


def _whole(ledger: Ledger, state: Aggregate) -> Aggregate:
    assert ledger.index is not None
    shelf = ledger.index.shelf
    for o in shelf.orchestrations(Filter(state.project), None):
        if o.id not in state.orchestrations:
            state = remembering(state, o)
    for receipt in shelf.receipts(Filter(state.project), None):
        if receipt.action not in state.actions:
            found = ledger.receipt(receipt.action)
            assert found is not None
            assert found[0] == receipt
            state = remembering_action(state, *found)
    return state


def in_memory(ledger: Ledger, *, open_only: bool = False) -> tuple[int, int]:
    """Return how many orchestrations and how many receipts are in memory; `open_only`: of those that may still change."""
    states = ledger.states.values()
    orchestrations = sum(not (open_only and is_over(o)) for state in states for o in state.orchestrations.values())
    return orchestrations, sum(not (open_only and is_answered(receipt)) for state in states for receipt in state.actions.values())
