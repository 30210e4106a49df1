"""`python -m cli` is `qd`."""

import sys

from cli.main import run

sys.exit(run())
