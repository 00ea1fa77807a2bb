"""DenseNet-121 with fixed random weights, in the two forms of published chest X-ray checkpoints.

They replace trained checkpoints where only agreement matters: same layers, size and cost. Plain
random weights give nearly the same output for every image, so these are calibrated on a few
images.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from cxreval.export.torch_libraries import torchvision, torchxrayvision

TORCHXRAYVISION_TARGETS: tuple[str, ...] = tuple(torchxrayvision.models.DenseNet.targets)
"""TorchXRayVision's 18 output columns, in order."""

_CHEXNET_OUTPUTS = 14
# A larger spread would also increase the rounding differences between PyTorch and onnxruntime.
_LOGIT_SPREAD = 1.0

Images = npt.NDArray[np.float32]


def build_torchxrayvision_densenet(seed: int, images: Images) -> nn.Module:
    """Returns TorchXRayVision's DenseNet-121 in eval mode, with random weights.

    It maps (N, 1, 224, 224) to (N, 18) probabilities.

    Args:
        seed: determines the weights; the same seed and images give the same model on one machine.
        images: calibration images of the profile `xrv-224`, (N, 1, 224, 224), N of 24 or more.
    """
    return calibrated(
        lambda: torchxrayvision.models.DenseNet(weights=None, apply_sigmoid=True), seed, images
    )


def build_torchvision_densenet(seed: int, images: Images) -> nn.Module:
    """Returns torchvision's DenseNet-121 in CheXNet's form in eval mode, with random weights.

    It maps (N, 3, 224, 224) to (N, 14) probabilities.

    Args:
        seed: determines the weights; the same seed and images give the same model on one machine.
        images: calibration images of the profile `imagenet-224`, (N, 3, 224, 224), N of 24 or more.
    """

    def build() -> nn.Module:
        network = torchvision.models.densenet121(weights=None, num_classes=_CHEXNET_OUTPUTS)
        return nn.Sequential(network, nn.Sigmoid())

    return calibrated(build, seed, images)


def calibrated(build: Callable[[], nn.Module], seed: int, images: Images) -> nn.Module:
    """Builds a network with random weights and calibrates its batch statistics and logits."""
    batch = torch.from_numpy(images)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        network = build()
        _set_batch_statistics(network, batch)
        _spread_logits(network, batch)
    return network


def _set_batch_statistics(network: nn.Module, images: torch.Tensor) -> None:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean over all batches instead of a moving average
    network.train()
    network(images)
    network.eval()


def _spread_logits(network: nn.Module, images: torch.Tensor) -> None:
    """Rescales the last layer so that each logit has mean 0 and deviation `_LOGIT_SPREAD`."""
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    outputs: list[torch.Tensor] = []
    handle = linear.register_forward_hook(lambda _module, _inputs, logits: outputs.append(logits))
    network(images)
    handle.remove()
    logits = outputs[0] - linear.bias
    scale = _LOGIT_SPREAD / logits.std(dim=0)
    linear.weight *= scale[:, None]
    linear.bias.copy_(-logits.mean(dim=0) * scale)
