"""Draws images by a secret key: the sample of a reproduction, and the order that a script sees."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

SAMPLE_IMAGES = 512
"""Number of images that a reproduction starts with, if the benchmark has as many."""


def shuffled(names: Sequence[str], key: bytes) -> list[str]:
    """Returns the names in the order of their HMAC-SHA256 under a key.

    The order does not depend on that of `names`. Without the key it cannot be told from random.
    """
    return sorted(names, key=lambda name: hmac.digest(key, name.encode(), hashlib.sha256))


def draw(names: Sequence[str], count: int, key: bytes) -> list[str]:
    """Returns `count` of the names, or all if there are fewer, in the order of `names`.

    Each choice of that many names is as likely as another one, if the key is secret and drawn after
    the script was uploaded.
    """
    chosen = set(shuffled(names, key)[:count])
    return [name for name in names if name in chosen]
