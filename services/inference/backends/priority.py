"""How hosts that are busy for long yield to the others, which compete with them for the cores."""

from __future__ import annotations

import math
import os
import resource

_WEIGHT = 1.25  # factor between the kernel's weights of two levels of niceness
_MOST = 19
_ONE_WAY_SECONDS = 30.0


def niceness(busy_seconds: float, together: int, *, restorable: bool) -> int:
    """Returns the niceness of a host, 0 to 19.

    It grows with the time for which the host has been busy with one file or run: 4 after a second,
    8 after 3, 12 after 7, 19 after half a minute, so that a model that never ends yields to one
    that has just come. The hosts of one owner that open models share the weight of one.

    Args:
        busy_seconds: how long the host has been busy with one file or run.
        together: how many hosts of its owner open a model or are busy for more than a second,
            itself included; 1 for a host that does neither.
        restorable: whether the niceness can be lowered again. If not, a host keeps 0 until it has
            been busy for half a minute.
    """
    if not restorable:
        return _MOST if busy_seconds > _ONE_WAY_SECONDS else 0
    share = math.log(together, _WEIGHT)
    return min(_MOST, int(4 * math.log2(1 + busy_seconds) + share))


def can_restore() -> bool:
    """Returns whether this process may lower the niceness of its children again."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NICE)
    return os.geteuid() == 0 or soft >= 20 or soft == resource.RLIM_INFINITY
