"""Enumerations and records that the registry and its clients share.

The value of an enumeration's member is stored in databases, audit digests and JSON; it never
changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

FLAGGED_SHARE = 0.25
"""A script is flagged if more of its canaries are over the threshold.

Not the median decides: most radiographs have no finding, and for these a script that looks labels
up may return zeros, whether it finds the image or not.
"""


class Tier(StrEnum):
    """How the figures of a row came about, from the least evidence to the most."""

    CLAIMED = "claimed"
    SCORED = "scored"
    EXECUTED = "executed"
    REPLAYED = "replayed"
    REPRODUCED = "reproduced"


class SubmissionState(StrEnum):
    """The state of a submission."""

    AWAITING_ARTIFACT = "awaiting_artifact"
    QUEUED = "queued"
    RUNNING = "running"
    PUBLISHED = "published"
    DISPUTED = "disputed"
    SUPERSEDED = "superseded"
    WITHDRAWN = "withdrawn"
    FAILED = "failed"
    CANCELLED = "cancelled"


class EvaluationState(StrEnum):
    """The state of an evaluation."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Change(StrEnum):
    """A change of a submission; each is one event."""

    CREATED = "created"
    QUEUED = "queued"
    LEASED = "leased"
    RETURNED = "returned"
    LEASE_EXPIRED = "lease_expired"
    PUBLISHED = "published"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    RETRIED = "retried"
    DISPUTED = "disputed"
    RESOLVED = "resolved"
    CORRECTED = "corrected"
    SUPERSEDED = "superseded"
    WITHDRAWN = "withdrawn"
    REINSTATED = "reinstated"
    CARD_UPDATED = "card_updated"
    REPLAYED = "replayed"
    REPRODUCED = "reproduced"
    NOT_REPRODUCED = "not_reproduced"
    REPLAY_DIFFERED = "replay_differed"


class Fault(StrEnum):
    """The cause of a failure: the submission, which is final, or the system, which is retried."""

    SUBMISSION = "submission"
    SYSTEM = "system"


class Purpose(StrEnum):
    """What an evaluation is for: the row, or a comparison with it."""

    MEASURE = "measure"
    REPLAY = "replay"
    REPRODUCE = "reproduce"


class Part(StrEnum):
    """A file of a submission beside its artifact."""

    SOURCE_BUNDLE = "source_bundle"
    WHEELHOUSE = "wheelhouse"


class Verdict(StrEnum):
    """Whether the predictions of a second evaluation are those of the row."""

    AGREES = "agrees"
    DIFFERS = "differs"


ENDPOINT_TOLERANCE = 2e-3
"""Largest expected difference of two answers of an endpoint: its hardware is not known."""


class Role(StrEnum):
    """What a caller may do; the .proto files list the roles for each rpc."""

    PUBLIC = "public"
    VIEWER = "viewer"
    SUBMITTER = "submitter"
    WORKER = "worker"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an evaluation or an upload failed: a reason code for programs, a message for users."""

    reason: str
    message: str
    fault: Fault


@dataclass(frozen=True, slots=True)
class Agreement:
    """How the predictions of a second evaluation agree with those behind the row.

    `evaluation`, `with_evaluation`: resource names of the second evaluation and of the one behind
    the row. `images`: number of images compared, of `images_total`. `tolerance`: largest difference
    of two probabilities that agrees; 0 for the same bits. `worst_image`, `worst_finding`: where the
    largest difference is; empty if there is none. `score_difference`: score of the second
    evaluation less that of the row, by the ranking metric, with its 95 % interval; None of a
    sample. `canary_difference`: median of the largest change of each canary's probabilities; None
    without canaries. `differed_since`: time of the first of the comparisons with the row, of the
    same purpose and one after the other, that differed, up to this one or the one before; None if
    neither differs.
    """

    evaluation: str
    with_evaluation: str
    verdict: Verdict
    images: int
    images_total: int
    bit_identical: bool
    max_difference: float
    mean_difference: float
    worst_image: str
    worst_finding: str
    tolerance: float
    time: datetime
    score_difference: float | None = None
    score_low: float | None = None
    score_high: float | None = None
    canaries: int = 0
    canaries_flagged: int = 0
    canary_difference: float | None = None
    differed_since: datetime | None = None

    @property
    def flagged(self) -> bool:
        """Whether so many canaries moved too far that the script may look images up."""
        return self.canaries_flagged > FLAGGED_SHARE * self.canaries


@dataclass(frozen=True, slots=True)
class Usage:
    """What a run of a submitter's script used, or its limits; a limit of 0 is not known.

    `wall`, `cpu`: seconds from start to end, and on all processors. `output_bytes`: size of the
    table of predictions.
    """

    wall: float = 0.0
    cpu: float = 0.0
    peak_memory_bytes: int = 0
    output_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Canaries:
    """The canaries that a script got, those that were flagged, and the median change of their
    probabilities."""

    images: int
    flagged: int
    median_difference: float


@dataclass(frozen=True, slots=True)
class Quota:
    """The limits of an organisation; None is no limit.

    `submissions_per_day`: submissions created in one day, UTC. `concurrent`: submissions that have
    not ended. `stored_bytes`: size of the artifacts, each counted once, plus the declared size of
    running uploads.
    """

    submissions_per_day: int | None = None
    concurrent: int | None = None
    stored_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Retirement:
    """Why a benchmark takes no submissions. `superseded_by`: the resource name of the benchmark
    that takes them instead; empty if none does."""

    time: datetime
    reason: str
    superseded_by: str = ""


@dataclass(frozen=True, slots=True)
class BenchmarkCard:
    """What visitors read about a benchmark's data set; empty or None where it is not stated.

    `year`: of publication. `paper`, `download`, `licence_url`: addresses https://. `image_count`,
    `patient_count`: of the whole data set, not of the benchmark's image list.
    """

    description: str = ""
    task: str = ""
    modality: str = ""
    language: str = ""
    year: int | None = None
    paper: str = ""
    download: str = ""
    licence: str = ""
    licence_url: str = ""
    image_count: int | None = None
    patient_count: int | None = None


@dataclass(frozen=True, slots=True)
class AdminEvent:
    """A change of an organisation, a key or the retirement of a benchmark by an operator."""

    time: datetime
    actor: str
    action: str
    target: str


CORRECTED_FIELDS = ("model", "organisation", "open_source", "source_url")
"""The fields of a row that a correction may change; its event has the new values."""
