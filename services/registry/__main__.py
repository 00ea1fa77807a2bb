"""Starts the registry: `python -m services.registry`; migrates its database: `python -m
services.registry migrate`.

`python -m services.registry create-operator-key`, where the database can be reached, prints a new
operator's key.

The embedded SQLite database is migrated at every start. PostgreSQL is migrated only by `migrate`,
which a deployment runs once before the new version starts; until then the registry says that it is
not healthy.
"""

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter
from sqlalchemy.exc import SQLAlchemyError

from cxreval.api.registry.v1 import (
    admin_service_pb2,
    admin_service_pb2_grpc,
    artifact_service_pb2,
    artifact_service_pb2_grpc,
    audit_service_pb2,
    audit_service_pb2_grpc,
    benchmark_service_pb2,
    benchmark_service_pb2_grpc,
    evaluation_service_pb2,
    evaluation_service_pb2_grpc,
    leaderboard_service_pb2,
    leaderboard_service_pb2_grpc,
    lifecycle_service_pb2,
    lifecycle_service_pb2_grpc,
    submission_service_pb2,
    submission_service_pb2_grpc,
)
from cxreval.audit.receipts import Signer
from cxreval.datasets.benchmark import load_spec, packaged_names
from cxreval.errors import CxrevalError
from cxreval.resource_names import BenchmarkName
from cxreval.wire.limits import MAX_RECORD_BYTES
from services.chassis import logs
from services.chassis.config import ConfigError, load
from services.chassis.interceptors.access import Authenticator, OpenAccess
from services.chassis.server import Server
from services.registry import migrations
from services.registry.config import RegistryConfig
from services.registry.domain import seed
from services.registry.servicers.admin import AdminServicer
from services.registry.servicers.artifacts import ArtifactServicer
from services.registry.servicers.audit import AuditServicer
from services.registry.servicers.authentication import KeyAuthenticator
from services.registry.servicers.benchmarks import BenchmarkServicer
from services.registry.servicers.evaluations import EvaluationServicer
from services.registry.servicers.leaderboard import LeaderboardServicer
from services.registry.servicers.lifecycle import LifecycleServicer
from services.registry.servicers.metrics import StateCollector
from services.registry.servicers.submissions import SubmissionServicer
from services.registry.servicers.watching import Watching
from services.registry.store.artifacts import Artifacts
from services.registry.store.benchmarks import Benchmarks
from services.registry.store.boards import Boards
from services.registry.store.database import Database
from services.registry.store.evaluations import Evaluations
from services.registry.store.events import Events
from services.registry.store.garbage import Garbage
from services.registry.store.lifecycle import Lifecycle
from services.registry.store.local_artifacts import LocalArtifacts
from services.registry.store.organisations import Organisations
from services.registry.store.quotas import Quotas
from services.registry.store.s3_artifacts import S3Artifacts
from services.registry.store.submissions import Submissions
from services.registry.store.tenancy import Tenancy
from services.registry.store.vault import Vault

WATCH_SECONDS = 0.5
"""How often the database is asked what watched submissions do."""

SWEEP_SECONDS = 1.0
"""How often leases and deadlines are looked at, and events join the audit chain."""

CREATE_OPERATOR_KEY = "create-operator-key"
"""The command that makes an operator's key, and the actor of what it does."""

COLLECT_SECONDS = 300.0
"""How often orphans are looked for in the store of artifacts."""

_log = logging.getLogger("services.registry")


def now() -> datetime:
    """The registry's clock."""
    return datetime.now(UTC)


def main(arguments: Sequence[str]) -> None:
    """Migrates, makes an operator's key, or serves."""
    command = arguments[0] if arguments and arguments[0] in ("migrate", CREATE_OPERATOR_KEY) else ""
    config = load(RegistryConfig, "registry", arguments[1:] if command else arguments, os.environ)
    logs.configure(config.log_level)
    os.umask(0o077)  # database, artifacts and keys are for this user alone
    database = Database(config.database_url)
    signer = Signer.from_file(Path(config.signing_key))
    if command == "migrate" or database.embedded:
        migrate(database, signer)
    if command == CREATE_OPERATOR_KEY:
        sys.stdout.write(
            f"{Organisations(database, now).create_operator_key(CREATE_OPERATOR_KEY)}\n"
        )
    if not command:
        asyncio.run(serve(config, database, signer))
    database.close()


def migrate(database: Database, signer: Signer) -> None:
    """Brings the schema to its newest revision, and adds packaged benchmarks and seeded claims."""
    migrations.upgrade(database.engine)
    for name in packaged_names():
        Benchmarks(database, now).create(load_spec(name))
    Submissions(database, now, signer).publish_claims(BenchmarkName(seed.BENCHMARK), seed.CLAIMS)


