"""The manifest's fields: what each means, what it may look like, and which of them each kind of
submission needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from enum import StrEnum
from typing import Any

from cxreval.datasets.profiles import PROFILE_NAMES
from cxreval.errors import CommitNotFrozen, UnknownProfile
from cxreval.manifest.forms import Email, Flag, Form, HttpsUrl, Matching, Number, OneOf, Text, Whole
from cxreval.resource_names import SHA256

MAX_NAME_CHARACTERS = 100
MAX_SCRIPT_CHARACTERS = 1000
MAX_DEPENDENCIES = 500
MAX_DEPENDENCY_CHARACTERS = 200
MAX_OUTPUTS = 1000
MAX_CLAIMS = 1000
FEWEST_REQUESTS, MOST_REQUESTS = 0.1, 1000.0
"""Least and most images a second that an endpoint may ask to be sent."""

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_DEPENDENCY = rf"{_NAME}(?:\[{_NAME}(?:,{_NAME})*\])?==[A-Za-z0-9.!+_-]+"
_PYTHON = r"[0-9]{1,2}\.[0-9]{1,3}(?:\.[0-9]{1,3})?(?:(?:a|b|rc)[0-9]{1,3})?"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_PORT = r"(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
_ADDRESS = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]{{2,45}}\]):{_PORT}"
_DATE = r"[0-9]{4}-[0-9]{2}(?:-[0-9]{2})?"


class Kind(StrEnum):
    """What is handed in."""

    CHECKPOINT = "checkpoint"
    ENDPOINT = "endpoint"
    PREDICTIONS = "predictions"
    CLAIM = "claim"


class SourceKind(StrEnum):
    """Where a figure or a model comes from."""

    GITHUB_README = "github-readme"
    RESEARCH_PAPER = "research-paper"
    MODEL_CARD = "model-card"
    CHECKPOINT = "checkpoint"
    ENDPOINT = "endpoint"
    PREDICTIONS = "predictions"


PUBLISHED_SOURCES = (SourceKind.GITHUB_README, SourceKind.RESEARCH_PAPER, SourceKind.MODEL_CARD)
"""Sources that anybody may name; the others are what is handed in itself."""


class CheckpointFormat(StrEnum):
    """What a checkpoint's file is."""

    ONNX = "onnx"
    PYTORCH_STATE_DICT = "pytorch-state-dict"


@dataclass(frozen=True, slots=True)
class Architecture:
    """A network whose state dict can be handed in: its preprocessing profile, and whether it names
    its own outputs."""

    profile: str
    names_outputs: bool


ARCHITECTURES: Mapping[str, Architecture] = {
    "densenet121": Architecture("imagenet-224", names_outputs=False),
    "resnet50": Architecture("imagenet-224", names_outputs=False),
    "chexnet": Architecture("imagenet-224", names_outputs=True),
    "densenet121-res224-all": Architecture("xrv-224", names_outputs=True),
    "densenet121-res224-nih": Architecture("xrv-224", names_outputs=True),
    "densenet121-res224-pc": Architecture("xrv-224", names_outputs=True),
    "resnet50-res512-all": Architecture("xrv-512", names_outputs=True),
}
"""Networks that `cxreval.export` can build, by name."""


def _field(
    about: str, form: Form | None, example: Any, default: Any = MISSING, most: int = 0
) -> Any:
    """A field of a manifest; `most`: longest list, `form` being its items'. Without a default it is
    required."""
    return dataclasses.field(
        default=default, metadata={"about": about, "form": form, "example": example, "most": most}
    )


@dataclass(frozen=True, slots=True)
class Reproduction:
    """A script frozen at a commit."""

    repository: str = _field(
        "Address of the repository.", HttpsUrl(), "https://github.com/me/my-classifier"
    )
    commit: str = _field(
        "Full commit: a branch or tag can move.",
        Matching(
            "[0-9a-f]{40}",
            "40 lower-case hex characters: a branch or tag can move",
            CommitNotFrozen,
        ),
        "0123456789abcdef0123456789abcdef01234567",
    )
    seed: int = _field("Seed of the run.", Whole(), 7)
    script: str = _field(
        "The command or script in it.", Text(MAX_SCRIPT_CHARACTERS), "python evaluate.py", ""
    )


