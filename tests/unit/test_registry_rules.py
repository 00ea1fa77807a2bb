"""States, the seed, and rules of messages: the registry's rules without a database."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from cxreval.api.registry.v1 import evaluation_service_pb2, submission_pb2
from cxreval.api.scoring.v1 import report_pb2
from cxreval.datasets.nih import FINDINGS
from cxreval.errors import (
    CxrevalError,
    InvalidProbability,
    MalformedBatch,
    MalformedField,
    MissingField,
)
from services.registry import convert
from services.registry.domain import seed
from services.registry.domain.records import ENDED, Change, Fault, Kind, Submission, SubmissionState
from services.registry.domain.states import (
    DEADLINES,
    TRANSITIONS,
    after_failure,
    expired,
    fewest_requests_per_second,
    state_after,
)
from tests.support.registry import manifest_message, small_spec

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_every_state_has_a_way_out_and_can_be_reached() -> None:
    assert set(TRANSITIONS) == set(SubmissionState)
    assert all(TRANSITIONS.values())
    reached = {to for moves in TRANSITIONS.values() for to in moves.values()} | {
        SubmissionState.AWAITING_ARTIFACT
    }
    assert reached == set(SubmissionState)


def test_every_state_that_needs_no_person_has_a_deadline() -> None:
    assert set(DEADLINES) == set(SubmissionState) - ENDED
    for state in DEADLINES:
        assert state_after(state, Change.EXPIRED) is SubmissionState.FAILED
        assert expired(state, Kind.CHECKPOINT).reason


def test_a_run_that_takes_too_long_is_the_platforms_fault_but_an_endpoints_own() -> None:
    faults = {
        kind: expired(SubmissionState.RUNNING, kind).fault
        for kind in (Kind.CHECKPOINT, Kind.ENDPOINT)
    }
    assert faults == {Kind.CHECKPOINT: Fault.SYSTEM, Kind.ENDPOINT: Fault.SUBMISSION}
    assert expired(SubmissionState.QUEUED, Kind.ENDPOINT).fault is Fault.SYSTEM


def test_an_endpoint_may_be_as_slow_as_lets_it_end_in_half_a_day() -> None:
    assert fewest_requests_per_second(43_200) == 1.0
    message = endpoint_message(requests_per_second=0.5)
    spec = small_spec("large", images=25_596)
    with pytest.raises(MalformedField) as caught:
        convert.checked_manifest(message, spec, NOW.date())
    assert caught.value.metadata["field"] == "manifest.endpoint.requests_per_second"
    assert caught.value.metadata["expected"] == "at least 0.6, for 25596 images in half a day"
    assert convert.checked_manifest(endpoint_message(requests_per_second=0.6), spec, NOW.date())
    assert convert.checked_manifest(message, small_spec("small"), NOW.date())


def endpoint_message(**changes: object) -> submission_pb2.Manifest:
    server = {
        "address": "models.example.org:443",
        "tls": True,
        "model_name": "m",
        "requests_per_second": 1.0,
    }
    return manifest_message(
        b"",
        kind=submission_pb2.Submission.KIND_ENDPOINT,
        source_kind=submission_pb2.SOURCE_KIND_ENDPOINT,
        format=submission_pb2.CHECKPOINT_FORMAT_UNSPECIFIED, artifact_sha256="",
        endpoint=submission_pb2.Endpoint(**{**server, **changes}),
    )  # fmt: skip


def test_retry_without_a_stored_artifact_awaits_one() -> None:
    for state in (SubmissionState.FAILED, SubmissionState.CANCELLED):
        assert state_after(state, Change.RETRIED) is SubmissionState.QUEUED
        assert state_after(state, Change.RETRIED, ready=False) is SubmissionState.AWAITING_ARTIFACT
    assert state_after(SubmissionState.PUBLISHED, Change.RETRIED, ready=False) is None


@pytest.mark.parametrize(
    ("fault", "attempt", "change"),
    [
        (Fault.SYSTEM, 1, Change.RETURNED),
        (Fault.SYSTEM, 2, Change.RETURNED),
        (Fault.SYSTEM, 3, Change.FAILED),
        (Fault.SUBMISSION, 1, Change.FAILED),
    ],
)
def test_only_faults_of_the_platform_are_tried_again(
    fault: Fault, attempt: int, change: Change
) -> None:
    assert after_failure(fault, attempt, max_attempts=3) is change


def test_submission_without_date_is_dated_by_its_creation() -> None:
    manifest = convert.manifest(manifest_message(b"", submitted_date=""))
    submission = Submission(
        "small", "s", Kind.CHECKPOINT, manifest, SubmissionState.QUEUED, None, NOW, NOW, 4, manifest
    )
    assert submission.submitted_date == "2026-01-02"


def test_seed_is_the_published_board() -> None:
    rows = [
        (claim.manifest.model, claim.manifest.organisation, claim.manifest.submitted_date)
        for claim in seed.CLAIMS
    ]
    assert rows == [
        ("TorchXRayVision", "Cohen Lab", "2025-12-19"),
        ("CheXNet", "Stanford ML Group", "2025-12"),
        ("DenseNet-121 (Chest X-ray)", "Research", "2025-12"),
        ("ResNet-50 (Chest X-ray)", "Research", "2025-12"),
    ]
    assert [claim.manifest.claimed_metrics[-1].value for claim in seed.CLAIMS] == [
        0.8580,
        0.8410,
        0.8260,
        0.8040,
    ]
    assert len({claim.id for claim in seed.CLAIMS}) == 4
    assert all("Split not stated" in claim.note for claim in seed.CLAIMS)


def test_chexnet_claims_its_paper_s_value_for_each_finding() -> None:
    claims = {claim.finding: claim.value for claim in seed.CLAIMS[1].manifest.claimed_metrics}
    assert list(claims) == [*FINDINGS, ""]
    assert claims["Hernia"] == 0.9164
    mean = sum(value for finding, value in claims.items() if finding) / 14
    assert mean == pytest.approx(0.8414, abs=5e-5)  # the paper's own macro mean


def batch(images: list[str], values: list[float]) -> report_pb2.PredictionBatch:
    return report_pb2.PredictionBatch(
        images=images, probabilities=np.array(values, "<f4").tobytes()
    )


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
        (
            batch(["a", "b"], [0.5] * 20 + [float("nan")] * 8),
            InvalidProbability,
            "batch.probabilities[20]",
        ),
        (batch(["a"], [-0.1] * 14), InvalidProbability, "batch.probabilities[0]"),
        (batch(["a"], [0.5, 1.5, *[0.5] * 12]), InvalidProbability, "batch.probabilities[1]"),
    ],
)
def test_malformed_batch_is_refused(
    message: report_pb2.PredictionBatch, kind: type[CxrevalError], field: str
) -> None:
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


STEERING = "".join(
    map(
        chr,
        [0, 7, 9, 10, 13, 27, 0x7F, 0x9B, *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x2028],
    )
)


def test_text_reported_by_a_worker_has_no_control_characters() -> None:
    failure = convert.failure(
        submission_pb2.Failure(reason="BROKEN", fault=1, message=f"a{STEERING}Ä [b]")
    )
    assert failure.message == f"a{' ' * len(STEERING)}Ä [b]"
    assert convert.provenance({"device": f"a{STEERING}Ä"}) == {"device": f"a{' ' * len(STEERING)}Ä"}


def test_long_failure_message_is_cut_rather_than_refused() -> None:
    failure = convert.failure(
        submission_pb2.Failure(reason="BROKEN", fault=1, message="x" * 100_000)
    )
    assert len(failure.message) == convert.MAX_FAILURE_CHARACTERS


@pytest.mark.parametrize(
    ("request_", "kind", "field"),
    [
        (
            evaluation_service_pb2.LeaseEvaluationRequest(benchmarks=["benchmarks/b"]),
            MissingField,
            "worker",
        ),
        (evaluation_service_pb2.LeaseEvaluationRequest(worker="w"), MissingField, "benchmarks"),
        (
            evaluation_service_pb2.LeaseEvaluationRequest(
                worker="w", benchmarks=["benchmarks/b", "B"]
            ),
            MalformedField,
            "benchmarks[1]",
        ),
        (
            evaluation_service_pb2.LeaseEvaluationRequest(
                worker="w", benchmarks=["benchmarks/b"] * 101
            ),
            MalformedField,
            "benchmarks",
        ),
    ],
)
def test_worker_must_name_itself_and_its_benchmarks(
    request_: evaluation_service_pb2.LeaseEvaluationRequest, kind: type[CxrevalError], field: str
) -> None:
    with pytest.raises(kind) as caught:
        convert.worker(request_)
    assert caught.value.metadata["field"] == field


@pytest.mark.parametrize(
    "provenance", [{"Bad Key": ""}, {"key": "v" * 4001}, {f"k{i}": "" for i in range(101)}]
)
def test_provenance_has_limits(provenance: dict[str, str]) -> None:
    with pytest.raises(MalformedField):
        convert.provenance(provenance)


def test_manifest_with_more_claims_than_any_has_is_refused_unread() -> None:
    message = manifest_message(b"")
    message.claimed_metrics.extend([submission_pb2.ClaimedMetric()] * 1001)
    with pytest.raises(MalformedField) as caught:
        convert.checked_manifest(message, small_spec("small"), NOW.date())
    assert (caught.value.metadata["field"], caught.value.also) == ("manifest.claimed_metrics", ())
