"""A script for the environment of one client library: it prints, as JSON, what a service answered.

`LIBRARY TARGET MODEL IMAGE_FILE` makes the library's default calls for a loaded model: metadata,
the model's own tensor, an encoded image.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

VERSIONS = {
    "triton": "tritonclient[grpc]==2.73.0",
    "kserve": "kserve==0.21.0",
    "mlserver": "mlserver==1.7.1",
}
"""What pip installs for each library."""

IMAGES = np.random.default_rng(0).uniform(-1024, 1024, (3, 1, 224, 224)).astype(np.float32)


def triton(target: str, model: str, image: bytes) -> dict[str, Any]:
    """Calls as Triton's gRPC client."""
    from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput

    client = InferenceServerClient(target)

    def infer(name: str, content: Any, datatype: str, **options: Any) -> Any:
        tensor = InferInput(name, list(content.shape), datatype)
        tensor.set_data_from_numpy(content)
        return client.infer(model, [tensor], **options).as_numpy("probabilities").tolist()

    encoded = np.array([image], object)
    return {
        "metadata": client.get_model_metadata(model, as_json=True),
        "tensor": infer("image_tensor", IMAGES, "FP32"),
        "image": infer("image", encoded, "BYTES"),
        "named output": infer(
            "image", encoded, "BYTES", outputs=[InferRequestedOutput("probabilities")]
        ),
        "refused": [
            _message(partial(infer, "image", encoded, "BYTES", **options))
            for options in (
                {"sequence_id": 7, "sequence_start": True},
                {"priority": 1},
                {"timeout": 1000},
                {"outputs": [InferRequestedOutput("probabilities", class_count=3)]},
            )
        ],
    }


def kserve(target: str, model: str, image: bytes) -> dict[str, Any]:
    """Calls as KServe's asynchronous gRPC client."""
    return asyncio.run(_kserve(target, model, image))


async def _kserve(target: str, model: str, image: bytes) -> dict[str, Any]:
    from kserve import InferenceGRPCClient, InferInput, InferRequest
    from kserve.protocol.infer_type import RequestedOutput

    client = InferenceGRPCClient(target)

    async def infer(name: str, content: Any, datatype: str, *, binary: bool = True) -> Any:
        tensor = InferInput(name, list(content.shape), datatype)
        tensor.set_data_from_numpy(content, binary_data=binary)
        output = RequestedOutput("probabilities", {"binary_data": binary})
        request = InferRequest(
            model, [tensor], request_outputs=[output], parameters={"binary_data_output": binary}
        )
        return (await client.infer(request)).outputs[0].as_numpy().tolist()

    answers = {
        "live": await client.is_server_live(),
        "ready": await client.is_model_ready(model),
        "tensor": await infer("image_tensor", IMAGES, "FP32"),
        "tensor, not binary": await infer("image_tensor", IMAGES, "FP32", binary=False),
        "image": await infer("image", np.array([image], object), "BYTES"),
    }
    await client.close()
    return answers


def mlserver(target: str, model: str, image: bytes) -> dict[str, Any]:
    """Calls with MLServer's stubs and the messages that its codecs make."""
    import grpc
    from mlserver.codecs import Base64Codec, NumpyCodec
    from mlserver.grpc import converters, dataplane_pb2, dataplane_pb2_grpc
    from mlserver.types import InferenceRequest, Parameters, RequestInput

    stub = dataplane_pb2_grpc.GRPCInferenceServiceStub(grpc.insecure_channel(target))

    def infer(tensor: RequestInput, *, raw: bool = False) -> Any:
        request = InferenceRequest(inputs=[tensor], parameters=Parameters(content_type="np"))
        message = converters.ModelInferRequestConverter.from_types(request, model, use_raw=raw)
        answer = converters.ModelInferResponseConverter.to_types(
            stub.ModelInfer(message, timeout=60)
        )
        return NumpyCodec.decode_output(answer.outputs[0]).tolist()

    metadata = stub.ModelMetadata(dataplane_pb2.ModelMetadataRequest(name=model), timeout=60)
    types = converters.ModelMetadataResponseConverter.to_types(metadata)
    return {
        "metadata": types.model_dump(mode="json", exclude_none=True),
        "tensor": infer(NumpyCodec.encode_input("image_tensor", IMAGES)),
        "tensor, raw": infer(NumpyCodec.encode_input("image_tensor", IMAGES), raw=True),
        "image": infer(Base64Codec.encode_input("image", [image])),
    }


def _message(call: Callable[[], Any]) -> str:
    """Returns the message of the error that a call raises."""
    try:
        call()
    except Exception as error:  # noqa: BLE001 -- each library has a class of its own
        return str(error)
    return ""


if __name__ == "__main__":
    library, address, name, file = sys.argv[1:]
    calls = {"triton": triton, "kserve": kserve, "mlserver": mlserver}[library]
    json.dump(calls(address, name, Path(file).read_bytes()), sys.stdout)
