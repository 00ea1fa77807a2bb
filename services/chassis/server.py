"""The gRPC server of every cxreval process.

Health is NOT_SERVING until the process's probe succeeds, and follows the probe from then on. At
SIGTERM or SIGINT health is NOT_SERVING, new calls are refused, running calls may finish within the
drain time, and the process exits with 0.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from types import ModuleType

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from prometheus_client import CollectorRegistry

from cxreval.fields import with_port
from cxreval.wire.limits import MAX_MESSAGE_BYTES
from services.chassis.config import ConfigError, ServerConfig
from services.chassis.health import Health
from services.chassis.interceptors import WrappedServer
from services.chassis.interceptors.access import Access, Authenticator, OpenAccess
from services.chassis.interceptors.deadline import TimeLimit
from services.chassis.interceptors.metrics import RpcMetrics
from services.chassis.interceptors.streams import RunningStreams
from services.chassis.metrics_page import serve_metrics
from services.chassis.reflection import add_reflection

_log = logging.getLogger(__name__)
_HEALTH_PERIOD_SECONDS = 2.0

LIVE = "cxreval.live"
"""A name whose health is SERVING while the process answers, for probes that restart it otherwise:
a restart repairs no database and no disk."""

_OPTIONS = (
    # A tensor travels in a few frames instead of dozens.
    ("grpc.http2.max_frame_size", 1 << 20),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # A second server on the same port must fail instead of sharing it.
    ("grpc.so_reuseport", 0),
    # Clients ping idle connections every 30 s (wire.channel); by gRPC's default that is too often,
    # and the server would close the connection.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Clients reconnect once an hour, so that new replicas get traffic from long-lived ones.
    ("grpc.max_connection_age_ms", 3_600_000),
    ("grpc.max_connection_age_grace_ms", 3_600_000),
    # A connection that never becomes one of HTTP/2, that has no call, or whose client has vanished.
    ("grpc.server_handshake_timeout_ms", 20_000),
    ("grpc.max_connection_idle_ms", 600_000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.max_concurrent_streams", 5_000),
    # Calls that wait for the event loop. By gRPC's default, a burst of 1,000 from one caller makes
    # it cancel calls of others.
    ("grpc.server.max_pending_requests", 10_000),
    ("grpc.server.max_pending_requests_hard_limit", 20_000),
)


class Server:
    """A server: add services, then serve them until a signal."""

    def __init__(
        self,
        config: ServerConfig,
        metrics: CollectorRegistry,
        max_request_bytes: int = MAX_MESSAGE_BYTES,
        authenticator: Authenticator | None = None,
    ) -> None:
        """Creates a server without services.

        Args:
            config: the settings.
            metrics: the registry of its Prometheus metrics.
            max_request_bytes: maximum size of a request message; larger ones are not parsed.
            authenticator: identifies callers; None: every client that is let in has all roles.
        """
        self._config = config
        self._metrics = metrics
        self._names: list[str] = []
        self._health = HealthServicer()
        options = (*_OPTIONS, ("grpc.max_receive_message_length", max_request_bytes))
        self._server = grpc.aio.server(options=options)
        time_limit = TimeLimit(config.deadline_seconds, config.stream_deadline_seconds)
        access = Access(authenticator or OpenAccess(), config.allowed_certificates)
        self._wrapped = WrappedServer(
            self._server,
            RpcMetrics(metrics),
            time_limit,
            access,
            RunningStreams(access, config.max_streams_per_caller),
            config.stream_idle_seconds,
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._wrapped)

    def add(self, module: ModuleType, servicer: object) -> None:
        """Adds a service: its generated `..._pb2_grpc` module and the servicer that implements it.

        Raises:
            TypeError: the servicer implements no service, or several, of the module.
            ValueError: the service was added before.
        """
        registrations = [
            getattr(module, f"add_{name}_to_server")
            for name, base in vars(module).items()
            if name.endswith("Servicer") and isinstance(servicer, base)
        ]
        if len(registrations) != 1:
            message = f"{type(servicer).__name__} implements {len(registrations)} services"
            raise TypeError(f"{message} of {module.__name__}; expected one")
        registrations[0](servicer, self._wrapped)
        self._names.append(self._wrapped.services[-1])

    async def report(self, name: str, serving: bool) -> None:
        """Sets the health of a name of its own, for example of a model."""
        status = health_pb2.HealthCheckResponse
        await self._health.set(name, status.SERVING if serving else status.NOT_SERVING)

    async def serve(
        self,
        healthy: Callable[[], Awaitable[bool]],
        drain: Callable[[], Awaitable[None]] | None = None,
        reasons: Iterable[str] = (),
    ) -> None:
        """Serves until SIGTERM or SIGINT.

        Args:
            healthy: the health probe, called every two seconds; see `Health`.
            drain: awaited after the signal, before new calls are refused, for at most the drain
                time.
            reasons: those of each `Unhealthy` that the probe raises.
        """
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        add_reflection(self._wrapped.services, self._wrapped)
        await self._report_all(False)
        await self.report(LIVE, True)
        port = self._bind()
        await self._server.start()
        if self._config.metrics_listen:
            serve_metrics(self._config.metrics_listen, self._metrics)
        _log.info("listening", extra={"address": with_port(self._config.listen, port)})
        watcher = asyncio.create_task(self._watch(Health(healthy, reasons, self._metrics)))
        await stop.wait()
        _log.info("draining", extra={"drain_seconds": self._config.drain_seconds})
        watcher.cancel()
        await self._health.enter_graceful_shutdown()
        deadline = loop.time() + self._config.drain_seconds
        if drain:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(drain(), self._config.drain_seconds)
        await self._server.stop(max(0.0, deadline - loop.time()))
        _log.info("stopped")

    def _bind(self) -> int:
        config = self._config
        try:
            if not config.tls_certificate:
                return self._server.add_insecure_port(config.listen)
            return self._server.add_secure_port(config.listen, _credentials(config))
        except (RuntimeError, OSError) as error:
            raise ConfigError(f"cannot listen on {config.listen}: {error}") from None

    async def _watch(self, health: Health) -> None:
        while True:
            await self._report_all(await health.is_serving())
            await asyncio.sleep(_HEALTH_PERIOD_SECONDS)

    async def _report_all(self, serving: bool) -> None:
        for name in ("", *self._names):
            await self.report(name, serving)


def _credentials(config: ServerConfig) -> grpc.ServerCredentials:
    client_ca = Path(config.tls_client_ca).read_bytes() if config.tls_client_ca else None
    pair = (Path(config.tls_key).read_bytes(), Path(config.tls_certificate).read_bytes())
    return grpc.ssl_server_credentials([pair], client_ca, require_client_auth=client_ca is not None)
