"""The description of the API, an OpenAPI document that is written by hand."""

from __future__ import annotations

from pathlib import Path

from services.leaderboard.parameters import Given, Parameters
from services.leaderboard.site import Content, SiteData

_TEXT = (Path(__file__).parent / "openapi.json").read_bytes()


def openapi(_: SiteData, __: dict[str, str], given: Given) -> Content:
    """Returns the OpenAPI document."""
    Parameters(given, ())
    return Content(_TEXT, "application/json")
