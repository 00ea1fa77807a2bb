from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TrainingVerdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TRAINING_VERDICT_UNSPECIFIED: _ClassVar[TrainingVerdict]
    TRAINING_VERDICT_CLEAN: _ClassVar[TrainingVerdict]
    TRAINING_VERDICT_OVERLAP: _ClassVar[TrainingVerdict]
    TRAINING_VERDICT_UNDECLARED: _ClassVar[TrainingVerdict]
TRAINING_VERDICT_UNSPECIFIED: TrainingVerdict
TRAINING_VERDICT_CLEAN: TrainingVerdict
TRAINING_VERDICT_OVERLAP: TrainingVerdict
TRAINING_VERDICT_UNDECLARED: TrainingVerdict

class TrainingData(_message.Message):
    __slots__ = ("uses", "list_sha256", "salt")
    class Use(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        USE_UNSPECIFIED: _ClassVar[TrainingData.Use]
        USE_NONE: _ClassVar[TrainingData.Use]
        USE_NIH_TRAIN_VAL: _ClassVar[TrainingData.Use]
        USE_NIH_TEST: _ClassVar[TrainingData.Use]
        USE_NIH_ALL: _ClassVar[TrainingData.Use]
        USE_IMAGES: _ClassVar[TrainingData.Use]
        USE_PATIENTS: _ClassVar[TrainingData.Use]
    USE_UNSPECIFIED: TrainingData.Use
    USE_NONE: TrainingData.Use
    USE_NIH_TRAIN_VAL: TrainingData.Use
    USE_NIH_TEST: TrainingData.Use
    USE_NIH_ALL: TrainingData.Use
    USE_IMAGES: TrainingData.Use
    USE_PATIENTS: TrainingData.Use
    USES_FIELD_NUMBER: _ClassVar[int]
    LIST_SHA256_FIELD_NUMBER: _ClassVar[int]
    SALT_FIELD_NUMBER: _ClassVar[int]
    uses: TrainingData.Use
    list_sha256: str
    salt: str
    def __init__(self, uses: _Optional[_Union[TrainingData.Use, str]] = ..., list_sha256: _Optional[str] = ..., salt: _Optional[str] = ...) -> None: ...

class Contamination(_message.Message):
    __slots__ = ("verdict", "images", "patients", "clean_images", "clean_patients", "clean_metrics", "unmatched")
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    PATIENTS_FIELD_NUMBER: _ClassVar[int]
    CLEAN_IMAGES_FIELD_NUMBER: _ClassVar[int]
    CLEAN_PATIENTS_FIELD_NUMBER: _ClassVar[int]
    CLEAN_METRICS_FIELD_NUMBER: _ClassVar[int]
    UNMATCHED_FIELD_NUMBER: _ClassVar[int]
    verdict: TrainingVerdict
    images: int
    patients: int
    clean_images: int
    clean_patients: int
    clean_metrics: _containers.RepeatedCompositeFieldContainer[MetricValue]
    unmatched: bool
    def __init__(self, verdict: _Optional[_Union[TrainingVerdict, str]] = ..., images: _Optional[int] = ..., patients: _Optional[int] = ..., clean_images: _Optional[int] = ..., clean_patients: _Optional[int] = ..., clean_metrics: _Optional[_Iterable[_Union[MetricValue, _Mapping]]] = ..., unmatched: _Optional[bool] = ...) -> None: ...

class MembershipSignal(_message.Message):
    __slots__ = ("list", "list_sha256", "member_images", "member_patients", "other_images", "other_patients", "findings", "member_score", "other_score", "difference", "interval", "undefined_reason")
    LIST_FIELD_NUMBER: _ClassVar[int]
    LIST_SHA256_FIELD_NUMBER: _ClassVar[int]
    MEMBER_IMAGES_FIELD_NUMBER: _ClassVar[int]
    MEMBER_PATIENTS_FIELD_NUMBER: _ClassVar[int]
    OTHER_IMAGES_FIELD_NUMBER: _ClassVar[int]
    OTHER_PATIENTS_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    MEMBER_SCORE_FIELD_NUMBER: _ClassVar[int]
    OTHER_SCORE_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    UNDEFINED_REASON_FIELD_NUMBER: _ClassVar[int]
    list: str
    list_sha256: str
    member_images: int
    member_patients: int
    other_images: int
    other_patients: int
    findings: _containers.RepeatedScalarFieldContainer[str]
    member_score: float
    other_score: float
    difference: float
    interval: Interval
    undefined_reason: str
    def __init__(self, list: _Optional[str] = ..., list_sha256: _Optional[str] = ..., member_images: _Optional[int] = ..., member_patients: _Optional[int] = ..., other_images: _Optional[int] = ..., other_patients: _Optional[int] = ..., findings: _Optional[_Iterable[str]] = ..., member_score: _Optional[float] = ..., other_score: _Optional[float] = ..., difference: _Optional[float] = ..., interval: _Optional[_Union[Interval, _Mapping]] = ..., undefined_reason: _Optional[str] = ...) -> None: ...

class MetricValue(_message.Message):
    __slots__ = ("metric", "finding", "value", "undefined_reason", "positive_images", "negative_images", "positive_patients", "slice", "interval", "interval_undefined_reason", "analytic_standard_error", "defined_findings", "defined_mean")
    METRIC_FIELD_NUMBER: _ClassVar[int]
    FINDING_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    UNDEFINED_REASON_FIELD_NUMBER: _ClassVar[int]
    POSITIVE_IMAGES_FIELD_NUMBER: _ClassVar[int]
    NEGATIVE_IMAGES_FIELD_NUMBER: _ClassVar[int]
    POSITIVE_PATIENTS_FIELD_NUMBER: _ClassVar[int]
    SLICE_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_UNDEFINED_REASON_FIELD_NUMBER: _ClassVar[int]
    ANALYTIC_STANDARD_ERROR_FIELD_NUMBER: _ClassVar[int]
    DEFINED_FINDINGS_FIELD_NUMBER: _ClassVar[int]
    DEFINED_MEAN_FIELD_NUMBER: _ClassVar[int]
    metric: str
    finding: str
    value: float
    undefined_reason: str
    positive_images: int
    negative_images: int
    positive_patients: int
    slice: str
    interval: Interval
    interval_undefined_reason: str
    analytic_standard_error: float
    defined_findings: int
    defined_mean: float
    def __init__(self, metric: _Optional[str] = ..., finding: _Optional[str] = ..., value: _Optional[float] = ..., undefined_reason: _Optional[str] = ..., positive_images: _Optional[int] = ..., negative_images: _Optional[int] = ..., positive_patients: _Optional[int] = ..., slice: _Optional[str] = ..., interval: _Optional[_Union[Interval, _Mapping]] = ..., interval_undefined_reason: _Optional[str] = ..., analytic_standard_error: _Optional[float] = ..., defined_findings: _Optional[int] = ..., defined_mean: _Optional[float] = ...) -> None: ...

class Interval(_message.Message):
    __slots__ = ("low", "high", "standard_error")
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    STANDARD_ERROR_FIELD_NUMBER: _ClassVar[int]
    low: float
    high: float
    standard_error: float
    def __init__(self, low: _Optional[float] = ..., high: _Optional[float] = ..., standard_error: _Optional[float] = ...) -> None: ...

class Replicates(_message.Message):
    __slots__ = ("metric", "finding", "values")
    METRIC_FIELD_NUMBER: _ClassVar[int]
    FINDING_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    metric: str
    finding: str
    values: bytes
    def __init__(self, metric: _Optional[str] = ..., finding: _Optional[str] = ..., values: _Optional[bytes] = ...) -> None: ...

class RocCurve(_message.Message):
    __slots__ = ("finding", "false_positive_rates", "sensitivities")
    FINDING_FIELD_NUMBER: _ClassVar[int]
    FALSE_POSITIVE_RATES_FIELD_NUMBER: _ClassVar[int]
    SENSITIVITIES_FIELD_NUMBER: _ClassVar[int]
    finding: str
    false_positive_rates: _containers.RepeatedScalarFieldContainer[float]
    sensitivities: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, finding: _Optional[str] = ..., false_positive_rates: _Optional[_Iterable[float]] = ..., sensitivities: _Optional[_Iterable[float]] = ...) -> None: ...

