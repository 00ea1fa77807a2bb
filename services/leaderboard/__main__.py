"""Starts the public page: `python -m services.leaderboard --registry HOST:PORT`."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import uvicorn
import uvloop
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from cxreval.client import AsyncRegistryClient
from cxreval.errors import CxrevalError
from cxreval.fields import split_host_port
from services.chassis import logs
from services.chassis.config import ConfigError, load
from services.chassis.metrics_page import serve_metrics
from services.leaderboard.app import create_app
from services.leaderboard.config import LeaderboardConfig
from services.leaderboard.files import static_files
from services.leaderboard.metrics import WebMetrics
from services.leaderboard.refresh import Refresher
from services.leaderboard.routes import problem_page
from services.leaderboard.site import Site, SiteData
from services.leaderboard.source import Source
from services.leaderboard.store import Store
from services.leaderboard.watching import Watchers

_log = logging.getLogger("services.leaderboard")


async def main(config: LeaderboardConfig) -> None:
    """Serves until SIGTERM or SIGINT, and reads from the registry meanwhile."""
    collectors = CollectorRegistry()
    metrics = WebMetrics(collectors)
    store = Store(Path(config.data_dir))
    site = Site(SiteData(store, public_url=config.address), problem_page)
    async with AsyncRegistryClient(
        config.registry, config.registry_tls(), config.api_key()
    ) as client:
        watchers = Watchers(client)
        refresher = Refresher(Source(client, store, metrics.call), store, site, watchers, metrics)
        await refresher.load()
        if config.metrics_listen:
            serve_metrics(config.metrics_listen, collectors)
        https = config.address.startswith("https://")
        app = create_app(site, watchers, metrics, static_files(), https=https)
        server = _Server(_web(config, app), watchers)
        task = asyncio.create_task(refresher.run())
        try:
            await server.serve()
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        _log.info("stopped")


class _Server(uvicorn.Server):
    """A web server that ends the streams of visitors before it waits for open responses."""

    def __init__(self, config: uvicorn.Config, watchers: Watchers) -> None:
        super().__init__(config)
        self._watchers = watchers

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Ends the process with 0 after a signal; uvicorn would raise it again."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._watchers.close()
        await super().shutdown(sockets)


def _web(config: LeaderboardConfig, app: ASGIApp) -> uvicorn.Config:
    host, port = split_host_port(config.listen)
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        access_log=False,  # the application writes it
        log_config=None,
        server_header=False,
        ssl_certfile=config.tls_certificate or None,
        ssl_keyfile=config.tls_key or None,
        timeout_graceful_shutdown=int(config.drain_seconds),
        limit_concurrency=2000,
        h11_max_incomplete_event_size=16_384,
    )


if __name__ == "__main__":
    try:
        configuration = load(LeaderboardConfig, "leaderboard", sys.argv[1:], os.environ)
        logs.configure(configuration.log_level)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main(configuration))
    except CxrevalError as error:
        sys.exit("\n".join(f"leaderboard: {each}" for each in (error, *error.also)))
    except ConfigError as problem:
        sys.exit(f"leaderboard: {problem}")
