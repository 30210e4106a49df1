"""Mutants that nothing outside can tell from the original, read from `equivalent.txt`. Pure but for reading that file.

A line is `function ¦ what stood there ¦ what the mutant has there ¦ why nothing can tell`. Such a mutant counts as killed by
nobody and is left out of the score; how many there are is printed beside it.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

FILE = Path(__file__).parent / "equivalent.txt"


class Change(NamedTuple):
    """What a mutant changes: the function, and the lines before and after, without indentation."""

    function: str
    before: str
    after: str


def known() -> dict[Change, str]:
    """Return the reasons by change."""
    found: dict[Change, str] = {}
    for line in FILE.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            function, before, after, why = (part.strip() for part in line.split(" ¦ "))
            found[Change(function, before, after)] = why
    return found


def change_of(function: str, diff: str) -> Change:
    """Return what a diff changes."""
    lines = [line for line in diff.splitlines() if not line.startswith(("+++", "---"))]
    before = " ".join(line[1:].strip() for line in lines if line.startswith("-"))
    after = " ".join(line[1:].strip() for line in lines if line.startswith("+"))
    return Change(function, before, after)
