"""One-time links, cookies and form tokens."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from console import session
from console.session import Sessions


def test_a_link_lets_one_browser_in_once(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path)
    token = sessions.login_token
    cookie = sessions.redeem(token)
    assert cookie is not None
    assert sessions.is_valid(cookie)
    assert sessions.redeem(token) is None
    assert sessions.login_token != token


@pytest.mark.parametrize("wrong", ["", "x", "ü", "\0", "a" * 10_000])
def test_another_text_is_no_token_and_uses_none_up(tmp_path: Path, wrong: str) -> None:
    sessions = Sessions(tmp_path)
    token = sessions.login_token
    assert sessions.redeem(wrong) is None
    assert sessions.login_token == token


def test_a_cookie_outlives_a_restart_and_the_link_before_does_not(tmp_path: Path) -> None:
    before = Sessions(tmp_path)
    cookie, link = before.redeem(before.login_token), before.login_token
    after = Sessions(tmp_path)
    assert cookie is not None
    assert after.is_valid(cookie)
    assert after.redeem(link) is None


def test_a_cookie_of_another_installation_is_worth_nothing(tmp_path: Path) -> None:
    one, other = Sessions(tmp_path / "one"), Sessions(tmp_path / "other")
    cookie = one.redeem(one.login_token)
    assert cookie is not None
    assert not other.is_valid(cookie)


@pytest.mark.parametrize("cookie", ["", ".", "..", "x.y.z", "9999999999..", "9999999999.a." + "0" * 64, "-1.a.b", "²³.a.b", "ü"])
def test_a_made_up_cookie_is_worth_nothing(tmp_path: Path, cookie: str) -> None:
    assert not Sessions(tmp_path).is_valid(cookie)


def test_each_part_of_a_cookie_is_signed(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path)
    cookie = sessions.redeem(sessions.login_token)
    assert cookie is not None
    expires, nonce, signature = cookie.split(".")
    assert not sessions.is_valid(f"{int(expires) + 1}.{nonce}.{signature}")
    assert not sessions.is_valid(f"{expires}.{nonce}x.{signature}")
    assert not sessions.is_valid(f"{expires}.{nonce}.{signature[:-1]}")


def test_a_cookie_grows_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "SESSION_S", -1.0)
    sessions = Sessions(tmp_path)
    cookie = sessions.redeem(sessions.login_token)
    assert cookie is not None
    assert not sessions.is_valid(cookie)


def test_a_form_token_belongs_to_its_session_and_is_no_cookie(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path)
    one, other = (sessions.redeem(sessions.login_token) for _ in range(2))
    assert one is not None
    assert other is not None
    assert sessions.form_token(one) == sessions.form_token(one) != sessions.form_token(other)
    body = one.rpartition(".")[0]
    assert not sessions.is_valid(f"{body}.{sessions.form_token(one)}")


def test_what_is_kept_is_for_its_owner_alone(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path / "console")
    sessions.note_address("http://127.0.0.1:1")
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "console").iterdir()} == {0o600}
    assert stat.S_IMODE((tmp_path / "console").stat().st_mode) == 0o700
