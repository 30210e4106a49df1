"""Logs: what each run printed, from its first line on, searched here over all of it, and followed while it goes on.

The pages that are read are short; what follows is asked for by the page itself, from the cursor on that it has, so nothing is
shown twice and nothing is left out. Texts are cleaned of control characters and escaped.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route

from bus import host
from bus_schemas import ids
from bus_schemas.reasons import Reason
from bus_schemas.views import LogChunk
from console.backend import Backend, Problem
from console.page import Context, Visit
from console.pages import orchestration
from console.pages.orchestration_timeline import work_of

if TYPE_CHECKING:
    from console.app import Console

CHUNKS = 200
"""Of a page of a log, at most 512 KiB of text."""
CHUNKS_MAX = 1000
LINES_MAX = 5000
"""On one page: a browser becomes slow with more."""
WAIT_S = 2.0
FOUND_MAX = 300
SEARCH_S_MAX = 8.0
LINE_CHARS_MAX = 4000
RUNS_SHOWN = 300

_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-_])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class Place(NamedTuple):
    """Where a reader stands: the cursor to go on from, the number of the next line, the attempt of the line before, whether that one is open."""

    after: int = 0
    line: int = 1
    attempt: int = 0
    is_open: bool = False

    @property
    def query(self) -> str:
        """The place as part of an address."""
        return f"after={self.after}&line={self.line}&attempt={self.attempt}&open={int(self.is_open)}"


class Line(NamedTuple):
    """A line of a log.

    `number` counts from 1 over all attempts of the run; `attempt` is set where a new one begins; a page that begins at `page` has it.
    """

    number: int
    text: str
    attempt: int | None = None
    at: Any = None
    page: Place = Place()


def clean(text: str) -> str:
    """Return text without colours and control characters; what overwrites a line is shown as its last state."""
    text = _ESCAPE.sub("", text).replace("\t", "    ")
    if "\r" in text:
        text = text.rstrip("\r").rpartition("\r")[2]
    return _CONTROL.sub("�", text)


def lines(chunks: list[LogChunk], place: Place) -> tuple[list[Line], Place]:
    """Return the lines of `chunks`, which go on from `place`, and where they end. A line may go on over chunks and pages."""
    found: list[Line] = []
    number, attempt, is_open, after = place.line, place.attempt, place.is_open, place.after
    text = ""
    begins: tuple[int, Any] | None = None  # the attempt whose first line comes next
    page = place
    for chunk in chunks:
        here = Place(after, number, attempt, is_open)
        if chunk.attempt != attempt:
            if text:
                found.append(_line(number, text, begins, page))
            number += int(is_open)
            attempt, is_open, text, begins = chunk.attempt, False, "", (chunk.attempt, chunk.at)
        page = page if text else here
        *whole, rest = chunk.text.split("\n")
        for part in whole:
            found.append(_line(number, text + part, begins, page))
            number, is_open, text, begins, page = number + 1, False, "", None, here
        text += rest
        is_open = is_open or bool(rest)
        after = chunk.cursor
    if text:
        found.append(_line(number, text, begins, page))
    return found, Place(after, number, attempt, is_open)


def _line(number: int, text: str, begins: tuple[int, Any] | None, page: Place) -> Line:
    attempt, at = (None, None) if begins is None else begins
    return Line(number, clean(text)[:LINE_CHARS_MAX], attempt, at, page)


def _chunk(item: dict[str, Any]) -> LogChunk:
    return LogChunk(**{name: item[name] for name in LogChunk.__struct_fields__})


def marked(text: str, wanted: str) -> Markup:
    """Return a line with what was found in it marked; all of it is escaped."""
    found = re.split(f"({re.escape(wanted)})", text, flags=re.IGNORECASE) if wanted else [text]
    parts = [Markup("<mark>{}</mark>").format(part) if index % 2 else Markup("{}").format(part) for index, part in enumerate(found)]
    return Markup("").join(parts)


async def read(backend: Backend, run: str, place: Place, *, limit: int = CHUNKS, wait_s: float = 0.0) -> tuple[list[Line], Place]:
    """Return the lines of a run from `place` on; waits up to `wait_s` for the first. Raises Problem."""
    answer = await backend.ask("logs", run=run, after=place.after, limit=limit, wait_s=wait_s)
    return lines([_chunk(item) for item in answer["items"]], place)


async def search(backend: Backend, run: str, wanted: str) -> tuple[list[Line], bool]:
    """Return the lines of a whole log that have `wanted` in them, whatever its case, and whether all of it was looked at. Raises Problem."""
    deadline = host.monotonic_s() + SEARCH_S_MAX
    place, found = Place(), list[Line]()
    folded = wanted.casefold()
    while host.monotonic_s() < deadline:
        page, reached = await read(backend, run, place, limit=CHUNKS_MAX)
        if not page and reached.after == place.after:
            return found, True
        for line in page:
            if folded in line.text.casefold():
                found.append(line)
                if len(found) >= FOUND_MAX:
                    return found, False
        place = reached
    return found, False


def place_of(query: Any) -> Place:
    """Return the place that an address names. Raises Problem."""
    values = [query.get(name) or default for name, default in (("after", "0"), ("line", "1"), ("attempt", "0"), ("open", "0"))]
    if not all(value.isascii() and value.isdecimal() and len(value) < 16 for value in values):
        raise Problem(Reason.INVALID_PAYLOAD, "after, line and attempt are whole numbers")
    after, line, attempt, is_open = map(int, values)
    return Place(after, max(1, line), attempt, bool(is_open))


async def load(visit: Visit) -> Context:
    """Return the runs, and a page of the log of one of them. Raises Problem; a timeline that is away is told in the place of the log."""
    context = await orchestration.head(visit)
    runs = await visit.backend.ask_all("runs", orchestration=context["o"]["id"])
    wanted = visit.query.get("run", "")
    run = next((run for run in runs if run["run"] == wanted), None)
    if wanted and run is None:
        raise Problem(Reason.ENTITY_NOT_FOUND, f"{context['o']['id']} has no run {ids.shown(wanted)}")
    run = run or _chosen(runs)
    words = visit.query.get("q", "").strip()[:200]
    shown: Context = {"page": [], "place": place_of(visit.query), "whole": True, "problem": None}
    if run is not None:
        shown = await _shown(visit.backend, run["run"], words, shown["place"])
    listed = [{**known, "work": work_of(known)} for known in runs[::-1][:RUNS_SHOWN]]
    return {
        **context,
        "tab": "logs",
        "runs": listed,
        "hidden": len(runs) - len(listed),
        "run": run,
        "work": "" if run is None else work_of(run),
        "words": words,
        "start": place_of(visit.query),
        "ended": run is not None and run["ended_at"] is not None,
        "shown": len(shown["page"]),
        "LINES_MAX": LINES_MAX,
        "marked": marked,
        **shown,
    }


def _chosen(runs: list[Context]) -> Context | None:
    """Return the run to show when none is named: what goes on now, else what was done last."""
    going = [run for run in runs if run["status"] == "started"]
    begun = [run for run in runs if run["started_at"] is not None and run["kind"] in ("task", "verify", "review")]
    known = going or begun or runs
    return known[-1] if known else None


async def _shown(backend: Backend, run: str, words: str, place: Place) -> Context:
    try:
        if words:
            found, whole = await search(backend, run, words)
            return {"page": found, "place": place, "whole": whole, "problem": None}
        page, reached = await read(backend, run, place)
    except Problem as problem:
        return {"page": [], "place": place, "whole": True, "problem": problem}
    return {"page": page, "place": reached, "whole": True, "problem": None}


def _topics(visit: Visit) -> frozenset[str]:
    """What was found stands still; it is not searched again at each news."""
    return frozenset() if visit.query.get("q") else orchestration.topics(visit)


PAGES = (replace(orchestration.tab("logs", load), topics=_topics),)


def routes(console: Console) -> list[Route]:
    """Return what goes on behind a page of a log, and the whole log as a file."""

    async def more(request: Request) -> Response:
        context: Context = {"o": {"id": request.path_params["id"]}, "page": [], "ended": False, "problem": None}
        try:
            run, place = _run_of(request), place_of(request.query_params)
        except Problem as problem:
            return console.problem(request, problem)
        shown = _count(request.query_params.get("shown"))
        context |= {"run": {"run": run}, "start": place, "place": place, "shown": shown}
        try:
            runs = await console.backend.ask_all("runs", orchestration=request.path_params["id"])
            context["ended"] = all(known["ended_at"] is not None for known in runs if known["run"] == run)
            page, reached = await read(console.backend, run, place, wait_s=0.0 if context["ended"] else WAIT_S)
            context |= {"page": page, "place": reached, "shown": shown + len(page)}
        except Problem as problem:
            context["problem"] = problem  # it asks again by itself, from the same place
        return HTMLResponse(console.templates.get_template("orchestration_logs_more.html").render({**context, "LINES_MAX": LINES_MAX}))

    async def text(request: Request) -> Response:
        try:
            run = _run_of(request)
            first, place = await read(console.backend, run, Place(), limit=CHUNKS_MAX)
        except Problem as problem:
            return console.problem(request, problem)
        headers = {"content-disposition": f'attachment; filename="{run}.log"'}
        return StreamingResponse(_all(console.backend, run, first, place), media_type="text/plain; charset=utf-8", headers=headers)

    return [Route("/orchestrations/{id}/logs/more", more), Route("/orchestrations/{id}/logs/text", text)]


def _count(text: str | None) -> int:
    return int(text) if text is not None and text.isascii() and text.isdecimal() and len(text) < 9 else 0


def _run_of(request: Request) -> str:
    """Return the run that a request names. Raises Problem when it is none of this orchestration."""
    try:
        run = ids.run_id(request.query_params.get("run", ""))
    except ids.BadId as error:
        raise Problem(Reason.INVALID_PAYLOAD, str(error)) from error
    if ids.orchestration_of(run) != request.path_params["id"]:
        raise Problem(Reason.ENTITY_NOT_FOUND, f"{ids.shown(request.path_params['id'])} has no run {run}")
    return run


async def _all(backend: Backend, run: str, page: list[Line], place: Place) -> AsyncIterator[str]:
    """Yield a whole log as text; it ends with a line that says so where the rest could not be had."""
    open_line = ""
    while page:
        for index, line in enumerate(page):
            if line.attempt is not None and line.attempt > 1:
                yield f"{open_line}\n" if open_line else ""
                open_line = ""
                yield f"== attempt {line.attempt} ==\n"
            is_last = index == len(page) - 1
            text, open_line = open_line + line.text, ""
            if is_last and place.is_open:
                open_line = text
            else:
                yield text + "\n"
        try:
            page, place = await read(backend, run, place, limit=CHUNKS_MAX)
        except Problem as problem:
            yield f"{open_line}\n== the rest could not be read: {problem.message} ==\n"
            return
    if open_line:
        yield open_line + "\n"
