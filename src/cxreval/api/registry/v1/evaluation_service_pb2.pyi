import datetime

from cxreval.api.access.v1 import access_pb2 as _access_pb2
from cxreval.api.registry.v1 import benchmark_service_pb2 as _benchmark_service_pb2
from cxreval.api.registry.v1 import submission_pb2 as _submission_pb2
from cxreval.api.scoring.v1 import report_pb2 as _report_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Purpose(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PURPOSE_UNSPECIFIED: _ClassVar[Purpose]
    PURPOSE_MEASURE: _ClassVar[Purpose]
    PURPOSE_REPLAY: _ClassVar[Purpose]
    PURPOSE_REPRODUCE: _ClassVar[Purpose]
PURPOSE_UNSPECIFIED: Purpose
PURPOSE_MEASURE: Purpose
PURPOSE_REPLAY: Purpose
PURPOSE_REPRODUCE: Purpose

class Evaluation(_message.Message):
    __slots__ = ("name", "state", "attempt", "worker", "images_done", "create_time", "update_time", "report", "provenance", "failure", "purpose", "agreement", "usage", "limits")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[Evaluation.State]
        STATE_QUEUED: _ClassVar[Evaluation.State]
        STATE_RUNNING: _ClassVar[Evaluation.State]
        STATE_SUCCEEDED: _ClassVar[Evaluation.State]
        STATE_FAILED: _ClassVar[Evaluation.State]
        STATE_CANCELLED: _ClassVar[Evaluation.State]
    STATE_UNSPECIFIED: Evaluation.State
    STATE_QUEUED: Evaluation.State
    STATE_RUNNING: Evaluation.State
    STATE_SUCCEEDED: Evaluation.State
    STATE_FAILED: Evaluation.State
    STATE_CANCELLED: Evaluation.State
    class ProvenanceEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    IMAGES_DONE_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    name: str
    state: Evaluation.State
    attempt: int
    worker: str
    images_done: int
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    report: _report_pb2.Report
    provenance: _containers.ScalarMap[str, str]
    failure: _submission_pb2.Failure
    purpose: Purpose
    agreement: _submission_pb2.Agreement
    usage: Usage
    limits: Usage
    def __init__(self, name: _Optional[str] = ..., state: _Optional[_Union[Evaluation.State, str]] = ..., attempt: _Optional[int] = ..., worker: _Optional[str] = ..., images_done: _Optional[int] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., report: _Optional[_Union[_report_pb2.Report, _Mapping]] = ..., provenance: _Optional[_Mapping[str, str]] = ..., failure: _Optional[_Union[_submission_pb2.Failure, _Mapping]] = ..., purpose: _Optional[_Union[Purpose, str]] = ..., agreement: _Optional[_Union[_submission_pb2.Agreement, _Mapping]] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., limits: _Optional[_Union[Usage, _Mapping]] = ...) -> None: ...

class Usage(_message.Message):
    __slots__ = ("wall", "cpu", "peak_memory_bytes", "output_bytes")
    WALL_FIELD_NUMBER: _ClassVar[int]
    CPU_FIELD_NUMBER: _ClassVar[int]
    PEAK_MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_BYTES_FIELD_NUMBER: _ClassVar[int]
    wall: _duration_pb2.Duration
    cpu: _duration_pb2.Duration
    peak_memory_bytes: int
    output_bytes: int
    def __init__(self, wall: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., cpu: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., peak_memory_bytes: _Optional[int] = ..., output_bytes: _Optional[int] = ...) -> None: ...

class Canaries(_message.Message):
    __slots__ = ("images", "flagged", "median_difference")
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    FLAGGED_FIELD_NUMBER: _ClassVar[int]
    MEDIAN_DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    images: int
    flagged: int
    median_difference: float
    def __init__(self, images: _Optional[int] = ..., flagged: _Optional[int] = ..., median_difference: _Optional[float] = ...) -> None: ...

class Lease(_message.Message):
    __slots__ = ("evaluation", "token", "duration", "submission", "benchmark", "endpoint_token", "owner", "images", "training_list")
    EVALUATION_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    SUBMISSION_FIELD_NUMBER: _ClassVar[int]
    BENCHMARK_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_TOKEN_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    TRAINING_LIST_FIELD_NUMBER: _ClassVar[int]
    evaluation: Evaluation
    token: str
    duration: _duration_pb2.Duration
    submission: _submission_pb2.Submission
    benchmark: _benchmark_service_pb2.Benchmark
    endpoint_token: str
    owner: str
    images: _containers.RepeatedScalarFieldContainer[str]
    training_list: bytes
    def __init__(self, evaluation: _Optional[_Union[Evaluation, _Mapping]] = ..., token: _Optional[str] = ..., duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., submission: _Optional[_Union[_submission_pb2.Submission, _Mapping]] = ..., benchmark: _Optional[_Union[_benchmark_service_pb2.Benchmark, _Mapping]] = ..., endpoint_token: _Optional[str] = ..., owner: _Optional[str] = ..., images: _Optional[_Iterable[str]] = ..., training_list: _Optional[bytes] = ...) -> None: ...

class LeaseEvaluationRequest(_message.Message):
    __slots__ = ("worker", "benchmarks", "converts", "benchmarks_without_images", "reproduces")
    WORKER_FIELD_NUMBER: _ClassVar[int]
    BENCHMARKS_FIELD_NUMBER: _ClassVar[int]
    CONVERTS_FIELD_NUMBER: _ClassVar[int]
    BENCHMARKS_WITHOUT_IMAGES_FIELD_NUMBER: _ClassVar[int]
    REPRODUCES_FIELD_NUMBER: _ClassVar[int]
    worker: str
    benchmarks: _containers.RepeatedScalarFieldContainer[str]
    converts: bool
    benchmarks_without_images: _containers.RepeatedScalarFieldContainer[str]
    reproduces: bool
    def __init__(self, worker: _Optional[str] = ..., benchmarks: _Optional[_Iterable[str]] = ..., converts: _Optional[bool] = ..., benchmarks_without_images: _Optional[_Iterable[str]] = ..., reproduces: _Optional[bool] = ...) -> None: ...

class LeaseEvaluationResponse(_message.Message):
    __slots__ = ("lease",)
    LEASE_FIELD_NUMBER: _ClassVar[int]
    lease: Lease
    def __init__(self, lease: _Optional[_Union[Lease, _Mapping]] = ...) -> None: ...

class RenewLeaseRequest(_message.Message):
    __slots__ = ("evaluation", "token")
    EVALUATION_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    evaluation: str
    token: str
    def __init__(self, evaluation: _Optional[str] = ..., token: _Optional[str] = ...) -> None: ...

class RenewLeaseResponse(_message.Message):
    __slots__ = ("expire_time",)
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    expire_time: _timestamp_pb2.Timestamp
    def __init__(self, expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class AppendPredictionsRequest(_message.Message):
    __slots__ = ("evaluation", "token", "batch")
    EVALUATION_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    evaluation: str
    token: str
    batch: _report_pb2.PredictionBatch
    def __init__(self, evaluation: _Optional[str] = ..., token: _Optional[str] = ..., batch: _Optional[_Union[_report_pb2.PredictionBatch, _Mapping]] = ...) -> None: ...

class AppendPredictionsResponse(_message.Message):
    __slots__ = ("images_done",)
    IMAGES_DONE_FIELD_NUMBER: _ClassVar[int]
    images_done: int
    def __init__(self, images_done: _Optional[int] = ...) -> None: ...

class ReadPredictionsRequest(_message.Message):
    __slots__ = ("evaluation", "token")
    EVALUATION_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    evaluation: str
    token: str
    def __init__(self, evaluation: _Optional[str] = ..., token: _Optional[str] = ...) -> None: ...

class ReadPredictionsResponse(_message.Message):
    __slots__ = ("batch", "attempts")
    BATCH_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    batch: _report_pb2.PredictionBatch
    attempts: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, batch: _Optional[_Union[_report_pb2.PredictionBatch, _Mapping]] = ..., attempts: _Optional[_Iterable[int]] = ...) -> None: ...

class ConfirmPredictionsRequest(_message.Message):
    __slots__ = ("evaluation", "token", "attempt")
    EVALUATION_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    evaluation: str
    token: str
    attempt: int
    def __init__(self, evaluation: _Optional[str] = ..., token: _Optional[str] = ..., attempt: _Optional[int] = ...) -> None: ...

class ConfirmPredictionsResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DropPredictionsRequest(_message.Message):
    __slots__ = ("evaluation", "token", "attempt")
    EVALUATION_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    evaluation: str
    token: str
    attempt: int
    def __init__(self, evaluation: _Optional[str] = ..., token: _Optional[str] = ..., attempt: _Optional[int] = ...) -> None: ...

class DropPredictionsResponse(_message.Message):
    __slots__ = ("images_dropped",)
    IMAGES_DROPPED_FIELD_NUMBER: _ClassVar[int]
    images_dropped: int
    def __init__(self, images_dropped: _Optional[int] = ...) -> None: ...

class CompleteEvaluationRequest(_message.Message):
    __slots__ = ("evaluation", "token", "report", "provenance", "usage", "limits", "canaries", "output")
    class ProvenanceEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    EVALUATION_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    CANARIES_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    evaluation: str
    token: str
    report: _report_pb2.Report
    provenance: _containers.ScalarMap[str, str]
    usage: Usage
    limits: Usage
    canaries: Canaries
    output: bytes
    def __init__(self, evaluation: _Optional[str] = ..., token: _Optional[str] = ..., report: _Optional[_Union[_report_pb2.Report, _Mapping]] = ..., provenance: _Optional[_Mapping[str, str]] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., limits: _Optional[_Union[Usage, _Mapping]] = ..., canaries: _Optional[_Union[Canaries, _Mapping]] = ..., output: _Optional[bytes] = ...) -> None: ...

class FailEvaluationRequest(_message.Message):
    __slots__ = ("evaluation", "token", "failure", "usage", "limits", "output")
    EVALUATION_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    evaluation: str
    token: str
    failure: _submission_pb2.Failure
    usage: Usage
    limits: Usage
    output: bytes
    def __init__(self, evaluation: _Optional[str] = ..., token: _Optional[str] = ..., failure: _Optional[_Union[_submission_pb2.Failure, _Mapping]] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., limits: _Optional[_Union[Usage, _Mapping]] = ..., output: _Optional[bytes] = ...) -> None: ...

class ReproduceSubmissionRequest(_message.Message):
    __slots__ = ("name", "full")
    NAME_FIELD_NUMBER: _ClassVar[int]
    FULL_FIELD_NUMBER: _ClassVar[int]
    name: str
    full: bool
    def __init__(self, name: _Optional[str] = ..., full: _Optional[bool] = ...) -> None: ...

class GetScriptOutputRequest(_message.Message):
    __slots__ = ("evaluation",)
    EVALUATION_FIELD_NUMBER: _ClassVar[int]
    evaluation: str
    def __init__(self, evaluation: _Optional[str] = ...) -> None: ...

class GetScriptOutputResponse(_message.Message):
    __slots__ = ("output",)
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    output: bytes
    def __init__(self, output: _Optional[bytes] = ...) -> None: ...

class GetEvaluationRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetEvidenceRequest(_message.Message):
    __slots__ = ("evaluation",)
    EVALUATION_FIELD_NUMBER: _ClassVar[int]
    evaluation: str
    def __init__(self, evaluation: _Optional[str] = ...) -> None: ...

class GetEvidenceResponse(_message.Message):
    __slots__ = ("evidence",)
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    evidence: _report_pb2.Evidence
    def __init__(self, evidence: _Optional[_Union[_report_pb2.Evidence, _Mapping]] = ...) -> None: ...

class ReadReportPredictionsRequest(_message.Message):
    __slots__ = ("evaluation",)
    EVALUATION_FIELD_NUMBER: _ClassVar[int]
    evaluation: str
    def __init__(self, evaluation: _Optional[str] = ...) -> None: ...

class ReadReportPredictionsResponse(_message.Message):
    __slots__ = ("batch",)
    BATCH_FIELD_NUMBER: _ClassVar[int]
    batch: _report_pb2.PredictionBatch
    def __init__(self, batch: _Optional[_Union[_report_pb2.PredictionBatch, _Mapping]] = ...) -> None: ...

class ListEvaluationsRequest(_message.Message):
    __slots__ = ("parent", "page_size", "page_token")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    parent: str
    page_size: int
    page_token: str
    def __init__(self, parent: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListEvaluationsResponse(_message.Message):
    __slots__ = ("evaluations", "next_page_token")
    EVALUATIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    evaluations: _containers.RepeatedCompositeFieldContainer[Evaluation]
    next_page_token: str
    def __init__(self, evaluations: _Optional[_Iterable[_Union[Evaluation, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...
