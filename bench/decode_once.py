"""Benchmark: images per second of a first and a second model, with and without an image cache.

    .venv/bin/python -m bench.decode_once [--only free|densenet]

The upper bound for each model is onnxruntime in this process on tensors in memory, with the batch
size and threads of the service. The service runs in a process of its own, without and with an image
cache; with the cache, images are sent as bytes and then by digest. The cases run in turn, `ROUNDS`
times; the medians are printed. The radiographs are those of CXREVAL_SHARED or ../shared.
DenseNet-121 has random weights and needs the `export` extra.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime

from bench.walk import densenet
from cxreval.api.oip import grpc_predict_v2_pb2 as pb
from cxreval.imaging.decode import decode
from cxreval.imaging.preprocess import PROFILES
from tests.conftest import REPOSITORY
from tests.support import onnx_models
from tests.support.inference import InferenceService, image_request, load_request, rows, stub

BATCH, IN_FLIGHT, ROUNDS = 16, 4, 3
CORES = len(os.sched_getaffinity(0))
PROFILE = PROFILES["xrv-224"]


def main() -> None:
    """Prints one line per case for both models."""
    only = sys.argv[2] if sys.argv[1:2] == ["--only"] else ""
    shared = Path(os.environ.get("CXREVAL_SHARED", REPOSITORY.parent / "shared"))
    files = sorted((shared / "nih-chestxray14/images").glob("*.png"))
    if not files:
        sys.exit("no radiographs: set CXREVAL_SHARED to a directory with nih-chestxray14/images")
    images = [file.read_bytes() for file in files]
    tensors = np.concatenate([PROFILE.apply(decode(image)) for image in images])
    print(
        f"{len(images)} radiographs, {CORES} cores, onnxruntime {onnxruntime.__version__}, "
        f"{PROFILE.name}"
    )
    with tempfile.TemporaryDirectory() as scratch:
        models = Path(scratch) / "exported"
        if only != "densenet":
            measure(
                "near-free model",
                models / f"{onnx_models.classifier(models)}.onnx",
                images,
                tensors,
                repeats=5,
            )
        if only != "free":
            models.mkdir(exist_ok=True)
            measure("DenseNet-121", densenet(models, files)[0], images, tensors, repeats=1)


def measure(
    name: str, checkpoint: Path, images: list[bytes], tensors: np.ndarray, repeats: int
) -> None:
    """Runs every case of one model in turn."""
    cases = ("in process", "no cache", "first model", "second model", "second model, by digest")
    seconds: dict[str, list[float]] = {case: [] for case in cases}
    in_process = alone(checkpoint, tensors)
    in_process()
    for _ in range(ROUNDS):
        seconds["in process"].append(timed(in_process, repeats))
        with tempfile.TemporaryDirectory() as scratch:
            with server(Path(scratch), checkpoint) as send:
                seconds["no cache"].append(timed(lambda send=send: send(by_bytes(images)), 1))
            with server(Path(scratch), checkpoint, "--image-cache-mib", "1024") as send:
                seconds["first model"].append(timed(lambda send=send: send(by_bytes(images)), 1))
                seconds["second model"].append(
                    timed(lambda send=send: send(by_bytes(images)), repeats)
                )
                seconds["second model, by digest"].append(
                    timed(lambda send=send: send(by_digest(images)), repeats)
                )
    best = len(images) / statistics.median(seconds["in process"])
    print(f"\n{name}")
    for case, times in seconds.items():
        rate = len(images) / statistics.median(times)
        spread = " ".join(f"{len(images) / second:.0f}" for second in sorted(times, reverse=True))
        print(f"  {case:24} {rate:8.1f} images/s   ratio {rate / best:.2f}   rounds {spread}")


def timed(work: Callable[[], None], repeats: int) -> float:
    """Returns the seconds of one pass over the images."""
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    return (time.perf_counter() - start) / repeats


def alone(checkpoint: Path, tensors: np.ndarray) -> Callable[[], None]:
    """Returns a function that runs onnxruntime alone in this process."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = CORES
    session = onnxruntime.InferenceSession(checkpoint, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run() -> None:
        for start in range(0, len(tensors), BATCH):
            session.run(None, {name: tensors[start : start + BATCH]})

    return run


class server:  # noqa: N801 - reads as the function it is used as
    """Runs the service with one model loaded; yields a function that sends requests."""

    def __init__(self, directory: Path, checkpoint: Path, *flags: str) -> None:
        self._service = InferenceService(
            directory, "--image-cache-dir", str(directory / "images"), *flags
        )
        self._service.models.mkdir(exist_ok=True)
        self._digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
        shutil.copyfile(checkpoint, self._service.models / f"{self._digest}.onnx")

    def __enter__(self) -> Callable[[Iterator[pb.ModelInferRequest]], None]:
        self._service.start()
        self._channel: grpc.Channel = self._service.connect()
        oip = stub(self._channel)
        oip.RepositoryModelLoad(load_request(self._digest, PROFILE.name))
        return lambda requests: drive(oip, self._digest, requests)

    def __exit__(self, *_: object) -> None:
        self._channel.close()
        self._service.stop()


def drive(oip: Any, digest: str, requests: Iterator[pb.ModelInferRequest]) -> None:
    """Sends requests, with `IN_FLIGHT` outstanding, and checks every response."""
    waiting: deque[Any] = deque()
    for request in requests:
        request.model_name = digest
        waiting.append(oip.ModelInfer.future(request))
        if len(waiting) == IN_FLIGHT:
            assert np.isfinite(rows(waiting.popleft().result())).all()
    for future in waiting:
        assert np.isfinite(rows(future.result())).all()


def by_bytes(images: Sequence[bytes]) -> Iterator[pb.ModelInferRequest]:
    """Yields requests of `BATCH` encoded images."""
    for start in range(0, len(images), BATCH):
        yield image_request("", images[start : start + BATCH])


def by_digest(images: Sequence[bytes]) -> Iterator[pb.ModelInferRequest]:
    """Yields the same requests with the images' digests, as a data set's manifest lists them."""
    digests = [hashlib.sha256(image).hexdigest().encode() for image in images]
    for request in by_bytes(digests):
        request.inputs[0].name = "image_sha256"
        yield request


if __name__ == "__main__":
    main()
