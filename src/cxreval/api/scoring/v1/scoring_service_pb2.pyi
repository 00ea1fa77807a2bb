from cxreval.api.access.v1 import access_pb2 as _access_pb2
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
    __slots__ = ("header", "batch", "partial_state")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_STATE_FIELD_NUMBER: _ClassVar[int]
    header: ScorePredictionsHeader
    batch: _report_pb2.PredictionBatch
    partial_state: _report_pb2.PartialState
    def __init__(self, header: _Optional[_Union[ScorePredictionsHeader, _Mapping]] = ..., batch: _Optional[_Union[_report_pb2.PredictionBatch, _Mapping]] = ..., partial_state: _Optional[_Union[_report_pb2.PartialState, _Mapping]] = ...) -> None: ...

class ScorePredictionsHeader(_message.Message):
    __slots__ = ("benchmark", "benchmark_digest", "session", "export_partial_state", "findings", "training_data", "training_list")
    BENCHMARK_FIELD_NUMBER: _ClassVar[int]
    BENCHMARK_DIGEST_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    EXPORT_PARTIAL_STATE_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    TRAINING_DATA_FIELD_NUMBER: _ClassVar[int]
    TRAINING_LIST_FIELD_NUMBER: _ClassVar[int]
    benchmark: str
    benchmark_digest: str
    session: str
    export_partial_state: bool
    findings: _containers.RepeatedScalarFieldContainer[str]
    training_data: _report_pb2.TrainingData
    training_list: bytes
    def __init__(self, benchmark: _Optional[str] = ..., benchmark_digest: _Optional[str] = ..., session: _Optional[str] = ..., export_partial_state: _Optional[bool] = ..., findings: _Optional[_Iterable[str]] = ..., training_data: _Optional[_Union[_report_pb2.TrainingData, _Mapping]] = ..., training_list: _Optional[bytes] = ...) -> None: ...

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
