"""What the client prints: data on stdout, everything else on stderr. Owns both streams.

A program that reads JSON never pays for what draws tables.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any, TextIO

import msgspec

from cli.failure import Failure
from cli.options import Options
from cli.table import Table, drawn, painted

WIDTH_WITHOUT_TERMINAL = 120


class Output:
    """The two streams of one run of the client, used as the options say."""

    def __init__(self, options: Options, stdout: TextIO | None = None, stderr: TextIO | None = None) -> None:
        """Print to the process's own streams unless others are given."""
        self.options = options
        self._stdout, self._stderr = stdout or sys.stdout, stderr or sys.stderr
        self._progress = ""

    @property
    def zone(self) -> tzinfo | None:
        """In which zone humans see times; None is the machine's own."""
        return UTC if self.options.utc else None

    @property
    def now(self) -> datetime:
        """The time by which ages are told."""
        return datetime.now(UTC)

    @property
    def is_terminal(self) -> bool:
        """Whether a human looks at stdout right now."""
        return self._stdout.isatty()

    @property
    def may_ask(self) -> bool:
        """Whether a question would be seen and answered."""
        return not self.options.no_input and not os.environ.get("CI") and sys.stdin.isatty() and self._stderr.isatty()

    # ── stdout ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def one(self, noun: str, thing: Mapping[str, Any], name: str) -> bool:
        """Print one thing for a program or as its name; return False where a human is to see it."""
        if self.options.is_json:
            self.json({"schema": f"qd.{noun}/1", **thing})
        elif self.options.output == "name":
            self.line(name)
        else:
            return False
        return True

    def many(self, noun: str, answer: Mapping[str, Any], name: str) -> bool:
        """Print the `items` of an answer for a program or as names; return False where a human is to see them."""
        items = answer["items"]
        if self.options.output == "json":
            extra = {key: value for key, value in answer.items() if key not in ("items", "next")}
            self.json({"schema": f"qd.{noun}-list/1", "items": items, "next": answer.get("next"), **extra})
        elif self.options.output == "ndjson":
            self.ndjson(noun, items)
        elif self.options.output == "name":
            for item in items:
                self.line(str(item[name]))
        else:
            return False
        return True

    def ndjson(self, noun: str, items: Iterable[Mapping[str, Any]]) -> None:
        """Print each item as one line of JSON."""
        for item in items:
            self.json({"schema": f"qd.{noun}/1", **item})

    def json(self, value: Any) -> None:
        """Print a value as one line of JSON."""
        self._write(self._stdout, msgspec.json.encode(value).decode() + "\n")

    def line(self, text: str = "") -> None:
        """Print a line."""
        self._write(self._stdout, text + "\n")

    def raw(self, text: str) -> None:
        """Print text as it is, at once."""
        self._write(self._stdout, text)

    def table(self, table: Table, *, empty: str) -> None:
        """Draw a table in the width of the terminal; ids are never cut. An empty one says `empty` on stderr."""
        if not table.rows:
            self.note(empty)
            return
        head, *rows = drawn(table, self.width)
        self.lines([(head, "bold"), *((row, "") for row in rows)])

    def lines(self, lines: Iterable[tuple[str, str]]) -> None:
        """Print lines, each in its style where there is colour; a line without one is coloured by the sign in it."""
        colored = self.has_color
        self.raw("".join(f"{painted(text, style) if colored else text}\n" for text, style in lines))

    @property
    def width(self) -> int:
        """How many columns a line has: of the terminal, or of COLUMNS."""
        return shutil.get_terminal_size((WIDTH_WITHOUT_TERMINAL, 40)).columns

    @property
    def has_color(self) -> bool:
        """Whether stdout is shown in colour."""
        if self.options.color == "auto":
            return self.is_terminal and os.environ.get("TERM") != "dumb"
        return self.options.color == "always"

    def flush(self) -> None:
        """Give the reader what is still in hand. Raises BrokenPipeError."""
        self._stdout.flush()
        self._stderr.flush()

    # ── stderr ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def note(self, text: str) -> None:
        """Say something to a human; programs and `--quiet` do not hear it."""
        if not self.options.quiet and not self.options.is_json:
            self._say(text)

    def detail(self, text: str) -> None:
        """Say something that only `--verbose` asks for."""
        if self.options.verbose:
            self._say(text)

    def warn(self, text: str) -> None:
        """Say something that should not be missed, also beside JSON."""
        self._say(f"warning: {text}")

    def failure(self, failure: Failure) -> None:
        """Print a failure: one JSON object, or its lines."""
        if self.options.is_json:
            self._say(msgspec.json.encode(failure.as_object()).decode())
        else:
            self._say(failure.as_text())

    def progress(self, text: str) -> None:
        """Show where a wait stands: on a terminal one line that is written over, else nothing. Empty text removes it."""
        if self.options.quiet or not self._stderr.isatty() or os.environ.get("TERM") == "dumb":
            return
        width = shutil.get_terminal_size((80, 24)).columns - 1
        if self._progress or text:
            self._write(self._stderr, f"\r\x1b[2K{text[:width]}")
        self._progress = text

    def ask(self, question: str) -> str:
        """Return what a human answers. Callers look at `may_ask` first."""
        self._write(self._stderr, question)
        return sys.stdin.readline().strip()

    def _say(self, text: str) -> None:
        shown, self._progress = self._progress, ""
        self._write(self._stderr, ("\r\x1b[2K" if shown else "") + text + "\n")

    def _write(self, stream: TextIO, text: str) -> None:
        if stream is self._stdout and self._progress:
            self.progress("")
        stream.write(text)
        stream.flush()
