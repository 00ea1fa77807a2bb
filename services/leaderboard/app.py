"""The web application: addresses, headers, entity tags, server-sent events, health."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cxreval.wire import request_id
from services.leaderboard.files import version
from services.leaderboard.metrics import WebMetrics
from services.leaderboard.parameters import MAX_QUERY_CHARACTERS
from services.leaderboard.problems import (
    Busy,
    Failed,
    NotAllowed,
    NotFound,
    Problem,
    QueryTooLong,
)
from services.leaderboard.programs.answers import problem_answer
from services.leaderboard.routes import ROUTES
from services.leaderboard.site import Handler, Page, Site, page_of
from services.leaderboard.watching import Watchers

_log = logging.getLogger("services.leaderboard.access")

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_CACHE = "public, max-age=5, stale-while-revalidate=60, stale-if-error=86400"
_CACHE_FOR_EVER = "public, max-age=31536000, immutable"
_HEARTBEAT_SECONDS = 15.0


def create_app(
    site: Site, watchers: Watchers, metrics: WebMetrics, static: dict[str, Page], *, https: bool
) -> ASGIApp:
    """Returns the application.

    `static`: the style sheet, scripts and pictures, by address. `https`: whether visitors come by
    TLS, so that browsers are told to use nothing else.
    """
    web = _Web(site, watchers, metrics, static)
    routes = [Route(path, web.rendered(name, handler), name=name) for path, name, handler in ROUTES]
    routes += [
        Route("/b/{benchmark}/m/{submission}/events", web.watch, name="watch"),
        Route("/static/{file:path}", web.file, name="static"),
        *(Route(path, web.file, name="static") for path in ("/favicon.ico", "/favicon.svg")),
        Route("/healthz", web.healthz, name="healthz"),
    ]
    handlers: dict[Any, Any] = {HTTPException: web.problem, Exception: web.problem}
    app = Starlette(routes=routes, exception_handlers=handlers)
    return _Edge(app, site, metrics, https=https)


class _Web:
    """The responses: rendered pages, files, streams of events, and problems."""

    def __init__(
        self, site: Site, watchers: Watchers, metrics: WebMetrics, static: dict[str, Page]
    ) -> None:
        self._site = site
        self._watchers = watchers
        self._metrics = metrics
        self._static = static

    def rendered(self, name: str, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """Returns the endpoint of a page that is not rendered yet."""

        async def respond(request: Request) -> Response:
            self._metrics.cache("miss")
            given = request.query_params.multi_items()
            try:
                page = await self._site.page(
                    _address(request.scope),
                    name,
                    lambda data: handler(data, request.path_params, given),
                )
            except Busy as busy:
                page = _problem_page(self._site, request, busy)
            return _response(request, page)

        return respond

    async def file(self, request: Request) -> Response:
        """Returns the style sheet, a script or a picture."""
        page = self._static.get(request.url.path)
        if page is None:
            raise HTTPException(404)
        response = _response(request, page)
        if request.url.query == version(page):
            response.headers["Cache-Control"] = _CACHE_FOR_EVER
        return response

    async def healthz(self, _: Request) -> Response:
        """Returns 200 once there is something to show, also while the registry is away."""
        ready = self._site.data.read_time is not None
        return PlainTextResponse("ok\n" if ready else "reading\n", 200 if ready else 503)

    async def watch(self, request: Request) -> Response:
        """Returns the states of a submission as server-sent events."""
        name = "benchmarks/{benchmark}/submissions/{submission}".format(**request.path_params)
        return StreamingResponse(
            self._watchers.follow(name, _HEARTBEAT_SECONDS),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store"},
        )

    async def problem(self, request: Request, error: Exception) -> Response:
        """Returns the page of an unknown address, a wrong method or a defect."""
        status = error.status_code if isinstance(error, HTTPException) else 500
        found: Problem = Failed()
        if status == 404:
            found = NotFound("page", request.url.path)
        elif status == 405:
            found = NotAllowed()
        return _response(request, _problem_page(self._site, request, found))


def _problem_page(site: Site, request: Request, problem: Problem) -> Page:
    """Returns a problem: a document below /api/, else a page."""
    is_api = request.url.path.startswith("/api/")
    return page_of(problem_answer(problem) if is_api else site.problem(problem))


def _address(scope: Scope) -> str:
    """Returns the path and the query of a request."""
    query = scope["query_string"].decode("latin-1")
    return f"{scope['path']}?{query}" if query else str(scope["path"])


def _response(request: Request, page: Page) -> Response:
    """Returns a page as a response: compressed if the visitor takes it, 304 if they have it."""
    headers = {"ETag": page.etag, "Vary": "Accept-Encoding", **dict(page.headers)}
    headers["Cache-Control"] = _CACHE if page.status == 200 else "no-store"
    if page.status == 200 and _matches(request.headers.get("if-none-match", ""), page.etag):
        return Response(status_code=304, headers=headers)
    body = page.body
    if page.gzipped is not None and "gzip" in request.headers.get("accept-encoding", ""):
        body, headers["Content-Encoding"] = page.gzipped, "gzip"
    return Response(body, page.status, headers, media_type=page.media_type)


def _matches(condition: str, etag: str) -> bool:
    tags = [tag.strip().removeprefix("W/") for tag in condition.split(",")]
    return condition.strip() == "*" or etag in tags


class _Edge:
    """Answers with kept pages; adds headers, metrics and access log to every response."""

    def __init__(self, app: ASGIApp, site: Site, metrics: WebMetrics, *, https: bool) -> None:
        self._app = app
        self._site = site
        self._metrics = metrics
        headers = _HEADERS | (
            {"Strict-Transport-Security": "max-age=63072000; includeSubDomains"} if https else {}
        )
        # No response sets one of them, so they can be appended as they are.
        self._headers = [(name.lower().encode(), text.encode()) for name, text in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        identifier = request_id.accept(given.decode("latin-1"))
        status = 500

        async def add_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = (b"x-request-id", identifier.encode())
                message["headers"] = [*message["headers"], *self._headers, own]
            await send(message)

        kept = self._site.kept(_address(scope)) if scope["method"] in ("GET", "HEAD") else None
        try:
            if kept:  # the fast way, around the routes
                self._metrics.cache("hit")
                await _response(Request(scope), kept)(scope, receive, add_headers)
            elif len(scope["query_string"]) > MAX_QUERY_CHARACTERS:
                request = Request(scope)
                found = _problem_page(self._site, request, QueryTooLong(MAX_QUERY_CHARACTERS))
                await _response(request, found)(scope, receive, add_headers)
            else:
                await self._app(scope, receive, add_headers)
        finally:
            seconds = time.perf_counter() - began
            route: Any = scope.get("route")
            name = kept.name if kept else route.name if route else "none"
            self._metrics.request(name, status, seconds)
            _log.info(
                "request",
                extra={
                    "request_id": identifier,
                    "method": scope["method"],
                    "path": scope["path"][:200],
                    "status": status,
                    "ms": round(seconds * 1000, 2),
                },
            )
