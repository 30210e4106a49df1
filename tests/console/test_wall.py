"""Attacks on the console: each is refused, changes nothing, and leaves it answering."""

from __future__ import annotations

import json
import socket
import time

import pytest

from console.security import BODY_BYTES_MAX
from tests.acceptance.deck import Deck
from tests.console.http import Http

TASK = {"orchestration": "shop-o1", "phase": "1", "target_revision": "1"}
PAUSE = {"orchestration": "shop-o1", "mode": "drain", "key": "attack"}


@pytest.fixture(autouse=True)
def unharmed(deck: Deck, http: Http):  # type: ignore[no-untyped-def]
    """After each attack nothing was asked for that anybody decided, and the console answers."""

    def newest() -> list[str]:  # the position goes on by itself: heads are recorded, runs of other tests end
        return [action["action"] for action in deck.json("action", "ls", "--limit", "1")["items"]]

    before = newest()
    yield
    assert newest() == before
    assert http.get("/health").status == 200


# ── another site asks ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "changed",
    [
        {"Origin": "https://evil.example", "Sec_Fetch_Site": "cross-site"},
        {"Origin": "https://evil.example", "Sec_Fetch_Site": None},
        {"Origin": "null", "Sec_Fetch_Site": None},
        {"Origin": None, "Sec_Fetch_Site": None},
        {"Origin": "http://127.0.0.1:1", "Sec_Fetch_Site": None},
        {"Sec_Fetch_Site": "same-site"},
        {"Sec_Fetch_Site": "none"},
        {"Origin": "http://127.0.0.1.evil.example"},
        {"X_QD_Form": None},
        {"X_QD_Form": "0" * 64},
        {"X_QD_Form": ""},
    ],
    ids=str,
)
def test_a_change_that_does_not_come_from_a_page_of_ours_is_refused(http: Http, changed: dict[str, str | None]) -> None:
    assert http.post("/command/pause", PAUSE, **changed).status == 403


@pytest.mark.parametrize("cookie", ["", "qd-session=", "qd-session=x", "qd-session=9999999999.abc.def", "other=1"])
def test_a_change_without_a_session_is_refused(http: Http, cookie: str) -> None:
    assert http.post("/command/pause", PAUSE, Cookie=cookie).status == 401


def test_a_cookie_with_one_letter_changed_is_worth_nothing(http: Http) -> None:
    last = "0" if http.cookie[-1] != "0" else "1"
    assert http.get("/", Cookie=http.cookie[:-1] + last).status == 303
    expires, dot, rest = http.cookie.removeprefix("qd-session=").partition(".")
    assert http.get("/", Cookie=f"qd-session={int(expires) + 10**6}{dot}{rest}").status == 303


def test_the_token_of_one_session_is_worth_nothing_in_another(deck: Deck, http: Http) -> None:
    other = Http.logged_in(deck.qd("open", "--print").out.strip())
    assert other.form_token != http.form_token
    assert http.post("/command/pause", PAUSE, X_QD_Form=other.form_token).status == 403


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "QUERY"])
def test_other_methods_are_not_known(http: Http, method: str) -> None:
    assert http.request(method, "/command/pause", http.own()).status in (400, 405)


def test_a_change_is_not_made_by_get(http: Http) -> None:
    assert http.get("/command/pause?orchestration=shop-o1&key=x").status in (404, 405)


def test_cookies_cannot_be_read_by_scripts_and_are_not_sent_along_from_other_sites(deck: Deck) -> None:
    link = deck.qd("open", "--print").out.strip()
    client = Http("127.0.0.1", int(link.split(":")[2].partition("/")[0]))
    answer = client.get("/" + link.partition("//")[2].partition("/")[2])
    attributes = {part.strip().lower() for part in answer.headers["set-cookie"].split(";")[1:]}
    assert {"httponly", "samesite=strict", "path=/"} <= attributes


