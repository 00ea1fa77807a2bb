"""Follows a sandbox that is a child process of this one, to its end or to its first limit."""

from __future__ import annotations

import contextlib
import os
import selectors
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from cxreval.errors import SandboxUnavailable
from cxreval.reproduction.isolation.contract import Ended, Limits, Progress
from cxreval.reproduction.isolation.frames import Frames

_TICK_SECONDS = 0.1
_PROGRESS_SECONDS = 1.0
_START_SECONDS = 120.0
_END_SECONDS = 30.0
_PIECE_BYTES = 1 << 18


class LocalSandbox:
    """A sandbox that is a process of this machine, without anything of this process.

    Args:
        command: of the sandbox.
        frames: get what it writes.
        descriptors: it gets them.
        environment: all its variables.

    Raises:
        SandboxUnavailable: the process does not start.
    """

    def __init__(
        self,
        command: Sequence[str],
        frames: Frames,
        descriptors: Sequence[int] = (),
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._frames = frames
        self._output, writer = os.pipe()
        try:
            self.process = subprocess.Popen(  # noqa: S603 -- a sandbox and an operator's Python
                command,
                env=environment,
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

        The wall time of a run begins when its script starts.

        Args:
            limits: of the run.
            exceeded: returns a limit that the counters show as exceeded; called ten times a second.
            progress: called once a second.
        """
        now = time.monotonic()
        until, next_tick, next_progress = now + _START_SECONDS, now, now + _PROGRESS_SECONDS
        started = False
        with selectors.DefaultSelector() as selector:
            selector.register(self._output, selectors.EVENT_READ)
            while True:
                if selector.select(_TICK_SECONDS) and not self._read():
                    return None
                now = time.monotonic()
                if now < next_tick:
                    continue
                next_tick = now + _TICK_SECONDS
                if self._frames.started and not started:
                    started, until = True, now + limits.wall_seconds
                limit = Ended.WALL_TIME if now > until else exceeded()
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
