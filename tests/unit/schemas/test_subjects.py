"""Subjects, streams, consumers and permissions: data that has to fit together."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus_schemas import ids, subjects
from bus_schemas.commands import COMMAND_TYPES
from bus_schemas.entities import BODY_BYTES_MAX
from bus_schemas.ids import BadId
from bus_schemas.reports import REPORT_BYTES_MAX, RESULT_BYTES_MAX
from bus_schemas.subjects import CONTROLLER_CONSUMERS, STREAMS, ConsumerSpec, Permissions, StreamSpec

BY_NAME = {stream.name: stream for stream in STREAMS}
LONGEST = "a" * 32
ALL_CONSUMERS = (*CONTROLLER_CONSUMERS, *subjects.node_consumers("node-a", 4), *subjects.node_consumers(LONGEST, 1))

slugs = st.from_regex(ids._SLUG, fullmatch=True)
tokens = st.from_regex(ids._TOKEN, fullmatch=True)
attempts = st.integers(1, 10**9 - 1)


def covers(pattern: str, subject: str) -> bool:
    """Return whether a NATS pattern matches a subject, or every subject of another pattern."""
    wanted, found = pattern.split("."), subject.split(".")
    for place, token in enumerate(wanted):
        if token == ">":
            return len(found) > place
        if place >= len(found) or found[place] == ">" or (token != "*" and token != found[place]):
            return False
    return len(wanted) == len(found)


def meets(one: str, other: str) -> bool:
    """Return whether some subject matches both patterns."""
    left, right = one.split("."), other.split(".")
    for a, b in zip(left, right, strict=False):
        if ">" in (a, b):
            return True
        if "*" not in (a, b) and a != b:
            return False
    return len(left) == len(right)


def allowed(permissions: Permissions, subject: str) -> bool:
    return any(covers(pattern, subject) for pattern in permissions.publish)


def stored(subject: str) -> list[str]:
    """Return the streams that store what is published on a subject."""
    return [stream.name for stream in STREAMS if any(covers(pattern, subject) for pattern in stream.subjects)]


# ── formats ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@given(slugs, slugs, st.sampled_from(sorted(COMMAND_TYPES)), st.booleans())
def test_the_subject_of_a_command_says_who_about_what_and_how_urgent(principal: str, project: str, verb: str, control_lane: bool) -> None:
    subject = subjects.command(principal, project, verb, control_lane)
    assert subjects.parse_command(subject) == (principal, project, verb, control_lane)
    assert stored(subject) == ["CTL" if control_lane else "CMD"]
    assert allowed(subjects.operator_permissions(principal), subject)


@given(slugs, slugs, tokens, attempts, tokens, st.sampled_from(["started", "ended", "progress-1"]))
def test_the_subject_of_a_report_says_which_attempt_and_with_which_nonce(
    node: str, project: str, run: str, attempt: int, nonce: str, kind: str
) -> None:
    subject = subjects.report(node, project, run, attempt, nonce, kind)
    assert subjects.parse_report(subject) == (node, project, run, attempt, nonce, kind)
    assert stored(subject) == ["REP"]
    assert allowed(subjects.node_permissions(node), subject)


@pytest.mark.parametrize(
    "subject",
    [
        "",
        "qd",
        "qd.cmd",
        "qd.cmd.ana.shop",
        "qd.cmd.ana.shop.launch.x",
        "qd.cmd.ana..launch",
        "qd.cmd.*.shop.launch",
        "qd.cmd.ana.>.launch",
        "qd.cmd.ana.shop.launch\n",
        "qd.cmd.Ana.shop.launch",
        "qd.cmd.ana.sh op.launch",
        "qd.cmd.ana.shöp.launch",
        "qd.ledger.ana.shop.launch",
        "qd.CMD.ana.shop.launch",
        "xx.cmd.ana.shop.launch",
        "qd.cmd." + "a" * 64 + ".shop.launch",
        ">",
        "x" * 10_000,
    ],
    ids=lambda text: ascii(text)[:30],
)
def test_what_is_no_command_subject_is_refused(subject: str) -> None:
    with pytest.raises(BadId) as caught:
        subjects.parse_command(subject)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "subject",
    [
        "",
        "qd.rep.node.shop.shop-o1-r1.1.n",
        "qd.rep.node.shop.shop-o1-r1.1.n.started.x",
        "qd.rep.node.shop.shop-o1-r1.x.n.started",
        "qd.rep.node.shop.shop-o1-r1.0.n.started",
        "qd.rep.node.shop.shop-o1-r1.01.n.started",
        "qd.rep.node.shop.shop-o1-r1.-1.n.started",
        "qd.rep.node.shop.shop-o1-r1.１.n.started",
        "qd.rep.node.shop.shop-o1-r1.١.n.started",
        "qd.rep.node.shop.shop-o1-r1." + "1" * 10 + ".n.started",
        "qd.rep.node.shop.shop-o1-r1.1.*.started",
        "qd.rep.node.shop.shop-o1-r1.1.n.>",
        "qd.rep..shop.shop-o1-r1.1.n.started",
        "qd.rep.node.shop.shop-o1-r1.1.n.started\n",
        "qd.log.node.shop.shop-o1-r1.1.n.started",
        "xx.rep.node.shop.shop-o1-r1.1.n.started",
    ],
)
def test_what_is_no_report_subject_is_refused(subject: str) -> None:
    with pytest.raises(BadId):
        subjects.parse_report(subject)


@pytest.mark.parametrize("bad", ["", "*", ">", "a.b", "A", "a\n", "a b", "..", "$JS", "a" * 64])
def test_no_subject_is_made_of_what_is_no_token(bad: str) -> None:
    makers: tuple[Callable[[], str], ...] = (
        lambda: subjects.command(bad, "shop", "launch", False),
        lambda: subjects.command("ana", bad, "launch", False),
        lambda: subjects.command("ana", "shop", bad, True),
        lambda: subjects.receipt(bad, "c"),
        lambda: subjects.receipt("ana", bad),
        lambda: subjects.ledger(bad),
    )
    for make in makers:
        with pytest.raises(BadId):
            make()


def test_every_subject_is_stored_by_the_stream_made_for_it_and_by_no_other() -> None:
    run = "shop-o12-r7"
    assert stored(subjects.ledger("shop")) == ["LEDGER"]
    assert stored(subjects.ledger(ids.PLANE)) == ["LEDGER"]
    assert stored(subjects.work("node", run, 1)) == ["WORK"]
    assert stored(subjects.control_order("node", run, 1)) == ["WORK"]
    assert stored(subjects.log("node", run, 1)) == ["LOG"]
    assert stored(subjects.beat("node")) == ["BEAT"]
    assert stored(subjects.dead_letter("CMD", 7)) == ["DLQ"]
    assert stored(subjects.receipt("ana", "c")) == []
    assert stored(subjects.query("sql")) == []


def test_the_longest_subjects_are_within_the_limit() -> None:
    run = f"{LONGEST}-o{10**12 - 1}-r{10**9 - 1}"
    report = subjects.report(LONGEST, LONGEST, ids.run_id(run), 10**9 - 1, "n" * 63, "progress-999999")
    assert subjects.parse_report(report).run == run
    for subject in (report, subjects.command(LONGEST, LONGEST, max(COMMAND_TYPES, key=len), True), subjects.receipt(LONGEST, "c" * 63)):
        assert len(subject.encode()) <= subjects.SUBJECT_BYTES_MAX


# ── streams and consumers ────────────────────────────────────────────────────────────────────────────────────────────


def test_there_are_the_streams_of_the_contract_each_once() -> None:
    assert [stream.name for stream in STREAMS] == ["CMD", "CTL", "LEDGER", "WORK", "REP", "LOG", "BEAT", "DLQ", "KV_qd-lease"]


def test_no_two_streams_store_the_same_subject() -> None:
    for place, one in enumerate(STREAMS):
        for other in STREAMS[place + 1 :]:
            assert not [pair for pair in ((a, b) for a in one.subjects for b in other.subjects) if meets(*pair)], (one.name, other.name)


@pytest.mark.parametrize("consumer", ALL_CONSUMERS, ids=lambda consumer: f"{consumer.stream}-{consumer.name}"[:30])
def test_a_consumer_filters_what_its_stream_stores(consumer: ConsumerSpec) -> None:
    stream = BY_NAME[consumer.stream]
    for pattern in consumer.filters:
        as_long = pattern.replace(">", ".".join("*" * (len(stream.subjects[0].split(".")) - len(pattern.split(".")) + 1)))
        assert any(covers(subject, as_long) for subject in stream.subjects), pattern
    assert consumer.ack_wait_s > 0
    assert consumer.max_ack_pending > 0
    assert consumer.max_deliver == -1


def test_consumers_of_a_work_queue_take_from_different_subjects() -> None:
    for stream in STREAMS:
        if stream.retention == "workqueue":
            filters = [pattern for consumer in ALL_CONSUMERS if consumer.stream == stream.name for pattern in consumer.filters]
            assert filters, f"nobody takes from {stream.name}"
            pairs = [(one, other) for place, one in enumerate(filters) for other in filters[place + 1 :]]
            assert [pair for pair in pairs if meets(*pair)] == []


def test_consumers_have_different_names_and_no_stream_has_more_than_it_allows() -> None:
    assert len({(consumer.stream, consumer.name) for consumer in ALL_CONSUMERS}) == len(ALL_CONSUMERS)
    assert BY_NAME["WORK"].max_consumers >= 2 * 1000


def test_the_controller_takes_both_lanes_of_commands_and_the_claims_and_ends_of_runs() -> None:
    taken = {consumer.stream: consumer.filters for consumer in CONTROLLER_CONSUMERS}
    assert set(taken) == {"CMD", "CTL", "REP"}
    started, ended, progress = (subjects.report("node", "shop", "shop-o1-r1", 1, "n", kind) for kind in ("started", "ended", "progress-1"))
    assert [any(covers(pattern, subject) for pattern in taken["REP"]) for subject in (started, ended, progress)] == [True, True, False]


def test_the_consumers_of_a_node_follow_its_capacity_and_take_its_orders_only() -> None:
    small, large = subjects.node_consumers("node-a", 1), subjects.node_consumers("node-a", 100)
    assert [consumer.max_ack_pending for consumer in small] == [64, 1024]
    assert large[0].max_ack_pending == 400
    mine, other = subjects.work("node-a", "shop-o1-r1", 1), subjects.work("node-ab", "shop-o1-r1", 1)
    assert covers(small[0].filters[0], mine)
    assert not covers(small[0].filters[0], other)
    assert covers(small[1].filters[0], subjects.control_order("node-a", "shop-o1-r1", 1))


def test_the_ledger_loses_nothing() -> None:
    ledger = BY_NAME["LEDGER"]
    assert (ledger.retention, ledger.storage, ledger.discard) == ("limits", "file", "new")
    assert (ledger.max_age_s, ledger.max_bytes, ledger.max_per_subject) == (0.0, -1, -1)
    assert ledger.deny_delete
    assert ledger.deny_purge
    assert not ledger.allow_rollup
    assert ledger.compressed


def test_commands_are_refused_by_a_full_queue_and_not_lost_in_it() -> None:
    for name in ("CMD", "CTL"):
        queue = BY_NAME[name]
        assert (queue.retention, queue.discard, queue.max_bytes) == ("workqueue", "new", 1024**3)
        assert queue.max_msg_bytes >= subjects.COMMAND_BYTES_MAX


def test_a_report_and_an_order_are_written_once() -> None:
    for name in ("REP", "WORK"):
        stream = BY_NAME[name]
        assert (stream.max_per_subject, stream.discard_new_per_subject, stream.discard) == (1, True, "new")
        assert not stream.allow_rollup


def test_only_what_may_be_lost_is_kept_in_memory_or_thrown_away() -> None:
    assert [stream.name for stream in STREAMS if stream.storage == "memory"] == ["BEAT"]
    assert [stream.name for stream in STREAMS if stream.discard == "old"] == ["LOG", "BEAT", "DLQ"]
    assert [stream.name for stream in STREAMS if stream.allow_rollup] == ["KV_qd-lease"]
    assert {stream.name: stream.max_age_s for stream in STREAMS if stream.max_age_s} == {"LOG": 14 * 86_400, "BEAT": 60, "DLQ": 90 * 86_400}


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.name)
def test_a_stream_has_values_that_the_server_knows(stream: StreamSpec) -> None:
    assert stream.retention in ("limits", "workqueue")
    assert stream.storage in ("file", "memory")
    assert stream.discard in ("new", "old")
    assert stream.max_age_s == 0 or stream.duplicate_window_s <= stream.max_age_s
    assert not stream.discard_new_per_subject or (stream.discard == "new" and stream.max_per_subject > 0)
    assert all(token for subject in stream.subjects for token in subject.split("."))


def test_what_is_decided_from_one_message_fits_into_a_ledger_message() -> None:
    assert BODY_BYTES_MAX < subjects.COMMAND_BYTES_MAX
    assert 2 * subjects.COMMAND_BYTES_MAX < subjects.LEDGER_BYTES_MAX  # the body as it came, and the event made of it
    assert RESULT_BYTES_MAX < REPORT_BYTES_MAX
    assert 2 * REPORT_BYTES_MAX < subjects.LEDGER_BYTES_MAX  # findings stand in the verdict and in the issues
    assert BY_NAME["REP"].max_msg_bytes >= REPORT_BYTES_MAX
    assert BY_NAME["LOG"].max_msg_bytes >= subjects.LOG_CHUNK_BYTES_MAX


# ── permissions ──────────────────────────────────────────────────────────────────────────────────────────────────────


@given(slugs, slugs)
def test_an_operator_commands_under_its_own_name_and_no_other(principal: str, other: str) -> None:
    permissions = subjects.operator_permissions(principal)
    for lane in (False, True):
        assert allowed(permissions, subjects.command(principal, "shop", "launch", lane))
        assert allowed(permissions, subjects.command(other, "shop", "launch", lane)) is (other == principal)
    assert allowed(permissions, subjects.query("orchestrations"))
    for subject in (subjects.ledger("shop"), subjects.work("node", "shop-o1-r1", 1), subjects.receipt(principal, "c"), subjects.beat("node")):
        assert not allowed(permissions, subject)
    assert not allowed(permissions, "$JS.API.STREAM.DELETE.LEDGER")
    assert any(covers(pattern, subjects.receipt(principal, "c")) for pattern in permissions.subscribe)
    assert any(covers(pattern, subjects.receipt(other, "c")) for pattern in permissions.subscribe) is (other == principal)


@given(slugs, slugs)
def test_a_node_writes_and_takes_its_own_and_no_other(node: str, other: str) -> None:
    permissions = subjects.node_permissions(node)
    run = "shop-o1-r1"
    claim = subjects.report(other, "shop", run, 1, "n", "started")
    for subject in (
        claim,
        subjects.log(other, run, 1),
        subjects.beat(other),
        f"$JS.API.CONSUMER.MSG.NEXT.WORK.work-{other}",
        f"$JS.API.CONSUMER.MSG.NEXT.WORK.ctl-{other}",
        f"$JS.API.DIRECT.GET.REP.{claim}",
        f"$JS.ACK.WORK.work-{other}.1.1.1.1.0",
    ):
        assert allowed(permissions, subject) is (node == other), subject
    assert list(permissions.subscribe) == [f"_INBOX_{node}.>"]


def test_a_node_can_neither_command_nor_write_the_ledger_nor_touch_a_stream() -> None:
    permissions = subjects.node_permissions("node-a")
    for subject in (
        subjects.command("node-a", "shop", "launch", False),
        subjects.ledger("shop"),
        subjects.work("node-a", "shop-o1-r1", 1),
        subjects.query("sql"),
        subjects.receipt("ana", "c"),
        "$JS.API.STREAM.INFO.LEDGER",
        "$JS.API.STREAM.PURGE.REP",
        "$JS.API.CONSUMER.CREATE.WORK",
        "$JS.API.DIRECT.GET.LEDGER.qd.ledger.shop",
        "$JS.ACK.LEDGER.controller.1.1.1.1.0",
        "$KV.qd-lease.controller",
        "_INBOX_node-b.x",
    ):
        assert not allowed(permissions, subject), subject


def test_an_ack_permission_is_no_pull_for_another_node() -> None:
    permissions = subjects.node_permissions("work-b")
    assert allowed(permissions, "$JS.ACK.WORK.work-work-b.1.1.1.1.0")
    assert allowed(permissions, "$JS.ACK._.hash.WORK.work-work-b.1.1.1.1.0")
    assert not allowed(permissions, "$JS.ACK.WORK.work-work-b.WORK.work-a.1.1.1.1")
    assert not allowed(permissions, "$JS.ACK.x.y.WORK.work-work-b.1.1.1.1.0")


def test_a_principal_is_one_word_of_its_inbox() -> None:
    assert subjects.inbox("ana") == "_INBOX_ana"
    assert not covers(f"{subjects.inbox('ana')}.>", "_INBOX_anabel.x")
    assert subjects.SERVICE_PERMISSIONS == ((">",), (">",))
