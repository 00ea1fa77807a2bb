"""Codecs convert every field of records and messages, and are checked when they are created."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
from cxreval.client import _messages, models
from cxreval.datasets.benchmark import BenchmarkSpec, ranked_by
from cxreval.datasets.training_list import TrainingData
from cxreval.errors import CxrevalError, MalformedField, MissingField, UnknownValue
from cxreval.manifest.model import Kind, Manifest
from cxreval.metrics.finding_comparison import FindingComparison
from cxreval.metrics.ranking import Comparison
from cxreval.metrics.report import MetricValue, Report
from cxreval.records import (
    AdminEvent,
    BenchmarkCard,
    Canaries,
    Change,
    Failure,
    Purpose,
    Quota,
    Retirement,
    SubmissionState,
    Tier,
    Usage,
)
from cxreval.resource_names import BenchmarkName, EvaluationName, SubmissionName
from cxreval.wire import benchmarks, rankings, reports
from cxreval.wire.codec import Decoder, Encoder
from services.registry.convert import admin, audit, evaluations, leaderboard, submissions
from services.registry.domain import access, board
from services.registry.domain import records as domain
from tests.support.records import MOMENTS, NOON, records
from tests.support.registry import small_spec

ID = "0123456789abcdef" * 2
IDS = st.just(ID)
NAMES = st.just("small")
KEYS = st.just("0123456789abcdef")


def sent(message):
    """Returns the message after serialisation and parsing."""
    return type(message).FromString(message.SerializeToString())


# --- records that sender and receiver share -------------------------------------------------------


SHARED = [
    (_messages.manifest_message, submissions.manifest, Manifest),
    (_messages.failure_message, evaluations._failure, Failure),
    (_messages.quota_message, admin._quota, Quota),
    (_messages.usage_message, evaluations._usage, Usage),
    (_messages.canaries_message, evaluations._canaries, Canaries),
    (admin.event_message, _messages.admin_event, AdminEvent),
    (benchmarks.retirement_message, benchmarks._retirement, Retirement),
    (benchmarks.card_message, benchmarks.card, BenchmarkCard),
    (audit.head_message, _messages.head, Head),
    (rankings.comparison_message, rankings.comparison, Comparison),
    (reports.training_data_message, reports.training_data, TrainingData),
]


@pytest.mark.parametrize(("encode", "decode", "kind"), SHARED)
@given(data=st.data())
def test_shared_record_is_read_as_it_was_sent(encode, decode, kind, data):
    check_round_trip(encode, decode, data.draw(records(kind)))


def check_round_trip(encode, decode, record):
    assert decode(sent(encode(record))) == record


@given(records(BenchmarkSpec, name=NAMES, ranking_metric=st.just("auroc")))
def test_specification_is_read_as_it_was_sent(spec):
    assert benchmarks.spec(sent(benchmarks.spec_message(spec))) == spec


@given(records(Report))
@settings(max_examples=30)
def test_report_is_read_with_its_evidence(report):
    received = reports.report(sent(reports.report_message(report)))
    assert received == report
    assert (received.evidence is None) == (report.evidence is None)
    if report.evidence:
        expected, actual = report.evidence, received.evidence
        assert actual.roc_curves == expected.roc_curves
        assert actual.reliabilities == expected.reliabilities
        for left, right in zip(expected.replicates, actual.replicates, strict=True):
            assert (left.metric, left.finding) == (right.metric, right.finding)
            np.testing.assert_array_equal(left.values, right.values)


# --- records of the registry as its client reads them ---------------------------------------------


@given(records(domain.Submission, benchmark=NAMES, id=IDS, superseded_by=st.sampled_from(("", ID)),
               evaluation=st.sampled_from((None, ID))))  # fmt: skip
@settings(max_examples=30)
def test_client_reads_a_stored_submission(stored):
    assert _messages.submission(sent(submissions.submission_message(stored))) == client_submission(
        stored
    )


def client_submission(stored: domain.Submission) -> models.Submission:
    """Returns the client's record of a stored submission."""
    name = str(SubmissionName(stored.benchmark, ID))
    return models.Submission(
        name=name,
        kind=stored.kind,
        manifest=stored.manifest,
        status=stored.state,
        tier=stored.tier,
        create_time=stored.create_time,
        update_time=stored.update_time,
        evaluation=f"{name}/evaluations/{ID}" if stored.evaluation else "",
        images_done=stored.images_done,
        images_total=stored.images_total,
        failure=stored.failure,
        note=stored.note,
        etag=str(stored.version),
        seconds_left=stored.seconds_left,
        superseded_by=name if stored.superseded_by else "",
        replay=stored.replay,
        reproduction=stored.reproduction,
    )


