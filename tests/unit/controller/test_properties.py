"""Properties of the core over random histories: every prefix replays, nothing gets stuck, each key is decided once."""

from __future__ import annotations

import random
from collections import Counter
from datetime import timedelta

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bus.connection import Stored
from bus.pull import Delivery
from bus_schemas import codec, subjects
from bus_schemas import commands as c
from bus_schemas import events as e
from bus_schemas.decisions import CommandCause, Decision
from bus_schemas.events import HoldKind
from bus_schemas.ids import PLANE
from bus_schemas.orders import RunKind
from bus_schemas.reports import Finding, Outcome, PlannedTask, PlanResult, ReviewResult, Usage, ValidateResult, Verdict, VerifyResult
from controller import decide
from controller.batch import Batch, CommandItem
from controller.draft import Context
from controller.leases import Back, Disowned, Drained, Lost
from controller.ledger import Ledger
from controller.orchestration import Orchestration
from controller.project import Aggregate, fold, fold_decision, replay, settled
from controller.reports import Repeated
from tests.unit.controller.world import SHELL, T0, World

OVERRIDES = [
    {},
    {"flow": {"max_parallel_tasks": 4, "max_task_attempts": 1}},
    {"flow": {"human_gates": ["plan", "review", "finalize"], "max_parallel_tasks": 1}},
    {"model": {"review_consensus": True}, "review": {"enforcement": "phase_only"}},
    {"review": {"enforcement": "task_only"}, "flow": {"phases_enabled": [2]}},
]


def random_result(rng: random.Random, kind: RunKind) -> object:
    gaps = rng.random() < 0.35
    match kind:
        case RunKind.VALIDATE if gaps:
            return ValidateResult(rng.choice([Verdict.WARNING, Verdict.STOP]))
        case RunKind.PLAN:
            n = rng.randint(0, 5)
            return PlanResult(
                tuple(PlannedTask(i, f"t{i}", depends_on=tuple(rng.sample(range(1, n + 1), rng.randint(0, 1)))) for i in range(1, n + 1))
            )
        case RunKind.VERIFY if gaps:
            return VerifyResult(False, 1, "boom")
        case RunKind.REVIEW | RunKind.TASK_REVIEW if gaps:
            return ReviewResult(rng.choice([Verdict.GAPS, Verdict.PASS]), (Finding("x", override_reason=rng.choice([None, "known"])),))
        case _:
            return None


CONTROLS = (
    c.Pause("shop-o1"),
    c.Pause("shop-o1", c.PauseMode.STOP),
    c.Resume("shop-o1"),
    c.Cancel("shop-o1"),
    c.Retry("shop-o1"),
    c.GateApprove("shop-o1"),
    c.GateReject("shop-o1", "again"),
)
WEIGHTS = (4, 2, 10, 1, 10, 12, 3)


def random_patch(rng: random.Random) -> dict[str, object]:
    return rng.choice(
        [
            {"flow": {"max_parallel_tasks": rng.randint(1, 4)}},
            {"flow": {"budget_tokens": rng.choice([None, 50, 10**6])}},
            {"flow": {"on_node_loss": rng.choice(["wait", "retry", "move"])}},
            {"model": {"executor": rng.choice(["shell", "haiku", "gpt-9"])}},
            {"flow": {"human_gates": rng.sample(["plan", "review", "finalize"], rng.randint(0, 3))}},
        ]
    )


def random_reconfiguration(rng: random.Random, world: World) -> c.Command:
    """A change of policy or tasks, most often with the right revision."""
    off = rng.random() < 0.2
    o = world.o
    phase = rng.choice(o.phases)
    numbers = [task.number for task in phase.tasks] or [1]
    number = rng.choice(numbers)
    task = phase.task(number)
    revision = (task.revision if task else 1) + off
    match rng.randint(0, 4):
        case 0:
            return c.PolicySet("shop-o1", random_patch(rng), o.policy_revision + off)
        case 1:
            return c.TaskEdit("shop-o1", phase.id, number, revision, subject="edited")
        case 2:
            return c.TaskModelSet("shop-o1", phase.id, number, revision, rng.choice([None, "haiku"]))
        case 3:
            return c.TaskSkip("shop-o1", phase.id, number, revision)
        case _:
            needs = tuple(rng.sample(numbers, min(len(numbers), rng.randint(0, 2))))
            blocks = rng.choice([None, (), tuple(rng.sample(numbers, 1))])
            return c.TaskInsert("shop-o1", phase.id, rng.choice([0, number]), "inserted", needs, phase.revision + off, blocks=blocks)


