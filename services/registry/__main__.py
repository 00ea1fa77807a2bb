"""Starts the registry: `python -m services.registry`; migrates its database: `python -m services.registry migrate`.

The embedded SQLite database is migrated at every start. PostgreSQL is migrated only by `migrate`, which a deployment
runs once before the new version starts; until then the registry says that it is not healthy.
"""

import asyncio
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from prometheus_client import CollectorRegistry
from sqlalchemy.exc import SQLAlchemyError

from cxreval.api.registry.v1 import (
    benchmark_service_pb2,
    benchmark_service_pb2_grpc,
    evaluation_service_pb2,
    evaluation_service_pb2_grpc,
    leaderboard_service_pb2,
    leaderboard_service_pb2_grpc,
    submission_service_pb2,
    submission_service_pb2_grpc,
)
from cxreval.datasets.benchmark import load_spec
from cxreval.errors import CxrevalError
from cxreval.resource_names import BenchmarkName
from cxreval.wire.limits import MAX_RECORD_BYTES
from services.chassis import logs
from services.chassis.config import ConfigError, load
from services.chassis.server import Server
from services.registry import migrations
from services.registry.config import RegistryConfig
from services.registry.domain import seed
from services.registry.servicers.benchmarks import BenchmarkServicer
from services.registry.servicers.evaluations import EvaluationServicer
from services.registry.servicers.leaderboard import LeaderboardServicer
from services.registry.servicers.metrics import StateCollector
from services.registry.servicers.submissions import SubmissionServicer
from services.registry.store.artifacts import LocalArtifacts
from services.registry.store.benchmarks import Benchmarks
from services.registry.store.boards import Boards
from services.registry.store.database import Database
from services.registry.store.evaluations import Evaluations
from services.registry.store.submissions import Submissions


def now() -> datetime:
    """The registry's clock."""
    return datetime.now(UTC)


def main(arguments: Sequence[str]) -> None:
    """Migrates or serves."""
    only_migrate = bool(arguments) and arguments[0] == "migrate"
    config = load(RegistryConfig, "registry", arguments[1:] if only_migrate else arguments, os.environ)
    logs.configure(config.log_level)
    database = Database(config.database_url)
    if only_migrate or database.embedded:
        migrate(database)
    if not only_migrate:
        asyncio.run(serve(config, database))
    database.close()


def migrate(database: Database) -> None:
    """Brings the schema to its newest revision and puts the published claims on the board."""
    migrations.upgrade(database.engine)
    Benchmarks(database, now).create(load_spec(seed.BENCHMARK))
    Submissions(database, now).publish_claims(BenchmarkName(seed.BENCHMARK), seed.CLAIMS)


async def serve(config: RegistryConfig, database: Database) -> None:
    """Serves until a signal."""
    metrics = CollectorRegistry()
    metrics.register(StateCollector(database))
    benchmarks = Benchmarks(database, now)
    submissions = Submissions(database, now)
    evaluations = Evaluations(database, now, config.lease_seconds, config.max_attempts)
    artifacts = LocalArtifacts(Path(config.artifact_dir))

    server = Server(config, metrics, MAX_RECORD_BYTES)
    server.add(
        benchmark_service_pb2_grpc.add_BenchmarkServiceServicer_to_server,
        BenchmarkServicer(benchmarks),
        benchmark_service_pb2.DESCRIPTOR.services_by_name["BenchmarkService"],
    )
    server.add(
        submission_service_pb2_grpc.add_SubmissionServiceServicer_to_server,
        SubmissionServicer(benchmarks, submissions, artifacts, now, metrics),
        submission_service_pb2.DESCRIPTOR.services_by_name["SubmissionService"],
    )
    server.add(
        evaluation_service_pb2_grpc.add_EvaluationServiceServicer_to_server,
        EvaluationServicer(evaluations),
        evaluation_service_pb2.DESCRIPTOR.services_by_name["EvaluationService"],
    )
    server.add(
        leaderboard_service_pb2_grpc.add_LeaderboardServiceServicer_to_server,
        LeaderboardServicer(Boards(database)),
        leaderboard_service_pb2.DESCRIPTOR.services_by_name["LeaderboardService"],
    )

    def ready() -> bool:
        database.ping()
        return migrations.at_head(database.engine)

    async def healthy() -> bool:
        return await asyncio.to_thread(ready)

    await server.serve(healthy)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (ConfigError, CxrevalError, SQLAlchemyError) as problem:
        sys.exit(f"registry: {problem}")