@given(records(domain.Event))
def test_client_reads_a_stored_event(stored):
    assert _messages.event(sent(submissions.event_message(stored))) == models.Event(
        submission=stored.submission,
        version=stored.version,
        change=stored.change,
        status=stored.state,
        actor=stored.actor,
        reason=stored.reason,
        details=stored.details,
        time=stored.time,
    )


@given(
    records(
        AuditEvent,
        submission=st.just("benchmarks/small/submissions/0"),
        change=st.sampled_from(Change).map(str),
        state=st.sampled_from(SubmissionState).map(str),
        time=MOMENTS.map(lambda time: time.isoformat(timespec="microseconds")),
    )
)
def test_client_reads_an_audit_link_with_the_same_digest(link):
    received = _messages.audit_event(sent(audit.link_message(link)))
    assert received == link
    assert received.link("0" * 64) == link.link("0" * 64)
    sealed = link.sealed()
    assert _messages.audit_event(sent(audit.link_message(sealed))) == sealed


@given(records(Receipt))
def test_client_reads_a_signed_receipt(receipt):
    message = audit_service_pb2.Receipt(payload=receipt.payload, signature=receipt.signature)
    assert _messages.receipt(sent(message)) == receipt


@given(records(domain.Evaluation, benchmark=NAMES, submission=IDS, id=IDS))
def test_client_reads_a_stored_evaluation(stored):
    assert _messages.evaluation(sent(evaluations.evaluation_message(stored))) == models.Evaluation(
        name=str(EvaluationName("small", ID, ID)),
        status=stored.state,
        attempt=stored.attempt,
        worker=stored.worker,
        images_done=stored.images_done,
        create_time=stored.create_time,
        update_time=stored.update_time,
        report=stored.report,
        provenance=stored.provenance,
        failure=stored.failure,
        purpose=stored.purpose,
        agreement=stored.agreement,
        usage=stored.usage,
        limits=stored.limits,
    )


def test_evaluation_of_a_registry_without_purposes_measures():
    times = {"create_time": NOON, "update_time": NOON}
    message = evaluation_service_pb2.Evaluation(state="STATE_QUEUED", **times)
    assert _messages.evaluation(message).purpose is Purpose.MEASURE


@given(
    records(
        domain.Lease,
        evaluation=records(domain.Evaluation, benchmark=NAMES, submission=IDS, id=IDS,
                           report=st.none()),
        submission=records(domain.Submission, benchmark=NAMES, id=IDS, evaluation=IDS,
                           superseded_by=st.just("")),
        benchmark=records(domain.Benchmark, spec=st.just(small_spec("small"))),
    )
)  # fmt: skip
@settings(max_examples=30)
def test_worker_reads_a_lease_with_submission_and_benchmark(stored):
    message = sent(evaluations.lease_message(stored, "token", b"list"))
    assert _messages.lease(message) == models.Lease(
        evaluation=str(EvaluationName("small", ID, ID)),
        token=stored.token,
        attempt=stored.evaluation.attempt,
        images_done=stored.evaluation.images_done,
        duration_seconds=stored.seconds,
        submission=client_submission(stored.submission),
        benchmark=small_spec("small"),
        owner=stored.owner,
        endpoint_token="token",
        purpose=stored.evaluation.purpose,
        images=stored.images,
        training_list=b"list",
    )


