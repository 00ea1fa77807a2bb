"""The registry's command, `python -m services.registry [COMMAND]`.

Without a command it serves. `migrate` migrates the database. `create-operator-key` prints a new
operator's key; it runs where the database can be reached.

The embedded SQLite database is migrated at every start. PostgreSQL is migrated only by `migrate`,
which a deployment runs once before the new version starts; until then the registry is not healthy.
"""

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from threading import Thread

from prometheus_client import CollectorRegistry, Counter
from sqlalchemy.exc import SQLAlchemyError

from cxreval.api.registry.v1 import (
    admin_service_pb2_grpc,
    artifact_service_pb2_grpc,
    audit_service_pb2_grpc,
    benchmark_service_pb2_grpc,
    evaluation_service_pb2_grpc,
    leaderboard_service_pb2_grpc,
    lifecycle_service_pb2_grpc,
    submission_service_pb2_grpc,
)
from cxreval.audit.receipts import Signer
from cxreval.datasets.benchmark_file import load_spec, packaged_names
from cxreval.errors import CxrevalError, DatabaseDamaged, StorageFull
from cxreval.extras import require_extra
from cxreval.resource_names import BenchmarkName
from cxreval.wire.limits import MAX_RECORD_BYTES, MIB
from services.chassis import logs
from services.chassis.config import ConfigError, load
from services.chassis.health import Unhealthy
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
from services.registry.store.disk import STORAGE_FULL, STORAGE_UNUSABLE, check_disks
from services.registry.store.evaluations import Evaluations
from services.registry.store.events import Events
from services.registry.store.garbage import Garbage
from services.registry.store.lifecycle import Lifecycle
from services.registry.store.local_artifacts import LocalArtifacts
from services.registry.store.organisations import Organisations
from services.registry.store.parts import Parts
from services.registry.store.quotas import Quotas
from services.registry.store.repetitions import Repetitions, Schedule
from services.registry.store.rescores import Rescores
from services.registry.store.submissions import Submissions
from services.registry.store.vault import Vault
from services.registry.uploads import Uploads

WATCH_SECONDS = 0.5
"""How often watched submissions are checked for changes."""

SWEEP_SECONDS = 1.0
"""How often leases and deadlines are checked, and events join the audit chain."""

INTEGRITY_SECONDS = 2.0
"""How long the start waits for the integrity check of an SQLite file, which then runs beside the
calls. It takes 2 to 5 seconds for a gigabyte."""

DATABASE_UNAVAILABLE = "database_unavailable"
SCHEMA_OUTDATED = "schema_outdated"
SCHEMA_UNKNOWN = "schema_unknown"
_REASONS: dict[type[CxrevalError], str] = {
    DatabaseDamaged: "database_damaged",
    StorageFull: STORAGE_FULL,
}
UNHEALTHY = (
    DATABASE_UNAVAILABLE,
    SCHEMA_OUTDATED,
    SCHEMA_UNKNOWN,
    *_REASONS.values(),
    STORAGE_UNUSABLE,
)
"""The reasons for which a registry is not healthy."""

CREATE_OPERATOR_KEY = "create-operator-key"
"""The command that creates an operator's key, and the actor of its admin events."""

UPLOADS_LEAVE = 2
"""How many times `disk_reserve_mib` uploads leave free: what else the registry records then does
not make it unhealthy at once."""

REPETITION_SECONDS = 2.0
"""How often replays and reproductions that are due are looked for."""

COLLECT_SECONDS = 300.0
"""How often orphans are removed from the artifact store."""

_log = logging.getLogger("services.registry")


def now() -> datetime:
    """The current time in UTC."""
    return datetime.now(UTC)


