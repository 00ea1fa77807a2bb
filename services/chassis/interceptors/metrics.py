"""Rate, errors and duration of every rpc, under the metric names of gRPC dashboards."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import TracebackType

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from services.chassis.interceptors.call import Call

_LABELS = ("grpc_service", "grpc_method")
_BUCKETS = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    300.0,
)


@dataclass(slots=True)
class _Figures:
    """The metrics of one method, kept because a lookup by labels is slower than counting."""

    started: Counter
    running: Gauge
    seconds: Histogram
    handled: dict[str, Counter] = field(default_factory=dict)


class RpcMetrics:
    """The metrics of all rpcs: started, handled by code, duration, and in flight."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._started = Counter(
            "grpc_server_started_total", "Rpcs started.", _LABELS, registry=registry
        )
        self._handled = Counter(
            "grpc_server_handled_total",
            "Rpcs ended, by status code.",
            (*_LABELS, "grpc_code"),
            registry=registry,
        )
        self._seconds = Histogram(
            "grpc_server_handling_seconds",
            "Duration of rpcs.",
            _LABELS,
            buckets=_BUCKETS,
            registry=registry,
        )
        self._running = Gauge(
            "grpc_server_in_flight", "Rpcs running now.", _LABELS, registry=registry
        )
        self._figures: dict[tuple[str, str], _Figures] = {}

    def measured(self, call: Call) -> AbstractContextManager[None]:
        """Returns the context that counts and times one rpc."""
        key = (call.service, call.method)
        figures = self._figures.get(key)
        if figures is None:
            figures = self._figures[key] = _Figures(
                self._started.labels(*key), self._running.labels(*key), self._seconds.labels(*key)
            )
        return _Measured(call, figures, self._handled)


class _Measured(AbstractContextManager[None]):
    __slots__ = ("_call", "_figures", "_handled", "_start")

    def __init__(self, call: Call, figures: _Figures, handled: Counter) -> None:
        self._call = call
        self._figures = figures
        self._handled = handled

    def __enter__(self) -> None:
        self._figures.started.inc()
        self._figures.running.inc()
        self._start = time.perf_counter()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._figures.running.dec()
        self._figures.seconds.observe(time.perf_counter() - self._start)
        code, by_code = self._call.code.name, self._figures.handled
        if code not in by_code:
            by_code[code] = self._handled.labels(self._call.service, self._call.method, code)
        by_code[code].inc()
