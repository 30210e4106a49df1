"""A long ledger, made fast: one orchestration is decided by the core, and its bytes are written again under other numbers. Pure.

Each orchestration is launched, fails at its first run, and is then cancelled and retried in vain: three keys, three receipts,
one run, and the events that the core records for that. What comes out is a valid ledger that any controller folds.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import msgspec

from bench import work
from bench.replay import Core
from bus_schemas import codec
from bus_schemas import commands as c
from bus_schemas import events as e
from bus_schemas.decisions import CORE_VERSION, Decision, TimerCause
from bus_schemas.entities import FLAGS_ON_AT_FIRST, Node, Project
from bus_schemas.ids import PLANE, NodeId, ProjectId
from bus_schemas.reasons import Reason
from bus_schemas.reports import Ended, Outcome, Started

KEYS_EACH = 3
MESSAGE_ORCHESTRATIONS = 80
"""In one message: about as much as group commit puts into one under load."""

_NUMBER = 888_888_888_888
_ACTION = 777_777_777_771
_EVERY = timedelta(milliseconds=100)


def preset_keys(number: int) -> tuple[str, ...]:
    """Return the keys of an orchestration."""
    return tuple(f"growth-{verb}-{number}" for verb in ("launch", "cancel", "retry"))


def head_of(plane: Core) -> list[tuple[str, Decision]]:
    """Return the decisions that make the registry and the project, each with its subject's project."""
    nodes = [e.NodeRegistered(Node(NodeId(name), capacity=work.NODE_CAPACITY, agents=work.OFFERS)) for name in work.NODES]
    flags = [e.FlagChanged(flag.value, True) for flag in FLAGS_ON_AT_FIRST]
    project = e.ProjectAdded(Project(ProjectId(work.PROJECT), "Bench", "/nowhere"))
    registry = Decision(at=plane.context.now, cause=TimerCause("bench"), events=(*flags, *nodes, project))
    return [(PLANE, registry), (work.PROJECT, plane.decisions[0])]


class Template:
    """The bytes of one orchestration's decisions, with numbers to be put in."""

    def __init__(self) -> None:
        """Let the core decide one, with numbers that stand nowhere else."""
        core = Core()
        self.head = head_of(core)
        core.decisions = []
        core.state = msgspec.structs.replace(core.state, orchestration_count=_NUMBER - 1, action_count=_ACTION - 1)
        keys = preset_keys(_NUMBER)
        launched = core.command(work.launch(_NUMBER, "growth"), keys[0])
        assert launched.action is not None
        orchestration = launched.action.orchestration
        assert orchestration is not None, launched.action
        (run,) = core.state.orchestrations[orchestration].open_runs()
        core.report(run, Started(codec.VERSION, "boot", "claim", core.context.now), "started")
        ended = Ended(codec.VERSION, Outcome.FAILED, core.context.now, reason_code=Reason.CLI_EXIT_NONZERO.value)
        core.report(run, ended, "ended")
        core.command(c.Cancel(orchestration), keys[1])
        core.command(c.Retry(orchestration), keys[2])
        self._text = b",".join(codec.encode(decision) for decision in core.decisions)
        self.decisions = len(core.decisions)
        self.events = sum(len(decision.events) for decision in core.decisions)
        self._second = core.context.now.strftime("%Y-%m-%dT%H:%M:%S").encode()

    def decisions_of(self, number: int, first_action: int, at: datetime) -> bytes:
        """Return the decisions of orchestration `number`, whose actions are numbered from `first_action` on."""
        text = self._text.replace(str(_NUMBER).encode(), str(number).encode())
        for index in range(KEYS_EACH):
            text = text.replace(str(_ACTION + index).encode(), str(first_action + index).encode())
        return text.replace(self._second, at.strftime("%Y-%m-%dT%H:%M:%S").encode())


def message(project: str, prev: str, plane_seq: int, decisions: bytes) -> bytes:
    """Return a ledger message that holds encoded decisions."""
    head = {"v": codec.VERSION, "type": "ledger-message", "project": project, "batch": "0" * 32, "by": "bench", "prev": prev}
    rest = codec.encode({**head, "plane_seq": plane_seq, "core": CORE_VERSION})
    return rest[:-1] + b',"decisions":[' + decisions + b"]}"


def messages(template: Template, first: int, last: int, first_action: int) -> Iterator[bytes]:
    """Yield for each message of orchestrations `first` to `last` its encoded decisions."""
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    for start in range(first, last + 1, MESSAGE_ORCHESTRATIONS):
        numbers = range(start, min(start + MESSAGE_ORCHESTRATIONS, last + 1))
        yield b",".join(template.decisions_of(n, first_action + KEYS_EACH * (n - first), begin + n * _EVERY) for n in numbers)
