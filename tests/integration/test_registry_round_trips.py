"""Records go from the client through the registry and its database and come back unchanged."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cxreval.client import (
    CheckpointFormat,
    ClaimedMetric,
    Endpoint,
    Environment,
    Failure,
    Fault,
    Kind,
    Lease,
    Manifest,
    Predictions,
    Quota,
    Reproduction,
    Role,
    SourceKind,
    Tier,
    WorkerClient,
)
from cxreval.datasets.nih import FINDINGS
from cxreval.manifest.model import PUBLISHED_SOURCES, Ensemble, SubmittedFile
from cxreval.metrics.predictions import PredictionTable, image_rows
from cxreval.metrics.ranking import Significance
from cxreval.preprocessing import (
    PRESETS,
    Activation,
    Crop,
    CropKind,
    Equalize,
    EqualizeKind,
    Interpolation,
    Layout,
    Library,
    Outputs,
    Preprocessing,
    Resize,
    ResizeTo,
    Square,
    TensorType,
)
from cxreval.records import Change, EvaluationState, SubmissionState
from cxreval.wire import reports
from tests.support.registry import (
    COMMIT,
    DATABASES,
    migrated_database,
    registry_service,
    report_message,
    small_spec,
)

SPEC = small_spec("small")
IMAGES = tuple(f"{index}.png" for index in range(SPEC.image_count))
EXAMPLES = settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow])

WORDS = st.text("abcXYZ019äß漢-", min_size=1, max_size=20)
SCORES = st.floats(0, 1)
COMMON = {
    "model": WORDS,
    "organisation": WORDS,
    "open_source": st.booleans(),
    "contact": st.sampled_from(("me@example.org", "a.b+c@d.example")),
    "submitted_date": st.sampled_from(("", "2025-12", "2025-12-19")),
    # The macro mean is what a claim is ranked by.
    "claimed_metrics": st.dictionaries(st.sampled_from(FINDINGS), SCORES, max_size=3).map(
        lambda claims: tuple(
            ClaimedMetric("auroc", score, finding) for finding, score in {"": 0.5, **claims}.items()
        )
    ),
}
URLS = st.sampled_from(("https://example.org/model", "https://example.org/paper?id=7#fig"))
RUN = {
    "reproduction": st.builds(
        Reproduction, URLS, st.just(COMMIT), st.integers(0, 2**31), st.just("") | WORDS
    ),
    "environment": st.builds(
        Environment,
        st.sampled_from(("3.11", "3.13.0rc1")),
        st.sampled_from(((), ("torch==2.13.0",), ("a==1", "b[c]==2+cpu"))),
    ),
    "source_url": st.just("") | URLS,
}
FILE = {"artifact_sha256": st.text("0123456789abcdef", min_size=64, max_size=64)}
OUTPUTS = st.permutations((*FINDINGS, "", "")).map(tuple)


def sources(kind: SourceKind) -> st.SearchStrategy[SourceKind]:
    return st.sampled_from((*PUBLISHED_SOURCES, kind))


def manifests(kind: Kind, **more: st.SearchStrategy[Any]) -> st.SearchStrategy[Manifest]:
    return st.builds(Manifest, kind=st.just(kind), **{**COMMON, **more})


ENDPOINTS = manifests(
    Kind.ENDPOINT,
    **RUN,
    source_kind=sources(SourceKind.ENDPOINT),
    output_names=OUTPUTS,
    endpoint=st.builds(
        Endpoint,
        st.sampled_from(("models.example.org:443", "[::1]:8001")),
        st.booleans(),
        WORDS,
        st.floats(0.1, 1000),
    ),
    preprocessing_profile=st.sampled_from(("", "xrv-224")),
)
DECLARED = Preprocessing(
    value_range=(-1.5, 255.0),
    square=Square.PAD,
    resize=Resize(ResizeTo.LONG_SIDE, (300,), Interpolation.AREA, library=Library.OPENCV),
    crop=Crop(CropKind.TEN, (224, 200)),
    equalize=Equalize(EqualizeKind.CLAHE, 2.5, 8),
    mean=(0.1, 0.2, 0.3),
    std=(1.0, 2.0, 3.0),
    layout=Layout.NHWC,
    dtype=TensorType.FLOAT16,
    tensor="image",
)
MANIFESTS = st.one_of(
    ENDPOINTS,
    manifests(
        Kind.CHECKPOINT,
        **RUN,
        **FILE,
        source_kind=sources(SourceKind.CHECKPOINT),
        format=st.just(CheckpointFormat.ONNX),
        output_names=OUTPUTS,
        preprocessing_profile=st.sampled_from(("xrv-224", "imagenet-224")),
        outputs=st.none() | st.builds(Outputs, WORDS, st.sampled_from(Activation)),
    ),
    manifests(
        Kind.CHECKPOINT,
        **RUN,
        **FILE,
        source_kind=sources(SourceKind.CHECKPOINT),
        format=st.just(CheckpointFormat.ONNX),
        output_names=st.permutations((*FINDINGS[:5], "No Finding", "")).map(tuple),
        preprocessing=st.sampled_from((*PRESETS.values(), DECLARED)),
        files=st.just((SubmittedFile("a.onnx", "a" * 64), SubmittedFile("b.onnx", "b" * 64))),
        ensemble=st.just(Ensemble.MEAN),
    ),
    manifests(
        Kind.CHECKPOINT,
        **RUN,
        **FILE,
        source_kind=sources(SourceKind.CHECKPOINT),
        format=st.just(CheckpointFormat.PYTORCH_STATE_DICT),
        architecture=st.just("densenet121"),
        output_names=OUTPUTS,
        preprocessing_profile=st.just("imagenet-224"),
    ),
    manifests(Kind.PREDICTIONS, **RUN, **FILE, source_kind=sources(SourceKind.PREDICTIONS)),
    manifests(Kind.CLAIM, source_kind=st.sampled_from(PUBLISHED_SOURCES), source_url=URLS),
)


@pytest.fixture(scope="module", params=DATABASES)
def client(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WorkerClient]:
    directory = tmp_path_factory.mktemp(request.param)
    url = migrated_database(request.param, directory)
    service = registry_service(directory, database_url=url)
    with service, WorkerClient(service.address) as client:
        assert client.create_benchmark(SPEC) == SPEC
        client.record_image_list(SPEC.name, IMAGES)
        yield client


def leased(client: WorkerClient, manifest: Manifest) -> Lease:
    submission = client.create_submission(SPEC.name, manifest)
    lease = client.lease_evaluation("worker", [SPEC.name])
    assert lease is not None
    assert (lease.submission.name, lease.submission.manifest) == (submission.name, manifest)
    assert (lease.benchmark, lease.attempt) == (SPEC, 1)
    return lease


def test_a_specification_comes_back(client):
    assert client.get_benchmark(SPEC.name) == SPEC
    assert SPEC in client.list_benchmarks()


@EXAMPLES
@given(manifest=MANIFESTS)
def test_a_manifest_of_any_kind_comes_back(client, manifest):
    created = client.create_submission(SPEC.name, manifest)
    assert (created.manifest, created.kind) == (manifest, manifest.kind)
    assert client.get_submission(created.name) == created
    states = {
        Kind.CLAIM: (SubmissionState.PUBLISHED, Tier.CLAIMED),
        Kind.ENDPOINT: (SubmissionState.QUEUED, None),
    }
    expected = states.get(manifest.kind, (SubmissionState.AWAITING_ARTIFACT, None))
    assert (created.status, created.tier) == expected
    events = list(client.submission_events(created.name))
    assert [event.version for event in events] == list(range(1, int(created.etag) + 1))
    assert (events[0].change, events[-1].status) == (Change.CREATED, created.status)
    if manifest.kind is Kind.CLAIM:
        (row,) = (row for row in client.leaderboard(SPEC.name) if row.submission == created.name)
        check_row(row, manifest)
        assert [(value.finding, value.value) for value in row.metrics] == [
            (claim.finding, claim.value) for claim in manifest.claimed_metrics
        ]
        client.withdraw(created.name, "the next row is compared with rows that were run")
    if manifest.kind is Kind.ENDPOINT:
        ended = client.cancel(created.name, "nothing must wait for the next lease")
        assert ended.status is SubmissionState.CANCELLED


def check_row(row: Any, manifest: Manifest) -> None:
    for field in ("kind", "model", "organisation", "open_source", "source_kind", "source_url"):
        assert getattr(row, field) == getattr(manifest, field), field
    if manifest.submitted_date:
        assert row.submitted_date == manifest.submitted_date


@EXAMPLES
@given(
    manifest=ENDPOINTS,
    score=st.integers(1, 99).map(lambda percent: percent / 100),
    provenance=st.dictionaries(st.sampled_from(("device", "profile_digest", "kind")), WORDS),
    values=st.lists(st.floats(0, 1, width=32), min_size=14 * 4, max_size=14 * 4),
)
def test_predictions_report_evidence_and_row_come_back(client, manifest, score, provenance, values):
    lease = leased(client, manifest)
    probabilities = np.array(values, np.float32).reshape(len(IMAGES), -1)
    assert client.append_predictions(lease, Predictions(IMAGES, probabilities)) == len(IMAGES)
    (kept,) = client.read_predictions(lease)
    assert kept.images == IMAGES
    np.testing.assert_array_equal(kept.probabilities, probabilities)
    table = PredictionTable(image_rows(IMAGES), SPEC.findings)
    table.add(IMAGES, probabilities)
    message = report_message(SPEC, score, own_noise=1, predictions_sha256=table.sha256())
    report = reports.report(message)
    completed = client.complete_evaluation(lease, report, provenance)
    evaluation = client.get_evaluation(lease.evaluation)
    assert completed == evaluation
    assert (evaluation.report, evaluation.provenance) == (report, provenance)
    assert (evaluation.status, evaluation.failure) == (EvaluationState.SUCCEEDED, None)
    evidence = client.get_evidence(lease.evaluation)
    assert evidence.roc_curves == report.evidence.roc_curves
    assert evidence.reliabilities == report.evidence.reliabilities
    for mine, theirs in zip(report.evidence.replicates, evidence.replicates, strict=True):
        assert (mine.metric, mine.finding) == (theirs.metric, theirs.finding)
        np.testing.assert_array_equal(mine.values, theirs.values)
    row = next(
        row for row in client.leaderboard(SPEC.name) if row.submission == lease.submission.name
    )
    check_row(row, manifest)
    assert row.metrics == tuple(value for value in report.metrics if not value.slice)
    assert (row.score, row.tier) == (score, Tier.EXECUTED)
    assert row.profile_digest == provenance.get("profile_digest", "")
    macro = next(value for value in row.metrics if not value.finding)
    assert row.interval == macro.interval
    steps = {step.submission: step for step in client.sota_steps(SPEC.name)}
    if row.sota:
        step = steps[row.submission]
        assert (step.model, step.score, step.tier) == (manifest.model, score, Tier.EXECUTED)
        assert isinstance(step.significance, Significance)
    client.withdraw(row.submission, "one row at a time")


@EXAMPLES
@given(
    manifest=ENDPOINTS,
    failure=st.builds(Failure, st.just("BROKEN"), WORDS, st.just(Fault.SUBMISSION)),
)
def test_a_failure_comes_back(client, manifest, failure):
    lease = leased(client, manifest)
    failed = client.fail_evaluation(lease, failure)
    assert (failed.status, failed.failure) == (EvaluationState.FAILED, failure)
    assert client.get_evaluation(lease.evaluation) == failed
    submission = client.get_submission(lease.submission.name)
    assert (submission.status, submission.failure) == (SubmissionState.FAILED, failure)
    assert list(client.list_evaluations(submission.name)) == [failed]


LIMITS = st.none() | st.integers(0, 2**62)
QUOTAS = st.builds(Quota, LIMITS, LIMITS, LIMITS)


@EXAMPLES
@given(
    display_name=WORDS,
    quotas=st.tuples(QUOTAS, QUOTAS),
    role=st.sampled_from((Role.VIEWER, Role.SUBMITTER, Role.WORKER, Role.OPERATOR)),
    lifetime=st.none() | st.integers(1, 10_000).map(lambda seconds: timedelta(seconds=seconds)),
)
def test_organisations_quotas_and_keys_come_back(client, display_name, quotas, role, lifetime):
    identifier = str(uuid.uuid4())
    created = client.create_organisation(identifier, display_name, quotas[0])
    assert (created.organisation, created.display_name) == (identifier, display_name)
    assert created.quota == quotas[0]
    updated = client.update_organisation(identifier, display_name, quotas[1])
    assert updated.quota == client.quota(identifier).limits == quotas[1]
    assert updated in client.list_organisations()
    key, _ = client.create_key(identifier, role, lifetime)
    assert (key.role, key.expire_time is None) == (role, lifetime is None)
    assert list(client.list_keys(identifier)) == [key]
    revoked = client.revoke_key(key.name)
    assert list(client.list_keys(identifier)) == [revoked]
    assert (revoked.create_time, revoked.expire_time) == (key.create_time, key.expire_time)
    (event,) = (one for one in client.admin_events() if one.target == key.name)
    assert (event.action, event.time >= revoked.revoke_time) == ("key_revoked", True)
