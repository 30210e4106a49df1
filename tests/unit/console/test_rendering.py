"""Texts as HTML: nothing that somebody wrote is markup; states are words; times are exact in their titles."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import jinja2
import pytest
from jinja2 import meta

from bus import host
from bus_schemas.decisions import ActionStatus
from bus_schemas.events import OrchestrationStatus
from console import rendering

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{7*7}}</textarea>"


def shown(template: str, **context: object) -> str:
    return rendering.environment().from_string(template).render(**context)


@pytest.mark.parametrize("filter_", ["state", "ago", "clock", "took", "short(400)", "tojson_pretty", "tone"])
def test_no_filter_lets_markup_through(filter_: str) -> None:
    found = shown("{{ text|" + filter_ + " }}", text=HOSTILE)
    assert "<script" not in found
    assert "<img" not in found


def test_text_in_an_attribute_stays_there() -> None:
    found = shown('<input value="{{ text }}" data-json="{{ text|tojson|forceescape }}">', text=HOSTILE)
    assert found.count("<") == found.count(">") == 1
    assert found.count('"') == 4


def test_template_words_in_a_text_are_text() -> None:
    assert shown("{{ text }}", text="{{7*7}} {% for x in y %}") == "{{7*7}} {% for x in y %}"


@pytest.mark.parametrize("name", [p.name for p in sorted((rendering.HERE / "templates").glob("*.html"))])
def test_no_template_switches_escaping_off_or_has_script_or_style_in_it(name: str) -> None:
    source = (rendering.HERE / "templates" / name).read_text()
    rendering.environment().parse(source)
    assert "|safe" not in source.replace(" ", "")
    assert "autoescape" not in source
    assert " style=" not in source
    assert " onclick=" not in source
    assert "<style" not in source
    assert source.count("<script") == source.count('<script src="{{ asset(')


@pytest.mark.parametrize("name", [p.name for p in sorted((rendering.HERE / "templates").glob("*.html"))])
def test_every_file_that_a_template_names_exists(name: str) -> None:
    environment = rendering.environment()
    found = meta.find_referenced_templates(environment.parse((rendering.HERE / "templates" / name).read_text()))
    for other in found:
        if other is not None:
            environment.get_template(other)


def test_a_name_that_a_page_forgot_is_an_error_and_not_an_empty_place() -> None:
    with pytest.raises(jinja2.UndefinedError):
        shown("{{ forgotten }}")


@pytest.mark.parametrize("name", [*OrchestrationStatus, *ActionStatus])
def test_a_state_is_a_mark_and_a_word_and_never_colour_alone(name: str) -> None:
    found = str(rendering.state(name))
    assert name.replace("_", " ") in found
    assert f'aria-hidden="true">{rendering.MARKS[name]}<' in found


@pytest.mark.parametrize(("name", "tone"), [("complete", "good"), ("failed", "bad"), ("paused", "wait"), ("executing", "busy"), ("pending", "calm")])
def test_a_state_has_its_colour(name: str, tone: str) -> None:
    assert rendering.tone(name) == tone


def test_no_state_is_nothing() -> None:
    assert rendering.state(None) == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0.0s"),
        (0, "0.0s"),
        (9.94, "9.9s"),
        (10, "10s"),
        (59, "59s"),
        (60, "1m 00s"),
        (185, "3m 05s"),
        (7800, "2h 10m"),
        (3 * 86400 + 4 * 3600, "3d 4h"),
    ],
)
def test_a_duration_reads_as_people_say_it(seconds: float, text: str) -> None:
    assert rendering.span_text(seconds) == text


def test_a_time_says_how_long_ago_and_exactly_when() -> None:
    found = str(rendering.ago(host.now() - timedelta(seconds=125)))
    assert "2m 05s ago" in found
    assert " UTC" in found
    assert "data-since=" in found


@pytest.mark.parametrize("nothing", [None, "", "no time"])
def test_no_time_is_a_dash(nothing: str | None) -> None:
    for shown_as in (rendering.ago, rendering.clock, rendering.took):
        assert "–" in shown_as(nothing)


def test_what_goes_on_counts_on_and_what_ended_stands() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    assert "data-running" in rendering.took(start)
    assert str(rendering.took(start, start + timedelta(minutes=3, seconds=5))) == "<span>3m 05s</span>"


@pytest.mark.parametrize(("usd", "text"), [(None, "–"), (0.0, "$0.00"), (1234.5, "$1,234.50")])
def test_no_cost_known_is_a_dash_and_zero_is_zero(usd: float | None, text: str) -> None:
    assert rendering.money(usd) == text


@pytest.mark.parametrize(("ms", "text"), [(None, "–"), (0, "0 ms"), (9999, "9999 ms"), (65_000, "1m 05s")])
def test_milliseconds_become_seconds_when_they_are_many(ms: float | None, text: str) -> None:
    assert rendering.milliseconds(ms) == text


def test_an_asset_has_its_content_in_its_address() -> None:
    assert rendering.asset("app.css").startswith("/static/app.css?v=")
    assert rendering.asset("app.css") != rendering.asset("app.js").replace("app.js", "app.css")


GLYPHS = frozenset("‖↓↳−⊘■▷◆○◌●◐◔✓✕✗ –—…→“”×·─ \ufffd")
"""Beyond letters: in the fonts of every system (DejaVu, Segoe UI Symbol, Apple Symbols), and drawn by none as a picture in colours."""


def test_no_page_needs_a_glyph_that_a_usual_font_has_not_or_draws_as_an_emoji() -> None:
    sources = [*rendering.HERE.rglob("*.py"), *(rendering.HERE / "templates").glob("*.html"), *rendering.STATIC.glob("*.*")]
    found = {char: path.name for path in sources for char in path.read_text().replace("▶\\ufe0e", "") if ord(char) > 0x2000 and char not in GLYPHS}
    assert found == {}
