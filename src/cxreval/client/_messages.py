"""Converts the dataclasses of the client to protobuf messages and back."""

from __future__ import annotations

from cxreval.api.registry.v1 import (
    admin_service_pb2,
    audit_service_pb2,
    benchmark_service_pb2,
    evaluation_service_pb2,
    leaderboard_service_pb2,
    submission_pb2,
)
from cxreval.api.scoring.v1 import report_pb2
from cxreval.audit.chain import AuditEvent, Head
from cxreval.audit.receipts import Receipt
from cxreval.client import models
from cxreval.datasets.benchmark import BenchmarkSpec
from cxreval.errors import BenchmarkDigestMismatch, UnknownValue
from cxreval.fields import shown
from cxreval.manifest.model import Manifest
from cxreval.metrics.finding_comparison import FindingComparison
from cxreval.records import AdminEvent, Canaries, Failure, Part, Purpose, Quota, Usage
from cxreval.resource_names import OrganisationName
from cxreval.wire import benchmarks, rankings, reports
from cxreval.wire.codec import Decoder, Encoder, newer_peer


def benchmark(message: benchmark_service_pb2.Benchmark) -> BenchmarkSpec:
    """Returns the specification of a benchmark.

    Raises:
        UnknownValue: the ranking metric is not one of the metrics.
        BenchmarkDigestMismatch: this version of cxreval computes another digest for it.
    """
    spec = benchmarks.spec(message)
    if spec.ranking_metric not in spec.metric_names:
        metrics = ", ".join(spec.metric_names) or "none"
        text = (
            f"{message.name} ranks by {shown(spec.ranking_metric)!r}, which is not one of its "
            f"metrics ({shown(metrics)}); upgrade cxreval, or report it to the registry's operator"
        )
        field, expected = "benchmark.ranking_metric", "one of benchmark.metrics"
        raise UnknownValue(text, field=field, value=shown(spec.ranking_metric), expected=expected)
    if spec.digest != message.digest:
        text = (
            f"{message.name} has digest {message.digest}, but this version of cxreval computes "
            f"{spec.digest}; use the registry's version of cxreval"
        )
        raise BenchmarkDigestMismatch(text, field="digest", found=message.digest)
    return spec


def described_benchmark(message: benchmark_service_pb2.Benchmark) -> models.DescribedBenchmark:
    """Returns a benchmark with its retirement and its card. Raises as `benchmark`."""
    return models.DescribedBenchmark(
        benchmark(message),
        benchmarks.retirement(message) if message.HasField("retirement") else None,
        benchmarks.card(message.card) if message.HasField("card") else None,
    )


def audit_event(link: audit_service_pb2.AuditLink) -> AuditEvent:
    """Returns the event in a link of the audit chain, in the form that its digest covers."""
    if not link.HasField("event"):
        return AuditEvent(link.place, "", 0, "", "", "", "", {}, "", 0, "", "", link.digest)
    change = event(link.event)
    return AuditEvent(
        place=link.place,
        submission=change.submission,
        version=change.version,
        change=change.change.value,
        state=change.status.value if change.status else "",
        actor=change.actor,
        reason=change.reason,
        details=change.details,
        time=change.time.isoformat(timespec="microseconds"),
        number=link.number,
        id=link.id,
        request_id=link.request_id,
        digest=link.digest,
    )


def predictions(
    message: report_pb2.PredictionBatch, attempts: tuple[int, ...] = ()
) -> models.Predictions:
    """Returns a batch of predictions."""
    images = tuple(message.images)
    values = reports.probabilities(message).reshape(len(images), -1)
    return models.Predictions(images, values, attempts)


def entry_comparison(
    message: leaderboard_service_pb2.CompareEntriesResponse,
) -> models.EntryComparison:
    """Returns the comparison of rows."""
    return models.EntryComparison(
        pairs=tuple(rankings.comparison(pair) for pair in message.comparisons),
        rank_frequencies={row.submission: tuple(row.shares) for row in message.rank_frequencies},
        undefined_replicates=message.undefined_replicates,
        findings=tuple(map(_finding_comparison, message.findings)),
    )


