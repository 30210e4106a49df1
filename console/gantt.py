"""The Gantt chart of an orchestration: attempts in, rectangles out. Pure.

All places and sizes are px of the drawing, times are UTC. The scale begins at the first start: what waited before it is a
dashed piece at the left edge and makes nothing else small. While work goes on it ends a little after now, at a round time: until then
nothing but what goes on (`grows`) changes its place, and that each browser lets grow by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

WIDTH, LABEL, RIGHT = 1220.0, 280.0, 62.0
"""Of the drawing; of the names at its left; of what is kept free at its right for the last duration."""
AXIS, ROW = 34.0, 20.0
"""Of the scale with the marks of holds under it; of a line."""
BAR_MIN = 3.0
WAIT_MIN, MARK = 4.0, 6.0
"""Waiting that would be shorter than this is left out, unless it is all there is. The mark of one that never ran."""
BLOCK_ROWS = 10
"""Lines that are sent together when one of them has changed."""
TICKS_MAX = 10
STEPS_AHEAD = 5
"""The scale of what goes on ends within a fifth of its length, about, after now."""
LABEL_CHARS_MAX = 40
_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800, 2_592_000)
_LOOKS = {
    "queued": "queued",
    "dispatched": "queued",
    "started": "running",
    "succeeded": "succeeded",
    "failed": "failed",
    "timed_out": "failed",
    "lost": "lost",
    "cancelled": "cancelled",
    "withdrawn": "cancelled",
}


class Attempt(NamedTuple):
    """An attempt of a run; `note` is what stands in its title beside its times."""

    run: str
    number: int
    status: str
    queued_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    note: str = ""


class Lane(NamedTuple):
    """A line of the chart: all attempts of the same work. `href` is where its name leads, empty for what has no run yet."""

    label: str
    group: str
    attempts: tuple[Attempt, ...] = ()
    status: str = ""
    href: str = ""


class Hold(NamedTuple):
    """A time in which the orchestration was held; `until` is None while it is."""

    kind: str
    since: datetime
    until: datetime | None
    text: str = ""


class Bar(NamedTuple):
    """A piece of a line. `look` is queued, running, succeeded, failed, lost or cancelled; it `grows` while what it shows goes on."""

    x: float
    width: float
    look: str
    title: str
    grows: bool = False


class Row(NamedTuple):
    """A line with its place: `y` is its upper edge. A group's heading has `is_group`, and one bar over all that is in it.

    `text` is how long it took, `tries` what stands behind that; while it goes on, `running_s` is the moment since which that would be (a
    timestamp).
    """

    label: str
    full: str
    y: float
    status: str
    href: str
    bars: tuple[Bar, ...]
    is_group: bool = False
    text_x: float = 0.0
    text: str = ""
    tries: str = ""
    running_s: float | None = None


class Band(NamedTuple):
    """A hold: a band over all lines; `is_gate` has a diamond where it begins; it `grows` while the hold stands."""

    x: float
    width: float
    kind: str
    title: str
    is_gate: bool
    grows: bool = False


class Tick(NamedTuple):
    """A line of the scale with how long after the first start it is."""

    x: float
    text: str


class Block(NamedTuple):
    """Some lines of a drawing, with their upper edge and their height."""

    number: int
    top: float
    height: float
    rows: tuple[Row, ...]


class Chart(NamedTuple):
    """The drawing. `px_per_s` is its scale while something goes on, which began at `begins`."""

    width: float
    height: float
    left: float
    right: float
    rows: tuple[Row, ...]
    ticks: tuple[Tick, ...]
    bands: tuple[Band, ...]
    now_x: float | None
    begins: datetime | None
    px_per_s: float | None

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The lines in blocks, which fill the drawing from top to bottom."""
        found = []
        top = 0.0
        for number, start in enumerate(range(0, len(self.rows), BLOCK_ROWS)):
            rows = self.rows[start : start + BLOCK_ROWS]
            edge = rows[-1].y + ROW if start + BLOCK_ROWS < len(self.rows) else self.height
            found.append(Block(number, top, edge - top, rows))
            top = edge
        return tuple(found)


class Scale(NamedTuple):
    """Time to px: `start` is at the left edge of the bars, `end` at their right."""

    start: datetime
    end: datetime

    @property
    def span_s(self) -> float:
        """How long it is, never nothing."""
        return max(1.0, (self.end - self.start).total_seconds())

    def x(self, moment: datetime) -> float:
        """Return where a moment is, one outside the scale at its edge."""
        share = (moment - self.start).total_seconds() / self.span_s
        return round(LABEL + min(1.0, max(0.0, share)) * (WIDTH - RIGHT - LABEL), 1)


