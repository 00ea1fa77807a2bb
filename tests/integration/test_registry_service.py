"""The registry as a process, called over gRPC with the raw stubs."""

from __future__ import annotations

import hashlib
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import grpc
import numpy as np
import pytest
import sqlalchemy
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cxreval.api.registry.v1 import artifact_service_pb2 as artifact_pb
from cxreval.api.registry.v1 import benchmark_service_pb2 as benchmark_pb
from cxreval.api.registry.v1 import evaluation_service_pb2 as evaluation_pb
from cxreval.api.registry.v1 import leaderboard_service_pb2 as leaderboard_pb
from cxreval.api.registry.v1 import submission_pb2 as pb
from cxreval.api.registry.v1 import submission_service_pb2 as submission_pb
from cxreval.api.scoring.v1 import report_pb2
from cxreval.audit.receipts import Signer
from cxreval.client import RegistryClient
from cxreval.datasets.benchmark import MOST_REPLICATES, BenchmarkSpec
from cxreval.datasets.benchmark_file import load_spec
from cxreval.datasets.nih import FINDINGS
from cxreval.errors import MalformedField
from cxreval.files import MAX_FILE_BYTES
from cxreval.metrics.predictions import PredictionTable, image_rows
from cxreval.metrics.ranking import Significance
from cxreval.metrics.registry import METRICS
from cxreval.metrics.report import Interval
from cxreval.wire import reports
from cxreval.wire.limits import CHUNK_BYTES, MAX_RECORD_BYTES
from cxreval.wire.status import from_rpc_error
from services.registry import migrations
from services.registry.__main__ import migrate
from services.registry.store.database import Database
from tests.support.processes import Service
from tests.support.registry import (
    COMMIT,
    DATABASES,
    Registry,
    benchmark_message,
    fresh_database,
    manifest_message,
    migrated_database,
    registry_service,
    report_message,
    small_images,
    small_spec,
    sqlite_url,
    upload_messages,
)
from tests.support.waiting import wait_for

ARTIFACT = bytes(range(256)) * 8192  # 2 MiB: two chunks
MISSING = "benchmarks/missing"
NIH = "benchmarks/nih-chestxray14"


class Running:
    """A running registry, its stored data, and its stubs."""

    def __init__(self, directory: Path, *flags: str, database_url: str = "") -> None:
        self.directory = directory
        self.service: Service = registry_service(
            directory, *flags, database_url=database_url
        ).start()
        self.database = sqlalchemy.create_engine(database_url or sqlite_url(directory))
        self.call = Registry(self.service.address)

    def close(self) -> int:
        self.call.channel.close()
        self.database.dispose()
        return self.service.stop()

    def restart(self, *, kill: bool) -> None:
        self.call.channel.close()
        if kill:
            self.service.kill()
        else:
            assert self.service.stop() == 0
        self.service.start()
        self.call = Registry(self.service.address)

    def count(self, table: str) -> int:
        with self.database.connect() as connection:
            return int(connection.scalar(sqlalchemy.text(f"SELECT count(*) FROM {table}")) or 0)

    def kept(self) -> tuple[int, int, int, list[str]]:
        """Rows of submissions, artifacts and evaluations, and the names of all stored files."""
        directory = self.directory / "artifacts"
        files = sorted(file.name for file in directory.rglob("*") if file.is_file())
        return self.count("submissions"), self.count("artifacts"), self.count("evaluations"), files


@pytest.fixture(scope="module", params=DATABASES)
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("registry")
    found = Running(directory, database_url=migrated_database(request.param, directory))
    yield found
    assert found.close() == 0


@pytest.fixture
def benchmark(running: Running, request: pytest.FixtureRequest) -> str:
    """Id of a benchmark that only this test uses."""
    name = f"t-{hashlib.sha256(request.node.name.encode()).hexdigest()[:16]}"
    running.call.create_benchmark(small_spec(name))
    return name


