"""An inference service as a process of its own, and the messages that its tests send."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import grpc
import imagecodecs
import numpy as np
import numpy.typing as npt

from cxreval.api.oip import grpc_predict_v2_pb2 as pb
from cxreval.api.oip import grpc_predict_v2_pb2_grpc
from cxreval.wire.channel import TlsFiles, connect
from services.inference.backends.model_host import HostLimits
from tests.support.processes import Service, descendants

Array = npt.NDArray[np.float32]

HOST_LIMITS = HostLimits(
    memory_bytes=1 << 30, open_seconds=60.0, warm_up_seconds=60.0, run_seconds=60.0
)
"""Limits of a model host that no model of the tests meets."""


class InferenceService(Service):
    """`python -m services.inference`.

    `models` is its cache: a file stored there under its digest can be loaded.
    """

    def __init__(self, directory: Path, *flags: str, tls: TlsFiles | None = None) -> None:
        self.models = directory / "models"
        arguments = ["--model-cache-dir", str(self.models), *flags]
        super().__init__("inference", arguments, directory / "inference.log", tls)

    def __enter__(self) -> Self:
        self.start()
        return self

    def connect(self) -> grpc.Channel:
        """Returns a channel to the service; the caller closes it."""
        return connect(self.address)

    def hosts(self) -> dict[str, int]:
        """Returns the processes that run models, each the innermost of its sandbox, by the file."""
        assert self.process
        hosts = {}
        for pid, command in descendants(self.process.pid).items():
            if file := re.search(r"(\w+)\.onnx", command):
                hosts[file[1]] = [pid, *descendants(pid)][-1]
        return hosts

    def decoders(self) -> list[int]:
        """Returns the processes that decode images, each the innermost of its sandbox."""
        assert self.process
        return [
            pid
            for pid, command in descendants(self.process.pid).items()
            if "inference.backends.decoder" in command and not descendants(pid)
        ]


def stub(channel: grpc.Channel) -> Any:
    """Returns a stub of the Open Inference Protocol."""
    return grpc_predict_v2_pb2_grpc.GRPCInferenceServiceStub(channel)


def load_request(digest: str, profile: str = "", columns: int = 0) -> pb.RepositoryModelLoadRequest:
    """Returns a request to load a model, optionally for a profile and a number of columns."""
    request = pb.RepositoryModelLoadRequest(model_name=digest)
    if profile:
        request.parameters["profile"].string_param = profile
    if columns:
        request.parameters["output_columns"].int64_param = columns
    return request


def tensor_request(digest: str, images: Array, name: str = "image_tensor") -> pb.ModelInferRequest:
    """Returns a request with images (N, C, H, W) as the model's own tensor."""
    tensor = pb.ModelInferRequest.InferInputTensor(name=name, datatype="FP32", shape=images.shape)
    return pb.ModelInferRequest(
        model_name=digest, inputs=[tensor], raw_input_contents=[images.tobytes()]
    )


def image_request(digest: str, images: Sequence[bytes]) -> pb.ModelInferRequest:
    """Returns a request with encoded images."""
    tensor = pb.ModelInferRequest.InferInputTensor(
        name="image", datatype="BYTES", shape=[len(images)]
    )
    raw = b"".join(len(image).to_bytes(4, "little") + image for image in images)
    return pb.ModelInferRequest(model_name=digest, inputs=[tensor], raw_input_contents=[raw])


def rows(answer: pb.ModelInferResponse) -> Array:
    """Returns the response's only output."""
    (output,) = answer.outputs
    return np.frombuffer(answer.raw_output_contents[0], "<f4").reshape(tuple(output.shape))


def random_images(count: int, seed: int = 0) -> Array:
    """Returns (count, 1, 224, 224) values in the xrv profile's range, of varying brightness."""
    rng = np.random.default_rng(seed)
    noise = rng.uniform(-300, 300, (count, 1, 224, 224))
    return (noise + rng.uniform(-700, 700, (count, 1, 1, 1))).astype(np.float32)


def png(height: int = 64, width: int = 64, channels: int = 1, seed: int = 0) -> bytes:
    """Returns an 8-bit PNG of smooth noise."""
    coarse = np.random.default_rng(seed).integers(
        0, 256, (height // 8, width // 8, channels), np.uint8
    )
    pixels = coarse.repeat(8, axis=0).repeat(8, axis=1)
    return bytes(imagecodecs.png_encode(pixels[:, :, 0] if channels == 1 else pixels))