def scale_of(attempts: Sequence[Attempt], holds: Sequence[Hold], now: datetime | None) -> Scale | None:
    """Return the scale from the first start to the last end, or to a round time after `now` (None: it has ended); None while nothing has started."""
    starts = [attempt.started_at for attempt in attempts if attempt.started_at is not None]
    if not starts:
        return None
    ends = [moment for attempt in attempts for moment in (attempt.started_at, attempt.ended_at) if moment is not None]
    ends += [hold.until for hold in holds if hold.until is not None]
    start = min(starts)
    return Scale(start, max([*ends, *([start + timedelta(seconds=_steps(start, now)[1])] if now is not None else [])]))


def _steps(start: datetime, now: datetime) -> tuple[float, float]:
    """Return how long after `start` the round time before `now` was, and the next one will be."""
    spent_s = max(0.0, (now - start).total_seconds())
    step = max((step for step in _STEPS_S if step * STEPS_AHEAD <= spent_s), default=_STEPS_S[0])
    before = spent_s // step * step
    return before, before + step


def steady_now(attempts: Sequence[Attempt], now: datetime) -> datetime:
    """Return the round time before `now` for a drawing that stays the same until the next one."""
    starts = [attempt.started_at for attempt in attempts if attempt.started_at is not None]
    return now if not starts else min(starts) + timedelta(seconds=_steps(min(starts), now)[0])


def chart(
    lanes: Sequence[Lane],
    holds: Sequence[Hold],
    now: datetime | None,
    folded: frozenset[str] = frozenset(),
    *,
    clock: datetime | None = None,
) -> Chart:
    """Return the drawing of `lanes`, which come in their order, those of a group together; `now` is None when it has ended.

    Of the groups in `folded` only the heading is drawn. What the words of durations are true for is `clock`, where that is not `now`.
    """
    clock = clock or now
    scale = scale_of([attempt for lane in lanes for attempt in lane.attempts], holds, now)
    rows: list[Row] = []
    group = ""
    y = AXIS
    for lane in lanes:
        if lane.group != group:
            group = lane.group
            rows.append(_group(group, [known for known in lanes if known.group == group], y, scale, now, clock))
            y += ROW
        if group in folded:
            continue
        rows.append(_row(lane, y, scale, now, clock))
        y += ROW
    ticks = () if scale is None else ticks_of(scale)
    bands = () if scale is None else tuple(_band(hold, scale, now) for hold in holds)
    now_x = None if scale is None or now is None else scale.x(now)
    px_per_s = None if scale is None or now is None else round((WIDTH - RIGHT - LABEL) / scale.span_s, 6)
    return Chart(WIDTH, y + 6, LABEL, WIDTH - RIGHT, tuple(rows), ticks, bands, now_x, None if scale is None else scale.start, px_per_s)


def _row(lane: Lane, y: float, scale: Scale | None, now: datetime | None, clock: datetime | None) -> Row:
    bars = () if scale is None else tuple(bar for attempt in lane.attempts for bar in bars_of(attempt, scale, now))
    row = Row(cut(lane.label), lane.label, y, lane.status, lane.href, bars)
    begun = [attempt for attempt in lane.attempts if attempt.started_at is not None]
    if not bars or not begun:
        return row
    spent_s = sum(seconds(attempt, clock) for attempt in begun)
    tries = f" ×{len(begun)}" if len(begun) > 1 else ""
    edge = max(bar.x + bar.width for bar in bars)
    open_ = next((attempt.started_at for attempt in reversed(begun) if attempt.ended_at is None), None)
    running_s = None if open_ is None or now is None else open_.timestamp() - sum(seconds(attempt, None) for attempt in begun)
    return row._replace(text=words(spent_s), tries=tries, text_x=round(edge + 5, 1), running_s=running_s)


def _group(name: str, lanes: Sequence[Lane], y: float, scale: Scale | None, now: datetime | None, clock: datetime | None) -> Row:
    attempts = [attempt for lane in lanes for attempt in lane.attempts if attempt.started_at is not None]
    row = Row(cut(name), name, y, "", "", (), is_group=True)
    if scale is None or not attempts:
        return row
    starts = [attempt.started_at for attempt in attempts if attempt.started_at is not None]
    ends = [attempt.ended_at or now or scale.end for attempt in attempts]
    x, edge = scale.x(min(starts)), scale.x(max(ends))
    grows = now is not None and any(attempt.ended_at is None for attempt in attempts)
    took = words(((clock if grows and clock is not None else max(ends)) - min(starts)).total_seconds())
    bar = Bar(x, round(max(BAR_MIN, edge - x), 1), "span", name if grows else f"{name}: {took}", grows)
    running_s = min(starts).timestamp() if grows else None
    return row._replace(bars=(bar,), text=took, text_x=round(bar.x + bar.width + 5, 1), running_s=running_s)


