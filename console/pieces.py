"""What of a page's patches has changed since they were sent last. Pure.

A patch is an `<hx-partial>` element. Inside it templates may mark pieces, `<!--piece NAME-->…<!--/piece-->` right inside the element whose
id is NAME: when nothing but pieces has changed, only those are sent. No text of a user can look like a mark: templates escape it.
"""

from __future__ import annotations

import re

_PARTIAL = re.compile(r'<hx-partial hx-target="([^"]*)"[^>]*>.*?</hx-partial>', re.DOTALL)
_PIECE = re.compile(r"<!--piece ([a-z0-9-]+)-->.*?<!--/piece-->", re.DOTALL)
_CLOCK = re.compile(r'(<[a-z]+ [^<>]*data-(?:since|running)="[^"]*"[^<>]*>)[^<]*')


def steady(html: str) -> str:
    """Return HTML without the words of times that go on: each browser counts those on by itself."""
    return _CLOCK.sub(r"\1", html)


def changed(before: str, after: str) -> str:
    """Return the patches of `after` that `before` has not, or has otherwise; all of `after` when it is not made of patches alone."""
    if _PARTIAL.sub("", after).strip():
        return "" if steady(before) == steady(after) else after
    known = {found[1]: found[0] for found in _PARTIAL.finditer(before)}
    return "\n".join(filter(None, (_changed_in(known.get(found[1], ""), found[0]) for found in _PARTIAL.finditer(after))))


def _changed_in(before: str, after: str) -> str:
    """Return nothing for a patch that is the same, the pieces that have changed, or the whole of it when that is not all."""
    if steady(before) == steady(after):
        return ""
    if steady(_frame(before)) != steady(_frame(after)):
        return after
    known = {found[1]: steady(found[0]) for found in _PIECE.finditer(before)}
    pieces = (found for found in _PIECE.finditer(after) if known[found[1]] != steady(found[0]))
    return "\n".join(f'<hx-partial hx-target="#{found[1]}" hx-swap="innerMorph">{found[0]}</hx-partial>' for found in pieces)


def _frame(html: str) -> str:
    return _PIECE.sub(r"<!--piece \1-->", html)
