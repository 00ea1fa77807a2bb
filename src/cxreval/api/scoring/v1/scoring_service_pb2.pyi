from cxreval.api.access.v1 import access_pb2 as _access_pb2
from cxreval.api.scoring.v1 import report_pb2 as _report_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Significance(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SIGNIFICANCE_UNSPECIFIED: _ClassVar[Significance]
    SIGNIFICANCE_FIRST: _ClassVar[Significance]
    SIGNIFICANCE_SIGNIFICANT: _ClassVar[Significance]
    SIGNIFICANCE_WITHIN_NOISE: _ClassVar[Significance]
    SIGNIFICANCE_NOT_TESTED: _ClassVar[Significance]
SIGNIFICANCE_UNSPECIFIED: Significance
SIGNIFICANCE_FIRST: Significance
SIGNIFICANCE_SIGNIFICANT: Significance
SIGNIFICANCE_WITHIN_NOISE: Significance
SIGNIFICANCE_NOT_TESTED: Significance

class ListTruthsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListTruthsResponse(_message.Message):
    __slots__ = ("truths",)
    TRUTHS_FIELD_NUMBER: _ClassVar[int]
    truths: _containers.RepeatedCompositeFieldContainer[Truth]
    def __init__(self, truths: _Optional[_Iterable[_Union[Truth, _Mapping]]] = ...) -> None: ...

class Truth(_message.Message):
    __slots__ = ("benchmark", "benchmark_digest", "image_count", "patient_count")
    BENCHMARK_FIELD_NUMBER: _ClassVar[int]
    BENCHMARK_DIGEST_FIELD_NUMBER: _ClassVar[int]
    IMAGE_COUNT_FIELD_NUMBER: _ClassVar[int]
    PATIENT_COUNT_FIELD_NUMBER: _ClassVar[int]
    benchmark: str
    benchmark_digest: str
    image_count: int
    patient_count: int
    def __init__(self, benchmark: _Optional[str] = ..., benchmark_digest: _Optional[str] = ..., image_count: _Optional[int] = ..., patient_count: _Optional[int] = ...) -> None: ...

class ScorePredictionsRequest(_message.Message):
    __slots__ = ("header", "batch", "partial_state")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_STATE_FIELD_NUMBER: _ClassVar[int]
    header: ScorePredictionsHeader
    batch: _report_pb2.PredictionBatch
    partial_state: _report_pb2.PartialState
    def __init__(self, header: _Optional[_Union[ScorePredictionsHeader, _Mapping]] = ..., batch: _Optional[_Union[_report_pb2.PredictionBatch, _Mapping]] = ..., partial_state: _Optional[_Union[_report_pb2.PartialState, _Mapping]] = ...) -> None: ...

class ScorePredictionsHeader(_message.Message):
    __slots__ = ("benchmark", "benchmark_digest", "session", "export_partial_state")
    BENCHMARK_FIELD_NUMBER: _ClassVar[int]
    BENCHMARK_DIGEST_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    EXPORT_PARTIAL_STATE_FIELD_NUMBER: _ClassVar[int]
    benchmark: str
    benchmark_digest: str
    session: str
    export_partial_state: bool
    def __init__(self, benchmark: _Optional[str] = ..., benchmark_digest: _Optional[str] = ..., session: _Optional[str] = ..., export_partial_state: _Optional[bool] = ...) -> None: ...

class ScorePredictionsResponse(_message.Message):
    __slots__ = ("progress", "partial_state", "report")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_STATE_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    progress: ScoringProgress
    partial_state: _report_pb2.PartialState
    report: _report_pb2.Report
    def __init__(self, progress: _Optional[_Union[ScoringProgress, _Mapping]] = ..., partial_state: _Optional[_Union[_report_pb2.PartialState, _Mapping]] = ..., report: _Optional[_Union[_report_pb2.Report, _Mapping]] = ...) -> None: ...

class ScoringProgress(_message.Message):
    __slots__ = ("message_count", "image_count")
    MESSAGE_COUNT_FIELD_NUMBER: _ClassVar[int]
    IMAGE_COUNT_FIELD_NUMBER: _ClassVar[int]
    message_count: int
    image_count: int
    def __init__(self, message_count: _Optional[int] = ..., image_count: _Optional[int] = ...) -> None: ...

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
