"""Checkpoints in the formats of the seed systems' authors, with seeded random weights."""

from __future__ import annotations

import pickle
import re
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from cxreval.export.densenet import calibrated
from cxreval.export.torch_libraries import torchvision, torchxrayvision

# With 1, PyTorch's float32 output of a random ResNet-50 differs from its float64 output by 2e-5.
_RESIDUAL_SCALE = 0.2
_DENSE_LAYER = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))([12])\.")


class CheXNet(nn.Module):
    """The module of the re-implementation: DenseNet-121 with a sigmoid in its classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.densenet121 = torchvision.models.densenet121(weights=None)
        self.densenet121.classifier = nn.Sequential(nn.Linear(1024, 14), nn.Sigmoid())

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.densenet121(pixels)


def xrv_densenet(images: np.ndarray, seed: int = 7) -> nn.Module:
    return calibrated(
        lambda: torchxrayvision.models.DenseNet(weights=None, num_classes=18), seed, images
    )


def xrv_resnet(images: np.ndarray, seed: int = 7) -> nn.Module:
    def build() -> nn.Module:
        network = _with_small_residuals(torchvision.models.resnet50(weights=None, num_classes=18))
        network.conv1 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
        return network

    return calibrated(build, seed, images)


def chexnet(images: np.ndarray, seed: int = 7) -> nn.Module:
    return calibrated(CheXNet, seed, images)


def torchvision_network(
    architecture: str, images: np.ndarray, seed: int = 7, outputs: int = 14
) -> nn.Module:
    build = getattr(torchvision.models, architecture)
    return calibrated(
        lambda: _with_small_residuals(build(weights=None, num_classes=outputs)), seed, images
    )


def _with_small_residuals(network: nn.Module) -> nn.Module:
    for module in network.modules():
        if isinstance(module, torchvision.models.resnet.Bottleneck):
            nn.init.constant_(module.bn3.weight, _RESIDUAL_SCALE)
    return network


def save_xrv_densenet(network: nn.Module, path: Path) -> Path:
    """Saves as the library does: the whole module pickled, in the format before the zip one.

    Attributes of newer PyTorch versions are left out.
    """
    for module in network.modules():
        module.__dict__.pop("_non_persistent_buffers_set", None)
    torch.save(network, path, _use_new_zipfile_serialization=False)
    for module in network.modules():
        module.__dict__["_non_persistent_buffers_set"] = set()
    return path


def save_state_dict(
    network: nn.Module, path: Path, *, data_parallel: bool = False, wrapped: bool = False
) -> Path:
    """Saves a state dict, optionally with DataParallel's names or wrapped by a training script."""
    state = {
        f"module.{name}" if data_parallel else name: tensor
        for name, tensor in network.state_dict().items()
    }
    torch.save({"epoch": 3, "state_dict": state} if wrapped else state, path)
    return path


def save_chexnet(network: nn.Module, path: Path) -> Path:
    """Saves `model.pth.tar`, a training script's dict as PyTorch 0.3 wrote it under Python 2.

    Despite its name it is not a tar file.
    """
    state = {
        _DENSE_LAYER.sub(r"\1.\2.", f"module.{name}"): tensor
        for name, tensor in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    payload = {
        "epoch": 5,
        "arch": "DENSENET121",
        "state_dict": state,
        "best_loss": 0.15,
        "optimizer": {"state": {}},
    }
    torch.save(
        payload,
        path,
        pickle_module=python2,
        pickle_protocol=2,
        _use_new_zipfile_serialization=False,
    )
    return path


class Runs:
    """An object whose pickle runs a Python program when it is loaded."""

    def __init__(self, program: str) -> None:
        self.program = program

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return exec, (self.program,)


def hostile(path: Path, program: str) -> Path:
    torch.save(
        {"state_dict": {"classifier.weight": torch.ones(14, 2)}, "note": Runs(program)}, path
    )
    return path


class _Python2Pickler(pickle._Pickler):  # type: ignore[name-defined, misc]
    """Pickles text as Python 2 pickled byte strings."""

    dispatch: ClassVar[dict[type, Any]] = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def save_str(self, text: str) -> None:
        data = text.encode("ascii")
        short = pickle.SHORT_BINSTRING + bytes((len(data),))
        self.write(
            (short if len(data) < 256 else pickle.BINSTRING + len(data).to_bytes(4, "little"))
            + data
        )
        self.memoize(text)

    dispatch[str] = save_str


def _dump(payload: Any, file: Any, protocol: int) -> None:
    _Python2Pickler(file, protocol).dump(payload)


python2 = types.ModuleType("python2")
python2.__dict__.update(Pickler=_Python2Pickler, dump=_dump)
