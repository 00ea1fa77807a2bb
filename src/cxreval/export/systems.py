"""The four seed systems: each as its authors run it, and as the module that is exported.

The exported module returns the benchmark's findings in the benchmark's order, as probabilities. Its
columns are selected by name.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from torch import nn

from cxreval.datasets.nih import FINDINGS
from cxreval.errors import (
    CheckpointMismatch,
    OutputsIncomplete,
    UnknownFinding,
    UnknownProfile,
)
from cxreval.export.checkpoint import Checkpoint
from cxreval.export.probabilities import Probabilities
from cxreval.export.torch_libraries import torchvision, torchxrayvision
from cxreval.export.weights import load
from cxreval.fields import field_error
from cxreval.imaging.preprocess import PROFILES, Profile

CHEXNET_OUTPUTS = (
    "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia",
    "Pneumothorax", "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening",
    "Hernia",
)  # fmt: skip
"""Output order of the CheXNet re-implementation (arnoweng/CheXNet, `CLASS_NAMES`)."""

TORCHXRAYVISION_MODELS = (
    "densenet121-res224-all",
    "densenet121-res224-nih",
    "densenet121-res224-pc",
    "resnet50-res512-all",
)
"""TorchXRayVision's names of its models that have every finding of the benchmark."""


@dataclass(frozen=True, slots=True)
class SeedSystem:
    """A published classifier with its weights.

    `original` maps (N, *profile.shape) to (N, len(outputs)) probabilities as its authors define
    them; `exported` maps to (N, 14), the benchmark's findings in order. `version` names the
    architecture and its library.
    """

    name: str
    version: str
    profile: Profile
    outputs: tuple[str, ...]
    original: nn.Module
    exported: nn.Module

    @property
    def columns(self) -> list[int]:
        """Index in `outputs` of each finding of the benchmark."""
        return [self.outputs.index(finding) for finding in FINDINGS]


def torchxrayvision_file(model: str) -> str:
    """Returns the URL of the weights of a TorchXRayVision model.

    Raises `MalformedField` for a name that is not supported.
    """
    if model not in TORCHXRAYVISION_MODELS:
        expected = f"one of {', '.join(TORCHXRAYVISION_MODELS)}, which have every finding"
        raise field_error("model", model, expected)
    return str(torchxrayvision.models.model_urls[model]["weights_url"])


def build_torchxrayvision(checkpoint: Checkpoint, model: str) -> SeedSystem:
    """Returns the system of a TorchXRayVision model, named as in the library.

    The library's forward is a sigmoid followed by its operating points (`op_norm`), with which
    `apply_sigmoid` has no effect. Both are part of the exported graph.

    Raises:
        MalformedField: the library has no such model, or it lacks findings of the benchmark.
        CheckpointMismatch: the weights belong to another architecture.
    """
    address = torchxrayvision_file(model)
    known = torchxrayvision.models.model_urls[model]
    profile = _profile(f"xrv-{known['input_resolution']}")
    outputs = tuple(known["labels"])
    network = torchxrayvision_network(model)
    tensors = dict(checkpoint.tensors)
    thresholds = take_thresholds(model, tensors)
    load(network, tensors)
    columns = _columns(outputs)
    return SeedSystem(
        name="torchxrayvision",
        version=f"torchxrayvision {version('torchxrayvision')} {model}",
        profile=profile,
        outputs=outputs,
        original=_library_model(network, model, Path(address).name),
        exported=Probabilities(network, columns, thresholds=thresholds[columns]),
    )


def torchxrayvision_network(model: str) -> nn.Module:
    """Returns the network of a TorchXRayVision model with random weights; it returns logits."""
    columns = len(torchxrayvision.models.model_urls[model]["labels"])
    network: nn.Module
    if model.startswith("densenet"):
        network = torchxrayvision.models.DenseNet(weights=None, num_classes=columns)
    else:
        network = torchvision.models.resnet50(num_classes=columns)
        network.conv1 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
    return network


