"""The accounts of a server configuration as text, and the key files."""

from __future__ import annotations

import re
from pathlib import Path

import nkeys
import pytest

from bus.identity import BadIdentity, Identity, KeyExists, Kind, account_of, accounts, make_key, public_of
from bus_schemas.ids import BadId
from bus_schemas.subjects import node_permissions, operator_permissions


def some(folder: Path, *wanted: tuple[Kind, str]) -> list[Identity]:
    return [Identity(kind, name, make_key(folder / kind, name).public) for kind, name in wanted]


def block(text: str, account: str) -> str:
    """Return the lines of one account."""
    found = re.search(rf'^  "?{re.escape(account)}"? \{{\n(.*?)^  \}}$', text, re.MULTILINE | re.DOTALL)
    assert found, f"no account {account}"
    return found[1]


def test_a_seed_file_is_for_its_owner_only_and_says_its_public_half(tmp_path: Path) -> None:
    key = make_key(tmp_path / "keys", "ana")
    assert key.seed_file.stat().st_mode & 0o777 == 0o600
    assert key.seed_file.parent.stat().st_mode & 0o777 == 0o700
    assert key.public == public_of(key.seed_file)
    assert re.fullmatch("U[A-Z2-7]{55}", key.public)
    assert key.seed_file.read_text().startswith("SU")


def test_two_keys_are_never_the_same(tmp_path: Path) -> None:
    assert make_key(tmp_path, "ana").public != make_key(tmp_path, "ben").public


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    key = make_key(tmp_path, "ana")
    before = key.seed_file.read_bytes()
    with pytest.raises(KeyExists, match=r"ana\.nk exists"):
        make_key(tmp_path, "ana")
    assert key.seed_file.read_bytes() == before


@pytest.mark.parametrize("name", ["", ">", "*", "a.b", "../ana", "Ana", "a b", 'a"', "a\n", "\x00", "a" * 33])
def test_a_name_that_is_no_safe_token_makes_no_key_and_no_account(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadId):
        make_key(tmp_path / "keys", name)
    assert not (tmp_path / "keys").exists()
    public = make_key(tmp_path / "good", "good").public
    for kind in Kind:
        with pytest.raises(BadId):
            accounts([Identity(kind, name, public)])


@pytest.mark.parametrize("seed", [b"", b"SUA", b"\xff\xfe", b"S" * 58, b"not a seed at all"])
def test_what_is_no_seed_is_refused(tmp_path: Path, seed: bytes) -> None:
    file = tmp_path / "x.nk"
    file.write_bytes(seed)
    with pytest.raises(BadIdentity, match="not the seed"):
        public_of(file)


def test_the_seed_of_something_else_than_a_user_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.nk"
    file.write_bytes(nkeys.encode_seed(b"1" * 32, nkeys.PREFIX_BYTE_ACCOUNT))
    with pytest.raises(BadIdentity, match="not of a user"):
        public_of(file)


@pytest.mark.parametrize("public", ["", "UABC", "A" + "B" * 55, "U" + "a" * 55, "U" + "A" * 55 + "\n", 'U" } ] }'])
def test_what_is_no_public_user_key_is_refused(public: str) -> None:
    with pytest.raises(BadIdentity, match="not the public nkey"):
        accounts([Identity(Kind.NODE, "a", public)])
    with pytest.raises(BadIdentity, match="not the public nkey"):
        accounts([], system=public)


def test_everybody_but_services_has_an_account_of_its_own(tmp_path: Path) -> None:
    everybody = some(
        tmp_path, (Kind.SERVICE, "controller"), (Kind.SERVICE, "timeline"), (Kind.OPERATOR, "ana"), (Kind.OPERATOR, "ben"), (Kind.NODE, "ana")
    )
    assert [account_of(identity) for identity in everybody] == ["CTL", "CTL", "OPERATOR-ana", "OPERATOR-ben", "NODE-ana"]
    text = accounts(everybody)
    for identity in everybody:
        assert text.count(identity.public) == 1
        assert identity.public in block(text, account_of(identity))
    assert text.count("jetstream: enabled") == 1
    assert "jetstream: enabled" in block(text, "CTL")
    assert "system_account: SYS" in text


