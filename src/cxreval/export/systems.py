"""The four seed systems: each as its authors run it, and as the module that is exported.

What is exported gives the benchmark's findings in the benchmark's order, as probabilities. The
columns are chosen by name and moved in the last layer's weights, so the graph costs what the
original costs.
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
    MalformedField,
    OutputsIncomplete,
    UnknownFinding,
    UnknownProfile,
)
from cxreval.export.checkpoint import Checkpoint
from cxreval.export.torch_libraries import torchvision, torchxrayvision
from cxreval.imaging.preprocess import PROFILES, Profile

CHEXNET_OUTPUTS = (
    "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax",
    "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia",
)  # fmt: skip
"""Output order of the CheXNet re-implementation (arnoweng/CheXNet, `CLASS_NAMES`)."""

TORCHXRAYVISION_MODELS = (
    "densenet121-res224-all",
    "densenet121-res224-nih",
    "densenet121-res224-pc",
    "resnet50-res512-all",
)
"""TorchXRayVision's models that know every finding of the benchmark, by the library's own names."""

TORCHVISION_ARCHITECTURES = ("densenet121", "resnet50")
"""torchvision's networks, by the library's own names."""

Tensors = Mapping[str, torch.Tensor]

_NAMES_SHOWN = 3
# torchvision before 0.2.1 had `norm.1`, `conv.2` and so on for the layers within a dense layer.
_OLD_DENSE_LAYER = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\.")
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# Absent in checkpoints older than PyTorch 0.4.1; without a meaning in eval mode.
_OPTIONAL = "num_batches_tracked"


@dataclass(frozen=True, slots=True)
class SeedSystem:
    """A published classifier with its weights.

    `original` maps (N, *profile.shape) to (N, len(outputs)) probabilities as its authors define
    them; `exported` to (N, 14), the benchmark's findings in order. `version` names the architecture
    and the library it comes from.
    """

    name: str
    version: str
    profile: Profile
    outputs: tuple[str, ...]
    original: nn.Module
    exported: nn.Module

    @property
    def columns(self) -> list[int]:
        """Where `outputs` has each finding of the benchmark."""
        return [self.outputs.index(finding) for finding in FINDINGS]


class BenchmarkOutputs(nn.Module):
    """A network of logits as probabilities of the benchmark's findings.

    With `thresholds` (14,), TorchXRayVision's operating points, the probability is bent to 0.5 at
    each of them, as
    the library does it: `p / 2t` below, `1 - (1 - p) / 2(1 - t)` above.
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
        """(N, C, H, W) to (N, 14)."""
        probabilities = torch.sigmoid(self.network(pixels))
        if self.thresholds is None:
            return probabilities
        below = probabilities / (self.thresholds * 2)
        above = 1.0 - (1.0 - probabilities) / ((1 - self.thresholds) * 2)
        return torch.where(probabilities < self.thresholds, below, above)


def build(architecture: str, checkpoint: Checkpoint, outputs: Sequence[str]) -> SeedSystem:
    """Any of the networks that a manifest may name; `outputs` are those of a network that does not
    name its own.

    Raises:
        MalformedField: there is no such network.
        UnknownFinding: `outputs` names something that is no finding of the benchmark.
        OutputsIncomplete: `outputs` does not hold every finding exactly once.
        CheckpointMismatch: the weights are another architecture's, have another number of outputs,
            are of a type that is no float, or are not finite in float32.
    """
    if architecture == "chexnet":
        return build_chexnet(checkpoint)
    if architecture in TORCHVISION_ARCHITECTURES:
        return build_torchvision(architecture, checkpoint, outputs)
    return build_torchxrayvision(checkpoint, architecture)


def torchxrayvision_file(model: str) -> str:
    """Where TorchXRayVision publishes the weights of a model. Raises `MalformedField` for a name it
    does not have."""
    if model not in TORCHXRAYVISION_MODELS:
        expected = f"one of {', '.join(TORCHXRAYVISION_MODELS)}, which know every finding"
        raise MalformedField(
            f"model is {model!r}; expected {expected}",
            field="model",
            value=model,
            expected=expected,
        )
    return str(torchxrayvision.models.model_urls[model]["weights_url"])


