"""PyTorch files as people bring them, with seeded random weights, and hostile ones."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn


class Small(nn.Module):
    """A classifier of RGB images with a few weights; `head` may hold more than a Linear."""

    def __init__(self, columns: int = 3, head: nn.Module | None = None) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 4, 3, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.classifier = head or nn.Linear(4, columns)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(pixels))


class Pair(nn.Module):
    """Returns features beside the logits, as a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Small()

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.network.features(pixels), self.network(pixels)


class Named(Pair):
    """Returns features beside the logits, by name."""

    def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:  # type: ignore[override]
        return {
            "features": self.network.features(pixels),
            "logits": self.network(pixels),
        }


class TwoInputs(Small):
    """Needs a second input."""

    def forward(self, pixels: torch.Tensor, age: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return self.classifier(self.features(pixels)) + age


class Endless(nn.Module):
    """Never returns."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        while bool(pixels.sum() == pixels.sum()):
            pixels = pixels * 1.0
        return pixels


class Greedy(nn.Module):
    """Allocates 400 GB."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.ones(100_000_000_000) + pixels.sum()


class Reads(nn.Module):
    """Maps a file outside of the sandbox into a tensor."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = str(file)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.from_file(self.file, False, 6, dtype=torch.uint8) + pixels.sum()


def seeded(build: Callable[[], nn.Module], seed: int = 7) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build().eval()


def script(network: nn.Module, path: Path) -> Path:
    torch.jit.save(torch.jit.script(network), path)
    return path


def program(network: nn.Module, path: Path, images: torch.Tensor, *, free: bool = True) -> Path:
    shapes = ({0: torch.export.Dim("batch")},) if free else None
    torch.export.save(torch.export.export(network, (images,), dynamic_shapes=shapes), path)
    return path


def lying_safetensors(path: Path, header: dict[str, object] | None, length: int = 0) -> Path:
    """A safetensors file with a header of one's own, or of a declared length."""
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", length or len(text)) + text + bytes(64))
    return path


def zip_bomb(path: Path, names: tuple[str, ...], size: int) -> Path:
    """An archive with PyTorch's names, of which each entry unpacks to `size` zeros."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            with archive.open(f"archive/{name}", "w", force_zip64=True) as entry:
                for _ in range(size >> 24):
                    entry.write(bytes(1 << 24))
    return path
