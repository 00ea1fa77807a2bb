"""Benchmark: images per second of an evaluation through all services, beside one process.

    .venv/bin/python -m bench.walk [CHECKPOINT.onnx]

The baseline decodes and preprocesses in a thread pool and runs onnxruntime with the same batch size
and threads, without gRPC, a database or recorded predictions. Both process the same images in the
same run, in turn, three times; the medians are printed. Without a checkpoint, a DenseNet-121 with
random weights is exported, which needs the `export` extra.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime

from cxreval.datasets import phantom
from cxreval.datasets.benchmark import image_list
from cxreval.datasets.nih import FINDINGS
from cxreval.evaluation.driver import EvaluationDriver
from cxreval.imaging.decode import decode
from cxreval.imaging.preprocess import PROFILES
from tests.support.system import System, manifest

PATIENTS, BATCH, ROUNDS = 600, 16, 3
CORES = len(os.sched_getaffinity(0))


def main() -> None:
    """Prints one line for each side, and their ratio."""
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        data = directory / "data"
        spec = phantom.generate(data, patients=PATIENTS, only="test")
        files = [data / "images" / image for image in image_list(spec, data)]
        checkpoint, outputs = (
            (Path(sys.argv[1]), FINDINGS) if sys.argv[1:] else densenet(directory, files)
        )
        alone, through = [], []
        with System(directory, {spec.name: data}) as system:
            system.registry.create_benchmark(spec)
            driver = EvaluationDriver(
                system.registry, system.inference, system.scoring, {spec.name: data}, "bench"
            )

            def walk() -> None:
                system.registry.submit(spec.name, manifest(outputs=outputs), checkpoint)
                evaluation = driver.run_next(lambda *_: None)
                assert evaluation
                assert evaluation.report, evaluation.failure

            run = ceiling(checkpoint, files)
            for _ in range(ROUNDS):
                alone.append(seconds(run))
                through.append(seconds(walk))
    best, ours = (len(files) / statistics.median(times) for times in (alone, through))
    print(
        f"{checkpoint.name}, {len(files)} images of 1024x1024, {CORES} cores, "
        f"onnxruntime {onnxruntime.__version__}"
    )
    print(f"one process            {best:7.1f} images/s")
    print(f"through all services   {ours:7.1f} images/s   ratio {ours / best:.2f}")


def seconds(work: Callable[[], None]) -> float:
    """Returns how long `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def ceiling(checkpoint: Path, files: list[Path]) -> Callable[[], None]:
    """Returns a function that runs the same images through the same model in this process."""
    session = onnxruntime.InferenceSession(checkpoint, providers=["CPUExecutionProvider"])
    name, apply = session.get_inputs()[0].name, PROFILES["xrv-224"].apply

    def run() -> None:
        with ThreadPoolExecutor(CORES) as pool:
            tensors = pool.map(lambda file: apply(decode(file.read_bytes())), files)
            batch = []
            for number, tensor in enumerate(tensors, start=1):
                batch.append(tensor)
                if len(batch) == BATCH or number == len(files):
                    session.run(None, {name: np.concatenate(batch)})
                    batch.clear()

    return run


def densenet(directory: Path, files: list[Path]) -> tuple[Path, tuple[str, ...]]:
    """Exports TorchXRayVision's DenseNet-121 with random weights; returns file and output names."""
    from cxreval.export.densenet import TORCHXRAYVISION_TARGETS, build_torchxrayvision_densenet  # noqa: PLC0415
    from cxreval.export.onnx_export import export_onnx  # noqa: PLC0415

    images = np.concatenate(
        [PROFILES["xrv-224"].apply(decode(file.read_bytes())) for file in files[:24]]
    )
    checkpoint = directory / "densenet121.onnx"
    export_onnx(build_torchxrayvision_densenet(20, images), (1, 224, 224), checkpoint)
    return checkpoint, tuple(name if name in FINDINGS else "" for name in TORCHXRAYVISION_TARGETS)


if __name__ == "__main__":
    main()
