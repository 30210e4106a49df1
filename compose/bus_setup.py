"""Write what the bus of compose.yaml is started with into a folder: its configuration, and its token if there is none yet.

Whoever can read the folder may use the bus. Run by the service `setup`, in the image of quarterdeck.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

from bus.embedded import STORE_BYTES_MAX_DEFAULT, configuration

PORT = 4222
MONITOR_PORT = 8222
STORE = Path("/data")


def main(folder: Path) -> None:
    """Make `folder`/token and `folder`/nats.conf."""
    token = folder / "token"
    if not token.exists():
        descriptor = os.open(token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
    text = configuration(
        port=PORT,
        host="0.0.0.0",
        store=STORE,
        store_bytes=int(os.environ.get("QD_STORE_BYTES") or STORE_BYTES_MAX_DEFAULT),
        sync="always",
        authorization=f'authorization {{ token: "{token.read_text()}" }}\nhttp: "0.0.0.0:{MONITOR_PORT}"',
    )
    config = folder / "nats.conf"
    config.touch(mode=0o600, exist_ok=True)
    config.write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
