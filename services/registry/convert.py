"""Protobuf messages of the registry to the domain's records and back.

Reading a message checks its form; what it may say is the domain's to judge.
"""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from google.protobuf.duration_pb2 import Duration
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.timestamp_pb2 import Timestamp

from cxreval.api.registry.v1 import audit_service_pb2 as audit_pb
from cxreval.api.registry.v1 import benchmark_service_pb2 as benchmark_pb
from cxreval.api.registry.v1 import evaluation_service_pb2 as evaluation_pb
from cxreval.api.registry.v1 import leaderboard_service_pb2 as leaderboard_pb
from cxreval.api.registry.v1 import submission_pb2 as submission_pb
from cxreval.api.scoring.v1 import report_pb2 as report_pb
from cxreval.audit.chain import AuditEvent, Head
from cxreval.datasets.benchmark import SLICES, BenchmarkMetric, BenchmarkSpec, spec_problem
from cxreval.errors import CxrevalError, InvalidProbability, MalformedBatch
from cxreval.fields import (
    check_pattern,
    check_text,
    field_error,
    not_allowed,
    printable,
    require,
)
from cxreval.manifest.model import (
    MAX_CLAIMS,
    CheckpointFormat,
    ClaimedMetric,
    Endpoint,
    Environment,
    Kind,
    Manifest,
    Reproduction,
    SourceKind,
)
from cxreval.manifest.rules import problems, refusal
from cxreval.metrics.registry import Direction
from cxreval.resource_names import BenchmarkName, EvaluationName, SubmissionName
from cxreval.wire import rankings, reports
from cxreval.wire.limits import (
    DEFAULT_PAGE_SIZE,
    MAX_BATCH_IMAGES,
    MAX_FAILURE_CHARACTERS,
    MAX_PAGE_SIZE,
    MAX_PROVENANCE_CHARACTERS,
    MAX_PROVENANCE_ENTRIES,
    MAX_REASON_CHARACTERS,
    MAX_TOKEN_CHARACTERS,
)
from services.registry.domain.board import MOST_COMPARED, Compared, Figures, Row
from services.registry.domain.pages import Cursor, page_size
from services.registry.domain.records import (
    Benchmark,
    Change,
    ChangeRequest,
    Evaluation,
    Event,
    Failure,
    Fault,
    Lease,
    PredictionBatch,
    Submission,
    SubmissionState,
)
from services.registry.domain.states import fewest_requests_per_second
from services.registry.store.boards import KEPT_REPORTS

MAX_WORKER_CHARACTERS = 200
MAX_LEASE_BENCHMARKS = 100
MAX_IMAGE_CHARACTERS = 255

_REASON = re.compile(r"[A-Z][A-Z0-9_]{0,62}")
_TOKEN = re.compile(rf"[!-~]{{1,{MAX_TOKEN_CHARACTERS}}}")
_ETAG = re.compile(r"[1-9][0-9]{0,8}")
_PROVENANCE_KEY = re.compile(r"(?=.{1,64}\Z)[a-z0-9]+(_[a-z0-9]+)*")

E = TypeVar("E", bound=StrEnum)


# --- requests -------------------------------------------------------------------------------------


def cursor(kind: str, parent: str, size: int, token: str) -> Cursor:
    """Where a page begins and how long it is. Raises `MalformedField`, `InvalidPageToken`."""
    return Cursor.parse(kind, parent, page_size(size, DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE), token)


def request_id(text: str) -> str:
    """A UUID as 32 hex characters, or empty. Raises `MalformedField`."""
    if not text:
        return ""
    expected = "empty, or a UUID such as 123e4567-e89b-12d3-a456-426614174000"
    try:
        parsed = uuid.UUID(text)
    except ValueError:
        raise field_error("request_id", text, expected) from None
    return parsed.hex


