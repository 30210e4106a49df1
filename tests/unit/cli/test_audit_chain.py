"""The walk along the ledger: what it finds, and what it calls it."""

from __future__ import annotations

import hashlib

import pytest

from bus_schemas import chain as module
from bus_schemas import codec
from bus_schemas.chain import Chain, Expected, Head, Notes, Rolling
from bus_schemas.decisions import Decision, TimerCause
from bus_schemas.events import FlagChanged, HeadsRecorded, RecordedHead
from cli.audit.notes import BadNotes, heads_of
from tests.unit.timeline.story import Story, whole_story

ONE = "1" * 64
Message = tuple[int, str, bytes]


def messages_of(story: Story) -> list[Message]:
    return [(seq, subject, body) for seq, (subject, body) in enumerate(story.bodies, 1)]


WHOLE = messages_of(whole_story())
LAST = len(WHOLE)
SHOP = [message for message in WHOLE if message[1] == "qd.ledger.shop"]


def walked(messages: list[Message], *, end: int | None = None, **options: object) -> Chain:
    chain = Chain(**options)  # type: ignore[arg-type]
    for message in messages:
        chain.take(*message)
    chain.finish(end)
    return chain


def found(chain: Chain) -> list[tuple[str, str]]:
    return [(violation.invariant, violation.where) for violation in chain.findings]


def rolling(messages: list[Message]) -> str:
    value = codec.ZERO_HASH
    for seq, subject, body in messages:
        value = hashlib.sha256(f"{value} {seq} {subject} {codec.body_sha256(body)}".encode()).hexdigest()
    return value


def test_a_ledger_as_it_was_written_has_no_finding_and_its_heads_and_rows_are_counted() -> None:
    chain = walked(WHOLE, end=LAST)
    assert chain.findings == []
    assert (chain.messages, chain.rows, chain.last_seq) == (LAST, 159, LAST)
    seq, _, body = SHOP[-1]
    assert chain.heads["shop"] == Head(seq, codec.body_sha256(body))
    assert set(chain.heads) == {"plane", "shop", "park"}


def test_a_changed_body_is_found_where_the_next_message_of_its_project_names_another_hash() -> None:
    seq, subject, body = SHOP[3]
    spoiled = [(s, j, b.replace(b'"by":"', b'"by":"x', 1) if s == seq else b) for s, j, b in WHOLE]
    chain = walked(spoiled, end=LAST)
    assert found(chain) == [("chain", f"{subject} message {SHOP[4][0]}")]
    assert f"does not follow message {seq}: expected hash {codec.body_sha256(body)}" in chain.findings[0].text


def test_every_single_flipped_bit_in_a_body_that_has_a_successor_is_found() -> None:
    seq, _, body = SHOP[2]
    for place in range(0, len(body), 7):
        flipped = bytearray(body)
        flipped[place] ^= 1 << place % 8
        assert walked([(s, j, bytes(flipped) if s == seq else b) for s, j, b in WHOLE], end=LAST).findings, place


def test_messages_that_are_gone_are_named_by_their_sequences_also_at_the_end() -> None:
    one = walked([message for message in WHOLE if message[0] != 10], end=LAST)
    assert ("sequence", "message 10") in found(one)
    several = walked([message for message in WHOLE if not 10 <= message[0] <= 12], end=LAST)
    assert ("sequence", "messages 10 to 12") in found(several)
    assert found(walked(WHOLE[:-2], end=LAST)) == [("sequence", f"messages {LAST - 1} to {LAST}")]


def test_a_message_out_of_its_order_or_twice_is_found() -> None:
    swapped = [*WHOLE[:4], WHOLE[5], WHOLE[4], *WHOLE[6:]]
    assert ("sequence", f"{WHOLE[4][1]} message {WHOLE[4][0]}") in found(walked(swapped, end=LAST))
    assert ("sequence", f"{WHOLE[4][1]} message {WHOLE[4][0]}") in found(walked([*WHOLE[:5], *WHOLE[4:]], end=LAST))


def test_a_message_on_the_subject_of_another_project_and_one_that_does_not_decode_are_found() -> None:
    seq, _, body = WHOLE[-1]
    moved = walked([*WHOLE[:-1], (seq, "qd.ledger.lake", body)], end=LAST)
    assert any("says that it is of project 'park'" in violation.text for violation in moved.findings)
    garbage = walked([*WHOLE[:-1], (seq, "qd.ledger.park", b"\xff{")], end=LAST)
    assert found(garbage) == [("chain", f"qd.ledger.park message {seq}")]


