from cxreval.api.scoring.v1 import report_pb2 as _report_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

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
    __slots__ = ("header", "batch")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    header: ScorePredictionsHeader
    batch: _report_pb2.PredictionBatch
    def __init__(self, header: _Optional[_Union[ScorePredictionsHeader, _Mapping]] = ..., batch: _Optional[_Union[_report_pb2.PredictionBatch, _Mapping]] = ...) -> None: ...

class ScorePredictionsHeader(_message.Message):
    __slots__ = ("benchmark", "benchmark_digest")
    BENCHMARK_FIELD_NUMBER: _ClassVar[int]
    BENCHMARK_DIGEST_FIELD_NUMBER: _ClassVar[int]
    benchmark: str
    benchmark_digest: str
    def __init__(self, benchmark: _Optional[str] = ..., benchmark_digest: _Optional[str] = ...) -> None: ...

class ScorePredictionsResponse(_message.Message):
    __slots__ = ("report",)
    REPORT_FIELD_NUMBER: _ClassVar[int]
    report: _report_pb2.Report
    def __init__(self, report: _Optional[_Union[_report_pb2.Report, _Mapping]] = ...) -> None: ...

class RankedEntry(_message.Message):
    __slots__ = ("id", "score", "submitted_date")
    ID_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    SUBMITTED_DATE_FIELD_NUMBER: _ClassVar[int]
    id: str
    score: float
    submitted_date: str
    def __init__(self, id: _Optional[str] = ..., score: _Optional[float] = ..., submitted_date: _Optional[str] = ...) -> None: ...

class RankEntriesRequest(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[RankedEntry]
    def __init__(self, entries: _Optional[_Iterable[_Union[RankedEntry, _Mapping]]] = ...) -> None: ...

class Rank(_message.Message):
    __slots__ = ("id", "rank", "sota_step")
    ID_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    SOTA_STEP_FIELD_NUMBER: _ClassVar[int]
    id: str
    rank: int
    sota_step: bool
    def __init__(self, id: _Optional[str] = ..., rank: _Optional[int] = ..., sota_step: _Optional[bool] = ...) -> None: ...

class RankEntriesResponse(_message.Message):
    __slots__ = ("ranks",)
    RANKS_FIELD_NUMBER: _ClassVar[int]
    ranks: _containers.RepeatedCompositeFieldContainer[Rank]
    def __init__(self, ranks: _Optional[_Iterable[_Union[Rank, _Mapping]]] = ...) -> None: ...
