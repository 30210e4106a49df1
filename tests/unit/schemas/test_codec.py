"""The codec: what is written is read back, and whatever else comes is malformed or refused, and nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus_schemas import codec
from bus_schemas.codec import BODY_DEPTH_MAX, BadCommand, Malformed
from bus_schemas.commands import COMMAND_TYPES, Command, CommandEnvelope, Launch, Pause, subject_project, type_of
from bus_schemas.decisions import CommandCause, Decision, LedgerMessage, Receipt
from bus_schemas.events import EVENT_TYPES, Event
from bus_schemas.events import type_of as event_type_of
from bus_schemas.ids import BadId
from bus_schemas.orders import StopOrder, WorkOrder
from bus_schemas.reasons import Reason
from bus_schemas.reports import REPORT_BYTES_MAX, Beat, Ended, Outcome, Report, Result, Started, Withdrawn
from tests.golden.commands import AT, COMMANDS, FULL_ENVELOPE, envelope
from tests.golden.events import EVENTS
from tests.golden.ledger import MESSAGE, RECEIPTS
from tests.golden.reports import BEAT, ENDED_BADLY, ORDER, REPORTS, RESULTS, STOP

Decode = Callable[[bytes], Any]

MESSAGES: dict[str, tuple[Any, Decode]] = {
    "command": (FULL_ENVELOPE, codec.decode_envelope),
    "ledger message": (MESSAGE, codec.decode_ledger),
    "report": (ENDED_BADLY, codec.decode_report),
    "work order": (ORDER, codec.decode_order),
    "stop order": (STOP, codec.decode_stop),
    "beat": (BEAT, codec.decode_beat),
    "receipt": (RECEIPTS["refused"], codec.decode_receipt),
}
VERSIONED = [noun for noun in MESSAGES if noun != "receipt"]
OPEN = [noun for noun in MESSAGES if noun != "command"]
"""Messages whose readers ignore fields they do not know."""

DECODERS: dict[str, Decode] = {noun: decode for noun, (_, decode) in MESSAGES.items()} | {"object": codec.decode_object}

NO_JSON: dict[str, bytes] = {
    "nothing": b"",
    "blanks": b"  \n",
    "NUL": b"\0",
    "words": b"hello",
    "null": b"null",
    "a number": b"1",
    "a text": b'"a"',
    "a list": b"[]",
    "NaN": b'{"v":NaN}',
    "Infinity": b'{"v":-Infinity}',
    "an overflow": b'{"v":1e999}',
    "5000 digits": b'{"v":' + b"9" * 5000 + b"}",
    "a lone surrogate": b'{"v":"\\ud800"}',
    "a lone surrogate as bytes": b'{"v":"\xed\xa0\x80"}',
    "a lone surrogate as a name": b'{"\\udfff":1}',
    "bytes that are not UTF-8": b'{"v":"\xff\xfe"}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"v":1}'.encode("utf-16"),
    "UTF-32": '{"v":1}'.encode("utf-32-le"),
    "100 000 lists": b'{"v":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "100 000 objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "100 000 open lists": b"[" * 100_000,
    "single quotes": b"{'v':1}",
    "a comment": b'{"v":1} // one',
    "a comma at the end": b'{"v":1,}',
    "two objects": b"{}{}",
    "a control character": b'{"v":"a\nb"}',
    "a leading zero": b'{"v":01}',
    "an unknown escape": b'{"v":"\\x41"}',
    "a half escape": b'{"v":"\\u12"}',
    "msgpack": msgspec.msgpack.encode({"v": 1}),
}


def changed(value: Any, **fields: Any) -> bytes:
    """Return a message with some top-level fields replaced, as JSON with blanks, in another order."""
    document = json.loads(codec.encode(value)) | fields
    return json.dumps(dict(reversed(document.items())), indent=1).encode()


def without(value: Any, field: str) -> bytes:
    document = json.loads(codec.encode(value))
    del document[field]
    return json.dumps(document).encode()


def sent(type_: str, body: bytes) -> CommandEnvelope:
    """Return the envelope of a command with this body, as it comes from the bus."""
    return codec.decode_envelope(codec.encode(msgspec.structs.replace(envelope(Pause("shop-o12")), type=type_, body=msgspec.Raw(body))))


def refused(type_: str, body: bytes | dict[str, Any]) -> BadCommand:
    found = codec.decode_command(sent(type_, body if isinstance(body, bytes) else json.dumps(body).encode()))
    assert isinstance(found, BadCommand)
    return found


# ── round trips ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("noun", MESSAGES)
def test_a_message_is_read_as_it_was_written(noun: str) -> None:
    value, decode = MESSAGES[noun]
    assert decode(codec.encode(value)) == value
    assert codec.encode(decode(codec.encode(value))) == codec.encode(value)


@pytest.mark.parametrize("noun", MESSAGES)
def test_blanks_and_the_order_of_fields_do_not_count(noun: str) -> None:
    value, decode = MESSAGES[noun]
    again = decode(changed(value))
    assert json.loads(codec.encode(again)) == json.loads(codec.encode(value))


@pytest.mark.parametrize("command", COMMANDS, ids=type_of)
def test_a_command_comes_out_of_its_envelope_as_it_went_in(command: Command) -> None:
    assert codec.decode_command(codec.decode_envelope(codec.encode(envelope(command)))) == command


def test_a_stored_body_has_the_hash_that_anybody_can_compute() -> None:
    data = codec.encode(MESSAGE)
    assert codec.body_sha256(data) == hashlib.sha256(data).hexdigest()
    assert len(codec.ZERO_HASH) == len(codec.body_sha256(b""))


simple = st.builds(
    Launch, design=st.text(), node=st.text(), tickets=st.lists(st.text(), max_size=5).map(tuple), labels=st.dictionaries(st.text(), st.text())
)


@given(simple)
def test_any_text_in_a_command_survives_the_wire(command: Launch) -> None:
    assert codec.decode_command(codec.decode_envelope(codec.encode(envelope(command)))) == command


@given(
    st.builds(Ended, v=st.just(1), outcome=st.sampled_from(Outcome), at=st.just(AT), detail=st.text(), tail=st.text(), duration_ms=st.floats(0, 1e12))
)
def test_any_report_survives_the_wire(report: Ended) -> None:
    assert codec.decode_report(codec.encode(report)) == report


# ── bytes that are no message ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("data", NO_JSON.values(), ids=NO_JSON)
@pytest.mark.parametrize("noun", DECODERS)
def test_bytes_that_are_no_message_are_malformed_and_nothing_else(noun: str, data: bytes) -> None:
    if noun == "object" and data == NO_JSON["100 000 open lists"]:
        data = b'{"a":' + data
    with pytest.raises(Malformed) as caught:
        DECODERS[noun](data)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_decoded_or_malformed(data: bytes) -> None:
    for noun, decode in DECODERS.items():
        if noun == "object" and _is_object(data):
            assert decode(data) == json.loads(data)
            continue
        with pytest.raises(Malformed):
            decode(data)


def _is_object(data: bytes) -> bool:
    try:
        return isinstance(json.loads(data.decode()), dict)
    except ValueError:
        return False


@pytest.mark.parametrize("noun", MESSAGES)
def test_a_message_cut_anywhere_is_malformed(noun: str) -> None:
    value, decode = MESSAGES[noun]
    data = codec.encode(value)
    for end in range(0, len(data), max(1, len(data) // 97)):
        with pytest.raises(Malformed):
            decode(data[:end])


@pytest.mark.parametrize("noun", MESSAGES)
def test_a_message_without_a_compulsory_field_is_malformed_by_that_field(noun: str) -> None:
    value, decode = MESSAGES[noun]
    compulsory = [field.name for field in msgspec.structs.fields(value) if field.required]
    assert compulsory
    for field in compulsory:
        with pytest.raises(Malformed, match=f"`{field}`"):
            decode(without(value, field))


@pytest.mark.parametrize("wrong", [None, [], {}, True, 1.5, "x\n"], ids=repr)
@pytest.mark.parametrize("noun", MESSAGES)
def test_a_field_of_another_type_is_malformed(noun: str, wrong: Any) -> None:
    value, decode = MESSAGES[noun]
    field = "received_at" if noun == "receipt" else "v"
    with pytest.raises(Malformed, match=field):
        decode(changed(value, **{field: wrong}))


@pytest.mark.parametrize("version", [0, -1, 2, 3, 100, 2**62])
@pytest.mark.parametrize("noun", VERSIONED)
def test_a_version_that_is_not_this_one_or_the_one_before_is_malformed(noun: str, version: int) -> None:
    value, decode = MESSAGES[noun]
    with pytest.raises(Malformed, match=f"{noun} has schema version {version}; this reader takes 1 to 1"):
        decode(changed(value, v=version))


def test_this_version_and_the_one_before_it_are_read() -> None:
    assert max(1, codec.VERSION - 1) == codec.OLDEST_READ
    assert all(getattr(value, "v", codec.VERSION) == codec.VERSION for value, _ in MESSAGES.values())


@pytest.mark.parametrize("noun", OPEN)
def test_a_field_that_is_not_known_is_ignored(noun: str) -> None:
    value, decode = MESSAGES[noun]
    again = decode(changed(value, zz={"a": [1, None]}))
    assert json.loads(codec.encode(again)) == json.loads(codec.encode(value))


@pytest.mark.parametrize(
    ("kind", "value"), [*((Event, event) for event in EVENTS), *((Report, report) for report in REPORTS), *((Result, r) for r in RESULTS)]
)
def test_a_field_that_is_not_known_is_ignored_in_every_event_report_and_result(kind: Any, value: Any) -> None:
    assert msgspec.json.decode(changed(value, zz={"a": [1, None]}), type=kind) == value


@pytest.mark.parametrize("data", [b'{"type":"run-exploded"}', b'{"type":""}', b'{"orchestration":"shop-o1"}', b'{"type":3}'])
def test_an_event_of_a_type_that_is_not_known_is_not_read_as_another(data: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(data, type=Event)


@pytest.mark.parametrize("event", EVENTS, ids=event_type_of)
def test_an_event_stands_on_the_wire_under_the_name_of_its_type(event: Event) -> None:
    assert json.loads(codec.encode(event))["type"] == event_type_of(event)
    assert EVENT_TYPES[event_type_of(event)] is type(event)


def test_messages_are_not_read_as_each_other() -> None:
    for noun, (value, _) in MESSAGES.items():
        for other, (_, decode) in MESSAGES.items():
            if noun not in (other, "work order"):  # an order to work says all that an order to stop says, but for the reason
                with pytest.raises(Malformed):
                    decode(codec.encode(value))
    with pytest.raises(Malformed, match="reason_code"):
        codec.decode_stop(codec.encode(ORDER))


@pytest.mark.parametrize("at", ["2026-11-23T09:30:15", "2026-11-23", "yesterday", "2026-13-01T00:00:00Z", 1_700_000_000, None])
@pytest.mark.parametrize("noun", ["command", "report", "beat"])
def test_a_time_without_a_zone_is_malformed(noun: str, at: Any) -> None:
    value, decode = MESSAGES[noun]
    with pytest.raises(Malformed, match=r"datetime|RFC3339"):
        decode(changed(value, at=at))


# ── reports ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_report_is_as_long_as_a_decision_can_carry_and_no_longer() -> None:
    room = REPORT_BYTES_MAX - len(codec.encode(ENDED_BADLY)) + len(ENDED_BADLY.detail)
    longest = msgspec.structs.replace(ENDED_BADLY, detail="x" * room)
    assert codec.decode_report(codec.encode(longest)) == longest
    with pytest.raises(Malformed, match=f"report has {REPORT_BYTES_MAX + 1} bytes; at most {REPORT_BYTES_MAX}"):
        codec.decode_report(codec.encode(msgspec.structs.replace(ENDED_BADLY, detail="x" * (room + 1))))


@pytest.mark.parametrize(
    "fields",
    [
        {"outcome": "exploded"},
        {"exit_code": 2**53 + 1},
        {"signal": 10**30},
        {"output_bytes": -(10**30)},
        {"usage": {"input_tokens": 10**30}},
        {"result": {"type": "init"}},
        {"result": {"type": "lunch"}},
        {"result": {"type": "plan", "tasks": [{"number": 0, "subject": "a"}]}},
        {"result": {"type": "plan", "tasks": [{"number": 1, "subject": " "}]}},
        {"result": {"type": "plan", "tasks": [{"number": 1, "subject": "a" * 201}]}},
        {"result": {"type": "plan", "tasks": [{"number": 1, "subject": "a", "depends_on": [0]}]}},
        {"result": {"type": "plan", "tasks": [{"number": 1, "subject": "a", "model": "opus\n"}]}},
        {"result": {"type": "plan", "tasks": [{"number": 1, "subject": "a"}] * 501}},
        {"result": {"type": "review", "verdict": "maybe"}},
        {"result": {"type": "review", "verdict": "gaps", "findings": [{"text": ""}]}},
        {"result": {"type": "review", "verdict": "gaps", "findings": [{"text": "a", "severity": "p0\n"}]}},
        {"result": {"type": "review", "verdict": "gaps", "findings": [{"text": "a", "severity": "p3"}]}},
    ],
    ids=str,
)
def test_a_report_with_a_value_out_of_bounds_is_malformed(fields: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        codec.decode_report(changed(ENDED_BADLY, **fields))


@pytest.mark.parametrize(
    "fields", [{"capacity": -1}, {"capacity": 10**6}, {"labels": {"a": 1}}, {"running": [["shop-o1-r1"]]}, {"running": [["shop-o1-r1", 10**30]]}]
)
def test_a_beat_with_a_value_out_of_bounds_is_malformed(fields: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        codec.decode_beat(changed(BEAT, **fields))


# ── envelopes ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_unknown_field_of_an_envelope_is_malformed() -> None:
    with pytest.raises(Malformed, match="unknown field `zz`"):
        codec.decode_envelope(changed(FULL_ENVELOPE, zz=1))


@pytest.mark.parametrize(
    "fields",
    [
        {"id": "a.b"},
        {"id": "*"},
        {"id": ""},
        {"id": "A"},
        {"id": "a\n"},
        {"id": "a" * 64},
        {"via": "telepathy"},
        {"via": "cli\n"},
        {"trace": "x" * 129},
        {"reason": "x" * 2001},
        {"valid_for_s": 0},
        {"valid_for_s": -1},
        {"valid_for_s": 31_536_001},
        {"valid_for_s": "5"},
        {"dry_run": 1},
        {"by": 3},
        {"key": None},
        {"type": None},
    ],
    ids=str,
)
def test_an_envelope_with_a_value_that_is_not_allowed_is_malformed(fields: dict[str, Any]) -> None:
    with pytest.raises(Malformed, match=f"at `\\$.{next(iter(fields))}`"):
        codec.decode_envelope(changed(FULL_ENVELOPE, **fields))


@pytest.mark.parametrize("field", ["v", "key", "type", "body", "reason"])
def test_an_envelope_with_a_field_twice_is_malformed(field: str) -> None:
    document = json.loads(codec.encode(FULL_ENVELOPE))
    data = codec.encode(FULL_ENVELOPE)[:-1] + f',"{field}":'.encode() + json.dumps(document[field]).encode() + b"}"
    with pytest.raises(Malformed, match=f"command has the field '{field}' twice"):
        codec.decode_envelope(data)


@pytest.mark.parametrize("inside", [b'"\xff"', b'"\xed\xa0\x80"', b"9" * 5000], ids=["no UTF-8", "a lone surrogate", "5000 digits"])
def test_an_envelope_whose_body_no_reader_can_read_is_malformed(inside: bytes) -> None:
    body = b'{"a":' + inside + b"}"
    data = codec.encode(FULL_ENVELOPE).replace(b'{"orchestration":"shop-o12"}', body) + b" "
    assert body in data
    with pytest.raises(Malformed, match="command does not decode"):
        codec.decode_envelope(data)


def test_the_body_of_an_envelope_stays_as_it_came() -> None:
    body = b'{ "orchestration" : "shop-o12",\n"mode":"drain" }'
    assert bytes(sent("pause", body).body) == body
    assert codec.decode_command(sent("pause", body)) == Pause("shop-o12")


# ── bodies ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "type_", ["", "launch ", "LAUNCH", "*", ">", "orchestration-launched", "pause\n", "x" * 5000, "\x1b[31m", "\u202e"], ids=ascii
)
def test_an_unknown_action_is_refused_naming_those_there_are(type_: str) -> None:
    code, message = refused(type_, b"{}")
    assert code is Reason.UNKNOWN_ACTION
    assert all(name in message for name in COMMAND_TYPES)
    assert message.isprintable()
    assert len(message) < 600


@pytest.mark.parametrize("command", COMMANDS, ids=type_of)
def test_a_command_without_a_compulsory_field_is_refused_as_missing_it(command: Command) -> None:
    body = json.loads(bytes(codec.command_body(command)))
    compulsory = [field.name for field in msgspec.structs.fields(command) if field.required]
    assert compulsory
    for field in compulsory:
        code, message = refused(type_of(command), {name: value for name, value in body.items() if name != field})
        assert code is Reason.MISSING_FIELD
        assert message == f"{type_of(command)}: Object missing required field `{field}`"


@pytest.mark.parametrize("command", COMMANDS, ids=type_of)
def test_a_command_with_an_unknown_field_is_refused_naming_it(command: Command) -> None:
    code, message = refused(type_of(command), json.loads(bytes(codec.command_body(command))) | {"zz": 1})
    assert code is Reason.INVALID_PAYLOAD
    assert message == f"{type_of(command)}: Object contains unknown field `zz`"


@pytest.mark.parametrize("command", COMMANDS, ids=type_of)
@pytest.mark.parametrize("wrong", [3, None, [], {}, "\x1b"], ids=repr)
def test_a_command_with_a_value_of_another_type_is_refused_or_means_what_it_says(command: Command, wrong: Any) -> None:
    body = json.loads(bytes(codec.command_body(command)))
    for field in body:
        found = codec.decode_command(sent(type_of(command), json.dumps(body | {field: wrong}).encode()))
        if isinstance(found, BadCommand):
            assert found.code in (Reason.INVALID_PAYLOAD, Reason.MISSING_FIELD)
            assert f"$.{field}" in found.message
        else:
            assert msgspec.to_builtins(getattr(found, field)) in (wrong, tuple(wrong) if isinstance(wrong, list) else wrong)


@pytest.mark.parametrize("body", [b"null", b"[]", b'"a"', b"1", b"true", b"[{}]", b' ["a", {"b": 1}] '])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    code, message = refused("launch", body)
    assert code is Reason.INVALID_PAYLOAD
    assert message.startswith("launch: Expected `object`, got ")


@pytest.mark.parametrize(
    "body",
    [
        b'{"orchestration":"shop-o1","orchestration":"shop-o2"}',
        b'{"orchestration":"shop-o1","mode":"drain","mode":"drain"}',
        b'{"orchestration":"shop-o1", "orchestratio\\u006e":"shop-o2"}',
        b'{"type":"pause","orchestration":"shop-o1"}',
    ],
)
def test_a_field_that_stands_twice_is_refused(body: bytes) -> None:
    code, message = refused("pause", body)
    assert code is Reason.INVALID_PAYLOAD
    assert message.endswith("stands twice")


def test_a_field_that_stands_twice_inside_of_another_is_refused() -> None:
    code, message = refused("launch", b'{"design":"shop-d1","node":"n","overrides":{"flow":{"run_timeout_s":1,"run_timeout_s":9}}}')
    assert (code, message) == (Reason.INVALID_PAYLOAD, "launch: the field 'run_timeout_s' stands twice")


def test_the_type_in_a_body_does_not_replace_the_type_of_the_envelope() -> None:
    code, message = refused("pause", b'{"type":"cancel","orchestration":"shop-o1"}')
    assert code is Reason.INVALID_PAYLOAD
    assert "cancel" in message


@pytest.mark.parametrize(
    "name",
    ["missing required field", "Object missing required field", "length <=", "Expected `str` of length <= 3", "\x1b[2J\n\u202e", "x" * 100_000],
)
def test_the_name_of_an_unknown_field_cannot_change_the_reason_or_the_terminal(name: str) -> None:
    code, message = refused("launch", {name: 1})
    assert code is Reason.INVALID_PAYLOAD
    assert message.isprintable()
    assert len(message) < 1000


@pytest.mark.parametrize(
    ("type_", "body"),
    [
        ("project-add", {"project": "shop", "repo": "r" * 1025}),
        ("project-add", {"project": "shop", "repo": "/r", "check": "x" * 4097}),
        ("project-add", {"project": "shop", "repo": "/r", "default_branch": "x" * 201}),
        ("design-add", {"project": "shop", "title": "t" * 201, "body": ""}),
        ("design-add", {"project": "shop", "title": "t", "body": "x" * (200 * 1024 + 1)}),
        ("ticket-add", {"project": "shop", "title": "t", "body": "x" * (16 * 1024 + 1)}),
        ("comment-add", {"target": "shop-t1", "body": "x" * (16 * 1024 + 1)}),
        ("launch", {"design": "shop-d1", "node": "n", "feature": "x" * 201}),
        ("launch", {"design": "shop-d1", "node": "n", "tickets": ["shop-t1"] * 101}),
        ("gate-reject", {"orchestration": "shop-o1", "feedback": "x" * (16 * 1024 + 1)}),
        ("gate-approve", {"orchestration": "shop-o1", "note": "x" * 2001}),
    ],
)
def test_a_text_over_its_limit_is_too_large_and_the_limit_is_named(type_: str, body: dict[str, Any]) -> None:
    code, message = refused(type_, body)
    assert code is Reason.TOO_LARGE
    assert "of length <= " in message


@pytest.mark.parametrize(
    ("type_", "body"),
    [
        ("design-add", {"project": "shop", "title": "", "body": ""}),
        ("project-add", {"project": "shop", "repo": ""}),
        ("comment-add", {"target": "shop-t1", "body": ""}),
        ("gate-reject", {"orchestration": "shop-o1", "feedback": ""}),
        ("gate-reject", {"orchestration": "shop-o1", "feedback": " \n\t"}),
    ],
)
def test_a_blank_text_is_a_missing_field(type_: str, body: dict[str, Any]) -> None:
    assert refused(type_, body).code is Reason.MISSING_FIELD


@pytest.mark.parametrize(
    ("type_", "field", "good"),
    [
        ("project-add", "repo", ["/srv/git/shop", "https://git.example/a b.git", "git@git.example:shop", "../shop", "C:\\git"]),
        ("project-add", "default_branch", ["main", "release/1.2", "v1_x-y"]),
        ("project-add", "name", ["Shop", "Das Lädchen", " 日本 "]),
        ("project-add", "check", ["", "make test", "a\nb\tc"]),
        ("design-edit", "title", ["Basket", "a – b"]),
        ("gate-reject", "feedback", ["no", "\na\n"]),
    ],
)
def test_a_text_of_the_asked_form_is_taken(type_: str, field: str, good: list[str]) -> None:
    for text in good:
        found = codec.decode_command(sent(type_, json.dumps(_around(type_) | {field: text}).encode()))
        assert not isinstance(found, BadCommand)
        assert getattr(found, field) == text


@pytest.mark.parametrize(
    ("type_", "field", "bad", "words"),
    [
        ("project-add", "repo", ["/srv\n", "\n", "a\0b", "-u/etc", "--upload-pack=x", "a\x7f", "a\x1b"], "of one line that does not start with -"),
        (
            "project-add",
            "default_branch",
            ["main\n", "-d", "a b", "a..b", "a/", "a.", ".a", "/a", "a//b", "a/.b", "a.lock", "a.lock/b", "a~1", "a^", "a:b", "a*", "@{", "ä", "a\0"],
            "that git takes as a branch",
        ),
        ("project-add", "name", ["a\n", "\n", "  ", "a\0", "a\x1b[0m"], "of one line that is not blank"),
        ("project-add", "check", ["make\0", "\0"], "without NUL"),
        ("design-edit", "title", ["a\nb", "a\r", "\t"], "of one line that is not blank"),
    ],
)
def test_a_text_of_another_form_is_refused_in_words(type_: str, field: str, bad: list[str], words: str) -> None:
    for text in bad:
        code, message = refused(type_, _around(type_) | {field: text})
        assert code is Reason.INVALID_PAYLOAD
        assert words in message
        assert message.isprintable()


def _around(type_: str) -> dict[str, Any]:
    bodies: dict[str, dict[str, Any]] = {
        "project-add": {"project": "shop", "repo": "/srv/git/shop"},
        "design-edit": {"design": "shop-d1"},
        "gate-reject": {"orchestration": "shop-o1"},
    }
    return bodies[type_]


@given(
    st.sampled_from(sorted(COMMAND_TYPES)),
    st.recursive(st.none() | st.integers() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v), max_leaves=8),
)
def test_any_body_is_a_command_or_refused(type_: str, value: Any) -> None:
    found = codec.decode_command(sent(type_, json.dumps(value).encode()))
    assert isinstance(found, (BadCommand, *COMMAND_TYPES.values()))


# ── fingerprints ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_fingerprint_depends_on_type_and_body_and_on_nothing_else() -> None:
    body = msgspec.Raw(b'{"a": 1, "b": {"y": [1, 2], "x": "\\u00e4"}}')
    same = msgspec.Raw('{"b":{"x":"ä","y":[1,2]},\n"a":1}'.encode())
    assert codec.body_hash("launch", body) == codec.body_hash("launch", same)
    assert codec.body_hash("launch", body) != codec.body_hash("pause", body)
    assert codec.body_hash("launch", body) != codec.body_hash("launch", msgspec.Raw(b'{"a": 1, "b": {"y": [2, 1], "x": "\\u00e4"}}'))


def test_a_fingerprint_can_be_recomputed_with_nothing_but_json() -> None:
    document = {"type": "pause", "body": {"orchestration": "shop-o12"}}
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    assert codec.body_hash("pause", codec.command_body(Pause("shop-o12"))) == "sha256-" + hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("body", [b'{"a":1e999}', b'{"a":' + b"9" * 5000 + b"}", b"{", b"", b'{"a":"\xff"}', b"[" * 100_000 + b"]" * 100_000])
def test_a_body_that_does_not_decode_has_no_fingerprint(body: bytes) -> None:
    with pytest.raises(Malformed):
        codec.body_hash("launch", msgspec.Raw(body))


@pytest.mark.parametrize(("open_", "inside", "close"), [(b"[", b"", b"]"), (b"[", b"1", b"]"), (b'{"a":', b"1", b"}"), (b'{"a":', b"{}", b"}")])
def test_a_body_nested_deeper_than_every_reader_can_follow_is_malformed(open_: bytes, inside: bytes, close: bytes) -> None:
    deepest = BODY_DEPTH_MAX - (inside == b"{}")
    for levels in (1, deepest):
        assert codec.body_hash("launch", msgspec.Raw(open_ * levels + inside + close * levels)).startswith("sha256-")
    for levels in (deepest + 1, 500):
        with pytest.raises(Malformed, match=f"nested deeper than {BODY_DEPTH_MAX} levels"):
            codec.body_hash("launch", msgspec.Raw(open_ * levels + inside + close * levels))


def test_many_brackets_beside_each_other_are_not_deep() -> None:
    assert codec.body_hash("design-add", msgspec.Raw(json.dumps({"body": "[](){}" * 1000, "markers": [[]] * 1000}).encode()))


def test_whatever_has_a_fingerprint_can_be_read_back_from_the_ledger() -> None:
    body = msgspec.Raw(b"[" * BODY_DEPTH_MAX + b"]" * BODY_DEPTH_MAX)
    cause = CommandCause("c", "launch", "k", "ana", "cli", "shop", AT, codec.body_hash("launch", body), body)
    message = LedgerMessage(1, "ledger-message", "shop", "b", "c", codec.ZERO_HASH, 0, 1, (Decision(at=AT, cause=cause),))
    assert codec.decode_ledger(codec.encode(message)) == message


def test_a_ledger_message_without_a_decision_is_malformed() -> None:
    with pytest.raises(Malformed, match="length >= 1"):
        codec.decode_ledger(changed(MESSAGE, decisions=[]))


# ── commands and their projects ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("command", COMMANDS, ids=type_of)
def test_a_command_concerns_the_ledger_of_its_project_or_of_the_plane(command: Command) -> None:
    plane = {"project-add", "project-edit", "node-cordon", "node-uncordon", "node-drain", "flag-set", "flag-rollback"}
    assert subject_project(command) == ("plane" if type_of(command) in plane else "shop")


@pytest.mark.parametrize("text", ["", "*", ">", "a.b", "shop", "shop-d1\n", "../../x", "$JS.API.x", "shop-n1"])
def test_a_command_about_what_is_no_id_has_no_project(text: str) -> None:
    for command in (Pause(text), Launch(design=text, node="n")):
        with pytest.raises(BadId):
            subject_project(command)


def test_control_commands_have_a_lane_of_their_own() -> None:
    control = {type_of(command) for command in COMMANDS if type(command).control_lane}
    steering = {"set-policy", "set-role-model", "task-edit", "task-set-model", "task-skip", "task-insert"}
    assert control == steering | {"pause", "resume", "cancel", "retry", "gate-approve", "gate-reject"}


def test_every_message_type_has_the_decoder_that_returns_it() -> None:
    kinds = (CommandEnvelope, LedgerMessage, Ended, WorkOrder, StopOrder, Beat, Receipt)
    assert tuple(type(value) for value, _ in MESSAGES.values()) == kinds
    assert {type(codec.decode_report(codec.encode(report))) for report in REPORTS} == {Started, Withdrawn, Ended}