def test_a_ledger_without_its_beginning_is_found_and_one_that_was_exported_from_there_on_is_not() -> None:
    rest = WHOLE[20:]
    assert ("chain", f"{rest[0][1]} message {rest[0][0]}") in found(walked(rest, end=LAST))
    assert walked(rest, end=LAST, first_seq=21).findings == []


def test_the_ledgers_of_some_projects_alone_may_have_gaps() -> None:
    park = [message for message in WHOLE if message[1] != "qd.ledger.shop"]
    assert walked(park, end=LAST, projects=frozenset({"park", "plane"})).findings == []
    assert walked(park, end=LAST).findings != []


# ── heads ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def noted(project: str, seq: int, sha256: str, rows: int | None = None) -> Notes:
    return Notes((Expected(project, seq, sha256, "somebody", rows),))


def test_noted_heads_are_met_on_the_way_with_their_counts_of_rows() -> None:
    seq, _, body = SHOP[5]
    rows = walked(WHOLE[:seq]).rows_of["shop"]
    chain = walked(WHOLE, end=LAST, notes=noted("shop", seq, codec.body_sha256(body), rows))
    assert (chain.findings, chain.met) == ([], 1)
    wrong = walked(WHOLE, end=LAST, notes=noted("shop", seq, codec.body_sha256(body), rows + 1))
    assert found(wrong) == [("heads", f"qd.ledger.shop message {seq}")]
    assert f"{rows + 1} rows up to it, and the ledger has {rows}" in wrong.findings[0].text


@pytest.mark.parametrize(
    ("project", "seq", "text"),
    [
        ("shop", SHOP[5][0], "it was changed"),
        ("shop", LAST + 5, "its tail was lost"),
        ("lake", 3, "there is no such message"),
        ("shop", WHOLE[0][0], "there is no such message"),
    ],
)
def test_a_noted_head_that_is_not_there_is_a_finding(project: str, seq: int, text: str) -> None:
    chain = walked(WHOLE, end=LAST, notes=noted(project, seq, ONE))
    assert found(chain) == [("heads", f"qd.ledger.{project} message {seq}")]
    assert text in chain.findings[0].text


def test_a_noted_head_of_what_is_not_exported_is_not_looked_for() -> None:
    assert walked(WHOLE[20:], end=LAST, first_seq=21, notes=noted("shop", 4, ONE)).met == 0
    assert walked([], projects=frozenset({"park"}), notes=noted("shop", 4, ONE)).findings == []


def test_the_hash_over_everything_is_compared_at_its_message() -> None:
    good = Notes(rolling=(Rolling(LAST - 3, rolling(WHOLE[:-3]), "somebody"), Rolling(LAST, rolling(WHOLE), "somebody")))
    chain = walked(WHOLE, end=LAST, notes=good)
    assert (chain.findings, chain.met) == ([], 2)
    wrong = walked(WHOLE, end=LAST, notes=Notes(rolling=(Rolling(10, ONE, "somebody"),)))
    assert found(wrong) == [("heads", "message 10")]
    short = walked(WHOLE[:-1], end=LAST - 1, notes=good)
    assert found(short) == [("heads", f"message {LAST}")]
    assert "its tail was lost" in short.findings[0].text
    assert walked(WHOLE[20:], end=LAST, first_seq=21, notes=good).met == 0


def test_the_hash_over_everything_at_a_message_that_is_missing_is_a_finding() -> None:
    chain = walked([message for message in WHOLE if message[0] != 10], end=LAST, notes=Notes(rolling=(Rolling(10, ONE, "somebody"),)))
    assert ("heads", "message 10") in found(chain)


# ── what the registry recorded ───────────────────────────────────────────────────────────────────────────────────────


def with_record(of: RecordedHead | None = None, after: int = 0) -> tuple[list[Message], RecordedHead]:
    story = Story()
    story.plane()
    story.design()
    head = of or RecordedHead("shop", len(story.bodies), codec.body_sha256(story.bodies[-1][1]))
    for number in range(after):
        story.refused("shop", "launch", "validation_not_ready", f"{number}", design="shop-d1")
    story.write("plane", Decision(at=story.tick(), cause=TimerCause("heads"), events=(HeadsRecorded((head,)),)))
    return messages_of(story), head