class Reliability(_message.Message):
    __slots__ = ("finding", "images", "mean_probabilities", "positives")
    FINDING_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    MEAN_PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    POSITIVES_FIELD_NUMBER: _ClassVar[int]
    finding: str
    images: _containers.RepeatedScalarFieldContainer[int]
    mean_probabilities: _containers.RepeatedScalarFieldContainer[float]
    positives: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, finding: _Optional[str] = ..., images: _Optional[_Iterable[int]] = ..., mean_probabilities: _Optional[_Iterable[float]] = ..., positives: _Optional[_Iterable[int]] = ...) -> None: ...

class Evidence(_message.Message):
    __slots__ = ("replicates", "roc_curves", "reliabilities")
    REPLICATES_FIELD_NUMBER: _ClassVar[int]
    ROC_CURVES_FIELD_NUMBER: _ClassVar[int]
    RELIABILITIES_FIELD_NUMBER: _ClassVar[int]
    replicates: _containers.RepeatedCompositeFieldContainer[Replicates]
    roc_curves: _containers.RepeatedCompositeFieldContainer[RocCurve]
    reliabilities: _containers.RepeatedCompositeFieldContainer[Reliability]
    def __init__(self, replicates: _Optional[_Iterable[_Union[Replicates, _Mapping]]] = ..., roc_curves: _Optional[_Iterable[_Union[RocCurve, _Mapping]]] = ..., reliabilities: _Optional[_Iterable[_Union[Reliability, _Mapping]]] = ...) -> None: ...

