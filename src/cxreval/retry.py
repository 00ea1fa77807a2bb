"""Retries with exponential backoff: which errors are transient, how long to pause, when to stop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from cxreval.errors import (
    CxrevalError,
    DatabaseDamaged,
    DeadlineExceeded,
    ServiceOverloaded,
    ServiceUnavailable,
    StorageFull,
    StreamIdle,
)

TRANSIENT = (ServiceUnavailable, ServiceOverloaded, DeadlineExceeded, StreamIdle)
"""Errors of a call that a later attempt may not meet: a service restarts, a queue drains."""

LASTING = (StorageFull, DatabaseDamaged)
"""Errors among them that last until an operator has made room or restored a backup."""

MULTIPLIER = 2
"""Factor from one pause to the next."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Says which errors are retried, with which pauses, and for how long.

    Attributes:
        transient: the errors that are retried; every other one is raised at once.
        lasting: those of them that are raised at once nevertheless.
        initial_pause, max_pause: seconds before the first retry, and at most before any.
        deadline_seconds: longest time without progress.
        from_progress: whether that time runs from the last progress; otherwise it runs from the
            first failure after it.
        max_attempts: most attempts without progress, the first included.
    """

    transient: tuple[type[CxrevalError], ...] = TRANSIENT
    lasting: tuple[type[CxrevalError], ...] = LASTING
    initial_pause: float = 0.2
    max_pause: float = 5.0
    deadline_seconds: float = math.inf
    from_progress: bool = False
    max_attempts: float = math.inf


def _ignore(_error: CxrevalError) -> None:
    pass


class Backoff:
    """The pauses and the deadline of one operation that is retried under a policy.

    `on_failure` is called with each error that is retried, before the pause.
    """

    def __init__(
        self, policy: RetryPolicy, on_failure: Callable[[CxrevalError], None] = _ignore
    ) -> None:
        self._policy = policy
        self._on_failure = on_failure
        self.progressed()

    def progressed(self) -> None:
        """Records progress and resets the pause, the attempts and the deadline."""
        self._attempts = 1
        self._pause = self._policy.initial_pause
        self._started = time.monotonic() if self._policy.from_progress else None

    def wait(self, error: CxrevalError, at_least: float = 0.0) -> None:
        """Pauses before the next attempt, as long as `pause` says."""
        time.sleep(self.pause(error, at_least))

    def pause(self, error: CxrevalError, at_least: float = 0.0) -> float:
        """Returns the seconds to the next attempt. Raises `error` where the policy allows none.

        Args:
            error: why the last attempt failed.
            at_least: seconds that the server asked to wait.
        """
        now = time.monotonic()
        if self._started is None:
            self._started = now
        pause = max(self._pause, at_least)
        late = now + pause > self._started + self._policy.deadline_seconds
        spent = self._attempts >= self._policy.max_attempts
        if late or spent or isinstance(error, self._policy.lasting):
            raise error
        self._on_failure(error)
        self._attempts += 1
        self._pause = min(MULTIPLIER * self._pause, self._policy.max_pause)
        return pause

    def call(self, step: Callable[[], T]) -> T:
        """Returns what `step` returns, after as many attempts as the policy allows."""
        while True:
            try:
                return step()
            except self._policy.transient as error:
                self.wait(error)
