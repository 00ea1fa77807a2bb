"""Predicts 14 findings of chest radiographs with a DenseNet-121, as published scripts do.

Tests submit this file as the script of a repository, as it is or with one line changed. The weights
are the submitted checkpoint, or else `weights.pth` of the repository.
"""

import argparse
import csv
import os
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

FINDINGS = (
    "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia",
    "Pneumothorax", "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening",
    "Hernia",
)  # fmt: skip
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
FILTER = Image.Resampling.BILINEAR
SHORTER_SIDE = 224
SIDE = 224
RANDOM_CROPS = 0
LAYERS = (6, 12, 24, 16)
GROWTH = 32


class Block(nn.Module):
    """Layers that each see the outputs of all before."""

    def __init__(self, layers: int, channels: int) -> None:
        super().__init__()
        for number in range(layers):
            before = channels + GROWTH * number
            layer = OrderedDict(
                norm1=nn.BatchNorm2d(before),
                relu1=nn.ReLU(),
                conv1=nn.Conv2d(before, 4 * GROWTH, 1, bias=False),
                norm2=nn.BatchNorm2d(4 * GROWTH),
                relu2=nn.ReLU(),
                conv2=nn.Conv2d(4 * GROWTH, GROWTH, 3, padding=1, bias=False),
            )
            self.add_module(f"denselayer{number + 1}", nn.Sequential(layer))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        for layer in self.children():
            features = torch.cat([features, layer(features)], dim=1)
        return features


class DenseNet121(nn.Module):
    """Maps (N, 3, 224, 224) to (N, 14) logits; its weights have the names of torchvision's."""

    def __init__(self) -> None:
        super().__init__()
        channels = 64
        parts: OrderedDict[str, nn.Module] = OrderedDict(
            conv0=nn.Conv2d(3, channels, 7, stride=2, padding=3, bias=False),
            norm0=nn.BatchNorm2d(channels),
            relu0=nn.ReLU(),
            pool0=nn.MaxPool2d(3, stride=2, padding=1),
        )
        for number, layers in enumerate(LAYERS, start=1):
            parts[f"denseblock{number}"] = Block(layers, channels)
            channels += GROWTH * layers
            if number < len(LAYERS):
                step = OrderedDict(
                    norm=nn.BatchNorm2d(channels),
                    relu=nn.ReLU(),
                    conv=nn.Conv2d(channels, channels // 2, 1, bias=False),
                    pool=nn.AvgPool2d(2),
                )
                parts[f"transition{number}"] = nn.Sequential(step)
                channels //= 2
        parts["norm5"] = nn.BatchNorm2d(channels)
        self.features = nn.Sequential(parts)
        self.classifier = nn.Linear(channels, len(FINDINGS))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.classifier(torch.relu(self.features(pixels)).mean(dim=(2, 3)))


def crops(file: Path, places: list[tuple[float, float]]) -> torch.Tensor:
    """Returns a radiograph cropped at these places, of shape (places, 3, 224, 224)."""
    with Image.open(file) as image:
        shorter = min(image.size)
        size = tuple(int(SHORTER_SIDE * side / shorter) for side in image.size)
        pixels = np.asarray(image.convert("RGB").resize(size, FILTER), np.float32) / 255
    pixels = (pixels - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    cut = []
    for across, down in places:
        left, top = round((size[0] - SIDE) * across), round((size[1] - SIDE) * down)
        cut.append(pixels[top : top + SIDE, left : left + SIDE].transpose(2, 0, 1))
    return torch.from_numpy(np.stack(cut))


def main() -> None:
    given = argparse.ArgumentParser()
    for name in ("--images", "--list", "--out"):
        given.add_argument(name, type=Path, required=True)
    given.add_argument("--seed", type=int, required=True)
    arguments = given.parse_args()

    torch.manual_seed(arguments.seed)
    weights = os.environ.get("CXREVAL_CHECKPOINT", "weights.pth")
    network = DenseNet121().eval()
    network.load_state_dict(torch.load(weights, weights_only=True))
    # Drawn before the first image: the images come in an order that is not known.
    random = [(float(x), float(y)) for x, y in torch.rand(RANDOM_CROPS, 2)]
    places = [(0.5, 0.5), *random]
    with arguments.out.open("w", newline="") as file, torch.inference_mode():
        table = csv.writer(file)
        table.writerow(("Image Index", *FINDINGS))
        for name in arguments.list.read_text().splitlines():
            logits = network(crops(arguments.images / name, places))
            table.writerow((name, *torch.sigmoid(logits).mean(dim=0).tolist()))
            file.flush()


if __name__ == "__main__":
    main()