def main(arguments: Sequence[str]) -> None:
    """Migrates, creates an operator's key, or serves."""
    command = arguments[0] if arguments and arguments[0] in ("migrate", CREATE_OPERATOR_KEY) else ""
    config = load(RegistryConfig, "registry", arguments[1:] if command else arguments, os.environ)
    logs.configure(config.log_level)
    os.umask(0o077)  # only this user may read database, artifacts and keys
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
    with database.named_errors():
        migrations.upgrade(database.engine)
    benchmarks = Benchmarks(database, now)
    for name in packaged_names():
        benchmarks.create(load_spec(name))
    benchmarks.seed_card(BenchmarkName(seed.BENCHMARK), seed.CARD)
    Submissions(database, now, signer).publish_claims(BenchmarkName(seed.BENCHMARK), seed.CLAIMS)


async def serve(config: RegistryConfig, database: Database, signer: Signer) -> None:
    """Serves until SIGTERM or SIGINT."""
    metrics = CollectorRegistry()
    metrics.register(StateCollector(database))
    organisations = Organisations(database, now)
    benchmarks = Benchmarks(database, now)
    submissions = Submissions(database, now, signer)
    evaluations = Evaluations(database, now, signer, config.lease_seconds, config.max_attempts)
    rescores = Rescores(database, now)
    repetitions = Repetitions(database, now, schedule(config))
    boards = Boards(database)
    lifecycle = Lifecycle(database, now, signer)
    events = Events(database)
    reserve = config.disk_reserve_mib * MIB
    artifacts = open_artifacts(config.artifact_store, UPLOADS_LEAVE * reserve)
    uploads = Uploads(artifacts)
    vault = Vault.from_file(Path(config.token_key))
    watching = Watching(lifecycle.versions, WATCH_SECONDS)

    server = Server(config, metrics, MAX_RECORD_BYTES, authenticator(config, organisations))
    for module, servicer in (
        (admin_service_pb2_grpc, AdminServicer(organisations, Quotas(database, now), now)),
        (benchmark_service_pb2_grpc, BenchmarkServicer(benchmarks)),
        (submission_service_pb2_grpc, SubmissionServicer(benchmarks, submissions, vault, now)),
        (
            artifact_service_pb2_grpc,
            ArtifactServicer(submissions, Parts(database, now), evaluations, uploads, metrics),
        ),
        (
            evaluation_service_pb2_grpc,
            EvaluationServicer(evaluations, rescores, repetitions, submissions, vault, metrics),
        ),
        (leaderboard_service_pb2_grpc, LeaderboardServicer(boards, events)),
        (lifecycle_service_pb2_grpc, LifecycleServicer(lifecycle, submissions, events, watching)),
        (audit_service_pb2_grpc, AuditServicer(events, rescores, signer.public_key)),
    ):
        server.add(module, servicer)

    start_integrity_check(database).join(INTEGRITY_SECONDS)
    ready = partial(is_ready, database)
    sweeps = [
        asyncio.create_task(run_periodically(work, seconds, ready))
        for work, seconds in (
            (evaluations.reclaim_expired_leases, SWEEP_SECONDS),
            (lifecycle.expire, SWEEP_SECONDS),
            (repetitions.queue_due, REPETITION_SECONDS),
            (full_reproductions(repetitions, boards), REPETITION_SECONDS),
            (events.chain, SWEEP_SECONDS),
            (garbage_collection(Garbage(database, artifacts, now), metrics), COLLECT_SECONDS),
        )
    ]
    probe = partial(check_health, database, directories(config, database), reserve)
    await server.serve(partial(asyncio.to_thread, probe), watching.close, UNHEALTHY)
    for sweep in sweeps:
        sweep.cancel()


def is_ready(database: Database) -> bool:
    """Returns whether the database answers and has the newest revision. Raises
    `ServiceUnavailable`."""
    database.ping()
    with database.named_errors():
        return migrations.at_head(database.engine)


def directories(config: RegistryConfig, database: Database) -> list[Path]:
    """Returns where the registry writes files: artifacts and SQLite."""
    return [
        Path(location)
        for location in (config.artifact_store, database.file)
        if location and not location.startswith("s3://")
    ]