def random_node_news(rng: random.Random, world: World) -> None:
    """A node goes, comes back, forgets what it ran, or is drained."""
    node = rng.choice(["n1", "n2"])
    match rng.randint(0, 4):
        case 0:
            world.online.discard(node)
            world.duty(Lost("shop-o1", node))
        case 1 | 2:
            world.online |= {"n1", "n2"}
            world.duty(Back("shop-o1", node))
        case 3:
            world.duty(Drained("shop-o1", node))
        case _:
            started = [run for run in world.open() if run.status == "started"]
            if started:
                world.duty(Disowned(started[0].id, started[0].attempt))


def random_history(rng: random.Random, steps: int) -> World:
    world = World(phases=rng.randint(1, 3), check=rng.choice([None, "x"]), overrides=rng.choice(OVERRIDES))
    world.add_node("n2")
    for _ in range(steps):
        if not world.o.is_live:
            break
        check_state(world)
        runs = [run for run in world.open() if not run.held]
        if runs and rng.random() < 0.8:
            run = rng.choice(runs)
            what = rng.random()
            if what < 0.25:
                world.start(run)
            elif what < 0.3:
                world.withdraw(run)
            elif what < 0.45:
                outcome = rng.choice([Outcome.FAILED, Outcome.LOST, Outcome.TIMED_OUT, Outcome.CANCELLED])
                code = rng.choice(["execution_output_malformed", "dispatch_timeout", "dispatch_node_lost", "execution_quota_exhausted"])
                world.fail(run, code, outcome, process_started=rng.random() < 0.8)
            else:
                usage = rng.choice([None, Usage(rng.randint(0, 20), 1)])
                world.end(run, random_result(rng, run.kind), usage=usage)  # type: ignore[arg-type]
        elif rng.random() < 0.4:
            world.do(random_reconfiguration(rng, world))
        elif rng.random() < 0.3:
            random_node_news(rng, world)
        else:
            world.do(rng.choices(CONTROLS, WEIGHTS)[0])
    check_state(world)
    return world


def check_state(world: World) -> None:
    o = world.o
    holds = {hold.kind for hold in o.holds}
    open_runs = o.open_runs()
    if not o.is_live:
        assert not open_runs, "an ended orchestration has open runs"
        assert not o.open_actions
        assert not holds
        return
    stopped = {HoldKind.GATE, HoldKind.BLOCKED, HoldKind.PAUSED, HoldKind.BUDGET, HoldKind.QUOTA}
    assert open_runs or holds & stopped, f"stuck in {o.status}: nothing runs and nothing holds it"
    assert not (HoldKind.PAUSED in holds and o.outstanding()), "paused, and something is still on its way"
    assert HoldKind.PAUSING not in holds or o.outstanding()
    assert (o.gate is not None) is (HoldKind.GATE in holds)
    assert o.heads or o.status == "launching"
    in_progress = [t for p in o.phases for t in p.tasks if t.status == "in_progress"]
    assert len(in_progress) <= max(policy.flow.max_parallel_tasks for policy in (o.policy, *(known.policy for known in o.policy_changes)))
    assert not (HoldKind.NODE_LOST in holds and not o.outstanding() and HoldKind.CANCELLING in holds)
    working = {(run.phase, run.task) for run in open_runs if run.task is not None}
    if HoldKind.CANCELLING not in holds:  # a cancel lets nothing follow what ends
        assert {(p.id, t.number) for p in o.phases for t in p.tasks if t.status == "in_progress"} == working
    assert len({run.nonce for run in o.runs}) == len(o.runs)


HISTORY = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@HISTORY
@given(st.integers(0, 2**32))
def test_no_history_gets_stuck_or_breaks_the_state(seed: int) -> None:
    random_history(random.Random(seed), 120)


