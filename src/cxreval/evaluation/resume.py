"""What lets an evaluation outlive the processes it depends on: patience with services, and a lease
kept alive."""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

from cxreval.client import Lease, RegistryClient
from cxreval.errors import (
    CxrevalError,
    DeadlineExceeded,
    LeaseLost,
    ModelNotFound,
    ServiceOverloaded,
    ServiceUnavailable,
)

_log = logging.getLogger(__name__)
T = TypeVar("T")

PASSING = (ServiceUnavailable, ServiceOverloaded, DeadlineExceeded, ModelNotFound)
"""Errors that go away when the step is repeated: a service restarts and forgets its models, a queue
drains."""

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0


class LeaseKeeper:
    """Renews a lease in the background, three times as often as it must. Use as a context manager.

    It stops when nothing has got on for `stall_seconds`: a worker that hangs must not keep what
    another could finish.
    """

    def __init__(self, registry: RegistryClient, lease: Lease, stall_seconds: float) -> None:
        self._registry = registry
        self._lease = lease
        self._stall_seconds = stall_seconds
        self._stop = threading.Event()
        self._lost: LeaseLost | None = None
        self.progressed()
        # The renewals belong to the same request as the rest of the evaluation.
        run = contextvars.copy_context().run
        self._thread = threading.Thread(
            target=run, args=(self._renew,), name="lease-keeper", daemon=True
        )

    def progressed(self) -> None:
        """Something got on."""
        self._last_progress = time.monotonic()

    def check(self) -> None:
        """Raises `LeaseLost` once another worker has the evaluation."""
        if self._lost:
            raise self._lost

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _renew(self) -> None:
        while not self._stop.wait(self._lease.duration_seconds / 3):
            if time.monotonic() - self._last_progress > self._stall_seconds:
                continue
            try:
                self._registry.renew_lease(self._lease)
            except LeaseLost as error:
                self._lost = error
                return
            except CxrevalError as error:
                _log.warning("could not renew the lease of %s: %s", self._lease.evaluation, error)


class Patience:
    """Repeats steps that fail for a passing reason, until nothing has got on for `seconds`."""

    def __init__(self, seconds: float, keeper: LeaseKeeper) -> None:
        self._seconds = seconds
        self._keeper = keeper
        self.progressed()

    def progressed(self) -> None:
        """Something got on: the patience is whole again."""
        self._keeper.progressed()
        self._give_up = time.monotonic() + self._seconds
        self._pause = _FIRST_PAUSE_SECONDS

    def call(self, step: Callable[[], T]) -> T:
        """Returns what `step` returns. Raises its last error when the patience ends, `LeaseLost`
        before that."""
        self.progressed()
        while True:
            self._keeper.check()
            try:
                return step()
            except PASSING as error:
                if time.monotonic() + self._pause > self._give_up:
                    raise
                _log.warning("%s; trying again in %.1f s", error, self._pause)
            time.sleep(self._pause)
            self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS)
