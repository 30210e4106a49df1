"""A page of a read-only console: what changes something is greyed and says why; nothing else is touched."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import escape

from console.locking import WHY, locked

SAYS = f'disabled title="{WHY}" aria-description="{WHY}" data-locked'


@pytest.mark.parametrize(
    ("html", "greyed"),
    [
        (
            '<form hx-post="/command/x"><button type="submit">Go</button></form>',
            f'<form hx-post="/command/x"><button type="submit" {SAYS}>Go</button></form>',
        ),
        ('<form hx-post="/x"><input required></form>', f'<form hx-post="/x"><input required {SAYS}></form>'),
        ('<form hx-post="/x"><input required/></form>', f'<form hx-post="/x"><input required {SAYS}/></form>'),
        ('<button data-command="Cancel o1…" disabled title="it is complete" aria-description="it is complete">x</button>', None),
        ('<button type="button" hx-post="/x">x</button>', None),
        ('<input type="checkbox" form="bulk" name="ids">', None),
        ('<textarea name="reason">a</textarea>', None),
        ('<form hx-post="/x"><select name="s"><option>a</option></select></form>', None),
    ],
)
def test_a_control_that_changes_something_is_greyed_and_says_why(html: str, greyed: str | None) -> None:
    found = locked(html)
    assert found.count(SAYS) == 1
    assert found.count("disabled") == 1
    assert "it is complete" not in found
    if greyed is not None:
        assert found == greyed


@pytest.mark.parametrize(
    "html",
    [
        "<!doctype html>\n<html lang='en'><head><title>a &amp; b</title></head><body data-x='1'>",
        '<form method="get" action="/"><select name="status"><option selected>all</option></select><button>Filter</button></form>',
        '<button type="button" class="quiet" data-opens="palette" title="All">Ctrl-K</button>',
        '<form hx-post="/x"><input type="hidden" name="key" value="a&#34;b"></form>',
        '<form hx-post="/x"></form><button data-theme-toggle>x</button>',
        '<form hx-post="/x"><button type="button" data-copy="qd pause o1">copy</button></form>',
        '<svg viewBox="0 0 1 1"><path d="M0 0"/><!--piece a--></svg>',
        '<hx-partial hx-target="title" hx-swap="textContent">✓ &lt;b&gt;</hx-partial>',
        '<script src="/static/app.js" defer></script>',
        "<p>it&#39;s &#x2026; &amp; so on</p>",
    ],
)
def test_all_else_stays_letter_by_letter(html: str) -> None:
    assert locked(html) == html


@given(st.text(max_size=80), st.text(max_size=80))
def test_what_people_wrote_stays_what_it_was(text: str, value: str) -> None:
    html = f'<pre>{escape(text)}</pre><a title="{escape(value)}" href="/x">y</a><form hx-post="/x"><input value="{escape(value)}"></form>'
    found = locked(html)
    assert re.sub(re.escape(f" {SAYS}"), "", found) == html
