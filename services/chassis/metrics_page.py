"""The page of Prometheus metrics that every process serves."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Info, start_http_server

from cxreval import build_info
from cxreval.fields import split_host_port


def serve_metrics(address: str, metrics: CollectorRegistry) -> None:
    """Serves the metrics, and `cxreval_build_info`, at `host:port`, from a thread of its own.

    Raises:
        OSError: the process cannot listen there.
    """
    host, port = split_host_port(address)
    Info(
        "cxreval_build", "Versions of cxreval and Python, and the platform.", registry=metrics
    ).info(build_info())
    start_http_server(port, addr=host, registry=metrics)
