"""PyTorch files as people save them: networks of the libraries and forks, in their own dialects."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from monai.networks import nets
from torch import nn

from cxreval.export.densenet import TORCHXRAYVISION_TARGETS, calibrated
from cxreval.export.systems import CHEXNET_OUTPUTS
from cxreval.export.torch_libraries import timm, torchvision, torchxrayvision
from cxreval.manifest.model import CheckpointFormat
from tests.support import checkpoints, pytorch_files
from tests.support.forty_files import Array, Brought, Pixels
from tests.support.forty_onnx import IMAGENET
from tests.support.forty_refused import Refused

State = Mapping[str, torch.Tensor]
Save = Callable[[nn.Module, Path], object]
Build = Callable[[], nn.Module]

_GRAY_224 = {
    "channels": 1,
    "resize": {"to": "exact", "size": [224, 224], "library": "scikit-image", "antialias": True},
    "mean": [0.5],
    "std": [0.25],
}


class Wrapped(nn.Module):
    """A project's own class around a library's network."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Module()
        self.model.backbone = torchvision.models.resnet18(weights=None, num_classes=14)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.model.backbone(pixels)


def with_head(*layers: nn.Module) -> nn.Module:
    """Returns a ResNet-18 whose last layer is in a Sequential."""
    network = torchvision.models.resnet18(weights=None)
    network.fc = nn.Sequential(*layers)
    return network


def _torchxrayvision() -> nn.Module:
    """Returns TorchXRayVision's DenseNet with operating points, as after loading its weights."""
    network = torchxrayvision.models.DenseNet(weights=None, num_classes=18)
    points = torchxrayvision.models.model_urls["densenet121-res224-all"]["op_threshs"]
    network.register_buffer("op_threshs", torch.tensor(points))
    return network


def state(network: nn.Module, file: Path, prefix: str = "") -> None:
    torch.save(_prefixed(network, prefix), file)


def _prefixed(network: nn.Module, prefix: str) -> dict[str, torch.Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in network.state_dict().items()}


def training_checkpoint(network: nn.Module, file: Path) -> None:
    """Saves what a training script of a fork of CheXNet saves, with its optimizer."""
    optimizer = torch.optim.Adam(network.parameters())
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()  # which changes nothing, and adds the state of each parameter
    torch.save(
        {
            "epoch": 11,
            "state_dict": _prefixed(network, "module."),
            "best_loss": np.float64(0.15),
            "optimizer": optimizer.state_dict(),
        },
        file,
    )


def lightning(network: nn.Module, file: Path) -> None:
    """Saves what PyTorch Lightning's ModelCheckpoint saves of a module with a weighted loss."""
    torch.save(
        {
            "epoch": 3,
            "global_step": 1200,
            "pytorch-lightning_version": "2.4.0",
            "state_dict": _prefixed(network, "model.") | {"loss.pos_weight": torch.ones(14)},
            "loops": {"fit_loop": {"state_dict": {}}},
            "callbacks": {"ModelCheckpoint{'monitor': 'val_auc'}": {"best_model_score": 0.8}},
            "optimizer_states": [{"state": {}, "param_groups": []}],
            "lr_schedulers": [],
            "hparams_name": "kwargs",
            "hyper_parameters": {"learning_rate": 1e-4, "folder": Path("data")},
        },
        file,
    )


def tensors(network: nn.Module, file: Path) -> None:
    """Saves safetensors, as timm does."""
    safetensors.torch.save_file(network.state_dict(), file, metadata={"format": "pt"})


def in_type(kind: torch.dtype, network: nn.Module, file: Path) -> None:
    """Saves weights in a shorter type, to which the network's own are rounded as well."""
    network.to(kind)
    state(network, file)
    network.float()


def traced(network: nn.Module, file: Path) -> None:
    torch.jit.save(torch.jit.trace(network, torch.zeros(1, 3, 224, 224)), file)  # type: ignore[no-untyped-call]


def program(network: nn.Module, file: Path) -> None:
    pytorch_files.program(network, file, torch.zeros(2, 3, 224, 224))


def _make(
    build: Build,
    save: Save,
    file: str,
    answer: Callable[[torch.Tensor], torch.Tensor],
    directory: Path,
    pixels: Pixels,
) -> tuple[list[Path], Array]:
    images: Any = np.concatenate([*pixels])
    network = calibrated(build, 7, images)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        save(network, directory / file)
    with torch.inference_mode():
        rows = [answer(network(torch.from_numpy(image[None]))) for image in images]
    return [directory / file], torch.cat(rows).numpy()


def _weights(
    name: str,
    architecture: str,
    build: Build,
    save: Save = state,
    file: str = "model.pth",
    preprocessing: Any = IMAGENET,
    **more: Any,
) -> Brought:
    """Returns a state dict of a network that returns logits."""
    fields = {
        "format": CheckpointFormat.PYTORCH_STATE_DICT.value,
        "architecture": architecture,
        "preprocessing": preprocessing,
    }
    answer = more.pop("answer", torch.sigmoid)
    columns = more.pop("columns", ())
    make = partial(_make, build, save, file, answer)
    return Brought(name, fields | ({"output_names": None} if columns else {}), make, columns)


def _library(
    library: str, name: str, save: Save = state, file: str = "model.pth", **more: Any
) -> Brought:
    """Returns the weights of a library's network of 14 logits."""
    if library == "timm":
        build = partial(timm.create_model, name, num_classes=14)
    else:
        build = partial(getattr(torchvision.models, name), weights=None, num_classes=14)
    title = f"{library} {name}"
    return _weights(title, f"{library}/{name}", build, save, file, **more)