@dataclass(frozen=True, slots=True)
class Environment:
    """Python version and requirements with exact versions."""

    python_version: str = _field(
        "Version of Python.", Matching(_PYTHON, "a version such as 3.11.7"), "3.11.7"
    )
    dependencies: tuple[str, ...] = _field(
        "Requirements, each with its exact version.",
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

    address: str = _field(
        "Where it listens.",
        Matching(_ADDRESS, "host:port such as models.example.org:443"),
        "models.example.org:443",
    )
    tls: bool = _field(
        "Whether it speaks TLS, with a certificate of a public authority.", Flag(), True
    )
    model_name: str = _field("Name of the model there.", Text(MAX_NAME_CHARACTERS), "my-classifier")
    requests_per_second: float = _field(
        "Most images it is sent in a second.", Number(FEWEST_REQUESTS, MOST_REQUESTS), 20.0
    )


@dataclass(frozen=True, slots=True)
class ClaimedMetric:
    """A figure the submitter claims, in the metric's own unit; `finding` is empty for the macro
    mean."""

    metric: str = _field("Which figure.", Text(MAX_NAME_CHARACTERS), "auroc")
    value: float = _field("Its value, from 0 to 1.", Number(0, 1), 0.8)
    finding: str = _field(
        "Of which finding; without it, the mean of all.", Text(MAX_NAME_CHARACTERS), "Hernia", ""
    )


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a submitter declares. A field that is empty or None is not given."""

    kind: Kind = _field("What is handed in.", None, Kind.CHECKPOINT)
    model: str = _field(
        "Name of the model as the board shows it.", Text(MAX_NAME_CHARACTERS), "My classifier"
    )
    organisation: str = _field(
        "Who stands behind it, as the board shows it.", Text(MAX_NAME_CHARACTERS), "My group"
    )
    open_source: bool = _field("Whether code and weights are open source.", Flag(), True)
    source_kind: SourceKind = _field(
        "Where the model or its figure comes from.", None, SourceKind.CHECKPOINT
    )
    contact: str = _field("Whom to ask about discrepancies.", Email(), "me@example.org")
    source_url: str = _field(
        "Address of the source.", HttpsUrl(), "https://github.com/me/my-classifier", ""
    )
    format: CheckpointFormat | None = _field("What the file is.", None, CheckpointFormat.ONNX, None)
    architecture: str = _field(
        "Network whose state dict the file is.", OneOf(tuple(ARCHITECTURES)), "densenet121", ""
    )
    endpoint: Endpoint | None = _field(
        "The server to ask. Its token is no part of a manifest.", None, None, None
    )
    preprocessing_profile: str = _field(
        "How an image becomes the model's input.",
        OneOf(PROFILE_NAMES, UnknownProfile),
        "xrv-224",
        "",
    )
    output_names: tuple[str, ...] = _field(
        'The finding in each column of the output, every one once; "" for a column to ignore.',
        None,
        None,
        (),
        MAX_OUTPUTS,
    )
    reproduction: Reproduction | None = _field("How to reproduce the figures.", None, None, None)
    environment: Environment | None = _field("Where the submitter evaluated.", None, None, None)
    claimed_metrics: tuple[ClaimedMetric, ...] = _field(
        "Figures that the submitter claims.", None, None, (), MAX_CLAIMS
    )
    submitted_date: str = _field(
        "Date of the model or paper, to the day or the month; without it, the day it is handed in.",
        Matching(_DATE, "a date YYYY-MM-DD or YYYY-MM"),
        "2025-12-19",
        "",
    )
    artifact_sha256: str = _field(
        "sha256 of the file that is handed in; `cxreval submit` fills it in.",
        Matching(SHA256.pattern, "64 lower-case hex characters"),
        "",
        "",
    )


@dataclass(frozen=True, slots=True)
class Case:
    """What a manifest needs whose fields have these values: fields to give, to leave out, and their
    possible values."""

    when: Mapping[str, tuple[str, ...]]
    required: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()
    only: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        """As an error names it."""
        return " and ".join(f"{field} {' or '.join(values)}" for field, values in self.when.items())


def _sources(*own: SourceKind) -> dict[str, tuple[str, ...]]:
    return {"source_kind": (*PUBLISHED_SOURCES, *own)}


def _architecture_cases() -> list[Case]:
    def of(**wanted: object) -> dict[str, tuple[str, ...]]:
        ((fact, value),) = wanted.items()
        names = tuple(
            name for name, known in ARCHITECTURES.items() if getattr(known, fact) == value
        )
        return {"format": (CheckpointFormat.PYTORCH_STATE_DICT,), "architecture": names}

    profiles = dict.fromkeys(known.profile for known in ARCHITECTURES.values())
    return [
        Case(of(names_outputs=True), forbidden=("output_names",)),
        Case(of(names_outputs=False), required=("output_names",)),
        *(
            Case(of(profile=profile), only={"preprocessing_profile": (profile,)})
            for profile in profiles
        ),
    ]


CASES: tuple[Case, ...] = (
    Case(
        {"kind": (Kind.CHECKPOINT,)},
        required=("format", "preprocessing_profile", "reproduction", "environment"),
        forbidden=("endpoint",),
        only=_sources(SourceKind.CHECKPOINT),
    ),
    Case(
        {"kind": (Kind.CHECKPOINT,), "format": (CheckpointFormat.ONNX,)},
        required=("output_names",),
        forbidden=("architecture",),
    ),
    Case({"kind": (Kind.CHECKPOINT,), "format": (CheckpointFormat.PYTORCH_STATE_DICT,)}, required=("architecture",)),
    *_architecture_cases(),
    Case(
        {"kind": (Kind.ENDPOINT,)},
        required=("endpoint", "output_names", "reproduction", "environment"),
        forbidden=("format", "architecture", "artifact_sha256"),
        only=_sources(SourceKind.ENDPOINT),
    ),
    Case(
        {"kind": (Kind.PREDICTIONS,)},
        required=("reproduction", "environment"),
        forbidden=("format", "architecture", "endpoint", "preprocessing_profile", "output_names"),
        only=_sources(SourceKind.PREDICTIONS),
    ),
    Case(
        {"kind": (Kind.CLAIM,)},
        required=("source_url", "claimed_metrics"),
        forbidden=(
            "format", "architecture", "endpoint", "preprocessing_profile", "output_names", "artifact_sha256",
        ),
        only=_sources(),
    ),
)  # fmt: skip
"""What each kind needs beyond the fields that all of them need."""

UPLOADED = (Kind.CHECKPOINT, Kind.PREDICTIONS)
"""Kinds that come with a file."""
