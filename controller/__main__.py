"""Run a controller in the foreground: `python -m controller`. Configuration by environment (`QD_CONTROLLER_*`)."""

from __future__ import annotations

import sys
from functools import partial

from bus.foreground import run_service
from controller.config import ControllerConfig
from controller.service import serve

if __name__ == "__main__":
    sys.exit(run_service("controller", partial(serve, ControllerConfig())))