def _vision_transformer() -> nn.Module:
    network = torchvision.models.vit_b_32(weights=None, num_classes=14)
    nn.init.normal_(network.heads.head.weight)  # torchvision's are 0
    return network


def _whole(name: str, form: CheckpointFormat, build: Build, save: Save, file: str) -> Brought:
    """Returns a file that holds the network itself."""
    fields = {
        "format": form.value,
        "preprocessing": IMAGENET,
        "outputs": {"activation": "sigmoid"},
    }
    return Brought(name, fields, partial(_make, build, save, file, torch.sigmoid))


def _same(probabilities: torch.Tensor) -> torch.Tensor:
    return probabilities


_resnet18 = partial(torchvision.models.resnet18, weights=None, num_classes=14)
_mobilenet = partial(torchvision.models.mobilenet_v3_small, weights=None, num_classes=14)

PYTORCH_FILES = (
    _weights(
        "CheXNet's model.pth.tar of Python 2",
        "chexnet",
        checkpoints.CheXNet,
        checkpoints.save_chexnet,
        "model.pth.tar",
        "imagenet-224",
        answer=_same,
        columns=CHEXNET_OUTPUTS,
    ),
    _weights(
        "a fork of CheXNet with its optimizer",
        "chexnet",
        checkpoints.CheXNet,
        training_checkpoint,
        "m-25012018-123527.pth.tar",
        "imagenet-224",
        answer=_same,
        columns=CHEXNET_OUTPUTS,
    ),
    _library("torchvision", "densenet121"),
    _library("torchvision", "resnet18"),
    _weights(
        "torchvision resnet50",
        "resnet50",
        lambda: checkpoints._with_small_residuals(
            torchvision.models.resnet50(weights=None, num_classes=14)
        ),
    ),
    _library("torchvision", "efficientnet_b0"),
    _library("torchvision", "mobilenet_v3_small"),
    _weights("torchvision vit_b_32", "torchvision/vit_b_32", _vision_transformer),
    _weights(
        "a head of Dropout and Linear",
        "torchvision/resnet18",
        lambda: with_head(nn.Dropout(0.5), nn.Linear(512, 14)),
    ),
    _weights(
        "a head of Linear and Sigmoid",
        "torchvision/resnet18",
        lambda: with_head(nn.Linear(512, 14), nn.Sigmoid()),
        answer=_same,
    ),
    _weights("a wrapper's prefix model.backbone.", "torchvision/resnet18", Wrapped),
    _weights("Lightning", "torchvision/resnet18", _resnet18, lightning, "epoch=3-step=1200.ckpt"),
    _library("timm", "efficientnet_b0", tensors, "model.safetensors"),
    _library("timm", "convnext_atto", tensors, "model.safetensors"),
    _library("timm", "vit_tiny_patch16_224", tensors, "model.safetensors"),
    _weights(
        "timm resnet26 of gray images",
        "timm/resnet26",
        partial(timm.create_model, "resnet26", num_classes=14, in_chans=1),
        tensors,
        "model.safetensors",
        _GRAY_224,
    ),
    _weights(
        "MONAI DenseNet121 of gray images",
        "monai/DenseNet121",
        partial(nets.DenseNet121, spatial_dims=2, in_channels=1, out_channels=14),
        preprocessing=_GRAY_224,
    ),
    _weights(
        "float16 weights",
        "torchvision/resnet18",
        _resnet18,
        partial(in_type, torch.float16),
    ),
    _weights(
        "bfloat16 weights",
        "torchvision/resnet18",
        _resnet18,
        partial(in_type, torch.bfloat16),
    ),
    _weights(
        "TorchXRayVision's weights",
        "densenet121-res224-all",
        _torchxrayvision,
        preprocessing="xrv-224",
        answer=_same,
        columns=TORCHXRAYVISION_TARGETS,
    ),
    _whole("TorchScript, traced", CheckpointFormat.TORCHSCRIPT, _mobilenet, traced, "model.pt"),
    _whole(
        "TorchScript, scripted",
        CheckpointFormat.TORCHSCRIPT,
        _resnet18,
        pytorch_files.script,
        "model.pt",
    ),
    _whole("torch.export", CheckpointFormat.TORCH_EXPORT, _mobilenet, program, "model.pt2"),
)
"""What is on the board without a change of the file."""


def _transformers(file: Path) -> None:
    """Saves weights with the names of a ViT of Hugging Face transformers."""
    layer = "vit.encoder.layer.0.attention.attention"
    torch.save(
        {
            "vit.embeddings.patch_embeddings.projection.weight": torch.zeros(8, 3, 16, 16),
            f"{layer}.query.weight": torch.zeros(8, 8),
            f"{layer}.query.bias": torch.zeros(8),
            "classifier.weight": torch.zeros(14, 8),
        },
        file,
    )


_RESNET18 = {
    "format": CheckpointFormat.PYTORCH_STATE_DICT.value,
    "architecture": "torchvision/resnet18",
}
PYTORCH_REFUSED = (
    Refused(
        "whole pickled module",
        "model.pth",
        lambda file: torch.save(pytorch_files.Small(14), file),
        "torch.onnx.export(model.eval()",
        _RESNET18,
    ),
    Refused(
        "pytorch_model.bin of Hugging Face",
        "pytorch_model.bin",
        _transformers,
        "optimum-cli export onnx",
        _RESNET18,
    ),
)
"""What is refused before upload, and needs PyTorch to be made."""