@HISTORY
@given(st.integers(0, 2**32))
def test_every_prefix_of_a_history_replays_to_the_state_it_had(seed: int) -> None:
    world = random_history(random.Random(seed), 60)
    own = [(seq, message) for seq, message in world.ledger if message.project == "shop"]
    state = Aggregate("shop")
    sampled = set(random.Random(seed).sample(range(1, len(own) + 1), min(8, len(own))))
    for count, (seq, message) in enumerate(own, 1):
        state = fold(state, message, seq)
        if count in sampled:
            assert replay("shop", own[:count]) == state
    assert state == world.project


@HISTORY
@given(st.integers(0, 2**32))
def test_every_accepted_action_reaches_exactly_one_end_and_every_history_ends_once(seed: int) -> None:
    world = random_history(random.Random(seed), 120)
    ends = Counter(event.action for event in world.events() if isinstance(event, e.ActionCompleted | e.ActionFailed))
    accepted = [r for r in world.project.actions.values() if r.status != "refused"]

    assert all(count == 1 for count in ends.values())
    assert {r.action for r in accepted if r.status in ("completed", "failed")} == set(ends) & {r.action for r in accepted}
    if not world.o.is_live:
        assert {r.action for r in accepted} == set(ends) & {r.action for r in accepted}
    moves = [event.status for event in world.events(e.OrchestrationMoved)]  # type: ignore[union-attr]
    assert sum(status in ("complete", "failed", "cancelled") for status in moves) <= 1


@HISTORY
@given(st.integers(0, 2**32))
def test_no_edit_of_a_started_task_is_accepted_and_revisions_grow_by_exactly_one(seed: int) -> None:
    world = random_history(random.Random(seed), 120)
    revisions: dict[tuple[str, int], int] = {}
    plans: dict[str, int] = {}
    ran: set[tuple[str, int]] = set()
    policy = 1
    for event in world.events():
        match event:
            case e.PolicyChanged():
                assert event.revision == policy + 1
                policy += 1
            case e.PhasePlanned():
                assert event.revision == plans.get(event.phase, 0) + 1
                plans[event.phase] = event.revision
                revisions |= {(event.phase, task.number): 1 for task in event.tasks}
            case e.TaskInserted():
                assert event.plan_revision == plans[event.phase] + 1
                plans[event.phase] += 1
                revisions[event.phase, event.task] = 1
                for number in event.blocks:
                    assert (event.phase, number) not in ran
                    revisions[event.phase, number] += 1
            case e.TaskEdited():
                key = (event.phase, event.task)
                assert key not in ran
                assert (event.revision, event.plan_revision) == (revisions[key] + 1, plans[event.phase] + 1)
                revisions[key] += 1
                plans[event.phase] += 1
            case e.TaskMoved():
                key = (event.phase, event.task)
                assert event.revision in (revisions[key], revisions[key] + 1)
                assert (event.revision > revisions[key]) == (not event.rejected and event.status in ("in_progress", "pending", "skipped")) or (
                    event.status == "in_progress" and event.git_range is not None
                )
                revisions[key] = event.revision
                if event.plan_revision is not None:
                    assert event.plan_revision == plans[event.phase] + 1
                    plans[event.phase] += 1
                if event.status == "in_progress":
                    ran.add(key)
                elif event.status == "pending":
                    ran.discard(key)  # a retry makes it pending again


@HISTORY
@given(st.integers(0, 2**32))
def test_no_start_follows_the_completion_of_a_pause_until_the_resume(seed: int) -> None:
    world = random_history(random.Random(seed), 120)
    paused = False
    for event in world.events():
        if isinstance(event, e.HoldSet | e.HoldCleared) and event.hold is HoldKind.PAUSED:
            paused = isinstance(event, e.HoldSet)
        assert not (paused and isinstance(event, e.RunStarted))


@HISTORY
@given(st.integers(0, 2**32))
def test_a_report_delivered_again_at_any_later_time_changes_nothing(seed: int) -> None:
    rng = random.Random(seed)
    world = World(phases=1, overrides=rng.choice(OVERRIDES))
    said = []
    for _ in range(60):
        runs = [run for run in world.open() if not run.held]
        if not runs:
            world.do(rng.choice([c.GateApprove("shop-o1"), c.Retry("shop-o1")]))
            if not world.o.is_live:
                break
            continue
        run = rng.choice(runs)
        said.append(run)
        world.end(run, random_result(rng, run.kind))  # type: ignore[arg-type]
        old = rng.choice(said)
        before = world.o
        again = world.end(old)
        if isinstance(again, Repeated):
            continue
        # the newest attempt of it came in between: recorded as stale, and nothing else
        assert [type(event) for event in again.events] == [e.ReportStale]
        assert world.o == before


