"""Which bus to talk to, and as whom: from the options and the registration of a running `qd up`. Pure but for reading the token."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from bus.connection import Credentials
from bus_schemas import ids
from bus_schemas.subjects import LOCAL_PRINCIPAL
from cli import registration
from cli.exits import UNREACHABLE
from cli.failure import Failure, usage
from cli.options import Options
from cli.registration import Registration

PORT_DEFAULT = 4222
SCHEMES = ("nats", "tls", "ws", "wss")


class Endpoint(NamedTuple):
    """A bus and how it knows us."""

    url: str
    credentials: Credentials


def normal_url(text: str) -> str:
    """Return a bus URL with its scheme. Raises Failure (usage)."""
    url = text if "://" in text else f"nats://{text}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise usage(f"--server {text[:80]!a} is not a URL: {error}") from error
    if parts.scheme not in SCHEMES or not parts.hostname or port == 0 or not url.isprintable() or " " in url:
        raise usage(f"--server {text[:80]!a} is not the URL of a bus; write nats://HOST:PORT")
    return url


def same_place(one: str, other: str) -> bool:
    """Return whether two URLs lead to the same server: host and port, however loopback is written."""
    return _place(one) == _place(other)


def _place(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    host = parts.hostname or ""
    return ("127.0.0.1" if host in ("localhost", "::1") else host), parts.port or PORT_DEFAULT


def resolve(options: Options, state_dir: Path) -> Endpoint:
    """Return where to connect and as whom. Raises Failure: usage, or unreachable where no bus is named and none is registered."""
    registered = registration.read(state_dir)
    alive = registered is not None and registration.is_alive(registered)
    if options.server is not None:
        url = normal_url(options.server)
        ours = registered if registered is not None and alive and same_place(url, registered.url) else None
    elif registered is None:
        raise Failure(UNREACHABLE, "no bus is named, and no `qd up` is registered on this machine")
    elif not alive:
        raise Failure(UNREACHABLE, f"the `qd up` that was registered here (process {registered.pid}, {registered.url}) is gone")
    else:
        url, ours = registered.url, registered
    return Endpoint(url, _credentials(options, ours))


def _credentials(options: Options, registered: Registration | None) -> Credentials:
    principal = ids.principal(options.principal) if options.principal is not None else LOCAL_PRINCIPAL
    if options.creds is not None:
        if options.principal is None:
            raise usage("--creds needs --principal NAME (or QD_PRINCIPAL): who you are on the bus")
        if options.token_file is not None:
            raise usage("--creds and --token-file exclude each other")
        _readable("--creds", options.creds)
        return Credentials(principal, seed_file=Path(options.creds))
    if options.token_file is not None:
        return Credentials(principal, token=_readable("--token-file", options.token_file).strip())
    if registered is not None:
        return Credentials(principal, token=_readable("the token file of `qd up`", registered.token_file).strip())
    return Credentials(principal)


def _readable(what: str, path: str) -> str:
    try:
        text = Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise usage(f"{what} {path[:200]} cannot be read: {error}") from error
    if not text.strip():
        raise usage(f"{what} {path[:200]} is empty")
    return text
