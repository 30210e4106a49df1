"""The state diagram in the docs is the table."""

from __future__ import annotations

import importlib.util
from pathlib import Path

DOCS = Path(__file__).parents[3] / "docs"


def test_the_state_diagram_in_the_docs_is_drawn_from_the_table() -> None:
    spec = importlib.util.spec_from_file_location("draw_states", DOCS / "draw_states.py")
    assert spec is not None
    assert spec.loader is not None
    drawing = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(drawing)
    page = (DOCS / "architecture.md").read_text()

    assert drawing.drawn(page) == page, "run `uv run python docs/draw_states.py`"
    assert "executing --> reviewing: verify" in page
