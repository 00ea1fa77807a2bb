"""One text for one value, so that a digest or a signature means the value and not how somebody
wrote it."""

from __future__ import annotations

import json
from typing import Any


def canonical_json(value: Any) -> bytes:
    """JSON in UTF-8 with sorted keys and no white space. Raises `ValueError` for NaN and
    infinities."""
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode("utf-8")
