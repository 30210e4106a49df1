"""Run a controller in the foreground: `python -m controller`. Configuration by environment (`QD_CONTROLLER_*`)."""

from __future__ import annotations

import logging
import sys

import anyio

from bus.bootstrap import UnsafeSync
from bus.connection import EX_TEMPFAIL
from bus.errors import Denied
from controller.config import ControllerConfig
from controller.service import ConnectionLost, serve


def main() -> int:
    """Serve until SIGTERM or SIGINT; return the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        anyio.run(serve, ControllerConfig(), backend_options={"use_uvloop": sys.platform != "win32"})
    except* (UnsafeSync, Denied) as group:
        logging.getLogger("controller").critical("%s", group.exceptions[0])
        return 1
    except* ConnectionLost as group:
        logging.getLogger("controller").critical("%s", group.exceptions[0])
        return EX_TEMPFAIL
    except* KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
