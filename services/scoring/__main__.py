"""Starts the scoring service: `python -m services.scoring --data NAME=DIRECTORY`."""

import asyncio
import os
import sys

from prometheus_client import CollectorRegistry

from cxreval.api.scoring.v1 import scoring_service_pb2_grpc
from cxreval.datasets.benchmark_file import load_spec
from cxreval.datasets.truth import load_truth
from cxreval.errors import CxrevalError
from cxreval.wire.limits import MAX_RECORD_BYTES
from services.chassis import logs
from services.chassis.config import ConfigError, load
from services.chassis.server import Server
from services.scoring.config import ScoringConfig
from services.scoring.servicer import UNHEALTHY, ScoringServicer


async def main(config: ScoringConfig) -> None:
    """Loads the ground truths and serves until the process is stopped."""
    metrics = CollectorRegistry()
    truths = {
        name: await asyncio.to_thread(lambda: load_truth(load_spec(name, directory), directory))  # noqa: B023
        for name, directory in config.directories().items()
    }
    server = Server(config, metrics, MAX_RECORD_BYTES)
    servicer = ScoringServicer(truths, config.max_concurrent, config.max_streams, metrics)
    server.add(scoring_service_pb2_grpc, servicer)

    async def healthy() -> bool:
        return servicer.check_health()

    await server.serve(healthy, reasons=UNHEALTHY)


if __name__ == "__main__":
    try:
        configuration = load(ScoringConfig, "scoring", sys.argv[1:], os.environ)
        logs.configure(configuration.log_level)
        asyncio.run(main(configuration))
    except CxrevalError as error:
        sys.exit("\n".join(f"scoring: {each}" for each in (error, *error.also)))
    except ConfigError as problem:
        sys.exit(f"scoring: {problem}")
