"""What the client gives and takes: plain dataclasses and enumerations, no protobuf."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from cxreval.audit.chain import Head
from cxreval.datasets.benchmark import BenchmarkSpec
from cxreval.manifest.model import Kind, Manifest, SourceKind
from cxreval.metrics.ranking import Comparison, Significance
from cxreval.metrics.report import Interval, MetricValue, Report
from cxreval.records import Change, EvaluationState, Failure, Quota, Role, SubmissionState, Tier


@dataclass(frozen=True, slots=True)
class Submission:
    """Something handed in, with its state.

    `etag` changes with every event. `seconds_left` is an estimate of what the running evaluation
    still takes; None until there is progress to judge by. `superseded_by` is another submission's
    name, or empty.
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


@dataclass(frozen=True, slots=True)
class Event:
    """One change of a submission: what happened, the state afterwards, who did it and why."""

    submission: str
    version: int
    change: Change
    status: SubmissionState
    actor: str
    reason: str
    details: Mapping[str, str]
    time: datetime


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One run of a submission."""

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


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to run an evaluation, for `duration_seconds` at a time."""

    evaluation: str
    token: str = field(repr=False)
    attempt: int
    images_done: int
    duration_seconds: float
    submission: Submission
    benchmark: BenchmarkSpec
    endpoint_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """Probabilities of some images: shape (images, findings), float32, columns in the benchmark's
    order of findings."""

    images: tuple[str, ...]
    probabilities: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class RankSpread:
    """How firmly a row stands in its place.

    `rank_low`, `rank_high`: the range of its rank in 95 % of the resamples; `first_share`: how many
    of them it leads.
    `mean_finding_rank`: mean over the findings of its rank there, None when one has no score;
    `finding_place`: its
    place by that figure. `places_disagree`: that place is another one than its place by score.
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
    """A row of the board. `score` is the macro of the primary metric in its own unit (AUROC: 0 to
    1).

    Rows with evidence that the paired test cannot separate share a `rank`. `metrics` are those over
    all images. A claim has neither `interval` nor `spread`.
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


@dataclass(frozen=True, slots=True)
class Board:
    """A board, to iterate over: the rows with evidence by rank, then the claims by rank.

    `audit_head`: the audit chain's, when the board was read; its events up to there made the board.
    """

    entries: tuple[LeaderboardEntry, ...]
    audit_head: Head

    def __iter__(self) -> Iterator[LeaderboardEntry]:
        return iter(self.entries)


@dataclass(frozen=True, slots=True)
class SotaStep:
    """A record that was broken; `significance` says whether by more than chance, None where the
    service does not."""

    submission: str
    model: str
    organisation: str
    submitted_date: str
    score: float
    tier: Tier
    significance: Significance | None


@dataclass(frozen=True, slots=True)
class EntryComparison:
    """Some rows of a board compared, every two of them, named by submission.

    `rank_frequencies`: for each row the share of the resamples in which it has rank 1, 2, ... among
    them. `undefined_replicates`: resamples left out, because the score of every row is undefined
    there.
    """

    pairs: tuple[Comparison, ...]
    rank_frequencies: Mapping[str, tuple[float, ...]]
    undefined_replicates: int


@dataclass(frozen=True, slots=True)
class TruthInfo:
    """A benchmark that a scoring service can score."""

    benchmark: str
    benchmark_digest: str
    image_count: int
    patient_count: int


@dataclass(frozen=True, slots=True)
class ProfileInfo:
    """A preprocessing profile of an inference service; `shape` is channels, height, width."""

    name: str
    digest: str
    shape: tuple[int, ...]
    description: str


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an inference service can do."""

    profiles: tuple[ProfileInfo, ...]
    max_message_bytes: int
    max_image_bytes: int
    max_image_pixels: int
    max_model_bytes: int
    runtime: str


@dataclass(frozen=True, slots=True)
class Organisation:
    """Whom submissions belong to, by its identifier."""

    organisation: str
    display_name: str
    quota: Quota
    create_time: datetime


@dataclass(frozen=True, slots=True)
class QuotaUsage:
    """A quota and its use; `submissions_today` is 0 again at `reset_time`."""

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