# ── by another name ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "name",
    [
        "evil.example",
        "evil.example:80",
        "127.0.0.1.nip.io",
        "localhost.evil.example",
        "",
        "127.0.0.1@evil.example",
        "0x7f.1",
        "127.1",
        "[::ffff:7f00:1]",
    ],
)
def test_a_name_that_was_rebound_to_this_machine_is_not_answered(http: Http, name: str) -> None:
    assert http.request("GET", "/", {"Cookie": http.cookie, "Host": name}).status in (400, 421)


def test_two_names_at_once_are_refused(http: Http) -> None:
    data = f"GET / HTTP/1.1\r\nHost: {http.authority}\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
    assert http.raw(data.encode()).status in (400, 421)


# ── places ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "path", ["/orchestrations/health", "/x/health", "/health/", "/login/x", "/health.css", "/audit;/health", "/static/../audit", "//health"]
)
def test_what_only_looks_public_needs_a_session(http: Http, path: str) -> None:
    stranger = Http(http.host, http.port)
    assert stranger.get(path).status in (303, 404)
    assert b"shop-" not in stranger.get(path).body


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/..%2fapp.py",
        "/static/%2e%2e/config.py",
        "/static/....//app.py",
        "/static//etc/passwd",
        "/static/vendor/../../session.py",
        "/%2e%2e/secret",
        "/orchestrations/..%2f..%2fsecret",
        "/static/\\..\\app.py",
    ],
)
def test_no_path_leads_out_of_the_static_files(http: Http, path: str) -> None:
    answer = http.get(path)
    assert answer.status in (400, 404)
    assert b"import" not in answer.body


@pytest.mark.parametrize(
    "wanted", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/audit?action=x%0d%0aSet-Cookie:a=b"]
)
def test_a_login_leads_nowhere_else(deck: Deck, http: Http, wanted: str) -> None:
    from urllib.parse import quote

    link = deck.qd("open", "--print").out.strip()
    answer = Http(http.host, http.port).get("/" + link.partition("//")[2].partition("/")[2] + f"&next={quote(wanted)}")
    assert (answer.status, answer.headers["location"]) == (303, "/")


def test_a_login_link_works_once(deck: Deck, http: Http) -> None:
    target = "/" + deck.qd("open", "--print").out.strip().partition("//")[2].partition("/")[2]
    stranger = Http(http.host, http.port)
    assert stranger.get(target).status == 303
    assert stranger.get(target).status == 403
    assert stranger.get("/login?token=").status == 401
    assert stranger.get(f"/login?token={'a' * 43}").status == 403


# ── too much, too slow ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_body_that_says_it_is_too_large_is_not_read(http: Http) -> None:
    headers = {**http.own(), "Content-Length": str(BODY_BYTES_MAX + 1)}
    assert http.request("POST", "/command/pause", headers).status == 413


