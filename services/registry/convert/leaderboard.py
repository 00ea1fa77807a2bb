"""Converts rows of boards, steps of the state of the art, and comparisons."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache

from cxreval.api.registry.v1 import leaderboard_service_pb2 as pb
from cxreval.api.scoring.v1 import report_pb2
from cxreval.datasets.benchmark import MAX_FINDINGS
from cxreval.fields import field_error
from cxreval.manifest.model import Kind
from cxreval.metrics.finding_comparison import FindingComparison
from cxreval.metrics.ranking import Comparison
from cxreval.records import SubmissionState
from cxreval.resource_names import BenchmarkName, SubmissionName
from cxreval.wire import rankings, reports
from cxreval.wire.codec import Encoder
from services.registry.convert import requests
from services.registry.convert.submissions import evaluation_name, submission_name
from services.registry.domain.board import MOST_COMPARED, Compared, Figures, Row
from services.registry.store.boards import KEPT_REPORTS, OWN, Choice

_MANIFEST_FIELDS = ("kind", "model", "organisation", "open_source", "source_kind", "source_url")


@dataclass(frozen=True, slots=True)
class RequestedBoard:
    """The board that a request is about: of a benchmark, at a time, by a metric and findings."""

    parent: BenchmarkName
    as_of: datetime | None
    choice: Choice

    @property
    def key(self) -> str:
        """A text that no other board has, for page tokens."""
        key = f"{self.parent} {self.as_of or 'now'}"
        if self.choice == OWN:
            return key
        # The digest of the choice, because tokens have a limited length.
        return f"{key} {hashlib.sha256(repr(self.choice).encode()).hexdigest()}"


def requested_board(
    request: pb.ListLeaderboardEntriesRequest | pb.ListSotaStepsRequest,
) -> RequestedBoard:
    """Returns the board of a request. Raises `MalformedField`."""
    if len(request.findings) > MAX_FINDINGS:
        expected = f"at most {MAX_FINDINGS}"
        raise field_error("findings", f"a list of {len(request.findings)}", expected)
    return RequestedBoard(
        BenchmarkName.parse(request.parent, "parent"),
        requests.moment(request.as_of) if request.HasField("as_of") else None,
        (request.metric, tuple(request.findings)),
    )


def row_encoder(request: pb.ListLeaderboardEntriesRequest) -> Encoder[Row, pb.LeaderboardEntry]:
    """Returns what makes messages of rows in the requested view. Raises `MalformedField`."""
    if request.view not in pb.LeaderboardView.values():
        raise field_error("view", request.view, f"one of {', '.join(pb.LeaderboardView.keys())}")
    return _basic_entry_message if request.view == pb.LEADERBOARD_VIEW_BASIC else entry_message


def compared_names(request: pb.CompareEntriesRequest) -> list[SubmissionName]:
    """Returns the names of the submissions to compare. Raises `MalformedField`."""
    # One name more than allowed, which `check_compared` refuses; the others are not parsed.
    names = request.submissions[: MOST_COMPARED + 1]
    return [SubmissionName.parse(name, f"submissions[{index}]") for index, name in enumerate(names)]


def compared_message(parent: BenchmarkName, compared: Compared) -> pb.CompareEntriesResponse:
    """Returns a comparison of rows as a message."""

    def name(submission: str) -> str:
        return str(SubmissionName(parent.benchmark, submission))

    def named(pair: Comparison) -> Comparison:
        return replace(pair, first=name(pair.first), second=name(pair.second))

    return pb.CompareEntriesResponse(
        comparisons=[rankings.comparison_message(named(pair)) for pair in compared.pairs],
        rank_frequencies=[
            pb.RankFrequencies(submission=name(submission), shares=shares)
            for submission, shares in compared.frequencies.items()
        ],
        undefined_replicates=compared.undefined_replicates,
        findings=[
            _finding_message(
                replace(
                    pair,
                    first=name(pair.first),
                    second=name(pair.second),
                    comparison=pair.comparison and named(pair.comparison),
                )
            )
            for pair in compared.findings
        ],
    )


_finding_message = Encoder(FindingComparison, pb.FindingComparison)


@lru_cache(KEPT_REPORTS)
def _metrics(figures: Figures) -> tuple[report_pb2.MetricValue, ...]:
    """Returns figures as messages, cached because they are the largest part of a page."""
    # A message that they are added to copies them, so callers cannot change the cached ones.
    return tuple(reports.metric_value_message(value) for value in figures.values)


entry_message = Encoder(
    Row,
    pb.LeaderboardEntry,
    sources={
        **{name: f"submission.manifest.{name}" for name in _MANIFEST_FIELDS},
        "submitted_date": "submission.submitted_date",
        "tier": "submission.tier",
        "note": "submission.note",
        "replay": "submission.replay",
        "reproduction": "submission.reproduction",
        "rank": "ranked_row.ranked.rank",
        "score": "ranked_row.score",
        "sota": "ranked_row.sota",
        "publish_time": "ranked_row.publish_time",
    },
    computed={
        "submission": lambda row: submission_name(row.submission),
        "metrics": lambda row: _metrics(row.figures),
        "interval": lambda row: (
            reports.interval_message(row.score.interval)
            if row.score and row.score.interval
            else None
        ),
        "spread": lambda row: (
            None
            if row.ranked_row.kind is Kind.CLAIM
            else rankings.spread_message(row.ranked_row.ranked)
        ),
        "rank_undefined_reason": lambda row: row.rank_undefined_reason,
        "interval_undefined_reason": lambda row: (
            row.score.interval_undefined_reason if row.score else ""
        ),
        "disputed": lambda row: row.submission.state is SubmissionState.DISPUTED,
        "evaluation": lambda row: evaluation_name(row.submission),
        "training_verdict": lambda row: report_pb2.TrainingVerdict.Value(
            f"TRAINING_VERDICT_{row.training_verdict.name}"
        ),
        "overlap_images": lambda row: getattr(row.figures.contamination, "images", 0),
        "overlap_patients": lambda row: getattr(row.figures.contamination, "patients", 0),
        "clean_score": lambda row: row.clean_figure.value if row.clean_figure else None,
        "clean_interval": lambda row: (
            reports.interval_message(row.clean_figure.interval)
            if row.clean_figure and row.clean_figure.interval
            else None
        ),
    },
    unsent=("figures", "score"),
)
_basic_entry_message = replace(
    entry_message,
    computed={key: value for key, value in entry_message.computed.items() if key != "metrics"},
    unset=("metrics",),
)
step_message = Encoder(
    Row,
    pb.SotaStep,
    sources={
        "model": "submission.manifest.model",
        "organisation": "submission.manifest.organisation",
        "submitted_date": "submission.submitted_date",
        "tier": "submission.tier",
        "significance": "ranked_row.ranked.significance",
        "not_counted": "ranked_row.ranked.not_counted",
        "publish_time": "ranked_row.publish_time",
    },
    computed={
        "submission": lambda row: submission_name(row.submission),
        "score": lambda row: row.ranked_row.score,
        "interval": entry_message.computed["interval"],
        "training_verdict": entry_message.computed["training_verdict"],
    },
    unsent=("figures", "profile_digest", "claimed_score"),
)