@given(
    records(
        board.Row,
        submission=records(domain.Submission, benchmark=NAMES, id=IDS, tier=st.sampled_from(Tier)),
        figures=st.lists(records(MetricValue), max_size=3).map(
            lambda values: board.Figures(tuple(values))
        ),
    )
)  # fmt: skip
@settings(max_examples=30)
def test_client_reads_a_row_of_the_board(row):
    stored, manifest, ranked = row.submission, row.submission.manifest, row.ranked_row.ranked
    spread = models.RankSpread(
        rank_low=ranked.rank_low,
        rank_high=ranked.rank_high,
        first_share=ranked.first_share,
        mean_finding_rank=ranked.mean_finding_rank,
        finding_place=ranked.finding_place,
        places_disagree=ranked.places_disagree,
        undefined_replicates=ranked.undefined_replicates,
    )
    assert _messages.leaderboard_entry(sent(leaderboard.entry_message(row))) == (
        models.LeaderboardEntry(
            submission=str(SubmissionName("small", ID)),
            model=manifest.model,
            organisation=manifest.organisation,
            open_source=manifest.open_source,
            source_kind=manifest.source_kind,
            source_url=manifest.source_url,
            submitted_date=stored.submitted_date,
            tier=stored.tier,
            rank=ranked.rank,
            score=row.ranked_row.score,
            sota=row.ranked_row.sota,
            note=stored.note,
            profile_digest=row.profile_digest,
            metrics=row.figures.values,
            interval=row.score.interval if row.score else None,
            spread=None if row.ranked_row.kind is Kind.CLAIM else spread,
            disputed=stored.state is SubmissionState.DISPUTED,
            kind=manifest.kind,
            rank_undefined_reason=row.rank_undefined_reason,
            interval_undefined_reason=row.score.interval_undefined_reason if row.score else "",
            publish_time=row.ranked_row.publish_time,
            claimed_score=row.claimed_score,
            evaluation=(
                str(EvaluationName("small", ID, stored.evaluation)) if stored.evaluation else ""
            ),
            replay=stored.replay,
            reproduction=stored.reproduction,
            training_verdict=row.training_verdict,
            overlap_images=row.figures.contamination.images if row.figures.contamination else 0,
            overlap_patients=row.figures.contamination.patients if row.figures.contamination else 0,
            clean_score=row.clean_figure.value if row.clean_figure else None,
            clean_interval=row.clean_figure.interval if row.clean_figure else None,
        )
    )
    basic = leaderboard.entry_message(row)
    basic.ClearField("metrics")
    assert sent(leaderboard._basic_entry_message(row)) == basic
    assert _messages.sota_step(sent(leaderboard.step_message(row))) == models.SotaStep(
        submission=str(SubmissionName("small", ID)),
        model=manifest.model,
        organisation=manifest.organisation,
        submitted_date=stored.submitted_date,
        score=row.ranked_row.score or 0.0,
        tier=stored.tier,
        significance=ranked.significance,
        publish_time=row.ranked_row.publish_time,
        interval=row.score.interval if row.score else None,
        training_verdict=row.training_verdict,
        not_counted=ranked.not_counted,
    )


@given(records(board.Compared,
               pairs=st.lists(records(Comparison, first=IDS, second=IDS), max_size=2),
               frequencies=st.just({ID: (0.25, 0.75)}),
               findings=st.lists(
                   records(FindingComparison, first=IDS, second=IDS,
                           comparison=st.one_of(
                               st.none(), records(Comparison, first=IDS, second=IDS))),
                   max_size=2,
               ).map(tuple)))  # fmt: skip
def test_comparison_has_the_names_of_submissions(stored):
    message = leaderboard.compared_message(BenchmarkName("small"), stored)
    name = str(SubmissionName("small", ID))
    assert _messages.entry_comparison(sent(message)) == models.EntryComparison(
        pairs=tuple(replace(pair, first=name, second=name) for pair in stored.pairs),
        rank_frequencies={name: (0.25, 0.75)},
        undefined_replicates=stored.undefined_replicates,
        findings=tuple(
            models.FindingComparison(
                pair.finding,
                name,
                name,
                pair.comparison and replace(pair.comparison, first=name, second=name),
                pair.undefined_reason,
            )
            for pair in stored.findings
        ),
    )


@given(records(access.Organisation, id=NAMES), records(access.Usage))
def test_client_reads_a_stored_organisation_and_its_quota(stored, usage):
    assert _messages.organisation(sent(admin.organisation_message(stored))) == models.Organisation(
        "small", stored.display_name, stored.quota, stored.create_time
    )
    name = admin.OrganisationName("small")
    message = admin.usage_message(name, stored.quota, usage)
    assert _messages.quota_usage(sent(message)) == models.QuotaUsage(
        "small", stored.quota, usage.submissions_today, usage.concurrent, usage.stored_bytes,
        usage.reset_time,
    )  # fmt: skip


@given(records(access.ApiKey, id=KEYS, organisation=NAMES))
def test_client_reads_a_stored_key(stored):
    assert _messages.key_info(sent(admin.key_message(stored))) == models.KeyInfo(
        "organisations/small/keys/0123456789abcdef", stored.role, stored.create_time,
        stored.expire_time, stored.revoke_time,
    )  # fmt: skip


