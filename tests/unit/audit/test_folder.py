"""Evidence in a folder: what is written is what is read, and what is not there is said."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from bus_schemas.events import EVENT_TYPES
from cli.audit import facts
from cli.audit.evidence import Evidence
from cli.audit.folder import Unreadable, line_of, load
from cli.audit.halves import verify as verify_by_two
from cli.audit.judge import WANTED, verify
from tests.unit.audit.stories import evidence_of, story


def written(evidence: Evidence, folder: Path) -> None:
    """Write evidence as a rig does."""
    streams = {"ledger": evidence.ledger, "rep": evidence.reports, "cmd": evidence.commands, "dlq": evidence.dead_letters}
    for name, stream in streams.items():
        lines = [line_of(s.seq, s.subject, datetime.fromtimestamp(s.stored_at_s, UTC), s.data) for s in stream or ()]
        (folder / f"{name}.jsonl").write_bytes(b"".join(lines))
    for name, values in {"clients": evidence.calls, "witness": evidence.witness, "faults": evidence.faults, "timeline": evidence.timeline}.items():
        (folder / f"{name}.jsonl").write_bytes(b"".join(msgspec.json.encode(value) + b"\n" for value in values or ()))
    wholes = {"processes": evidence.survivors, "repos": evidence.repositories, "canaries": evidence.canaries, "evidence": evidence.circumstances}
    for name, whole in wholes.items():
        (folder / f"{name}.json").write_bytes(msgspec.json.encode(whole))
    (folder / "journals").mkdir()
    for journal in evidence.journals or ():
        (folder / "journals" / f"{journal.node}.1.jsonl").write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in journal.lines))
    (folder / "sinks").mkdir()
    for name, data in (evidence.sinks or {}).items():
        (folder / "sinks" / name).write_bytes(data)


def test_a_folder_is_judged_as_the_evidence_that_was_written_into_it(tmp_path: Path) -> None:
    evidence = evidence_of(story(4, steps=60))
    written(evidence, tmp_path)

    read, known = verify(load(tmp_path)), verify(evidence)

    assert read == known
    assert read.is_clean
    assert set(read.skipped) == {"I19"}


def test_what_is_not_there_is_said_and_what_is_there_is_judged(tmp_path: Path) -> None:
    evidence = evidence_of(story(4, steps=60))
    written(evidence._replace(witness=None), tmp_path)
    for path in tmp_path.iterdir():
        if path.name != "ledger.jsonl" and path.is_file():
            path.unlink()

    verdict = verify(load(tmp_path))

    assert verdict.is_clean
    assert verdict.checked["I10"] > 0
    assert "I11" not in verdict.checked
    assert verdict.skipped["I11"] == f"there is not {WANTED['timeline']}"
    assert verdict.skipped["I5"] == "in part: it is not known that everything had come to rest"


def test_nothing_at_all_is_judged_as_nothing(tmp_path: Path) -> None:
    verdict = verify(load(tmp_path))
    assert verdict.is_clean
    assert not any(count for invariant, count in verdict.checked.items())
    assert {f"I{number}" for number in range(1, 21)} == set(verdict.skipped)


def test_a_torn_last_line_is_left_out_and_a_bad_one_before_is_named(tmp_path: Path) -> None:
    (tmp_path / "witness.jsonl").write_bytes(b'{"at":1.0,"orchestration":"a-o1","run":"a-o1-r1","attempt":1,"event":"start"}\n{"at":1.')
    assert len(list(load(tmp_path).witness or ())) == 1
    (tmp_path / "witness.jsonl").write_bytes(b'{"at":\n{"at":1.')
    with pytest.raises(Unreadable, match="line 1"):
        list(load(tmp_path).witness or ())


def test_bytes_that_are_no_text_come_back_as_they_were(tmp_path: Path) -> None:
    data = b"\xff\x00 not text"
    (tmp_path / "rep.jsonl").write_bytes(line_of(1, "qd.rep.x", datetime(2026, 1, 1, tzinfo=UTC), data))
    assert [stored.data for stored in load(tmp_path).reports or ()] == [data]


def test_every_event_of_the_contract_is_known_to_the_verifier() -> None:
    assert set(EVENT_TYPES) == set(facts.NAMES.values())


def test_two_processes_come_to_the_verdict_of_one_whatever_is_wrong_or_not_there(tmp_path: Path) -> None:
    evidence = evidence_of(story(4, steps=60))
    torn = list(evidence.ledger or ())
    del torn[len(torn) // 2]
    written(evidence._replace(ledger=torn, witness=[*(evidence.witness or ()), *(evidence.witness or ())]), tmp_path)
    (tmp_path / "clients.jsonl").unlink()
    (tmp_path / "evidence.json").unlink()

    one = verify(load(tmp_path))

    assert {violation.invariant for violation in one.violations} >= {"I1", "I3", "I20"}
    assert verify_by_two(tmp_path) == one
    two = verify_by_two(tmp_path, ledger_bytes_min=0)
    assert (two.checked, two.skipped, two.figures) == (one.checked, one.skipped, one.figures)
    assert sorted(two.violations, key=repr) == sorted(one.violations, key=repr)


def test_a_line_that_cannot_be_read_is_named_by_two_processes_as_by_one(tmp_path: Path) -> None:
    written(evidence_of(story(4, steps=60)), tmp_path)
    (tmp_path / "ledger.jsonl").write_bytes(b"{}\n{}\n")

    with pytest.raises(Unreadable, match=r"ledger\.jsonl, line 1"):
        verify_by_two(tmp_path, ledger_bytes_min=0)
