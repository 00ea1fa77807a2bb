"""How much memory this process and its children may still take."""

from __future__ import annotations

import contextlib
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_CONTROLLERS = (
    # limit, usage, statistics, and the name there of memory that the kernel can take back
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    (
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        "total_inactive_file",
    ),
)
"""Files of the control group of a container, for cgroups version 2 and 1."""


def available_bytes() -> int:
    """Returns the memory that is available on this machine, or in this container if less."""
    available = _fields(Path("/proc/meminfo"), ":")["MemAvailable"] * 1024
    for limit, usage, statistics, reclaimable in _CONTROLLERS:
        with contextlib.suppress(OSError, ValueError, KeyError):  # no such group, or no limit
            free = int((_CGROUP / limit).read_text()) - int((_CGROUP / usage).read_text())
            available = min(available, free + _fields(_CGROUP / statistics, " ")[reclaimable])
    return available


def _fields(file: Path, separator: str) -> dict[str, int]:
    """Returns the numbers of a file with a name and a number on each line."""
    pairs = (line.split(separator, 1) for line in file.read_text().splitlines())
    return {name: int(value.split()[0]) for name, value in pairs}
