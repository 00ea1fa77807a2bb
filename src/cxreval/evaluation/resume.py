"""Keeps an evaluation going while services restart: retries its steps and renews its lease."""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

from cxreval.client import Lease, WorkerClient
from cxreval.errors import (
    CxrevalError,
    LeaseLost,
    ModelCrashed,
    ModelNotFound,
    ModelTooLarge,
    ModelTooSlow,
)
from cxreval.retry import TRANSIENT, Backoff, RetryPolicy

_log = logging.getLogger(__name__)

RETRY_SECONDS = 300.0
"""How long a service may be unavailable before an evaluation is given back to the queue."""

MODEL_ENDS = (ModelCrashed, ModelTooSlow, ModelTooLarge)
"""Ends of the process that runs a model. The first one in an evaluation may be the machine's fault,
so the step is tried once more; the second one is the model's."""

T = TypeVar("T")


def retry_policy(deadline_seconds: float) -> RetryPolicy:
    """Returns the policy for the steps of an evaluation.

    An unknown model is transient: a restarted inference service has lost its models. A full disk is
    retried as well: evaluations that are given back at once would use up their attempts in seconds.
    """
    return RetryPolicy(
        transient=(*TRANSIENT, ModelNotFound),
        lasting=(),
        initial_pause=0.1,
        deadline_seconds=deadline_seconds,
        from_progress=True,
    )


class LeaseKeeper:
    """Renews a lease in the background and retries the steps that are done under it.

    The lease is renewed three times per lease duration, until `stall_seconds` pass without
    progress: a worker that hangs must not keep an evaluation that another worker could finish.
    Use as a context manager.
    """

    def __init__(
        self, registry: WorkerClient, lease: Lease, policy: RetryPolicy, stall_seconds: float
    ) -> None:
        self._registry = registry
        self._lease = lease
        self._stall_seconds = stall_seconds
        self._backoff = Backoff(policy, lambda error: _log.warning("%s; retrying", error))
        self._stop = threading.Event()
        self._lost: LeaseLost | None = None
        self._model_end: CxrevalError | None = None
        self.progressed()
        # The renewals carry the request id of the evaluation.
        run = contextvars.copy_context().run
        self._thread = threading.Thread(
            target=run, args=(self._renew,), name="lease-keeper", daemon=True
        )

    def progressed(self) -> None:
        """Records progress and resets the retry deadline."""
        self._last_progress = time.monotonic()
        self._backoff.progressed()

    def check(self) -> None:
        """Raises `LeaseLost` once another worker holds the evaluation."""
        if self._lost:
            raise self._lost

    def call(self, step: Callable[[], T]) -> T:
        """Returns what `step` returns, retrying it after transient errors, and once in the life of
        the lease after one of `MODEL_ENDS`.

        Raises:
            LeaseLost: another worker holds the evaluation.
            CxrevalError: the last error of the step, once the retry deadline has passed.
        """

        def attempt() -> T:
            self.check()
            try:
                return step()
            except MODEL_ENDS as error:
                if self._model_end:
                    raise
                self._model_end = error
                _log.warning("%s; trying once more", error)
                return step()

        self.progressed()
        return self._backoff.call(attempt)

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
