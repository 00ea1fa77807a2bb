"""The registry's store on both databases, with a clock that the test sets."""

from __future__ import annotations

import secrets
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import event, func, inspect, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import load_only

from cxreval.api.scoring.v1 import report_pb2
from cxreval.audit.receipts import Signer
from cxreval.datasets.nih import FINDINGS
from cxreval.errors import (
    BenchmarkExists,
    BenchmarkNotFound,
    CxrevalError,
    EvaluationNotFound,
    InvalidPageToken,
    LeaseLost,
    MalformedBatch,
    NotComparable,
    ReportMismatch,
    ReportNotFound,
    RequestIdReused,
    ServiceUnavailable,
    SubmissionNotFound,
    SubmissionState,
    UnknownImage,
)
from cxreval.manifest.model import CheckpointFormat, Kind, Manifest
from cxreval.metrics.report import Report
from cxreval.records import EvaluationState, Failure, Fault, Role, Tier
from cxreval.records import SubmissionState as SubmissionStates
from cxreval.resource_names import BenchmarkName, EvaluationName, SubmissionName
from cxreval.wire import reports
from services.chassis.principal import EVERYBODY, Principal
from services.registry import migrations
from services.registry.__main__ import migrate
from services.registry.convert import submissions
from services.registry.domain import records
from services.registry.domain.pages import Cursor
from services.registry.domain.records import Lease, PredictionBatch, Submission
from services.registry.store.benchmarks import Benchmarks
from services.registry.store.boards import KEPT_BOARDS, Boards
from services.registry.store.database import Database
from services.registry.store.evaluations import Evaluations
from services.registry.store.events import Events
from services.registry.store.lifecycle import Lifecycle
from services.registry.store.models import (
    ArtifactRow,
    Base,
    CurveRow,
    EvaluationRow,
    EventRow,
    PredictionRow,
    ReplicateRow,
    ReportRow,
    SubmissionRow,
)
from services.registry.store.submissions import Submissions
from tests.support.registry import (
    DATABASES,
    fresh_database,
    manifest_message,
    record_all,
    report_message,
    small_images,
    small_spec,
)

SPEC = small_spec("small")
PARENT = BenchmarkName(SPEC.name)
MANIFEST = submissions.manifest(manifest_message(b"artifact"))
REPORT = reports.report(report_message(SPEC))
SIGNER = Signer(Ed25519PrivateKey.generate())
LEASE_SECONDS = 60.0
MAX_ATTEMPTS = 3


def report(score: float | None, own_noise: int | None = None) -> Report:
    return reports.report(report_message(SPEC, score, own_noise=own_noise))


class Store:
    """All stores of a registry over one database, and its clock."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.time = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
        self.benchmarks = Benchmarks(database, self.now)
        self.submissions = Submissions(database, self.now, SIGNER)
        self.evaluations = Evaluations(database, self.now, SIGNER, LEASE_SECONDS, MAX_ATTEMPTS)
        self.lifecycle = Lifecycle(database, self.now, SIGNER)
        self.events = Events(database)
        self.boards = Boards(database)

    def now(self) -> datetime:
        return self.time

    def wait(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)

    def queued(self, manifest: Manifest = MANIFEST) -> Submission:
        """Creates a submission in the state queued."""
        created = self.submissions.create(PARENT, manifest, "", EVERYBODY)
        return self.submissions.queue(
            SubmissionName(SPEC.name, created.id), EVERYBODY, 8, lambda: None
        )

    def lease(self, worker: str = "worker") -> tuple[Lease, EvaluationName]:
        found = self.evaluations.lease(worker, [PARENT], EVERYBODY)
        assert found
        return found, EvaluationName(SPEC.name, found.submission.id, found.evaluation.id)

    def lease_with_predictions(self, worker: str = "worker") -> tuple[Lease, EvaluationName]:
        lease, name = self.lease(worker)
        record_all(self.evaluations, name, lease.token)
        return lease, name

    def published(
        self, score: float | None, own_noise: int | None = None
    ) -> tuple[str, EvaluationName]:
        """Publishes a new row; returns its submission's id and its evaluation."""
        self.queued()
        lease, name = self.lease_with_predictions()
        self.evaluations.complete(name, lease.token, report(score, own_noise), {}, EVERYBODY)
        return name.submission, name

    def submission(self, lease: Lease) -> Submission:
        return self.submissions.get(SubmissionName(SPEC.name, lease.submission.id), EVERYBODY)

    def count(self, table: type[Base]) -> int:
        with self.database.reading() as session:
            return session.scalar(select(func.count()).select_from(table)) or 0


