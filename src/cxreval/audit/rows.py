"""The part of a board's row that a receipt signs: all fields that do not depend on other rows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from cxreval.audit.canonical import canonical_json
from cxreval.metrics.report import MetricValue

SIGNED_FIELDS = (
    "kind", "tier", "model", "organisation", "open_source", "source_kind", "source_url",
    "submitted_date", "note", "profile_digest", "score",
)  # fmt: skip
"""Fields that a receipt copies from the board's row."""


def metrics_sha256(values: Sequence[MetricValue]) -> str:
    """Returns the sha256 of a row's metric values.

    The digest covers the canonical JSON list of [metric, finding, value, low, high], in the row's
    order, without low and high for a value that has no interval.
    """
    listed = [
        [
            item.metric,
            item.finding,
            item.value,
            *((item.interval.low, item.interval.high) if item.interval else ()),
        ]
        for item in values
    ]
    return hashlib.sha256(canonical_json(listed)).hexdigest()
