"""What a receipt signs of a row of the board: everything in it that does not follow from the other
rows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from cxreval.audit.canonical import canonical_json
from cxreval.metrics.report import MetricValue

SIGNED_FIELDS = (
    "kind", "tier", "model", "organisation", "open_source", "source_kind", "source_url", "submitted_date", "note",
    "profile_digest", "score",
)  # fmt: skip
"""Fields that a receipt and a row of the board have alike."""


def metrics_sha256(values: Sequence[MetricValue]) -> str:
    """sha256 of the canonical JSON of a row's values in their order, each [metric, finding, value,
    low, high]."""
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