def field_error(call: Callable[[], Any]) -> tuple[grpc.StatusCode, str, str]:
    """Returns code, reason and field of the error of a call."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error = from_rpc_error(caught.value)
    return caught.value.code(), error.reason, error.metadata.get("field", "")


INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION


# --- the board of a new installation --------------------------------------------------------------


def test_new_installation_shows_the_published_board_and_its_one_step(running: Running) -> None:
    board = running.call.leaderboard.ListLeaderboardEntries(
        leaderboard_pb.ListLeaderboardEntriesRequest(parent=NIH)
    ).entries
    rows = [
        (row.rank, row.model, row.organisation, row.submitted_date, round(100 * row.score, 2))
        for row in board
    ]
    assert rows == [
        (1, "TorchXRayVision", "Cohen Lab", "2025-12-19", 85.80),
        (2, "CheXNet", "Stanford ML Group", "2025-12", 84.10),
        (3, "DenseNet-121 (Chest X-ray)", "Research", "2025-12", 82.60),
        (4, "ResNet-50 (Chest X-ray)", "Research", "2025-12", 80.40),
    ]
    assert {row.tier for row in board} == {pb.TIER_CLAIMED}
    assert [row.sota for row in board] == [True, False, False, False]
    assert [row.source_kind for row in board] == [
        pb.SOURCE_KIND_GITHUB_README,
        *[pb.SOURCE_KIND_RESEARCH_PAPER] * 3,
    ]
    assert all(row.open_source and row.note and not row.profile_digest for row in board)
    steps = running.call.leaderboard.ListSotaSteps(
        leaderboard_pb.ListSotaStepsRequest(parent=NIH)
    ).steps
    assert [(step.model, step.submitted_date) for step in steps] == [
        ("TorchXRayVision", "2025-12-19")
    ]
    seeded = running.call.benchmarks.GetBenchmark(benchmark_pb.GetBenchmarkRequest(name=NIH))
    assert seeded.digest == load_spec("nih-chestxray14").digest


# --- a whole life ---------------------------------------------------------------------------------


def without_evidence(report: report_pb2.Report) -> report_pb2.Report:
    found = report_pb2.Report()
    found.CopyFrom(report)
    found.ClearField("evidence")
    return found


def predictions(*images: str, value: float = 0.25) -> report_pb2.PredictionBatch:
    return reports.batch_message(images, np.full((len(images), len(FINDINGS)), value, np.float32))


@pytest.mark.parametrize("kind", DATABASES)
def test_submission_goes_from_manifest_to_board_and_survives_a_restart(
    kind: str, tmp_path: Path
) -> None:
    running = Running(tmp_path, database_url=migrated_database(kind, tmp_path))
    call, spec = running.call, small_spec("life")
    call.create_benchmark(spec)

    created = call.create_submission("life", ARTIFACT)
    assert (created.kind, created.state) == (
        pb.Submission.KIND_CHECKPOINT,
        pb.Submission.STATE_AWAITING_ARTIFACT,
    )
    assert created.manifest == manifest_message(ARTIFACT)
    assert (created.tier, created.evaluation, created.images_total) == (pb.TIER_UNSPECIFIED, "", 4)

    queued = call.artifacts.UploadArtifact(upload_messages(created.name, ARTIFACT)).submission
    assert queued.state == pb.Submission.STATE_QUEUED
    artifact = f"artifacts/{created.manifest.artifact_sha256}"
    chunks = call.artifacts.DownloadArtifact(artifact_pb.DownloadArtifactRequest(name=artifact))
    assert b"".join(message.chunk for message in chunks) == ARTIFACT

    lease = call.lease("life", "worker-1")
    name, token = lease.evaluation.name, lease.token
    assert (lease.submission.state, lease.duration.seconds) == (pb.Submission.STATE_RUNNING, 60)
    assert (lease.submission.name, lease.benchmark.digest) == (created.name, spec.digest)
    for batch, done in (
        (predictions("0.png", "1.png"), 2),
        (predictions("1.png", "2.png", value=0.75), 3),
        (predictions("3.png"), 4),
    ):
        request = evaluation_pb.AppendPredictionsRequest(evaluation=name, token=token, batch=batch)
        assert call.evaluations.AppendPredictions(request).images_done == done
    renewed = call.evaluations.RenewLease(
        evaluation_pb.RenewLeaseRequest(evaluation=name, token=token)
    )
    assert 55 < renewed.expire_time.seconds - time.time() < 65

    answers = call.evaluations.ReadPredictions(
        evaluation_pb.ReadPredictionsRequest(evaluation=name, token=token)
    )
    recorded = [answer.batch for answer in answers]
    assert [image for batch in recorded for image in batch.images] == [
        "0.png",
        "1.png",
        "2.png",
        "3.png",
    ]
    values = np.concatenate([reports.probabilities(batch) for batch in recorded])
    assert values.tolist() == [0.25] * 28 + [0.75] * 14 + [0.25] * 14

    table = PredictionTable(image_rows(small_images()), FINDINGS)
    table.add(small_images(), values)
    report = report_message(spec, 0.8, predictions_sha256=table.sha256())
    completion = evaluation_pb.CompleteEvaluationRequest(
        evaluation=name,
        token=token,
        report=report,
        provenance={"profile_digest": "p" * 64, "device": "cpu"},
    )
    done = call.evaluations.CompleteEvaluation(completion)
    assert (done.state, done.images_done) == (evaluation_pb.Evaluation.STATE_SUCCEEDED, 4)
    assert done.report == without_evidence(report)
    assert call.evaluations.CompleteEvaluation(completion) == done

    running.restart(kill=False)
    call = running.call
    assert call.evaluations.GetEvaluation(evaluation_pb.GetEvaluationRequest(name=name)) == done
    kept = call.evaluations.GetEvidence(evaluation_pb.GetEvidenceRequest(evaluation=name)).evidence
    assert kept == report.evidence
    published = call.submissions.GetSubmission(
        submission_pb.GetSubmissionRequest(name=created.name)
    )
    assert (published.state, published.tier) == (pb.Submission.STATE_PUBLISHED, pb.TIER_EXECUTED)
    board = call.leaderboard.ListLeaderboardEntries(
        leaderboard_pb.ListLeaderboardEntriesRequest(parent="benchmarks/life")
    ).entries
    assert [
        (row.rank, row.score, row.sota, row.tier, row.profile_digest, len(row.metrics))
        for row in board
    ] == [(1, 0.8, True, pb.TIER_EXECUTED, "p" * 64, 15 * len(METRICS))]
    assert running.close() == 0


# --- manifests that are refused -------------------------------------------------------------------

HOW = {"repository": "https://example.org/repository", "seed": 7}


@pytest.mark.parametrize(
    ("changes", "reason", "field"),
    [
        (
            {"reproduction": pb.Reproduction(commit="main", **HOW)},
            "COMMIT_NOT_FROZEN",
            "manifest.reproduction.commit",
        ),
        ({"contact": ""}, "MISSING_FIELD", "manifest.contact"),
        ({"contact": "nobody"}, "MALFORMED_FIELD", "manifest.contact"),
        ({"preprocessing_profile": "xrv-999"}, "UNKNOWN_PROFILE", "manifest.preprocessing_profile"),
        (
            {"output_names": [*FINDINGS[:-1], "Hernias"]},
            "UNKNOWN_FINDING",
            "manifest.output_names[13]",
        ),
        ({"output_names": ["Fracture"]}, "OUTPUTS_INCOMPLETE", "manifest.output_names"),
        (
            {"preprocessing_profile": "", "preprocessing": pb.Preprocessing(layout=99)},
            "MALFORMED_FIELD",
            "manifest.preprocessing.layout",
        ),
        ({"outputs": pb.Outputs()}, "MISSING_FIELD", "manifest.outputs.activation"),
        ({"output_names": ["", ""]}, "OUTPUTS_INCOMPLETE", "manifest.output_names"),
        (
            {"claimed_metrics": [pb.ClaimedMetric(metric="f1")]},
            "UNKNOWN_METRIC",
            "manifest.claimed_metrics[0].metric",
        ),
        ({"source_kind": pb.SOURCE_KIND_UNSPECIFIED}, "MISSING_FIELD", "manifest.source_kind"),
        ({"source_kind": 99}, "MALFORMED_FIELD", "manifest.source_kind"),
        ({"artifact_sha256": "not a digest"}, "MALFORMED_FIELD", "manifest.artifact_sha256"),
        ({"submitted_date": "2999-01-01"}, "MALFORMED_FIELD", "manifest.submitted_date"),
        ({"environment": pb.Environment()}, "MISSING_FIELD", "manifest.environment.python_version"),
        (
            {"reproduction": pb.Reproduction(commit=COMMIT)},
            "MISSING_FIELD",
            "manifest.reproduction.repository",
        ),
        ({"model": "\U0001fa7b" * 100_000}, "MALFORMED_FIELD", "manifest.model"),
    ],
)
def test_refused_manifest_is_named_and_leaves_nothing(
    running: Running, benchmark: str, changes: dict[str, Any], reason: str, field: str
) -> None:
    before = running.kept()
    found = field_error(lambda: running.call.create_submission(benchmark, ARTIFACT, **changes))
    assert found == (INVALID, reason, field)
    assert running.kept() == before


def create(running: Running, parent: str, request_id: str = "", **changes: Any) -> pb.Submission:
    request = submission_pb.CreateSubmissionRequest(
        parent=parent, manifest=manifest_message(ARTIFACT, **changes), request_id=request_id
    )
    return running.call.submissions.CreateSubmission(request)


def test_submission_to_an_unknown_benchmark_is_refused(running: Running) -> None:
    assert field_error(lambda: create(running, MISSING))[:2] == (NOT_FOUND, "BENCHMARK_NOT_FOUND")
    assert field_error(lambda: create(running, "missing")) == (INVALID, "MALFORMED_FIELD", "parent")


def test_creation_can_be_repeated_with_its_request_id(running: Running, benchmark: str) -> None:
    parent, request_id = f"benchmarks/{benchmark}", "123e4567-e89b-12d3-a456-426614174000"
    first = create(running, parent, request_id)
    assert create(running, parent, request_id) == first
    other = field_error(lambda: create(running, parent, request_id, model="Other"))
    assert other == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED", "request_id")
    assert field_error(lambda: create(running, parent, "7")) == (
        INVALID,
        "MALFORMED_FIELD",
        "request_id",
    )
    listed = running.call.submissions.ListSubmissions(
        submission_pb.ListSubmissionsRequest(parent=parent)
    )
    assert list(listed.submissions) == [first]


@pytest.mark.parametrize("text", ["x" * 100_000, "\U0001fa7b" * 100_000])
def test_error_about_a_huge_name_still_reaches_the_caller(running: Running, text: str) -> None:
    request = submission_pb.GetSubmissionRequest(name=f"benchmarks/{text}")
    found = field_error(lambda: running.call.submissions.GetSubmission(request))
    assert found == (INVALID, "MALFORMED_FIELD", "name")


# --- uploads --------------------------------------------------------------------------------------


def header(submission: str, size: int) -> artifact_pb.UploadArtifactRequest:
    content = artifact_pb.UploadArtifactHeader(submission=submission, size_bytes=size)
    return artifact_pb.UploadArtifactRequest(header=content)


def chunk(content: bytes) -> artifact_pb.UploadArtifactRequest:
    return artifact_pb.UploadArtifactRequest(chunk=content)


OTHER = bytes(len(ARTIFACT))
SIZE = len(ARTIFACT)


@pytest.mark.parametrize(
    ("messages", "reason", "field"),
    [
        (lambda name: upload_messages(name, OTHER), "DIGEST_MISMATCH", "manifest.artifact_sha256"),
        (
            lambda name: upload_messages(name, ARTIFACT, size_bytes=SIZE - 1),
            "ARTIFACT_TOO_LARGE",
            "header.size_bytes",
        ),
        (
            lambda name: [header(name, MAX_FILE_BYTES + 1)],
            "ARTIFACT_TOO_LARGE",
            "header.size_bytes",
        ),
        (lambda name: [header(name, 0)], "MALFORMED_FIELD", "header.size_bytes"),
        (lambda name: [header(name, -1)], "MALFORMED_FIELD", "header.size_bytes"),
        (lambda _: [header("benchmarks/b", 1)], "MALFORMED_FIELD", "header.submission"),
        (lambda _: [], "MALFORMED_STREAM", "header"),
        (lambda _: [chunk(b"bytes")], "MALFORMED_STREAM", "header"),
        (lambda name: [header(name, SIZE), header(name, SIZE)], "MALFORMED_STREAM", "chunk"),
        (
            lambda name: [header(name, SIZE), chunk(ARTIFACT[: CHUNK_BYTES + 1])],
            "MALFORMED_STREAM",
            "chunk",
        ),
        (lambda name: [header(name, SIZE), chunk(b"")], "MALFORMED_STREAM", "chunk"),
        (lambda name: [header(name, SIZE)], "ARTIFACT_INCOMPLETE", "header.size_bytes"),
    ],
)
def test_refused_upload_is_named_leaves_nothing_and_can_be_repeated(
    running: Running, benchmark: str, messages: Callable[[str], Any], reason: str, field: str
) -> None:
    created = running.call.create_submission(benchmark, ARTIFACT)
    before = running.kept()
    upload = iter(messages(created.name))
    error = field_error(lambda: running.call.artifacts.UploadArtifact(upload))
    assert error == (INVALID, reason, field)
    assert running.kept() == before
    again = running.call.submissions.GetSubmission(
        submission_pb.GetSubmissionRequest(name=created.name)
    )
    assert again == created
    good = running.call.artifacts.UploadArtifact(upload_messages(created.name, ARTIFACT)).submission
    assert good.state == pb.Submission.STATE_QUEUED


def test_upload_to_a_queued_or_unknown_submission_is_refused(
    running: Running, benchmark: str
) -> None:
    queued = running.call.submit(benchmark, ARTIFACT)
    before = running.kept()
    again = field_error(
        lambda: running.call.artifacts.UploadArtifact(upload_messages(queued.name, ARTIFACT))
    )
    assert again == (PRECONDITION, "SUBMISSION_STATE", "header.submission")
    unknown = f"benchmarks/{benchmark}/submissions/{'0' * 32}"
    missing = field_error(
        lambda: running.call.artifacts.UploadArtifact(upload_messages(unknown, ARTIFACT))
    )
    assert missing[:2] == (NOT_FOUND, "SUBMISSION_NOT_FOUND")
    assert running.kept() == before


def half_an_upload(
    submission: str, artifact: bytes, half_sent: threading.Event, go_on: threading.Event
) -> Iterator[Any]:
    messages = upload_messages(submission, artifact)
    yield next(messages)
    yield next(messages)
    half_sent.set()
    go_on.wait(30)


def unfinished(running: Running) -> list[Path]:
    return [
        file
        for file in (running.directory / "artifacts" / "uploads").iterdir()
        if file.stat().st_size
    ]


# --- artifacts ------------------------------------------------------------------------------------


def download(running: Running, sha256: str) -> list[int]:
    request = artifact_pb.DownloadArtifactRequest(name=f"artifacts/{sha256}")
    return [len(message.chunk) for message in running.call.artifacts.DownloadArtifact(request)]


def test_artifact_comes_in_chunks_and_corruption_is_data_loss(
    running: Running, benchmark: str
) -> None:
    artifact = ARTIFACT + b"corrupt"
    sha256 = running.call.submit(benchmark, artifact).manifest.artifact_sha256
    assert download(running, sha256) == [CHUNK_BYTES, CHUNK_BYTES, 7]
    file = running.directory / "artifacts" / sha256[:2] / sha256
    file.write_bytes(artifact[:-1] + b"T")
    assert field_error(lambda: download(running, sha256))[:2] == (
        grpc.StatusCode.DATA_LOSS,
        "ARTIFACT_CORRUPT",
    )
    file.write_bytes(artifact)


def test_unknown_artifact_is_not_found(running: Running) -> None:
    assert field_error(lambda: download(running, "0" * 64))[:2] == (NOT_FOUND, "ARTIFACT_NOT_FOUND")
    assert field_error(lambda: download(running, "../../registry.db")) == (
        INVALID,
        "MALFORMED_FIELD",
        "name",
    )


# --- workers --------------------------------------------------------------------------------------


def test_nothing_to_do_is_an_answer_without_lease(running: Running, benchmark: str) -> None:
    request = evaluation_pb.LeaseEvaluationRequest(
        worker="w", benchmarks=[f"benchmarks/{benchmark}"]
    )
    assert not running.call.evaluations.LeaseEvaluation(request).HasField("lease")
    nobody = evaluation_pb.LeaseEvaluationRequest(benchmarks=[f"benchmarks/{benchmark}"])
    assert field_error(lambda: running.call.evaluations.LeaseEvaluation(nobody)) == (
        INVALID,
        "MISSING_FIELD",
        "worker",
    )
    nowhere = evaluation_pb.LeaseEvaluationRequest(worker="w")
    found = field_error(lambda: running.call.evaluations.LeaseEvaluation(nowhere))
    assert found == (INVALID, "MISSING_FIELD", "benchmarks")


def test_refused_predictions_and_reports_change_nothing(running: Running, benchmark: str) -> None:
    running.call.submit(benchmark, ARTIFACT)
    lease = running.call.lease(benchmark)
    name, token, spec = lease.evaluation.name, lease.token, small_spec(benchmark)

    def append(batch: report_pb2.PredictionBatch) -> Any:
        return running.call.evaluations.AppendPredictions(
            evaluation_pb.AppendPredictionsRequest(evaluation=name, token=token, batch=batch)
        )

    def complete(report: report_pb2.Report) -> Any:
        return running.call.evaluations.CompleteEvaluation(
            evaluation_pb.CompleteEvaluationRequest(evaluation=name, token=token, report=report)
        )

    narrow = reports.batch_message(["0.png"], np.full((1, 13), 0.5, np.float32))
    assert field_error(lambda: append(narrow)) == (
        INVALID,
        "MALFORMED_BATCH",
        "batch.probabilities",
    )
    not_a_number = predictions("0.png", value=float("nan"))
    assert field_error(lambda: append(not_a_number)) == (
        INVALID,
        "INVALID_PROBABILITY",
        "batch.probabilities[0]",
    )
    foreign = predictions("0.png", "4.png")
    assert field_error(lambda: append(foreign)) == (INVALID, "UNKNOWN_IMAGE", "batch.images[1]")
    other = report_message(spec, benchmark_digest="0" * 64)
    assert field_error(lambda: complete(other)) == (
        INVALID,
        "REPORT_MISMATCH",
        "report.benchmark_digest",
    )
    torn = report_message(spec)
    torn.evidence.replicates[0].values += b"x"
    assert field_error(lambda: complete(torn)) == (
        INVALID,
        "REPORT_MISMATCH",
        "report.evidence.replicates",
    )
    bare = report_message(spec, evidence=None)
    assert field_error(lambda: complete(bare)) == (INVALID, "REPORT_MISMATCH", "report.evidence")
    still = running.call.evaluations.GetEvaluation(evaluation_pb.GetEvaluationRequest(name=name))
    assert still == lease.evaluation


def test_failure_of_the_submission_is_shown_to_its_submitter(
    running: Running, benchmark: str
) -> None:
    queued = running.call.submit(benchmark, ARTIFACT)
    lease = running.call.lease(benchmark)
    failure = pb.Failure(
        reason="MODEL_NOT_ONNX", message="not an ONNX file", fault=pb.Failure.FAULT_SUBMISSION
    )
    request = evaluation_pb.FailEvaluationRequest(
        evaluation=lease.evaluation.name, token=lease.token, failure=failure
    )
    assert (
        running.call.evaluations.FailEvaluation(request).state
        == evaluation_pb.Evaluation.STATE_FAILED
    )
    failed = running.call.submissions.GetSubmission(
        submission_pb.GetSubmissionRequest(name=queued.name)
    )
    assert (failed.state, failed.failure) == (pb.Submission.STATE_FAILED, failure)
    assert field_error(lambda: running.call.evaluations.FailEvaluation(request))[:2] == (
        PRECONDITION,
        "LEASE_LOST",
    )
    board = leaderboard_pb.ListLeaderboardEntriesRequest(parent=f"benchmarks/{benchmark}")
    assert not running.call.leaderboard.ListLeaderboardEntries(board).entries


# --- kill -9 and takeover -------------------------------------------------------------------------


def test_kill_loses_nothing_that_was_answered_and_keeps_nothing_half_written(
    tmp_path: Path,
) -> None:
    running = Running(tmp_path, "--lease-seconds=2")
    running.call.create_benchmark(small_spec("killed"))
    first = running.call.submit("killed", ARTIFACT)
    lease = running.call.lease("killed", "old")
    append = evaluation_pb.AppendPredictionsRequest(
        evaluation=lease.evaluation.name,
        token=lease.token,
        batch=predictions("0.png", "1.png", "2.png"),
    )
    assert running.call.evaluations.AppendPredictions(append).images_done == 3

    artifact = ARTIFACT + b"killed"
    second = running.call.create_submission("killed", artifact)
    half_sent, go_on = threading.Event(), threading.Event()
    upload = running.call.artifacts.UploadArtifact.future(
        half_an_upload(second.name, artifact, half_sent, go_on)
    )
    half_sent.wait(10)
    wait_for(lambda: len(unfinished(running)) == 1)
    before = running.kept()[:3]
    running.restart(kill=True)
    go_on.set()
    with pytest.raises((grpc.RpcError, grpc.FutureCancelledError)):
        upload.result(timeout=10)
    assert running.kept()[:3] == before
    received = running.call.artifacts.GetUpload(
        artifact_pb.GetUploadRequest(submission=second.name)
    ).received_bytes
    assert received == CHUNK_BYTES
    rest = upload_messages(second.name, artifact, offset=received)
    assert (
        running.call.artifacts.UploadArtifact(rest).submission.state == pb.Submission.STATE_QUEUED
    )
    sha256 = hashlib.sha256(artifact).hexdigest()
    assert running.kept()[3] == sorted([first.manifest.artifact_sha256, sha256])

    # The old lease expired while the registry was down: the next worker resumes its evaluation.
    time.sleep(2)
    taken = running.call.lease("killed", "new")
    renew = evaluation_pb.RenewLeaseRequest(evaluation=lease.evaluation.name, token=lease.token)
    assert field_error(lambda: running.call.evaluations.RenewLease(renew)) == (
        PRECONDITION,
        "LEASE_LOST",
        "token",
    )
    assert (taken.evaluation.name, taken.evaluation.attempt) == (lease.evaluation.name, 2)
    assert (taken.evaluation.worker, taken.evaluation.images_done) == ("new", 3)
    read = evaluation_pb.ReadPredictionsRequest(evaluation=taken.evaluation.name, token=taken.token)
    recorded = [answer.batch for answer in running.call.evaluations.ReadPredictions(read)]
    assert recorded == [predictions("0.png", "1.png", "2.png")]
    assert running.close() == 0


def test_lease_outlives_a_killed_registry(tmp_path: Path) -> None:
    running = Running(tmp_path)
    running.call.create_benchmark(small_spec("killed"))
    running.call.submit("killed", ARTIFACT)
    lease = running.call.lease("killed")
    running.restart(kill=True)
    done = running.call.complete(lease, report_message(small_spec("killed")))
    assert done.state == evaluation_pb.Evaluation.STATE_SUCCEEDED
    assert running.close() == 0


# --- lists ----------------------------------------------------------------------------------------


def read_pages(
    call: Callable[..., Any], request: Callable[..., Any], field: str, **fields: str
) -> list[Any]:
    """Returns all items of a list, read with a page size of two."""
    found, token = [], ""
    while True:
        page = call(request(page_size=2, page_token=token, **fields))
        items = getattr(page, field)
        assert len(items) <= 2
        found += items
        token = page.next_page_token
        if not token:
            return found


def test_every_list_is_read_in_pages_and_refuses_foreign_tokens(
    running: Running, benchmark: str
) -> None:
    parent, spec = f"benchmarks/{benchmark}", small_spec(benchmark)
    names = []
    for number, score in enumerate((0.6, 0.9, 0.7, 0.8, 0.95)):
        date = f"2025-01-0{number + 1}"
        names.append(
            running.call.submit(
                benchmark, ARTIFACT, model=f"Model {number}", submitted_date=date
            ).name
        )
        lease = running.call.lease(benchmark)
        running.call.complete(lease, report_message(spec, score))
    call = running.call
    benchmarks = (call.benchmarks.ListBenchmarks, benchmark_pb.ListBenchmarksRequest, "benchmarks")
    submissions = (
        call.submissions.ListSubmissions,
        submission_pb.ListSubmissionsRequest,
        "submissions",
    )
    evaluations = (
        call.evaluations.ListEvaluations,
        evaluation_pb.ListEvaluationsRequest,
        "evaluations",
    )
    entries = (
        call.leaderboard.ListLeaderboardEntries,
        leaderboard_pb.ListLeaderboardEntriesRequest,
        "entries",
    )
    steps = (call.leaderboard.ListSotaSteps, leaderboard_pb.ListSotaStepsRequest, "steps")

    found = [item.name for item in read_pages(*benchmarks)]
    assert found[0] == NIH
    assert len(found) == len(set(found)) == running.count("benchmarks")
    assert [item.name for item in read_pages(*submissions, parent=parent)] == names
    assert len(read_pages(*evaluations, parent=names[0])) == 1
    ranks = [(item.rank, item.score, item.sota) for item in read_pages(*entries, parent=parent)]
    assert ranks == [
        (1, 0.95, True),
        (2, 0.9, False),
        (3, 0.8, False),
        (4, 0.7, False),
        (5, 0.6, False),
    ]
    assert [item.score for item in read_pages(*steps, parent=parent)] == [0.6, 0.9, 0.95]

    foreign = submissions[0](submissions[1](parent=parent, page_size=1)).next_page_token
    _refuses_foreign_lists(entries[0], entries[1], parent, foreign)
    _refuses_foreign_lists(steps[0], steps[1], parent, foreign)
    assert (
        field_error(lambda: benchmarks[0](benchmarks[1](page_token=foreign)))[1]
        == "INVALID_PAGE_TOKEN"
    )
    assert (
        field_error(lambda: submissions[0](submissions[1](parent=NIH, page_token=foreign)))[1]
        == "INVALID_PAGE_TOKEN"
    )
    assert (
        field_error(lambda: submissions[0](submissions[1](parent=MISSING)))[1]
        == "BENCHMARK_NOT_FOUND"
    )
    unknown = f"{parent}/submissions/{'0' * 32}"
    assert (
        field_error(lambda: evaluations[0](evaluations[1](parent=unknown)))[1]
        == "SUBMISSION_NOT_FOUND"
    )


def _refuses_foreign_lists(
    call: Callable[..., Any], request: Callable[..., Any], parent: str, token: str
) -> None:
    found = field_error(lambda: call(request(parent=parent, page_token=token)))
    assert found == (INVALID, "INVALID_PAGE_TOKEN", "page_token")
    assert field_error(lambda: call(request(parent=MISSING)))[:2] == (
        NOT_FOUND,
        "BENCHMARK_NOT_FOUND",
    )
    assert field_error(lambda: call(request(parent=parent, page_size=-1))) == (
        INVALID,
        "MALFORMED_FIELD",
        "page_size",
    )


# --- ranks, comparisons, evidence -----------------------------------------------------------------


def publish(
    running: Running, spec: BenchmarkSpec, report: report_pb2.Report, **manifest: Any
) -> tuple[str, str]:
    """Publishes a new row; returns the names of its submission and its evaluation."""
    submission = running.call.submit(spec.name, ARTIFACT, **manifest).name
    lease = running.call.lease(spec.name)
    running.call.complete(lease, report)
    return submission, lease.evaluation.name


NOISY_SCORES = (0.800, 0.700, 0.801, 0.802, 0.600)


@pytest.fixture
def noisy(running: Running, benchmark: str) -> list[tuple[str, str]]:
    """Five rows, created a day apart: three inseparable ones, and two that are clearly worse."""
    spec = small_spec(benchmark)
    return [
        publish(
            running,
            spec,
            report_message(spec, score, own_noise=day),
            submitted_date=f"2025-01-{day:02}",
        )
        for day, score in enumerate(NOISY_SCORES, 1)
    ]


def test_rows_that_cannot_be_told_apart_share_a_rank_across_pages(
    running: Running, benchmark: str, noisy: list[tuple[str, str]]
) -> None:
    parent = f"benchmarks/{benchmark}"
    request = leaderboard_pb.ListLeaderboardEntriesRequest
    rows = read_pages(
        running.call.leaderboard.ListLeaderboardEntries, request, "entries", parent=parent
    )
    assert [(row.score, row.rank, row.sota) for row in rows] == [
        (0.802, 1, True), (0.801, 1, False), (0.800, 1, False), (0.700, 4, False),
        (0.600, 5, False),
    ]  # fmt: skip
    assert [(row.spread.rank_low, row.spread.rank_high) for row in rows] == [(1, 3)] * 3 + [
        (4, 4),
        (5, 5),
    ]
    assert sum(row.spread.first_share for row in rows) == pytest.approx(1)
    assert [(row.spread.mean_finding_rank, row.spread.finding_place) for row in rows] == [
        (n, n) for n in range(1, 6)
    ]
    assert not any(
        row.spread.places_disagree or any(value.slice for value in row.metrics) for row in rows
    )
    assert [row.interval.low for row in rows] == pytest.approx([row.score - 0.02 for row in rows])
    steps = running.call.leaderboard.ListSotaSteps(
        leaderboard_pb.ListSotaStepsRequest(parent=parent)
    ).steps
    assert [(step.score, step.significance) for step in steps] == [
        (0.800, leaderboard_pb.SIGNIFICANCE_FIRST),
        (0.801, leaderboard_pb.SIGNIFICANCE_WITHIN_NOISE),
        (0.802, leaderboard_pb.SIGNIFICANCE_WITHIN_NOISE),
    ]


def test_basic_view_is_the_full_one_without_metrics(
    running: Running, benchmark: str, noisy: list[tuple[str, str]]
) -> None:
    def rows(view: int) -> list[leaderboard_pb.LeaderboardEntry]:
        request = leaderboard_pb.ListLeaderboardEntriesRequest(
            parent=f"benchmarks/{benchmark}", view=cast("Any", view)
        )
        return list(running.call.leaderboard.ListLeaderboardEntries(request).entries)

    full = rows(leaderboard_pb.LEADERBOARD_VIEW_FULL)
    assert full == rows(leaderboard_pb.LEADERBOARD_VIEW_UNSPECIFIED)
    assert {(row.submission, row.evaluation) for row in full} == {*noisy}
    assert {row.claimed_score for row in full} == {0.8}
    for row in full:
        assert row.metrics
        row.ClearField("metrics")
    assert rows(leaderboard_pb.LEADERBOARD_VIEW_BASIC) == full
    assert field_error(lambda: rows(99)) == (INVALID, "MALFORMED_FIELD", "view")


def test_claims_have_neither_interval_nor_spread_and_their_steps_are_not_tested(
    running: Running,
) -> None:
    request = leaderboard_pb.ListLeaderboardEntriesRequest(parent=NIH)
    claims = running.call.leaderboard.ListLeaderboardEntries(request).entries
    assert not any(row.HasField("interval") or row.HasField("spread") for row in claims)
    (step,) = running.call.leaderboard.ListSotaSteps(
        leaderboard_pb.ListSotaStepsRequest(parent=NIH)
    ).steps
    assert step.significance == leaderboard_pb.SIGNIFICANCE_FIRST


def test_client_compares_rows_and_reads_their_evidence(
    running: Running, benchmark: str, noisy: list[tuple[str, str]]
) -> None:
    best, near, worse = noisy[3][0], noisy[0][0], noisy[4][0]
    with RegistryClient(running.service.address) as client:
        found = client.compare(benchmark, [near, best, worse])
        kept = client.get_evidence(noisy[3][1])
        rows = list(client.leaderboard(benchmark))
        steps = list(client.sota_steps(benchmark))
    assert [(pair.first, pair.second, pair.separable) for pair in found.pairs] == [
        (near, best, False), (near, worse, True), (best, worse, True),
    ]  # fmt: skip
    assert [pair.difference for pair in found.pairs] == pytest.approx([-0.002, 0.2, 0.202])
    assert list(found.rank_frequencies) == [near, best, worse]
    assert found.rank_frequencies[worse] == (0, 0, 1)
    sent = reports.report(report_message(small_spec(benchmark), 0.802, own_noise=4)).evidence
    assert sent
    assert reports.evidence_message(kept) == reports.evidence_message(sent)
    assert [(row.rank, row.spread and row.spread.rank_high) for row in rows[2:4]] == [
        (1, 3),
        (4, 4),
    ]
    assert rows[0].interval == Interval(pytest.approx(0.782), pytest.approx(0.822), 0.01)
    assert [step.significance for step in steps] == [Significance.FIRST] + [
        Significance.WITHIN_NOISE
    ] * 2


def test_client_compares_rows_by_finding_and_reads_the_newest_changes_first(
    running: Running, benchmark: str, noisy: list[tuple[str, str]]
) -> None:
    spec = small_spec(benchmark)
    undefined, _ = publish(running, spec, report_message(spec, None))
    names = [noisy[0][0], undefined]
    with RegistryClient(running.service.address) as client:
        found = client.compare(benchmark, names, per_finding=True)
        oldest = list(client.leaderboard_changes(benchmark))
        assert list(client.leaderboard_changes(benchmark, newest_first=True)) == oldest[::-1]
        basic = client.leaderboard(benchmark, metrics=False)
        steps = list(client.sota_steps(benchmark))
        with pytest.raises(MalformedField, match="at most 10 submissions with per_finding"):
            client.compare(
                benchmark,
                [f"{undefined[:-32]}{number:032x}" for number in range(11)],
                per_finding=True,
            )
    intervals = {row.submission: row.interval for row in basic}
    assert [step.interval for step in steps] == [intervals[step.submission] for step in steps]
    assert not any(row.metrics for row in basic)
    assert found.pairs == ()
    assert [(pair.first, pair.second) for pair in found.findings] == [tuple(names)] * len(FINDINGS)
    assert [pair.finding for pair in found.findings] == list(FINDINGS)
    for pair in found.findings:
        assert (pair.comparison is None) == bool(pair.undefined_reason)
    # Tokens of one order are refused by the other.
    request = leaderboard_pb.ListLeaderboardChangesRequest(
        parent=f"benchmarks/{benchmark}", page_size=1
    )
    call = running.call.leaderboard.ListLeaderboardChanges
    request.page_token = call(request).next_page_token
    request.newest_first = True
    assert field_error(lambda: call(request))[1] == "INVALID_PAGE_TOKEN"


def test_rows_without_replicates_are_not_compared(
    running: Running, benchmark: str, noisy: list[tuple[str, str]]
) -> None:
    parent, spec, first = f"benchmarks/{benchmark}", small_spec(benchmark), noisy[0][0]
    undefined, _ = publish(running, spec, report_message(spec, None))
    queued = running.call.submit(benchmark, ARTIFACT).name

    def compare(*submissions: str, parent: str = parent) -> tuple[grpc.StatusCode, str, str]:
        request = leaderboard_pb.CompareEntriesRequest(parent=parent, submissions=submissions)
        return field_error(lambda: running.call.leaderboard.CompareEntries(request))

    claims = running.call.leaderboard.ListLeaderboardEntries(
        leaderboard_pb.ListLeaderboardEntriesRequest(parent=NIH)
    )
    two_claims = [row.submission for row in claims.entries[:2]]
    not_comparable = (PRECONDITION, "NOT_COMPARABLE", "submissions")
    assert compare(first, undefined) == compare(first, queued) == not_comparable
    assert compare(*two_claims, parent=NIH) == not_comparable
    unknown = f"{parent}/submissions/{'0' * 32}"
    assert compare(first, unknown)[:2] == (NOT_FOUND, "SUBMISSION_NOT_FOUND")
    nowhere = [f"{MISSING}/submissions/{digit * 32}" for digit in "01"]
    assert compare(*nowhere, parent=MISSING)[:2] == (NOT_FOUND, "BENCHMARK_NOT_FOUND")
    for wrong in (
        (),
        (first,),
        (first, first),
        [f"{parent}/submissions/{number:032x}" for number in range(51)],
    ):
        assert compare(*wrong) == (INVALID, "MALFORMED_FIELD", "submissions")
    assert (
        compare(first, two_claims[0])
        == compare(first, "row")
        == (INVALID, "MALFORMED_FIELD", "submissions[1]")
    )
    assert compare(first, unknown, parent="board") == (INVALID, "MALFORMED_FIELD", "parent")


def test_evidence_of_an_evaluation_without_report_is_not_found(
    running: Running, benchmark: str
) -> None:
    def evidence(name: str) -> tuple[grpc.StatusCode, str, str]:
        request = evaluation_pb.GetEvidenceRequest(evaluation=name)
        return field_error(lambda: running.call.evaluations.GetEvidence(request))

    running.call.submit(benchmark, ARTIFACT)
    name = running.call.lease(benchmark).evaluation.name
    assert evidence(name)[:2] == (NOT_FOUND, "REPORT_NOT_FOUND")
    assert evidence(f"{name.rpartition('/')[0]}/{'0' * 32}")[:2] == (
        NOT_FOUND,
        "EVALUATION_NOT_FOUND",
    )
    assert evidence("evidence") == (INVALID, "MALFORMED_FIELD", "evaluation")


def test_report_with_10000_replicates_fits_into_a_record(running: Running) -> None:
    spec = small_spec("most-replicates", replicates=MOST_REPLICATES)
    assert running.call.create_benchmark(spec).replicates == MOST_REPLICATES
    report = report_message(spec, own_noise=1)
    assert 15 * 8 * MOST_REPLICATES < report.ByteSize() < MAX_RECORD_BYTES / 2
    _, evaluation = publish(running, spec, report)
    request = evaluation_pb.GetEvidenceRequest(evaluation=evaluation)
    assert running.call.evaluations.GetEvidence(request).evidence == report.evidence


# --- benchmarks -----------------------------------------------------------------------------------


def test_benchmark_can_be_created_again_but_never_changed(running: Running, benchmark: str) -> None:
    spec = small_spec(benchmark)
    first = running.call.create_benchmark(spec)
    assert (first.digest, first.title, list(first.findings)) == (
        spec.digest,
        spec.title,
        list(FINDINGS),
    )
    assert first.replicates == spec.replicates
    assert running.call.create_benchmark(spec) == first
    changed = field_error(lambda: running.call.create_benchmark(small_spec(benchmark, images=9)))
    assert changed == (grpc.StatusCode.ALREADY_EXISTS, "BENCHMARK_EXISTS", "benchmark.name")


AUROC = [benchmark_pb.Metric(id="auroc", direction=1)]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "benchmarks/Bad_Name"}, "benchmark.name"),
        ({"title": ""}, "benchmark.title"),
        ({"image_count": 0}, "benchmark.image_count"),
        ({"list_sha256": "0"}, "benchmark.list_sha256"),
        ({"labels_file": "../labels.csv"}, "benchmark.labels_file"),
        ({"replicates": 0}, "benchmark.replicates"),
        ({"replicates": MOST_REPLICATES + 1}, "benchmark.replicates"),
        ({"findings": ["Mass|Hernia"]}, "benchmark.findings"),
        ({"findings": ["Mass", "Mass"]}, "benchmark.findings"),
        ({"metrics": []}, "benchmark.metrics"),
        ({"metrics": [benchmark_pb.Metric(id="auroc", direction=1)] * 2}, "benchmark.metrics"),
        ({"metrics": [benchmark_pb.Metric(id="auroc", direction=2)]}, "benchmark.metrics"),
        (
            {"metrics": [*AUROC, benchmark_pb.Metric(id="brier", direction=9)]},
            "benchmark.metrics[1].direction",
        ),
    ],
)
def test_malformed_benchmark_is_refused(
    running: Running, changes: dict[str, Any], field: str
) -> None:
    message = benchmark_message(small_spec("malformed"))
    for name, value in changes.items():
        message.ClearField(name)
        message.MergeFrom(benchmark_pb.Benchmark(**{name: value}))
    request = benchmark_pb.CreateBenchmarkRequest(benchmark=message)
    assert field_error(lambda: running.call.benchmarks.CreateBenchmark(request)) == (
        INVALID,
        "MALFORMED_FIELD",
        field,
    )


def test_a_benchmark_without_a_name_or_a_direction_names_what_is_required(
    running: Running,
) -> None:
    unnamed = benchmark_message(small_spec("unnamed"))
    unnamed.name = ""
    undirected = benchmark_message(small_spec("undirected"))
    undirected.metrics.add(id="brier")
    for message, field in (
        (unnamed, "benchmark.name"),
        (undirected, "benchmark.metrics[1].direction"),
    ):
        request = benchmark_pb.CreateBenchmarkRequest(benchmark=message)
        assert field_error(lambda: running.call.benchmarks.CreateBenchmark(request)) == (  # noqa: B023
            INVALID,
            "MISSING_FIELD",
            field,
        )


def test_an_error_shows_a_metric_as_the_specification_writes_it(running: Running) -> None:
    message = benchmark_message(small_spec("shown"))
    message.metrics[0].direction = benchmark_pb.Metric.DIRECTION_LOWER_IS_BETTER
    request = benchmark_pb.CreateBenchmarkRequest(benchmark=message)
    with pytest.raises(grpc.RpcError, match=r"benchmark\.metrics is 'auroc = lower'; expected"):
        running.call.benchmarks.CreateBenchmark(request)


# --- operation ------------------------------------------------------------------------------------


def test_metrics_count_states_and_bytes(running: Running, benchmark: str) -> None:
    running.call.submit(benchmark, ARTIFACT)
    with urllib.request.urlopen(f"http://{running.service.metrics_address}/metrics") as answer:
        text = answer.read().decode()
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    queued = running.count("evaluations WHERE state = 'queued'")
    assert queued >= 1
    assert float(lines['cxreval_registry_evaluations{state="queued"}']) == queued
    assert float(lines['cxreval_registry_submissions{state="published"}']) >= 4
    assert float(lines['cxreval_registry_artifact_bytes_total{direction="received"}']) >= len(
        ARTIFACT
    )


def test_registry_on_an_unmigrated_postgresql_is_not_healthy_until_the_job_has_run(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = fresh_database("postgresql", tmp_path)
    service = registry_service(tmp_path, database_url=url)
    request.addfinalizer(service.__exit__)  # also if the test fails
    with pytest.raises(TimeoutError):
        service.start(wait_seconds=2)
    with Registry(service.address) as call:
        board = leaderboard_pb.ListLeaderboardEntriesRequest(parent=NIH)
        health = health_pb2_grpc.HealthStub(call.channel)
        # On a busy machine the port may not be open yet.
        before = health.Check(health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=60)
        assert before.status == health_pb2.HealthCheckResponse.NOT_SERVING
        database = Database(url)
        migrate(database, Signer(Ed25519PrivateKey.generate()))
        assert migrations.at_head(database.engine)
        database.close()
        serving = health_pb2.HealthCheckResponse.SERVING
        wait_for(lambda: health.Check(health_pb2.HealthCheckRequest()).status == serving)
        assert len(call.leaderboard.ListLeaderboardEntries(board).entries) == 4
    assert service.stop() == 0
