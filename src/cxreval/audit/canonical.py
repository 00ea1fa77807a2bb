"""Canonical JSON: equal values have equal bytes, so digests and signatures cover the value."""

from __future__ import annotations

import json
from typing import Any


def canonical_json(value: Any) -> bytes:
    """Returns `value` as UTF-8 JSON with sorted keys and no white space.

    Raises `ValueError` for NaN and infinities.
    """
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode("utf-8")
