"""Builds the networks that a manifest names, without weights and without network access."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from cxreval.errors import CheckpointMismatch
from cxreval.export.torch_libraries import timm, torchvision
from cxreval.fields import printable

MONAI_NETWORKS = ("DenseNet121", "DenseNet169", "DenseNet201", "DenseNet264")
"""MONAI's names of the supported networks."""

SHORT_NAMES = {
    "densenet121": "torchvision/densenet121",
    "resnet50": "torchvision/resnet50",
    "chexnet": "torchvision/densenet121",
}
"""Names without a library, which manifests have had from the start."""

_AUXILIARY = ("googlenet", "inception_v3")
_SIMILAR = 12
_MAX_NAME = 100


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """A network: its name `LIBRARY/NAME` (or one of the short names), its numbers of output columns
    and input channels, and the (height, width) of its images."""

    name: str
    columns: int
    channels: int
    size: tuple[int, int]

    def build(self) -> nn.Module:
        """Returns the network in eval mode; its last layer gives logits.

        Raises `CheckpointMismatch` if the library has no such classifier, or it cannot be built for
        these images.
        """
        library, _, name = SHORT_NAMES.get(self.name, self.name).partition("/")
        known = _names(library)
        base = (
            name.partition(".")[0] if library == "timm" else name
        )  # without timm's tag of weights
        if base not in known:
            raise unknown(self.name)
        try:
            network = _BUILDERS[library](base, self)
        except NotImplementedError:  # without memory for its values; see `state`
            raise
        except (ValueError, TypeError, RuntimeError, AssertionError, KeyError) as error:
            if isinstance(error, RuntimeError) and "allocate" in str(error):
                raise MemoryError from None
            height, width = self.size
            raise CheckpointMismatch(
                f"{self.name} cannot be built for {self.columns} columns and {self.channels} "
                f"channels of {height}x{width} pixels; expected the size of the images that it was "
                "trained on",
                field="architecture",
                expected="the size of the images that it was trained on",
            ) from None
        return network.eval()

    def state(self) -> dict[str, torch.Tensor]:
        """Returns the state dict of the network; if possible without memory for its values."""
        try:
            with torch.device("meta"):
                return self.build().state_dict()
        except NotImplementedError:  # torchvision's RegNets compute with values
            return self.build().state_dict()

    def similar(self) -> Iterator[NetworkSpec]:
        """Yields networks of the same family, most similar names first."""
        library, _, name = SHORT_NAMES.get(self.name, self.name).partition("/")
        family = re.match("[A-Za-z]*", name)
        names = [other for other in _names(library) if family and other.startswith(family[0])]
        for other in difflib.get_close_matches(name, names, _SIMILAR, 0.0):
            if other != name:
                yield NetworkSpec(f"{library}/{other}", self.columns, self.channels, self.size)


def unknown(name: str) -> CheckpointMismatch:
    """Returns the error of a name that no library has, with similar names."""
    library, _, short = name.partition("/")
    known = {prefix: _names(prefix) for prefix in _BUILDERS}
    if library in known:
        near = [f"{library}/{near}" for near in difflib.get_close_matches(short, known[library])]
    else:
        near = [f"{prefix}/{name}" for prefix, names in known.items() if name in names]
        near += difflib.get_close_matches(name, SHORT_NAMES)
    expected = " or ".join(near) if near else f"{', '.join(f'{key}/NAME' for key in known)}"
    return CheckpointMismatch(
        f"there is no classifier {printable(name)[:_MAX_NAME]!r}; expected {expected}",
        field="architecture",
        expected=expected,
    )


def _names(library: str) -> list[str]:
    match library:
        case "torchvision":
            return list(torchvision.models.list_models(module=torchvision.models))
        case "timm":
            return list(timm.list_models())
        case "monai":
            return list(MONAI_NETWORKS)
    return []


def _torchvision(name: str, spec: NetworkSpec) -> nn.Module:
    options: dict[str, Any] = {}
    if name in _AUXILIARY:
        options = {"aux_logits": False, "init_weights": False}
    elif name.startswith("vit_"):
        options = {"image_size": spec.size[0]}
    elif name.startswith("maxvit"):
        options = {"input_size": spec.size}
    network = torchvision.models.get_model(name, weights=None, num_classes=spec.columns, **options)
    if spec.channels != 3:
        _replace_first_convolution(network, spec.channels)
    return network


def _replace_first_convolution(network: nn.Module, channels: int) -> None:
    """Gives the first convolution another number of input channels, as forks of torchvision do."""
    name, first = next(
        (name, module) for name, module in network.named_modules() if isinstance(module, nn.Conv2d)
    )
    parent, _, attribute = name.rpartition(".")
    kernel, stride, padding = cast("Any", (first.kernel_size, first.stride, first.padding))
    bias = first.bias is not None
    convolution = nn.Conv2d(channels, first.out_channels, kernel, stride, padding, bias=bias)
    setattr(network.get_submodule(parent), attribute, convolution)


def _timm(name: str, spec: NetworkSpec) -> nn.Module:
    options: dict[str, Any] = {}
    known = timm.get_pretrained_cfg(name, allow_unregistered=True)
    if known and known.fixed_input_size:
        options = {"img_size": spec.size}
    network: nn.Module = timm.create_model(
        name, pretrained=False, num_classes=spec.columns, in_chans=spec.channels, **options
    )
    if getattr(network, "num_classes", None) != spec.columns:
        raise ValueError("it is no classifier")
    return network


def _monai(name: str, spec: NetworkSpec) -> nn.Module:
    from monai.networks import nets  # noqa: PLC0415 -- takes seconds

    network: nn.Module = getattr(nets, name)(
        spatial_dims=2, in_channels=spec.channels, out_channels=spec.columns
    )
    return network


_BUILDERS: dict[str, Callable[[str, NetworkSpec], nn.Module]] = {
    "torchvision": _torchvision,
    "timm": _timm,
    "monai": _monai,
}
