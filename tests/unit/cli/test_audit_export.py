"""The format of an export, the report on it, and signatures: pure parts and small folders."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bus.identity import BadIdentity, is_signed_by, make_key, sign
from bus_schemas.codec import body_sha256
from bus_schemas.events import RecordedHead
from bus_schemas.violation import Violation
from cli.audit import export, report
from cli.audit.export import FileFacts, LineChain, Manifest, Signature, manifest_bytes, read_manifest
from cli.audit.folder import line_of
from cli.audit.reading import ReadExport, message_of
from cli.audit.verdict import Figures, Verdict
from tests.unit.timeline.story import whole_story

AT = datetime(2026, 11, 25, 9, 30, tzinfo=UTC)
WHOLE = [(stored.seq, stored.subject, stored.data) for stored in whole_story().stored()]
LINES = [line_of(seq, f"qd.ledger.{seq % 3}", AT, b"body %d" % seq, {"a": "b"}) for seq in range(1, 8)]


def wrapped(name: str = "x.jsonl") -> list[bytes]:
    chain = LineChain(name)
    return [chain.wrap(line) for line in LINES]


def read(lines: list[bytes], name: str = "x.jsonl") -> list[int]:
    """Return the numbers of the lines that are wrong."""
    chain = LineChain(name)
    return [number for number, line in enumerate(lines, 1) if chain.read(line) is not None]


def folder_of(tmp_path: Path, *, change: Callable[[Manifest], Manifest] = lambda manifest: manifest, seed_file: Path | None = None) -> Path:
    """Write an export of a story as the exporter does."""
    folder = tmp_path / "export"
    folder.mkdir()
    files: list[FileFacts] = []
    heads: dict[str, tuple[int, str]] = {}
    for name, messages in ((export.LEDGER_FILE, WHOLE), (export.REPORTS_FILE, [])):
        chain = LineChain(name)
        (folder / name).write_bytes(b"".join(chain.wrap(line_of(seq, subject, AT, body)) for seq, subject, body in messages))
        ends = (messages[0][0], messages[-1][0]) if messages else (None, None)
        files.append(FileFacts(name, "LEDGER", AT, chain.lines, chain.bytes, chain.sha256, chain.chain, *ends))
        heads |= {subject.rpartition(".")[2]: (seq, body_sha256(body)) for seq, subject, body in messages}
    noted = tuple(RecordedHead(project, *head) for project, head in sorted(heads.items()))
    data = manifest_bytes(change(Manifest(export.SCHEMA, AT, "ana", "quarterdeck 0", "LEDGER", AT, len(WHOLE), tuple(files), noted)))
    (folder / export.MANIFEST).write_bytes(data)
    if seed_file is not None:
        from bus.identity import public_of

        signature = Signature(public_of(seed_file), base64.b64encode(sign(seed_file, data)).decode())
        (folder / export.SIGNATURE).write_bytes(msgspec.json.encode(signature) + b"\n")
    return folder


def findings(folder: Path, signer: str | None = None) -> list[tuple[str, str, str]]:
    judged = ReadExport(folder, signer=signer)
    judged.read()
    return [(violation.invariant, violation.where, violation.text) for violation in judged.findings]


# ── lines ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_lines_read_as_they_were_written_and_are_the_messages() -> None:
    assert read(wrapped()) == []
    messages = [message_of(line) for line in wrapped()]
    assert [message.data for message in messages if message is not None] == [b"body %d" % seq for seq in range(1, 8)]
    assert message_of(b"{}") is None


def test_a_line_without_its_end_was_cut_off() -> None:
    lines = wrapped()
    chain = LineChain("x.jsonl")
    assert [chain.read(line) for line in (lines[0], lines[1][:-1])] == [None, "it is cut off: the end of the line is gone"]


def test_the_lines_of_another_file_are_not_those_of_this_one() -> None:
    assert read(wrapped("y.jsonl"))[:1] == [1]


@given(st.integers(0, 6), st.data())
def test_a_flipped_bit_makes_its_line_wrong_and_no_other_that_keeps_its_place(number: int, data: st.DataObject) -> None:
    lines = wrapped()
    line = bytearray(lines[number])
    line[data.draw(st.integers(0, len(line) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert read([*lines[:number], bytes(line), *lines[number + 1 :]]) == [number + 1]


@given(st.lists(st.integers(0, 6), max_size=9))
def test_any_other_sequence_of_the_lines_is_wrong_or_is_the_beginning_of_it(order: list[int]) -> None:
    lines = wrapped()
    is_beginning = order == list(range(len(order)))
    assert (read([lines[number] for number in order]) == []) == is_beginning


# ── the manifest ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_manifest_reads_as_it_was_written_and_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    data = (folder_of(tmp_path) / export.MANIFEST).read_bytes()
    found = read_manifest(data)
    assert found.wrong is None
    assert found.manifest is not None
    assert manifest_bytes(found.manifest) == data
    for place in range(len(data)):
        flipped = bytearray(data)
        flipped[place] ^= 1 << place % 8
        assert read_manifest(bytes(flipped)).wrong is not None, place


@pytest.mark.parametrize("spoil", [lambda data: data[:-3], lambda data: b"", lambda data: data + b" ", lambda data: b"no"])
def test_a_manifest_without_its_last_line_was_cut_off(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    data = spoil((folder_of(tmp_path) / export.MANIFEST).read_bytes())
    assert "cut off or changed" in (read_manifest(data).wrong or "")


def test_a_manifest_that_is_whole_and_not_understood_says_so(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, change=lambda manifest: replace(manifest, schema="qd.export/9"))
    assert findings(folder)[0][2] == "it is of schema 'qd.export/9'; this reader takes qd.export/1"
    head = b'{\n  "schema": 1,\n'
    import hashlib

    whole = head + b'  "manifest_sha256": "' + hashlib.sha256(head).hexdigest().encode() + b'"\n}\n'
    assert "cannot be understood" in (read_manifest(whole).wrong or "")


# ── a folder ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_export_as_it_was_written_is_sound(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    assert findings(folder) == []
    judged = ReadExport(folder)
    judged.read()
    audit = report.of_export(judged.judged())
    assert audit.is_sound
    assert {check.check: check.over for check in audit.checks} == {
        "files": 3,
        "lines": len(WHOLE),
        "sequence": len(WHOLE),
        "chain": len(WHOLE),
        "heads": 0,
        "signature": 0,
    }


def test_a_folder_without_a_manifest_is_still_read_line_by_line(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    (folder / export.MANIFEST).unlink()
    assert findings(folder) == [("files", "manifest.json", "it is missing")]
    judged = ReadExport(folder)
    judged.read()
    assert "exported_by" not in report.of_export(judged.judged()).facts


def test_a_manifest_that_was_made_anew_for_less_than_there_is_does_not_fit(tmp_path: Path) -> None:
    def fewer(manifest: Manifest) -> Manifest:
        return replace(manifest, files=(replace(manifest.files[0], lines=3, last_seq=3), manifest.files[1]), heads=manifest.heads[1:])

    found = findings(folder_of(tmp_path, change=fewer))
    assert [(check, where) for check, where, _ in found] == [("files", "ledger.jsonl"), ("heads", "manifest.json, project park")]
    assert found[0][2] == f"it is not what the manifest says: lines: expected 3, found {len(WHOLE)}; the last message: expected 3, found {len(WHOLE)}"
    assert "it names no head" in found[1][2]


def test_a_head_that_no_message_has_and_a_file_that_no_export_has_are_found(tmp_path: Path) -> None:
    def more(manifest: Manifest) -> Manifest:
        odd = replace(manifest.files[1], name="../../etc/passwd")
        return replace(manifest, files=(manifest.files[0], odd), heads=(*manifest.heads, RecordedHead("zoo", 3, "0" * 64)))

    found = findings(folder_of(tmp_path, change=more))
    assert ("files", "manifest.json", "it names a file '../../etc/passwd' that no export has") in found
    assert any(where == "manifest.json, project zoo" and "in the export is none" in text for _, where, text in found)


def test_a_line_that_cannot_be_read_is_named_by_what_came_before_it(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    path = folder / export.LEDGER_FILE
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([b"rubbish\n", *lines[1:10], b"rubbish\n", *lines[11:]]))
    places = [where for check, where, _ in findings(folder) if check == "lines"]
    assert places[0] == "ledger.jsonl line 1, the message after the beginning"
    assert places[2] == "ledger.jsonl line 11, the message after 10"
    assert len(places) == 4  # a line that is gone altogether makes the next one a line that follows nothing


def test_no_more_findings_are_kept_than_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cli.audit import reading

    monkeypatch.setattr(reading, "VIOLATIONS_MAX", 2)
    folder = folder_of(tmp_path)
    for number in range(5):
        (folder / f"more-{number}").touch()
    assert len(findings(folder)) == 2


# ── signatures ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_signature_is_of_its_key_and_its_bytes_alone(tmp_path: Path) -> None:
    key, other = make_key(tmp_path, "ana"), make_key(tmp_path, "bob")
    signature = sign(key.seed_file, b"data")
    assert is_signed_by(key.public, b"data", signature)
    assert not is_signed_by(key.public, b"date", signature)
    assert not is_signed_by(other.public, b"data", signature)
    assert not is_signed_by(key.public, b"data", signature[:-1])
    for wrong in ("", key.public[:-1], "A" + key.public[1:], key.public[:20] + ("A" if key.public[20] != "A" else "B") + key.public[21:]):
        with pytest.raises(BadIdentity):
            is_signed_by(wrong, b"data", signature)


def test_a_signed_export_is_known_by_its_signer_and_another_is_refused(tmp_path: Path) -> None:
    key, other = make_key(tmp_path, "ana"), make_key(tmp_path, "bob")
    folder = folder_of(tmp_path, change=lambda manifest: replace(manifest, signer=key.public), seed_file=key.seed_file)
    assert findings(folder, key.public) == []
    assert findings(folder) == []
    assert findings(folder, other.public) == [("signature", "manifest.sig", f"it was made by {key.public}, expected {other.public}")]
    (folder / export.SIGNATURE).unlink()
    assert findings(folder)[0][2] == f"it is missing; the manifest must be signed by {key.public}"


def test_a_signature_of_another_manifest_or_by_another_than_it_names_is_refused(tmp_path: Path) -> None:
    key, other = make_key(tmp_path, "ana"), make_key(tmp_path, "bob")
    folder = folder_of(tmp_path, change=lambda manifest: replace(manifest, signer=other.public), seed_file=key.seed_file)
    assert findings(folder)[0][2] == f"it was made by {key.public}, and the manifest names {other.public}"
    good = (folder / export.SIGNATURE).read_bytes()
    for place in range(len(good)):
        flipped = bytearray(good)
        flipped[place] ^= 1 << place % 8
        (folder / export.SIGNATURE).write_bytes(flipped)
        found = findings(folder)
        assert found, place
        assert found[0][:2] == ("signature", "manifest.sig")


# ── the report ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_verdict_is_told_invariant_by_invariant_in_their_order_with_what_was_not_checked() -> None:
    wrong = (Violation("I10", "3.1", "out of order"), Violation("X", "?", "of an unknown kind"))
    checks = report.of_verdict(Verdict(wrong, {"I2": 4, "I10": 7}, {"I9": "there is not a client log"}, Figures()))
    assert [(check.check, check.over, check.violations, check.skipped) for check in checks] == [
        ("I2", 4, 0, None),
        ("I9", 0, 0, "there is not a client log"),
        ("I10", 7, 1, None),
        ("X", 0, 1, None),
    ]
    audit = report.Audit("somewhere", checks, wrong, {"rows": 3})
    assert not audit.is_sound
    assert report.as_object(audit)["rows"] == 3
    assert [row[0] for row in report.table(audit).rows] == ["I2", "I10", "X"]
    assert report.unchecked(audit) == ["I9: there is not a client log"]


def test_a_service_that_could_not_be_asked_is_not_counted() -> None:
    assert report.of_service(report.TIMELINE, [Violation(report.TIMELINE, "shop", "rewound")]).violations == 1
    silent = report.of_service(report.CONTROLLER, [], "it is not there")
    assert (silent.over, silent.skipped) == (0, "it is not there")


def test_every_invariant_that_is_judged_has_its_words() -> None:
    from cli.audit.judge import CHECKS

    assert {check.invariant for check in CHECKS} <= set(report.ABOUT)
