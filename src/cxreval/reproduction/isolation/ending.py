"""What came of a run, from what its sandbox wrote and from the counters of its limits."""

from __future__ import annotations

import signal
from dataclasses import replace

from cxreval.errors import SandboxUnavailable
from cxreval.reproduction.isolation.contract import Ended, Limits, Outcome, Usage
from cxreval.reproduction.isolation.frames import Frames

_KILLED = (Ended.WALL_TIME, Ended.CPU_TIME, Ended.MEMORY)


def outcome(frames: Frames, limit: Ended | None, limits: Limits, usage: Usage) -> Outcome:
    """Returns what came of a run.

    Args:
        frames: all that the sandbox wrote.
        limit: the limit at which it was ended; None if it ended by itself.
        limits: of the run.
        usage: what it took; the size of the output is filled in.

    Raises:
        SandboxUnavailable: the sandbox did not start, or did not end by the script.
    """
    if not frames.started or not (limit or frames.end):
        what = "was ended from outside" if frames.started else "did not start"
        problem = frames.problem() or "it wrote nothing"
        expected = "a sandbox that runs until its script ends"
        message = f"the sandbox {what}: {problem}; expected {expected}"
        raise SandboxUnavailable(message, expected=expected, found=problem)
    if not limit and frames.end and frames.end.killed:
        limit = Ended.MEMORY
    status = frames.end.status if frames.end and limit not in _KILLED else None
    ended = limit or frames.ended()
    output = frames.output() if ended is Ended.FINISHED else b""
    if ended is Ended.FINISHED and not output:
        ended = Ended.NO_OUTPUT
    usage = replace(usage, output_bytes=len(output))
    return Outcome(
        ended, status, usage, frames.rows, output, frames.log(), _sentence(ended, status, limits)
    )


def _sentence(ended: Ended, status: int | None, limits: Limits) -> str:
    """Returns how a run ended, for its submitter."""
    if status is not None and status < 0:
        try:
            how = f"by {signal.Signals(-status).name}"
        except ValueError:
            how = f"by signal {-status}"
    else:
        how = f"with status {status}"
    return {
        Ended.FINISHED: "the script ended with status 0",
        Ended.FAILED: f"the script ended {how}; expected status 0",
        Ended.WALL_TIME: f"the script ran longer than {limits.wall_seconds:g} s",
        Ended.CPU_TIME: f"the script took more than {limits.cpu_seconds:g} s of processor time",
        Ended.MEMORY: (
            f"the script took more than {limits.memory_bytes / 2**20:.0f} MiB of memory, with its"
            " files in /tmp and /dev/shm"
        ),
        Ended.PROCESSES: (
            f"the script ended {how} after it had {limits.processes} processes and threads, the"
            " most that it may have"
        ),
        Ended.SCRATCH: (
            f"the script ended {how} after it had filled /tmp or /dev/shm, each of"
            f" {limits.scratch_bytes / 2**20:.0f} MiB"
        ),
        Ended.OUTPUT: (
            f"the script wrote a larger table than {limits.output_bytes / 2**20:.0f} MiB"
        ),
        Ended.NO_OUTPUT: (
            "the script ended with status 0 and left no table; expected a file with rows at the"
            " path that --out and CXREVAL_OUT name"
        ),
    }[ended]
