"""A time limit on the runs of models."""

from __future__ import annotations

import threading
import time

import onnxruntime as ort

_CHECK_SECONDS = 0.1


class Watchdog:
    """Ends runs that take too long.

    A graph may loop for ever; the runtime checks `terminate` between two nodes. One thread checks
    all runs, because a timer for each would take longer than a run of a small model.
    """

    def __init__(self) -> None:
        self._runs: dict[int, tuple[float, ort.RunOptions]] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def watch(self, options: ort.RunOptions, seconds: float) -> None:
        """Sets the time limit of the run with these options."""
        self._runs[id(options)] = (time.monotonic() + seconds, options)
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(
                        target=self._check, name="watchdog", daemon=True
                    )
                    self._thread.start()

    def forget(self, options: ort.RunOptions) -> None:
        """Lifts the time limit of a run that has ended."""
        del self._runs[id(options)]

    @property
    def alive(self) -> bool:
        """Whether time limits are kept: the thread runs, or no run has needed it yet."""
        return self._thread is None or self._thread.is_alive()

    def _check(self) -> None:
        while True:
            time.sleep(_CHECK_SECONDS)
            now = time.monotonic()
            for end, options in list(self._runs.values()):
                if now > end:
                    options.terminate = True
