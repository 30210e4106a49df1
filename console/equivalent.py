"""The command line that does the same as a control of the console. Pure."""

from __future__ import annotations

import json
import shlex
from typing import Any

from bus_schemas import commands as c
from bus_schemas.policy import Role

_STDIN = "-"

OfCatalogue = (
    c.ProjectAdd | c.ProjectEdit | c.DesignAdd | c.DesignEdit | c.DesignMark | c.DesignMove | c.TicketAdd | c.TicketEdit | c.TicketMove | c.CommentAdd
)
"""The commands that change the catalogue."""


def command_line(command: c.Command, *, reason: str | None = None) -> str:
    """Return the `qd` command line that sends the same command. A long text stands as `-`: it is read from stdin."""
    words = ["qd", *_words(command)]
    if reason:
        words += ["--reason", reason]
    return " ".join(shlex.quote(word) for word in words)


def _words(command: c.Command) -> list[str]:
    match command:
        case c.Launch():
            return _launch(command)
        case c.Pause():
            return ["pause", command.orchestration, "--mode", command.mode.value]
        case c.Resume():
            return ["resume", command.orchestration]
        case c.Cancel():
            return ["cancel", command.orchestration, *(["--abandon"] if command.abandon else []), "--yes"]
        case c.Retry():
            phase = ["--phase", command.phase] if command.phase is not None else []
            return ["retry", command.orchestration, *phase, *(["--task", str(command.task)] if command.task is not None else [])]
        case c.GateApprove():
            return ["gate", "approve", command.orchestration, *(["--note", command.note] if command.note else [])]
        case c.GateReject():
            return ["gate", "reject", command.orchestration, "--feedback", command.feedback]
        case c.PolicySet():
            return ["policy", "set", command.orchestration, *_assignments(command.patch), "--if-revision", str(command.target_revision)]
        case c.RoleModelSet():
            return ["policy", "model", command.orchestration, command.role, command.model, "--if-revision", str(command.target_revision)]
        case c.TaskEdit() | c.TaskModelSet() | c.TaskSkip() | c.TaskInsert():
            return _task(command)
        case c.NodeCordon():
            return ["node", "cordon", command.node]
        case c.NodeUncordon():
            return ["node", "uncordon", command.node]
        case c.NodeDrain():
            return ["node", "drain", command.node]
        case c.FlagSet():
            return ["flag", "set", command.flag, "on" if command.on else "off"]
        case c.FlagRollback():
            return ["flag", "rollback", command.action]
        case _:
            return _catalogue(command)


def _assignments(patch: dict[str, Any]) -> list[str]:
    return [f"{section}.{name}={_text(value)}" for section, fields in patch.items() for name, value in fields.items()]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _launch(command: c.Launch) -> list[str]:
    words = ["launch", command.design, "--node", command.node]
    words += ["--feature", command.feature] if command.feature is not None else []
    for ticket in command.tickets:
        words += ["--ticket", ticket]
    words += ["--preset", command.preset] if command.policy is None else ["--policy", _STDIN]
    overrides = dict(command.overrides)
    models = overrides.get("model", {})
    if set(models) == {role.value for role in Role} and len(set(models.values())) == 1:
        words += ["--model", str(models[Role.PLANNER.value])]
        del overrides["model"]
    for assignment in _assignments(overrides):
        words += ["--set", assignment]
    words += ["--branch", command.branch] if command.branch is not None else []
    for name, value in command.labels.items():
        words += ["--label", f"{name}={value}"]
    return words


def _task(command: c.TaskEdit | c.TaskModelSet | c.TaskSkip | c.TaskInsert) -> list[str]:
    revision = ["--if-revision", str(command.target_revision)]
    match command:
        case c.TaskEdit():
            words = ["task", "edit", command.orchestration, command.phase, str(command.task), *revision]
            words += ["--subject", command.subject] if command.subject is not None else []
            return words + (["--description", _STDIN] if command.description is not None else [])
        case c.TaskModelSet():
            return ["task", "model", command.orchestration, command.phase, str(command.task), command.model or "policy", *revision]
        case c.TaskSkip():
            return ["task", "skip", command.orchestration, command.phase, str(command.task), *revision]
        case c.TaskInsert():
            words = ["task", "insert", command.orchestration, command.phase, "--after", str(command.after), "--subject", command.subject]
            words += ["--depends-on", ",".join(map(str, command.depends_on)) or "none", *revision]
            words += ["--model", command.model] if command.model is not None else []
            words += ["--blocks", ",".join(map(str, command.blocks)) or "none"] if command.blocks is not None else []
            return words + (["--description", _STDIN] if command.description else [])


def _catalogue(command: OfCatalogue) -> list[str]:
    match command:
        case c.ProjectAdd():
            words = ["project", "add", command.project, "--repo", command.repo, "--default-branch", command.default_branch]
            return words + _options(name=command.name, check=command.check)
        case c.ProjectEdit():
            options = _options(repo=command.repo, name=command.name, default_branch=command.default_branch, check=command.check)
            return ["project", "edit", command.project, *options]
        case c.DesignAdd():
            marks = [word for marker in command.markers for word in ("--mark", marker)]
            return ["design", "add", command.project, "--title", command.title, "--file", _STDIN, "--complexity", command.complexity.value, *marks]
        case c.DesignEdit():
            complexity = None if command.complexity is None else command.complexity.value
            return ["design", "edit", command.design, *_options(title=command.title, file=_dash(command.body), complexity=complexity)]
        case c.DesignMark():
            return ["design", "mark", command.design, command.marker, *([] if command.completed else ["--clear"])]
        case c.DesignMove():
            return ["design", "move", command.design, command.status.value]
        case c.TicketAdd():
            options = _options(design=command.design, file=_dash(command.body or None), priority=command.priority.value)
            return ["ticket", "add", command.project, "--title", command.title, *options]
        case c.TicketEdit():
            priority = None if command.priority is None else command.priority.value
            options = _options(title=command.title, file=_dash(command.body), design=command.design, priority=priority)
            return ["ticket", "edit", command.ticket, *options]
        case c.TicketMove():
            return ["ticket", "move", command.ticket, command.status.value]
        case c.CommentAdd():
            noun = "design" if command.target.rpartition("-")[2].startswith("d") else "ticket"
            return [noun, "comment", command.target, command.body]


def _dash(text: str | None) -> str | None:
    return None if text is None else _STDIN


def _options(**values: str | None) -> list[str]:
    return [word for name, value in values.items() if value is not None for word in (f"--{name.replace('_', '-')}", value)]
