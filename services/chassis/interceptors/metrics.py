"""Rate, errors and duration of every rpc, under the names that gRPC dashboards already know."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from services.chassis.interceptors import Call

_LABELS = ("grpc_service", "grpc_method")
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class RpcMetrics:
    """The RED figures: started, handled by code, seconds, and how many run now."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._started = Counter("grpc_server_started_total", "Rpcs started.", _LABELS, registry=registry)
        self._handled = Counter(
            "grpc_server_handled_total", "Rpcs ended, by status code.", (*_LABELS, "grpc_code"), registry=registry
        )
        self._seconds = Histogram(
            "grpc_server_handling_seconds", "Duration of rpcs.", _LABELS, buckets=_BUCKETS, registry=registry
        )
        self._running = Gauge("grpc_server_in_flight", "Rpcs running now.", _LABELS, registry=registry)

    @asynccontextmanager
    async def measured(self, call: Call) -> AsyncIterator[None]:
        """Counts and times one rpc."""
        labels = (call.service, call.method)
        self._started.labels(*labels).inc()
        self._running.labels(*labels).inc()
        start = time.perf_counter()
        try:
            yield
        finally:
            self._running.labels(*labels).dec()
            self._seconds.labels(*labels).observe(time.perf_counter() - start)
            self._handled.labels(*labels, call.code.name).inc()
