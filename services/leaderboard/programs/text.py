"""Text of strangers in files that have lines."""

from __future__ import annotations

import re

_BREAKS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def one_line(text: str) -> str:
    """Returns the text with a space for each run of line breaks and control characters."""
    return _BREAKS.sub(" ", text).strip()
