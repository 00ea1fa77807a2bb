from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class MetricValue(_message.Message):
    __slots__ = ("metric", "finding", "value", "undefined_reason", "positive_images", "negative_images", "positive_patients")
    METRIC_FIELD_NUMBER: _ClassVar[int]
    FINDING_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    UNDEFINED_REASON_FIELD_NUMBER: _ClassVar[int]
    POSITIVE_IMAGES_FIELD_NUMBER: _ClassVar[int]
    NEGATIVE_IMAGES_FIELD_NUMBER: _ClassVar[int]
    POSITIVE_PATIENTS_FIELD_NUMBER: _ClassVar[int]
    metric: str
    finding: str
    value: float
    undefined_reason: str
    positive_images: int
    negative_images: int
    positive_patients: int
    def __init__(self, metric: _Optional[str] = ..., finding: _Optional[str] = ..., value: _Optional[float] = ..., undefined_reason: _Optional[str] = ..., positive_images: _Optional[int] = ..., negative_images: _Optional[int] = ..., positive_patients: _Optional[int] = ...) -> None: ...

class Report(_message.Message):
    __slots__ = ("benchmark", "benchmark_digest", "scorer_version", "image_count", "patient_count", "metrics", "predictions_sha256")
    BENCHMARK_FIELD_NUMBER: _ClassVar[int]
    BENCHMARK_DIGEST_FIELD_NUMBER: _ClassVar[int]
    SCORER_VERSION_FIELD_NUMBER: _ClassVar[int]
    IMAGE_COUNT_FIELD_NUMBER: _ClassVar[int]
    PATIENT_COUNT_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    PREDICTIONS_SHA256_FIELD_NUMBER: _ClassVar[int]
    benchmark: str
    benchmark_digest: str
    scorer_version: str
    image_count: int
    patient_count: int
    metrics: _containers.RepeatedCompositeFieldContainer[MetricValue]
    predictions_sha256: str
    def __init__(self, benchmark: _Optional[str] = ..., benchmark_digest: _Optional[str] = ..., scorer_version: _Optional[str] = ..., image_count: _Optional[int] = ..., patient_count: _Optional[int] = ..., metrics: _Optional[_Iterable[_Union[MetricValue, _Mapping]]] = ..., predictions_sha256: _Optional[str] = ...) -> None: ...

class PredictionBatch(_message.Message):
    __slots__ = ("images", "probabilities")
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    images: _containers.RepeatedScalarFieldContainer[str]
    probabilities: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, images: _Optional[_Iterable[str]] = ..., probabilities: _Optional[_Iterable[float]] = ...) -> None: ...