def spec(message: benchmark_pb.Benchmark) -> BenchmarkSpec:
    """The specification of a benchmark to create. Raises `MalformedField`."""
    metrics = tuple(
        BenchmarkMetric(
            metric.id,
            _to_enum(
                Direction,
                benchmark_pb.Metric.Direction,
                "DIRECTION_",
                f"benchmark.metrics[{index}].direction",
                metric.direction,
            ),
        )
        for index, metric in enumerate(message.metrics)
    )
    found = BenchmarkSpec(
        name=BenchmarkName.parse(message.name, "benchmark.name").benchmark,
        title=message.title,
        synthetic=message.synthetic,
        list_file=message.list_file,
        list_sha256=message.list_sha256,
        labels_file=message.labels_file,
        labels_sha256=message.labels_sha256,
        image_count=message.image_count,
        patient_count=message.patient_count,
        findings=tuple(message.findings),
        metrics=metrics,
        ranking_metric=message.ranking_metric or (metrics[0].id if metrics else ""),
        scorer_version=message.scorer_version,
        replicates=message.replicates,
        # A client that states no ranking metric is older than slices.
        slices=tuple(message.slices) if message.ranking_metric else SLICES,
    )
    problem = spec_problem(found)
    if problem:
        field, expected = problem
        raise field_error(f"benchmark.{field}", getattr(found, field), expected)
    return found


def manifest(message: submission_pb.Manifest) -> Manifest:
    """A manifest, unchecked but for its enumerators. Raises `MalformedField`."""
    unknown: list[CxrevalError] = []
    found = _declared(message, unknown)
    if unknown:
        raise refusal(unknown)
    return found


def checked_manifest(message: submission_pb.Manifest, of: BenchmarkSpec, today: date) -> Manifest:
    """A manifest without fault for a submission to the benchmark `of`; `today` is the day in UTC.

    Raises:
        CxrevalError: the first thing that is wrong, with all others in its `also`.
    """
    unknown: list[CxrevalError] = []
    found = _declared(message, unknown)
    named = {error.metadata["field"] for error in unknown}
    rest = [
        *problems(found, today, of),
        *_too_slow(found, of.image_count),
    ]
    unknown += [error for error in rest if error.metadata["field"] not in named]
    if unknown:
        raise refusal(unknown)
    return found


def _too_slow(manifest: Manifest, images: int) -> Iterator[CxrevalError]:
    """An endpoint that could not be asked about every image before its evaluation expires."""
    fewest = fewest_requests_per_second(images)
    if manifest.endpoint and 0 < manifest.endpoint.requests_per_second < fewest:
        expected = f"at least {math.ceil(100 * fewest) / 100:g}, for {images} images in half a day"
        yield field_error(
            "manifest.endpoint.requests_per_second", manifest.endpoint.requests_per_second, expected
        )


def _declared(message: submission_pb.Manifest, unknown: list[CxrevalError]) -> Manifest:
    """The manifest as it was sent; enumerators that are unknown here are noted and left out."""

    def word(kind: type[E], wrapper: EnumTypeWrapper, prefix: str, field: str) -> Any:
        number = getattr(message, field)
        try:
            return _to_enum(kind, wrapper, prefix, f"manifest.{field}", number) if number else None
        except CxrevalError as error:
            unknown.append(error)
            return None

    how, where, endpoint = message.reproduction, message.environment, message.endpoint
    return Manifest(
        kind=word(Kind, submission_pb.Submission.Kind, "KIND_", "kind"),
        model=message.model,
        organisation=message.organisation,
        open_source=message.open_source,
        source_kind=word(SourceKind, submission_pb.SourceKind, "SOURCE_KIND_", "source_kind"),
        source_url=message.source_url,
        contact=message.contact,
        format=word(
            CheckpointFormat, submission_pb.CheckpointFormat, "CHECKPOINT_FORMAT_", "format"
        ),
        architecture=message.architecture,
        endpoint=Endpoint(
            endpoint.address, endpoint.tls, endpoint.model_name, endpoint.requests_per_second
        )
        if message.HasField("endpoint")
        else None,
        reproduction=Reproduction(how.repository, how.commit, how.seed, how.script)
        if message.HasField("reproduction")
        else None,
        environment=Environment(where.python_version, tuple(where.dependencies))
        if message.HasField("environment")
        else None,
        preprocessing_profile=message.preprocessing_profile,
        output_names=tuple(message.output_names),
        claimed_metrics=tuple(
            ClaimedMetric(claim.metric, claim.value, claim.finding)
            for claim in message.claimed_metrics[: MAX_CLAIMS + 1]
        ),
        artifact_sha256=message.artifact_sha256,
        submitted_date=message.submitted_date,
    )