def test_recorded_heads_are_compared_also_when_the_project_went_on_before_the_record_was_stored() -> None:
    for after in (0, 3):
        messages, head = with_record(after=after)
        chain = walked(messages, end=len(messages))
        assert (chain.findings, chain.met, chain.recorded) == ([], 1, {"shop": head})


def test_a_recorded_head_that_is_gone_or_other_is_a_finding_with_expected_and_found() -> None:
    messages, _ = with_record(RecordedHead("shop", 4, ONE), after=2)
    chain = walked(messages, end=len(messages))
    assert found(chain) == [("heads", "qd.ledger.shop message 4")]
    assert f"with the hash {ONE}: found {codec.body_sha256(messages[3][2])}" in chain.findings[0].text
    messages, _ = with_record(RecordedHead("shop", 77, ONE))
    chain = walked(messages, end=len(messages))
    assert "there is no such message; the newest before is 4" in chain.findings[0].text
    messages, _ = with_record(RecordedHead("park", 2, ONE))
    assert found(walked(messages, end=len(messages))) == [("heads", "qd.ledger.park message 2")]


def test_a_record_of_what_is_not_in_an_export_is_not_compared() -> None:
    messages, _ = with_record(RecordedHead("park", 2, ONE))
    assert walked(messages, projects=frozenset({"shop", "plane"})).met == 0
    messages, _ = with_record(RecordedHead("shop", 2, ONE))
    assert walked(messages[3:], first_seq=4, end=len(messages)).met == 0


def test_a_head_that_was_recorded_long_after_it_was_written_is_counted_as_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RECENT_MAX", 2)
    messages, _ = with_record(after=4)
    chain = walked(messages, end=len(messages))
    assert (chain.findings, chain.met, chain.unmet) == ([], 0, 1)


def test_an_event_that_only_looks_like_a_record_is_none() -> None:
    event = '{"type":"from-a-newer-version","of":{"type":"heads-recorded","heads":[]}}'
    body = f'{{"project":"plane","prev":"{codec.ZERO_HASH}","decisions":[{{"events":[{event}]}}]}}'.encode()
    chain = walked([(1, "qd.ledger.plane", body)])
    assert (chain.findings, chain.recorded, chain.rows) == ([], {}, 1)


def test_no_more_findings_are_kept_than_can_be_read_and_all_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "VIOLATIONS_MAX", 3)
    chain = walked([(seq, "qd.ledger.shop", b"no") for seq in range(1, 11)], end=10)
    assert (len(chain.findings), chain.finding_count) == (3, 10)


# ── notes ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_heads_are_read_as_they_were_printed_as_text_and_as_json() -> None:
    text = f"* 87 {ONE}\n\nshop 82 {'2' * 64}\npark 87 {ONE}\n"
    expected = Notes((Expected("shop", 82, "2" * 64, "paper"), Expected("park", 87, ONE, "paper")), (Rolling(87, ONE, "paper"),))
    assert heads_of(text, "paper") == expected
    heads = ",".join(f'{{"project":"{p}","seq":{s},"sha256":"{h}"}}' for p, s, h, _, _ in expected.heads)
    assert heads_of(f'{{"schema":"qd.heads/1","last_seq":87,"rolling_hash":"{ONE}","heads":[{heads}]}}', "paper") == expected


@pytest.mark.parametrize("text", ["", "shop 82", "shop eighty " + ONE, "{}", '{"heads": 1}', "shop 1 " + "g" * 64])
def test_notes_that_cannot_be_understood_are_refused_with_the_place(text: str) -> None:
    with pytest.raises(BadNotes):
        heads_of(text, "paper")


def test_a_record_is_found_beside_other_events_of_its_message() -> None:
    story = Story()
    story.plane()
    story.design()
    head = RecordedHead("shop", len(story.bodies), codec.body_sha256(story.bodies[-1][1]))
    story.write("plane", Decision(at=story.tick(), cause=TimerCause("heads"), events=(FlagChanged("cp.launch", True), HeadsRecorded((head,)))))
    assert walked(messages_of(story)).recorded == {"shop": head}