def test_an_account_imports_just_what_its_permissions_name_and_the_control_account_exports_just_that_to_it(tmp_path: Path) -> None:
    everybody = some(tmp_path, (Kind.SERVICE, "controller"), (Kind.OPERATOR, "ana"), (Kind.OPERATOR, "ben"), (Kind.NODE, "a"))
    text = accounts(everybody)
    for account, permissions in (("OPERATOR-ana", operator_permissions("ana")), ("NODE-a", node_permissions("a"))):
        services = re.findall(r'service: \{ account: CTL, subject: "([^"]+)" \}', block(text, account))
        assert services == list(permissions.publish)
        exported = [
            subject
            for subject, to in re.findall(r'service: "([^"]+)", response_type: \w+, accounts: \[([^\]]*)\]', block(text, "CTL"))
            if f'"{account}"' in to
        ]
        assert sorted(exported) == sorted(permissions.publish)
    assert re.findall(r'stream: \{ account: CTL, subject: "([^"]+)"', block(text, "OPERATOR-ana")) == ["qd.receipt.ana.>"]
    assert "stream: {" not in block(text, "NODE-a")
    assert '{ stream: "qd.receipt.ana.>", accounts: ["OPERATOR-ana"] }' in block(text, "CTL")


def test_the_order_of_identities_does_not_change_the_text(tmp_path: Path) -> None:
    everybody = some(tmp_path, (Kind.SERVICE, "controller"), (Kind.OPERATOR, "ana"), (Kind.NODE, "a"), (Kind.NODE, "b"))
    assert accounts(everybody) == accounts(reversed(everybody))


def test_names_and_keys_stand_for_one_identity_each(tmp_path: Path) -> None:
    one, two = make_key(tmp_path, "one").public, make_key(tmp_path, "two").public
    for first, second in ((Kind.OPERATOR, Kind.SERVICE), (Kind.OPERATOR, Kind.OPERATOR), (Kind.NODE, Kind.NODE)):
        with pytest.raises(BadIdentity, match="two called x"):
            accounts([Identity(first, "x", one), Identity(second, "x", two)])
    with pytest.raises(BadIdentity, match="same key"):
        accounts([Identity(Kind.NODE, "a", one), Identity(Kind.NODE, "b", one)])
    with pytest.raises(BadIdentity, match="same key"):
        accounts([Identity(Kind.NODE, "a", one)], system=one)


def test_no_permission_of_a_node_or_an_operator_reaches_a_subject_of_another(tmp_path: Path) -> None:
    for mine, other in ((node_permissions("a"), node_permissions("b")), (operator_permissions("ana"), operator_permissions("ben"))):
        own = {*mine.publish, *mine.subscribe}
        shared = own & {*other.publish, *other.subscribe}
        assert shared <= {"qd.query.>", "$SRV.>"}
        for subject in own - shared:
            for foreign in {*other.publish, *other.subscribe} - shared:
                assert not overlap(subject, foreign), f"{subject} and {foreign}"


def overlap(one: str, two: str) -> bool:
    """Return whether some subject matches both patterns."""
    left, right = one.split("."), two.split(".")
    for position in range(max(len(left), len(right))):
        if position >= len(left) or position >= len(right):
            return False
        if ">" in (left[position], right[position]):
            return True
        if "*" not in (left[position], right[position]) and left[position] != right[position]:
            return False
    return True


def test_the_overlap_of_patterns_is_found() -> None:
    assert overlap("$JS.ACK.*.*.WORK.work-a.>", "$JS.ACK.WORK.work-b.>")
    assert overlap("a.*.c", "a.b.>")
    assert not overlap("a.b", "a.b.c")
    assert not overlap("a.b.>", "a.b")
    assert not overlap("a.*.c", "*.b.d")
