"""Reading what a newer version wrote: what is not known is kept as it came, and what is damaged is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bus_schemas import codec
from bus_schemas import events as e
from bus_schemas.decisions import Decision, LedgerMessage, TimerCause
from tests.unit.timeline.story import START
from timeline.reading import UnknownCause, UnknownEvent, read

KNOWN = e.FlagChanged("cp.launch", True)


def written(*events: Any, **changes: Any) -> bytes:
    """Return a message whose events and fields are put in as they are given."""
    decision = Decision(at=START, cause=TimerCause("test"), events=(KNOWN,))
    message = LedgerMessage(codec.VERSION, "ledger-message", "shop", "b", "test", codec.ZERO_HASH, 0, 1, (decision,))
    fields = json.loads(codec.encode(message))
    fields["decisions"][0]["events"] += events
    fields["decisions"][0] |= changes.pop("decision", {})
    return json.dumps(fields | changes).encode()


def test_an_event_of_an_unknown_type_and_a_value_that_is_not_known_are_kept_as_they_came() -> None:
    moon = {"type": "moon-phase-changed", "phase": "full"}
    status = {"type": "orchestration-moved", "orchestration": "shop-o1", "status": "dreaming", "previous": "planning"}
    message = read(written(moon, status, 7, {"phase": "none"}))

    assert message.decisions[0].events == (
        KNOWN,
        UnknownEvent("moon-phase-changed", moon),
        UnknownEvent("orchestration-moved", status),
        UnknownEvent("unknown", {"value": 7}),
        UnknownEvent("unknown", {"phase": "none"}),
    )


@pytest.mark.parametrize(("cause", "name"), [({"cause": "oracle", "who": "x"}, "oracle"), (7, ""), ({"who": "x"}, "")])
def test_a_cause_of_an_unknown_kind_is_kept_by_its_name(cause: Any, name: str) -> None:
    message = read(written(decision={"cause": cause}))

    assert message.decisions[0].cause == UnknownCause(name)


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"[",
        b"{}",
        written({"type": "moon"}, v=99),
        written({"type": "moon"}, v=0),
        written({"type": "moon"}, decisions=[]),
        written({"type": "moon"}, decision={"action": {"id": 7}}),
        written({"type": "moon"}, project=7),
        written({"type": "moon"}).replace(b"moon", b"mo\xff"),
    ],
)
def test_what_no_version_wrote_is_malformed(damaged: bytes) -> None:
    with pytest.raises(codec.Malformed):
        read(damaged)
