"""The fields of a manifest: their meaning and their form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from cxreval.bundle import MAX_FILES, Ensemble, SubmittedFile
from cxreval.datasets.training_list import TrainingData
from cxreval.errors import CommitNotFrozen, UnknownProfile
from cxreval.fields import HOST_PORT, SHA256, SHA256_FORM
from cxreval.forms import (
    Email,
    Flag,
    HttpsUrl,
    Matching,
    Number,
    OneOf,
    Text,
    Whole,
    declared,
)
from cxreval.model_interface import ModelInterface
from cxreval.preprocessing import PRESETS, Crop, Equalize, Outputs, Preprocessing, Resize
from cxreval.records import Part

MAX_NAME_CHARACTERS = 100
MAX_SCRIPT_CHARACTERS = 1000
MAX_PATH_CHARACTERS = 300
MAX_DEPENDENCIES = 500
MAX_DEPENDENCY_CHARACTERS = 200
MAX_OUTPUTS = 1000
MAX_CLAIMS = 1000
FEWEST_REQUESTS, MOST_REQUESTS = 0.1, 1000.0
"""Bounds of the request rate that an endpoint may declare, in images per second."""

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_DEPENDENCY = rf"{_NAME}(?:\[{_NAME}(?:,{_NAME})*\])?==[A-Za-z0-9.!+_-]+"
_PYTHON = r"[0-9]{1,2}\.[0-9]{1,3}(?:\.[0-9]{1,3})?(?:(?:a|b|rc)[0-9]{1,3})?"
_DATE = r"[0-9]{4}-[0-9]{2}(?:-[0-9]{2})?"


class Kind(StrEnum):
    """The kind of a submission."""

    CHECKPOINT = "checkpoint"
    ENDPOINT = "endpoint"
    PREDICTIONS = "predictions"
    CLAIM = "claim"
    SCRIPT = "script"


class SourceKind(StrEnum):
    """The source of a figure or a model."""

    GITHUB_README = "github-readme"
    RESEARCH_PAPER = "research-paper"
    MODEL_CARD = "model-card"
    CHECKPOINT = "checkpoint"
    ENDPOINT = "endpoint"
    PREDICTIONS = "predictions"
    SCRIPT = "script"


PUBLISHED_SOURCES = (SourceKind.GITHUB_README, SourceKind.RESEARCH_PAPER, SourceKind.MODEL_CARD)
"""Sources that every kind may name; the others are the submitted thing itself."""


class CheckpointFormat(StrEnum):
    """The format of a checkpoint's file."""

    ONNX = "onnx"
    PYTORCH_STATE_DICT = "pytorch-state-dict"
    TORCHSCRIPT = "torchscript"
    TORCH_EXPORT = "torch-export"