def check_health(database: Database, directories: Sequence[Path], reserve: int) -> bool:
    """Returns whether the registry can read and record. Raises `Unhealthy`.

    `directories`: where it writes files; each must have `reserve` free bytes.
    """
    try:
        ready = is_ready(database)
        trouble: CxrevalError | None = database.trouble()
    except CxrevalError as error:
        ready, trouble = False, error
    if trouble:
        raise Unhealthy(_REASONS.get(type(trouble), DATABASE_UNAVAILABLE), trouble.message)
    check_disks(directories, reserve)
    if not ready:
        try:
            migrations.check_known(database.engine)
        except ConfigError as error:
            raise Unhealthy(SCHEMA_UNKNOWN, str(error)) from None
        raise Unhealthy(
            SCHEMA_OUTDATED, "the database does not have the newest revision; run `migrate`"
        )
    return True


def start_integrity_check(database: Database) -> Thread:
    """Checks the database in a thread that does not delay the end of the process."""

    def check() -> None:
        with contextlib.suppress(CxrevalError):  # logged, and kept for `Database.trouble`
            database.check_integrity()

    thread = Thread(target=check, daemon=True)
    thread.start()
    return thread


def authenticator(config: RegistryConfig, organisations: Organisations) -> Authenticator:
    """The authenticator that the settings ask for."""
    if config.access == "open":
        return OpenAccess()
    return KeyAuthenticator(
        organisations, now, config.worker_certificates, public_board=config.public_board
    )


def open_artifacts(location: str, reserve: int = 0) -> Artifacts:
    """The artifact store in a directory or an S3 bucket.

    `reserve`: the bytes that uploads leave free on the disk of a directory.
    """
    if not location.startswith("s3://"):
        return LocalArtifacts(Path(location), reserve)
    require_extra("s3", f"the artifact store {location}", "obstore")
    from services.registry.store.s3_artifacts import S3Artifacts  # noqa: PLC0415 -- needs the extra

    return S3Artifacts(location)


def garbage_collection(garbage: Garbage, metrics: CollectorRegistry) -> Callable[[], None]:
    """A function that removes orphaned uploads and artifacts, and counts them as a metric."""
    removed = Counter(
        "cxreval_registry_orphans_removed_total", "Orphans removed.", ("kind",), registry=metrics
    )

    def collect() -> None:
        for kind, count in zip(("upload", "artifact"), garbage.collect(), strict=True):
            removed.labels(kind).inc(count)

    return collect


def schedule(config: RegistryConfig) -> Schedule:
    """The schedule of replays that the settings ask for."""
    after, every = config.replay_after_hours, config.replay_every_days
    return Schedule(
        timedelta(hours=after) if after >= 0 else None, timedelta(days=every) if every else None
    )


def full_reproductions(repetitions: Repetitions, boards: Boards) -> Callable[[], None]:
    """A function that queues a reproduction over all images of each state of the art that was
    reproduced on a sample."""

    def queue_full() -> None:
        for name in repetitions.reproduced_on_samples():
            rows = boards.ranked_rows(BenchmarkName(name.benchmark))
            if any(row.sota and row.submission == name.submission for row in rows):
                repetitions.queue_full(name)

    return queue_full


async def run_periodically(
    work: Callable[[], object], seconds: float, ready: Callable[[], bool]
) -> None:
    """Runs a function in a thread every `seconds`, while the database is ready. Never returns."""

    def run_if_ready() -> None:
        if ready():
            work()

    while True:
        try:
            await asyncio.to_thread(run_if_ready)
        except Exception:  # noqa: BLE001 - logged; the next run may succeed
            _log.warning("%s failed", work.__name__, exc_info=True)
        await asyncio.sleep(seconds)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (ConfigError, CxrevalError, SQLAlchemyError) as problem:
        sys.exit(f"registry: {problem}")
