"""The four seed systems: each as its authors run it, and as the module that is exported.

The exported module returns the benchmark's findings in the benchmark's order, as probabilities. Its
columns are selected by name in the weights of the last layer, so it costs no more than the
original.
"""

from __future__ import annotations

import contextlib
import copy
import io
import re
import tempfile
from collections.abc import Mapping, Sequence
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
from cxreval.export.torch_libraries import torchvision, torchxrayvision
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

TORCHVISION_ARCHITECTURES = ("densenet121", "resnet50")
"""torchvision's names of the supported networks."""

Tensors = Mapping[str, torch.Tensor]

_NAMES_SHOWN = 3
# torchvision before 0.2.1 named the layers within a dense layer `norm.1`, `conv.2` and so on.
_OLD_DENSE_LAYER = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\.")
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# Absent in checkpoints older than PyTorch 0.4.1; unused in eval mode.
_OPTIONAL = "num_batches_tracked"


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


class BenchmarkOutputs(nn.Module):
    """Wraps a network of logits so that it returns probabilities of the benchmark's findings.

    With `thresholds` (14,), TorchXRayVision's operating points, each probability is rescaled so
    that its operating point becomes 0.5, as the library does: `p / 2t` below it, and `1 - (1 - p) /
    2(1 - t)` above.
    """

    thresholds: torch.Tensor | None

    def __init__(
        self, network: nn.Module, columns: list[int], thresholds: torch.Tensor | None = None
    ) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)
        linear = _last_linear(self.network)
        linear.weight = nn.Parameter(linear.weight[columns].detach().clone())
        linear.bias = nn.Parameter(linear.bias[columns].detach().clone())
        self.register_buffer("thresholds", thresholds)
        self.eval()

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Maps (N, C, H, W) images to (N, 14) probabilities."""
        probabilities = torch.sigmoid(self.network(pixels))
        if self.thresholds is None:
            return probabilities
        below = probabilities / (self.thresholds * 2)
        above = 1.0 - (1.0 - probabilities) / ((1 - self.thresholds) * 2)
        return torch.where(probabilities < self.thresholds, below, above)


def build(architecture: str, checkpoint: Checkpoint, outputs: Sequence[str]) -> SeedSystem:
    """Returns the system of the architecture that a manifest names.

    Args:
        architecture: a name that `manifest.architecture` allows.
        checkpoint: its weights.
        outputs: output names, for a network that does not define its own.

    Raises:
        MalformedField: there is no such network.
        UnknownFinding: `outputs` has a name that is not a finding of the benchmark.
        OutputsIncomplete: `outputs` does not have every finding exactly once.
        CheckpointMismatch: the weights belong to another architecture, have another number of
            outputs, are not floating-point numbers, or are not finite in float32.
    """
    if architecture == "chexnet":
        return build_chexnet(checkpoint)
    if architecture in TORCHVISION_ARCHITECTURES:
        return build_torchvision(architecture, checkpoint, outputs)
    return build_torchxrayvision(checkpoint, architecture)


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
    network: nn.Module
    if model.startswith("densenet"):
        network = torchxrayvision.models.DenseNet(weights=None, num_classes=len(outputs))
    else:
        network = torchvision.models.resnet50(num_classes=len(outputs))
        network.conv1 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
    tensors = _without_prefixes(checkpoint.tensors, ("module.", "model."))
    thresholds = torch.tensor(known["op_threshs"])
    _check_thresholds(
        _as(thresholds, "op_threshs", tensors.pop("op_threshs", thresholds)), thresholds, model
    )
    _load(network, tensors)
    columns = _columns(outputs)
    return SeedSystem(
        name="torchxrayvision",
        version=f"torchxrayvision {version('torchxrayvision')} {model}",
        profile=profile,
        outputs=outputs,
        original=_library_model(network, model, Path(address).name),
        exported=BenchmarkOutputs(network, columns, thresholds[columns]),
    )


def _library_model(network: nn.Module, model: str, file_name: str) -> nn.Module:
    """Loads the network with the library's own loader, from a file in the library's own format.

    A DenseNet's file is a whole pickled module, a ResNet's a state dict.
    """
    with tempfile.TemporaryDirectory() as directory, contextlib.redirect_stdout(io.StringIO()):
        payload = network if model.startswith("densenet") else network.state_dict()
        torch.save(payload, Path(directory) / file_name)
        loaded: nn.Module = torchxrayvision.models.get_model(model, cache_dir=directory)
    return loaded


def _check_thresholds(thresholds: torch.Tensor, expected: torch.Tensor, model: str) -> None:
    """Raises `CheckpointMismatch` if the operating points are not those of `model`.

    The state dict of a loaded model contains them, so they identify the weights of another model.
    """
    if thresholds.shape != expected.shape or not torch.allclose(
        thresholds, expected, equal_nan=True
    ):
        raise _mismatch(f"op_threshs are not those of {model}", f"the operating points of {model}")


def build_chexnet(checkpoint: Checkpoint) -> SeedSystem:
    """Returns the CheXNet re-implementation: a DenseNet-121 with a sigmoid in its classifier.

    Its checkpoint was saved by DataParallel.

    Raises:
        CheckpointMismatch: the weights belong to another architecture.
    """
    tensors = _without_prefixes(checkpoint.tensors, ("module.", "densenet121."))
    renamed = {
        name.replace("classifier.0.", "classifier."): tensor for name, tensor in tensors.items()
    }
    return _torchvision_system("chexnet", "densenet121", renamed, CHEXNET_OUTPUTS)


def build_torchvision(
    architecture: str, checkpoint: Checkpoint, outputs: Sequence[str] = FINDINGS
) -> SeedSystem:
    """Returns torchvision's `densenet121` or `resnet50` with at least one output for each finding.

    Args:
        architecture: torchvision's name.
        checkpoint: its state dict, with or without the prefix `module.`.
        outputs: the findings in the order of the checkpoint's outputs; empty for an output that is
            not a finding.

    Raises:
        UnknownFinding: `outputs` has a name that is not a finding of the benchmark.
        OutputsIncomplete: `outputs` does not have every finding exactly once.
        CheckpointMismatch: the weights belong to another architecture, or have another number of
            outputs.
    """
    _check_outputs(outputs)
    tensors = _without_prefixes(checkpoint.tensors, ("module.",))
    return _torchvision_system(architecture, architecture, tensors, tuple(outputs))


def _torchvision_system(
    name: str, architecture: str, tensors: Tensors, outputs: tuple[str, ...]
) -> SeedSystem:
    network: nn.Module = getattr(torchvision.models, architecture)(
        weights=None, num_classes=len(outputs)
    )
    if architecture == "densenet121":
        tensors = {_OLD_DENSE_LAYER.sub(r"\1\2.", key): tensor for key, tensor in tensors.items()}
    _load(network, tensors)
    return SeedSystem(
        name=name,
        version=f"torchvision {version('torchvision')} {architecture}",
        profile=_profile("imagenet-224"),
        outputs=outputs,
        original=nn.Sequential(network, nn.Sigmoid()).eval(),
        exported=BenchmarkOutputs(network, _columns(outputs)),
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


def _last_linear(network: nn.Module) -> nn.Linear:
    return [module for module in network.modules() if isinstance(module, nn.Linear)][-1]


def _without_prefixes(tensors: Tensors, prefixes: Sequence[str]) -> dict[str, torch.Tensor]:
    """Strips the prefixes that DataParallel and wrapping modules add to names, outermost first."""
    for prefix in prefixes:
        if any(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return dict(tensors)


def _load(network: nn.Module, tensors: Tensors) -> None:
    """Loads every tensor of the checkpoint into the network.

    Raises `CheckpointMismatch` if names or shapes differ, or a value is not finite.
    """
    wanted = network.state_dict()
    missing = [name for name in wanted if name not in tensors and not name.endswith(_OPTIONAL)]
    unexpected = [name for name in tensors if name not in wanted]
    if missing or unexpected:
        expected = f"the {len(wanted)} names of {type(network).__name__}"
        problem = (
            f"{len(missing)} missing{_some(missing)}, "
            f"{len(unexpected)} unexpected{_some(unexpected)}"
        )
        raise _mismatch(f"of {expected}, {problem}", expected)
    loaded = {name: _as(wanted[name], name, tensor) for name, tensor in tensors.items()}
    for name, tensor in loaded.items():
        if tensor.shape != wanted[name].shape:
            expected = f"shape {tuple(wanted[name].shape)}"
            raise _mismatch(
                f"{name} has shape {tuple(tensor.shape)}; expected {expected}", expected
            )
        if not torch.isfinite(tensor).all():
            expected = f"weights that are finite as {tensor.dtype}"
            raise _mismatch(f"{name} has values that are not finite; expected {expected}", expected)
    network.load_state_dict(loaded, strict=False)
    network.eval()


def _as(wanted: torch.Tensor, name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Casts a tensor to the type of `wanted`, in which it runs and must be finite."""
    types = _FLOATS if wanted.is_floating_point() else (wanted.dtype,)
    if tensor.dtype not in types:
        expected = " or ".join(map(str, types))
        raise _mismatch(f"{name} is of {tensor.dtype}; expected {expected}", expected)
    return tensor.to(wanted.dtype)


def _some(names: Sequence[str]) -> str:
    if not names:
        return ""
    rest = ", ..." if len(names) > _NAMES_SHOWN else ""
    return f" ({', '.join(repr(name) for name in names[:_NAMES_SHOWN])}{rest})"


def _mismatch(problem: str, expected: str) -> CheckpointMismatch:
    return CheckpointMismatch(
        f"the checkpoint does not fit: {problem}", field="weights", expected=expected, found=problem
    )
