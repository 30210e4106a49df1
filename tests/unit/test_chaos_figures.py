"""The rig's own counting: what it calls lost, duplicated, stuck and alone."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from bus_schemas import codec
from bus_schemas.decisions import Action, ActionStatus, CommandCause, Decision, LedgerMessage
from bus_schemas.events import RunStarted
from bus_schemas.reasons import Reason
from cli.audit.evidence import Answer, Call, Stored, Witnessed
from tests.chaos import figures
from tests.chaos.figures import Injected

NOW = datetime(2026, 11, 24, tzinfo=UTC)


def stored(*decisions: Decision, seq: int = 1) -> Stored:
    message = LedgerMessage(codec.VERSION, "ledger-message", "shop", f"b{seq}", "ctl", "", 0, 1, decisions)
    return Stored(seq, "qd.ledger.shop", 0.0, codec.encode(message))


def decided(key: str, action: str, *events: RunStarted, reason_code: str | None = None) -> Decision:
    cause = CommandCause("c", "launch", key, "local", "api", "shop", NOW, "h", msgspec.Raw(b"{}"))
    return Decision(NOW, cause, Action(action, ActionStatus.ACCEPTED, reason_code), events=events)


def call(key: str, action: str | None) -> Call:
    answer = None if action is None else Answer(action, "accepted", "shop", key)
    return Call("ops", 0.0, key, "shop", "launch", key, "unknown" if answer is None else "ok", receipt=answer)


def ran(run: str) -> Witnessed:
    return Witnessed(at=0.0, orchestration="shop-o1", run=run, attempt=1, event="start")


def started(run: str) -> RunStarted:
    return RunStarted(orchestration="shop-o1", run=run, attempt=1, node="n1")


def test_an_answer_whose_action_is_not_in_the_ledger_is_lost() -> None:
    found = figures.counted([stored(decided("k1", "shop-a1"))], [call("k1", "shop-a1"), call("k2", "shop-a2")], [])
    assert (found["lost"], found["duplicated"], found["stuck"]) == (1, 0, 0)


def test_a_key_that_was_decided_twice_is_duplicated_but_not_where_its_second_use_was_refused() -> None:
    refused = decided("k1", "shop-a2", reason_code=Reason.IDEMPOTENCY_MISMATCH.value)
    assert figures.counted([stored(decided("k1", "shop-a1"), refused)], [call("k1", "shop-a1")], [])["duplicated"] == 0
    assert figures.counted([stored(decided("k1", "shop-a1"), decided("k1", "shop-a2"))], [call("k1", "shop-a1")], [])["duplicated"] == 1


def test_an_attempt_that_ran_twice_is_duplicated_and_one_that_is_not_in_the_ledger_is_lost() -> None:
    ledger = [stored(decided("k1", "shop-a1", started("shop-o1-r1")))]
    found = figures.counted(ledger, [call("k1", "shop-a1")], [ran("shop-o1-r1"), ran("shop-o1-r1"), ran("shop-o1-r2")])
    assert (found["lost"], found["duplicated"]) == (1, 1)


def test_a_key_whose_outcome_nobody_knows_is_stuck() -> None:
    assert figures.counted([], [call("k1", None)], [])["stuck"] == 1


def test_recovery_counts_from_where_the_fault_says_and_tells_apart_what_was_alone() -> None:
    alone = Injected("kill", "ctl-a", 10.0, 11.0, "controller", 10.0, 12.5, 13.0)
    pair = (
        Injected("kill", "ctl-a", 20.0, 21.0, "controller", 20.0, 24.0, 24.0),
        Injected("reset", "alpha", 23.0, 23.5, "partition", 23.5, None, 53.5),
    )
    found = figures.recovery([alone, *pair], {"controller": 3.0})
    assert found["controller"]["alone"] == {"count": 1, "p50_s": 2.5, "p99_s": 2.5, "max_s": 2.5}
    assert found["controller"]["all"] == {"count": 2, "p50_s": 2.5, "p99_s": 4.0, "max_s": 4.0}
    assert found["partition"]["never"] == ["reset of alpha at 23.0"]
