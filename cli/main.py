"""The entry of `qd`: arguments → verb → exit code. Owns the process: its streams' end, its exit code.

Nothing here knows what a verb does; nothing in a verb ends the process.
"""

from __future__ import annotations

import gc
import inspect
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from cli.failure import Failure
    from cli.output import Output

CSV_VERBS = ("sql", "report")


def run() -> int:
    """Run the command line of this process and end the process; return the exit code of a service.

    A client lives for a fraction of a second. Collecting garbage while it imports, and taking the interpreter apart at its end,
    would each be a tenth of that; it has nothing to put away that the system does not.
    """
    gc.disable()
    code = execute(sys.argv[1:])
    if gc.isenabled():  # a service ran, or a client that stayed
        return code
    os._exit(code)


def execute(arguments: list[str]) -> int:
    """Run one command line; return its exit code, with all output flushed."""
    from cli.exits import INTERRUPTED
    from cli.failure import Failure
    from cli.options import Options, merge, split
    from cli.output import Output

    out = Output(Options(output=_output_asked_for(arguments)))
    try:
        given, rest = split(_utf8(arguments))
        out = Output(merge(given, os.environ, _toml("quarterdeck.toml"), _user_file()))
        code = _call(rest, out)
        out.flush()
        return code
    except Failure as failure:
        return _failed(out, failure)
    except BrokenPipeError:
        return _broken_pipe()
    except KeyboardInterrupt:
        return _failed(out, Failure(INTERRUPTED, "interrupted; what was accepted goes on"))


def _call(rest: list[str], out: Output) -> int:
    from bus_schemas.ids import BadId
    from bus_schemas.reasons import Reason
    from cli.exits import UNEXPECTED
    from cli.failure import Failure

    try:
        return _verb(rest, out)
    except BadId as error:
        raise Failure(Reason.INVALID_PAYLOAD, str(error), hint="Nothing was sent; correct the id.") from error
    except Failure as failure:
        failure.hint = failure.hint.replace("VERB", rest[0] if rest else "")
        raise
    except (BrokenPipeError, KeyboardInterrupt):
        raise
    except Exception as error:
        if out.options.verbose:
            raise
        text = f"{type(error).__name__}: {error}"
        raise Failure(UNEXPECTED, text, hint="Run it again with --verbose to see where, and report it with the output of `qd doctor`.") from error


def _verb(rest: list[str], out: Output) -> int:
    from cyclopts import CycloptsError

    from cli import commands
    from cli.exits import Exit
    from cli.failure import usage
    from cli.session import Session

    try:
        app = commands.build(whole=not rest or rest[0].startswith("-"))
        verb, bound, injected = app.parse_args(rest, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        known = rest[:1] if rest and rest[0] in app else []
        raise usage(" ".join(str(error).split()), hint=f"`{' '.join(['qd', *known])} --help` shows what there is.") from error
    if out.options.output == "csv" and rest[:1] and rest[0] not in CSV_VERBS:
        raise usage("-o csv is for `qd sql` and `qd report` alone")
    session = Session(out.options, out)
    result = verb(*bound.args, **bound.kwargs, **dict.fromkeys(injected, session))
    if inspect.iscoroutine(result):
        from cli import interrupt

        result = interrupt.run(_within(session, result))
    return int(result) if isinstance(result, int) else Exit.DONE


async def _within(session: Any, verb: Coroutine[Any, Any, int | None]) -> int | None:
    async with session:
        return await verb


def _utf8(arguments: list[str]) -> list[str]:
    for number, argument in enumerate(arguments, 1):
        try:
            argument.encode()
        except UnicodeEncodeError as error:
            from bus_schemas.reasons import Reason
            from cli.failure import Failure

            raise Failure(Reason.INVALID_PAYLOAD, f"argument {number} is not valid UTF-8: {ascii(argument)[:60]}") from error
    return arguments


def _output_asked_for(arguments: list[str]) -> str:
    """Return how errors are to look before the options are read: as JSON when that seems to be asked for."""
    text = " ".join(arguments)
    wanted = any(sign in text for sign in ("-o json", "-ojson", "--output json", "--output=json", "-o ndjson", "--output=ndjson"))
    return "json" if wanted or os.environ.get("QD_OUTPUT") in ("json", "ndjson") else "table"


def _toml(path: str) -> dict[str, Any]:
    if not os.path.isfile(path):
        return {}
    import tomllib

    from cli.failure import usage

    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise usage(f"{path} cannot be used: {error}") from error


def _user_file() -> dict[str, Any]:
    from cli import folders

    return _toml(str(folders.user_config_file()))


def _failed(out: Output, failure: Failure) -> int:
    try:
        out.progress("")
        out.failure(failure)
        out.flush()
    except BrokenPipeError:
        return _broken_pipe()
    return failure.exit_code


def _broken_pipe() -> int:
    from cli.exits import Exit

    # what is left in the buffers has no reader; the interpreter must not complain about it at its end
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())
    return Exit.BROKEN_PIPE
