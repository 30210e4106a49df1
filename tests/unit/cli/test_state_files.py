"""The registration of `qd up`, the journal of keys, and where to connect."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli import endpoint, journal, registration
from cli.exits import Exit
from cli.failure import Failure
from cli.options import Options
from cli.registration import Registration


def registered(folder: Path, *, pid: int | None = None, url: str = "nats://127.0.0.1:4999") -> Registration:
    token = folder / "token"
    token.write_text("secret\n")
    found = Registration(url, str(token), os.getpid() if pid is None else pid, str(folder))
    registration.write(folder, found)
    return found


def gone_pid() -> int:
    """Return the id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_registration_is_private_and_is_removed_only_by_its_own_process(tmp_path: Path) -> None:
    found = registered(tmp_path)
    assert (tmp_path / registration.FILE).stat().st_mode & 0o777 == 0o600
    assert registration.read(tmp_path) == found
    registration.remove(tmp_path, found.pid + 1)
    assert registration.read(tmp_path) == found
    registration.remove(tmp_path, found.pid)
    assert registration.read(tmp_path) is None


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"url": 1}', b"\xff"])
def test_a_registration_that_cannot_be_read_is_none(tmp_path: Path, data: bytes) -> None:
    (tmp_path / registration.FILE).write_bytes(data)
    assert registration.read(tmp_path) is None


def test_a_client_that_names_no_server_takes_the_registered_one_with_its_token(tmp_path: Path) -> None:
    registered(tmp_path)
    found = endpoint.resolve(Options(), tmp_path)
    assert (found.url, found.credentials.token, found.credentials.principal) == ("nats://127.0.0.1:4999", "secret", "local")


def test_a_client_that_names_the_registered_server_takes_its_token(tmp_path: Path) -> None:
    registered(tmp_path)
    assert endpoint.resolve(Options(server="localhost:4999"), tmp_path).credentials.token == "secret"


def test_the_token_never_goes_to_another_server(tmp_path: Path) -> None:
    registered(tmp_path)
    for server in ("nats://127.0.0.1:5000", "nats://example.org:4999", "127.0.0.1"):
        assert endpoint.resolve(Options(server=server), tmp_path).credentials.token is None


def test_a_registration_whose_process_is_gone_is_unreachable_and_says_so(tmp_path: Path) -> None:
    registered(tmp_path, pid=gone_pid())
    with pytest.raises(Failure, match="is gone") as failure:
        endpoint.resolve(Options(), tmp_path)
    assert failure.value.exit_code == Exit.UNREACHABLE


def test_without_server_and_registration_nothing_can_be_reached(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="no bus is named") as failure:
        endpoint.resolve(Options(), tmp_path)
    assert failure.value.exit_code == Exit.UNREACHABLE


@pytest.mark.parametrize("server", ["", "nats://", "http://x", "nats://h:99999", "nats://h:x", "nats://h:0", "nats://h\n"])
def test_a_server_that_is_no_url_of_a_bus_is_a_usage_error(tmp_path: Path, server: str) -> None:
    with pytest.raises(Failure) as failure:
        endpoint.resolve(Options(server=server), tmp_path)
    assert failure.value.exit_code == Exit.USAGE


@pytest.mark.parametrize(
    "options",
    [Options(creds="x"), Options(creds="x", principal="ana"), Options(token_file="x"), Options(creds="x", principal="ana", token_file="y")],
)
def test_credentials_that_cannot_be_used_are_a_usage_error(tmp_path: Path, options: Options) -> None:
    registered(tmp_path)
    with pytest.raises(Failure) as failure:
        endpoint.resolve(options, tmp_path / ".." / tmp_path.name)
    assert failure.value.exit_code == Exit.USAGE


def test_the_journal_finds_the_newest_key_of_the_same_kind_on_the_same_bus(tmp_path: Path) -> None:
    for number, (server, project, type_) in enumerate(
        [("a", "shop", "launch"), ("a", "shop", "pause"), ("b", "shop", "launch"), ("a", "shop", "launch")]
    ):
        journal.add(tmp_path, journal.Entry(f"t{number}", server, project, type_, f"h{number}", f"k{number}"))
    entries = journal.read(tmp_path)
    assert [entry.key for entry in entries] == ["k0", "k1", "k2", "k3"]
    found = journal.last_like(entries, "a", "shop", "launch")
    assert found is not None
    assert found.key == "k3"
    assert journal.last_like(entries, "a", "other", "launch") is None
    assert (tmp_path / journal.FILE).stat().st_mode & 0o777 == 0o600


def test_the_journal_forgets_the_oldest_and_survives_a_torn_line(tmp_path: Path) -> None:
    entry = journal.Entry("t", "a", "shop", "launch", "h", "k" * 200)
    for _ in range(journal.SIZE_BYTES_MAX // 250):
        journal.add(tmp_path, entry)
    with (tmp_path / journal.FILE).open("ab") as file:
        file.write(b'{"at": "torn')
    assert 0 < len(journal.read(tmp_path)) <= journal.SIZE_BYTES_MAX // 250
    assert (tmp_path / journal.FILE).stat().st_size <= journal.SIZE_BYTES_MAX


def test_no_journal_is_an_empty_one(tmp_path: Path) -> None:
    assert journal.read(tmp_path / "nowhere") == []
