"""How a verb gets its session: a parameter that is no option. Pure."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from cli.session import Session

Ctx = Annotated[Session, Parameter(parse=False)]
