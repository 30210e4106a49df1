"""The first pass over the mutants: each in a fork of its own, tried with the kept histories by plain calls, without pytest.

Run by `tests.mutation` in the folder that mutmut filled. A mutant that decides a history differently, or fails in it, is killed; the
others are left to mutmut and the whole selection of tests. A fork and fourteen histories take some 50 ms, a run of pytest a second.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path

from mutmut.mutation.trampoline import set_mutant_under_test

from tests.unit.controller.stories import STORIES

CPU_S_MAX = 20
"""For all histories, which take 0.2 s with mutmut's detours: a mutant that needs more goes round for ever."""
FOLDER = Path("tests/unit/controller/histories")
KEPT = {name: [json.loads(line) for line in (FOLDER / f"{name}.jsonl").read_text().splitlines()] for name in STORIES}
LIVED, OTHER = 0, 1


def lived() -> int:
    """Return whether every history is decided as it is kept."""
    try:
        same = all([json.loads(line) for line in story().text().splitlines()] == KEPT[name] for name, story in STORIES.items())
    except BaseException:
        return OTHER  # whatever it is, the original does not raise it
    return LIVED if same else OTHER


def tried(mutant: str) -> bool:
    """Return whether a mutant was killed by the histories."""
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_S_MAX, CPU_S_MAX))
        set_mutant_under_test(mutant)
        os._exit(lived())
    _, status = os.waitpid(child, 0)
    return status != 0


def main() -> int:
    """Try the mutants named on standard input, or all that were not run; note those that were killed where mutmut notes them."""
    set_mutant_under_test("")
    if lived() != LIVED:
        print("the original does not decide the histories as they are kept", file=sys.stderr)
        return 2
    wanted = set(sys.stdin.read().split())
    for path in sorted(Path("controller").glob("*.py.meta")):
        meta = json.loads(path.read_text())
        codes: dict[str, int | None] = meta["exit_code_by_key"]
        for mutant in codes:
            if (not wanted or mutant in wanted) and codes[mutant] is None and tried(mutant):
                codes[mutant] = 1
        path.write_text(json.dumps(meta, indent=4))
    return 0


if __name__ == "__main__":
    sys.exit(main())
