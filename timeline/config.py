"""Configuration of the timeline: environment (`QD_TIMELINE_*`) and arguments → one frozen value, once."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from bus.connection import Credentials
from bus_schemas.subjects import LOCAL_PRINCIPAL

MIB = 1024**2


class TimelineConfig(BaseSettings):
    """Where the bus is, who we are there, where the file lives, and what an analyst's statement may use."""

    model_config = SettingsConfigDict(env_prefix="QD_TIMELINE_", frozen=True)

    server: str = "nats://127.0.0.1:4222"
    principal: str = LOCAL_PRINCIPAL
    token: str | None = Field(default=None, repr=False)
    seed_file: Path | None = None
    data: Path
    allow_unsafe_sync: bool = False
    memory_bytes: int = Field(default=1024 * MIB, ge=128 * MIB)
    sql_timeout_s: float = Field(default=5.0, gt=0, le=60)
    sql_memory_bytes: int = Field(default=512 * MIB, ge=64 * MIB)

    @property
    def credentials(self) -> Credentials:
        """How the bus knows us."""
        return Credentials(self.principal, self.token, self.seed_file)

    @property
    def database(self) -> Path:
        """The file that only the timeline opens."""
        return self.data / "timeline.duckdb"

    @property
    def published(self) -> Path:
        """The folder of the copy that analysts' statements read."""
        return self.data / "published"
