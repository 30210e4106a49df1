"""`qd open`: the console in a browser, by a link that works once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cli import completing, folders, registration
from cli.arguments import any_id
from cli.context import Ctx
from cli.exits import Exit
from cli.failure import Failure

PLACES = {"o": "orchestrations", "d": "designs", "t": "tickets"}


def open_(
    name: Annotated[str | None, Parameter(name="ID", completer=completing.orchestrations)] = None,
    /,
    *,
    data: Annotated[str | None, Parameter(help="The data folder of the console. Default: that of the `qd up` that runs.")] = None,
    print_: Annotated[bool, Parameter(name="--print", help="Only print the link.")] = False,
    ctx: Ctx,
) -> int:
    """Open the console, or the page of ID in it, in a browser.

    The link logs one browser in, once; without a terminal, or with --print, it is only printed.
    """
    folder = _folder(data)
    try:
        address = (folder / "address").read_text().strip()
        token = (folder / "login-token").read_text().strip()
    except OSError as error:
        text = f"no console keeps its things in {folder}: {error.strerror}"
        raise Failure("unreachable", text, hint="Start `qd up`, or name the folder of `qd serve console` with --data.") from error
    link = f"{address}/login?token={token}"
    if name is not None:
        wanted = any_id(name)
        place = PLACES.get(wanted.rpartition("-")[2][0])
        link += f"&next=/{place}/{wanted}" if place is not None else f"&next=/audit?action={wanted}"
    if not ctx.out.one("link", {"url": link}, link):
        ctx.out.line(link)
    if not print_ and ctx.out.may_ask:
        import webbrowser

        webbrowser.open(link)
    return Exit.DONE


def _folder(data: str | None) -> Path:
    if data is not None:
        return Path(data).absolute()
    found = registration.read(folders.state_dir())
    return (Path(found.data) if found is not None and registration.is_alive(found) else folders.data_dir()) / "console"
