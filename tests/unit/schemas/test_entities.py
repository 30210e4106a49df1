"""The catalogue's tables: which moves are allowed, and which flags are on at first."""

from __future__ import annotations

import pytest

from bus_schemas.entities import DESIGN_MOVES, FLAGS_ON_AT_FIRST, TICKET_MOVES, DesignStatus, Flag, TicketStatus

DESIGNS = {"draft": "in_review", "in_review": "approved draft", "approved": "archived", "archived": "draft"}
TICKETS = {
    "todo": "in_progress blocked canceled",
    "in_progress": "in_review blocked canceled",
    "in_review": "done in_progress",
    "blocked": "todo in_progress canceled",
    "done": "todo",
    "canceled": "todo",
}
"""Domain §3."""


@pytest.mark.parametrize("status", DesignStatus)
def test_a_design_moves_as_the_contract_says(status: DesignStatus) -> None:
    assert DESIGN_MOVES[status] == tuple(DESIGNS[status].split())


@pytest.mark.parametrize("status", TicketStatus)
def test_a_ticket_moves_as_the_contract_says(status: TicketStatus) -> None:
    assert TICKET_MOVES[status] == tuple(TICKETS[status].split())


def test_every_status_can_be_reached_and_left() -> None:
    assert {then for moves in DESIGN_MOVES.values() for then in moves} == set(DesignStatus)
    assert {then for moves in TICKET_MOVES.values() for then in moves} == set(TicketStatus)


def test_a_new_installation_has_the_four_control_plane_flags_on() -> None:
    assert set(FLAGS_ON_AT_FIRST) == {flag for flag in Flag if flag.startswith("cp.")}
    assert len(FLAGS_ON_AT_FIRST) == 4