@given(records(domain.Rescore))
def test_client_reads_a_stored_rescore(stored):
    assert _messages.rescore(sent(audit.rescore_message(stored))) == models.Rescore(
        stored.evaluation, stored.actor, stored.time, stored.difference
    )


# --- unknown values -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("decode", "message", "field"),
    [
        (_messages.submission, submission_pb2.Submission(kind=99), "submission.kind"),
        (_messages.submission,
         submission_pb2.Submission(kind=1, manifest={"kind": 1, "source_kind": 99}),
         "submission.manifest.source_kind"),
        (_messages.submission,
         submission_pb2.Submission(
             kind=1, manifest={"kind": 1, "source_kind": 1}, state=1, tier=99),
         "submission.tier"),
        (_messages.event, submission_pb2.SubmissionEvent(change=99), "submission_event.change"),
        (_messages.evaluation, evaluation_service_pb2.Evaluation(state=99), "evaluation.state"),
        (_messages.sota_step, leaderboard_service_pb2.SotaStep(tier=1, significance=99),
         "sota_step.significance"),
        (_messages.key_info, admin_service_pb2.ApiKey(role=99), "api_key.role"),
        (benchmarks.spec,
         benchmark_service_pb2.Benchmark(metrics=[{"id": "auroc", "direction": 99}]),
         "benchmark.metrics.direction"),
    ],
)  # fmt: skip
def test_unknown_value_from_a_newer_registry_asks_to_upgrade_the_client(decode, message, field):
    with pytest.raises(UnknownValue, match=f"{field} is 99, .* upgrade cxreval") as caught:
        decode(message)
    assert caught.value.metadata["field"] == field
    assert "one of " in caught.value.metadata["expected"]


def test_audit_link_with_an_unknown_change_is_refused():
    link = audit_service_pb2.AuditLink(place=1, event={"submission": "s", "change": 99, "state": 1})
    with pytest.raises(UnknownValue, match="change is 99"):
        _messages.audit_event(link)


def test_answer_without_a_required_value_is_refused():
    with pytest.raises(MissingField, match=r"submission\.kind"):
        _messages.submission(submission_pb2.Submission())


def test_unknown_value_from_a_newer_client_is_refused_with_the_expected_values():
    with pytest.raises(MalformedField) as caught:
        evaluations.failure(submission_pb2.Failure(reason="BROKEN", fault=9))
    assert caught.value.metadata == {
        "field": "failure.fault",
        "value": "9",
        "expected": "one of FAULT_SUBMISSION, FAULT_SYSTEM",
    }


def test_registry_reports_all_unknown_values_of_a_manifest_together():
    errors: list[CxrevalError] = []
    manifest = submissions.manifest(
        submission_pb2.Manifest(kind=99, source_kind=98, format=97), errors
    )
    assert (manifest.kind, manifest.source_kind, manifest.format) == (None, None, None)
    named = {(type(error), error.metadata["field"], error.metadata["value"]) for error in errors}
    assert named == {
        (MalformedField, "manifest.kind", "99"),
        (MalformedField, "manifest.source_kind", "98"),
        (MalformedField, "manifest.format", "97"),
    }


def test_manifest_without_required_values_is_decoded():
    errors: list[CxrevalError] = []
    assert submissions.manifest(submission_pb2.Manifest(), errors).kind is None
    assert errors == []  # the rules of manifests name what is missing


def test_specification_without_ranking_metric_ranks_by_its_first_metric():
    spec = small_spec("small")
    message = benchmarks.spec_message(spec)
    message.ClearField("ranking_metric")
    message.ClearField("slices")
    message.ClearField("steps")
    assert benchmarks.spec(message) == spec


@pytest.mark.parametrize("metrics", [["auroc", "brier"], []])
def test_the_client_refuses_a_ranking_metric_that_is_none_of_the_metrics(metrics):
    message = benchmarks.spec_message(
        replace(small_spec("small"), metrics=ranked_by(*metrics), ranking_metric="f1")
    )
    message.digest = "0" * 64
    with pytest.raises(UnknownValue, match="ranks by 'f1'") as caught:
        _messages.benchmark(sent(message))
    assert caught.value.metadata["field"] == "benchmark.ranking_metric"


def test_slices_that_are_sent_are_kept_without_a_ranking_metric():
    message = benchmarks.spec_message(replace(small_spec("small"), slices=("view", "sex")))
    message.ClearField("ranking_metric")
    assert benchmarks.spec(message).slices == ("view", "sex")


