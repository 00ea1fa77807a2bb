import datetime

from cxreval.api.access.v1 import access_pb2 as _access_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Benchmark(_message.Message):
    __slots__ = ("name", "title", "synthetic", "image_count", "patient_count", "list_sha256", "labels_sha256", "findings", "metrics", "scorer_version", "digest", "create_time", "list_file", "labels_file", "replicates", "ranking_metric", "slices", "labels", "retirement", "card", "reproduction_tolerance", "steps", "ladder")
    class StepRule(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STEP_RULE_UNSPECIFIED: _ClassVar[Benchmark.StepRule]
        STEP_RULE_ANY: _ClassVar[Benchmark.StepRule]
        STEP_RULE_CLEAN: _ClassVar[Benchmark.StepRule]
    STEP_RULE_UNSPECIFIED: Benchmark.StepRule
    STEP_RULE_ANY: Benchmark.StepRule
    STEP_RULE_CLEAN: Benchmark.StepRule
    NAME_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    SYNTHETIC_FIELD_NUMBER: _ClassVar[int]
    IMAGE_COUNT_FIELD_NUMBER: _ClassVar[int]
    PATIENT_COUNT_FIELD_NUMBER: _ClassVar[int]
    LIST_SHA256_FIELD_NUMBER: _ClassVar[int]
    LABELS_SHA256_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    SCORER_VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    LIST_FILE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FILE_FIELD_NUMBER: _ClassVar[int]
    REPLICATES_FIELD_NUMBER: _ClassVar[int]
    RANKING_METRIC_FIELD_NUMBER: _ClassVar[int]
    SLICES_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    RETIREMENT_FIELD_NUMBER: _ClassVar[int]
    CARD_FIELD_NUMBER: _ClassVar[int]
    REPRODUCTION_TOLERANCE_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    LADDER_FIELD_NUMBER: _ClassVar[int]
    name: str
    title: str
    synthetic: bool
    image_count: int
    patient_count: int
    list_sha256: str
    labels_sha256: str
    findings: _containers.RepeatedScalarFieldContainer[str]
    metrics: _containers.RepeatedCompositeFieldContainer[Metric]
    scorer_version: str
    digest: str
    create_time: _timestamp_pb2.Timestamp
    list_file: str
    labels_file: str
    replicates: int
    ranking_metric: str
    slices: _containers.RepeatedScalarFieldContainer[str]
    labels: LabelRules
    retirement: Retirement
    card: BenchmarkCard
    reproduction_tolerance: float
    steps: Benchmark.StepRule
    ladder: bool
    def __init__(self, name: _Optional[str] = ..., title: _Optional[str] = ..., synthetic: _Optional[bool] = ..., image_count: _Optional[int] = ..., patient_count: _Optional[int] = ..., list_sha256: _Optional[str] = ..., labels_sha256: _Optional[str] = ..., findings: _Optional[_Iterable[str]] = ..., metrics: _Optional[_Iterable[_Union[Metric, _Mapping]]] = ..., scorer_version: _Optional[str] = ..., digest: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., list_file: _Optional[str] = ..., labels_file: _Optional[str] = ..., replicates: _Optional[int] = ..., ranking_metric: _Optional[str] = ..., slices: _Optional[_Iterable[str]] = ..., labels: _Optional[_Union[LabelRules, _Mapping]] = ..., retirement: _Optional[_Union[Retirement, _Mapping]] = ..., card: _Optional[_Union[BenchmarkCard, _Mapping]] = ..., reproduction_tolerance: _Optional[float] = ..., steps: _Optional[_Union[Benchmark.StepRule, str]] = ..., ladder: _Optional[bool] = ...) -> None: ...

class BenchmarkCard(_message.Message):
    __slots__ = ("description", "task", "modality", "language", "year", "paper", "download", "licence", "licence_url", "image_count", "patient_count")
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    MODALITY_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    YEAR_FIELD_NUMBER: _ClassVar[int]
    PAPER_FIELD_NUMBER: _ClassVar[int]
    DOWNLOAD_FIELD_NUMBER: _ClassVar[int]
    LICENCE_FIELD_NUMBER: _ClassVar[int]
    LICENCE_URL_FIELD_NUMBER: _ClassVar[int]
    IMAGE_COUNT_FIELD_NUMBER: _ClassVar[int]
    PATIENT_COUNT_FIELD_NUMBER: _ClassVar[int]
    description: str
    task: str
    modality: str
    language: str
    year: int
    paper: str
    download: str
    licence: str
    licence_url: str
    image_count: int
    patient_count: int
    def __init__(self, description: _Optional[str] = ..., task: _Optional[str] = ..., modality: _Optional[str] = ..., language: _Optional[str] = ..., year: _Optional[int] = ..., paper: _Optional[str] = ..., download: _Optional[str] = ..., licence: _Optional[str] = ..., licence_url: _Optional[str] = ..., image_count: _Optional[int] = ..., patient_count: _Optional[int] = ...) -> None: ...

class Retirement(_message.Message):
    __slots__ = ("time", "reason", "superseded_by")
    TIME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SUPERSEDED_BY_FIELD_NUMBER: _ClassVar[int]
    time: _timestamp_pb2.Timestamp
    reason: str
    superseded_by: str
    def __init__(self, time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., reason: _Optional[str] = ..., superseded_by: _Optional[str] = ...) -> None: ...

class LabelRules(_message.Message):
    __slots__ = ("image", "patient", "patient_part", "names", "separator", "positive", "negative", "uncertain_values", "uncertain", "blank", "reader", "readers", "sex", "age", "view")
    class Policy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        POLICY_UNSPECIFIED: _ClassVar[LabelRules.Policy]
        POLICY_REFUSE: _ClassVar[LabelRules.Policy]
        POLICY_IGNORE: _ClassVar[LabelRules.Policy]
        POLICY_POSITIVE: _ClassVar[LabelRules.Policy]
        POLICY_NEGATIVE: _ClassVar[LabelRules.Policy]
    POLICY_UNSPECIFIED: LabelRules.Policy
    POLICY_REFUSE: LabelRules.Policy
    POLICY_IGNORE: LabelRules.Policy
    POLICY_POSITIVE: LabelRules.Policy
    POLICY_NEGATIVE: LabelRules.Policy
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    PATIENT_FIELD_NUMBER: _ClassVar[int]
    PATIENT_PART_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    SEPARATOR_FIELD_NUMBER: _ClassVar[int]
    POSITIVE_FIELD_NUMBER: _ClassVar[int]
    NEGATIVE_FIELD_NUMBER: _ClassVar[int]
    UNCERTAIN_VALUES_FIELD_NUMBER: _ClassVar[int]
    UNCERTAIN_FIELD_NUMBER: _ClassVar[int]
    BLANK_FIELD_NUMBER: _ClassVar[int]
    READER_FIELD_NUMBER: _ClassVar[int]
    READERS_FIELD_NUMBER: _ClassVar[int]
    SEX_FIELD_NUMBER: _ClassVar[int]
    AGE_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    image: str
    patient: str
    patient_part: int
    names: str
    separator: str
    positive: _containers.RepeatedScalarFieldContainer[str]
    negative: _containers.RepeatedScalarFieldContainer[str]
    uncertain_values: _containers.RepeatedScalarFieldContainer[str]
    uncertain: LabelRules.Policy
    blank: LabelRules.Policy
    reader: str
    readers: str
    sex: str
    age: str
    view: str
    def __init__(self, image: _Optional[str] = ..., patient: _Optional[str] = ..., patient_part: _Optional[int] = ..., names: _Optional[str] = ..., separator: _Optional[str] = ..., positive: _Optional[_Iterable[str]] = ..., negative: _Optional[_Iterable[str]] = ..., uncertain_values: _Optional[_Iterable[str]] = ..., uncertain: _Optional[_Union[LabelRules.Policy, str]] = ..., blank: _Optional[_Union[LabelRules.Policy, str]] = ..., reader: _Optional[str] = ..., readers: _Optional[str] = ..., sex: _Optional[str] = ..., age: _Optional[str] = ..., view: _Optional[str] = ...) -> None: ...

class Metric(_message.Message):
    __slots__ = ("id", "direction")
    class Direction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        DIRECTION_UNSPECIFIED: _ClassVar[Metric.Direction]
        DIRECTION_HIGHER_IS_BETTER: _ClassVar[Metric.Direction]
        DIRECTION_LOWER_IS_BETTER: _ClassVar[Metric.Direction]
    DIRECTION_UNSPECIFIED: Metric.Direction
    DIRECTION_HIGHER_IS_BETTER: Metric.Direction
    DIRECTION_LOWER_IS_BETTER: Metric.Direction
    ID_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    id: str
    direction: Metric.Direction
    def __init__(self, id: _Optional[str] = ..., direction: _Optional[_Union[Metric.Direction, str]] = ...) -> None: ...

class CreateBenchmarkRequest(_message.Message):
    __slots__ = ("benchmark",)
    BENCHMARK_FIELD_NUMBER: _ClassVar[int]
    benchmark: Benchmark
    def __init__(self, benchmark: _Optional[_Union[Benchmark, _Mapping]] = ...) -> None: ...

class RecordImageListRequest(_message.Message):
    __slots__ = ("name", "images")
    NAME_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    name: str
    images: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., images: _Optional[_Iterable[str]] = ...) -> None: ...

class RecordImageListResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RetireBenchmarkRequest(_message.Message):
    __slots__ = ("name", "reason", "superseded_by")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SUPERSEDED_BY_FIELD_NUMBER: _ClassVar[int]
    name: str
    reason: str
    superseded_by: str
    def __init__(self, name: _Optional[str] = ..., reason: _Optional[str] = ..., superseded_by: _Optional[str] = ...) -> None: ...

class ReinstateBenchmarkRequest(_message.Message):
    __slots__ = ("name", "reason")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    name: str
    reason: str
    def __init__(self, name: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class UpdateBenchmarkCardRequest(_message.Message):
    __slots__ = ("name", "card", "reason")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CARD_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    name: str
    card: BenchmarkCard
    reason: str
    def __init__(self, name: _Optional[str] = ..., card: _Optional[_Union[BenchmarkCard, _Mapping]] = ..., reason: _Optional[str] = ...) -> None: ...

class GetBenchmarkRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ListBenchmarksRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListBenchmarksResponse(_message.Message):
    __slots__ = ("benchmarks", "next_page_token")
    BENCHMARKS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    benchmarks: _containers.RepeatedCompositeFieldContainer[Benchmark]
    next_page_token: str
    def __init__(self, benchmarks: _Optional[_Iterable[_Union[Benchmark, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...