def build_torchxrayvision(checkpoint: Checkpoint, model: str) -> SeedSystem:
    """A TorchXRayVision model by the library's own name.

    The library's forward is sigmoid, then its operating points (`op_norm`); `apply_sigmoid` is of
    no effect beside them. Both are part of the exported graph.

    Raises:
        MalformedField: the library has no such model, or it lacks findings of the benchmark.
        CheckpointMismatch: the weights are another architecture's.
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
    """The library's own loader on a file of its own format: a whole pickled DenseNet, or the
    ResNet's state dict."""
    with tempfile.TemporaryDirectory() as directory, contextlib.redirect_stdout(io.StringIO()):
        payload = network if model.startswith("densenet") else network.state_dict()
        torch.save(payload, Path(directory) / file_name)
        loaded: nn.Module = torchxrayvision.models.get_model(model, cache_dir=directory)
    return loaded


def _check_thresholds(found: torch.Tensor, expected: torch.Tensor, model: str) -> None:
    """A state dict of a loaded model carries its operating points; they tell another model's
    weights apart."""
    if found.shape != expected.shape or not torch.allclose(found, expected, equal_nan=True):
        raise _mismatch(f"op_threshs are not those of {model}", f"the operating points of {model}")


def build_chexnet(checkpoint: Checkpoint) -> SeedSystem:
    """The CheXNet re-implementation: DenseNet-121 with a sigmoid in its classifier, wrapped and
    saved by DataParallel.

    Raises:
        CheckpointMismatch: the weights are another architecture's.
    """
    tensors = _without_prefixes(checkpoint.tensors, ("module.", "densenet121."))
    renamed = {
        name.replace("classifier.0.", "classifier."): tensor for name, tensor in tensors.items()
    }
    return _torchvision_system("chexnet", "densenet121", renamed, CHEXNET_OUTPUTS)


def build_torchvision(
    architecture: str, checkpoint: Checkpoint, outputs: Sequence[str] = FINDINGS
) -> SeedSystem:
    """torchvision's `densenet121` or `resnet50` with an output for each finding, and others if it
    has them.

    Args:
        architecture: torchvision's name.
        checkpoint: a state dict of it, with or without the prefix `module.`.
        outputs: the findings in the order of the checkpoint's outputs; empty for one that is none
            of them.

    Raises:
        UnknownFinding: `outputs` names something that is no finding of the benchmark.
        OutputsIncomplete: `outputs` does not hold every finding exactly once.
        CheckpointMismatch: the weights are another architecture's, or have another number of
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
        message = (
            f"this model needs the profile {name!r}, which is not known here; expected {expected}"
        )
        raise UnknownProfile(message, field="profile", value=name, expected=expected)
    return PROFILES[name]


def _last_linear(network: nn.Module) -> nn.Linear:
    return [module for module in network.modules() if isinstance(module, nn.Linear)][-1]


def _without_prefixes(tensors: Tensors, prefixes: Sequence[str]) -> dict[str, torch.Tensor]:
    """Names without what DataParallel and a wrapping module put before each of them, outermost
    first."""
    for prefix in prefixes:
        if any(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return dict(tensors)


def _load(network: nn.Module, tensors: Tensors) -> None:
    """Loads every tensor of the checkpoint into the network, finite and each into its own.

    Raises `CheckpointMismatch` for any that does not fit.
    """
    wanted = network.state_dict()
    missing = [name for name in wanted if name not in tensors and not name.endswith(_OPTIONAL)]
    unexpected = [name for name in tensors if name not in wanted]
    if missing or unexpected:
        expected = f"the {len(wanted)} names of {type(network).__name__}"
        found = f"{len(missing)} missing{_some(missing)}, {len(unexpected)} unexpected{_some(unexpected)}"
        raise _mismatch(f"of {expected}, {found}", expected)
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
    """The tensor in the type of `wanted`, in which it is run: what is finite in another may not be
    in this one."""
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


def _mismatch(found: str, expected: str) -> CheckpointMismatch:
    return CheckpointMismatch(
        f"the checkpoint does not fit: {found}", field="weights", expected=expected, found=found
    )
