"""An orchestration: where it stands, what holds it, what can be done, and one tab for each way to look at it.

Here are the head with its actions, which every tab shows, and the tabs that need nothing but the orchestration itself.
"""

from __future__ import annotations

from typing import Any

from bus import host
from bus_schemas import commands as c
from bus_schemas.decisions import ActionStatus
from console.equivalent import command_line
from console.judged import of_gates
from console.page import Context, Page, Visit

TABS = (
    ("timeline", "Timeline"),
    ("plan", "Plan"),
    ("events", "Events"),
    ("logs", "Logs"),
    ("changes", "Changes"),
    ("policy", "Policy"),
    ("usage", "Usage"),
    ("why", "Why"),
    ("raw", "Raw"),
)
ENDED = ("complete", "failed", "cancelled")
GOING = ("started", "dispatched")
IN_FLIGHT_SHOWN = 10


async def head(visit: Visit) -> Context:
    """Return what the head and the action bar of every tab show. Raises Problem."""
    o = await visit.backend.ask("orchestration", id=visit.params["id"])
    held = {hold["kind"] for hold in o["holds"]}
    gate = await visit.backend.ask("gate", orchestration=o["id"]) if "gate" in held else None
    judgements = {} if gate is None else await of_gates(visit.backend, [gate], gate["position"])
    return {
        "o": o,
        "tabs": TABS,
        "controls": controls(o),
        "cancel_why_not": cancel_why_not(o),
        "gate": gate,
        "judged": judgements.get(o["id"]),
        "retries": retries(o),
        "in_flight": await _in_flight(visit, o),
        "equivalents": equivalents(o["id"]),
        "key": host.unique(),
    }


def controls(o: Context) -> list[Context]:
    """Return the controls of an orchestration: the command, its word, and why it cannot be given now (empty: it can)."""
    held = {hold["kind"] for hold in o["holds"]}
    never = ended(o) or ("it is being cancelled" if "cancelling" in held else "")
    stopping = next((f"it is already {kind}" for kind in ("paused", "pausing") if kind in held), "")
    unpaused = "" if held & {"paused", "pausing", "budget", "quota"} else "it is not paused"
    sound = "" if held & {"blocked", "node_lost"} else "nothing of it is blocked or lost"
    return [
        _control("pause", "Pause", never or stopping, "what runs may end, nothing new starts", mode="drain"),
        _control("pause", "Stop now", never or stopping, "what runs is stopped, and done again after a resume", mode="stop"),
        _control("resume", "Resume", never or unpaused, "it goes on exactly where it stood"),
        _control("retry", "Retry", never or sound, "what failed is run again, with fresh attempts"),
    ]


def _control(kind: str, word: str, why_not: str, hint: str, **fields: str) -> Context:
    return {"kind": kind, "word": word, "fields": fields, "why_not": why_not, "hint": hint}


def retries(o: Context) -> list[Context]:
    """Return what a retry can mean: everything that failed, the phase where it stands, or one blocked task of that."""
    found = [_retry("all", "everything that failed", "wherever it stands", c.Retry(o["id"]))]
    phase = next((phase for phase in o["plan"] if phase["phase"] == o["phase"]), None)
    if phase is None:
        return found
    at = phase["phase"]
    found.append(_retry("phase", f"phase {at}", "refused if it stands in another by then", c.Retry(o["id"], at)))
    for task in phase["tasks"]:
        if task["status"] == "blocked":
            number, hint = task["number"], f"{task['subject']}; the others stay blocked"
            found.append(_retry(f"task-{number}", f"task {at}.{number}", hint, c.Retry(o["id"], at, number), task["reason_code"]))
    return found


def _retry(name: str, words: str, hint: str, command: c.Retry, reason_code: str | None = None) -> Context:
    shown = {"name": name, "words": words, "hint": hint, "reason_code": reason_code}
    return {**shown, "phase": command.phase, "task": command.task, "equivalent": command_line(command)}


def ended(o: Context) -> str:
    """Return that an orchestration has ended, as a reason; empty while it goes on."""
    return f"it is {o['status']}" if o["status"] in ENDED else ""


def cancel_why_not(o: Context) -> str:
    """Return why an orchestration cannot be cancelled (empty: it can). One that waits for a lost node can be given up by a second cancel."""
    held = {hold["kind"] for hold in o["holds"]}
    return ended(o) or ("it is being cancelled" if "cancelling" in held and "node_lost" not in held else "")


async def _in_flight(visit: Visit, o: Context) -> list[Context]:
    """Return what was asked and is not done yet. An ended orchestration has nothing open."""
    if o["status"] in ENDED:
        return []
    accepted = ActionStatus.ACCEPTED.value
    actions = (await visit.backend.ask("actions", orchestration=o["id"], status=accepted, limit=IN_FLIGHT_SHOWN))["items"]
    if not actions:
        return []
    runs = await visit.backend.ask_all("runs", orchestration=o["id"])
    going = sum(1 for run in runs if run["status"] in GOING)
    return [{**action, "waits": waits_for(action["type"], going)} for action in reversed(actions)]


def waits_for(kind: str, going: int) -> str:
    """Return what an accepted action of type `kind` waits for, while `going` runs go on."""
    match kind:
        case "pause" | "cancel":
            return "waits for 1 run" if going == 1 else f"waits for {going} runs" if going else "is about to be done"
        case "retry":
            return "waits for the first run to start"
        case "launch":
            return "waits for its workspace"
        case _:
            return "is not done yet"


def equivalents(orchestration: str) -> list[str]:
    """Return the command lines of the actions, in the order of the bar."""
    asked: tuple[c.Command, ...] = (
        c.Pause(orchestration),
        c.Pause(orchestration, c.PauseMode.STOP),
        c.Resume(orchestration),
        c.Retry(orchestration),
        c.Cancel(orchestration),
        c.GateApprove(orchestration),
        c.GateReject(orchestration, "what is missing"),
    )
    return [command_line(command) for command in asked]


async def plan(visit: Visit) -> Context:
    """Return the plan tab. Raises Problem."""
    return {**await head(visit), "tab": "plan"}


async def why(visit: Visit) -> Context:
    """Return the tab that says what holds it. Raises Problem."""
    return {**await head(visit), "tab": "why", "why": await visit.backend.ask("why", id=visit.params["id"])}


def topics(visit: Visit) -> frozenset[str]:
    """Return what every tab is told about."""
    return frozenset({visit.params["id"]})


def tab(name: str, load: Any, *, every_s: float | None = None, path: str | None = None) -> Page:
    """Return the page of a tab: its templates are named like it."""
    place = "/orchestrations/{id}" + (f"/{name}" if path is None else path)
    return Page(place, f"orchestration_{name}.html", load, f"orchestration_{name}_patches.html", topics, every_s, nav="runs")


PAGES = (tab("plan", plan), tab("why", why))
