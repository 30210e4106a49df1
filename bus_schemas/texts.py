"""Texts: the patterns a field may have to match, in words, and how what was refused may stand in a message. Pure.

A message is kept in the ledger and printed on terminals, so whatever came in from outside stands in it cut and escaped.
"""

from __future__ import annotations

MESSAGE_CHARS_MAX = 600

NOT_BLANK = r"\S"
ONE_LINE = r"^(?=.*\S)[^\x00-\x1f\x7f]*\Z"
REPO = r"^[^\x00-\x1f\x7f-][^\x00-\x1f\x7f]*\Z"
REF = r"^(?!.*(?:\.\.|//|/\.|[/.]\Z|\.lock(?:/|\Z)))[A-Za-z0-9][A-Za-z0-9._/-]*\Z"
NO_NUL = r"^[^\x00]*\Z"
TOKEN = r"^[a-z0-9][a-z0-9-]{0,62}\Z"
MODEL = r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*\Z"
SEVERITY = r"^p[0-2]\Z"

WORDS: dict[str, str] = {
    NOT_BLANK: "that is not blank",
    ONE_LINE: "of one line that is not blank",
    REPO: "of one line that does not start with -",
    REF: "that git takes as a branch, of letters, digits, . _ / and -",
    NO_NUL: "without NUL",
    TOKEN: "of 1-63 a-z, 0-9 and -",
    MODEL: "of letters, digits and . _ : / @ -, starting with a letter or digit",
    SEVERITY: "p0, p1 or p2",
}
"""What each pattern asks for, as it follows `Expected str`."""


def plain(text: str, length: int = MESSAGE_CHARS_MAX) -> str:
    """Return `text` as it may stand in a message: what cannot be printed escaped, cut to `length` characters."""
    shown = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text[:length])
    return shown if len(shown) <= length and len(text) <= length else shown[: length - 3] + "..."


def explained(error: Exception) -> str:
    """Return what a decoder says, with patterns put in words, as it may stand in a message."""
    text = str(error)
    for pattern, words in WORDS.items():
        text = text.replace(f"matching regex {pattern!r}", words)
    return plain(text)