def test_no_slices_beside_a_ranking_metric_are_no_slices():
    message = benchmarks.spec_message(replace(small_spec("small"), slices=()))
    assert benchmarks.spec(sent(message)).slices == ()


# --- a codec that leaves out a field cannot be created --------------------------------------------


@dataclass(frozen=True)
class Interval:
    low: float
    high: float
    standard_error: float


@dataclass(frozen=True)
class Short:
    low: float
    high: float


@dataclass(frozen=True)
class Long(Interval):
    median: float


@dataclass(frozen=True)
class Loose(Short):
    standard_error: float | None


@dataclass(frozen=True)
class Wrong(Short):
    standard_error: int


@dataclass(frozen=True)
class Many(Short):
    standard_error: tuple[float, ...]


@dataclass(frozen=True)
class Mapped(Short):
    standard_error: Mapping[str, str]


@pytest.mark.parametrize("make", [Encoder, Decoder])
@pytest.mark.parametrize(
    ("record", "tables", "error"),
    [
        (Short, {}, "field standard_error has no counterpart"),
        (Long, {}, "field median has no counterpart"),
        (Loose, {}, "field standard_error can be None only in the record"),
        (Wrong, {}, "field standard_error is <class 'int'> in the record"),
        (Many, {}, "field standard_error is a list only on one side"),
        (Mapped, {}, "field standard_error is .* only in the record"),
        (Interval, {"computed": {"mean": len}}, "field mean is in a table, but does not exist"),
        (Interval, {"sources": {"mean": "low"}}, "field mean is in a table, but does not exist"),
        (Interval, {"sources": {"low": "mean"}}, "field low has no counterpart mean"),
    ],
)
def test_field_on_one_side_only_is_an_error_that_names_record_message_and_field(
    make, record, tables, error
):
    with pytest.raises(TypeError, match=error) as caught:
        make(record, report_pb2.Interval, **tables)
    start = f"{make.__name__} of {record.__name__} and cxreval.api.scoring.v1.Interval: field "
    assert str(caught.value).startswith(start)


def test_needless_entry_of_a_table_is_an_error():
    with pytest.raises(TypeError, match="low is in a table of unused fields, but is used"):
        Encoder(Interval, report_pb2.Interval, unsent=("low",))
    with pytest.raises(TypeError, match="low is in a table of unused fields, but is used"):
        Decoder(Interval, report_pb2.Interval, unread=("low",))
    with pytest.raises(TypeError, match="mean is in a table, but does not exist"):
        Encoder(Interval, report_pb2.Interval, unset=("mean",))


def test_optional_message_field_needs_a_record_field_that_can_be_none():
    @dataclass
    class Present:
        rank_low: int
        rank_high: int | None
        first_share: float | None
        mean_finding_rank: float | None
        finding_place: int | None
        places_disagree: bool
        undefined_replicates: int

    with pytest.raises(TypeError, match="rank_low is optional only in the message"):
        Decoder(Present, leaderboard_service_pb2.RankSpread)


def test_enum_must_have_the_values_of_the_message():
    class Fault(StrEnum):
        SUBMISSION = "submission"

    class More(StrEnum):
        SUBMISSION = "submission"
        SYSTEM = "system"
        WEATHER = "weather"

    for kind, error in (
        (Fault, "has the value SYSTEM only in cxreval.api.registry.v1.Failure.Fault"),
        (More, "has the value WEATHER only in More"),
    ):
        hints = {"reason": str, "message": str, "fault": kind}
        record = dataclass(type("Failure", (), {"__annotations__": hints}))
        for make in (Encoder, Decoder):
            with pytest.raises(TypeError, match=f"field fault {error}"):
                make(record, submission_pb2.Failure)


def test_duration_can_be_a_timedelta_or_seconds():
    @dataclass
    class Request:
        parent: str
        role: Tier
        lifetime: timedelta | None
        request_id: str

    unused = {"computed": {"role": lambda _: None}}
    encode = Encoder(Request, admin_service_pb2.CreateApiKeyRequest, **unused)
    decode = Decoder(Request, admin_service_pb2.CreateApiKeyRequest, **unused)
    for lifetime in (None, timedelta(0), timedelta(days=1, microseconds=1)):
        record = Request("organisations/o", None, lifetime, "")
        assert decode(sent(encode(record))) == record
