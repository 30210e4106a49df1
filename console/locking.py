"""A page of a read-only console: every control that would change something is greyed and says why. Pure.

What is refused anyway (at the wall) is not offered either. This is done to the finished page, so that no template can forget it.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser

WHY = "this console is read-only"
_CONTROLS = frozenset({"button", "input", "select", "textarea"})
_SAID = re.compile(r"""\s(?:disabled|title="[^"]*"|aria-description="[^"]*")(?=[\s>/])""")
_LOCK = f' disabled title="{WHY}" aria-description="{WHY}" data-locked'


class _Locker(HTMLParser):
    """Copies a page, and greys its controls on the way."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.found: list[str] = []
        self._in_change = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Grey a control that belongs to a change."""
        text = self.get_starttag_text() or ""
        given = dict(attrs)
        if tag == "form":
            self._in_change = "hx-post" in given
        self.found.append(_greyed(text) if tag in _CONTROLS and given.get("type") != "hidden" and self._is_change(given) else text)

    handle_startendtag = handle_starttag

    def _is_change(self, given: dict[str, str | None]) -> bool:
        if "data-copy" in given:
            return False
        return self._in_change or given.get("name") == "reason" or not {"hx-post", "data-command", "form"}.isdisjoint(given)

    def handle_endtag(self, tag: str) -> None:
        """Copy, and note where a form ends."""
        if tag == "form":
            self._in_change = False
        self.found.append(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        """Copy."""
        self.found.append(data)

    def handle_entityref(self, name: str) -> None:
        """Copy."""
        self.found.append(f"&{name};")

    def handle_charref(self, name: str) -> None:
        """Copy."""
        self.found.append(f"&#{name};")

    def handle_comment(self, data: str) -> None:
        """Copy."""
        self.found.append(f"<!--{data}-->")

    def handle_decl(self, decl: str) -> None:
        """Copy."""
        self.found.append(f"<!{decl}>")


def _greyed(text: str) -> str:
    said = _SAID.sub("", text)
    end = "/>" if said.endswith("/>") else ">"
    return said[: -len(end)] + _LOCK + end


def locked(html: str) -> str:
    """Return a page, or patches of one, with every control of a change greyed; all else as it was."""
    locker = _Locker()
    locker.feed(html)
    locker.close()
    return "".join(locker.found)
