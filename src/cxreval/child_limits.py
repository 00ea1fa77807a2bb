"""Limits that a child process sets on itself before it opens a stranger's file."""

from __future__ import annotations

import mmap
import resource
from pathlib import Path


def limit_this_process(
    *,
    memory_bytes: int,
    cpu_seconds: int | None = None,
    file_bytes: int = 0,
    address_space: bool = True,
) -> None:
    """Limits this process; it cannot lift the limits again.

    Call it after the imports, so that the memory limit does not depend on them.

    Args:
        memory_bytes: how much more address space the process may take than it has now. A request
            beyond it fails, which Python raises as `MemoryError`.
        cpu_seconds: how many more seconds of processor time it may take, over all its threads;
            then the kernel kills it with SIGXCPU. None for no limit.
        file_bytes: largest file it may write; a larger write fails with `OSError`.
        address_space: whether address space is limited, or only memory that it can write to and
            does not share.
    """
    total, _, _, _, _, data, _ = Path("/proc/self/statm").read_text().split()
    kind, used = (resource.RLIMIT_AS, total) if address_space else (resource.RLIMIT_DATA, data)
    _limit(kind, int(used) * mmap.PAGESIZE + memory_bytes)
    if cpu_seconds is not None:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        _limit(resource.RLIMIT_CPU, round(usage.ru_utime + usage.ru_stime) + cpu_seconds)
    _limit(resource.RLIMIT_FSIZE, file_bytes)
    _limit(resource.RLIMIT_CORE, 0)


def _limit(kind: int, value: int) -> None:
    """Lowers a limit; a limit that is lower already stays."""
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(kind, (value, value))
