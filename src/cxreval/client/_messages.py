"""The client's dataclasses to protobuf messages and back. Protobuf stops here."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeVar

from cxreval import records
from cxreval.api.access.v1 import access_pb2
from cxreval.api.registry.v1 import (
    admin_service_pb2,
    audit_service_pb2,
    benchmark_service_pb2,
    evaluation_service_pb2,
    leaderboard_service_pb2,
    submission_pb2,
)
from cxreval.audit.chain import AuditEvent
from cxreval.client import models
from cxreval.datasets.benchmark import METRICS, BenchmarkSpec
from cxreval.errors import BenchmarkDigestMismatch
from cxreval.manifest.model import (
    CheckpointFormat,
    ClaimedMetric,
    Endpoint,
    Environment,
    Kind,
    Manifest,
    Reproduction,
    SourceKind,
)
from cxreval.resource_names import BenchmarkName, OrganisationName
from cxreval.wire import rankings, reports

_E = TypeVar("_E", bound=StrEnum)
_Direction = benchmark_service_pb2.Metric.Direction


def _to_enum(kind: type[_E], wrapper: Any, number: int, prefix: str) -> _E:
    return kind[wrapper.Name(number).removeprefix(prefix)]


def _from_enum(value: StrEnum | None, wrapper: Any, prefix: str) -> Any:
    return wrapper.Value(prefix + value.name) if value else 0


def time(stamp: Any) -> datetime:
    """A timestamp in UTC."""
    return stamp.ToDatetime(tzinfo=UTC)  # type: ignore[no-any-return]


def benchmark_message(spec: BenchmarkSpec) -> benchmark_service_pb2.Benchmark:
    """The specification as it travels."""
    directions = {
        "higher": _Direction.DIRECTION_HIGHER_IS_BETTER,
        "lower": _Direction.DIRECTION_LOWER_IS_BETTER,
    }
    return benchmark_service_pb2.Benchmark(
        name=str(BenchmarkName(spec.name)),
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
            benchmark_service_pb2.Metric(id=metric, direction=directions[METRICS[metric]])
            for metric in spec.metrics
        ],
        scorer_version=spec.scorer_version,
        replicates=spec.replicates,
    )


def benchmark(message: benchmark_service_pb2.Benchmark) -> BenchmarkSpec:
    """The specification. Raises `BenchmarkDigestMismatch` when this cxreval's rules give it another
    digest."""
    spec = BenchmarkSpec(
        name=BenchmarkName.parse(message.name).benchmark,
        title=message.title,
        synthetic=message.synthetic,
        image_count=message.image_count,
        patient_count=message.patient_count,
        list_file=message.list_file,
        list_sha256=message.list_sha256,
        labels_file=message.labels_file,
        labels_sha256=message.labels_sha256,
        findings=tuple(message.findings),
        metrics=tuple(metric.id for metric in message.metrics),
        scorer_version=message.scorer_version,
        replicates=message.replicates,
    )
    if not set(spec.metrics) <= METRICS.keys() or spec.digest != message.digest:
        text = f"{message.name} has digest {message.digest}, but not by this cxreval's rules; use matching versions"
        raise BenchmarkDigestMismatch(text, field="digest", found=message.digest)
    return spec


def manifest_message(manifest: Manifest) -> submission_pb2.Manifest:
    """The manifest as it travels."""
    how, where, endpoint = manifest.reproduction, manifest.environment, manifest.endpoint
    return submission_pb2.Manifest(
        kind=_from_enum(manifest.kind, submission_pb2.Submission.Kind, "KIND_"),
        model=manifest.model,
        organisation=manifest.organisation,
        open_source=manifest.open_source,
        source_kind=_from_enum(manifest.source_kind, submission_pb2.SourceKind, "SOURCE_KIND_"),
        format=_from_enum(manifest.format, submission_pb2.CheckpointFormat, "CHECKPOINT_FORMAT_"),
        architecture=manifest.architecture,
        endpoint=submission_pb2.Endpoint(**dataclasses.asdict(endpoint)) if endpoint else None,
        source_url=manifest.source_url,
        contact=manifest.contact,
        reproduction=submission_pb2.Reproduction(**dataclasses.asdict(how)) if how else None,
        environment=submission_pb2.Environment(**dataclasses.asdict(where)) if where else None,
        preprocessing_profile=manifest.preprocessing_profile,
        output_names=manifest.output_names,
        claimed_metrics=[
            submission_pb2.ClaimedMetric(
                metric=claim.metric, finding=claim.finding, value=claim.value
            )
            for claim in manifest.claimed_metrics
        ],
        artifact_sha256=manifest.artifact_sha256,
        submitted_date=manifest.submitted_date,
    )


def _manifest(message: submission_pb2.Manifest) -> Manifest:
    how, where, endpoint = message.reproduction, message.environment, message.endpoint
    return Manifest(
        kind=_to_enum(Kind, submission_pb2.Submission.Kind, message.kind, "KIND_"),
        model=message.model,
        organisation=message.organisation,
        open_source=message.open_source,
        source_kind=_to_enum(
            SourceKind, submission_pb2.SourceKind, message.source_kind, "SOURCE_KIND_"
        ),
        source_url=message.source_url,
        contact=message.contact,
        format=_to_enum(
            CheckpointFormat, submission_pb2.CheckpointFormat, message.format, "CHECKPOINT_FORMAT_"
        )
        if message.format
        else None,
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
            for claim in message.claimed_metrics
        ),
        artifact_sha256=message.artifact_sha256,
        submitted_date=message.submitted_date,
    )


def submission(message: submission_pb2.Submission) -> models.Submission:
    """A submission."""
    kinds = submission_pb2.Submission
    return models.Submission(
        name=message.name,
        kind=_to_enum(Kind, kinds.Kind, message.kind, "KIND_"),
        manifest=_manifest(message.manifest),
        status=_to_enum(records.SubmissionState, kinds.State, message.state, "STATE_"),
        tier=_to_enum(records.Tier, submission_pb2.Tier, message.tier, "TIER_")
        if message.tier
        else None,
        create_time=time(message.create_time),
        update_time=time(message.update_time),
        evaluation=message.evaluation,
        images_done=message.images_done,
        images_total=message.images_total,
        failure=_failure(message),
        note=message.note,
        etag=message.etag,
        seconds_left=message.time_left.ToTimedelta().total_seconds()
        if message.HasField("time_left")
        else None,
        superseded_by=message.superseded_by,
    )


def event(message: submission_pb2.SubmissionEvent) -> models.Event:
    """One change of a submission."""
    return models.Event(
        submission=message.submission,
        version=message.version,
        change=_to_enum(
            records.Change, submission_pb2.SubmissionEvent.Change, message.change, "CHANGE_"
        ),
        status=_to_enum(
            records.SubmissionState, submission_pb2.Submission.State, message.state, "STATE_"
        ),
        actor=message.actor,
        reason=message.reason,
        details=dict(message.details),
        time=time(message.time),
    )


def audit_event(link: audit_service_pb2.AuditLink) -> AuditEvent:
    """A link of the audit chain, in the very form that its digest is of."""
    message = link.event
    if not link.HasField("event"):
        return AuditEvent(link.place, "", 0, "", "", "", "", {}, "", 0, "", "", link.digest)
    return AuditEvent(
        place=link.place,
        submission=message.submission,
        version=message.version,
        change=submission_pb2.SubmissionEvent.Change.Name(message.change)
        .removeprefix("CHANGE_")
        .lower(),
        state=submission_pb2.Submission.State.Name(message.state).removeprefix("STATE_").lower(),
        actor=message.actor,
        reason=message.reason,
        details=dict(message.details),
        time=time(message.time).isoformat(timespec="microseconds"),
        number=link.number,
        id=link.id,
        request_id=link.request_id,
        digest=link.digest,
    )


def _failure(
    message: submission_pb2.Submission | evaluation_service_pb2.Evaluation,
) -> records.Failure | None:
    if not message.HasField("failure"):
        return None
    failure = message.failure
    fault = _to_enum(records.Fault, submission_pb2.Failure.Fault, failure.fault, "FAULT_")
    return records.Failure(failure.reason, failure.message, fault)


def failure_message(failure: records.Failure) -> submission_pb2.Failure:
    """A failure as it travels."""
    fault = _from_enum(failure.fault, submission_pb2.Failure.Fault, "FAULT_")
    return submission_pb2.Failure(reason=failure.reason, message=failure.message, fault=fault)


def evaluation(message: evaluation_service_pb2.Evaluation) -> models.Evaluation:
    """An evaluation."""
    states = evaluation_service_pb2.Evaluation.State
    return models.Evaluation(
        name=message.name,
        status=_to_enum(records.EvaluationState, states, message.state, "STATE_"),
        attempt=message.attempt,
        worker=message.worker,
        images_done=message.images_done,
        create_time=time(message.create_time),
        update_time=time(message.update_time),
        report=reports.report(message.report) if message.HasField("report") else None,
        provenance=dict(message.provenance),
        failure=_failure(message),
    )


def lease(message: evaluation_service_pb2.Lease) -> models.Lease:
    """A lease."""
    return models.Lease(
        evaluation=message.evaluation.name,
        token=message.token,
        attempt=message.evaluation.attempt,
        images_done=message.evaluation.images_done,
        duration_seconds=message.duration.ToTimedelta().total_seconds(),
        submission=submission(message.submission),
        benchmark=benchmark(message.benchmark),
        endpoint_token=message.endpoint_token,
    )


def leaderboard_entry(message: leaderboard_service_pb2.LeaderboardEntry) -> models.LeaderboardEntry:
    """A row of the board."""
    return models.LeaderboardEntry(
        kind=_to_enum(Kind, submission_pb2.Submission.Kind, message.kind, "KIND_"),
        submission=message.submission,
        model=message.model,
        organisation=message.organisation,
        open_source=message.open_source,
        source_kind=_to_enum(
            SourceKind, submission_pb2.SourceKind, message.source_kind, "SOURCE_KIND_"
        ),
        source_url=message.source_url,
        submitted_date=message.submitted_date,
        tier=_to_enum(records.Tier, submission_pb2.Tier, message.tier, "TIER_"),
        rank=message.rank if message.HasField("rank") else None,
        score=message.score if message.HasField("score") else None,
        sota=message.sota,
        note=message.note,
        profile_digest=message.profile_digest,
        metrics=tuple(reports.metric_value(value) for value in message.metrics),
        interval=reports.interval(message.interval) if message.HasField("interval") else None,
        spread=models.RankSpread(**rankings.spread_fields(message.spread))
        if message.HasField("spread")
        else None,
        disputed=message.disputed,
    )


def sota_step(message: leaderboard_service_pb2.SotaStep) -> models.SotaStep:
    """A record that was broken."""
    return models.SotaStep(
        submission=message.submission,
        model=message.model,
        organisation=message.organisation,
        submitted_date=message.submitted_date,
        score=message.score,
        tier=_to_enum(records.Tier, submission_pb2.Tier, message.tier, "TIER_"),
        significance=rankings.significance(message.significance),
    )


def entry_comparison(
    message: leaderboard_service_pb2.CompareEntriesResponse,
) -> models.EntryComparison:
    """Rows compared with each other."""
    return models.EntryComparison(
        pairs=tuple(rankings.comparison(pair) for pair in message.comparisons),
        rank_frequencies={row.submission: tuple(row.shares) for row in message.rank_frequencies},
    )


def organisation_message(
    identifier: str, display_name: str, quota: records.Quota
) -> admin_service_pb2.Organisation:
    """An organisation as it should be."""
    return admin_service_pb2.Organisation(
        name=str(OrganisationName(identifier)),
        display_name=display_name,
        quota=admin_service_pb2.Quota(
            submissions_per_day=quota.submissions_per_day,
            concurrent=quota.concurrent,
            stored_bytes=quota.stored_bytes,
        ),
    )


def organisation(message: admin_service_pb2.Organisation) -> models.Organisation:
    """An organisation."""
    return models.Organisation(
        organisation=OrganisationName.parse(message.name).organisation,
        display_name=message.display_name,
        quota=_quota(message.quota),
        create_time=time(message.create_time),
    )


def quota_usage(message: admin_service_pb2.QuotaUsage) -> models.QuotaUsage:
    """A quota and its use."""
    return models.QuotaUsage(
        organisation=OrganisationName.parse(message.name).organisation,
        limits=_quota(message.limits),
        submissions_today=message.submissions_today,
        concurrent=message.concurrent,
        stored_bytes=message.stored_bytes,
        reset_time=time(message.reset_time),
    )


def key_info(message: admin_service_pb2.ApiKey) -> models.KeyInfo:
    """A key."""
    return models.KeyInfo(
        name=message.name,
        role=_to_enum(records.Role, access_pb2.Role, message.role, "ROLE_"),
        create_time=time(message.create_time),
        expire_time=time(message.expire_time) if message.HasField("expire_time") else None,
        revoke_time=time(message.revoke_time) if message.HasField("revoke_time") else None,
    )


def _quota(message: admin_service_pb2.Quota) -> records.Quota:
    fields = ("submissions_per_day", "concurrent", "stored_bytes")
    return records.Quota(
        **{field: getattr(message, field) for field in fields if message.HasField(field)}
    )
