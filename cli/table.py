"""A table before it is drawn: columns that know whether they may be cut, rows of text. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple


class Column(NamedTuple):
    """A column. An id is never cut or wrapped; text gives way when the terminal is narrow; a number stands right."""

    title: str
    kind: str = "text"


class Table(NamedTuple):
    """Columns and rows; each row has one text a column."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]


GLYPHS: dict[str, str] = {
    "complete": "✓",
    "completed": "✓",
    "succeeded": "✓",
    "passed": "✓",
    "accepted": "✓",
    "failed": "✗",
    "refused": "✗",
    "lost": "⚡",
    "node_lost": "⚡",
    "timed_out": "✗",
    "blocked": "■",
    "gate": "◆",
    "paused": "‖",
    "pausing": "‖",
    "cancelled": "⊘",
    "cancelling": "⊘",
    "withdrawn": "⊘",
    "skipped": "↷",
    "pending": "·",
    "queued": "·",
}

SIGN_STYLES: dict[str, str] = {
    "✓": "green",
    "✗": "red",
    "⚡": "red",
    "■": "red",
    "◆": "yellow",
    "‖": "yellow",
    "⊘": "dim",
    "↷": "dim",
    "▶": "cyan",
}

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}

GAP = "  "
TEXT_WIDTH_MIN = 6
TEXT_WIDTH_FAIR = 24


def marked(status: str | None) -> str:
    """Return a status with its sign before it; the sign says the same without colour. Nothing for None."""
    return "" if not status else f"{GLYPHS.get(status, '▶')} {status}"


def painted(text: str, style: str) -> str:
    """Return text with the terminal's codes of a style, like `bold green`; without one, each sign and its word get their colour."""
    if style:
        return f"\x1b[{';'.join(_CODES[word] for word in style.split())}m{text}\x1b[0m"
    return _SIGNED.sub(lambda match: painted(match[0], SIGN_STYLES[match[1]]), text)


_SIGNED = re.compile(f"([{''.join(SIGN_STYLES)}])(?: [a-z_]+)?")


def widths(table: Table, width: int) -> list[int]:
    """Return how wide each column is: ids and numbers as they are, texts share what is left of `width`."""
    from rich.cells import cell_len

    natural = [
        max(cell_len(column.title), *(cell_len(row[index]) for row in table.rows)) if table.rows else cell_len(column.title)
        for index, column in enumerate(table.columns)
    ]
    over = sum(natural) + len(GAP) * (len(natural) - 1) - width
    for floor in (TEXT_WIDTH_FAIR, TEXT_WIDTH_MIN):
        while over > 0:
            widest = max((i for i, column in enumerate(table.columns) if column.kind == "text"), key=lambda i: natural[i], default=None)
            if widest is None or natural[widest] <= floor:
                break
            cut = min(over, natural[widest] - floor)
            natural[widest] -= cut
            over -= cut
    return natural


def drawn(table: Table, width: int) -> list[str]:
    """Return the lines of a table: its head, then a line a row. Texts that do not fit end with an ellipsis."""
    from rich.cells import cell_len, set_cell_size

    sizes = widths(table, width)

    def line(cells: Sequence[str]) -> str:
        parts = []
        for text, size, column in zip(cells, sizes, table.columns, strict=True):
            room = size - cell_len(text)
            if room < 0:
                parts.append(set_cell_size(text, size - 1) + "…")
            else:
                parts.append(" " * room + text if column.kind == "number" else text + " " * room)
        return GAP.join(parts).rstrip()

    return [line([column.title for column in table.columns]), *(line(row) for row in table.rows)]
