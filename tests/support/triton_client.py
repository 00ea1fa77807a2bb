"""A script that uses Triton's own client: its descriptors and cxreval's conflict in one process.

`descriptors MODULE` prints the protocol as a module of stubs defines it. `walk TARGET DIGEST
IMAGE_FILE` makes all calls that a client makes for a model and prints the responses. Both print
JSON.
"""

from __future__ import annotations

import importlib
import json
import queue
import sys
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.descriptor import Descriptor, FileDescriptor


def describe(file: FileDescriptor) -> dict[str, Any]:
    """Returns every field and every rpc of a protocol by full name."""
    fields: dict[str, Any] = {}
    for message in file.message_types_by_name.values():
        _describe_message(message, fields)
    rpcs = {
        method.full_name: [
            method.input_type.full_name, method.output_type.full_name,
            method.client_streaming, method.server_streaming,
        ]
        for service in file.services_by_name.values()
        for method in service.methods
    }  # fmt: skip
    return {"fields": fields, "rpcs": rpcs}


def _describe_message(message: Descriptor, fields: dict[str, Any]) -> None:
    for field in message.fields:
        kind = field.message_type.full_name if field.message_type else field.type
        oneof = field.containing_oneof.name if field.containing_oneof else None
        fields[field.full_name] = [field.number, kind, field.is_repeated, oneof]
    for nested in message.nested_types:
        _describe_message(nested, fields)


def walk(target: str, digest: str, image_file: str) -> dict[str, Any]:
    """Makes every call of the protocol with Triton's client and returns what it received."""
    import tritonclient.grpc as triton
    from tritonclient.grpc import service_pb2

    client = triton.InferenceServerClient(target)
    seen: dict[str, Any] = {"live": client.is_server_live(), "ready": client.is_server_ready()}
    seen["server"] = client.get_server_metadata(as_json=True)
    seen["ready_before_load"] = client.is_model_ready(digest)
    client.load_model(digest)
    seen["ready_after_load"] = client.is_model_ready(digest, "1")
    load = service_pb2.RepositoryModelLoadRequest(model_name=digest)
    # load_model() cannot pass parameters of the request.
    load.parameters["profile"].string_param = "xrv-224"
    client._client_stub.RepositoryModelLoad(load)
    seen["metadata"] = client.get_model_metadata(digest, as_json=True)
    seen["index"] = client.get_model_repository_index(as_json=True)

    images = np.random.default_rng(0).uniform(-1024, 1024, (3, 1, 224, 224)).astype(np.float32)
    tensor = triton.InferInput("image_tensor", list(images.shape), "FP32")
    tensor.set_data_from_numpy(images)
    output = triton.InferRequestedOutput("probabilities")
    answer = client.infer(digest, [tensor], model_version="1", request_id="a-1", outputs=[output])
    seen["id"] = answer.get_response().id
    seen["from_tensor"] = answer.as_numpy("probabilities").tolist()

    encoded = triton.InferInput("image", [1], "BYTES")
    encoded.set_data_from_numpy(np.array([Path(image_file).read_bytes()], dtype=np.object_))
    seen["from_image"] = client.infer(digest, [encoded]).as_numpy("probabilities").tolist()
    models = [(digest, tensor), (digest, encoded), ("no-such-model", tensor), (digest, tensor)]
    seen["stream"] = _stream(client, models)
    try:
        client.infer("no-such-model", [tensor])
    except triton.InferenceServerException as error:
        seen["error"] = [error.status(), error.message()]
    seen["config"] = client.get_model_config(digest, as_json=True)
    seen["statistics"] = client.get_inference_statistics(digest, as_json=True)
    client.unload_model(digest)
    seen["ready_after_unload"] = client.is_model_ready(digest)
    client.close()
    return seen


def _stream(client: Any, models: list[tuple[str, Any]]) -> list[Any]:
    """Sends requests on one stream and returns the responses."""
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for index, (model, content) in enumerate(models):
        client.async_stream_infer(model, [content], request_id=str(index))
    received = [answers.get(timeout=30) for _ in models]
    client.stop_stream()
    return [
        error.message()
        if error
        else [result.get_response().id, result.as_numpy("probabilities").tolist()]
        for result, error in received
    ]


if __name__ == "__main__":
    if sys.argv[1] == "descriptors":
        json.dump(describe(importlib.import_module(sys.argv[2]).DESCRIPTOR), sys.stdout)
    else:
        json.dump(walk(*sys.argv[2:]), sys.stdout)