def organisation_message(
    identifier: str, display_name: str, quota: Quota
) -> admin_service_pb2.Organisation:
    """Returns the message of an organisation."""
    return admin_service_pb2.Organisation(
        name=str(OrganisationName(identifier)),
        display_name=display_name,
        quota=quota_message(quota),
    )


def purpose(number: int) -> Purpose:
    """Returns the purpose of an evaluation; that of an older registry, which sends none, is to
    measure. Raises `UnknownValue`."""
    if not number:
        return Purpose.MEASURE
    known = evaluation_service_pb2.Purpose
    try:
        return Purpose(known.Name(number).removeprefix("PURPOSE_").lower())
    except ValueError:
        expected = f"one of {', '.join(known.keys()[1:])}"
        raise newer_peer("evaluation.purpose", number, expected) from None


def submission_file(submission: str, part: Part) -> submission_pb2.SubmissionFile:
    """Returns the message that names a file of a submission beside its artifact."""
    return submission_pb2.SubmissionFile(submission=submission, part=f"PART_{part.name}")


def _organisation_id(
    message: admin_service_pb2.Organisation | admin_service_pb2.QuotaUsage,
) -> str:
    """Returns the identifier of the organisation that a message names."""
    return OrganisationName.parse(message.name).organisation


manifest_message = Encoder(Manifest, submission_pb2.Manifest)
failure_message = Encoder(Failure, submission_pb2.Failure)
usage_message = Encoder(Usage, evaluation_service_pb2.Usage)
canaries_message = Encoder(Canaries, evaluation_service_pb2.Canaries)
quota_message = Encoder(Quota, admin_service_pb2.Quota)

submission = Decoder(
    models.Submission,
    submission_pb2.Submission,
    sources={"status": "state", "seconds_left": "time_left"},
)
event = Decoder(models.Event, submission_pb2.SubmissionEvent, sources={"status": "state"})
head = Decoder(Head, audit_service_pb2.AuditHead)
receipt = Decoder(Receipt, audit_service_pb2.Receipt)
evaluation = Decoder(
    models.Evaluation,
    evaluation_service_pb2.Evaluation,
    sources={"status": "state"},
    computed={
        "report": lambda message: (
            reports.report(message.report) if message.HasField("report") else None
        ),
        "purpose": lambda message: purpose(message.purpose),
    },
)
rescore = Decoder(models.Rescore, audit_service_pb2.Rescore)
lease = Decoder(
    models.Lease,
    evaluation_service_pb2.Lease,
    sources={
        "evaluation": "evaluation.name",
        "attempt": "evaluation.attempt",
        "images_done": "evaluation.images_done",
        "duration_seconds": "duration",
    },
    computed={
        "benchmark": lambda message: benchmark(message.benchmark),
        "purpose": lambda message: purpose(message.evaluation.purpose),
    },
    nested=[submission],
)
_finding_comparison = Decoder(FindingComparison, leaderboard_service_pb2.FindingComparison)
leaderboard_entry = Decoder(models.LeaderboardEntry, leaderboard_service_pb2.LeaderboardEntry)
sota_step = Decoder(models.SotaStep, leaderboard_service_pb2.SotaStep)
organisation = Decoder(
    models.Organisation,
    admin_service_pb2.Organisation,
    computed={"organisation": _organisation_id},
    unread=("name",),
)
quota_usage = Decoder(
    models.QuotaUsage,
    admin_service_pb2.QuotaUsage,
    computed={"organisation": _organisation_id},
    unread=("name",),
)
key_info = Decoder(models.KeyInfo, admin_service_pb2.ApiKey)
admin_event = Decoder(AdminEvent, admin_service_pb2.AdminEvent)
