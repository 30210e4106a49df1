"""Pages as HTML: the templates, the words and marks of states, times and amounts. Every text is escaped by the templates themselves.

Owns the template environment.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from bus import host

HERE = Path(__file__).parent
STATIC = HERE / "static"

MARKS = {  # \ufe0e: as text, also where a system has a coloured picture for the sign
    "launching": "◌",
    "validating": "▶\ufe0e",
    "planning": "▶\ufe0e",
    "planned": "▷",
    "executing": "▶\ufe0e",
    "reviewing": "▶\ufe0e",
    "finalizing": "▶\ufe0e",
    "complete": "✓",
    "completed": "✓",
    "succeeded": "✓",
    "passed": "✓",
    "pass": "✓",
    "failed": "✗",
    "gaps": "✗",
    "refused": "✗",
    "cancelled": "⊘",
    "withdrawn": "⊘",
    "skipped": "⊘",
    "timed_out": "◔",
    "lost": "?",
    "node_lost": "?",
    "pending": "·",
    "queued": "◌",
    "dispatched": "◌",
    "accepted": "◌",
    "started": "▶\ufe0e",
    "in_progress": "▶\ufe0e",
    "blocked": "■",
    "gate": "◆",
    "pausing": "‖",
    "paused": "‖",
    "cancelling": "⊘",
    "budget": "$",
    "quota": "◔",
    "online": "●",
    "offline": "○",
    "cordoned": "⊘",
    "draining": "↓",
}
_TONES = {
    "good": {"complete", "completed", "succeeded", "passed", "pass", "online"},
    "bad": {"failed", "gaps", "refused", "timed_out", "lost", "node_lost", "blocked"},
    "wait": {"gate", "pausing", "paused", "budget", "quota", "cancelling", "draining", "cordoned"},
    "busy": {"launching", "validating", "planning", "executing", "reviewing", "finalizing", "started", "in_progress", "accepted"},
}


def tone(state: str) -> str:
    """Return in which colour a state is shown: good, bad, wait, busy or calm."""
    return next((name for name, states in _TONES.items() if state in states), "calm")


def state(name: str | None) -> Markup:
    """Return a state as mark, word and colour; never as colour alone."""
    if not name:
        return Markup("")
    word = name.replace("_", " ")
    return Markup('<span class="state {}"><span class="mark" aria-hidden="true">{}</span> {}</span>').format(tone(name), MARKS.get(name, "·"), word)


def _moment(value: Any) -> datetime | None:
    if value is None or isinstance(value, datetime):
        return value
    try:
        return datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    except ValueError:
        return None


def span_text(seconds: float) -> str:
    """Return a duration as people say it: `4.2s`, `3m 05s`, `2h 10m`, `3d 4h`."""
    if seconds < 10:
        return f"{max(0.0, seconds):.1f}s"
    if seconds < 60:
        return f"{seconds:.0f}s"
    if seconds < 3600:
        return f"{int(seconds // 60)}m {int(seconds % 60):02d}s"
    if seconds < 86400:
        return f"{int(seconds // 3600)}h {int(seconds % 3600 // 60):02d}m"
    return f"{int(seconds // 86400)}d {int(seconds % 86400 // 3600)}h"


def ago(value: Any) -> Markup:
    """Return a time as how long ago it is, exact in its title."""
    moment = _moment(value)
    if moment is None:
        return Markup('<span class="none">–</span>')
    seconds = (host.now() - moment).total_seconds()
    words = "now" if seconds < 1 else f"{span_text(seconds)} ago"
    exact = moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return Markup('<time datetime="{}" title="{}" data-since="{}">{}</time>').format(moment.isoformat(), exact, moment.timestamp(), words)


def clock(value: Any) -> Markup:
    """Return a time of day, exact in its title."""
    moment = _moment(value)
    if moment is None:
        return Markup('<span class="none">–</span>')
    exact = moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f UTC")
    return Markup('<time datetime="{}" title="{}">{}</time>').format(moment.isoformat(), exact, moment.astimezone(UTC).strftime("%H:%M:%S"))


def took(since: Any, until: Any = None) -> Markup:
    """Return how long something took, or has been going on."""
    start, end = _moment(since), _moment(until)
    if start is None:
        return Markup('<span class="none">–</span>')
    seconds = ((end or host.now()) - start).total_seconds()
    if end is not None:
        return Markup("<span>{}</span>").format(span_text(seconds))
    return Markup('<span data-running="{}">{}</span>').format(start.timestamp(), span_text(seconds))


def money(usd: float | None) -> str:
    """Return an amount of USD; a dash where no cost is known."""
    return "–" if usd is None else f"${usd:,.2f}"


def milliseconds(value: float | None) -> str:
    """Return a duration in ms as people say it."""
    if value is None:
        return "–"
    return f"{value:.0f} ms" if value < 10_000 else span_text(value / 1000)


def short(text: str | None, length: int = 12) -> str:
    """Return the beginning of a hash."""
    return "" if not text else text.removeprefix("sha256-")[:length]


@cache
def asset(name: str) -> str:
    """Return the address of a static file, which changes with its content."""
    digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]
    return f"/static/{name}?v={digest}"


def environment() -> Environment:
    """Return the template environment."""
    env = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    env.filters |= {"state": state, "ago": ago, "clock": clock, "took": took, "money": money, "ms": milliseconds, "short": short, "tone": tone}
    env.filters["tojson_pretty"] = lambda value: json.dumps(value, indent=2, default=str, ensure_ascii=False)
    env.globals |= {"asset": asset, "MARKS": MARKS}
    return env
