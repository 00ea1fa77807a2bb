"""Limits that a child process sets on itself before it opens a stranger's file."""

from __future__ import annotations

import contextlib
import mmap
import resource
from pathlib import Path


def limit_this_process(
    *,
    memory_bytes: int,
    cpu_seconds: int | None = None,
    file_bytes: int = 0,
    open_files: int | None = None,
    address_space: bool = True,
) -> None:
    """Limits this process; it cannot lift the limits again.

    Call it after the imports, so that the memory limit does not depend on them. Without `/proc`,
    as on macOS, the kernel does not enforce a limit on address space, and none is set. If the
    machine runs out of memory, Linux ends this process before others.

    Args:
        memory_bytes: how much more address space the process may take than it has now. A request
            beyond it fails, which Python raises as `MemoryError`.
        cpu_seconds: how many more seconds of processor time it may take, over all its threads;
            then the kernel kills it with SIGXCPU. None for no limit.
        file_bytes: largest file it may write; a larger write fails with `OSError`.
        open_files: how many descriptors it may have; None for no limit.
        address_space: whether address space is limited, or only memory that it can write to and
            does not share.
    """
    if (statm := Path("/proc/self/statm")).exists():
        total, _, _, _, _, data, _ = statm.read_text().split()
        kind, used = (resource.RLIMIT_AS, total) if address_space else (resource.RLIMIT_DATA, data)
        _limit(kind, int(used) * mmap.PAGESIZE + memory_bytes)
        with contextlib.suppress(OSError):  # /proc may be read-only
            Path("/proc/self/oom_score_adj").write_text("1000")
    if cpu_seconds is not None:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        # At the hard limit the kernel sends SIGKILL, which does not tell what the limit was.
        _limit(resource.RLIMIT_CPU, round(usage.ru_utime + usage.ru_stime) + cpu_seconds, grace=1)
    _limit(resource.RLIMIT_FSIZE, file_bytes)
    if open_files is not None:
        _limit(resource.RLIMIT_NOFILE, open_files)
    _limit(resource.RLIMIT_CORE, 0)


def _limit(kind: int, value: int, grace: int = 0) -> None:
    """Lowers a limit; a limit that is lower already stays. `grace`: from soft to hard limit."""
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
        grace = min(grace, hard - value)
    resource.setrlimit(kind, (value, value + grace))