def test_a_body_that_turns_out_too_large_is_cut_off(http: Http) -> None:
    chunk = b"%x\r\n" % 65536 + b"a" * 65536 + b"\r\n"
    lines = [f"{name}: {value}" for name, value in http.own().items()]
    head = "\r\n".join(["POST /command/pause HTTP/1.1", f"Host: {http.authority}", "Transfer-Encoding: chunked", *lines]).encode()
    try:
        answer = http.raw(head + b"\r\n\r\n" + chunk * (BODY_BYTES_MAX // 65536 + 4) + b"0\r\n\r\n")
    except (ConnectionResetError, BrokenPipeError):
        return
    assert answer.status in (0, 413)


def test_an_address_that_is_too_long_is_refused(http: Http) -> None:
    assert http.get(f"/?project={'a' * 9000}").status == 414
    assert http.get(f"/?x={'a' * 60_000}").status in (0, 400, 414, 431)


def test_headers_without_end_are_cut_off(http: Http) -> None:
    data = f"GET / HTTP/1.1\r\nHost: {http.authority}\r\nX-Much: ".encode() + b"a" * 200_000
    assert http.raw(data, timeout_s=5).status in (0, 400, 431)


def test_slow_requests_keep_nobody_else_waiting(http: Http) -> None:
    slow = [socket.create_connection((http.host, http.port)) for _ in range(50)]
    try:
        for connection in slow:
            connection.sendall(b"POST /command/pause HTTP/1.1\r\nHost: ")
        began = time.monotonic()
        assert http.get("/").status == 200
        assert time.monotonic() - began < 5
    finally:
        for connection in slow:
            connection.close()


@pytest.mark.parametrize(
    "junk",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x00\xa5\x01",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    ],
)
def test_junk_is_answered_or_cut_off(http: Http, junk: bytes) -> None:
    try:
        status = http.raw(junk, timeout_s=2).status
    except TimeoutError:
        return
    assert status in (0, 400, 413, 421, 505)


# ── forms ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("kind", "fields", "status", "code"),
    [
        ("no-such", {"key": "k"}, 422, "validation_unknown_action"),
        ("pause", {"orchestration": "shop-o1"}, 422, "validation_invalid_payload"),
        ("pause", {"orchestration": "shop-o1", "key": "k", "extra": "x"}, 422, "validation_invalid_payload"),
        ("pause", {"orchestration": "*", "key": "k"}, 422, "validation_invalid_payload"),
        ("pause", {"orchestration": "shop-o1.>", "key": "k"}, 422, "validation_invalid_payload"),
        ("pause", {"orchestration": "shop-o1", "mode": "now", "key": "k"}, 422, "validation_invalid_payload"),
        ("pause", {"key": "k"}, 422, "validation_missing_field"),
        ("pause", {"orchestration": "shop-o1", "key": "k" * 300}, 422, "validation_invalid_payload"),
        (
            "task-skip",
            {"orchestration": "shop-o1", "phase": "1", "task": "one", "target_revision": "1", "key": "k"},
            422,
            "validation_invalid_payload",
        ),
        ("set-policy", {"orchestration": "shop-o1", "target_revision": "1", "key": "k"}, 422, "validation_missing_field"),
        ("gate-reject", {"orchestration": "shop-o1", "feedback": "  ", "key": "k"}, 422, "validation_missing_field"),
    ],
)
def test_a_form_that_means_no_command_is_refused_before_anything_is_sent(
    http: Http, kind: str, fields: dict[str, str], status: int, code: str
) -> None:
    answer = http.post(f"/command/{kind}", fields)
    assert (answer.status, json.loads(answer.body)["error"]["code"]) == (status, code)


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=x", "text/plain", ""])
def test_only_forms_are_taken(http: Http, kind: str) -> None:
    assert http.post("/command/pause", PAUSE, Content_Type=kind).status == 422


def test_a_form_with_too_many_fields_or_bad_text_is_refused(http: Http) -> None:
    assert http.post("/command/pause", [(f"f{n}", "") for n in range(2000)]).status == 422
    headers = http.own()
    for body in (b"orchestration=%ff%fe&key=k", b"\xff\xfe", b"a=%ED%A0%80&key=k"):
        assert http.request("POST", "/command/pause", headers, body).status == 422


# ── what every answer says ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", ["/", "/nope", "/login", "/static/app.css", "/health", "/audit"])
def test_every_answer_has_the_policy_under_which_nothing_foreign_runs(http: Http, path: str) -> None:
    headers = http.get(path).headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "server" not in headers


def test_another_site_cannot_look_in_by_a_script_or_a_picture(http: Http) -> None:
    assert http.get("/audit", Sec_Fetch_Site="cross-site", Sec_Fetch_Dest="image").status == 403
    assert http.get("/live/", Sec_Fetch_Site="cross-site", Sec_Fetch_Dest="empty").status == 403


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/inbox",
        "/audit",
        "/nodes",
        "/launch",
        "/metrics",
        "/catalogue",
        "/flags",
        "/projects/shop",
        "/designs/shop-d1",
        "/live/",
        "/orchestrations/shop-o1",
    ],
)
def test_every_page_needs_a_session(http: Http, path: str) -> None:
    answer = Http(http.host, http.port).get(path)
    assert (answer.status, answer.headers["location"]) == (303, "/login")
