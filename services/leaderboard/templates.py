"""The templates of the pages, and how they write numbers, dates and addresses."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from cxreval.client import LeaderboardEntry
from cxreval.client.evidence_text import agreements
from cxreval.metrics.registry import METRICS
from cxreval.metrics.report import absence
from services.leaderboard.charts.differences import p_value
from services.leaderboard.charts.scales import Measure
from services.leaderboard.files import versioned
from services.leaderboard.site import Content, SiteData

ABSENT = "\N{EN DASH}"
"""What stands for an absent figure."""

_PERCENT = Measure()
"""How tables write scores: times 100, with two decimals."""


def score(value: float | None) -> str:
    """Returns a value between 0 and 1 times 100 with two decimals; a dash for None."""
    return _PERCENT.written(value)


def difference(value: float | None) -> str:
    """Returns a difference times 100 with its sign; `±0.00` where it rounds to zero."""
    text = _PERCENT.signed(value)
    return f"±{text}" if text == "0.00" else text


def bounds(low: float | None, high: float | None) -> str:
    """Returns an interval times 100; a dash for None."""
    return ABSENT if low is None or high is None else f"{score(low)} to {score(high)}"


def why(reason: str) -> str:
    """Returns why a figure or its interval is absent, as the end of a sentence that says so."""
    return absence(reason)[1]


def absent(row: LeaderboardEntry) -> str:
    """Returns what a row without an interval lacks, and why."""
    lacks = "no score" if row.score is None else "no interval"
    reason = row.interval_undefined_reason or row.rank_undefined_reason
    return f"{lacks}: {why(reason)}" if reason else lacks


def count(value: int) -> str:
    """Returns a number with commas between thousands."""
    return f"{value:,}"


def day(time: datetime | date | None) -> str:
    """Returns the day of a time, UTC, as YYYY-MM-DD."""
    if time is None:
        return ABSENT
    if isinstance(time, datetime):
        time = time.astimezone(UTC).date()
    return time.isoformat()


def moment(time: datetime | None) -> str:
    """Returns a time to the minute, UTC."""
    return ABSENT if time is None else f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def metric_label(metric: str) -> str:
    """Returns the short name of a metric, as tables show it."""
    known = METRICS.get(metric)
    return known.label if known else metric


def board_address(benchmark: str, **parameters: Any) -> str:
    """Returns the address of a board, with query parameters."""
    return with_query(f"/b/{quote(benchmark, safe='')}", parameters)


def submission_address(submission: str, suffix: str = "") -> str:
    """Returns the address of a submission's page."""
    _, benchmark, _, identifier = submission.split("/")
    return f"/b/{quote(benchmark, safe='')}/m/{quote(identifier, safe='')}{suffix}"


def organisation_address(benchmark: str, organisation: str) -> str:
    """Returns the address of an organisation's page."""
    return f"/b/{quote(benchmark, safe='')}/o?{urlencode({'name': organisation})}"


def with_query(path: str, parameters: Mapping[str, Any]) -> str:
    """Returns an address with those of the query parameters that are given."""
    given = {name: value for name, value in parameters.items() if value not in ("", None, (), [])}
    return f"{path}?{urlencode(given, doseq=True)}" if given else path


def https_only(url: str) -> str:
    """Returns a stranger's address if it is https with a host, else an empty text."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return url if parts.scheme == "https" and parts.hostname else ""


def outward(url: str, text: str) -> Markup:
    """Returns a link to a stranger's page, or the text alone if the address is not https."""
    if not https_only(url):
        return Markup("<bdi>{}</bdi>").format(text)
    link = '<a href="{}" rel="nofollow ugc noopener"><bdi>{}</bdi></a>'
    return Markup(link).format(url, text)  # noqa: S704 -- format escapes


_ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters.update(
    score=score, difference=difference, bounds=bounds, count=count, day=day, moment=moment,
    metric_label=metric_label,
)  # fmt: skip
_ENVIRONMENT.globals.update(
    board_address=board_address,
    submission_address=submission_address,
    organisation_address=organisation_address,
    outward=outward,
    versioned=versioned,
    p_value=p_value,
    number=lambda text: text[:1] in "0123456789<+\N{EN DASH}\N{MINUS SIGN}",
    absent=absent,
    why=why,
    agreements=agreements,
)


def page(data: SiteData, template: str, status: int = 200, **context: Any) -> Content:
    """Returns a page: the template with what every page has, and the context."""
    text = _ENVIRONMENT.get_template(template).render(site=data, **context)
    return Content(text, status=status)
