import datetime

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

class SourceKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SOURCE_KIND_UNSPECIFIED: _ClassVar[SourceKind]
    SOURCE_KIND_GITHUB_README: _ClassVar[SourceKind]
    SOURCE_KIND_RESEARCH_PAPER: _ClassVar[SourceKind]
    SOURCE_KIND_MODEL_CARD: _ClassVar[SourceKind]
    SOURCE_KIND_CHECKPOINT: _ClassVar[SourceKind]
    SOURCE_KIND_ENDPOINT: _ClassVar[SourceKind]
    SOURCE_KIND_PREDICTIONS: _ClassVar[SourceKind]
    SOURCE_KIND_SCRIPT: _ClassVar[SourceKind]

class CheckpointFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CHECKPOINT_FORMAT_UNSPECIFIED: _ClassVar[CheckpointFormat]
    CHECKPOINT_FORMAT_ONNX: _ClassVar[CheckpointFormat]
    CHECKPOINT_FORMAT_PYTORCH_STATE_DICT: _ClassVar[CheckpointFormat]
    CHECKPOINT_FORMAT_TORCHSCRIPT: _ClassVar[CheckpointFormat]
    CHECKPOINT_FORMAT_TORCH_EXPORT: _ClassVar[CheckpointFormat]

class Tier(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TIER_UNSPECIFIED: _ClassVar[Tier]
    TIER_CLAIMED: _ClassVar[Tier]
    TIER_SCORED: _ClassVar[Tier]
    TIER_EXECUTED: _ClassVar[Tier]
    TIER_REPLAYED: _ClassVar[Tier]
    TIER_REPRODUCED: _ClassVar[Tier]

class Ensemble(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ENSEMBLE_UNSPECIFIED: _ClassVar[Ensemble]
    ENSEMBLE_MEAN: _ClassVar[Ensemble]
SOURCE_KIND_UNSPECIFIED: SourceKind
SOURCE_KIND_GITHUB_README: SourceKind
SOURCE_KIND_RESEARCH_PAPER: SourceKind
SOURCE_KIND_MODEL_CARD: SourceKind
SOURCE_KIND_CHECKPOINT: SourceKind
SOURCE_KIND_ENDPOINT: SourceKind
SOURCE_KIND_PREDICTIONS: SourceKind
SOURCE_KIND_SCRIPT: SourceKind
CHECKPOINT_FORMAT_UNSPECIFIED: CheckpointFormat
CHECKPOINT_FORMAT_ONNX: CheckpointFormat
CHECKPOINT_FORMAT_PYTORCH_STATE_DICT: CheckpointFormat
CHECKPOINT_FORMAT_TORCHSCRIPT: CheckpointFormat
CHECKPOINT_FORMAT_TORCH_EXPORT: CheckpointFormat
TIER_UNSPECIFIED: Tier
TIER_CLAIMED: Tier
TIER_SCORED: Tier
TIER_EXECUTED: Tier
TIER_REPLAYED: Tier
TIER_REPRODUCED: Tier
ENSEMBLE_UNSPECIFIED: Ensemble
ENSEMBLE_MEAN: Ensemble

class Manifest(_message.Message):
    __slots__ = ("model", "organisation", "open_source", "source_kind", "source_url", "contact", "reproduction", "environment", "preprocessing_profile", "output_names", "claimed_metrics", "artifact_sha256", "submitted_date", "kind", "format", "architecture", "endpoint", "preprocessing", "outputs", "files", "ensemble", "training_data")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ORGANISATION_FIELD_NUMBER: _ClassVar[int]
    OPEN_SOURCE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_KIND_FIELD_NUMBER: _ClassVar[int]
    SOURCE_URL_FIELD_NUMBER: _ClassVar[int]
    CONTACT_FIELD_NUMBER: _ClassVar[int]
    REPRODUCTION_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    PREPROCESSING_PROFILE_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_NAMES_FIELD_NUMBER: _ClassVar[int]
    CLAIMED_METRICS_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_SHA256_FIELD_NUMBER: _ClassVar[int]
    SUBMITTED_DATE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    PREPROCESSING_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    ENSEMBLE_FIELD_NUMBER: _ClassVar[int]
    TRAINING_DATA_FIELD_NUMBER: _ClassVar[int]
    model: str
    organisation: str
    open_source: bool
    source_kind: SourceKind
    source_url: str
    contact: str
    reproduction: Reproduction
    environment: Environment
    preprocessing_profile: str
    output_names: _containers.RepeatedScalarFieldContainer[str]
    claimed_metrics: _containers.RepeatedCompositeFieldContainer[ClaimedMetric]
    artifact_sha256: str
    submitted_date: str
    kind: Submission.Kind
    format: CheckpointFormat
    architecture: str
    endpoint: Endpoint
    preprocessing: Preprocessing
    outputs: Outputs
    files: _containers.RepeatedCompositeFieldContainer[SubmittedFile]
    ensemble: Ensemble
    training_data: _report_pb2.TrainingData
    def __init__(self, model: _Optional[str] = ..., organisation: _Optional[str] = ..., open_source: _Optional[bool] = ..., source_kind: _Optional[_Union[SourceKind, str]] = ..., source_url: _Optional[str] = ..., contact: _Optional[str] = ..., reproduction: _Optional[_Union[Reproduction, _Mapping]] = ..., environment: _Optional[_Union[Environment, _Mapping]] = ..., preprocessing_profile: _Optional[str] = ..., output_names: _Optional[_Iterable[str]] = ..., claimed_metrics: _Optional[_Iterable[_Union[ClaimedMetric, _Mapping]]] = ..., artifact_sha256: _Optional[str] = ..., submitted_date: _Optional[str] = ..., kind: _Optional[_Union[Submission.Kind, str]] = ..., format: _Optional[_Union[CheckpointFormat, str]] = ..., architecture: _Optional[str] = ..., endpoint: _Optional[_Union[Endpoint, _Mapping]] = ..., preprocessing: _Optional[_Union[Preprocessing, _Mapping]] = ..., outputs: _Optional[_Union[Outputs, _Mapping]] = ..., files: _Optional[_Iterable[_Union[SubmittedFile, _Mapping]]] = ..., ensemble: _Optional[_Union[Ensemble, str]] = ..., training_data: _Optional[_Union[_report_pb2.TrainingData, _Mapping]] = ...) -> None: ...

class SubmittedFile(_message.Message):
    __slots__ = ("name", "sha256")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    name: str
    sha256: str
    def __init__(self, name: _Optional[str] = ..., sha256: _Optional[str] = ...) -> None: ...

class Outputs(_message.Message):
    __slots__ = ("tensor", "activation")
    class Activation(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        ACTIVATION_UNSPECIFIED: _ClassVar[Outputs.Activation]
        ACTIVATION_NONE: _ClassVar[Outputs.Activation]
        ACTIVATION_SIGMOID: _ClassVar[Outputs.Activation]
        ACTIVATION_SOFTMAX_POSITIVE: _ClassVar[Outputs.Activation]
    ACTIVATION_UNSPECIFIED: Outputs.Activation
    ACTIVATION_NONE: Outputs.Activation
    ACTIVATION_SIGMOID: Outputs.Activation
    ACTIVATION_SOFTMAX_POSITIVE: Outputs.Activation
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    ACTIVATION_FIELD_NUMBER: _ClassVar[int]
    tensor: str
    activation: Outputs.Activation
    def __init__(self, tensor: _Optional[str] = ..., activation: _Optional[_Union[Outputs.Activation, str]] = ...) -> None: ...

class Preprocessing(_message.Message):
    __slots__ = ("channels", "value_range", "square", "resize", "crop", "equalize", "mean", "std", "layout", "dtype", "tensor")
    class Square(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        SQUARE_UNSPECIFIED: _ClassVar[Preprocessing.Square]
        SQUARE_NONE: _ClassVar[Preprocessing.Square]
        SQUARE_CROP: _ClassVar[Preprocessing.Square]
        SQUARE_PAD: _ClassVar[Preprocessing.Square]
    SQUARE_UNSPECIFIED: Preprocessing.Square
    SQUARE_NONE: Preprocessing.Square
    SQUARE_CROP: Preprocessing.Square
    SQUARE_PAD: Preprocessing.Square
    class Layout(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        LAYOUT_UNSPECIFIED: _ClassVar[Preprocessing.Layout]
        LAYOUT_NCHW: _ClassVar[Preprocessing.Layout]
        LAYOUT_NHWC: _ClassVar[Preprocessing.Layout]
    LAYOUT_UNSPECIFIED: Preprocessing.Layout
    LAYOUT_NCHW: Preprocessing.Layout
    LAYOUT_NHWC: Preprocessing.Layout
    class TensorType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        TENSOR_TYPE_UNSPECIFIED: _ClassVar[Preprocessing.TensorType]
        TENSOR_TYPE_FLOAT32: _ClassVar[Preprocessing.TensorType]
        TENSOR_TYPE_FLOAT16: _ClassVar[Preprocessing.TensorType]
        TENSOR_TYPE_UINT8: _ClassVar[Preprocessing.TensorType]
    TENSOR_TYPE_UNSPECIFIED: Preprocessing.TensorType
    TENSOR_TYPE_FLOAT32: Preprocessing.TensorType
    TENSOR_TYPE_FLOAT16: Preprocessing.TensorType
    TENSOR_TYPE_UINT8: Preprocessing.TensorType
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    VALUE_RANGE_FIELD_NUMBER: _ClassVar[int]
    SQUARE_FIELD_NUMBER: _ClassVar[int]
    RESIZE_FIELD_NUMBER: _ClassVar[int]
    CROP_FIELD_NUMBER: _ClassVar[int]
    EQUALIZE_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    STD_FIELD_NUMBER: _ClassVar[int]
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    channels: int
    value_range: _containers.RepeatedScalarFieldContainer[float]
    square: Preprocessing.Square
    resize: Resize
    crop: Crop
    equalize: Equalize
    mean: _containers.RepeatedScalarFieldContainer[float]
    std: _containers.RepeatedScalarFieldContainer[float]
    layout: Preprocessing.Layout
    dtype: Preprocessing.TensorType
    tensor: str
    def __init__(self, channels: _Optional[int] = ..., value_range: _Optional[_Iterable[float]] = ..., square: _Optional[_Union[Preprocessing.Square, str]] = ..., resize: _Optional[_Union[Resize, _Mapping]] = ..., crop: _Optional[_Union[Crop, _Mapping]] = ..., equalize: _Optional[_Union[Equalize, _Mapping]] = ..., mean: _Optional[_Iterable[float]] = ..., std: _Optional[_Iterable[float]] = ..., layout: _Optional[_Union[Preprocessing.Layout, str]] = ..., dtype: _Optional[_Union[Preprocessing.TensorType, str]] = ..., tensor: _Optional[str] = ...) -> None: ...

class Resize(_message.Message):
    __slots__ = ("to", "size", "interpolation", "antialias", "library")
    class ResizeTo(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        RESIZE_TO_UNSPECIFIED: _ClassVar[Resize.ResizeTo]
        RESIZE_TO_NONE: _ClassVar[Resize.ResizeTo]
        RESIZE_TO_SHORT_SIDE: _ClassVar[Resize.ResizeTo]
        RESIZE_TO_LONG_SIDE: _ClassVar[Resize.ResizeTo]
        RESIZE_TO_EXACT: _ClassVar[Resize.ResizeTo]
    RESIZE_TO_UNSPECIFIED: Resize.ResizeTo
    RESIZE_TO_NONE: Resize.ResizeTo
    RESIZE_TO_SHORT_SIDE: Resize.ResizeTo
    RESIZE_TO_LONG_SIDE: Resize.ResizeTo
    RESIZE_TO_EXACT: Resize.ResizeTo
    class Interpolation(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        INTERPOLATION_UNSPECIFIED: _ClassVar[Resize.Interpolation]
        INTERPOLATION_NEAREST: _ClassVar[Resize.Interpolation]
        INTERPOLATION_BILINEAR: _ClassVar[Resize.Interpolation]
        INTERPOLATION_BICUBIC: _ClassVar[Resize.Interpolation]
        INTERPOLATION_LANCZOS: _ClassVar[Resize.Interpolation]
        INTERPOLATION_AREA: _ClassVar[Resize.Interpolation]
    INTERPOLATION_UNSPECIFIED: Resize.Interpolation
    INTERPOLATION_NEAREST: Resize.Interpolation
    INTERPOLATION_BILINEAR: Resize.Interpolation
    INTERPOLATION_BICUBIC: Resize.Interpolation
    INTERPOLATION_LANCZOS: Resize.Interpolation
    INTERPOLATION_AREA: Resize.Interpolation
    class Library(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        LIBRARY_UNSPECIFIED: _ClassVar[Resize.Library]
        LIBRARY_PILLOW: _ClassVar[Resize.Library]
        LIBRARY_OPENCV: _ClassVar[Resize.Library]
        LIBRARY_SCIKIT_IMAGE: _ClassVar[Resize.Library]
        LIBRARY_TORCH: _ClassVar[Resize.Library]
        LIBRARY_TORCHXRAYVISION: _ClassVar[Resize.Library]
    LIBRARY_UNSPECIFIED: Resize.Library
    LIBRARY_PILLOW: Resize.Library
    LIBRARY_OPENCV: Resize.Library
    LIBRARY_SCIKIT_IMAGE: Resize.Library
    LIBRARY_TORCH: Resize.Library
    LIBRARY_TORCHXRAYVISION: Resize.Library
    TO_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    INTERPOLATION_FIELD_NUMBER: _ClassVar[int]
    ANTIALIAS_FIELD_NUMBER: _ClassVar[int]
    LIBRARY_FIELD_NUMBER: _ClassVar[int]
    to: Resize.ResizeTo
    size: _containers.RepeatedScalarFieldContainer[int]
    interpolation: Resize.Interpolation
    antialias: bool
    library: Resize.Library
    def __init__(self, to: _Optional[_Union[Resize.ResizeTo, str]] = ..., size: _Optional[_Iterable[int]] = ..., interpolation: _Optional[_Union[Resize.Interpolation, str]] = ..., antialias: _Optional[bool] = ..., library: _Optional[_Union[Resize.Library, str]] = ...) -> None: ...

class Crop(_message.Message):
    __slots__ = ("kind", "size")
    class CropKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        CROP_KIND_UNSPECIFIED: _ClassVar[Crop.CropKind]
        CROP_KIND_NONE: _ClassVar[Crop.CropKind]
        CROP_KIND_CENTER: _ClassVar[Crop.CropKind]
        CROP_KIND_FIVE: _ClassVar[Crop.CropKind]
        CROP_KIND_TEN: _ClassVar[Crop.CropKind]
    CROP_KIND_UNSPECIFIED: Crop.CropKind
    CROP_KIND_NONE: Crop.CropKind
    CROP_KIND_CENTER: Crop.CropKind
    CROP_KIND_FIVE: Crop.CropKind
    CROP_KIND_TEN: Crop.CropKind
    KIND_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    kind: Crop.CropKind
    size: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, kind: _Optional[_Union[Crop.CropKind, str]] = ..., size: _Optional[_Iterable[int]] = ...) -> None: ...

class Equalize(_message.Message):
    __slots__ = ("kind", "clip", "tiles")
    class EqualizeKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        EQUALIZE_KIND_UNSPECIFIED: _ClassVar[Equalize.EqualizeKind]
        EQUALIZE_KIND_NONE: _ClassVar[Equalize.EqualizeKind]
        EQUALIZE_KIND_HISTOGRAM: _ClassVar[Equalize.EqualizeKind]
        EQUALIZE_KIND_CLAHE: _ClassVar[Equalize.EqualizeKind]
        EQUALIZE_KIND_MINMAX: _ClassVar[Equalize.EqualizeKind]
    EQUALIZE_KIND_UNSPECIFIED: Equalize.EqualizeKind
    EQUALIZE_KIND_NONE: Equalize.EqualizeKind
    EQUALIZE_KIND_HISTOGRAM: Equalize.EqualizeKind
    EQUALIZE_KIND_CLAHE: Equalize.EqualizeKind
    EQUALIZE_KIND_MINMAX: Equalize.EqualizeKind
    KIND_FIELD_NUMBER: _ClassVar[int]
    CLIP_FIELD_NUMBER: _ClassVar[int]
    TILES_FIELD_NUMBER: _ClassVar[int]
    kind: Equalize.EqualizeKind
    clip: float
    tiles: int
    def __init__(self, kind: _Optional[_Union[Equalize.EqualizeKind, str]] = ..., clip: _Optional[float] = ..., tiles: _Optional[int] = ...) -> None: ...

class Endpoint(_message.Message):
    __slots__ = ("address", "tls", "model_name", "requests_per_second")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    TLS_FIELD_NUMBER: _ClassVar[int]
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    address: str
    tls: bool
    model_name: str
    requests_per_second: float
    def __init__(self, address: _Optional[str] = ..., tls: _Optional[bool] = ..., model_name: _Optional[str] = ..., requests_per_second: _Optional[float] = ...) -> None: ...

class Reproduction(_message.Message):
    __slots__ = ("repository", "commit", "seed", "script", "bundle_sha256", "entry_point", "lock", "wheelhouse_sha256")
    REPOSITORY_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    SCRIPT_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_SHA256_FIELD_NUMBER: _ClassVar[int]
    ENTRY_POINT_FIELD_NUMBER: _ClassVar[int]
    LOCK_FIELD_NUMBER: _ClassVar[int]
    WHEELHOUSE_SHA256_FIELD_NUMBER: _ClassVar[int]
    repository: str
    commit: str
    seed: int
    script: str
    bundle_sha256: str
    entry_point: str
    lock: str
    wheelhouse_sha256: str
    def __init__(self, repository: _Optional[str] = ..., commit: _Optional[str] = ..., seed: _Optional[int] = ..., script: _Optional[str] = ..., bundle_sha256: _Optional[str] = ..., entry_point: _Optional[str] = ..., lock: _Optional[str] = ..., wheelhouse_sha256: _Optional[str] = ...) -> None: ...

class SubmissionFile(_message.Message):
    __slots__ = ("submission", "part")
    class Part(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        PART_UNSPECIFIED: _ClassVar[SubmissionFile.Part]
        PART_SOURCE_BUNDLE: _ClassVar[SubmissionFile.Part]
        PART_WHEELHOUSE: _ClassVar[SubmissionFile.Part]
    PART_UNSPECIFIED: SubmissionFile.Part
    PART_SOURCE_BUNDLE: SubmissionFile.Part
    PART_WHEELHOUSE: SubmissionFile.Part
    SUBMISSION_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    submission: str
    part: SubmissionFile.Part
    def __init__(self, submission: _Optional[str] = ..., part: _Optional[_Union[SubmissionFile.Part, str]] = ...) -> None: ...

class Agreement(_message.Message):
    __slots__ = ("evaluation", "with_evaluation", "verdict", "images", "images_total", "bit_identical", "max_difference", "mean_difference", "worst_image", "worst_finding", "tolerance", "score_difference", "score_low", "score_high", "canaries", "canaries_flagged", "canary_difference", "time", "differed_since")
    class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        VERDICT_UNSPECIFIED: _ClassVar[Agreement.Verdict]
        VERDICT_AGREES: _ClassVar[Agreement.Verdict]
        VERDICT_DIFFERS: _ClassVar[Agreement.Verdict]
    VERDICT_UNSPECIFIED: Agreement.Verdict
    VERDICT_AGREES: Agreement.Verdict
    VERDICT_DIFFERS: Agreement.Verdict
    EVALUATION_FIELD_NUMBER: _ClassVar[int]
    WITH_EVALUATION_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    IMAGES_TOTAL_FIELD_NUMBER: _ClassVar[int]
    BIT_IDENTICAL_FIELD_NUMBER: _ClassVar[int]
    MAX_DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    MEAN_DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    WORST_IMAGE_FIELD_NUMBER: _ClassVar[int]
    WORST_FINDING_FIELD_NUMBER: _ClassVar[int]
    TOLERANCE_FIELD_NUMBER: _ClassVar[int]
    SCORE_DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    SCORE_LOW_FIELD_NUMBER: _ClassVar[int]
    SCORE_HIGH_FIELD_NUMBER: _ClassVar[int]
    CANARIES_FIELD_NUMBER: _ClassVar[int]
    CANARIES_FLAGGED_FIELD_NUMBER: _ClassVar[int]
    CANARY_DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    DIFFERED_SINCE_FIELD_NUMBER: _ClassVar[int]
    evaluation: str
    with_evaluation: str
    verdict: Agreement.Verdict
    images: int
    images_total: int
    bit_identical: bool
    max_difference: float
    mean_difference: float
    worst_image: str
    worst_finding: str
    tolerance: float
    score_difference: float
    score_low: float
    score_high: float
    canaries: int
    canaries_flagged: int
    canary_difference: float
    time: _timestamp_pb2.Timestamp
    differed_since: _timestamp_pb2.Timestamp
    def __init__(self, evaluation: _Optional[str] = ..., with_evaluation: _Optional[str] = ..., verdict: _Optional[_Union[Agreement.Verdict, str]] = ..., images: _Optional[int] = ..., images_total: _Optional[int] = ..., bit_identical: _Optional[bool] = ..., max_difference: _Optional[float] = ..., mean_difference: _Optional[float] = ..., worst_image: _Optional[str] = ..., worst_finding: _Optional[str] = ..., tolerance: _Optional[float] = ..., score_difference: _Optional[float] = ..., score_low: _Optional[float] = ..., score_high: _Optional[float] = ..., canaries: _Optional[int] = ..., canaries_flagged: _Optional[int] = ..., canary_difference: _Optional[float] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., differed_since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Environment(_message.Message):
    __slots__ = ("python_version", "dependencies")
    PYTHON_VERSION_FIELD_NUMBER: _ClassVar[int]
    DEPENDENCIES_FIELD_NUMBER: _ClassVar[int]
    python_version: str
    dependencies: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, python_version: _Optional[str] = ..., dependencies: _Optional[_Iterable[str]] = ...) -> None: ...

class ClaimedMetric(_message.Message):
    __slots__ = ("metric", "finding", "value")
    METRIC_FIELD_NUMBER: _ClassVar[int]
    FINDING_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    metric: str
    finding: str
    value: float
    def __init__(self, metric: _Optional[str] = ..., finding: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...

class Submission(_message.Message):
    __slots__ = ("name", "kind", "manifest", "state", "tier", "create_time", "update_time", "evaluation", "images_done", "images_total", "failure", "note", "etag", "time_left", "superseded_by", "replay", "reproduction")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[Submission.Kind]
        KIND_CHECKPOINT: _ClassVar[Submission.Kind]
        KIND_CLAIM: _ClassVar[Submission.Kind]
        KIND_ENDPOINT: _ClassVar[Submission.Kind]
        KIND_PREDICTIONS: _ClassVar[Submission.Kind]
        KIND_SCRIPT: _ClassVar[Submission.Kind]
    KIND_UNSPECIFIED: Submission.Kind
    KIND_CHECKPOINT: Submission.Kind
    KIND_CLAIM: Submission.Kind
    KIND_ENDPOINT: Submission.Kind
    KIND_PREDICTIONS: Submission.Kind
    KIND_SCRIPT: Submission.Kind
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[Submission.State]
        STATE_AWAITING_ARTIFACT: _ClassVar[Submission.State]
        STATE_QUEUED: _ClassVar[Submission.State]
        STATE_RUNNING: _ClassVar[Submission.State]
        STATE_PUBLISHED: _ClassVar[Submission.State]
        STATE_FAILED: _ClassVar[Submission.State]
        STATE_DISPUTED: _ClassVar[Submission.State]
        STATE_SUPERSEDED: _ClassVar[Submission.State]
        STATE_WITHDRAWN: _ClassVar[Submission.State]
        STATE_CANCELLED: _ClassVar[Submission.State]
    STATE_UNSPECIFIED: Submission.State
    STATE_AWAITING_ARTIFACT: Submission.State
    STATE_QUEUED: Submission.State
    STATE_RUNNING: Submission.State
    STATE_PUBLISHED: Submission.State
    STATE_FAILED: Submission.State
    STATE_DISPUTED: Submission.State
    STATE_SUPERSEDED: Submission.State
    STATE_WITHDRAWN: Submission.State
    STATE_CANCELLED: Submission.State
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    EVALUATION_FIELD_NUMBER: _ClassVar[int]
    IMAGES_DONE_FIELD_NUMBER: _ClassVar[int]
    IMAGES_TOTAL_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    TIME_LEFT_FIELD_NUMBER: _ClassVar[int]
    SUPERSEDED_BY_FIELD_NUMBER: _ClassVar[int]
    REPLAY_FIELD_NUMBER: _ClassVar[int]
    REPRODUCTION_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: Submission.Kind
    manifest: Manifest
    state: Submission.State
    tier: Tier
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    evaluation: str
    images_done: int
    images_total: int
    failure: Failure
    note: str
    etag: str
    time_left: _duration_pb2.Duration
    superseded_by: str
    replay: Agreement
    reproduction: Agreement
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[_Union[Submission.Kind, str]] = ..., manifest: _Optional[_Union[Manifest, _Mapping]] = ..., state: _Optional[_Union[Submission.State, str]] = ..., tier: _Optional[_Union[Tier, str]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., evaluation: _Optional[str] = ..., images_done: _Optional[int] = ..., images_total: _Optional[int] = ..., failure: _Optional[_Union[Failure, _Mapping]] = ..., note: _Optional[str] = ..., etag: _Optional[str] = ..., time_left: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., superseded_by: _Optional[str] = ..., replay: _Optional[_Union[Agreement, _Mapping]] = ..., reproduction: _Optional[_Union[Agreement, _Mapping]] = ...) -> None: ...

class SubmissionEvent(_message.Message):
    __slots__ = ("submission", "version", "change", "state", "actor", "reason", "details", "time")
    class Change(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        CHANGE_UNSPECIFIED: _ClassVar[SubmissionEvent.Change]
        CHANGE_CREATED: _ClassVar[SubmissionEvent.Change]
        CHANGE_QUEUED: _ClassVar[SubmissionEvent.Change]
        CHANGE_LEASED: _ClassVar[SubmissionEvent.Change]
        CHANGE_RETURNED: _ClassVar[SubmissionEvent.Change]
        CHANGE_LEASE_EXPIRED: _ClassVar[SubmissionEvent.Change]
        CHANGE_PUBLISHED: _ClassVar[SubmissionEvent.Change]
        CHANGE_FAILED: _ClassVar[SubmissionEvent.Change]
        CHANGE_EXPIRED: _ClassVar[SubmissionEvent.Change]
        CHANGE_CANCELLED: _ClassVar[SubmissionEvent.Change]
        CHANGE_RETRIED: _ClassVar[SubmissionEvent.Change]
        CHANGE_DISPUTED: _ClassVar[SubmissionEvent.Change]
        CHANGE_RESOLVED: _ClassVar[SubmissionEvent.Change]
        CHANGE_CORRECTED: _ClassVar[SubmissionEvent.Change]
        CHANGE_SUPERSEDED: _ClassVar[SubmissionEvent.Change]
        CHANGE_WITHDRAWN: _ClassVar[SubmissionEvent.Change]
        CHANGE_REINSTATED: _ClassVar[SubmissionEvent.Change]
        CHANGE_CARD_UPDATED: _ClassVar[SubmissionEvent.Change]
        CHANGE_REPLAYED: _ClassVar[SubmissionEvent.Change]
        CHANGE_REPRODUCED: _ClassVar[SubmissionEvent.Change]
        CHANGE_NOT_REPRODUCED: _ClassVar[SubmissionEvent.Change]
        CHANGE_REPLAY_DIFFERED: _ClassVar[SubmissionEvent.Change]
    CHANGE_UNSPECIFIED: SubmissionEvent.Change
    CHANGE_CREATED: SubmissionEvent.Change
    CHANGE_QUEUED: SubmissionEvent.Change
    CHANGE_LEASED: SubmissionEvent.Change
    CHANGE_RETURNED: SubmissionEvent.Change
    CHANGE_LEASE_EXPIRED: SubmissionEvent.Change
    CHANGE_PUBLISHED: SubmissionEvent.Change
    CHANGE_FAILED: SubmissionEvent.Change
    CHANGE_EXPIRED: SubmissionEvent.Change
    CHANGE_CANCELLED: SubmissionEvent.Change
    CHANGE_RETRIED: SubmissionEvent.Change
    CHANGE_DISPUTED: SubmissionEvent.Change
    CHANGE_RESOLVED: SubmissionEvent.Change
    CHANGE_CORRECTED: SubmissionEvent.Change
    CHANGE_SUPERSEDED: SubmissionEvent.Change
    CHANGE_WITHDRAWN: SubmissionEvent.Change
    CHANGE_REINSTATED: SubmissionEvent.Change
    CHANGE_CARD_UPDATED: SubmissionEvent.Change
    CHANGE_REPLAYED: SubmissionEvent.Change
    CHANGE_REPRODUCED: SubmissionEvent.Change
    CHANGE_NOT_REPRODUCED: SubmissionEvent.Change
    CHANGE_REPLAY_DIFFERED: SubmissionEvent.Change
    class DetailsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SUBMISSION_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    submission: str
    version: int
    change: SubmissionEvent.Change
    state: Submission.State
    actor: str
    reason: str
    details: _containers.ScalarMap[str, str]
    time: _timestamp_pb2.Timestamp
    def __init__(self, submission: _Optional[str] = ..., version: _Optional[int] = ..., change: _Optional[_Union[SubmissionEvent.Change, str]] = ..., state: _Optional[_Union[Submission.State, str]] = ..., actor: _Optional[str] = ..., reason: _Optional[str] = ..., details: _Optional[_Mapping[str, str]] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Failure(_message.Message):
    __slots__ = ("reason", "message", "fault")
    class Fault(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        FAULT_UNSPECIFIED: _ClassVar[Failure.Fault]
        FAULT_SUBMISSION: _ClassVar[Failure.Fault]
        FAULT_SYSTEM: _ClassVar[Failure.Fault]
    FAULT_UNSPECIFIED: Failure.Fault
    FAULT_SUBMISSION: Failure.Fault
    FAULT_SYSTEM: Failure.Fault
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    reason: str
    message: str
    fault: Failure.Fault
    def __init__(self, reason: _Optional[str] = ..., message: _Optional[str] = ..., fault: _Optional[_Union[Failure.Fault, str]] = ...) -> None: ...
