"""Several runs at once: what was ticked, or all that fit the filter, is shown first, then each gets a command of its own.

The key of each command is the key of the form with the id of its run: what is sent twice takes effect once, run by run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import anyio
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from bus import host
from bus_schemas import commands as c
from bus_schemas.decisions import Receipt
from bus_schemas.ids import BadId, idempotency_key, orchestration_id
from bus_schemas.reasons import Reason
from console import commanding, forms, selection
from console.backend import OUTCOME_UNKNOWN, UNREACHABLE, Backend, Problem
from console.equivalent import command_line
from console.forms import Form
from console.page import Context
from console.pages import orchestration
from console.selection import Wanted

if TYPE_CHECKING:
    from console.app import Console

RUNS_MAX = 500
"""In one go, so that it ends within the time that a browser waits."""
AT_ONCE = 16
"""Commands on their way at the same time."""
_UNKNOWN = (UNREACHABLE, OUTCOME_UNKNOWN)


class Verb(NamedTuple):
    """What several runs can be asked at once; `done` is what is said of those that were."""

    word: str
    hint: str
    command: Callable[[str], c.Command]


VERBS = {
    "pause": Verb("Pause", "what runs may end, nothing new starts", c.Pause),
    "stop": Verb("Stop now", "what runs is stopped, and done again after a resume", lambda o: c.Pause(o, c.PauseMode.STOP)),
    "resume": Verb("Resume", "each goes on exactly where it stood", c.Resume),
    "retry": Verb("Retry", "what failed is run again, with fresh attempts", c.Retry),
    "cancel": Verb("Cancel", "their runs are stopped and they end as cancelled; that is not undone", c.Cancel),
}


class Sent(NamedTuple):
    """What became of the command to one run: the receipt, or the problem."""

    orchestration: str
    equivalent: str
    receipt: Receipt | None
    problem: Problem | None

    @property
    def is_unknown(self) -> bool:
        """Whether it is not known yet what was decided, or nothing was sent: it may be sent again with the same key."""
        return self.problem is not None and self.problem.code in _UNKNOWN


def why_not(name: str, o: Context) -> str:
    """Return why a run cannot be asked this now (empty: it can)."""
    if name == "cancel":
        return orchestration.cancel_why_not(o)
    return next(str(control["why_not"]) for control in orchestration.controls(o) if control["word"] == VERBS[name].word)


def parted(name: str, found: list[Context]) -> tuple[list[Context], list[tuple[Context, str]]]:
    """Return the runs that can be asked, at most RUNS_MAX, and the others with the reason."""
    able: list[Context] = []
    left: list[tuple[Context, str]] = []
    for o in found:
        reason = why_not(name, o) or ("" if len(able) < RUNS_MAX else f"more than {RUNS_MAX}: the rest in another go")
        if reason:
            left.append((o, reason))
        else:
            able.append(o)
    return able, left


def verb_of(form: Form) -> str:
    """Return what was asked. Raises Problem for what cannot be asked of several."""
    name = form.one("verb")
    if name not in VERBS:
        raise Problem(Reason.UNKNOWN_ACTION, "several runs at once can be paused, stopped, resumed, retried or cancelled")
    return name


def ids_of(form: Form) -> list[str]:
    """Return the ids that were ticked, each once. Raises Problem for one that is none."""
    try:
        return list(dict.fromkeys(orchestration_id(text) for text in form.all("ids")))
    except BadId as error:
        raise Problem(Reason.INVALID_PAYLOAD, str(error)) from error


async def _meant(backend: Backend, form: Form) -> list[Context]:
    """Return the runs that a form means: those ticked, or all live ones that fit its filter. Raises Problem."""
    if form.one("scope") == "all":
        return await selection.live(backend, Wanted.read(form.one))
    found: dict[str, Context] = {}
    limiter = anyio.CapacityLimiter(AT_ONCE)

    async def look(wanted: str) -> None:
        async with limiter:
            found[wanted] = await backend.ask("orchestration", id=wanted)

    wanted = ids_of(form)
    if not wanted or len(wanted) > RUNS_MAX:
        raise Problem(Reason.INVALID_PAYLOAD, f"between 1 and {RUNS_MAX} runs are selected, not {len(wanted)}")
    try:
        async with anyio.create_task_group() as tasks:
            for each in wanted:
                tasks.start_soon(look, each)
    except* Problem as failed:
        raise failed.exceptions[0] from failed
    return [found[each] for each in wanted]


async def preview(backend: Backend, form: Form) -> Context:
    """Return which runs would be asked and which are left out, with the command lines that do the same. Raises Problem."""
    name = verb_of(form)
    able, left = parted(name, await _meant(backend, form))
    lines = [command_line(VERBS[name].command(o["id"])) for o in able]
    return {"name": name, "verb": VERBS[name], "able": able, "left": left, "lines": lines, "key": host.unique(), "word": f"{name} {len(able)}"}


async def send(backend: Backend, form: Form, session_key: str) -> Context:
    """Send one command to each run of a form, and return what became of each, in the order of the form. Raises Problem before any is sent."""
    name, reason, wanted = verb_of(form), form.one("reason").strip() or None, ids_of(form)
    if not wanted or len(wanted) > RUNS_MAX:
        raise Problem(Reason.INVALID_PAYLOAD, f"between 1 and {RUNS_MAX} runs are taken at once, not {len(wanted)}")
    if name == "cancel" and form.one("meant") != f"cancel {len(wanted)}":
        raise Problem(Reason.INVALID_PAYLOAD, f"to cancel them type: cancel {len(wanted)}")
    try:
        keys = {each: idempotency_key(f"{session_key}.{each}") for each in wanted}
    except BadId as error:
        raise Problem(Reason.INVALID_PAYLOAD, f"the form has no usable key: {error}") from error
    limiter = anyio.CapacityLimiter(AT_ONCE)
    done: dict[str, Sent] = {}

    async def one(each: str) -> None:
        command = VERBS[name].command(each)
        line = command_line(command, reason=reason)
        async with limiter:
            try:
                done[each] = Sent(each, line, await backend.submit(command, keys[each], reason=reason), None)
            except Problem as problem:
                done[each] = Sent(each, line, None, problem)

    async with anyio.create_task_group() as tasks:
        for each in wanted:
            tasks.start_soon(one, each)
    return told(name, [done[each] for each in wanted], form.one("key"), reason)


def told(name: str, sent: list[Sent], key: str, reason: str | None) -> Context:
    """Return what the page says of commands that were sent: how many of each fate, each by itself, and what may be sent again."""
    unknown = [each for each in sent if each.is_unknown]
    return {
        "name": name,
        "verb": VERBS[name],
        "sent": sent,
        "taken": sum(each.receipt is not None for each in sent),
        "refused": sum(each.problem is not None and not each.is_unknown for each in sent),
        "unknown": unknown,
        "key": key,
        "reason": reason or "",
        "lines": [each.equivalent for each in sent],
        "word": f"{name} {len(unknown)}",
    }


def routes(console: Console) -> list[Route]:
    """Return what is asked from the Runs page: what would be done, and the doing of it."""

    def answer(template: str, context: Context, status: int = 200) -> Response:
        return HTMLResponse(console.templates.get_template(template).render(context), status)

    async def show(request: Request) -> Response:
        try:
            return answer("bulk_preview.html", await preview(console.backend, await forms.read(request)))
        except Problem as problem:
            return answer("bulk_problem.html", {"problem": problem}, problem.status)

    async def do(request: Request) -> Response:
        try:
            form = await forms.read(request)
            return answer("bulk_outcome.html", await send(console.backend, form, commanding.session_key(form, request)))
        except Problem as problem:
            return answer("bulk_problem.html", {"problem": problem}, problem.status)

    return [Route("/bulk/preview", show, methods=["POST"]), Route("/bulk", do, methods=["POST"])]
