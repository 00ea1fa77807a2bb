"""DenseNet-121 with fixed random weights, in the two forms that published chest X-ray checkpoints
have.

They stand in for trained checkpoints where only agreement matters: same layers, same size, same
cost. Plain random weights answer nearly the same to every image; these are calibrated on a few
images to tell such images apart.
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
_LOGIT_SPREAD = (
    1.0  # more would also spread the rounding differences between PyTorch and onnxruntime
)

Images = npt.NDArray[np.float32]


def build_torchxrayvision_densenet(seed: int, images: Images) -> nn.Module:
    """TorchXRayVision's DenseNet-121, (N, 1, 224, 224) to (N, 18) probabilities, in eval mode.

    Args:
        seed: fixes the weights; the same seed and images give the same model on the same machine.
        images: (N, 1, 224, 224) as `xrv-224` gives them, to calibrate on: two dozen or more.
    """
    return calibrated(
        lambda: torchxrayvision.models.DenseNet(weights=None, apply_sigmoid=True), seed, images
    )


def build_torchvision_densenet(seed: int, images: Images) -> nn.Module:
    """torchvision's DenseNet-121 in the form of CheXNet, (N, 3, 224, 224) to (N, 14) probabilities,
    in eval mode.

    Args:
        seed: fixes the weights; the same seed and images give the same model on the same machine.
        images: (N, 3, 224, 224) as `imagenet-224` gives them, to calibrate on: two dozen or more.
    """

    def build() -> nn.Module:
        network = torchvision.models.densenet121(weights=None, num_classes=_CHEXNET_OUTPUTS)
        return nn.Sequential(network, nn.Sigmoid())

    return calibrated(build, seed, images)


def calibrated(build: Callable[[], nn.Module], seed: int, images: Images) -> nn.Module:
    """Draws weights, then takes batch statistics and spreads the logits over `images`."""
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
            module.momentum = None  # the plain mean over what is seen, instead of a moving average
    network.train()
    network(images)
    network.eval()


def _spread_logits(network: nn.Module, images: torch.Tensor) -> None:
    """Scales and shifts the last layer so that each output's logits have mean 0 and the same
    standard deviation."""
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    seen: list[torch.Tensor] = []
    handle = linear.register_forward_hook(lambda _module, _inputs, logits: seen.append(logits))
    network(images)
    handle.remove()
    logits = seen[0] - linear.bias
    scale = _LOGIT_SPREAD / logits.std(dim=0)
    linear.weight *= scale[:, None]
    linear.bias.copy_(-logits.mean(dim=0) * scale)