class Report(_message.Message):
    __slots__ = ("benchmark", "benchmark_digest", "scorer_version", "image_count", "patient_count", "metrics", "predictions_sha256", "replicate_count", "seed", "evidence", "contamination", "membership")
    BENCHMARK_FIELD_NUMBER: _ClassVar[int]
    BENCHMARK_DIGEST_FIELD_NUMBER: _ClassVar[int]
    SCORER_VERSION_FIELD_NUMBER: _ClassVar[int]
    IMAGE_COUNT_FIELD_NUMBER: _ClassVar[int]
    PATIENT_COUNT_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    PREDICTIONS_SHA256_FIELD_NUMBER: _ClassVar[int]
    REPLICATE_COUNT_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    CONTAMINATION_FIELD_NUMBER: _ClassVar[int]
    MEMBERSHIP_FIELD_NUMBER: _ClassVar[int]
    benchmark: str
    benchmark_digest: str
    scorer_version: str
    image_count: int
    patient_count: int
    metrics: _containers.RepeatedCompositeFieldContainer[MetricValue]
    predictions_sha256: str
    replicate_count: int
    seed: int
    evidence: Evidence
    contamination: Contamination
    membership: _containers.RepeatedCompositeFieldContainer[MembershipSignal]
    def __init__(self, benchmark: _Optional[str] = ..., benchmark_digest: _Optional[str] = ..., scorer_version: _Optional[str] = ..., image_count: _Optional[int] = ..., patient_count: _Optional[int] = ..., metrics: _Optional[_Iterable[_Union[MetricValue, _Mapping]]] = ..., predictions_sha256: _Optional[str] = ..., replicate_count: _Optional[int] = ..., seed: _Optional[int] = ..., evidence: _Optional[_Union[Evidence, _Mapping]] = ..., contamination: _Optional[_Union[Contamination, _Mapping]] = ..., membership: _Optional[_Iterable[_Union[MembershipSignal, _Mapping]]] = ...) -> None: ...

class PredictionBatch(_message.Message):
    __slots__ = ("images", "probabilities")
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    images: _containers.RepeatedScalarFieldContainer[str]
    probabilities: bytes
    def __init__(self, images: _Optional[_Iterable[str]] = ..., probabilities: _Optional[bytes] = ...) -> None: ...

class PartialState(_message.Message):
    __slots__ = ("benchmark_digest", "rows", "probabilities", "findings")
    BENCHMARK_DIGEST_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    benchmark_digest: str
    rows: bytes
    probabilities: bytes
    findings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, benchmark_digest: _Optional[str] = ..., rows: _Optional[bytes] = ..., probabilities: _Optional[bytes] = ..., findings: _Optional[_Iterable[str]] = ...) -> None: ...
