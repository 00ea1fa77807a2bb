"""The service's metrics for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class WebMetrics:
    """Requests, the pages that were kept, and calls of the registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "cxreval_web_requests_total", "Requests by page and status.", ("page", "status"),
            registry=registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "cxreval_web_request_seconds", "Seconds until the response was sent, by page.",
            ("page",), registry=registry,
            buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10),
        )  # fmt: skip
        self._cache = Counter(
            "cxreval_web_cache_total", "Requests whose page was rendered before, or not.",
            ("result",), registry=registry,
        )  # fmt: skip
        self._calls = Counter(
            "cxreval_web_registry_calls_total", "Calls of the registry by rpc.",
            ("rpc",), registry=registry,
        )  # fmt: skip
        self._renders = Histogram(
            "cxreval_web_refresh_seconds", "Seconds from a change to its rendered pages.",
            registry=registry, buckets=(0.1, 0.3, 1, 3, 10, 30, 100),
        )  # fmt: skip
        self._read = Gauge(
            "cxreval_web_last_read_timestamp_seconds",
            "Time of the last answer of the registry, in seconds since 1970.",
            registry=registry,
        )  # fmt: skip

    def request(self, page: str, status: int, seconds: float) -> None:
        """Counts a request."""
        self._requests.labels(page, status).inc()
        self._seconds.labels(page).observe(seconds)

    def cache(self, result: str) -> None:
        """Counts a `hit` or a `miss` of the rendered pages."""
        self._cache.labels(result).inc()

    def call(self, rpc: str) -> None:
        """Counts a call of the registry."""
        self._calls.labels(rpc).inc()

    def refreshed(self, seconds: float) -> None:
        """Records how long it took to show a change."""
        self._renders.observe(seconds)

    def answered(self, timestamp: float) -> None:
        """Records when the registry answered."""
        self._read.set(timestamp)
