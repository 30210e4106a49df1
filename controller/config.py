"""Configuration of the controller: environment (`QD_CONTROLLER_*`) and arguments → one frozen value, once."""

from __future__ import annotations

import socket
import uuid
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from bus.connection import Credentials
from bus_schemas.subjects import LOCAL_PRINCIPAL


def _owner() -> str:
    return f"{socket.gethostname()[:40]}-{uuid.uuid4().hex[:8]}"


class ControllerConfig(BaseSettings):
    """Where the bus is, who we are there, and what we allow."""

    model_config = SettingsConfigDict(env_prefix="QD_CONTROLLER_", frozen=True)

    server: str = "nats://127.0.0.1:4222"
    principal: str = LOCAL_PRINCIPAL
    token: str | None = Field(default=None, repr=False)
    seed_file: Path | None = None
    data: Path | None = None
    owner: str = Field(default_factory=_owner)
    allow_unsafe_sync: bool = False

    @property
    def credentials(self) -> Credentials:
        """How the bus knows us."""
        return Credentials(self.principal, self.token, self.seed_file)
