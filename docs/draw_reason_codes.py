"""Write docs/reason-codes.md from the codes and their explanations.

Run as `uv run python docs/draw_reason_codes.py`; a test fails while the page and the code differ.
"""

from __future__ import annotations

from pathlib import Path

from bus_schemas.reasons import EXPLANATIONS, Reason, category
from cli.exits import exit_of

PAGE = Path(__file__).parent / "reason-codes.md"

HEAD = """\
# Reason codes

<!-- written by docs/draw_reason_codes.py -->

Every refusal and every failure has exactly one reason code, chosen where it arises and never guessed from a text. It stands in
the receipt, in the ledger, in the timeline's tables and in what `qd` prints; `qd explain CODE` prints the same as this page.
The category is the prefix. Codes may be added, and a reader keeps one that it does not know. *Exit* is the exit code of the
`qd` command that met the code.
"""

SECTIONS = {
    "validation": "The request was refused. Nothing changed; the refusal is recorded as an action.",
    "dispatch": "A run did not get through its process.",
    "execution": "A run, or an orchestration, did not get through its work.",
}


def page() -> str:
    """Return the page: a table for each category, in the order of the codes."""
    parts = [HEAD]
    for prefix, text in SECTIONS.items():
        rows = [_row(reason) for reason in Reason if category(reason) == prefix]
        parts.append("\n".join([f"## `{prefix}_`", "", text, "", "| code | cause | what to do next | exit |", "|---|---|---|---|", *rows, ""]))
    return "\n".join(parts)


def _row(reason: Reason) -> str:
    cause, next_step = (text.replace("|", "\\|") for text in EXPLANATIONS[reason])
    return f"| `{reason}` | {cause} | {next_step} | {int(exit_of(reason))} |"


if __name__ == "__main__":
    PAGE.write_text(page())
