import datetime

from cxreval.api.access.v1 import access_pb2 as _access_pb2
from cxreval.api.registry.v1 import audit_service_pb2 as _audit_service_pb2
from cxreval.api.registry.v1 import submission_pb2 as _submission_pb2
from cxreval.api.scoring.v1 import report_pb2 as _report_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LeaderboardView(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LEADERBOARD_VIEW_UNSPECIFIED: _ClassVar[LeaderboardView]
    LEADERBOARD_VIEW_BASIC: _ClassVar[LeaderboardView]
    LEADERBOARD_VIEW_FULL: _ClassVar[LeaderboardView]

class Significance(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SIGNIFICANCE_UNSPECIFIED: _ClassVar[Significance]
    SIGNIFICANCE_FIRST: _ClassVar[Significance]
    SIGNIFICANCE_SIGNIFICANT: _ClassVar[Significance]
    SIGNIFICANCE_WITHIN_NOISE: _ClassVar[Significance]
    SIGNIFICANCE_NOT_TESTED: _ClassVar[Significance]
LEADERBOARD_VIEW_UNSPECIFIED: LeaderboardView
LEADERBOARD_VIEW_BASIC: LeaderboardView
LEADERBOARD_VIEW_FULL: LeaderboardView
SIGNIFICANCE_UNSPECIFIED: Significance
SIGNIFICANCE_FIRST: Significance
SIGNIFICANCE_SIGNIFICANT: Significance
SIGNIFICANCE_WITHIN_NOISE: Significance
SIGNIFICANCE_NOT_TESTED: Significance

class LeaderboardEntry(_message.Message):
    __slots__ = ("submission", "model", "organisation", "open_source", "source_kind", "source_url", "submitted_date", "tier", "rank", "score", "metrics", "sota", "note", "profile_digest", "interval", "spread", "disputed", "kind", "rank_undefined_reason", "interval_undefined_reason", "publish_time", "claimed_score", "evaluation", "replay", "reproduction", "training_verdict", "overlap_images", "overlap_patients", "clean_score", "clean_interval")
    SUBMISSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ORGANISATION_FIELD_NUMBER: _ClassVar[int]
    OPEN_SOURCE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_KIND_FIELD_NUMBER: _ClassVar[int]
    SOURCE_URL_FIELD_NUMBER: _ClassVar[int]
    SUBMITTED_DATE_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    SOTA_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    PROFILE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    SPREAD_FIELD_NUMBER: _ClassVar[int]
    DISPUTED_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    RANK_UNDEFINED_REASON_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_UNDEFINED_REASON_FIELD_NUMBER: _ClassVar[int]
    PUBLISH_TIME_FIELD_NUMBER: _ClassVar[int]
    CLAIMED_SCORE_FIELD_NUMBER: _ClassVar[int]
    EVALUATION_FIELD_NUMBER: _ClassVar[int]
    REPLAY_FIELD_NUMBER: _ClassVar[int]
    REPRODUCTION_FIELD_NUMBER: _ClassVar[int]
    TRAINING_VERDICT_FIELD_NUMBER: _ClassVar[int]
    OVERLAP_IMAGES_FIELD_NUMBER: _ClassVar[int]
    OVERLAP_PATIENTS_FIELD_NUMBER: _ClassVar[int]
    CLEAN_SCORE_FIELD_NUMBER: _ClassVar[int]
    CLEAN_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    submission: str
    model: str
    organisation: str
    open_source: bool
    source_kind: _submission_pb2.SourceKind
    source_url: str
    submitted_date: str
    tier: _submission_pb2.Tier
    rank: int
    score: float
    metrics: _containers.RepeatedCompositeFieldContainer[_report_pb2.MetricValue]
    sota: bool
    note: str
    profile_digest: str
    interval: _report_pb2.Interval
    spread: RankSpread
    disputed: bool
    kind: _submission_pb2.Submission.Kind
    rank_undefined_reason: str
    interval_undefined_reason: str
    publish_time: _timestamp_pb2.Timestamp
    claimed_score: float
    evaluation: str
    replay: _submission_pb2.Agreement
    reproduction: _submission_pb2.Agreement
    training_verdict: _report_pb2.TrainingVerdict
    overlap_images: int
    overlap_patients: int
    clean_score: float
    clean_interval: _report_pb2.Interval
    def __init__(self, submission: _Optional[str] = ..., model: _Optional[str] = ..., organisation: _Optional[str] = ..., open_source: _Optional[bool] = ..., source_kind: _Optional[_Union[_submission_pb2.SourceKind, str]] = ..., source_url: _Optional[str] = ..., submitted_date: _Optional[str] = ..., tier: _Optional[_Union[_submission_pb2.Tier, str]] = ..., rank: _Optional[int] = ..., score: _Optional[float] = ..., metrics: _Optional[_Iterable[_Union[_report_pb2.MetricValue, _Mapping]]] = ..., sota: _Optional[bool] = ..., note: _Optional[str] = ..., profile_digest: _Optional[str] = ..., interval: _Optional[_Union[_report_pb2.Interval, _Mapping]] = ..., spread: _Optional[_Union[RankSpread, _Mapping]] = ..., disputed: _Optional[bool] = ..., kind: _Optional[_Union[_submission_pb2.Submission.Kind, str]] = ..., rank_undefined_reason: _Optional[str] = ..., interval_undefined_reason: _Optional[str] = ..., publish_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., claimed_score: _Optional[float] = ..., evaluation: _Optional[str] = ..., replay: _Optional[_Union[_submission_pb2.Agreement, _Mapping]] = ..., reproduction: _Optional[_Union[_submission_pb2.Agreement, _Mapping]] = ..., training_verdict: _Optional[_Union[_report_pb2.TrainingVerdict, str]] = ..., overlap_images: _Optional[int] = ..., overlap_patients: _Optional[int] = ..., clean_score: _Optional[float] = ..., clean_interval: _Optional[_Union[_report_pb2.Interval, _Mapping]] = ...) -> None: ...

class RankSpread(_message.Message):
    __slots__ = ("rank_low", "rank_high", "first_share", "mean_finding_rank", "finding_place", "places_disagree", "undefined_replicates")
    RANK_LOW_FIELD_NUMBER: _ClassVar[int]
    RANK_HIGH_FIELD_NUMBER: _ClassVar[int]
    FIRST_SHARE_FIELD_NUMBER: _ClassVar[int]
    MEAN_FINDING_RANK_FIELD_NUMBER: _ClassVar[int]
    FINDING_PLACE_FIELD_NUMBER: _ClassVar[int]
    PLACES_DISAGREE_FIELD_NUMBER: _ClassVar[int]
    UNDEFINED_REPLICATES_FIELD_NUMBER: _ClassVar[int]
    rank_low: int
    rank_high: int
    first_share: float
    mean_finding_rank: float
    finding_place: int
    places_disagree: bool
    undefined_replicates: int
    def __init__(self, rank_low: _Optional[int] = ..., rank_high: _Optional[int] = ..., first_share: _Optional[float] = ..., mean_finding_rank: _Optional[float] = ..., finding_place: _Optional[int] = ..., places_disagree: _Optional[bool] = ..., undefined_replicates: _Optional[int] = ...) -> None: ...

class ListLeaderboardEntriesRequest(_message.Message):
    __slots__ = ("parent", "page_size", "page_token", "as_of", "metric", "findings", "view")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    parent: str
    page_size: int
    page_token: str
    as_of: _timestamp_pb2.Timestamp
    metric: str
    findings: _containers.RepeatedScalarFieldContainer[str]
    view: LeaderboardView
    def __init__(self, parent: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., as_of: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., metric: _Optional[str] = ..., findings: _Optional[_Iterable[str]] = ..., view: _Optional[_Union[LeaderboardView, str]] = ...) -> None: ...

class ListLeaderboardEntriesResponse(_message.Message):
    __slots__ = ("entries", "next_page_token", "audit_head")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    AUDIT_HEAD_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[LeaderboardEntry]
    next_page_token: str
    audit_head: _audit_service_pb2.AuditHead
    def __init__(self, entries: _Optional[_Iterable[_Union[LeaderboardEntry, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., audit_head: _Optional[_Union[_audit_service_pb2.AuditHead, _Mapping]] = ...) -> None: ...

class SotaStep(_message.Message):
    __slots__ = ("submission", "model", "organisation", "submitted_date", "score", "tier", "significance", "publish_time", "interval", "training_verdict", "not_counted")
    SUBMISSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ORGANISATION_FIELD_NUMBER: _ClassVar[int]
    SUBMITTED_DATE_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    SIGNIFICANCE_FIELD_NUMBER: _ClassVar[int]
    PUBLISH_TIME_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    TRAINING_VERDICT_FIELD_NUMBER: _ClassVar[int]
    NOT_COUNTED_FIELD_NUMBER: _ClassVar[int]
    submission: str
    model: str
    organisation: str
    submitted_date: str
    score: float
    tier: _submission_pb2.Tier
    significance: Significance
    publish_time: _timestamp_pb2.Timestamp
    interval: _report_pb2.Interval
    training_verdict: _report_pb2.TrainingVerdict
    not_counted: bool
    def __init__(self, submission: _Optional[str] = ..., model: _Optional[str] = ..., organisation: _Optional[str] = ..., submitted_date: _Optional[str] = ..., score: _Optional[float] = ..., tier: _Optional[_Union[_submission_pb2.Tier, str]] = ..., significance: _Optional[_Union[Significance, str]] = ..., publish_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., interval: _Optional[_Union[_report_pb2.Interval, _Mapping]] = ..., training_verdict: _Optional[_Union[_report_pb2.TrainingVerdict, str]] = ..., not_counted: _Optional[bool] = ...) -> None: ...

class ListSotaStepsRequest(_message.Message):
    __slots__ = ("parent", "page_size", "page_token", "as_of", "metric", "findings")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    parent: str
    page_size: int
    page_token: str
    as_of: _timestamp_pb2.Timestamp
    metric: str
    findings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, parent: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., as_of: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., metric: _Optional[str] = ..., findings: _Optional[_Iterable[str]] = ...) -> None: ...

class ListSotaStepsResponse(_message.Message):
    __slots__ = ("steps", "next_page_token")
    STEPS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    steps: _containers.RepeatedCompositeFieldContainer[SotaStep]
    next_page_token: str
    def __init__(self, steps: _Optional[_Iterable[_Union[SotaStep, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class CompareEntriesRequest(_message.Message):
    __slots__ = ("parent", "submissions", "per_finding")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    SUBMISSIONS_FIELD_NUMBER: _ClassVar[int]
    PER_FINDING_FIELD_NUMBER: _ClassVar[int]
    parent: str
    submissions: _containers.RepeatedScalarFieldContainer[str]
    per_finding: bool
    def __init__(self, parent: _Optional[str] = ..., submissions: _Optional[_Iterable[str]] = ..., per_finding: _Optional[bool] = ...) -> None: ...

class CompareEntriesResponse(_message.Message):
    __slots__ = ("comparisons", "rank_frequencies", "undefined_replicates", "findings")
    COMPARISONS_FIELD_NUMBER: _ClassVar[int]
    RANK_FREQUENCIES_FIELD_NUMBER: _ClassVar[int]
    UNDEFINED_REPLICATES_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    comparisons: _containers.RepeatedCompositeFieldContainer[PairwiseComparison]
    rank_frequencies: _containers.RepeatedCompositeFieldContainer[RankFrequencies]
    undefined_replicates: int
    findings: _containers.RepeatedCompositeFieldContainer[FindingComparison]
    def __init__(self, comparisons: _Optional[_Iterable[_Union[PairwiseComparison, _Mapping]]] = ..., rank_frequencies: _Optional[_Iterable[_Union[RankFrequencies, _Mapping]]] = ..., undefined_replicates: _Optional[int] = ..., findings: _Optional[_Iterable[_Union[FindingComparison, _Mapping]]] = ...) -> None: ...

class FindingComparison(_message.Message):
    __slots__ = ("finding", "first", "second", "comparison", "undefined_reason")
    FINDING_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    SECOND_FIELD_NUMBER: _ClassVar[int]
    COMPARISON_FIELD_NUMBER: _ClassVar[int]
    UNDEFINED_REASON_FIELD_NUMBER: _ClassVar[int]
    finding: str
    first: str
    second: str
    comparison: PairwiseComparison
    undefined_reason: str
    def __init__(self, finding: _Optional[str] = ..., first: _Optional[str] = ..., second: _Optional[str] = ..., comparison: _Optional[_Union[PairwiseComparison, _Mapping]] = ..., undefined_reason: _Optional[str] = ...) -> None: ...

class PairwiseComparison(_message.Message):
    __slots__ = ("first", "second", "difference", "low", "high", "p_value", "adjusted_p_value")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    SECOND_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    P_VALUE_FIELD_NUMBER: _ClassVar[int]
    ADJUSTED_P_VALUE_FIELD_NUMBER: _ClassVar[int]
    first: str
    second: str
    difference: float
    low: float
    high: float
    p_value: float
    adjusted_p_value: float
    def __init__(self, first: _Optional[str] = ..., second: _Optional[str] = ..., difference: _Optional[float] = ..., low: _Optional[float] = ..., high: _Optional[float] = ..., p_value: _Optional[float] = ..., adjusted_p_value: _Optional[float] = ...) -> None: ...

class RankFrequencies(_message.Message):
    __slots__ = ("submission", "shares")
    SUBMISSION_FIELD_NUMBER: _ClassVar[int]
    SHARES_FIELD_NUMBER: _ClassVar[int]
    submission: str
    shares: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, submission: _Optional[str] = ..., shares: _Optional[_Iterable[float]] = ...) -> None: ...

class ListLeaderboardChangesRequest(_message.Message):
    __slots__ = ("parent", "page_size", "page_token", "newest_first")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    NEWEST_FIRST_FIELD_NUMBER: _ClassVar[int]
    parent: str
    page_size: int
    page_token: str
    newest_first: bool
    def __init__(self, parent: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., newest_first: _Optional[bool] = ...) -> None: ...

class ListLeaderboardChangesResponse(_message.Message):
    __slots__ = ("changes", "next_page_token")
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    changes: _containers.RepeatedCompositeFieldContainer[_submission_pb2.SubmissionEvent]
    next_page_token: str
    def __init__(self, changes: _Optional[_Iterable[_Union[_submission_pb2.SubmissionEvent, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...
