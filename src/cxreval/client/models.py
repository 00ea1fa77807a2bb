"""The dataclasses that the clients take and return."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import overload

import numpy as np
from numpy.typing import NDArray

from cxreval.audit.chain import Head
from cxreval.datasets.benchmark import BenchmarkSpec
from cxreval.manifest.model import Kind, Manifest, SourceKind
from cxreval.metrics.finding_comparison import FindingComparison
from cxreval.metrics.ranking import Comparison, Significance
from cxreval.metrics.report import Interval, MetricValue, Report, covered_findings
from cxreval.records import (
    Agreement,
    BenchmarkCard,
    Canaries,
    Change,
    EvaluationState,
    Failure,
    Purpose,
    Quota,
    Retirement,
    Role,
    SubmissionState,
    Tier,
    Usage,
)


@dataclass(frozen=True, slots=True)
class DescribedBenchmark:
    """A benchmark with why it takes no submissions, and what is stated about its data set."""

    spec: BenchmarkSpec
    retirement: Retirement | None
    card: BenchmarkCard | None


@dataclass(frozen=True, slots=True)
class Submission:
    """A submission with its manifest and state.

    `etag` changes with every event. `seconds_left`: estimated time until the running evaluation
    ends; None before its first progress. `superseded_by`: the name of another submission, or empty.
    `replay`, `reproduction`: the latest one that gave predictions.
    """

    name: str
    kind: Kind
    manifest: Manifest
    status: SubmissionState
    tier: Tier | None
    create_time: datetime
    update_time: datetime
    evaluation: str
    images_done: int
    images_total: int
    failure: Failure | None
    note: str
    etag: str
    seconds_left: float | None
    superseded_by: str
    replay: Agreement | None = None
    reproduction: Agreement | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """A change of a submission: what, the state after it, when, by whom and why.

    In the audit chain it can be a change of a benchmark: `submission` is then the benchmark's
    resource name, and `status` is None.
    """

    submission: str
    version: int
    change: Change
    status: SubmissionState | None
    actor: str
    reason: str
    details: Mapping[str, str]
    time: datetime


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One run of a submission: for its report, or for a comparison with it.

    `usage`, `limits`: of the submitter's script; None if none ran.
    """

    name: str
    status: EvaluationState
    attempt: int
    worker: str
    images_done: int
    create_time: datetime
    update_time: datetime
    report: Report | None
    provenance: Mapping[str, str]
    failure: Failure | None
    purpose: Purpose = Purpose.MEASURE
    agreement: Agreement | None = None
    usage: Usage | None = None
    limits: Usage | None = None


@dataclass(frozen=True, slots=True)
class Lease:
    """A worker's exclusive right to run an evaluation, for `duration_seconds` unless renewed.

    `owner` is the organisation that owns the submission; empty without keys. `images`: those to
    predict; empty for all of the benchmark.
    """

    evaluation: str
    token: str = field(repr=False)
    attempt: int
    images_done: int
    duration_seconds: float
    submission: Submission
    benchmark: BenchmarkSpec
    owner: str
    endpoint_token: str = field(default="", repr=False)
    purpose: Purpose = Purpose.MEASURE
    images: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ScriptRecord:
    """What is recorded of a run of a submitter's script; `output` is what it printed."""

    usage: Usage
    limits: Usage
    canaries: Canaries | None = None
    output: bytes = b""


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """The predictions for some images.

    `probabilities`: shape (images, covered findings), float32, columns in the order of the
    benchmark's findings. `attempts`: of predictions that a worker reads, the attempt that recorded
    each image. `findings`: of all predictions behind a report, the finding of each column.
    """

    images: tuple[str, ...]
    probabilities: NDArray[np.float32]
    attempts: tuple[int, ...] = ()
    findings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rescore:
    """A report that a caller computed again from the recorded predictions of an evaluation.

    `actor`: the caller's key. `difference`: the first part that differs from the published report;
    empty if the reports are the same, bit for bit.
    """

    evaluation: str
    actor: str
    time: datetime
    difference: str


@dataclass(frozen=True, slots=True)
class RankSpread:
    """How certain the rank of a row is.

    `rank_low`, `rank_high`: range of the rank in 95 % of the resamples; `first_share`: share of the
    resamples in which the row ranks first. `mean_finding_rank`: mean of its ranks by each finding,
    None if a finding has no score; `finding_place`: rank by that mean. `places_disagree`: that rank
    differs from the rank by score. `undefined_replicates`: number of resamples that are left out,
    because the score of every row is undefined there.
    """

    rank_low: int | None
    rank_high: int | None
    first_share: float | None
    mean_finding_rank: float | None
    finding_place: int | None
    places_disagree: bool
    undefined_replicates: int


