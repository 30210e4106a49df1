"""The wall around the console: who may call it, from which page, with how much. Owns nothing; an ASGI middleware.

Names by which it may be called are a list (a name that was rebound to 127.0.0.1 is not on it); what changes something must come from a
page of our own, by the browser's word and by the form's token; every answer carries a policy under which nothing foreign runs.
"""

from __future__ import annotations

import asyncio
import hmac
import re
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from console.config import ConsoleConfig
from console.session import COOKIE, SECURE_COOKIE, Sessions

BODY_BYTES_MAX = 512 * 1024
"""A design of 200 KiB in a form, where a byte may take three."""
BODY_S_MAX = 10.0
TARGET_BYTES_MAX = 8 * 1024
PUBLIC = frozenset({"/login", "/health"})
"""Exact paths that need no session; beside them only the files under /static/."""
SAFE_METHODS = frozenset({"GET", "HEAD"})
FORM_TOKEN_HEADER = "x-qd-form"

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
_PATH = re.compile(r"/[A-Za-z0-9._~/-]*")


class TooLarge(Exception):
    """A body is over the limit."""


class Wall:
    """Refuses what does not come from a browser of ours."""

    def __init__(self, app: ASGIApp, config: ConsoleConfig, sessions: Sessions) -> None:
        """Stand before `app`."""
        self._app, self._config, self._sessions = app, config, sessions
        self._cookie = SECURE_COOKIE if config.is_encrypted else COOKIE
        self.names: set[str] = {"127.0.0.1", "localhost", "[::1]", config.host, *config.hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let it in."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        guarded = _Guarded(send)
        cookie = cookie_parser(headers.get("cookie", "")).get(self._cookie, "")
        scope["qd.session"] = cookie if cookie and self._sessions.is_valid(cookie) else ""
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await refusal(scope, receive, guarded.send)
            return
        limited = _Limited(receive)
        try:
            await self._app(scope, limited.receive, guarded.send)
        except TooLarge:
            if not guarded.started:
                await PlainTextResponse(f"a body of at most {BODY_BYTES_MAX} bytes is taken", 413)(scope, receive, guarded.send)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        """Return the answer that keeps a request out, or None."""
        path: str = scope["path"]
        if len(scope["raw_path"]) + len(scope["query_string"]) > TARGET_BYTES_MAX:
            return PlainTextResponse("the address is too long", 414)
        if not self._is_ours(headers.getlist("host")):
            return PlainTextResponse("this name is not one of the console's; it is called by its own address", 421)
        if not _PATH.fullmatch(path) or "//" in path or "/." in path or b"%" in scope["raw_path"]:
            return PlainTextResponse("there is no such page", 404)
        if not headers.get("content-length", "0").isdecimal() or int(headers.get("content-length", "0")) > BODY_BYTES_MAX:
            return PlainTextResponse(f"a body of at most {BODY_BYTES_MAX} bytes is taken", 413)
        if scope["method"] not in SAFE_METHODS:
            return self._refused_change(scope, headers)
        if path in PUBLIC or path.startswith("/static/"):
            return None
        if headers.get("sec-fetch-site", "same-origin") == "cross-site" and headers.get("sec-fetch-dest", "document") != "document":
            return PlainTextResponse("another site may not look in here", 403)
        return None if scope["qd.session"] else RedirectResponse("/login", 303)

    def _is_ours(self, hosts: list[str]) -> bool:
        if len(hosts) != 1:
            return False
        name, _, port = hosts[0].rpartition(":") if not hosts[0].endswith("]") and ":" in hosts[0] else (hosts[0], "", "")
        return name.lower() in self.names and (not port or port.isdecimal())

    def _refused_change(self, scope: Scope, headers: Headers) -> Response | None:
        if scope["method"] != "POST":
            return PlainTextResponse("only GET, HEAD and POST are known here", 405)
        if not scope["qd.session"]:
            return PlainTextResponse("log in first", 401)
        if headers.get("sec-fetch-site") not in (None, "same-origin"):
            return PlainTextResponse("this was asked by another site", 403)
        origin = headers.get("origin")
        if origin is None and headers.get("sec-fetch-site") is None:
            return PlainTextResponse("a change must say from which page it comes", 403)
        if origin is not None and urlsplit(origin).netloc.lower() != headers["host"].lower():
            return PlainTextResponse("this was asked by another site", 403)
        expected = self._sessions.form_token(scope["qd.session"])
        if not hmac.compare_digest(headers.get(FORM_TOKEN_HEADER, "").encode(), expected.encode()):
            return PlainTextResponse("the form's token is missing or old: load the page again", 403)
        if self._config.read_only:
            return PlainTextResponse("this console is read-only", 403)
        return None


class _Guarded:
    """Adds the policy to every answer."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            if "cache-control" not in headers:
                headers["cache-control"] = "no-store"
        await self._send(message)


class _Limited:
    """Counts a body while it comes, and does not wait for it for ever."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._bytes = 0
        self._is_whole = False

    async def receive(self) -> Message:
        if self._is_whole:
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), BODY_S_MAX)
        except TimeoutError as error:
            raise TooLarge(f"the body did not come within {BODY_S_MAX:g} s") from error
        if message["type"] == "http.request":
            self._bytes += len(message.get("body", b""))
            self._is_whole = not message.get("more_body", False)
            if self._bytes > BODY_BYTES_MAX:
                raise TooLarge(f"a body of at most {BODY_BYTES_MAX} bytes is taken")
        return message