CONVERTED = (
    CheckpointFormat.PYTORCH_STATE_DICT,
    CheckpointFormat.TORCHSCRIPT,
    CheckpointFormat.TORCH_EXPORT,
)
"""Formats that a worker converts to ONNX before inference runs them."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """A network whose state dict can be submitted; `names_outputs` if it names its outputs.

    `profile` is the only preset that its weights fit; empty if each training has its own steps.
    """

    profile: str
    names_outputs: bool


ARCHITECTURES: Mapping[str, Architecture] = {
    "densenet121": Architecture("", names_outputs=False),
    "resnet50": Architecture("", names_outputs=False),
    "chexnet": Architecture("", names_outputs=True),
    "densenet121-res224-all": Architecture("xrv-224", names_outputs=True),
    "densenet121-res224-nih": Architecture("xrv-224", names_outputs=True),
    "densenet121-res224-pc": Architecture("xrv-224", names_outputs=True),
    "resnet50-res512-all": Architecture("xrv-512", names_outputs=True),
}
"""Networks that `cxreval.export` can build and that have a name of their own."""

_LIBRARY_MODELS = {
    r"torchvision/[a-z0-9_]{1,60}": "torchvision/NAME",
    r"timm/[A-Za-z0-9_]{1,60}(?:\.[A-Za-z0-9_]{1,60})?": "timm/NAME",
    r"monai/DenseNet(?:121|169|201|264)": "monai/DenseNet121 (or 169, 201, 264)",
}
_ARCHITECTURE = Matching(
    "|".join((*ARCHITECTURES, *_LIBRARY_MODELS)),
    f"one of {', '.join((*ARCHITECTURES, *_LIBRARY_MODELS.values()))}",
)


_SOURCE_PATH = Matching(
    r"(?!.*(?:^|/)\.\.?(?:/|$))[A-Za-z0-9_.][A-Za-z0-9_.+-]*(?:/[A-Za-z0-9_.][A-Za-z0-9_.+-]*)*",
    "a path in the repository such as tools/reproduce.py",
    longest=MAX_PATH_CHARACTERS,
)


@dataclass(frozen=True, slots=True)
class Reproduction:
    """A script frozen at a commit."""

    repository: str = declared(
        "URL of the repository.", HttpsUrl(), "https://github.com/me/my-classifier"
    )
    commit: str = declared(
        "Full hash of the commit; a branch or tag can move.",
        Matching(
            "[0-9a-f]{40}",
            "40 lower-case hex characters of a commit; a branch or tag can move",
            CommitNotFrozen,
        ),
        "0123456789abcdef0123456789abcdef01234567",
    )
    seed: int = declared("Random seed of the run.", Whole(), 7)
    script: str = declared(
        "Command or script in the repository.",
        Text(MAX_SCRIPT_CHARACTERS),
        "python evaluate.py",
        "",
    )
    bundle_sha256: str = declared(
        "sha256 of the source bundle, which holds the commit; `cxreval submit` fills it in.",
        Matching(SHA256.pattern, SHA256_FORM),
        "",
        "",
    )
    entry_point: str = declared(
        "Path of the script in the repository; run as `python PATH --images DIR --list FILE "
        "--out FILE --seed N`.",
        _SOURCE_PATH,
        "reproduce.py",
        "",
    )
    lock: str = declared(
        "Path of the file in the repository that pins each package with its sha256; without it, "
        "`environment.dependencies` are installed.",
        _SOURCE_PATH,
        "requirements.lock",
        "",
    )
    wheelhouse_sha256: str = declared(
        "sha256 of the wheelhouse, a zip file of wheels; `cxreval submit` fills it in.",
        Matching(SHA256.pattern, SHA256_FORM),
        "",
        "",
    )


@dataclass(frozen=True, slots=True)
class Environment:
    """Python version and requirements with exact versions."""

    python_version: str = declared(
        "Python version.", Matching(_PYTHON, "a version such as 3.11.7"), "3.11.7"
    )
    dependencies: tuple[str, ...] = declared(
        "Requirements with exact versions.",
        Matching(
            _DEPENDENCY, "an exact version such as torch==2.13.0", longest=MAX_DEPENDENCY_CHARACTERS
        ),
        ("torch==2.13.0",),
        (),
        MAX_DEPENDENCIES,
    )


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server that speaks the Open Inference Protocol v2 over gRPC."""

    address: str = declared(
        "Address of the server, host:port.",
        Matching(HOST_PORT.pattern, "host:port such as models.example.org:443"),
        "models.example.org:443",
    )
    tls: bool = declared(
        "Whether the server uses TLS with a certificate of a public authority.", Flag(), True
    )
    model_name: str = declared(
        "Name of the model on the server.", Text(MAX_NAME_CHARACTERS, "a name"), "my-classifier"
    )
    requests_per_second: float = declared(
        "Maximum request rate, in images per second.", Number(FEWEST_REQUESTS, MOST_REQUESTS), 20.0
    )


@dataclass(frozen=True, slots=True)
class ClaimedMetric:
    """A claimed value of a metric; `finding` is empty for the macro mean."""

    metric: str = declared("Name of the metric.", Text(MAX_NAME_CHARACTERS, "a name"), "auroc")
    value: float = declared("Value of the metric, from 0 to 1.", Number(0, 1), 0.8)
    finding: str = declared(
        "Finding of the value; without it, the mean over all findings.",
        Text(MAX_NAME_CHARACTERS, "a name"),
        "Hernia",
        "",
    )


