"""The answers of the API: JSON that the pages of any site may read, and errors in the same form."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from functools import wraps
from urllib.parse import urlencode

import msgspec

from services.leaderboard.parameters import Given
from services.leaderboard.problems import BadParameter, NotFound, Problem, Removed
from services.leaderboard.site import Content, Handler, SiteData

_OPEN = ("Access-Control-Allow-Origin", "*")


def answer(value: object) -> Content:
    """Returns a value as JSON. Numbers that JSON lacks, such as NaN, become null."""
    return Content(msgspec.json.encode(value), "application/json")


def api(handler: Handler) -> Handler:
    """Returns the handler with its problems as JSON, for the pages of any site."""

    @wraps(handler)
    def respond(data: SiteData, path: dict[str, str], given: Given) -> Content:
        try:
            content = handler(data, path, given)
        except Problem as problem:
            return problem_answer(problem)
        return replace(content, headers=(*content.headers, _OPEN))

    return respond


def problem_answer(problem: Problem) -> Content:
    """Returns a problem as a document of RFC 9457 with its reason."""
    document: dict[str, object] = {
        "type": "about:blank",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "reason": problem.reason,
    }
    if isinstance(problem, BadParameter):
        document |= {
            "parameter": problem.parameter,
            "value": problem.value,
            "expected": problem.expected,
        }
    elif isinstance(problem, NotFound):
        document["nearest"] = [name for name, _ in problem.links]
    elif isinstance(problem, Removed):
        document["tombstone"] = problem.facts
    body = msgspec.json.encode(document)
    return Content(body, "application/problem+json", problem.status, (_OPEN,))


def unknown(_: SiteData, path: dict[str, str], __: Given) -> Content:
    """Raises `NotFound`: the API has no such address."""
    raise NotFound("address of the API", path["rest"])


def utc(time: datetime | None) -> datetime | None:
    """Returns a time in UTC, as RFC 3339 writes it with a Z."""
    return time.astimezone(UTC) if time else None


def rfc3339(time: datetime) -> str:
    """Returns a time in UTC as RFC 3339 writes it with a Z."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def api_address(benchmark: str = "") -> str:
    """Returns the path of a benchmark in the API, or of all of them."""
    return f"/api/v1/benchmarks/{benchmark}" if benchmark else "/api/v1/benchmarks"


def following(data: SiteData, path: str, given: Given, token: str | None) -> dict[str, str | None]:
    """Returns the token and the address of the page after this one; None after the last."""
    if token is None:
        return {"next_page_token": None, "next": None}
    kept = [(name, value) for name, value in given if value and name != "page_token"]
    query = urlencode([*kept, ("page_token", token)])
    return {"next_page_token": token, "next": f"{data.public_url}{path}?{query}"}
