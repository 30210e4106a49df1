"""Parameters that many verbs share: the session, which is no option, and ids, which a shell can complete. Pure."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from cli import completing
from cli.session import Session

Ctx = Annotated[Session, Parameter(parse=False)]

OrchestrationArgument = Annotated[str, Parameter(name="ID", completer=completing.orchestrations)]
GateArgument = Annotated[str, Parameter(name="ID", completer=completing.gates)]
ProjectArgument = Annotated[str, Parameter(completer=completing.projects)]
DesignArgument = Annotated[str, Parameter(completer=completing.designs)]
TicketArgument = Annotated[str, Parameter(completer=completing.tickets)]
NodeArgument = Annotated[str, Parameter(completer=completing.nodes)]
FlagArgument = Annotated[str, Parameter(completer=completing.flags)]
ProjectFilter = Annotated[str | None, Parameter(completer=completing.projects, help="Only of this project.")]
