"""The command line beside a control, read by the command line's own parser, is the command of the control."""

from __future__ import annotations

import io
import shlex
from typing import Any

import msgspec
import pytest

from bus_schemas import commands as c
from bus_schemas.policy import PRESETS, Preset, Role
from cli import main, submission
from console.equivalent import command_line
from tests.golden.commands import COMMANDS

LONG = {c.DesignAdd: "body", c.DesignEdit: "body", c.TicketAdd: "body", c.TicketEdit: "body", c.TaskEdit: "description", c.TaskInsert: "description"}
"""The field that stands as `-`, by type."""
BY_POLICY = c.Launch(design="shop-d3", node="mac-mini-1", policy=msgspec.json.decode(msgspec.json.encode(PRESETS[Preset.STRICT])))


class _Sent(Exception):
    """Ends a verb where it would send."""


def stdin_of(command: c.Command) -> str:
    """Return what the command line reads from stdin."""
    if isinstance(command, c.Launch) and command.policy is not None:
        return msgspec.json.encode(command.policy).decode()
    return getattr(command, LONG.get(type(command), ""), None) or ""


def read_back(line: str, stdin: str, monkeypatch: pytest.MonkeyPatch) -> tuple[c.Command, str | None]:
    """Return the command and the reason that the command line would send."""
    sent: list[Any] = []

    async def keep(session: Any, command: c.Command, options: Any, *rest: Any) -> Any:
        sent.append((command, options.reason))
        raise _Sent

    class Stdin(io.TextIOWrapper):
        def isatty(self) -> bool:
            return False

    monkeypatch.setattr(submission, "write", keep)
    monkeypatch.setattr(submission, "submit", keep)
    monkeypatch.setattr("sys.stdin", Stdin(io.BytesIO(stdin.encode()), encoding="utf-8"))
    words = shlex.split(line)
    assert words[0] == "qd"
    main.execute([*words[1:], "--server", "nats://127.0.0.1:9"])
    assert len(sent) == 1, f"{line} sends nothing"
    found: tuple[c.Command, str | None] = sent[0]
    return found


SAMPLES = (
    *COMMANDS,
    BY_POLICY,
    c.Launch(design="shop-d3", node="auto", overrides={"model": {role.value: "shell" for role in Role}, "flow": {"human_gates": []}}),
    c.Launch(design="shop-d3", node="auto", overrides={"model": {"planner": "opus"}, "flow": {"budget_usd": None, "phases_enabled": [1, 3]}}),
    c.Launch(design="shop-d3", node="auto", feature='it\'s "quoted" $HOME `x` \\ ; rm -rf'),
    c.Pause("shop-o1"),
    c.Cancel("shop-o1"),
    c.Retry("shop-o1"),
    c.GateApprove("shop-o1"),
    c.GateReject("shop-o1", "-leading hyphen\nand two lines"),
    c.GateApprove("shop-o1", "--note"),
    c.CommentAdd("shop-d3", "- a list"),
    c.TaskSkip("shop-o1", "1.5", 4, 1),
    c.TaskModelSet("shop-o1", "2", 3, 2, None),
    c.TaskEdit("shop-o1", "1", 2, 1, subject="only this"),
    c.TaskEdit("shop-o1", "1", 2, 1, subject="-x", description="--y"),
    c.TaskInsert("shop-o1", "2", 0, "First", (), 5),
    c.TaskInsert("shop-o1", "2", 0, "First", (), 5, blocks=()),
    c.DesignAdd("shop", "- leading", "# T\n"),
    c.TicketAdd("shop", "-x"),
    c.DesignMark("shop-d3", "scope_bounded"),
    c.FlagSet("cp.launch", True),
    c.PolicySet("shop-o1", {"flow": {"budget_usd": None}, "review": {"require_tests": False}}, 1),
    c.PolicySet("shop-o1", {"flow": {"human_gates": ["plan", "finalize"], "phases_enabled": None}}, 2),
)


@pytest.mark.parametrize("command", SAMPLES, ids=lambda command: c.type_of(command))
def test_the_command_line_of_a_control_sends_the_same_command(command: c.Command, monkeypatch: pytest.MonkeyPatch) -> None:
    found, reason = read_back(command_line(command, reason='Bob\'s "why"'), stdin_of(command), monkeypatch)
    assert found == command
    assert reason == 'Bob\'s "why"'


def test_every_command_type_has_a_sample_here() -> None:
    assert {c.type_of(command) for command in SAMPLES} == set(c.COMMAND_TYPES)


def test_a_command_line_stays_one_word_per_value_in_a_shell() -> None:
    line = command_line(c.GateReject("shop-o1", "$(touch x); `y` 'z'\n&& w"))
    assert shlex.split(line) == ["qd", "gate", "reject", "shop-o1", "--feedback", "$(touch x); `y` 'z'\n&& w"]


def test_no_reason_is_no_option() -> None:
    assert "--reason" not in command_line(c.Resume("shop-o1"), reason="")