@HISTORY
@given(st.integers(0, 2**32))
def test_time_never_runs_backwards_in_a_ledger(seed: int) -> None:
    rng = random.Random(seed)
    world = World()
    for _ in range(20):
        world.now = T0 + timedelta(seconds=rng.randint(-1000, 1000))
        world.do(c.TicketAdd("shop", "x"))
    times = [decision.at for _, message in world.ledger if message.project == "shop" for decision in message.decisions]

    assert times == sorted(times)


# ── two deciders and a compare-and-set ───────────────────────────────────────────────────────────────────────────────


class CasLog:
    """What the stream promises: one log; a message is taken only on top of the subject's last sequence."""

    def __init__(self) -> None:
        self.messages: list[Stored] = []

    def last_seq(self, subject: str) -> int:
        return max((stored.seq for stored in self.messages if stored.subject == subject), default=0)

    def append(self, subject: str, data: bytes, expected: int) -> int | None:
        if self.last_seq(subject) != expected:
            return None
        self.messages.append(Stored(subject, len(self.messages) + 1, T0, data, {}))
        return len(self.messages)


class Decider:
    """A controller's batch and ledger around a `CasLog`; may be stale, may die between the append and its own fold."""

    def __init__(self, log: CasLog, name: str) -> None:
        self.log, self.name = log, name
        self.restart()

    def restart(self) -> None:
        self.ledger = Ledger(None, self.name)  # type: ignore[arg-type]
        self.seen = 0

    def catch_up(self) -> None:
        for stored in self.log.messages[self.seen :]:
            self.ledger.fold_stored(stored)
        self.seen = len(self.log.messages)
        assert not self.ledger.stopped

    def settles_to_the_fold(self, batch: Batch, data: bytes, seq: int) -> bool:
        message = codec.decode_ledger(data)
        return settled(batch.state, message, seq) == fold(self.ledger.state(batch.project), message, seq)

    def decide(self, project: str, items: list[CommandItem], *, seed: bytes) -> bool:
        """Decide a batch; return whether it was stored (or needed nothing)."""
        context = Context(T0, seed, self.ledger.plane, frozenset({"n1"}), {})
        batch = Batch(self.ledger, project, context)
        for item in items:
            batch.take(item)
        if not batch.decisions:
            return True
        head = self.ledger.head(project)
        message = {
            "v": 1,
            "type": "ledger-message",
            "project": project,
            "batch": "b",
            "by": self.name,
            "prev": head.sha256,
            "plane_seq": self.ledger.head(PLANE).seq,
            "core": 1,
            "decisions": batch.encoded,
        }
        seq = self.log.append(subjects.ledger(project), codec.encode(message), head.seq)
        assert seq is None or self.settles_to_the_fold(batch, codec.encode(message), seq)
        return seq is not None


