"""Which fields each kind and format of a submission needs, beyond those that all need."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from cxreval.manifest.model import (
    ARCHITECTURES,
    PUBLISHED_SOURCES,
    CheckpointFormat,
    Kind,
    SourceKind,
)


@dataclass(frozen=True, slots=True)
class Case:
    """Rules for manifests whose fields have the values in `when`, and not those in `unless`.

    `required` fields must be given, at least one of `one_of`, and no `forbidden` ones; `only` lists
    allowed values. A value of preprocessing is the name of its preset.
    """

    when: Mapping[str, tuple[str, ...]]
    unless: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    required: tuple[str, ...] = ()
    one_of: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()
    only: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the case in errors."""
        return " and ".join(f"{field} {' or '.join(values)}" for field, values in self.when.items())


def _sources(*own: SourceKind) -> dict[str, tuple[str, ...]]:
    return {"source_kind": (*PUBLISHED_SOURCES, *own)}


def _architecture_cases() -> list[Case]:
    def names(attribute: str, value: object) -> tuple[str, ...]:
        return tuple(
            name for name, known in ARCHITECTURES.items() if getattr(known, attribute) == value
        )

    naming = names("names_outputs", True)
    state_dict = {"format": (CheckpointFormat.PYTORCH_STATE_DICT,)}
    profiles = dict.fromkeys(known.profile for known in ARCHITECTURES.values() if known.profile)
    return [
        Case(state_dict | {"architecture": naming}, forbidden=("output_names",)),
        Case(state_dict, unless={"architecture": ("", *naming)}, required=("output_names",)),
        *(
            Case(
                state_dict | {"architecture": names("profile", profile)},
                only={"preprocessing": (profile,), "preprocessing_profile": (profile,)},
            )
            for profile in profiles
        ),
    ]


_PREPROCESSING = ("preprocessing", "preprocessing_profile")
_RUN = ("format", "architecture", "endpoint", *_PREPROCESSING, "output_names", "outputs", "files",
        "ensemble")  # fmt: skip
"""Fields about a model that is run."""

CASES: tuple[Case, ...] = (
    Case(
        {"kind": (Kind.CHECKPOINT,)},
        required=("format", "reproduction", "environment"),
        one_of=_PREPROCESSING,
        forbidden=("endpoint",),
        only=_sources(SourceKind.CHECKPOINT),
    ),
    Case(
        {"kind": (Kind.CHECKPOINT,), "format": (CheckpointFormat.ONNX,)},
        required=("output_names",),
        forbidden=("architecture",),
    ),
    Case(
        {"kind": (Kind.CHECKPOINT,), "format": (CheckpointFormat.PYTORCH_STATE_DICT,)},
        required=("architecture",),
        forbidden=("files", "ensemble"),
    ),
    Case(
        {
            "kind": (Kind.CHECKPOINT,),
            "format": (CheckpointFormat.TORCHSCRIPT, CheckpointFormat.TORCH_EXPORT),
        },
        required=("output_names",),
        forbidden=("architecture", "files", "ensemble"),
    ),
    *_architecture_cases(),
    Case(
        {"kind": (Kind.ENDPOINT,)},
        required=("endpoint", "output_names", "reproduction", "environment"),
        forbidden=("format", "architecture", "artifact_sha256", "files", "ensemble"),
        only=_sources(SourceKind.ENDPOINT),
    ),
    Case(
        {"kind": (Kind.PREDICTIONS,)},
        required=("reproduction", "environment"),
        forbidden=_RUN,
        only=_sources(SourceKind.PREDICTIONS),
    ),
    Case(
        {"kind": (Kind.SCRIPT,)},
        required=("reproduction", "environment"),
        forbidden=_RUN,
        only=_sources(SourceKind.SCRIPT),
    ),
    Case(
        {"kind": (Kind.CLAIM,)},
        required=("source_url", "claimed_metrics"),
        forbidden=(*_RUN, "artifact_sha256", "training_data"),
        only=_sources(),
    ),
)  # fmt: skip
"""The rules of each kind, beyond the fields that all kinds require."""
