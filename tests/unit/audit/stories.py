"""Stories: random chronicles from launch to rest, and the evidence that is left of them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from bus_schemas import codec
from bus_schemas import commands as c
from bus_schemas.decisions import rows
from bus_schemas.entities import TicketStatus
from bus_schemas.events import HoldKind, RunStatus, type_of
from cli.audit.evidence import Circumstances, Evidence, Fault, Journal, Repository, RepositoryState, TimelineRow
from controller.leases import Back, Disowned, Due, Lost
from controller.orchestration import Orchestration
from tests.unit.audit.chronicle import NODES, OVERRIDES, Chronicle


def story(seed: int, *, steps: int = 120, projects: int = 2) -> Chronicle:
    """Return a chronicle of some launches with everything that may happen to them, come to rest."""
    chronicle = Chronicle(seed, projects=projects)
    for project in chronicle.projects:
        chronicle.ask(c.TicketAdd(project, "mend it"))
        launch(chronicle, project)
    for _ in range(steps):
        chronicle.rng.choices(STEPS, WEIGHTS)[0](chronicle)
    rest(chronicle)
    return chronicle


# ── what happens ─────────────────────────────────────────────────────────────────────────────────────────────────────


def launch(w: Chronicle, project: str | None = None) -> None:
    project = project or w.rng.choice(w.projects)
    feature = f"feature {len(w.calls)}-{w.rng.randint(0, 10**6)}"
    tickets = tuple(ticket for ticket in w.tickets(project) if w.rng.random() < 0.3)
    w.ask(c.Launch(f"{project}-d1", w.rng.choice([*NODES, "auto"]), feature, tickets=tickets, overrides=w.rng.choice(OVERRIDES)))


def dispatch(w: Chronicle) -> None:
    w.flush()  # an order is published when what it stands in is stored
    runs = w.sendable()
    if runs:
        run = w.rng.choice(runs)
        w.sent[run.id, run.attempt] = run


def start(w: Chronicle) -> None:
    runs = [run for run in w.sent.values() if run.node in w.online]
    if runs:
        w.claim(w.rng.choice(runs))


def finish(w: Chronicle) -> None:
    runs = [run for run in w.claimed.values() if run.node in w.online]
    if runs:
        run = w.rng.choice(runs)
        w.end(run, w.ended(run))


def deliver(w: Chronicle) -> None:
    if w.late:
        # a report of another run may be faster; the two of one attempt are in one stream, and may still come the wrong way round
        w.deliver(w.rng.randrange(len(w.late)) if w.rng.random() < 0.3 else 0)


def control(w: Chronicle) -> None:
    live = w.live()
    if not live:
        return
    o = w.rng.choice(live).id
    commands = (
        c.Pause(o),
        c.Pause(o, c.PauseMode.STOP),
        c.Resume(o),
        c.Retry(o),
        c.GateApprove(o, "well"),
        c.GateReject(o, "again"),
        c.Cancel(o),
        c.PolicySet(o, {"flow": {"max_parallel_tasks": w.rng.randint(1, 3)}}, target_revision=w.rng.randint(1, 2)),
    )
    w.ask(w.rng.choices(commands, (4, 2, 8, 8, 12, 3, 1, 3))[0])


def policy(w: Chronicle) -> None:
    live = w.live()
    if live:
        o = w.rng.choice(live)
        w.ask(c.RoleModelSet(o.id, w.rng.choice(["executor", "reviewer"]), w.rng.choice(["opus", "haiku"]), target_revision=o.policy_revision))


def change_tasks(w: Chronicle) -> None:
    live = [o for o in w.live() if any(phase.tasks for phase in o.phases)]
    if not live:
        return
    o = w.rng.choice(live)
    phase = w.rng.choice([phase for phase in o.phases if phase.tasks])
    task = w.rng.choice(phase.tasks)
    named = {"orchestration": o.id, "phase": phase.id, "task": task.number, "target_revision": task.revision}
    commands: list[c.Command] = [
        c.TaskEdit(**named, description=f"other {w.rng.randint(0, 99)}"),
        c.TaskModelSet(**named, model=w.rng.choice(["haiku", None])),
        c.TaskSkip(**named),
        c.TaskInsert(o.id, phase.id, w.rng.choice([0, task.number]), "one more", (), target_revision=phase.revision),
    ]
    w.ask(w.rng.choices(commands, (6, 3, 1, 3))[0])


def catalogue(w: Chronicle) -> None:
    project = w.rng.choice(w.projects)
    tickets = w.tickets(project)
    ticket = w.rng.choice(tickets) if tickets else f"{project}-t1"
    commands: tuple[c.Command, ...] = (
        c.TicketAdd(project, "fix it"),
        c.TicketMove(ticket, w.rng.choice(list(TicketStatus))),
        c.TicketEdit(ticket, title="fix that"),
        c.CommentAdd(f"{project}-d1", "hm"),
        c.DesignEdit(f"{project}-d1", title="Other"),
        c.DesignMark(f"{project}-d1", "phases_outlined"),
        c.NodeCordon(w.rng.choice(NODES)),
        c.NodeUncordon(w.rng.choice(NODES)),
        c.FlagSet("require_reason", w.rng.random() < 0.1),
    )
    w.ask(w.rng.choices(commands, (6, 2, 2, 2, 1, 1, 1, 6, 1))[0])


def ask_again(w: Chronicle) -> None:
    """Send a command of before once more, or something else with its key."""
    if not w.calls:
        return
    call = w.rng.choice(w.calls)
    if w.rng.random() < 0.3:
        w.ask(c.TicketAdd(w.rng.choice(w.projects), "other"), key=call.key)
    elif call.body is not None and call.verb in c.COMMAND_TYPES:
        command = codec.decode_command(c.CommandEnvelope(1, call.verb, "x", w.now, c.Via.CLI, call.key, call.body))
        assert not isinstance(command, codec.BadCommand)
        w.ask(command, key=call.key)


def nonsense(w: Chronicle) -> None:
    w.ask(None, kind=w.rng.choice(["dance", "x" * 80]))


def lose(w: Chronicle) -> None:
    """Take a node away, and maybe notice it."""
    node = w.rng.choice(NODES)
    w.online.discard(node)
    for o in w.live():
        if any(run.node == node for run in o.outstanding()):
            w.duty(o.project, Lost(o.id, node))


def find(w: Chronicle) -> None:
    """Bring all nodes back."""
    gone = set(NODES) - w.online
    w.online |= gone
    for o in w.live():
        if o.hold(HoldKind.NODE_LOST) is not None:
            w.duty(o.project, Back(o.id, o.node))


def disown(w: Chronicle) -> None:
    """Let a node forget an attempt that it had claimed: it died before it spawned."""
    runs = [run for o in w.live() for run in o.open_runs() if run.status is RunStatus.STARTED and (run.id, run.attempt) in w.claimed]
    if runs and w.rng.random() < 0.3:
        run = w.rng.choice(runs)
        w.duty(run.id.rpartition("-o")[0], Disowned(run.id, run.attempt))


def due(w: Chronicle) -> None:
    for o in w.live():
        if any(hold.until is not None and hold.until <= w.now for hold in o.holds):
            w.duty(o.project, Due(o.id))


def recall(w: Chronicle) -> None:
    w.flush()
    w.recall()


def record(w: Chronicle) -> None:
    w.record_heads()


STEPS = (
    record,
    launch,
    dispatch,
    start,
    finish,
    deliver,
    control,
    policy,
    change_tasks,
    catalogue,
    ask_again,
    nonsense,
    lose,
    find,
    disown,
    due,
    recall,
)
WEIGHTS = (1, 2, 30, 30, 28, 50, 10, 2, 5, 4, 4, 1, 1, 4, 1, 2, 6)


# ── coming to rest ───────────────────────────────────────────────────────────────────────────────────────────────────


def rest(w: Chronicle) -> None:
    """Heal: let everything that is on its way come to its end, good ones from now on."""
    for _ in range(300):
        find(w)
        w.flush()
        w.recall()
        w.now += timedelta(seconds=1)
        for run in w.sendable():
            w.sent[run.id, run.attempt] = run
        for run in list(w.sent.values()):
            w.claim(run)
        for run in list(w.claimed.values()):
            w.end(run, w.ended(run, good=True))
        while w.late:
            w.deliver()
        due(w)
        if not any(on_its_way(o) for o in w.live()):
            break
    else:
        raise AssertionError("it does not come to rest")
    w.flush()


def on_its_way(o: Orchestration) -> bool:
    return bool(o.outstanding()) or any(hold.until is not None for hold in o.holds)


# ── what is left ─────────────────────────────────────────────────────────────────────────────────────────────────────


def timeline_of(w: Chronicle) -> list[TimelineRow]:
    """Return the rows that the timeline has of the ledger."""
    found: list[TimelineRow] = []
    for stored in w.ledger:
        message = codec.decode_ledger(stored.data)
        for row in rows(message, stored.seq):
            action = row.decision.action
            kind = getattr(row.decision.cause, "type", "unknown") if row.event is None else type_of(row.event)
            about = action if row.event is None else row.event
            named: list[Any] = [getattr(about, name, None) for name in ("orchestration", "run", "attempt")]
            because = row.decision.because if action is None else action.id
            found.append(TimelineRow(row.position.seq, row.position.row, message.project, kind, *named, because))
    return found


def evidence_of(w: Chronicle) -> Evidence:
    """Return all evidence of a chronicle."""
    state = RepositoryState({"refs/heads/main": "c0"}, "ref: refs/heads/main", "i0", {"dirty.txt": "h0"})
    after = RepositoryState({"refs/heads/main": "c0", "refs/heads/qd/x": "c9", "refs/qd/o1/r1.1": "c8"}, state.head, state.index, state.files)
    return Evidence(
        ledger=w.ledger,
        reports=w.reports,
        commands=w.commands,
        dead_letters=[],
        calls=w.calls,
        witness=w.witness,
        journals=[Journal(node, tuple(lines)) for node, lines in w.journals.items()],
        faults=[Fault(0.0, "node-kill", "n1", 0.001)],
        survivors=[],
        timeline=timeline_of(w),
        repositories=[Repository("/repo", state, after)],
        canaries=("canary-7f3a9c",),
        sinks={"qd.log": b"nothing to see"},
        circumstances=Circumstances(quiesced=True, clients_complete=True, recovery_bounds_s={"node-kill": 3600.0}),
    )
