"""Corrections of published rows: names and source may change, results and dates may not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cxreval.fields import check_https_url, check_text, require
from cxreval.manifest.model import MAX_NAME_CHARACTERS
from cxreval.records import CORRECTED_FIELDS

_TEXT = {True: "true", False: "false"}


def check_correction(values: Mapping[str, Any]) -> None:
    """Checks the new values of some fields. Raises `MissingField`, `MalformedField`."""
    require("correction", values, f"at least one of {', '.join(CORRECTED_FIELDS)}")
    for field in ("model", "organisation"):
        if field in values:
            check_text(f"correction.{field}", values[field], MAX_NAME_CHARACTERS)
    check_https_url("correction.source_url", values.get("source_url", ""), required=False)


def details(values: Mapping[str, Any]) -> dict[str, str]:
    """Returns a correction as the details of an event."""
    return {
        field: _TEXT[value] if isinstance(value, bool) else value for field, value in values.items()
    }


def correction(stored: Mapping[str, str]) -> dict[str, Any]:
    """Returns the corrected values in the details of an event; ignores other details."""
    values: dict[str, Any] = {field: stored[field] for field in CORRECTED_FIELDS if field in stored}
    if "open_source" in values:
        values["open_source"] = values["open_source"] == _TEXT[True]
    return values
