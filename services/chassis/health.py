"""Asks the health probe of a process, and reports changes in the log and as a metric."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from prometheus_client import CollectorRegistry, Gauge

_log = logging.getLogger(__name__)
_TIMEOUT_SECONDS = 10.0

PROBE_FAILED = "probe_failed"
"""The reason when a probe returns false, raises an unexpected exception or takes too long."""


class Unhealthy(Exception):
    """A probe's result: the process cannot do its work. `reason`: a word for metrics."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Health:
    """The health of a process by its probe: an `Unhealthy` or any other exception counts as false.

    The gauge `cxreval_unhealthy` is 1 for the reason of the moment and 0 for all others.
    """

    def __init__(
        self,
        probe: Callable[[], Awaitable[bool]],
        reasons: Iterable[str],
        metrics: CollectorRegistry,
    ) -> None:
        """`reasons`: all that the probe's `Unhealthy` may have."""
        self._probe = probe
        self._reason: str | None = None
        gauge = Gauge(
            "cxreval_unhealthy",
            "Whether the service is unhealthy, by reason.",
            ["reason"],
            registry=metrics,
        )
        self._gauges = {reason: gauge.labels(reason) for reason in (PROBE_FAILED, *reasons)}

    async def is_serving(self) -> bool:
        """Asks the probe, and logs a reason that differs from the last one."""
        error: Exception | None = None
        reason = ""
        try:
            if not await asyncio.wait_for(self._probe(), _TIMEOUT_SECONDS):
                reason = PROBE_FAILED
        except Exception as raised:  # noqa: BLE001 - any failure of the probe means unhealthy
            error = raised
            reason = raised.reason if isinstance(raised, Unhealthy) else PROBE_FAILED
        if reason != self._reason:
            self._report(reason, error)
        return not reason

    def _report(self, reason: str, error: Exception | None) -> None:
        self._reason = reason
        for name, gauge in self._gauges.items():
            gauge.set(name == reason)
        if not reason:
            _log.info("healthy")
            return
        unexpected = None if isinstance(error, Unhealthy) else error
        cause = f": {error}" if error else ""
        _log.error("not healthy%s", cause, extra={"reason": reason}, exc_info=unexpected)
