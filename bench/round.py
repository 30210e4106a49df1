"""One round as a process of its own, so that every round starts with the same client: `python -m bench.round quarterdeck|limit`."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

import anyio
import msgspec

from bench import limit_client, quarterdeck
from bench.figures import Figures
from bench.pipeline import Sizes
from bench.work import Then


def main(arguments: list[str]) -> int:
    """Print the figures of one round as JSON; return the exit code."""
    parser = argparse.ArgumentParser(prog="bench.round")
    parser.add_argument("pipeline", choices=("quarterdeck", "limit"))
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--launches", type=int, required=True)
    parser.add_argument("--singles", type=int, required=True)
    parser.add_argument("--paced-s", type=float, required=True)
    parser.add_argument("--then", type=Then, choices=list(Then), default=Then.FAIL)
    found = parser.parse_args(arguments)
    sizes = Sizes(found.launches, found.singles, found.paced_s)
    if found.pipeline == "limit":
        figures: Figures = anyio.run(partial(limit_client.run, found.data, sizes), backend_options={"use_uvloop": True})
    else:
        figures = anyio.run(partial(quarterdeck.run, found.data, sizes, found.then), backend_options={"use_uvloop": True})
    sys.stdout.buffer.write(msgspec.json.encode(figures) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