def endpoint_token(token: str, of: Manifest) -> str:
    """What an endpoint is sent; no error repeats it. Raises `MalformedField`."""
    if token and of.kind is not Kind.ENDPOINT:
        raise not_allowed("endpoint_token", f"kind {of.kind}")
    if token and not _TOKEN.fullmatch(token):
        raise field_error(
            "endpoint_token",
            "malformed",
            f"1 to {MAX_TOKEN_CHARACTERS} printable ASCII characters without spaces",
        )
    return token


def worker(request: evaluation_pb.LeaseEvaluationRequest) -> tuple[str, list[BenchmarkName]]:
    """Who asks for work, and for which benchmarks. Raises `MissingField`, `MalformedField`."""
    check_text("worker", request.worker, MAX_WORKER_CHARACTERS)
    require("benchmarks", request.benchmarks, "at least one benchmarks/{benchmark}")
    if len(request.benchmarks) > MAX_LEASE_BENCHMARKS:
        raise field_error(
            "benchmarks", f"a list of {len(request.benchmarks)}", f"at most {MAX_LEASE_BENCHMARKS}"
        )
    return request.worker, [
        BenchmarkName.parse(name, f"benchmarks[{index}]")
        for index, name in enumerate(request.benchmarks)
    ]


def batch(message: report_pb.PredictionBatch) -> PredictionBatch:
    """Predictions to record. Raises `MalformedBatch`, `InvalidProbability`."""
    images = tuple(message.images)
    if not 0 < len(images) <= MAX_BATCH_IMAGES:
        raise field_error(
            "batch.images",
            f"a list of {len(images)}",
            f"1 to {MAX_BATCH_IMAGES} images",
            MalformedBatch,
        )
    for index, image in enumerate(images):
        if not (0 < len(image) <= MAX_IMAGE_CHARACTERS and image.isprintable()):
            expected = f"a file name of 1 to {MAX_IMAGE_CHARACTERS} printable characters"
            raise field_error(f"batch.images[{index}]", image, expected, MalformedBatch)
    if len(set(images)) != len(images):
        raise field_error(
            "batch.images", "a list with repetitions", "each image once", MalformedBatch
        )
    values = reports.probabilities(message)
    if values.size % len(images):
        expected = f"as many for each of the {len(images)} images"
        raise field_error(
            "batch.probabilities", f"a list of {values.size}", expected, MalformedBatch
        )
    wrong = np.flatnonzero(~((values >= 0) & (values <= 1)))
    if wrong.size:
        first = int(wrong[0])
        image = images[first // (values.size // len(images))]
        expected = "a finite number from 0 to 1"
        raise field_error(
            f"batch.probabilities[{first}]",
            values[first],
            expected,
            InvalidProbability,
            image=image,
        )
    return PredictionBatch(
        images, tuple(row.astype("<f4").tobytes() for row in values.reshape(len(images), -1))
    )


def provenance(found: Mapping[str, str]) -> dict[str, str]:
    """The evidence of a run, of printable characters. Raises `MalformedField`."""
    if len(found) > MAX_PROVENANCE_ENTRIES:
        raise field_error(
            "provenance", f"a map of {len(found)}", f"at most {MAX_PROVENANCE_ENTRIES} entries"
        )
    for key, value in found.items():
        if not _PROVENANCE_KEY.fullmatch(key):
            raise field_error(
                "provenance",
                key,
                "keys of lower-case words joined by underscores, at most 64 characters",
            )
        if len(value) > MAX_PROVENANCE_CHARACTERS:
            raise field_error(
                f"provenance.{key}", value, f"at most {MAX_PROVENANCE_CHARACTERS} characters"
            )
    return {key: printable(value) for key, value in found.items()}


def compared_names(request: leaderboard_pb.CompareEntriesRequest) -> list[SubmissionName]:
    """The rows to compare. Raises `MalformedField`."""
    names = request.submissions[
        : MOST_COMPARED + 1
    ]  # one too many is refused by the domain, millions are not read
    return [SubmissionName.parse(name, f"submissions[{index}]") for index, name in enumerate(names)]


def failure(message: submission_pb.Failure) -> Failure:
    """Why an evaluation failed; a longer message is cut, and what is not printable in it is a
    space.

    What strangers' files and servers say gets into it, and from it to terminals and pages.

    Raises:
        MissingField, MalformedField: reason or fault is.
    """
    check_pattern("failure.reason", message.reason, _REASON, "a name such as MODEL_OUTPUT_MISMATCH")
    fault = _to_enum(Fault, submission_pb.Failure.Fault, "FAULT_", "failure.fault", message.fault)
    return Failure(message.reason, printable(message.message[:MAX_FAILURE_CHARACTERS]), fault)


def _to_enum(kind: type[E], wrapper: EnumTypeWrapper, prefix: str, field: str, number: int) -> E:
    expected = f"one of {', '.join(prefix + member.name for member in kind)}"
    require(field, number, expected)
    try:
        return kind[wrapper.Name(number).removeprefix(prefix)]
    except (KeyError, ValueError):
        raise field_error(field, number, expected) from None


def change_request(request: Any, change: Change, **more: Any) -> ChangeRequest:
    """What a request of the lifecycle asks for. Raises `MissingField`, `MalformedField`."""
    check_text("reason", request.reason, MAX_REASON_CHARACTERS)
    if request.etag and not _ETAG.fullmatch(request.etag):
        raise field_error("etag", request.etag, "empty, or the etag of a submission")
    etag = int(request.etag) if request.etag else None
    return ChangeRequest(change, request.reason, etag, request_id(request.request_id), **more)


def moment(message: Timestamp) -> datetime:
    """A moment of a request, `as_of`. Raises `MalformedField`."""
    try:
        return message.ToDatetime(UTC)
    except (ValueError, OverflowError):
        raise field_error("as_of", message.seconds, "a time from year 1 to 9999") from None


# --- answers --------------------------------------------------------------------------------------


def benchmark_message(benchmark: Benchmark) -> benchmark_pb.Benchmark:
    """A benchmark as it travels."""
    found = benchmark.spec
    return benchmark_pb.Benchmark(
        name=str(BenchmarkName(found.name)),
        title=found.title,
        synthetic=found.synthetic,
        image_count=found.image_count,
        patient_count=found.patient_count,
        list_sha256=found.list_sha256,
        labels_sha256=found.labels_sha256,
        findings=found.findings,
        metrics=[
            benchmark_pb.Metric(id=metric.id, direction=f"DIRECTION_{metric.direction.name}")
            for metric in found.metrics
        ],
        ranking_metric=found.ranking_metric,
        slices=found.slices,
        scorer_version=found.scorer_version,
        digest=found.digest,
        create_time=timestamp(benchmark.create_time),
        list_file=found.list_file,
        labels_file=found.labels_file,
        replicates=found.replicates,
    )


def submission_message(submission: Submission) -> submission_pb.Submission:
    """A submission as it travels."""
    evaluation = submission.evaluation
    return submission_pb.Submission(
        name=_submission_name(submission),
        kind=f"KIND_{submission.kind.name}",
        manifest=_manifest_message(submission.manifest),
        state=f"STATE_{submission.state.name}",
        tier=_tier(submission),
        create_time=timestamp(submission.create_time),
        update_time=timestamp(submission.update_time),
        evaluation=str(EvaluationName(submission.benchmark, submission.id, evaluation))
        if evaluation
        else "",
        images_done=submission.images_done,
        images_total=submission.images_total,
        failure=_failure_message(submission.failure),
        note=submission.note,
        etag=str(submission.version),
        time_left=None if submission.seconds_left is None else _duration(submission.seconds_left),
        superseded_by=(
            str(SubmissionName(submission.benchmark, submission.superseded_by))
            if submission.superseded_by
            else ""
        ),
    )


def event_message(event: Event) -> submission_pb.SubmissionEvent:
    """An event as it travels."""
    return submission_pb.SubmissionEvent(
        submission=event.submission,
        version=event.version,
        change=f"CHANGE_{event.change.name}",
        state=f"STATE_{event.state.name}",
        actor=event.actor,
        reason=event.reason,
        details=event.details,
        time=timestamp(event.time),
    )


def link_message(link: AuditEvent) -> audit_pb.AuditLink:
    """A link of the audit chain as it travels."""
    if link.is_sealed:
        return audit_pb.AuditLink(place=link.place, digest=link.digest)
    event = submission_pb.SubmissionEvent(
        submission=link.submission,
        version=link.version,
        change=f"CHANGE_{link.change.upper()}",
        state=f"STATE_{link.state.upper()}",
        actor=link.actor,
        reason=link.reason,
        details=link.details,
        time=timestamp(datetime.fromisoformat(link.time)),
    )
    return audit_pb.AuditLink(
        place=link.place,
        event=event,
        digest=link.digest,
        number=link.number,
        id=link.id,
        request_id=link.request_id,
    )


def head_message(head: Head) -> audit_pb.AuditHead:
    """The head of the audit chain as it travels."""
    return audit_pb.AuditHead(place=head.place, digest=head.digest)


def evaluation_message(evaluation: Evaluation) -> evaluation_pb.Evaluation:
    """An evaluation as it travels."""
    return evaluation_pb.Evaluation(
        name=str(EvaluationName(evaluation.benchmark, evaluation.submission, evaluation.id)),
        state=f"STATE_{evaluation.state.name}",
        attempt=evaluation.attempt,
        worker=evaluation.worker,
        images_done=evaluation.images_done,
        create_time=timestamp(evaluation.create_time),
        update_time=timestamp(evaluation.update_time),
        report=reports.report_message(evaluation.report) if evaluation.report else None,
        provenance=evaluation.provenance,
        failure=_failure_message(evaluation.failure),
    )


def lease_message(lease: Lease, endpoint_token: str = "") -> evaluation_pb.Lease:
    """A lease as it travels."""
    return evaluation_pb.Lease(
        endpoint_token=endpoint_token,
        evaluation=evaluation_message(lease.evaluation),
        token=lease.token,
        duration=_duration(lease.seconds),
        submission=submission_message(lease.submission),
        benchmark=benchmark_message(lease.benchmark),
    )


def batch_message(found: PredictionBatch) -> report_pb.PredictionBatch:
    """Recorded predictions as they travel."""
    return report_pb.PredictionBatch(images=found.images, probabilities=b"".join(found.rows))


def entry_message(row: Row) -> leaderboard_pb.LeaderboardEntry:
    """A row of the board as it travels."""
    declared = row.submission.manifest
    return leaderboard_pb.LeaderboardEntry(
        submission=_submission_name(row.submission),
        kind=f"KIND_{declared.kind.name}",
        model=declared.model,
        organisation=declared.organisation,
        open_source=declared.open_source,
        source_kind=_source_kind(declared),
        source_url=declared.source_url,
        submitted_date=row.submission.submitted_date,
        tier=_tier(row.submission),
        rank=row.standing.place.rank,
        score=row.standing.score,
        metrics=_figures_messages(row.figures),
        sota=row.standing.sota,
        note=row.submission.note,
        profile_digest=row.profile_digest,
        interval=reports.interval_message(row.score.interval) if row.score else None,
        spread=None
        if row.standing.kind is Kind.CLAIM
        else rankings.spread_message(row.standing.place),
        disputed=row.submission.state is SubmissionState.DISPUTED,
    )


@lru_cache(KEPT_REPORTS)
def _figures_messages(figures: Figures) -> list[report_pb.MetricValue]:
    """Kept, since they are most of a page: what takes them copies them."""
    return [reports.metric_value_message(value) for value in figures.values]


def step_message(row: Row) -> leaderboard_pb.SotaStep:
    """A state-of-the-art step as it travels."""
    return leaderboard_pb.SotaStep(
        submission=_submission_name(row.submission),
        model=row.submission.manifest.model,
        organisation=row.submission.manifest.organisation,
        submitted_date=row.submission.submitted_date,
        score=row.standing.score,
        tier=_tier(row.submission),
        significance=rankings.significance_value(row.standing.place.significance),
    )


def compared_message(
    parent: BenchmarkName, found: Compared
) -> leaderboard_pb.CompareEntriesResponse:
    """A comparison of rows as it travels."""

    def name(submission: str) -> str:
        return str(SubmissionName(parent.benchmark, submission))

    return leaderboard_pb.CompareEntriesResponse(
        comparisons=[
            rankings.comparison_message(pair, name(pair.first), name(pair.second))
            for pair in found.pairs
        ],
        rank_frequencies=[
            leaderboard_pb.RankFrequencies(submission=name(submission), shares=shares)
            for submission, shares in found.frequencies.items()
        ],
        undefined_replicates=found.undefined_replicates,
    )


def _submission_name(found: Submission) -> str:
    return str(SubmissionName(found.benchmark, found.id))


def timestamp(moment: datetime) -> Timestamp:
    """A moment as it travels."""
    message = Timestamp()
    message.FromDatetime(moment)
    return message


def _duration(seconds: float) -> Duration:
    message = Duration()
    message.FromTimedelta(timedelta(seconds=seconds))
    return message


def _manifest_message(found: Manifest) -> submission_pb.Manifest:
    how, where, endpoint = found.reproduction, found.environment, found.endpoint
    return submission_pb.Manifest(
        kind=f"KIND_{found.kind.name}",
        model=found.model,
        organisation=found.organisation,
        open_source=found.open_source,
        source_kind=_source_kind(found),
        source_url=found.source_url,
        contact=found.contact,
        format=f"CHECKPOINT_FORMAT_{found.format.name}" if found.format else None,
        architecture=found.architecture,
        endpoint=submission_pb.Endpoint(**asdict(endpoint)) if endpoint else None,
        reproduction=submission_pb.Reproduction(**asdict(how)) if how else None,
        environment=submission_pb.Environment(**asdict(where)) if where else None,
        preprocessing_profile=found.preprocessing_profile,
        output_names=found.output_names,
        claimed_metrics=[
            submission_pb.ClaimedMetric(
                metric=claim.metric, finding=claim.finding, value=claim.value
            )
            for claim in found.claimed_metrics
        ],
        artifact_sha256=found.artifact_sha256,
        submitted_date=found.submitted_date,
    )


def _failure_message(found: Failure | None) -> submission_pb.Failure | None:
    if found is None:
        return None
    return submission_pb.Failure(
        reason=found.reason, message=found.message, fault=f"FAULT_{found.fault.name}"
    )


def _source_kind(found: Manifest) -> str:
    return f"SOURCE_KIND_{found.source_kind.name}"


def _tier(found: Submission) -> str:
    return f"TIER_{found.tier.name if found.tier else 'UNSPECIFIED'}"
