"""Draw the state diagram of an orchestration from the controller's table into docs/architecture.md.

Run as `uv run python docs/draw_states.py`; a test fails while the page and the table differ.
"""

from __future__ import annotations

from pathlib import Path

from bus_schemas.events import OrchestrationStatus
from controller.orchestration import LIVE
from controller.progress import TABLE

PAGE = Path(__file__).parent / "architecture.md"
BEGIN, END = "<!-- states: drawn by docs/draw_states.py -->", "<!-- /states -->"


def draw() -> str:
    """Return the diagram as a Mermaid block: one arrow for each row and status it may lead to."""
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {TABLE[0].requires}: launch"]
    for row in TABLE:
        lines += [f"    {row.requires} --> {then}: {row.report}" for then in row.then if then is not row.requires]
    live = [status for status in OrchestrationStatus if status in LIVE]
    lines += [f"    {status} --> {OrchestrationStatus.CANCELLED}: cancel" for status in live]
    lines += [f"    {status} --> [*]" for status in OrchestrationStatus if status not in LIVE]
    return "\n".join([*lines, "```"])


def drawn(page: str) -> str:
    """Return the page with the diagram between its markers. Raises ValueError where they are missing."""
    head, _, rest = page.partition(BEGIN)
    _, found, tail = rest.partition(END)
    if not found:
        raise ValueError(f"{PAGE.name} has no place for the diagram: {BEGIN} … {END}")
    return f"{head}{BEGIN}\n{draw()}\n{END}{tail}"


if __name__ == "__main__":
    PAGE.write_text(drawn(PAGE.read_text()))
