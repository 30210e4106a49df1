"""What a message of the ledger is news about."""

from __future__ import annotations

from bench import growth_ledger
from bus_schemas import codec
from bus_schemas import events as e
from bus_schemas.decisions import Decision, LedgerMessage, TimerCause
from bus_schemas.entities import Node
from bus_schemas.ids import NodeId
from console import news
from tests.golden.commands import AT


def message(*events: e.Event, project: str = "shop") -> LedgerMessage:
    decision = Decision(at=AT, cause=TimerCause("test"), events=events)
    return codec.decode_ledger(growth_ledger.message(project, "0" * 64, 0, codec.encode(decision)))


def test_a_message_is_news_about_its_project() -> None:
    assert news.topics(message()) == {news.ANY, "shop"}


def test_a_node_and_a_flag_are_topics_of_their_own() -> None:
    node = e.NodeRegistered(Node(NodeId("deck"), capacity=1))
    assert news.NODES in news.topics(message(node, project="plane"))
    assert news.NODES in news.topics(message(e.NodeCordonChanged(NodeId("deck"), True), project="plane"))
    assert news.FLAGS in news.topics(message(e.FlagChanged("cp.launch", True), project="plane"))
    assert news.NODES not in news.topics(message(e.FlagChanged("cp.launch", True), project="plane"))


def test_what_happens_to_an_orchestration_is_news_about_it() -> None:
    stored = growth_ledger.message("bench", "0" * 64, 0, growth_ledger.Template().decisions_of(7, 100, AT))
    assert "bench-o7" in news.topics(codec.decode_ledger(stored))


def test_a_message_that_cannot_be_read_here_is_news_about_everything() -> None:
    assert news.topics_of(b"{}") == {news.ANY}
