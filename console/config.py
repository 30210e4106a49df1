"""Configuration of the console: environment (`QD_CONSOLE_*`) and arguments → one frozen value, once."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from bus.connection import Credentials
from bus_schemas.subjects import LOCAL_PRINCIPAL

PORT_DEFAULT = 8642
SESSION_S = 12 * 3600.0


class ConsoleConfig(BaseSettings):
    """Where the bus is, who we are there, and where browsers find us.

    Beyond loopback a console needs a certificate: what it is told and what it shows would be read on the way. `hosts` are the names
    by which browsers may call it, beside its own address.
    """

    model_config = SettingsConfigDict(env_prefix="QD_CONSOLE_", frozen=True)

    server: str = "nats://127.0.0.1:4222"
    principal: str = LOCAL_PRINCIPAL
    token: str | None = Field(default=None, repr=False)
    seed_file: Path | None = None
    data: Path
    host: str = "127.0.0.1"
    port: int = Field(default=PORT_DEFAULT, ge=0, le=65535)
    or_free_port: bool = False
    """Whether another port will do where `port` is taken."""
    hosts: tuple[str, ...] = ()
    certificate: Path | None = None
    certificate_key: Path | None = None
    read_only: bool = False
    name: str = "local"
    """What the frame calls this installation, so that nobody takes one for another."""

    @property
    def credentials(self) -> Credentials:
        """How the bus knows us."""
        return Credentials(self.principal, self.token, self.seed_file)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback

    @property
    def is_encrypted(self) -> bool:
        """Whether it speaks TLS."""
        return self.certificate is not None

    @model_validator(mode="after")
    def _safe(self) -> ConsoleConfig:
        if (self.certificate is None) != (self.certificate_key is None):
            raise ValueError("certificate and certificate_key belong together")
        if not self.is_loopback and not self.is_encrypted:
            raise ValueError(f"{self.host} can be reached from other machines: a certificate is needed (certificate, certificate_key)")
        return self
