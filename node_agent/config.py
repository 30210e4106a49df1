"""Configuration of a node agent."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from bus.connection import Credentials
from bus_schemas.ids import node_id
from bus_schemas.subjects import LOCAL_PRINCIPAL


class NodeConfig(BaseModel):
    """What a node agent is told at its start. `data` belongs to one node agent alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    server: str
    name: Annotated[str, AfterValidator(node_id)]
    data: Path
    principal: str | None = None
    """Who it is on the bus. None: the node's own name with a seed file, else `local`."""
    token: str | None = None
    seed_file: Path | None = None
    labels: dict[str, str] = {}
    capacity: Annotated[int, Field(ge=1, le=4096)] = 2
    drain_grace_s: Annotated[float, Field(ge=0)] = 20.0
    """How long running attempts may go on after a drain began."""
    leave_running: bool = True
    """Whether processes go on under their shims when the node agent ends, to be adopted at its next start; else they are stopped."""
    stop_grace_s: Annotated[float, Field(ge=0)] = 5.0
    """Between TERM and KILL."""
    idle_s: Annotated[float, Field(gt=0)] | None = None
    """A run that prints nothing for so long is stopped; None: only its time limit counts."""
    containment: Literal["auto", "namespace", "userns", "sweep"] = "auto"

    @property
    def credentials(self) -> Credentials:
        """Who it is, and how that is proven."""
        principal = self.principal or (self.name if self.seed_file else LOCAL_PRINCIPAL)
        return Credentials(principal=principal, token=self.token, seed_file=self.seed_file)