def take_thresholds(model: str, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    """Returns the operating points of a TorchXRayVision model, and removes them from its tensors.

    The state dict of a loaded model contains them, so they identify the weights of another model.

    Raises `CheckpointMismatch` if the tensors have other operating points.
    """
    expected = torch.tensor(torchxrayvision.models.model_urls[model]["op_threshs"])
    for name in [name for name in tensors if name.rpartition(".")[2] == "op_threshs"]:
        found = tensors.pop(name)
        if found.shape != expected.shape or not torch.allclose(
            found.to(expected.dtype), expected, equal_nan=True
        ):
            problem = f"op_threshs are not those of {model}"
            raise CheckpointMismatch(
                f"the checkpoint does not fit: {problem}",
                field="weights",
                expected=f"the operating points of {model}",
                found=problem,
            )
    return expected


def _library_model(network: nn.Module, model: str, file_name: str) -> nn.Module:
    """Loads the network with the library's own loader, from a file in the library's own format.

    A DenseNet's file is a whole pickled module, a ResNet's a state dict.
    """
    with tempfile.TemporaryDirectory() as directory, contextlib.redirect_stdout(io.StringIO()):
        payload = network if model.startswith("densenet") else network.state_dict()
        torch.save(payload, Path(directory) / file_name)
        loaded: nn.Module = torchxrayvision.models.get_model(model, cache_dir=directory)
    return loaded


def build_chexnet(checkpoint: Checkpoint) -> SeedSystem:
    """Returns the CheXNet re-implementation: a DenseNet-121 with a sigmoid in its classifier.

    Its checkpoint was saved by DataParallel.

    Raises:
        CheckpointMismatch: the weights belong to another architecture.
    """
    return _torchvision_system("chexnet", "densenet121", checkpoint, CHEXNET_OUTPUTS)


def build_torchvision(
    architecture: str, checkpoint: Checkpoint, outputs: Sequence[str] = FINDINGS
) -> SeedSystem:
    """Returns torchvision's `densenet121` or `resnet50` with at least one output for each finding.

    Args:
        architecture: torchvision's name.
        checkpoint: its state dict; names may have a prefix.
        outputs: the findings in the order of the checkpoint's outputs; empty for an output that is
            not a finding.

    Raises:
        UnknownFinding: `outputs` has a name that is not a finding of the benchmark.
        OutputsIncomplete: `outputs` does not have every finding exactly once.
        CheckpointMismatch: the weights belong to another architecture, or have another number of
            outputs.
    """
    _check_outputs(outputs)
    return _torchvision_system(architecture, architecture, checkpoint, tuple(outputs))


def _torchvision_system(
    name: str, architecture: str, checkpoint: Checkpoint, outputs: tuple[str, ...]
) -> SeedSystem:
    network: nn.Module = getattr(torchvision.models, architecture)(
        weights=None, num_classes=len(outputs)
    )
    load(network, checkpoint.tensors)
    return SeedSystem(
        name=name,
        version=f"torchvision {version('torchvision')} {architecture}",
        profile=_profile("imagenet-224"),
        outputs=outputs,
        original=nn.Sequential(network, nn.Sigmoid()).eval(),
        exported=Probabilities(network, _columns(outputs)),
    )


def _columns(outputs: tuple[str, ...]) -> list[int]:
    return [outputs.index(finding) for finding in FINDINGS]


def _check_outputs(outputs: Sequence[str]) -> None:
    for name in outputs:
        if name and name not in FINDINGS:
            expected = f"empty, or one of {', '.join(FINDINGS)}"
            message = f"outputs has {name!r}; expected {expected}"
            raise UnknownFinding(message, field="outputs", value=name, expected=expected)
    if sorted(filter(None, outputs)) != sorted(FINDINGS):
        missing = ", ".join(finding for finding in FINDINGS if finding not in outputs) or "none"
        expected = f"each of the {len(FINDINGS)} findings once"
        message = f"outputs has {len(outputs)} names, missing {missing}; expected {expected}"
        raise OutputsIncomplete(message, field="outputs", expected=expected, missing=missing)


def _profile(name: str) -> Profile:
    if name not in PROFILES:
        expected = f"one of {', '.join(sorted(PROFILES))}"
        message = f"the model needs the profile {name!r}, which does not exist; expected {expected}"
        raise UnknownProfile(message, field="profile", value=name, expected=expected)
    return PROFILES[name]