def item_of(command: c.Command, key: str, index: int) -> CommandItem:
    delivery = Delivery.__new__(Delivery)
    delivery._meta = ["CMD", "controller", "1", str(index), str(index), "0", "0"]
    body = codec.command_body(command)
    kind = c.type_of(command)
    envelope = c.CommandEnvelope(1, kind, f"id{index}", T0, c.Via.CLI, key, body)
    subject = subjects.CommandSubject("ana", c.subject_project(command), kind, False)
    return CommandItem(delivery, subject, envelope, command, codec.body_hash(kind, body))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_of_two_deciders_racing_over_repeated_commands_each_key_is_decided_once(data: st.DataObject) -> None:
    log = CasLog()
    deciders = [Decider(log, "one"), Decider(log, "two")]
    commands: list[tuple[c.Command, str]] = [(c.ProjectAdd("shop", "/r"), "p")]
    commands += [(c.TicketAdd("shop", f"t{n}"), f"k{n}") for n in range(4)]
    commands += [(c.TicketAdd("shop", "other body"), "k0"), (c.DesignAdd("nope", "T", "b"), "k1")]
    items = [item_of(command, key, index + 1) for index, (command, key) in enumerate(commands)]
    for _ in range(data.draw(st.integers(1, 30), "steps")):
        decider = data.draw(st.sampled_from(deciders), "who")
        what = data.draw(st.sampled_from(["decide", "decide", "decide", "catch up", "restart"]), "what")
        if what == "restart":
            decider.restart()
        if what != "decide":
            decider.catch_up()
            continue
        taken = data.draw(st.lists(st.sampled_from(items), min_size=1, max_size=4), "items")
        project = data.draw(st.sampled_from([PLANE, "shop"]), "lane")
        decider.decide(project, taken, seed=b"x" * 16)
    # in the end every command is delivered to somebody until it is answered
    for item in items:
        for _ in range(3):
            deciders[0].catch_up()
            home = decide.home(item.subject.project, deciders[0].ledger.plane)
            if deciders[0].decide(home, [item], seed=b"y" * 16):
                break
        else:
            raise AssertionError("never stored")
    deciders[0].catch_up()

    first: dict[tuple[str, str], str] = {}
    for stored in log.messages:
        for decision in codec.decode_ledger(stored.data).decisions:
            cause, action = decision.cause, decision.action
            assert isinstance(cause, CommandCause)
            assert action is not None
            if action.reason_code == "validation_idempotency_mismatch":
                assert first[cause.project, cause.key] != cause.body_hash
                continue
            assert (cause.project, cause.key) not in first, "decided twice"
            first[cause.project, cause.key] = cause.body_hash
    assert set(first) >= {("plane", "p"), ("shop", "k2"), ("shop", "k3"), ("nope", "k1")}


@HISTORY
@given(st.integers(0, 2**32))
def test_the_state_that_a_batch_was_decided_on_is_the_fold_of_what_was_stored(seed: int) -> None:
    world = random_history(random.Random(seed), 60)
    own = [(seq, message) for seq, message in world.ledger if message.project == "shop"]
    state = Aggregate("shop")
    for seq, message in own:
        overlay = state
        for decision in message.decisions:
            overlay = fold_decision(overlay, decision, None)
        state = fold(state, message, seq)
        assert settled(overlay, message, seq) == state


def test_a_ledger_that_was_tampered_with_stops_its_project_loudly_and_no_other() -> None:
    log = CasLog()
    decider = Decider(log, "one")
    for index, command in enumerate([c.ProjectAdd("shop", "/r"), c.ProjectAdd("tool", "/t")]):
        decider.decide(PLANE, [item_of(command, f"p{index}", index + 1)], seed=b"x" * 16)
        decider.catch_up()
    for index, project in enumerate(["shop", "tool", "shop", "tool"]):
        decider.decide(project, [item_of(c.TicketAdd(project, f"t{index}"), f"k{index}", index + 9)], seed=b"x" * 16)
        decider.catch_up()
    tampered = next(index for index, stored in enumerate(log.messages) if stored.subject == "qd.ledger.shop")
    log.messages[tampered] = log.messages[tampered]._replace(data=log.messages[tampered].data.replace(b"t0", b"tX"))
    reader = Decider(log, "two")
    for stored in log.messages:
        reader.ledger.fold_stored(stored)

    assert set(reader.ledger.stopped) == {"shop"}
    assert "chain of hashes" in reader.ledger.stopped["shop"]
    assert reader.ledger.state("tool").ticket_count == 2


def test_a_decision_depends_on_the_clock_only_through_its_recorded_time() -> None:
    world = World(launch=False)
    command = c.Launch("shop-d1", "n1", overrides=SHELL)

    def decided(now_offset_s: float) -> Decision:
        cause = CommandCause("c", "launch", "k", "ana", "cli", "shop", T0, "h", codec.command_body(command))
        context = msgspec.structs.replace(world.context(), now=world.now + timedelta(seconds=now_offset_s))
        return decide.decide_command(world.project, cause, command, context)

    first, later = decided(1), decided(86_400)
    assert first.at != later.at
    assert msgspec.structs.replace(first, at=later.at) == later


def test_an_orchestration_is_a_small_value() -> None:
    world = World(phases=2)
    world.finish()
    assert isinstance(world.o, Orchestration)

    assert len(codec.encode(msgspec.structs.replace(world.o, design_body=""))) < 20_000
