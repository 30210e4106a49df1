"""The timeline's alarms: a head that the ledger does not have, and how it is named."""

from __future__ import annotations

from collections.abc import Callable

from bus_schemas import codec
from bus_schemas.decisions import Decision, TimerCause
from bus_schemas.events import HeadsRecorded, RecordedHead
from bus_schemas.views import AlarmView
from tests.unit.timeline.feeding import ingest
from tests.unit.timeline.story import Story
from timeline.alarm import KEEP, alarm, of_head, of_recorded, with_lost
from timeline.store import Store

OpenStore = Callable[[str], Store]

ONE, TWO = "1" * 64, "2" * 64
NOTED = RecordedHead("shop", 7, ONE)


def a_story_with_a_record(of: RecordedHead | None = None, after: int = 0) -> Story:
    """Return a story in which the registry records a head of `shop`: its real one, or the one given, `after` more messages were written."""
    story = Story()
    story.plane()
    story.design()
    subject, body = story.bodies[-1]
    assert subject == "qd.ledger.shop"
    head = of or RecordedHead("shop", len(story.bodies), codec.body_sha256(body))
    for number in range(after):
        story.refused("shop", "launch", "validation_not_ready", f"{number}", design="shop-d1")
    story.write("plane", Decision(at=story.tick(), cause=TimerCause("heads"), events=(HeadsRecorded((head,)),)))
    return story


def test_a_recorded_head_that_is_there_raises_no_alarm_and_is_a_row_of_its_own(open_store: OpenStore) -> None:
    for after in (0, 2):
        store = open_store(f"good-{after}")
        assert ingest(store, a_story_with_a_record(after=after).stored()).stopped is None
        assert store.read("SELECT summary FROM events WHERE type = 'heads-recorded'").rows == [("heads of 1 project recorded",)]


def test_a_recorded_head_that_the_ledger_does_not_reach_is_a_lost_tail(open_store: OpenStore) -> None:
    story = a_story_with_a_record(of=RecordedHead("shop", 99, ONE))
    found = ingest(open_store("a"), story.stored()).stopped
    assert found is not None
    assert (found.kind, found.project, found.seq, found.expected, found.found) == ("lost-tail", "shop", 99, ONE, None)
    assert "ledger message 99, recorded in `plane`" in found.text
    assert found.next_step == KEEP


def test_a_recorded_head_with_another_hash_was_changed_also_when_the_project_went_on_since(open_store: OpenStore) -> None:
    for after in (0, 2):
        story = a_story_with_a_record(of=RecordedHead("shop", 4, ONE), after=after)
        found = ingest(open_store(f"bad-{after}"), story.stored()).stopped
        assert found is not None
        assert (found.kind, found.project, found.seq, found.expected) == ("changed", "shop", 4, ONE)
        assert found.found == codec.body_sha256(story.bodies[3][1])


def test_a_head_of_a_project_without_any_message_is_a_lost_tail(open_store: OpenStore) -> None:
    found = ingest(open_store("a"), a_story_with_a_record(of=RecordedHead("park", 2, ONE)).stored()).stopped
    assert found is not None
    assert (found.kind, found.project) == ("lost-tail", "park")


def test_a_head_in_the_middle_of_what_was_read_long_ago_is_not_judged() -> None:
    assert of_recorded(NOTED, (20, TWO), {}) is None
    assert of_recorded(NOTED, (20, TWO), {("shop", 7): ONE}) is None
    assert of_recorded(NOTED, (20, TWO), {("shop", 7): TWO}) == of_head(NOTED, "recorded in `plane`", 20, TWO)


def test_a_rewind_names_the_projects_that_lost_their_newest_messages_and_no_more_than_a_few() -> None:
    rewound = alarm("lost-tail", "it was rewound", seq=9, expected=TWO)
    assert with_lost(rewound, []) is rewound
    named = with_lost(rewound, [NOTED])
    assert named == AlarmView("lost-tail", "it was rewound; the newest messages of 1 projects are gone: shop 7", KEEP, "shop", 7, ONE, None)
    many = with_lost(rewound, [RecordedHead(f"p{number}", 20 - number, ONE) for number in range(8)])
    assert many.text.endswith("of 8 projects are gone: p0 20, p1 19, p2 18, p3 17, p4 16, ...")