@dataclass(frozen=True, slots=True)
class LeaderboardEntry:
    """A row of a board.

    `score`: the mean of the board's metric over the board's findings, in the metric's own unit.
    Rows that the paired test cannot separate share a `rank`; `rank_undefined_reason` says why a row
    has none, `interval_undefined_reason` why a score has no interval. `metrics`: the figures over
    all images. A claim has neither `interval` nor `spread`. `submitted_date`: declared by the
    submitter. `publish_time`: when the row was put on the board, by the registry's clock; None if
    the registry is too old to say it. `claimed_score`: the submitter's own figure for the same;
    None if the submitter states none. `evaluation`: the one behind the row; empty for a claim.
    """

    submission: str
    model: str
    organisation: str
    open_source: bool
    source_kind: SourceKind
    source_url: str
    submitted_date: str
    tier: Tier
    rank: int | None
    score: float | None
    sota: bool
    note: str
    profile_digest: str
    metrics: tuple[MetricValue, ...]
    interval: Interval | None = None
    spread: RankSpread | None = None
    disputed: bool = False
    kind: Kind = Kind.CHECKPOINT
    rank_undefined_reason: str = ""
    interval_undefined_reason: str = ""
    publish_time: datetime | None = None
    claimed_score: float | None = None
    evaluation: str = ""
    replay: Agreement | None = None
    reproduction: Agreement | None = None

    @property
    def covered_findings(self) -> tuple[str, ...]:
        """The findings that the model covers, or that the claim states, by the metrics."""
        return covered_findings(self.metrics)


@dataclass(frozen=True, slots=True)
class Board:
    """A board: a sequence of the rows with evidence by rank, then the claims by rank.

    `audit_head`: head of the audit chain when the board was read; the events up to it determine the
    board.
    """

    entries: tuple[LeaderboardEntry, ...]
    audit_head: Head

    def __iter__(self) -> Iterator[LeaderboardEntry]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    @overload
    def __getitem__(self, index: int) -> LeaderboardEntry: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[LeaderboardEntry, ...]: ...
    def __getitem__(self, index: int | slice) -> LeaderboardEntry | tuple[LeaderboardEntry, ...]:
        return self.entries[index]


@dataclass(frozen=True, slots=True)
class SotaStep:
    """A step of the state of the art.

    `significance`, `publish_time`: None if the registry is too old to state them. Steps of rows
    with evidence are in the order of `publish_time`, those of claims in that of `submitted_date`.
    """

    submission: str
    model: str
    organisation: str
    submitted_date: str
    score: float
    tier: Tier
    significance: Significance | None
    publish_time: datetime | None = None
    interval: Interval | None = None


@dataclass(frozen=True, slots=True)
class EntryComparison:
    """The comparison of every pair of some rows of a board; rows are named by submission.

    `rank_frequencies`: for each row, the share of the resamples in which it has rank 1, 2, ...
    among these rows. `undefined_replicates`: number of resamples that are left out, because the
    score of every row is undefined there. `findings`: the same pairs by each finding, if that was
    requested.
    """

    pairs: tuple[Comparison, ...]
    rank_frequencies: Mapping[str, tuple[float, ...]]
    undefined_replicates: int
    findings: tuple[FindingComparison, ...] = ()


@dataclass(frozen=True, slots=True)
class TruthInfo:
    """A benchmark whose ground truth a scoring service has."""

    benchmark: str
    benchmark_digest: str
    image_count: int
    patient_count: int


@dataclass(frozen=True, slots=True)
class ProfileInfo:
    """A preprocessing preset of an inference service.

    `shape` is (channels, height, width); -1 stands for a size of the image's own.
    """

    name: str
    digest: str
    shape: tuple[int, ...]
    description: str


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The preprocessing profiles, limits and runtime of an inference service.

    `repeat_tolerance`: largest difference that is expected of two answers to one image. `device`:
    where models run, such as `cpu` or `cuda`; `threads`: those of one run of a model. `version`,
    `python`, `platform`: as `cxreval.build_info`, of the service. Empty and 0 if the service is too
    old to state them.
    """

    profiles: tuple[ProfileInfo, ...]
    max_message_bytes: int
    max_image_bytes: int
    max_image_pixels: int
    max_model_bytes: int
    runtime: str
    repeat_tolerance: float
    device: str = ""
    threads: int = 0
    version: str = ""
    python: str = ""
    platform: str = ""


@dataclass(frozen=True, slots=True)
class Organisation:
    """An owner of submissions, keys and a quota; `organisation` is its identifier."""

    organisation: str
    display_name: str
    quota: Quota
    create_time: datetime


@dataclass(frozen=True, slots=True)
class QuotaUsage:
    """The quota of an organisation and its use; `submissions_today` becomes 0 at `reset_time`."""

    organisation: str
    limits: Quota
    submissions_today: int
    concurrent: int
    stored_bytes: int
    reset_time: datetime


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """An API key without its text."""

    name: str
    role: Role
    create_time: datetime
    expire_time: datetime | None
    revoke_time: datetime | None
