"""States, reports, the board and the seed: the registry's rules without a database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from cxreval.api.registry.v1 import evaluation_service_pb2, submission_pb2
from cxreval.api.scoring.v1 import report_pb2
from cxreval.datasets.benchmark import FINDINGS
from cxreval.errors import (
    CxrevalError,
    InvalidProbability,
    MalformedBatch,
    MalformedField,
    MissingField,
    ReportMismatch,
)
from cxreval.metrics.report import MetricValue
from cxreval.wire import reports
from services.registry import convert
from services.registry.domain import seed
from services.registry.domain.board import PROFILE_DIGEST, Published, ranked_rows, sota_steps
from services.registry.domain.records import (
    Evaluation,
    EvaluationState,
    Fault,
    Kind,
    Submission,
    SubmissionState,
    Tier,
)
from services.registry.domain.report import check_report, macro
from services.registry.domain.states import EVALUATION_MOVES, after_failure, moved
from tests.support.registry import manifest_message, report_message, small_spec

SPEC = small_spec("small")
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_ended_evaluation_never_moves_again() -> None:
    for ended in (EvaluationState.SUCCEEDED, EvaluationState.FAILED):
        assert not EVALUATION_MOVES[ended]
        with pytest.raises(ValueError, match="cannot go"):
            moved(ended, EvaluationState.RUNNING)


def test_queued_evaluation_cannot_succeed_without_running() -> None:
    with pytest.raises(ValueError, match="cannot go"):
        moved(EvaluationState.QUEUED, EvaluationState.SUCCEEDED)


@pytest.mark.parametrize(
    ("fault", "attempt", "following"),
    [
        (Fault.SYSTEM, 1, EvaluationState.QUEUED),
        (Fault.SYSTEM, 2, EvaluationState.QUEUED),
        (Fault.SYSTEM, 3, EvaluationState.FAILED),
        (Fault.SUBMISSION, 1, EvaluationState.FAILED),
    ],
)
def test_only_faults_of_the_platform_are_tried_again(fault: Fault, attempt: int, following: EvaluationState) -> None:
    assert after_failure(fault, attempt, max_attempts=3) is following


def test_report_survives_the_wire_and_is_accepted() -> None:
    report = reports.report(report_message(SPEC, 0.75))
    check_report(report, SPEC)
    assert macro(report, "auroc") == 0.75


def metrics(*values: tuple[str, float | None, str]) -> list[report_pb2.MetricValue]:
    return [
        report_pb2.MetricValue(metric="auroc", finding=finding, value=value, undefined_reason=reason)
        for finding, value, reason in values
    ]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"benchmark": "benchmarks/other"}, "report.benchmark"),
        ({"benchmark_digest": "b" * 64}, "report.benchmark_digest"),
        ({"scorer_version": "0"}, "report.scorer_version"),
        ({"image_count": 3}, "report.image_count"),
        ({"patient_count": 3}, "report.patient_count"),
        ({"predictions_sha256": ""}, "report.predictions_sha256"),
        ({"metrics": []}, "report.metrics"),
        ({"metrics": metrics(*[(finding, 0.5, "") for finding in FINDINGS])}, "report.metrics"),
        ({"metrics": metrics(*[(f, None, "") for f in (*FINDINGS, "")])}, "report.metrics[0].undefined_reason"),
        ({"metrics": metrics(*[(f, float("nan"), "") for f in (*FINDINGS, "")])}, "report.metrics[0].value"),
        ({"metrics": metrics(*[(f, 1.5, "") for f in (*FINDINGS, "")])}, "report.metrics[0].value"),
        ({"metrics": [report_pb2.MetricValue()] * 1001}, "report.metrics"),
        (
            {
                "metrics": [
                    report_pb2.MetricValue(metric="auroc", finding=f, value=0.5, positive_images=-1)
                    for f in (*FINDINGS, "")
                ]
            },
            "report.metrics[0]",
        ),
    ],
)
def test_report_of_another_benchmark_or_with_impossible_values_is_refused(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ReportMismatch) as caught:
        check_report(reports.report(report_message(SPEC, **changes)), SPEC)
    assert caught.value.metadata["field"] == field


def published(identifier: str, score: float | None, date: str, kind: Kind = Kind.CHECKPOINT) -> Published:
    claimed = [] if score is None else [submission_pb2.ClaimedMetric(metric="auroc", value=score)]
    manifest = convert.manifest(manifest_message(b"", submitted_date=date, claimed_metrics=claimed))
    tier = Tier.CLAIMED if kind is Kind.CLAIM else Tier.EXECUTED
    submission = Submission(
        SPEC.name, identifier, kind, manifest, SubmissionState.PUBLISHED, tier, NOW, NOW, SPEC.image_count
    )
    if kind is Kind.CLAIM:
        return Published(submission)
    report = reports.report(report_message(SPEC, score))
    state = EvaluationState.SUCCEEDED
    evaluation = Evaluation(
        SPEC.name, identifier, "e", state, 1, "w", SPEC.image_count, NOW, NOW, report, {PROFILE_DIGEST: "digest"}
    )
    return Published(submission, evaluation)


def test_board_ranks_evidence_and_claims_apart_and_evidence_first() -> None:
    board = ranked_rows(
        [
            published("claim-high", 0.99, "2020-01-01", Kind.CLAIM),
            published("run-low", 0.70, "2021-01-01"),
            published("undefined", None, "2021-01-01"),
            published("run-high", 0.80, "2022-01-01"),
            published("claim-low", 0.60, "2019-01-01", Kind.CLAIM),
        ],
        "auroc",
    )
    assert [(row.submission.id, row.rank, row.sota) for row in board] == [
        ("run-high", 1, True),
        ("run-low", 2, False),
        ("undefined", None, False),
        ("claim-high", 1, True),
        ("claim-low", 2, False),
    ]
    assert [row.profile_digest for row in board] == ["digest", "digest", "digest", "", ""]
    assert [row.submission.id for row in sota_steps(board)] == ["run-low", "run-high", "claim-low", "claim-high"]


def test_claims_of_a_checkpoint_never_count_as_its_score() -> None:
    item = published("run", 0.70, "2021-01-01")
    boasting = replace(item.submission.manifest, claimed_metrics=seed.CLAIMS[0].manifest.claimed_metrics)
    row = ranked_rows([replace(item, submission=replace(item.submission, manifest=boasting))], "auroc")[0]
    assert row.score == 0.70
    assert len(row.metrics) == len(FINDINGS) + 1


def test_submission_without_date_stands_on_the_board_with_the_day_it_was_handed_in() -> None:
    assert published("run", 0.70, "").submission.submitted_date == "2026-01-02"


def test_seed_is_the_published_board() -> None:
    rows = [(claim.manifest.model, claim.manifest.organisation, claim.manifest.submitted_date) for claim in seed.CLAIMS]
    assert rows == [
        ("TorchXRayVision", "Cohen Lab", "2025-12-19"),
        ("CheXNet", "Stanford ML Group", "2025-12"),
        ("DenseNet-121 (Chest X-ray)", "Research", "2025-12"),
        ("ResNet-50 (Chest X-ray)", "Research", "2025-12"),
    ]
    assert [claim.manifest.claimed_metrics[-1].value for claim in seed.CLAIMS] == [0.8580, 0.8410, 0.8260, 0.8040]
    assert len({claim.id for claim in seed.CLAIMS}) == 4
    assert all("Split not stated" in claim.note for claim in seed.CLAIMS)


def test_chexnet_claims_its_paper_s_value_for_each_finding() -> None:
    claims = {claim.finding: claim.value for claim in seed.CLAIMS[1].manifest.claimed_metrics}
    assert list(claims) == [*FINDINGS, ""]
    assert claims["Hernia"] == 0.9164
    mean = sum(value for finding, value in claims.items() if finding) / 14
    assert mean == pytest.approx(0.8414, abs=5e-5)  # the paper's own macro mean


def batch(images: list[str], values: list[float]) -> report_pb2.PredictionBatch:
    return report_pb2.PredictionBatch(images=images, probabilities=values)


@pytest.mark.parametrize(
    ("message", "kind", "field"),
    [
        (batch([], []), MalformedBatch, "batch.images"),
        (batch([str(i) for i in range(4097)], []), MalformedBatch, "batch.images"),
        (batch(["a", "a"], [0.5] * 28), MalformedBatch, "batch.images"),
        (batch(["a", ""], [0.5] * 28), MalformedBatch, "batch.images[1]"),
        (batch(["a\n"], [0.5] * 14), MalformedBatch, "batch.images[0]"),
        (batch(["a" * 256], [0.5] * 14), MalformedBatch, "batch.images[0]"),
        (batch(["a", "b"], [0.5] * 27), MalformedBatch, "batch.probabilities"),
        (batch(["a", "b"], [0.5] * 20 + [float("nan")] * 8), InvalidProbability, "batch.probabilities[20]"),
        (batch(["a"], [-0.1] * 14), InvalidProbability, "batch.probabilities[0]"),
        (batch(["a"], [0.5, 1.5, *[0.5] * 12]), InvalidProbability, "batch.probabilities[1]"),
    ],
)
def test_malformed_batch_is_refused(message: report_pb2.PredictionBatch, kind: type[CxrevalError], field: str) -> None:
    with pytest.raises(kind) as caught:
        convert.batch(message)
    assert caught.value.metadata["field"] == field


def test_batch_keeps_every_bit_of_its_probabilities() -> None:
    message = batch(["a", "b"], [0.1, 1e-45, 1.0, 0.0])
    assert convert.batch_message(convert.batch(message)) == message


@pytest.mark.parametrize(
    ("failure", "kind", "field"),
    [
        (submission_pb2.Failure(fault=1), MissingField, "failure.reason"),
        (submission_pb2.Failure(reason="not a reason", fault=1), MalformedField, "failure.reason"),
        (submission_pb2.Failure(reason="BROKEN"), MissingField, "failure.fault"),
        (submission_pb2.Failure(reason="BROKEN", fault=9), MalformedField, "failure.fault"),
    ],
)
def test_failure_needs_a_reason_and_a_fault(
    failure: submission_pb2.Failure, kind: type[CxrevalError], field: str
) -> None:
    with pytest.raises(kind) as caught:
        convert.failure(failure)
    assert caught.value.metadata["field"] == field


def test_long_failure_message_is_cut_rather_than_refused() -> None:
    failure = convert.failure(submission_pb2.Failure(reason="BROKEN", fault=1, message="x" * 100_000))
    assert len(failure.message) == convert.MAX_FAILURE_CHARACTERS


@pytest.mark.parametrize(
    ("request_", "kind", "field"),
    [
        (evaluation_service_pb2.LeaseEvaluationRequest(benchmarks=["benchmarks/b"]), MissingField, "worker"),
        (evaluation_service_pb2.LeaseEvaluationRequest(worker="w"), MissingField, "benchmarks"),
        (
            evaluation_service_pb2.LeaseEvaluationRequest(worker="w", benchmarks=["benchmarks/b", "B"]),
            MalformedField,
            "benchmarks[1]",
        ),
        (
            evaluation_service_pb2.LeaseEvaluationRequest(worker="w", benchmarks=["benchmarks/b"] * 101),
            MalformedField,
            "benchmarks",
        ),
    ],
)
def test_worker_must_say_who_it_is_and_what_it_has(
    request_: evaluation_service_pb2.LeaseEvaluationRequest, kind: type[CxrevalError], field: str
) -> None:
    with pytest.raises(kind) as caught:
        convert.worker(request_)
    assert caught.value.metadata["field"] == field


@pytest.mark.parametrize("provenance", [{"Bad Key": ""}, {"key": "v" * 4001}, {f"k{i}": "" for i in range(101)}])
def test_provenance_has_limits(provenance: dict[str, str]) -> None:
    with pytest.raises(MalformedField):
        convert.provenance(provenance)


def test_undefined_metric_travels_as_absent() -> None:
    report = reports.report(report_message(SPEC, None))
    assert report.metrics[0] == MetricValue("auroc", FINDINGS[0], None, "ONE_CLASS_ONLY")
    check_report(report, SPEC)


def test_manifest_with_more_claims_than_there_are_metrics_is_refused_unread() -> None:
    message = submission_pb2.Manifest(source_kind=submission_pb2.SOURCE_KIND_CHECKPOINT)
    message.claimed_metrics.extend([submission_pb2.ClaimedMetric()] * 1001)
    with pytest.raises(MalformedField) as caught:
        convert.manifest(message)
    assert caught.value.metadata["field"] == "manifest.claimed_metrics"
