"""Benchmark: half-precision models on one NVIDIA GPU, through the service and in one process.

    .venv/bin/python -m bench.gpu [--seconds 5] [--rounds 3]

Needs onnxruntime-gpu (docs/gpu.md) and, to create its models, the `export` extra; without a GPU it
exits with a message. Clients are coroutines of this process with requests of 64 images, 4 of them
outstanding; the cases run in turn, and the medians are printed. The models have random weights with
outputs as narrow as those of a trained classifier; with wider ones the service's check of half
precision would refuse them.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime

from bench.inference import Bench, Call
from cxreval.datasets import phantom
from cxreval.imaging.preprocess import PROFILES
from cxreval.onnx_file.signature import inspect
from services.inference.backends.session import Execution, OnnxSession
from tests.support.inference import tensor_request

BATCH, IN_FLIGHT = 64, 4
OUTPUT_SCALE = 0.05
TRITON_RESNET50_ON_A100 = 6127
"""Images per second; the target for an H100."""


def main() -> None:
    """Prints one line per model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if (
        not shutil.which("nvidia-smi")
        or "CUDAExecutionProvider" not in onnxruntime.get_available_providers()
    ):
        sys.exit("skipped: needs an NVIDIA GPU and onnxruntime-gpu (docs/gpu.md)")
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    name = subprocess.run(
        query, capture_output=True, text=True, check=True, timeout=120
    ).stdout.strip()
    print(f"{name}, onnxruntime {onnxruntime.__version__}, fp16, {IN_FLIGHT} x {BATCH} images")
    print(f"{'model':<14}{'in process':>14}{'service':>14}{'ratio':>8}")
    with tempfile.TemporaryDirectory() as scratch:
        for architecture in ("densenet121", "resnet50"):
            directory = Path(scratch) / architecture
            directory.mkdir()
            bench = Bench(directory, arguments.seconds, arguments.rounds)
            alone, served = asyncio.run(rates(bench, network(architecture, directory)))
            print(
                f"{architecture:<14}{alone:>8.0f} img/s{served:>8.0f} img/s{served / alone:>8.2f}"
            )
    print(f"Triton on an A100, ResNet-50: {TRITON_RESNET50_ON_A100} img/s")


async def rates(bench: Bench, checkpoint: Path) -> tuple[float, float]:
    """Returns the images per second in this process and through the service."""
    images = np.random.default_rng(0).standard_normal((BATCH, 3, 224, 224), np.float32)
    flags = ("--provider", "cuda", "--precision", "fp16", "--max-batch-size", str(BATCH))
    async with bench.service(
        checkpoint, *flags, "--max-queued-images", str(8 * BATCH), profile="imagenet-224"
    ) as served:
        request = tensor_request(served.digest, images, inspect(checkpoint).input_name)
        contestants: dict[str, tuple[Call, int]] = {
            "alone": (alone(checkpoint, images), 1),
            "service": (served.ask(request), IN_FLIGHT),
        }
        rates = await bench.rates(contestants)
    return BATCH * rates["alone"], BATCH * rates["service"]


def alone(checkpoint: Path, images: np.ndarray) -> Call:
    """Returns a call of the session that the service uses, in this process."""
    session = OnnxSession(
        checkpoint, inspect(checkpoint), threads=1, execution=Execution("cuda", fp16=True)
    )

    async def run() -> None:
        session.run(images)

    return run


def network(architecture: str, directory: Path) -> Path:
    """Exports a seed system with random weights and returns its ONNX file."""
    import torch  # noqa: PLC0415

    from cxreval.export.checkpoint import read_checkpoint  # noqa: PLC0415
    from cxreval.export.seed import export_seed  # noqa: PLC0415
    from cxreval.export.systems import build_torchvision  # noqa: PLC0415
    from tests.support import checkpoints  # noqa: PLC0415

    apply: Callable[[np.ndarray], np.ndarray] = PROFILES["imagenet-224"].apply
    pictures = [phantom.render(phantom.draw_studies(1, patient)[0], 1) for patient in range(6)]
    made = checkpoints.torchvision_network(
        architecture, np.concatenate([apply(picture) for picture in pictures])
    )
    last = made.classifier if architecture == "densenet121" else made.fc
    with torch.no_grad():
        last.weight *= OUTPUT_SCALE
    checkpoint = read_checkpoint(checkpoints.save_state_dict(made, directory / "weights.pth"))
    files = []
    for number, picture in enumerate(pictures[:2]):
        files.append(directory / f"{number}.png")
        files[-1].write_bytes(phantom.encode_png(picture))
    path = directory / f"{architecture}.onnx"
    export_seed(build_torchvision(architecture, checkpoint), checkpoint, path, files)
    return path


if __name__ == "__main__":
    main()