@pytest.fixture(params=DATABASES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    database = Database(fresh_database(request.param, tmp_path))
    migrations.upgrade(database.engine)
    found = Store(database)
    found.benchmarks.create(SPEC)
    found.benchmarks.record_images(PARENT, small_images())
    yield found
    database.close()


def batch(*images: str, value: bytes = b"\0\0\0\x3f") -> PredictionBatch:
    return PredictionBatch(images, tuple(value * len(SPEC.findings) for _ in images))


# --- schema ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", DATABASES)
def test_migrations_give_exactly_the_models_and_can_be_repeated(kind: str, tmp_path: Path) -> None:
    database = Database(fresh_database(kind, tmp_path))
    assert not migrations.at_head(database.engine)
    migrations.upgrade(database.engine)
    migrations.upgrade(database.engine)
    assert migrations.at_head(database.engine)
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    database.close()


def go_to(database: Database, revision: str) -> None:
    """Migrates the schema to a revision, up or down."""
    config = migrations._config()
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        (command.upgrade if revision == "head" else command.downgrade)(config, revision)


def test_migration_of_evidence_loses_nothing_on_the_way_back_and_forth(store: Store) -> None:
    names = [store.published(score)[1] for score in (0.8, 0.9, None)]
    evaluations = [store.evaluations.get(name, EVERYBODY) for name in names]
    evidence = [
        reports.evidence_message(store.evaluations.evidence(name, EVERYBODY)) for name in names
    ]
    board = store.boards.ranked_rows(PARENT)
    go_to(store.database, "0001")
    assert not migrations.at_head(store.database.engine)
    with store.database.engine.connect() as connection:
        assert not {"replicates", "curves"} & set(inspect(connection).get_table_names())
    go_to(store.database, "head")
    assert [store.evaluations.get(name, EVERYBODY) for name in names] == evaluations
    assert [
        reports.evidence_message(store.evaluations.evidence(name, EVERYBODY)) for name in names
    ] == evidence
    assert Boards(store.database).ranked_rows(PARENT) == board


def test_reports_from_before_the_evidence_are_ranked_by_score_alone_after_the_migration(
    store: Store,
) -> None:
    """A report of the first schema had only the values and counts of AUROC."""
    names = [store.published(score)[1] for score in (0.8, 0.9)]
    go_to(store.database, "0001")
    kept = (
        "metric",
        "finding",
        "value",
        "undefined_reason",
        "positive_images",
        "negative_images",
        "positive_patients",
    )
    with store.database.writing() as session:
        # Revision 0001 has fewer columns than today's table.
        for row in session.scalars(select(ReportRow).options(load_only(ReportRow.report))):
            auroc = row.report["metrics"][: len(FINDINGS) + 1]
            first = {
                key: row.report[key]
                for key in ("benchmark", "benchmark_digest", "scorer_version", "image_count")
            }
            first |= {key: row.report[key] for key in ("patient_count", "predictions_sha256")}
            row.report = first | {"metrics": [{key: value[key] for key in kept} for value in auroc]}
    go_to(store.database, "head")
    board = store.boards.ranked_rows(PARENT)
    assert [(row.score, row.ranked.rank, row.ranked.rank_low) for row in board] == [
        (0.9, 1, None),
        (0.8, 2, None),
    ]
    assert [row.score and row.score.interval for row in store.boards.rows(PARENT, board)] == [
        None,
        None,
    ]
    report = store.evaluations.get(names[0], EVERYBODY).report
    assert report
    assert (report.replicate_count, report.metrics[0].value, report.metrics[0].slice) == (
        0,
        0.8,
        "",
    )
    assert store.evaluations.evidence(names[0], EVERYBODY).replicates == ()


def test_manifests_from_before_the_kinds_are_read_as_they_are_now(store: Store) -> None:
    """All fields that were added belong to kinds that did not exist then."""
    names = [SubmissionName(SPEC.name, store.queued().id) for _ in range(3)]
    before = [store.submissions.get(name, EVERYBODY) for name in names]
    go_to(store.database, "0006")
    with store.database.reading() as session:
        old = set().union(*session.scalars(select(SubmissionRow.manifest)))
    assert not {"kind", "format", "architecture", "endpoint"} & old
    go_to(store.database, "head")
    assert [store.submissions.get(name, EVERYBODY) for name in names] == before


@pytest.mark.parametrize("kind", DATABASES)
def test_claims_from_before_the_kinds_are_on_the_board_after_the_migration(
    kind: str, tmp_path: Path
) -> None:
    database = Database(fresh_database(kind, tmp_path))
    migrate(database, SIGNER)
    claims = Submissions(database, datetime.now, SIGNER)
    cursor = Cursor.parse("submissions", "benchmarks/nih-chestxray14", 50, "")
    before = claims.page(BenchmarkName("nih-chestxray14"), cursor, EVERYBODY).items
    go_to(database, "0006")
    with database.reading() as session:
        stored = session.scalars(select(SubmissionRow.manifest)).all()
    assert {row["source_kind"] for row in stored} == {"github_readme", "research_paper"}
    assert all(row["environment"] == {"python_version": "", "dependencies": []} for row in stored)
    go_to(database, "head")
    assert claims.page(BenchmarkName("nih-chestxray14"), cursor, EVERYBODY).items == before
    database.close()


@pytest.mark.parametrize("kind", DATABASES)
def test_seeding_twice_gives_one_board(kind: str, tmp_path: Path) -> None:
    database = Database(fresh_database(kind, tmp_path))
    migrate(database, SIGNER)
    migrate(database, SIGNER)
    assert database.submissions_by_state()["published"] == 4
    database.close()


def test_sqlite_is_in_wal_mode_and_checks_foreign_keys(tmp_path: Path) -> None:
    database = Database(fresh_database("sqlite", tmp_path))
    with database.reading() as session:
        assert session.scalar(text("PRAGMA journal_mode")) == "wal"
        assert session.scalar(text("PRAGMA foreign_keys")) == 1
        assert (
            session.scalar(text("PRAGMA synchronous")) == 2
        )  # FULL: a commit survives a power cut
    database.close()


def test_database_that_does_not_answer_is_named(tmp_path: Path) -> None:
    database = Database(f"postgresql+psycopg://nobody@/none?host={tmp_path}")
    with pytest.raises(ServiceUnavailable):
        database.ping()


def test_a_failing_statement_is_logged_without_its_values(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database = Database(fresh_database("sqlite", tmp_path))
    secret = secrets.token_hex()  # the log may contain this line, but not its value
    with pytest.raises(ServiceUnavailable), database.reading() as session:
        session.execute(text("SELECT :secret FROM nowhere"), {"secret": secret})
    assert "nowhere" in caplog.text
    assert secret not in caplog.text
    database.close()


# --- benchmarks and submissions -------------------------------------------------------------------


def test_same_benchmark_twice_is_one_and_another_of_its_name_is_refused(store: Store) -> None:
    first = store.benchmarks.create(SPEC)
    assert store.benchmarks.create(SPEC) == first == store.benchmarks.get(PARENT)
    with pytest.raises(BenchmarkExists):
        store.benchmarks.create(small_spec(SPEC.name, images=5))


def test_submission_reads_back_as_it_was_created(store: Store) -> None:
    created = store.submissions.create(PARENT, MANIFEST, "", EVERYBODY)
    name = SubmissionName(SPEC.name, created.id)
    assert store.submissions.get(name, EVERYBODY) == created
    assert created.manifest == MANIFEST
    assert created.create_time == store.time
    assert (created.state, created.tier) == (records.SubmissionState.AWAITING_ARTIFACT, None)
    queued = store.submissions.queue(name, EVERYBODY, 8, lambda: None)
    assert store.submissions.get(name, EVERYBODY) == queued
    assert queued.evaluation


def test_unknown_names_are_not_found(store: Store) -> None:
    other = BenchmarkName("other")
    with pytest.raises(BenchmarkNotFound):
        store.submissions.create(other, MANIFEST, "", EVERYBODY)
    created = store.submissions.create(PARENT, MANIFEST, "", EVERYBODY)
    with pytest.raises(SubmissionNotFound):
        store.submissions.get(SubmissionName("other", created.id), EVERYBODY)
    with pytest.raises(EvaluationNotFound):
        store.evaluations.get(EvaluationName(SPEC.name, created.id, "0" * 32), EVERYBODY)


def test_same_request_id_and_manifest_give_the_same_submission(store: Store) -> None:
    first = store.submissions.create(PARENT, MANIFEST, "a" * 32, EVERYBODY)
    assert store.submissions.create(PARENT, MANIFEST, "a" * 32, EVERYBODY) == first
    assert store.submissions.create(PARENT, MANIFEST, "b" * 32, EVERYBODY).id != first.id
    other = submissions.manifest(manifest_message(b"artifact", model="Other"))
    with pytest.raises(RequestIdReused):
        store.submissions.create(PARENT, other, "a" * 32, EVERYBODY)
    assert store.count(SubmissionRow) == 2


def test_same_request_id_from_many_threads_gives_one_submission(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        jobs = [
            pool.submit(store.submissions.create, PARENT, MANIFEST, "a" * 32, EVERYBODY)
            for _ in range(16)
        ]
        found = {job.result(timeout=60).id for job in jobs}
    assert len(found) == store.count(SubmissionRow) == 1


def test_failed_keep_of_the_bytes_leaves_nothing_in_the_database(store: Store) -> None:
    created = store.submissions.create(PARENT, MANIFEST, "", EVERYBODY)

    def full() -> None:
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        store.submissions.queue(SubmissionName(SPEC.name, created.id), EVERYBODY, 8, full)
    assert store.submissions.get(SubmissionName(SPEC.name, created.id), EVERYBODY) == created
    assert store.count(ArtifactRow) == store.count(EvaluationRow) == 0


def test_of_two_concurrent_uploads_one_queues_and_the_other_is_refused(store: Store) -> None:
    created = store.submissions.create(PARENT, MANIFEST, "", EVERYBODY)

    def upload() -> str:
        try:
            store.submissions.queue(
                SubmissionName(SPEC.name, created.id), EVERYBODY, 8, lambda: None
            )
        except SubmissionState:
            return "told"
        return "queued"

    with ThreadPoolExecutor(4) as pool:
        found = Counter(job.result(timeout=60) for job in [pool.submit(upload) for _ in range(4)])
    assert found == {"queued": 1, "told": 3}
    assert store.count(EvaluationRow) == store.count(ArtifactRow) == 1


def test_same_artifact_in_two_submissions_is_one_artifact(store: Store) -> None:
    with ThreadPoolExecutor(4) as pool:
        assert (
            len(
                {job.result(timeout=60).id for job in [pool.submit(store.queued) for _ in range(8)]}
            )
            == 8
        )
    assert store.count(ArtifactRow) == 1


def test_pages_together_are_the_list_oldest_first(store: Store) -> None:
    created = [store.submissions.create(PARENT, MANIFEST, "", EVERYBODY).id for _ in range(5)]
    found, token = [], ""
    while True:
        page = store.submissions.page(
            PARENT, Cursor.parse("submissions", str(PARENT), 2, token), EVERYBODY
        )
        found += [item.id for item in page.items]
        token = page.next_token
        if not token:
            break
    assert found == created
    with pytest.raises(InvalidPageToken):
        store.submissions.page(
            PARENT, Cursor("submissions", str(PARENT), 2, after="0" * 32), EVERYBODY
        )


def test_submissions_are_found_by_the_beginning_of_their_id_in_every_benchmark(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = small_spec("other")
    store.benchmarks.create(other)
    made = []
    ids = ("abcd" + "f" * 28, "abcd" + "0" * 28, "abce" + "0" * 28)
    for identifier, benchmark in zip(ids, (SPEC.name, other.name, SPEC.name), strict=True):
        monkeypatch.setattr(uuid, "uuid4", lambda text=identifier: uuid.UUID(text))
        made.append(store.submissions.create(BenchmarkName(benchmark), MANIFEST, "", EVERYBODY).id)
    monkeypatch.undo()

    def found(parent: BenchmarkName | None, prefix: str, size: int = 5) -> list[str]:
        cursor = Cursor("submissions", "any", size)
        page = store.submissions.page(parent, cursor, EVERYBODY, prefix)
        return [item.id for item in page.items]

    assert found(None, "abcd") == made[:2]
    assert found(None, "abcd", size=1) == made[:1]
    assert found(PARENT, "abcd") == made[:1]
    assert found(None, made[2]) == made[2:]
    assert found(None, "abcdf0") == []
    stranger = Principal("anonymous", frozenset({Role.PUBLIC}), "")
    page = store.submissions.page(None, Cursor("submissions", "any", 5), stranger, "abcd")
    assert page.items == []


# --- leases ---------------------------------------------------------------------------------------


def test_oldest_evaluation_is_leased_first_and_each_only_once(store: Store) -> None:
    queued = [store.queued().id for _ in range(3)]
    assert [store.lease()[0].submission.id for _ in queued] == queued
    assert store.evaluations.lease("worker", [PARENT], EVERYBODY) is None


def test_worker_leases_only_for_its_benchmarks(store: Store) -> None:
    store.queued()
    assert store.evaluations.lease("worker", [BenchmarkName("other")], EVERYBODY) is None
    assert (
        store.evaluations.lease("worker", [BenchmarkName("other"), PARENT], EVERYBODY) is not None
    )


def test_state_dicts_are_leased_only_to_converting_workers_and_block_no_others(
    store: Store,
) -> None:
    form = CheckpointFormat.PYTORCH_STATE_DICT
    state_dict = store.queued(replace(MANIFEST, format=form, architecture="resnet50")).id
    for manifest in (MANIFEST, replace(MANIFEST, kind=Kind.PREDICTIONS, format=None)):
        other = store.queued(manifest).id
        lease, name = store.lease_with_predictions()
        assert lease.submission.id == other
        store.evaluations.complete(name, lease.token, REPORT, {}, EVERYBODY)
    for worker in ("dies", "goes on"):
        assert store.evaluations.lease("cannot", [PARENT], EVERYBODY) is None
        found = store.evaluations.lease(worker, [PARENT], EVERYBODY, converts=True)
        assert found
        assert found.submission.id == state_dict
        store.wait(LEASE_SECONDS)


def test_lease_carries_what_the_worker_needs(store: Store) -> None:
    queued = store.queued()
    lease, name = store.lease("w1")
    assert (lease.seconds, lease.benchmark.spec, lease.submission.manifest) == (
        LEASE_SECONDS,
        SPEC,
        MANIFEST,
    )
    assert (lease.evaluation.state, lease.evaluation.attempt, lease.evaluation.worker) == (
        "running",
        1,
        "w1",
    )
    assert lease.evaluation == store.evaluations.get(name, EVERYBODY)
    assert lease.submission == store.submission(lease)
    assert (lease.submission.id, lease.submission.state) == (queued.id, "running")


@pytest.mark.parametrize("workers", [8])
def test_racing_workers_never_get_the_same_evaluation(store: Store, workers: int) -> None:
    queued = {store.queued().id for _ in range(20)}
    barrier = threading.Barrier(workers)

    def work(worker: int) -> list[str]:
        barrier.wait(timeout=60)
        found = []
        while lease := store.evaluations.lease(f"worker-{worker}", [PARENT], EVERYBODY):
            found.append(lease.submission.id)
        return found

    with ThreadPoolExecutor(workers) as pool:
        leased = [
            item
            for job in [pool.submit(work, number) for number in range(workers)]
            for item in job.result(timeout=60)
        ]
    # A worker may get no lease while another one has locked the last rows; none is leased twice.
    leased += [
        lease.submission.id
        for lease in iter(lambda: store.evaluations.lease("late", [PARENT], EVERYBODY), None)
    ]
    assert len(leased) == len(queued)
    assert set(leased) == queued


def test_lease_that_ran_out_goes_to_the_next_worker_with_all_predictions(store: Store) -> None:
    store.queued()
    old, name = store.lease("old")
    store.evaluations.append(name, old.token, batch("0.png", "1.png"), EVERYBODY)
    store.wait(LEASE_SECONDS - 0.001)
    assert store.evaluations.lease("new", [PARENT], EVERYBODY) is None
    store.wait(0.001)
    new, _ = store.lease("new")
    assert (new.evaluation.attempt, new.evaluation.worker, new.evaluation.images_done) == (
        2,
        "new",
        2,
    )
    assert new.token != old.token
    recorded = list(store.evaluations.predictions(name, new.token, 100, EVERYBODY))
    assert recorded == [replace(batch("0.png", "1.png"), attempts=(1, 1))]


def calls_with_a_lease(
    store: Store, name: EvaluationName, token: str
) -> list[Callable[[], object]]:
    return [
        lambda: store.evaluations.renew(name, token, EVERYBODY),
        lambda: store.evaluations.append(name, token, batch("late.png"), EVERYBODY),
        lambda: store.evaluations.confirm(name, token, 1, EVERYBODY),
        lambda: store.evaluations.drop(name, token, 1, EVERYBODY),
        lambda: list(store.evaluations.predictions(name, token, 10, EVERYBODY)),
        lambda: store.evaluations.complete(name, token, REPORT, {}, EVERYBODY),
        lambda: store.evaluations.fail(
            name, token, Failure("BROKEN", "", Fault.SUBMISSION), EVERYBODY
        ),
    ]


def test_lost_lease_changes_nothing(store: Store) -> None:
    store.queued()
    old, name = store.lease("old")
    store.wait(LEASE_SECONDS)
    store.lease("new")
    before = store.evaluations.get(name, EVERYBODY)
    for token in (old.token, "", "é"):
        for call in calls_with_a_lease(store, name, token):
            with pytest.raises(LeaseLost, match="another token"):
                call()
    assert store.evaluations.get(name, EVERYBODY) == before
    assert store.count(PredictionRow) == store.count(ReportRow) == 0


def test_renewed_lease_lasts_its_full_length_from_then(store: Store) -> None:
    store.queued()
    lease, name = store.lease()
    store.wait(50)
    assert store.evaluations.renew(name, lease.token, EVERYBODY) == store.time + timedelta(
        seconds=LEASE_SECONDS
    )
    store.wait(50)
    assert store.evaluations.lease("other", [PARENT], EVERYBODY) is None
    store.evaluations.renew(name, lease.token, EVERYBODY)


def test_lease_that_ran_out_holds_until_another_worker_takes_it(store: Store) -> None:
    store.queued()
    lease, name = store.lease("late")
    store.wait(10 * LEASE_SECONDS)
    assert store.evaluations.append(name, lease.token, batch("0.png"), EVERYBODY) == 1
    store.evaluations.renew(name, lease.token, EVERYBODY)
    assert store.evaluations.lease("other", [PARENT], EVERYBODY) is None


def test_attempts_that_bring_predictions_are_never_used_up(store: Store) -> None:
    store.queued()
    for image in ("0.png", "1.png", "2.png", "3.png"):
        lease, name = store.lease()
        store.evaluations.append(name, lease.token, batch(image), EVERYBODY)
        store.wait(LEASE_SECONDS)
    assert store.evaluations.get(name, EVERYBODY).attempt == 4 > MAX_ATTEMPTS
    assert store.lease()


def test_evaluation_that_no_lease_brings_forward_fails_and_names_the_last_worker(
    store: Store,
) -> None:
    store.queued()
    second = store.queued()
    for attempt in range(1 + MAX_ATTEMPTS):  # only the first adds a prediction
        lease, name = store.lease(f"worker-{attempt}")
        store.evaluations.append(name, lease.token, batch("0.png"), EVERYBODY)
        store.wait(LEASE_SECONDS)
    other, _ = store.lease("next")
    assert other.submission.id == second.id
    failed = store.evaluations.get(name, EVERYBODY)
    assert (failed.state, failed.attempt) == (EvaluationState.FAILED, 1 + MAX_ATTEMPTS)
    assert failed.failure
    assert (failed.failure.reason, failed.failure.fault) == ("ATTEMPTS_EXHAUSTED", Fault.SYSTEM)
    assert "'worker-3'" in failed.failure.message
    assert (store.submission(lease).state, store.submission(lease).failure) == (
        "failed",
        failed.failure,
    )
    assert store.count(PredictionRow) == 1  # kept as evidence


# --- predictions ----------------------------------------------------------------------------------


def test_repeated_rows_are_left_as_they_are(store: Store) -> None:
    store.queued()
    lease, name = store.lease()
    first = batch("0.png", "1.png")
    assert store.evaluations.append(name, lease.token, first, EVERYBODY) == 2
    assert store.evaluations.append(name, lease.token, first, EVERYBODY) == 2
    assert (
        store.evaluations.append(
            name, lease.token, batch("1.png", "2.png", value=b"\0\0\x80\x3f"), EVERYBODY
        )
        == 3
    )
    recorded = list(store.evaluations.predictions(name, lease.token, 2, EVERYBODY))
    second = batch("2.png", value=b"\0\0\x80\x3f")
    assert recorded == [replace(first, attempts=(1, 1)), replace(second, attempts=(1,))]
    assert store.submission(lease).images_done == 3


def test_rows_of_another_width_are_refused(store: Store) -> None:
    store.queued()
    lease, name = store.lease()
    with pytest.raises(MalformedBatch, match="14 probabilities"):
        store.evaluations.append(
            name, lease.token, PredictionBatch(("0.png",), (b"\0" * 4 * 13,)), EVERYBODY
        )
    assert store.count(PredictionRow) == 0


def test_images_that_the_benchmark_does_not_have_are_refused_and_leave_nothing(
    store: Store,
) -> None:
    store.queued()
    lease, name = store.lease()
    assert (
        store.evaluations.append(name, lease.token, batch("0.png", "1.png", "2.png"), EVERYBODY)
        == 3
    )
    with pytest.raises(UnknownImage, match=r"'4\.png'"):
        store.evaluations.append(name, lease.token, batch("3.png", "4.png"), EVERYBODY)
    assert store.count(PredictionRow) == store.evaluations.get(name, EVERYBODY).images_done == 3


def test_whole_batch_of_4096_is_recorded_in_order(store: Store) -> None:
    large = small_spec("large", images=5000)
    store.benchmarks.create(large)
    created = store.submissions.create(BenchmarkName("large"), MANIFEST, "", EVERYBODY)
    store.submissions.queue(SubmissionName("large", created.id), EVERYBODY, 8, lambda: None)
    lease = store.evaluations.lease("worker", [BenchmarkName("large")], EVERYBODY)
    assert lease
    name = EvaluationName("large", created.id, lease.evaluation.id)
    images = small_images(5000)
    store.benchmarks.record_images(BenchmarkName("large"), images)
    assert store.evaluations.append(name, lease.token, batch(*images[:4096]), EVERYBODY) == 4096
    assert store.evaluations.append(name, lease.token, batch(*images[4000:]), EVERYBODY) == 5000
    found = [
        image
        for part in store.evaluations.predictions(name, lease.token, 999, EVERYBODY)
        for image in part.images
    ]
    assert found == images


# --- the end --------------------------------------------------------------------------------------


def test_completion_publishes_the_report_at_once(store: Store) -> None:
    store.queued()
    lease, name = store.lease_with_predictions()
    done = store.evaluations.complete(name, lease.token, REPORT, {"device": "cpu"}, EVERYBODY)
    assert (done.state, done.report, done.provenance) == (
        EvaluationState.SUCCEEDED,
        REPORT,
        {"device": "cpu"},
    )
    assert store.evaluations.get(name, EVERYBODY) == done
    submission = store.submission(lease)
    assert (submission.state, submission.tier) == (records.SubmissionState.PUBLISHED, Tier.EXECUTED)
    (row,) = store.boards.rows(PARENT, store.boards.ranked_rows(PARENT))
    assert (row.submission, row.ranked_row.ranked.rank, row.ranked_row.sota) == (
        submission,
        1,
        True,
    )
    assert row.figures.values == tuple(value for value in REPORT.metrics if not value.slice)
    assert (row.score, row.profile_digest) == (REPORT.metrics[len(FINDINGS)], "")
    assert store.evaluations.lease("worker", [PARENT], EVERYBODY) is None


def test_repeated_completion_is_harmless_and_a_different_report_is_refused(store: Store) -> None:
    store.queued()
    lease, name = store.lease_with_predictions()
    done = store.evaluations.complete(name, lease.token, REPORT, {"device": "cpu"}, EVERYBODY)
    store.wait(10 * LEASE_SECONDS)
    assert (
        store.evaluations.complete(name, lease.token, REPORT, {"device": "cpu"}, EVERYBODY) == done
    )
    with pytest.raises(ReportMismatch):
        store.evaluations.complete(
            name, lease.token, reports.report(report_message(SPEC, 0.9)), {}, EVERYBODY
        )
    with pytest.raises(LeaseLost):
        store.evaluations.complete(name, "0" * 32, REPORT, {}, EVERYBODY)
    assert store.evaluations.get(name, EVERYBODY) == done


def test_repeated_completion_with_another_evidence_is_refused(store: Store) -> None:
    store.queued()
    lease, name = store.lease_with_predictions()
    store.evaluations.complete(name, lease.token, report(0.8, own_noise=1), {}, EVERYBODY)
    with pytest.raises(ReportMismatch, match="a different report"):
        store.evaluations.complete(name, lease.token, report(0.8, own_noise=2), {}, EVERYBODY)
    with pytest.raises(ReportMismatch, match="a different report"):
        store.evaluations.complete(
            name, lease.token, replace(report(0.8), evidence=None), {}, EVERYBODY
        )
    assert kept_evidence(store, name) == report_message(SPEC, 0.8, own_noise=1).evidence


@pytest.mark.parametrize("change", [{"image_count": 3}, {"evidence": None}])
def test_refused_report_leaves_the_evaluation_running_and_nothing_half_written(
    store: Store, change: dict[str, int | None]
) -> None:
    store.queued()
    lease, name = store.lease_with_predictions()
    before = store.evaluations.get(name, EVERYBODY)
    with pytest.raises(ReportMismatch):
        store.evaluations.complete(
            name, lease.token, reports.report(report_message(SPEC, **change)), {}, EVERYBODY
        )
    assert store.evaluations.get(name, EVERYBODY) == before
    assert [store.count(table) for table in (ReportRow, ReplicateRow, CurveRow)] == [0, 0, 0]
    with pytest.raises(ReportNotFound):
        store.evaluations.evidence(name, EVERYBODY)
    store.evaluations.complete(name, lease.token, REPORT, {}, EVERYBODY)
    assert [store.count(table) for table in (ReportRow, ReplicateRow, CurveRow)] == [
        1,
        len(FINDINGS) + 1,
        1,
    ]


def kept_evidence(store: Store, name: EvaluationName) -> report_pb2.Evidence:
    return reports.evidence_message(store.evaluations.evidence(name, EVERYBODY))


@pytest.mark.parametrize("score", [0.8, None])
def test_evidence_reads_back_to_the_last_bit(store: Store, score: float | None) -> None:
    _, name = store.published(score)
    assert kept_evidence(store, name) == report_message(SPEC, score).evidence
    with pytest.raises(EvaluationNotFound):
        store.evaluations.evidence(replace(name, evaluation="0" * 32), EVERYBODY)


# --- the board ------------------------------------------------------------------------------------


def test_order_is_computed_once_for_each_set_of_published_rows(store: Store) -> None:
    store.published(0.8)
    first = store.boards.ranked_rows(PARENT)
    store.queued()
    assert store.boards.ranked_rows(PARENT) is first
    better, _ = store.published(0.9)
    second = store.boards.ranked_rows(PARENT)
    assert [row.submission for row in second] == [better, first[0].submission]
    assert Boards(store.database).ranked_rows(PARENT) == second


def test_page_that_was_read_before_reads_no_report_and_no_order_again(store: Store) -> None:
    store.published(0.8)
    page = store.boards.rows(PARENT, store.boards.ranked_rows(PARENT))
    statements: list[str] = []
    event.listen(
        store.database.engine,
        "before_cursor_execute",
        lambda *found: statements.append(found[2].lower()),
    )
    assert store.boards.rows(PARENT, store.boards.ranked_rows(PARENT)) == page
    assert statements
    assert not any("reports" in statement or "replicates" in statement for statement in statements)


def test_reading_transaction_cannot_write_and_sees_one_moment(store: Store) -> None:
    submission = store.queued()
    change = update(SubmissionRow).values(note="changed")
    with pytest.raises((ServiceUnavailable, DBAPIError)), store.database.reading() as session:
        session.execute(change)
    with store.database.reading() as session:
        before = session.scalar(select(SubmissionRow.note).where(SubmissionRow.id == submission.id))
        with store.database.writing() as other:
            other.execute(change)
        session.expire_all()
        after = session.scalar(select(SubmissionRow.note).where(SubmissionRow.id == submission.id))
    assert (before, after) == ("", "")


def test_lease_in_one_statement_leaves_what_the_steps_leave(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On SQLite both are the separate steps."""
    for _ in range(2):
        store.queued()
    leases = [store.lease()[0]]
    monkeypatch.setattr(store.database, "embedded", True)
    leases.append(store.lease()[0])
    own = {
        "id",
        "number",
        "submission_number",
        "lease_token",
        "place",
        "digest",
        "details",
        "artifact_sha256",
    }

    def left(lease: Lease) -> list[dict[str, object]]:
        with store.database.reading() as session:
            submission = session.scalars(
                select(SubmissionRow).where(SubmissionRow.id == lease.submission.id)
            ).one()
            number = submission.number
            runs = session.scalars(
                select(EvaluationRow).where(EvaluationRow.submission_number == number)
            ).all()
            events = session.scalars(
                select(EventRow)
                .where(EventRow.submission_number == number)
                .order_by(EventRow.version)
            ).all()
            assert events[-1].details == {"evaluation": lease.evaluation.id, "attempt": "1"}
            return [
                {
                    item.name: getattr(row, item.name)
                    for item in row.__table__.columns
                    if item.name not in own
                }
                for row in (submission, *runs, *events)
            ]

    assert left(leases[0]) == left(leases[1])
    assert [lease.evaluation.state for lease in leases] == [EvaluationState.RUNNING] * 2
    assert leases[0].submission.state == leases[1].submission.state == SubmissionStates.RUNNING
    assert len({lease.token for lease in leases}) == 2


def test_no_more_than_some_boards_are_kept(store: Store) -> None:
    store.published(0.8)
    first = store.boards.ranked_rows(PARENT)
    assert isinstance(first, tuple), "a cached board must not be mutable"
    assert store.boards.ranked_rows(PARENT) is first
    for number in range(KEPT_BOARDS):
        store.benchmarks.create(small_spec(f"other-{number}"))
        store.boards.ranked_rows(BenchmarkName(f"other-{number}"))
    assert store.boards.ranked_rows(PARENT) is not first


def test_board_that_is_read_while_rows_are_published_is_always_whole(store: Store) -> None:
    done = threading.Event()

    def read() -> list[list[float | None]]:
        found = []
        while not done.is_set():
            found.append([row.score for row in store.boards.ranked_rows(PARENT)])
        return found

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read) for _ in range(3)]
        for number in range(8):
            store.published(0.5 + number / 100)
        done.set()
        boards = [reader.result(timeout=60) for reader in readers]
    assert len(store.boards.ranked_rows(PARENT)) == 8
    for found in boards:
        assert all(
            None not in scores and scores == sorted(scores, reverse=True) for scores in found
        )
        assert [len(scores) for scores in found] == sorted(len(scores) for scores in found)


def test_rows_are_compared_in_the_order_asked_for(store: Store) -> None:
    low, high = store.published(0.7)[0], store.published(0.9)[0]
    names = [SubmissionName(SPEC.name, item) for item in (low, high)]
    compared = store.boards.compared(PARENT, names, EVERYBODY)
    (pair,) = compared.pairs
    assert (pair.first, pair.second) == (low, high)
    assert pair.difference == pytest.approx(-0.2)
    assert compared.frequencies == {low: (0.0, 1.0), high: (1.0, 0.0)}
    queued = SubmissionName(SPEC.name, store.queued().id)
    with pytest.raises(NotComparable, match="it has no score"):
        store.boards.compared(PARENT, [*names, queued], EVERYBODY)
    with pytest.raises(SubmissionNotFound):
        store.boards.compared(PARENT, [*names, SubmissionName(SPEC.name, "0" * 32)], EVERYBODY)
    with pytest.raises(BenchmarkNotFound):
        store.boards.compared(BenchmarkName("other"), names, EVERYBODY)


def test_fault_of_the_submission_is_final(store: Store) -> None:
    store.queued()
    lease, name = store.lease()
    failure = Failure("MODEL_OUTPUT_MISMATCH", "13 columns; expected 14", Fault.SUBMISSION)
    failed = store.evaluations.fail(name, lease.token, failure, EVERYBODY)
    assert (failed.state, failed.failure) == (EvaluationState.FAILED, failure)
    assert (store.submission(lease).state, store.submission(lease).failure) == ("failed", failure)
    assert store.evaluations.lease("worker", [PARENT], EVERYBODY) is None


def test_fault_of_the_platform_is_tried_again_until_the_attempts_are_used_up(store: Store) -> None:
    store.queued()
    failure = Failure("SERVICE_UNAVAILABLE", "inference is gone", Fault.SYSTEM)
    states = []
    for _ in range(MAX_ATTEMPTS):
        lease, name = store.lease()
        states.append(
            (
                store.evaluations.fail(name, lease.token, failure, EVERYBODY).state,
                store.submission(lease).state,
            )
        )
        assert store.evaluations.lease("at once", [PARENT], EVERYBODY) is None
        store.wait(LEASE_SECONDS)
    assert states == [("queued", "queued"), ("queued", "queued"), ("failed", "failed")]
    assert store.evaluations.get(name, EVERYBODY).failure == failure
    assert store.evaluations.lease("worker", [PARENT], EVERYBODY) is None


def test_states_are_counted_including_those_without_any(store: Store) -> None:
    store.queued()
    store.lease()
    store.submissions.create(PARENT, MANIFEST, "", EVERYBODY)
    nothing = dict.fromkeys(SubmissionStates, 0)
    assert store.database.submissions_by_state() == nothing | {"awaiting_artifact": 1, "running": 1}
    assert store.database.evaluations_by_state() == dict.fromkeys(EvaluationState, 0) | {
        "running": 1
    }


def test_completion_and_takeover_at_once_have_one_winner(store: Store) -> None:
    """The lease expires while the old worker completes and a new one asks: only one succeeds."""
    for _ in range(5):
        store.queued()
        lease, name = store.lease_with_predictions("old")
        store.wait(LEASE_SECONDS)
        old_clock = Evaluations(
            store.database,
            lambda: store.time - timedelta(seconds=1),
            SIGNER,
            LEASE_SECONDS,
            MAX_ATTEMPTS,
        )
        with ThreadPoolExecutor(2) as pool:
            completing = pool.submit(_outcome, old_clock, name, lease.token)
            lease = pool.submit(store.evaluations.lease, "new", [PARENT], EVERYBODY)
            taken = lease.result(timeout=60)
        assert completing.result(timeout=60) == (taken is None)
        if taken:
            store.evaluations.confirm(name, taken.token, 1, EVERYBODY)
            store.evaluations.complete(name, taken.token, REPORT, {}, EVERYBODY)


def _outcome(evaluations: Evaluations, name: EvaluationName, token: str) -> bool:
    try:
        evaluations.complete(name, token, REPORT, {}, EVERYBODY)
    except CxrevalError:
        return False
    return True