def bars_of(attempt: Attempt, scale: Scale, now: datetime | None) -> list[Bar]:
    """Return the pieces of an attempt: how long it waited, and how long it ran."""
    found: list[Bar] = []
    look = _LOOKS.get(attempt.status, "queued")
    name = f"{attempt.run} attempt {attempt.number}"
    waited_until = attempt.started_at or attempt.ended_at or now or scale.end
    x, edge = scale.x(attempt.queued_at), scale.x(waited_until)
    waited = words((waited_until - attempt.queued_at).total_seconds())
    if edge - x >= WAIT_MIN or attempt.started_at is None:
        waits = now is not None and attempt.started_at is None and attempt.ended_at is None
        found.append(Bar(x, round(max(BAR_MIN, edge - x), 1), "queued", f"{name} waits" if waits else f"{name} waited {waited}", waits))
    if attempt.started_at is None and look == "cancelled":  # it never ran: a mark where it was taken back
        found.append(Bar(max(x, edge - MARK), MARK, look, f"{name} {attempt.status} after {waited} of waiting"))
    if attempt.started_at is not None:
        x, edge = scale.x(attempt.started_at), scale.x(attempt.ended_at or now or scale.end)
        grows = now is not None and attempt.ended_at is None
        notes = [attempt.status.replace("_", " "), "" if grows else words(seconds(attempt, now)), attempt.note]
        found.append(Bar(x, round(max(BAR_MIN, edge - x), 1), look, f"{name} {', '.join(filter(None, notes))}", grows))
    return found


def _band(hold: Hold, scale: Scale, now: datetime | None) -> Band:
    x, edge = scale.x(hold.since), scale.x(hold.until or now or scale.end)
    grows = now is not None and hold.until is None
    took = "" if grows else f" for {words(((hold.until or scale.end) - hold.since).total_seconds())}"
    return Band(x, round(max(BAR_MIN, edge - x), 1), hold.kind, f"{hold.kind.replace('_', ' ')}{took}: {hold.text}", hold.kind == "gate", grows)


def ticks_of(scale: Scale) -> tuple[Tick, ...]:
    """Return at most TICKS_MAX lines of the scale at round times after its start."""
    span_s = scale.span_s
    step = next((step for step in _STEPS_S if span_s / step < TICKS_MAX), 10 * _STEPS_S[-1])
    while span_s / step >= TICKS_MAX:
        step *= 10
    width = WIDTH - RIGHT - LABEL
    return tuple(Tick(round(LABEL + n * step / span_s * width, 1), exact(n * step)) for n in range(int(span_s / step) + 1))


def seconds(attempt: Attempt, now: datetime | None) -> float:
    """Return how long an attempt ran, or has been running."""
    end = attempt.ended_at or now
    return 0.0 if attempt.started_at is None or end is None else max(0.0, (end - attempt.started_at).total_seconds())


def words(span_s: float) -> str:
    """Return a duration in two units at most: `80ms`, `4.2s`, `3m 05s`, `2h 10m`, `3d 4h`."""
    if span_s < 1:
        return f"{max(0.0, span_s) * 1000:.0f}ms"
    if span_s < 60:
        return f"{span_s:.1f}s" if span_s < 10 else f"{int(span_s)}s"
    if span_s < 3600:
        return f"{int(span_s // 60)}m {int(span_s % 60):02d}s"
    if span_s < 86_400:
        return f"{int(span_s // 3600)}h {int(span_s % 3600 // 60):02d}m"
    return f"{int(span_s // 86_400)}d {int(span_s % 86_400 // 3600)}h"


def exact(span_s: int) -> str:
    """Return a round duration without units that are zero: `30s`, `2m`, `1m 30s`, `3d`."""
    parts = ((span_s // 86_400, "d"), (span_s % 86_400 // 3600, "h"), (span_s % 3600 // 60, "m"), (span_s % 60, "s"))
    return " ".join(f"{count}{unit}" for count, unit in parts if count) or "0"


def cut(label: str) -> str:
    """Return a name as long as there is room for it."""
    return label if len(label) <= LABEL_CHARS_MAX else label[: LABEL_CHARS_MAX - 1].rstrip() + "…"
