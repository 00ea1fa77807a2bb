"""How many threads can run at once in this process."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_ROOT = Path("/")


def cores(root: Path = _ROOT) -> int:
    """Returns the number of cores that this process may use: at least 1.

    It is the size of the affinity mask, or less where a control group limits processor time, as
    `docker run --cpus` and the CPU limit of a container in Kubernetes do. Part of a core counts as
    one.

    `root` has `proc` and `sys`.
    """
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    return max(1, min([count, *map(math.ceil, _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """Yields the quotas, in cores, of this process's control groups and of the groups above them.

    A group that is not below the mount, as in a container that shares its host's names, is left
    out; then the mount itself is the container's group.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            mounts = ["", "unified"]  # of version 2, alone or beside version 1
        elif "cpu" in controllers.split(","):
            mounts = ["cpu", controllers]
        else:
            continue
        relative = PurePosixPath(path.lstrip("/"))
        for mount in mounts:
            for group in (relative, *relative.parents):
                if ".." not in group.parts:
                    yield from _quota(root / "sys/fs/cgroup" / mount / group)


def _quota(group: Path) -> Iterator[float]:
    """Yields the quota of one group, if it has one, for versions 2 and 1."""
    with contextlib.suppress(OSError, ValueError):
        quota, period = (group / "cpu.max").read_text().split()
        if quota != "max" and int(quota) > 0 < int(period):
            yield int(quota) / int(period)
    with contextlib.suppress(OSError, ValueError):
        quota = (group / "cpu.cfs_quota_us").read_text()
        period = (group / "cpu.cfs_period_us").read_text()
        if int(quota) > 0 < int(period):  # -1 is no limit
            yield int(quota) / int(period)
