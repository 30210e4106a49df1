"""The list of mutants that nothing can tell from the original does not outlive the lines it speaks of."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutation.equivalent import Change, change_of, known

CONTROLLER = Path(__file__).parents[2] / "controller"


@pytest.mark.parametrize("change", known(), ids=lambda change: change.function)
def test_what_is_listed_still_stands_in_the_code(change: Change) -> None:
    module, _, name = change.function.partition(".")
    source = (CONTROLLER / f"{module}.py").read_text()

    assert f"def {name.rpartition('.')[2]}(" in source
    assert change.before in {line.strip() for line in source.splitlines()}
    assert change.before != change.after


def test_every_reason_is_given() -> None:
    assert all(len(why) > 20 for why in known().values())


def test_a_change_is_read_from_a_diff() -> None:
    diff = "# x: survived\n--- a\n+++ b\n@@ -1,2 +1,2 @@\n def f():\n-    return 1\n+    return 2\n"

    assert change_of("m.f", diff) == Change("m.f", "return 1", "return 2")
