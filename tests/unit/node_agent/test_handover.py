"""Results that agents hand over: read with suspicion."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from bus_schemas.reasons import Reason
from bus_schemas.reports import Finding, ReviewResult, Verdict
from node_agent import handover
from node_agent.verdict import Problem

GOOD = b'{"type":"review","verdict":"gaps","findings":[{"text":"no test","severity":"p0"}]}'


def test_a_result_of_the_agreed_form_is_read(tmp_path: Path) -> None:
    (tmp_path / "r").write_bytes(GOOD)
    assert handover.read(tmp_path / "r", ReviewResult) == ReviewResult(Verdict.GAPS, (Finding("no test", "p0"),))


def test_no_file_is_no_result(tmp_path: Path) -> None:
    assert handover.read(tmp_path / "r", ReviewResult) is None


@pytest.mark.parametrize(
    "data", [b"", b"{", b"\xff\xfe", b"null", b'{"type":"plan","tasks":[]}', b'{"type":"review","verdict":"maybe"}', b"[" * 100_000]
)
def test_what_does_not_decode_is_malformed(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "r").write_bytes(data)
    found = handover.read(tmp_path / "r", ReviewResult)
    assert isinstance(found, Problem)
    assert found.reason is Reason.OUTPUT_MALFORMED


def test_more_than_256_KiB_is_too_large(tmp_path: Path) -> None:
    (tmp_path / "r").write_bytes(GOOD + b" " * 256 * 1024)
    found = handover.read(tmp_path / "r", ReviewResult)
    assert isinstance(found, Problem)
    assert found.reason is Reason.OUTPUT_TOO_LARGE


@pytest.mark.timeout(5)
@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "device"])
def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "r"
    if kind == "link":
        (tmp_path / "secret").write_bytes(GOOD)
        path.symlink_to(tmp_path / "secret")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    found = handover.read(path, ReviewResult)
    assert isinstance(found, Problem)
    assert found.reason is Reason.OUTPUT_MALFORMED


def test_the_schema_says_what_is_wanted() -> None:
    text = json.dumps(json.loads(handover.schema(ReviewResult)))
    assert '"gaps"' in text
    assert '"severity"' in text
