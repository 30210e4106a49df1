"""The console as an ASGI application: routes, pages, live streams, commands. Decides nothing: it asks, shows, and passes on."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator
from typing import Any

import jinja2
import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from bus_schemas.codec import encode
from bus_schemas.decisions import Receipt
from bus_schemas.reasons import Reason
from console import commanding, openapi, pages, rendering
from console.backend import Backend, Problem
from console.config import ConsoleConfig
from console.live import Full, Live
from console.locking import locked
from console.news import News
from console.page import Page, Visit
from console.security import TooLarge, Wall
from console.session import COOKIE, SECURE_COOKIE, Sessions

log = logging.getLogger(__name__)


class _Static(StaticFiles):
    """Files whose address changes with their content, so that they may be kept for ever."""

    async def get_response(self, path: str, scope: Any) -> Response:
        response = await super().get_response(path, scope)
        response.headers["cache-control"] = "public, max-age=31536000, immutable" if b"v=" in scope["query_string"] else "no-cache"
        return response


class Console:
    """Everything that the routes share."""

    def __init__(self, config: ConsoleConfig, backend: Backend, news: News, sessions: Sessions) -> None:
        """Answer from `backend`, with news of `news`."""
        self.config, self.backend, self.news, self.sessions = config, backend, news, sessions
        self.live = Live(news)
        self.templates = rendering.environment()

    # ── rendering ────────────────────────────────────────────────────────────────────────────────────────────────────

    def frame(self, request: Request, page: Page | None, visit: Visit | None) -> dict[str, Any]:
        """Return what the frame of every page needs."""
        session: str = request.scope.get("qd.session", "")
        return {
            "form_token": self.sessions.form_token(session) if session else "",
            "installation": self.config.name,
            "read_only": self.config.read_only,
            "nav": "" if page is None else page.nav,
            "seq": self.news.seq,
            "live_url": None if page is None or page.patches is None or visit is None else f"/live{visit.key}",
            "principal": self.config.principal,
        }

    async def show(self, request: Request, page: Page) -> Response:
        """Return a page, rendered whole."""
        visit = Visit(self.backend, request.url.path, dict(request.path_params), request.query_params)
        frame = self.frame(request, page, visit)
        try:
            context = await page.load(visit)
        except Problem as problem:
            return self.problem(request, problem, page)
        return HTMLResponse(self.drawn(page.template, {**frame, **context, "visit": visit}))

    def drawn(self, template: str, context: dict[str, Any]) -> str:
        """Return a template as HTML; where nothing may be changed, with every control greyed."""
        html = self.templates.get_template(template).render(context)
        return locked(html) if self.config.read_only else html

    def problem(self, request: Request, problem: Problem, page: Page | None = None) -> Response:
        """Return the page that says what did not work; never an empty one."""
        frame = self.frame(request, page, None)
        html = self.templates.get_template("problem.html").render({**frame, "problem": problem})
        return HTMLResponse(html, status_code=problem.status)

    async def patches(self, page: Page, visit: Visit) -> str:
        """Return the patches of a page as it is now. Raises Problem."""
        assert page.patches is not None
        context = await page.load(visit)
        shared = {"form_token": "", "read_only": self.config.read_only, "seq": self.news.seq}
        # many see the same patches, and no two forms may have one key: each browser makes up its own
        keyless: dict[str, Any] = {name: "" for name in ("key", "form_key") if name in context}
        return self.drawn(page.patches, {**shared, **context, **keyless, "visit": visit})

    # ── live ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def stream(self, request: Request, page: Page) -> Response:
        """Return the stream of a page: patches from the sequence on that the browser has."""
        query = [(name, value) for name, value in request.query_params.multi_items() if name != "after"]
        path, kept = request.url.path.removeprefix("/live"), type(request.query_params)(query)
        visit = Visit(self.backend, path, dict(request.path_params), kept, is_streamed=True)
        after = _sequence(request.headers.get("last-event-id")) or _sequence(request.query_params.get("after")) or 0

        async def render() -> str:
            return await self.patches(page, visit)

        async def events() -> AsyncIterator[str]:
            try:
                async for event in self.live.stream(visit.key, page.topics(visit), render, after, page.every_s, page.rest_s):
                    yield event
            except Full as error:
                log.warning("%s", error)

        return StreamingResponse(events(), media_type="text/event-stream", headers={"cache-control": "no-store", "x-accel-buffering": "no"})

    # ── commands ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def command(self, request: Request) -> Response:
        """Send the command that a form means and answer with its receipt: HTML for the page, JSON for who asks for it."""
        wants_json = "application/json" in request.headers.get("accept", "")
        kind = request.path_params["kind"]
        try:
            outcome = await commanding.perform(self.backend, kind, request)
        except Problem as problem:
            if wants_json:
                receipt = None if problem.receipt is None else _receipt(problem.receipt)
                error = {"code": problem.code, "message": problem.message, "hint": problem.hint}
                return JSONResponse({"error": error, "receipt": receipt, "idempotency_key": problem.key or None}, problem.status)
            told: dict[str, Any] = {"problem": problem, "receipt": problem.receipt, "equivalent": "", "diff": None}
            if problem.conflict is not None:
                told, template = {"conflict": problem.conflict}, "policy_conflict.html"
            else:
                template = "outcome.html"
            html = self.templates.get_template(template).render(told)
            return HTMLResponse(html, status_code=problem.status)
        if wants_json:
            return JSONResponse({"schema": "qd.receipt/1", **_receipt(outcome.receipt), "equivalent": outcome.equivalent})
        template = "preview.html" if outcome.is_preview else "outcome.html"
        context: dict[str, Any] = {"problem": None, "receipt": outcome.receipt, "equivalent": outcome.equivalent, "diff": outcome.receipt.diff}
        return HTMLResponse(self.templates.get_template(template).render(context))

    # ── coming in ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def login(self, request: Request) -> Response:
        """Take a one-time token for a cookie; without one say how to get in."""
        token = request.query_params.get("token", "")
        cookie = self.sessions.redeem(token) if token else None
        if cookie is None:
            used = bool(token)
            html = self.templates.get_template("login.html").render({**self.frame(request, None, None), "used": used})
            return HTMLResponse(html, status_code=403 if used else 401)
        wanted = request.query_params.get("next", "/")
        response = RedirectResponse(wanted if _OWN_PAGE.fullmatch(wanted) else "/", 303)
        secure = self.config.is_encrypted
        response.set_cookie(SECURE_COOKIE if secure else COOKIE, cookie, httponly=True, samesite="strict", secure=secure, path="/")
        return response


_OWN_PAGE = re.compile(r"/[a-z]+(?:/[a-z0-9-]+)?(?:\?action=[a-z0-9-]+)?")


def _receipt(receipt: Receipt) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(encode(receipt))
    return found


def _sequence(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 19 else None


async def _health(_: Request) -> Response:
    return PlainTextResponse("ok")


async def _openapi(_: Request) -> Response:
    return JSONResponse(openapi.document(pages.PAGES))


def application(console: Console) -> Wall:
    """Return the application behind its wall."""

    def shown(page: Page) -> Any:
        async def endpoint(request: Request) -> Response:
            return await console.show(request, page)

        return endpoint

    def streamed(page: Page) -> Any:
        async def endpoint(request: Request) -> Response:
            return await console.stream(request, page)

        return endpoint

    async def missing(request: Request, error: Exception) -> Response:
        text = f"there is no page {request.url.path[:200]}"
        return console.problem(request, Problem(Reason.ENTITY_NOT_FOUND, text, hint="The words above lead somewhere."))

    async def broken(request: Request, error: Exception) -> Response:
        log.exception("page %s broke", request.url.path, exc_info=error)
        return console.problem(request, Problem(Reason.INTERNAL, "this page broke; the log of the console says where"))

    routes = [
        Route("/login", console.login),
        Route("/health", _health),
        Route("/openapi.json", _openapi),
        Route("/command/{kind}", console.command, methods=["POST"]),
        *(Route(page.path, shown(page)) for page in pages.PAGES),
        *(Route(f"/live{page.path}", streamed(page)) for page in pages.PAGES if page.patches is not None),
        *pages.extra_routes(console),
        Mount("/static", _Static(directory=rendering.STATIC)),
    ]

    async def too_large(request: Request, error: Exception) -> Response:
        return PlainTextResponse(str(error), 413)

    handlers: Any = {TooLarge: too_large, 404: missing, 405: missing, jinja2.TemplateError: broken, 500: broken}
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False
    return Wall(app, console.config, console.sessions)
