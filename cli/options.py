"""Global options: they stand at any position of the command line, and have defaults in the environment and in two files. Pure.

Precedence: flag > environment > `./quarterdeck.toml` > user file > default. A file in the current folder may come with
somebody's repository, so it may only choose the server and the output, never which secret is sent there.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from cli.durations import parse_duration_s
from cli.failure import usage

TIMEOUT_S_DEFAULT = 30.0
OUTPUTS = ("table", "json", "ndjson", "name", "csv")
"""`csv` is for `qd sql` and `qd report` alone."""
COLORS = ("auto", "always", "never")


class GlobalOption(NamedTuple):
    """A global option. `metavar` is empty for a flag; `choices` empty where anything goes."""

    name: str
    flags: tuple[str, ...]
    metavar: str
    help: str
    env: str = ""
    choices: tuple[str, ...] = ()
    in_project_file: bool = False


GLOBAL_OPTIONS: tuple[GlobalOption, ...] = (
    GlobalOption("server", ("--server",), "URL", "The bus, like nats://127.0.0.1:4222. Default: the one that `qd up` runs.", "QD_SERVER", (), True),
    GlobalOption("principal", ("--principal",), "NAME", "Who you are on the bus; with --creds.", "QD_PRINCIPAL"),
    GlobalOption("creds", ("--creds",), "FILE", "Your nkey seed file.", "QD_CREDS"),
    GlobalOption("token_file", ("--token-file",), "FILE", "A file with the bus token. Default: the one that `qd up` registered.", "QD_TOKEN_FILE"),
    GlobalOption("output", ("--output", "-o"), "FORMAT", "table, json, ndjson or name; csv too for sql and report.", "QD_OUTPUT", OUTPUTS, True),
    GlobalOption("quiet", ("--quiet", "-q"), "", "Say nothing on stderr but errors."),
    GlobalOption("verbose", ("--verbose", "-v"), "", "Say more on stderr."),
    GlobalOption("no_input", ("--no-input",), "", "Never ask; what would have been asked is an error."),
    GlobalOption("yes", ("--yes", "-y"), "", "Do what is destructive without asking."),
    GlobalOption("timeout", ("--timeout",), "DURATION", "How long to wait for an answer, or with a wait for its end. Default: 30s.", "QD_TIMEOUT"),
    GlobalOption("color", ("--color",), "WHEN", "auto, always or never; NO_COLOR is honoured.", "QD_COLOR", COLORS),
    GlobalOption("utc", ("--utc",), "", "Show times in UTC.", "QD_UTC"),
)

_BY_FLAG = {flag: option for option in GLOBAL_OPTIONS for flag in option.flags}
_WAITS = {"--wait": "--wait=accepted", "--no-wait": "--wait=no"}


@dataclass(frozen=True)
class Options:
    """What the global options came to. `timeout_s` is None where nobody named one; times in seconds."""

    server: str | None = None
    principal: str | None = None
    creds: str | None = None
    token_file: str | None = None
    output: str = "table"
    quiet: bool = False
    verbose: bool = False
    no_input: bool = False
    yes: bool = False
    timeout_s: float | None = None
    color: str = "auto"
    utc: bool = False

    @property
    def is_json(self) -> bool:
        """Whether a program reads the output."""
        return self.output in ("json", "ndjson")


def split(arguments: list[str]) -> tuple[dict[str, str], list[str]]:
    """Return the global options that were given, wherever they stand, and the other arguments in their order.

    What follows `--` is left alone. `--wait` and `--no-wait`, whose value may be left out, get it here. Raises Failure (usage).
    """
    given: dict[str, str] = {}
    rest: list[str] = []
    waiting = iter(range(len(arguments)))
    for index in waiting:
        argument = arguments[index]
        if argument == "--":
            rest.extend(arguments[index:])
            break
        option, value = _match(argument)
        if option is None:
            rest.append(_WAITS.get(argument, argument))
        elif not option.metavar:
            if value is not None:
                raise usage(f"{argument.split('=')[0]} takes no value")
            given[option.name] = "true"
        else:
            if value is None:
                following = next(waiting, None)
                if following is None:
                    raise usage(f"{argument} needs a value: {option.metavar}")
                value = arguments[following]
            given[option.name] = value
    return given, rest


def _match(argument: str) -> tuple[GlobalOption | None, str | None]:
    flag, equals, value = argument.partition("=")
    option = _BY_FLAG.get(flag)
    if option is not None:
        return option, value if equals else None
    short = _BY_FLAG.get(argument[:2]) if not argument.startswith("--") else None
    if short is not None and short.metavar and len(argument) > 2:
        return short, argument[2:]  # -ojson
    return None, None


def merge(given: Mapping[str, str], environment: Mapping[str, str], project_file: Mapping[str, Any], user_file: Mapping[str, Any]) -> Options:
    """Return the options by precedence. Raises Failure (usage) for values and for keys of the files that are not allowed."""
    _check_file("quarterdeck.toml", project_file, [option.name for option in GLOBAL_OPTIONS if option.in_project_file])
    _check_file("the user's config.toml", user_file, [option.name for option in GLOBAL_OPTIONS if option.name != "yes"])
    values: dict[str, Any] = {}
    for option in GLOBAL_OPTIONS:
        text = _first(option, given, environment, project_file, user_file)
        if text is not None:
            values["timeout_s" if option.name == "timeout" else option.name] = _value(option, text)
    if environment.get("NO_COLOR") and "color" not in given:
        values["color"] = "never"
    return Options(**values)


def _first(option: GlobalOption, given: Mapping[str, str], environment: Mapping[str, str], *files: Mapping[str, Any]) -> str | None:
    if option.name in given:
        return given[option.name]
    if option.env and environment.get(option.env):
        return environment[option.env]
    for file in files:
        if option.name in file:
            value = file[option.name]
            return str(value).lower() if isinstance(value, bool) else str(value)
    return None


def _value(option: GlobalOption, text: str) -> Any:
    if option.name == "timeout":
        try:
            return parse_duration_s(text)
        except ValueError as error:
            raise usage(f"--timeout: {error}") from error
    if not option.metavar:
        return text.lower() in ("1", "true", "yes", "on")
    if option.choices and text not in option.choices:
        raise usage(f"{option.flags[0]} {text[:40]!a} is not known; allowed: {', '.join(option.choices)}")
    if not text:
        raise usage(f"{option.flags[0]} is empty; it needs a value: {option.metavar}")
    return text


def _check_file(name: str, file: Mapping[str, Any], allowed: list[str]) -> None:
    for key in file:
        if key not in allowed:
            near = difflib.get_close_matches(key, allowed, 1)
            raise usage(f"{name}: {key[:60]!a} cannot be set there{f'; did you mean {near[0]}?' if near else ''} (allowed: {', '.join(allowed)})")
