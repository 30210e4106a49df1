"""Summaries: a sentence for every row."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bus_schemas import events as e
from bus_schemas.decisions import Action, ActionStatus
from bus_schemas.orders import RunKind
from bus_schemas.reports import Finding, Outcome, Usage, Verdict
from tests.unit.timeline.story import whole_story
from timeline.batch import read_all
from timeline.reading import UnknownEvent
from timeline.summaries import LENGTH_MAX, SENTENCES, of_action, of_event, one_line


def test_every_type_of_event_has_a_sentence() -> None:
    assert set(SENTENCES) == set(e.EVENT_TYPES.values())


def _sample(kind: Any) -> Any:
    """Return a value of any annotated type."""
    match kind:
        case msgspec.inspect.StructType() as struct:
            return struct.cls(**{field.name: _sample(field.type) for field in struct.fields if field.required})
        case msgspec.inspect.EnumType() as enum:
            return next(iter(enum.cls))
        case msgspec.inspect.UnionType() as union:
            return None if any(isinstance(one, msgspec.inspect.NoneType) for one in union.types) else _sample(union.types[0])
        case msgspec.inspect.TupleType() as several:
            return tuple(_sample(one) for one in several.item_types)
        case msgspec.inspect.VarTupleType():
            return ()
        case msgspec.inspect.IntType() | msgspec.inspect.FloatType():
            return 1
        case msgspec.inspect.BoolType():
            return True
        case msgspec.inspect.NoneType():
            return None
        case _:
            return "word\nand another"


@pytest.mark.parametrize("kind", list(e.EVENT_TYPES.values()), ids=list(e.EVENT_TYPES))
def test_a_sentence_needs_no_optional_field_and_stands_on_one_line(kind: Any) -> None:
    text = of_event(_sample(msgspec.inspect.type_info(kind)), None, None)
    assert text
    assert "\n" not in text
    assert "None" not in text
    assert len(text) <= LENGTH_MAX


def test_every_event_of_a_whole_story_reads_as_a_sentence() -> None:
    for read in read_all(whole_story().stored()):
        assert read.message is not None
        for decision in read.message.decisions:
            for event in decision.events:
                assert "None" not in of_event(event, None, None)


def test_what_happened_to_a_task_names_its_subject() -> None:
    done = e.TaskMoved("shop-o1", "1", 2, e.TaskStatus.COMPLETED, 3)
    assert of_event(done, "add parser", None) == "task 2 of phase 1 completed: add parser"
    back = e.TaskMoved("shop-o1", "1", 2, e.TaskStatus.IN_PROGRESS, 3, rejected=True)
    assert of_event(back, "add parser", None) == "task 2 of phase 1 sent back by its review: add parser"
    blocked = e.TaskMoved("shop-o1", "1", 2, e.TaskStatus.BLOCKED, 3, reason_code="dispatch_timeout")
    assert of_event(blocked, None, None) == "task 2 of phase 1 blocked: dispatch_timeout"


def test_gates_and_holds_say_who_and_why() -> None:
    assert of_event(e.GateOpened("shop-o1", e.GateKind.PLAN, "1", "2 tasks"), None, None) == "gate plan of phase 1 opened: 2 tasks"
    rejected = e.GateResolved("shop-o1", e.GateKind.PLAN, "1", False, "ben", "too big")
    assert of_event(rejected, None, None) == "gate plan of phase 1 rejected by ben: too big"
    held = e.HoldSet("shop-o1", e.HoldKind.PAUSING, "paused (drain) by ana")
    assert of_event(held, None, "lunch") == "held (pausing): paused (drain) by ana: lunch"


def test_runs_say_how_they_ended_how_long_they_took_and_what_they_cost() -> None:
    queued = e.RunQueued("shop-o1", "shop-o1-r3", 2, "n", RunKind.TASK, "mini-1", "executor", "opus", 1, phase="1", task=2)
    assert of_event(queued, None, None) == "run r3 attempt 2 queued: task 2 of phase 1 on mini-1 with opus"
    good = e.RunEnded("shop-o1", "shop-o1-r3", 1, "mini-1", Outcome.SUCCEEDED, duration_ms=61_500, usage=Usage(1000, 200, 0.05))
    assert of_event(good, None, None) == "run r3 succeeded after 61.5 s, 1200 tokens, $0.0500"
    bad = e.RunEnded("shop-o1", "shop-o1-r3", 1, "mini-1", Outcome.FAILED, reason_code="dispatch_cli_exit_nonzero", exit_code=2)
    assert of_event(bad, None, None) == "run r3 failed (exit code 2): dispatch_cli_exit_nonzero"


def test_verdicts_quote_the_first_finding() -> None:
    gaps = e.VerdictRecorded("shop-o1", "1", "reviewer", Verdict.GAPS, findings=(Finding(text="no test"), Finding(text="no docs")))
    assert of_event(gaps, None, None) == "reviewer review of phase 1 found 2 gaps: no test"


def test_a_request_says_what_became_of_it() -> None:
    launched = Action("shop-a2", ActionStatus.ACCEPTED, design="shop-d1", orchestration="shop-o1", node="mini-1")
    assert of_action(launched, "launch", None) == "launch of shop-d1 accepted as shop-o1 on mini-1"
    refused = Action("shop-a3", ActionStatus.REFUSED, "validation_invalid_state", "shop-o1 is already paused", orchestration="shop-o1")
    assert of_action(refused, "pause", "lunch") == "pause of shop-o1 refused: shop-o1 is already paused"


def test_an_unknown_event_is_named() -> None:
    assert of_event(UnknownEvent("moon-phase-changed", {}), None, None) == "event of a type this version does not know: moon-phase-changed"


def test_a_long_text_is_cut_and_line_breaks_are_blanks() -> None:
    assert one_line("a\n\tb  c") == "a b c"
    assert one_line("x" * 1000) == "x" * (LENGTH_MAX - 1) + "…"


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (e.TaskMoved("shop-o1", "1", 2, e.TaskStatus.PENDING, 3), "task 2 of phase 1 pending again"),
        (e.TaskMoved("shop-o1", "1", 2, e.TaskStatus.PENDING, 3, rejected=True), "task 2 of phase 1 sent back by its review"),
        (e.TaskMoved("shop-o1", "1", 2, e.TaskStatus.IN_PROGRESS, 3), "task 2 of phase 1 in progress"),
        (e.TaskEdited("shop-o1", "1", 2, revision=3, plan_revision=2, subject="x", model="opus"), "task 2 of phase 1 edited: subject, model"),
        (
            e.TaskInserted("shop-o1", "1", plan_revision=2, task=3, after=2, subject="between", blocks=(4, 5)),
            "task 3 of phase 1 inserted after 2: between; blocks 4, 5",
        ),
        (e.TaskInserted("shop-o1", "1", plan_revision=2, task=3, after=0, subject="before"), "task 3 of phase 1 inserted as the first: before"),
        (e.ValidationRecorded("shop-o1", Verdict.PASS), "validation passed"),
        (e.ValidationRecorded("shop-o1", Verdict.WARNING, (Finding("thin"),)), "validation passed with 1 warning"),
        (e.ValidationRecorded("shop-o1", Verdict.STOP, (Finding("no tests"),)), "validation stopped the work: no tests"),
        (e.ValidationRecorded("shop-o1", Verdict.STOP), "validation stopped the work"),
        (e.VerdictRecorded("shop-o1", "1", "primary", Verdict.PASS, task=2), "primary review of task 2 of phase 1 passed"),
        (e.NodeAssigned("shop-o1", "n2", "n1", "node n1 is lost"), "goes on on n2 instead of n1: node n1 is lost"),
        (e.HoldSet("shop-o1", e.HoldKind.GATE, ""), "held (gate)"),
        (e.DesignEdited("shop-d1", 3, "T"), "design shop-d1 edited (title), revision 3"),
        (e.TicketEdited("shop-t1", "T", "b"), "ticket shop-t1 edited (title, body)"),
        (e.RunStarted("shop-o1", "shop-o1-r3", 1, "n1", queue_ms=1500.0), "run r3 started on n1 after 1.5 s in the queue"),
    ],
)
def test_an_event_is_said_as(event: Any, text: str) -> None:
    assert of_event(event, None, None) == text