async def serve(config: RegistryConfig, database: Database, signer: Signer) -> None:
    """Serves until a signal."""
    metrics = CollectorRegistry()
    metrics.register(StateCollector(database))
    benchmarks = Benchmarks(database, now)
    submissions = Submissions(database, now, signer)
    vault = Vault.from_file(Path(config.token_key))
    evaluations = Evaluations(database, now, signer, config.lease_seconds, config.max_attempts)
    lifecycle = Lifecycle(database, now, signer)
    events = Events(database)
    artifacts = open_artifacts(config.artifact_store)
    garbage = Garbage(database, artifacts, now)
    removed = Counter(
        "cxreval_registry_orphans_removed_total", "Orphans removed.", ("kind",), registry=metrics
    )

    organisations = Organisations(database, now)
    tenancy = Tenancy(database)
    watching = Watching(lifecycle.versions, WATCH_SECONDS)

    server = Server(config, metrics, MAX_RECORD_BYTES, authenticator(config, organisations))
    server.add(
        admin_service_pb2_grpc.add_AdminServiceServicer_to_server,
        AdminServicer(organisations, Quotas(database, now), now),
        admin_service_pb2.DESCRIPTOR.services_by_name["AdminService"],
    )
    server.add(
        benchmark_service_pb2_grpc.add_BenchmarkServiceServicer_to_server,
        BenchmarkServicer(benchmarks),
        benchmark_service_pb2.DESCRIPTOR.services_by_name["BenchmarkService"],
    )
    server.add(
        submission_service_pb2_grpc.add_SubmissionServiceServicer_to_server,
        SubmissionServicer(benchmarks, submissions, tenancy, vault, now),
        submission_service_pb2.DESCRIPTOR.services_by_name["SubmissionService"],
    )
    server.add(
        artifact_service_pb2_grpc.add_ArtifactServiceServicer_to_server,
        ArtifactServicer(submissions, evaluations, artifacts, tenancy, metrics),
        artifact_service_pb2.DESCRIPTOR.services_by_name["ArtifactService"],
    )
    server.add(
        evaluation_service_pb2_grpc.add_EvaluationServiceServicer_to_server,
        EvaluationServicer(evaluations, submissions, tenancy, vault),
        evaluation_service_pb2.DESCRIPTOR.services_by_name["EvaluationService"],
    )
    server.add(
        leaderboard_service_pb2_grpc.add_LeaderboardServiceServicer_to_server,
        LeaderboardServicer(Boards(database), events, tenancy),
        leaderboard_service_pb2.DESCRIPTOR.services_by_name["LeaderboardService"],
    )
    server.add(
        lifecycle_service_pb2_grpc.add_LifecycleServiceServicer_to_server,
        LifecycleServicer(lifecycle, submissions, events, tenancy, watching),
        lifecycle_service_pb2.DESCRIPTOR.services_by_name["LifecycleService"],
    )
    server.add(
        audit_service_pb2_grpc.add_AuditServiceServicer_to_server,
        AuditServicer(events, tenancy, signer.public_key),
        audit_service_pb2.DESCRIPTOR.services_by_name["AuditService"],
    )

    def ready() -> bool:
        database.ping()
        return migrations.at_head(database.engine)

    async def healthy() -> bool:
        return await asyncio.to_thread(ready)

    def collect() -> None:
        for kind, count in zip(("upload", "artifact"), garbage.collect(), strict=True):
            removed.labels(kind).inc(count)

    sweeping = [
        asyncio.create_task(run_periodically(work, seconds, ready))
        for work, seconds in (
            (evaluations.reclaim_expired_leases, SWEEP_SECONDS),
            (lifecycle.expire, SWEEP_SECONDS),
            (events.chain, SWEEP_SECONDS),
            (collect, COLLECT_SECONDS),
        )
    ]
    await server.serve(healthy, watching.close)
    for task in sweeping:
        task.cancel()


def authenticator(config: RegistryConfig, organisations: Organisations) -> Authenticator:
    """Says who calls, as the settings want it."""
    if config.access == "open":
        return OpenAccess()
    return KeyAuthenticator(
        organisations, now, config.worker_certificates, public_board=config.public_board
    )


def open_artifacts(place: str) -> Artifacts:
    """The store of artifacts in a directory or bucket."""
    return S3Artifacts(place) if place.startswith("s3://") else LocalArtifacts(Path(place))


async def run_periodically(
    work: Callable[[], object], seconds: float, ready: Callable[[], bool]
) -> None:
    """What the registry does by itself, over and over, while the database is there."""

    def once() -> None:
        if ready():
            work()

    while True:
        try:
            await asyncio.to_thread(once)
        except Exception:  # noqa: BLE001 - whatever it is, the next time may go well, and nobody else does this
            _log.warning("%s failed", work.__name__, exc_info=True)
        await asyncio.sleep(seconds)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (ConfigError, CxrevalError, SQLAlchemyError) as problem:
        sys.exit(f"registry: {problem}")