@dataclass(frozen=True, slots=True)
class Manifest:
    """The manifest of a submission. A field that is empty or None is not given."""

    kind: Kind = declared("Kind of the submission.", None, Kind.CHECKPOINT)
    model: str = declared(
        "Name of the model, as the board shows it.",
        Text(MAX_NAME_CHARACTERS, "a name"),
        "My classifier",
    )
    organisation: str = declared(
        "Name of the organisation, as the board shows it.",
        Text(MAX_NAME_CHARACTERS, "a name"),
        "My group",
    )
    open_source: bool = declared("Whether code and weights are open source.", Flag(), True)
    source_kind: SourceKind = declared(
        "Source of the model or its figure.", None, SourceKind.CHECKPOINT
    )
    contact: str = declared(
        "E-mail address for questions about the submission.", Email(), "me@example.org"
    )
    source_url: str = declared(
        "URL of the source.", HttpsUrl(), "https://github.com/me/my-classifier", ""
    )
    format: CheckpointFormat | None = declared(
        "Format of the file.", None, CheckpointFormat.ONNX, None
    )
    architecture: str = declared(
        f"Network that the state dict belongs to: {_ARCHITECTURE.expected}.",
        _ARCHITECTURE,
        "densenet121",
        "",
    )
    endpoint: Endpoint | None = declared(
        "Server that runs the model. Its token does not belong in a manifest.", None, None, None
    )
    preprocessing_profile: str = declared(
        "Name of a preset, as manifests before `preprocessing` gave it.",
        OneOf(tuple(PRESETS), UnknownProfile, ", or steps of your own: `preprocessing: {...}`"),
        "xrv-224",
        "",
    )
    output_names: tuple[str, ...] = declared(
        "Name of each column of the output, or of each pair for softmax-positive. A column that no "
        'finding of the benchmark names is ignored, and so is "".',
        Text(MAX_NAME_CHARACTERS, "a name", empty=True),
        None,
        (),
        MAX_OUTPUTS,
    )
    reproduction: Reproduction | None = declared(
        "Script and commit that reproduce the figures.", None, None, None
    )
    environment: Environment | None = declared(
        "Python and packages that the submitter used.", None, None, None
    )
    claimed_metrics: tuple[ClaimedMetric, ...] = declared(
        "Values of metrics that the submitter claims.", None, None, (), MAX_CLAIMS
    )
    submitted_date: str = declared(
        "Date of the model or paper, to the day or the month; without it, the day of submission.",
        Matching(_DATE, "a date YYYY-MM-DD or YYYY-MM"),
        "2025-12-19",
        "",
    )
    artifact_sha256: str = declared(
        "sha256 of the submitted file; `cxreval submit` fills it in.",
        Matching(SHA256.pattern, SHA256_FORM),
        "",
        "",
    )
    preprocessing: Preprocessing | None = declared(
        "A preset by its name, or each step from an image to the model's input.",
        None,
        PRESETS["imagenet-224"],
        None,
    )
    outputs: Outputs | None = declared("Where the probabilities are.", None, None, None)
    files: tuple[SubmittedFile, ...] = declared(
        "Files of a submission that has several.", None, SubmittedFile("model.onnx"), (), MAX_FILES
    )
    ensemble: Ensemble | None = declared(
        "How several models become one.", None, Ensemble.MEAN, None
    )
    training_data: TrainingData | None = declared(
        "Images of the benchmark's data set that the model was trained or tuned on; without it, "
        "the row is undeclared.",
        None,
        None,
        None,
    )

    @property
    def declared_preprocessing(self) -> Preprocessing | None:
        """The declared preprocessing, or that of the preset; None if there is neither."""
        return self.preprocessing or PRESETS.get(self.preprocessing_profile)

    @property
    def interface(self) -> ModelInterface | None:
        """The interface of the model; None without preprocessing."""
        steps = self.declared_preprocessing
        return ModelInterface(steps, self.outputs or Outputs()) if steps else None


SHORT_FORMS: Mapping[type, str] = {
    Resize: "to",
    Crop: "kind",
    Equalize: "kind",
    Outputs: "activation",
    SubmittedFile: "name",
    TrainingData: "uses",
}
"""Records that a manifest may give as the value of one of their fields: `crop: none`."""


UPLOADED = (Kind.CHECKPOINT, Kind.PREDICTIONS, Kind.SCRIPT)
"""Kinds that are submitted with a file."""


def parts(manifest: Manifest) -> dict[Part, str]:
    """Returns the sha256 of each file that a manifest declares beside its artifact."""
    given = manifest.reproduction
    declared_parts = {
        Part.SOURCE_BUNDLE: given.bundle_sha256 if given else "",
        Part.WHEELHOUSE: given.wheelhouse_sha256 if given else "",
    }
    return {part: sha256 for part, sha256 in declared_parts.items() if sha256}
