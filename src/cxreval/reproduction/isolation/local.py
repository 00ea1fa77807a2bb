"""Follows a sandbox that is a child process of this one, to its end or to its first limit."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Sequence

from cxreval.errors import SandboxUnavailable
from cxreval.reproduction.isolation.contract import Ended, Limits, Outcome, Progress, Usage
from cxreval.reproduction.isolation.frames import Frames

_TICK_SECONDS = 0.1
_PROGRESS_SECONDS = 1.0
_END_SECONDS = 30.0
_KILLED = (Ended.WALL_TIME, Ended.CPU_TIME, Ended.MEMORY)
_PIECE_BYTES = 1 << 18


class LocalSandbox:
    """A sandbox that is a process of this machine, without anything of this process.

    Args:
        command: of the sandbox.
        frames: get what it writes.
        descriptors: it gets them.

    Raises:
        SandboxUnavailable: the process does not start.
    """

    def __init__(self, command: Sequence[str], frames: Frames, descriptors: Sequence[int]) -> None:
        self._frames = frames
        self._output, writer = os.pipe()
        try:
            self.process = subprocess.Popen(  # noqa: S603 -- a sandbox and an operator's Python
                command,
                env={},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=writer,
                stderr=writer,
                pass_fds=descriptors,
                start_new_session=True,
                umask=0o022,
            )
        except OSError as error:
            os.close(self._output)
            expected = "a process to start"
            message = f"no sandbox: {command[0]}: {error.strerror}; expected {expected}"
            raise SandboxUnavailable(message, expected=expected) from None
        finally:
            os.close(writer)

    def follow(
        self, limits: Limits, exceeded: Callable[[], Ended | None], progress: Progress | None
    ) -> Ended | None:
        """Reads what the sandbox writes until it ends; returns the limit that it exceeded.

        Args:
            limits: of the run.
            exceeded: returns a limit that the counters show as exceeded; called ten times a second.
            progress: called once a second.
        """
        started = time.monotonic()
        next_tick, next_progress = started, started + _PROGRESS_SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(self._output, selectors.EVENT_READ)
            while True:
                if selector.select(_TICK_SECONDS) and not self._read():
                    return None
                now = time.monotonic()
                if now < next_tick:
                    continue
                next_tick = now + _TICK_SECONDS
                limit = Ended.WALL_TIME if now - started > limits.wall_seconds else exceeded()
                if limit:
                    return limit
                if progress and now >= next_progress:
                    next_progress = now + _PROGRESS_SECONDS
                    progress(self._frames.rows)

    def end(self) -> None:
        """Kills the sandbox, if it still runs, and reads what it has written until then."""
        self.process.kill()
        self.process.wait(timeout=_END_SECONDS)
        os.set_blocking(self._output, False)
        with contextlib.suppress(BlockingIOError):
            while self._read():
                pass
        os.close(self._output)

    def _read(self) -> bool:
        data = os.read(self._output, _PIECE_BYTES)
        self._frames.feed(data)
        return bool(data)


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
    status = frames.end.status if frames.end and limit not in _KILLED else None
    ended = limit or frames.ended()
    output = frames.output() if ended is Ended.FINISHED else b""
    if ended is Ended.FINISHED and not output:
        ended = Ended.NO_OUTPUT
    usage = Usage(usage.wall_seconds, usage.cpu_seconds, usage.peak_memory_bytes, len(output))
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
