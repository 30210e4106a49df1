"""Run a timeline in the foreground: `python -m timeline`. Configuration by environment (`QD_TIMELINE_*`)."""

from __future__ import annotations

import sys
from functools import partial

from bus.foreground import run_service
from timeline.config import TimelineConfig
from timeline.service import serve

if __name__ == "__main__":
    sys.exit(run_service("timeline", partial(serve, TimelineConfig()), with_duckdb=True))  # type: ignore[call-arg]
