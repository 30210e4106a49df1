"""What an agent is to the node: which models it takes, how a run of it is started, and how its end is read. Pure.

An adapter has no processes and no clock: it says what to start, the node starts it, and the adapter reads what came of it.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from msgspec import Struct

from bus_schemas.orders import WorkOrder
from bus_schemas.reasons import Reason
from bus_schemas.reports import Result
from bus_schemas.routing import AgentOffer
from node_agent.attempt import Exit
from node_agent.run_dir import RunDir


class Launch(Struct, frozen=True):
    """A program to start in the worktree. `files` are written into the run's folder before.

    `hands_over` is the type of the result that it may write to `QD_RESULT`; with `must_hand_over`, has to. Where
    `exit_is_answer`, an exit code other than 0 answers the question and is no failure.
    """

    argv: tuple[str, ...]
    files: dict[str, bytes] = {}
    env: dict[str, str] = {}
    hands_over: type[Result] | None = None
    must_hand_over: bool = False
    exit_is_answer: bool = False


class Answer(NamedTuple):
    """A result for which nothing needs to be started."""

    result: Result


class Refusal(NamedTuple):
    """Why the order cannot be done."""

    reason: Reason
    detail: str


class Agent(Protocol):
    """An adapter."""

    def offer(self) -> AgentOffer:
        """Return its name, version and models."""
        ...

    def launch(self, order: WorkOrder, run: RunDir) -> Launch | Answer | Refusal:
        """Return what to do for an order. Pure: asked again after a restart, it answers the same."""
        ...

    def result(self, order: WorkOrder, ending: Exit, tail: str, handed: Result | None) -> Result | None:
        """Return the result of a run that did not fail; None for a task, whose result is its commits."""
        ...
