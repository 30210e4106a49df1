"""What all verbs that change something share: their options, and the way to `cli.submission`.

That module is imported when something is sent, so that a verb which reads, in the same file, does not pay for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from cli.failure import usage
from cli.session import Session

if TYPE_CHECKING:
    from bus_schemas.commands import Command

Wait = Literal["no", "accepted", "done", "end"]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Write:
    """Options of every verb that changes something."""

    idempotency_key: Annotated[str | None, Parameter(help="The same key and request take effect once, for ever. Default: a new one, printed.")] = None
    retry_last: Annotated[bool, Parameter(help="Use the key of your last request of this kind again (it must be the same request).")] = False
    reason: Annotated[str | None, Parameter(allow_leading_hyphen=True, help="Why; it is recorded.")] = None
    dry_run: Annotated[bool, Parameter(help="Only say what would be decided. Exit 20 if something would change.")] = False
    wait: Annotated[
        Wait,
        Parameter(help="Until when to wait: no, accepted, done; for launch also end. --wait alone is accepted, --no-wait is no."),
    ] = "accepted"
    valid_for: Annotated[str | None, Parameter(help="Refuse it as expired if it is not decided in this time, like 30s.")] = None


async def write(session: Session, command: Command, options: Write | None = None, *, about: str | None = None) -> int:
    """Send a command, wait as asked, print its receipt; return the exit code. Raises Failure, and BadId before anything is sent."""
    options = options or Write()
    if options.wait == "end":
        raise usage("--wait=end is for `qd launch` alone; here it is no, accepted or done")
    from cli import submission

    return await submission.write(session, command, options, about)


def confirm(session: Session, what: str, name: str) -> None:
    """Return when a human has agreed to something destructive. Raises Failure (usage) where nobody does."""
    if session.options.yes:
        return
    if not session.out.may_ask:
        raise usage(f"{what} needs --yes where nobody can be asked")
    if session.out.ask(f"{what}. Type {name} to go on: ") != name:
        raise usage("not confirmed; nothing was sent")
