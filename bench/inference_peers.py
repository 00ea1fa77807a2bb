"""Servers that `bench.inference` compares with the inference service.

python -m bench.inference_peers echo|naive|mosec ADDRESS MODEL THREADS
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import grpc.aio
import numpy as np
import onnxruntime

from cxreval.api.oip import grpc_predict_v2_pb2 as pb

LARGE = [("grpc.max_receive_message_length", 1 << 30), ("grpc.max_send_message_length", 1 << 30)]


def session(model: str, threads: int) -> Any:
    """Returns the model's session with the settings that all servers use."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


async def echo(content: bytes, _: Any) -> bytes:
    """Returns the message unchanged."""
    return content


def naive(model: Any) -> Callable[[bytes, Any], Awaitable[bytes]]:
    """Returns a handler that runs each request by itself in a thread, one at a time."""
    name, lock = model.get_inputs()[0].name, asyncio.Lock()

    async def infer(content: bytes, _: Any) -> bytes:
        request = pb.ModelInferRequest.FromString(content)
        images = np.frombuffer(request.raw_input_contents[0], "<f4").reshape(
            tuple(request.inputs[0].shape)
        )
        async with lock:
            (rows,) = await asyncio.to_thread(model.run, None, {name: images})
        output = pb.ModelInferResponse.InferOutputTensor(
            name="probabilities", datatype="FP32", shape=rows.shape
        )
        answer = pb.ModelInferResponse(outputs=[output], raw_output_contents=[rows.tobytes()])
        return answer.SerializeToString()

    return infer


async def serve(address: str, behaviour: Callable[[bytes, Any], Awaitable[bytes]]) -> None:
    """Runs a gRPC server with only this handler."""
    server = grpc.aio.server(options=LARGE)
    handlers = {"ModelInfer": grpc.unary_unary_rpc_method_handler(behaviour)}
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("inference.GRPCInferenceService", handlers),)
    )
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


def serve_mosec(address: str, file: str, threads: int) -> None:
    """Runs mosec with batches of up to 16 images and a wait of one millisecond, its minimum."""
    import mosec  # noqa: PLC0415 -- the `bench` extra

    class Model(mosec.Worker):  # type: ignore[misc]
        def __init__(self) -> None:
            self.model = session(file, threads)
            self.name = self.model.get_inputs()[0].name

        def deserialize(self, data: bytes) -> Any:
            return np.frombuffer(data, np.float32).reshape(1, 224, 224)

        def serialize(self, data: Any) -> bytes:
            return bytes(data.tobytes())

        def forward(self, data: Any) -> Any:
            return list(self.model.run(None, {self.name: np.stack(data)})[0])

    host, _, port = address.rpartition(":")
    sys.argv[1:] = ["--address", host, "--port", port]  # mosec reads its settings from here
    server = mosec.Server()
    server.append_worker(Model, num=1, max_batch_size=16, max_wait_time=1, start_method="fork")
    server.run()


async def mosec_client(address: str, content: bytes) -> Callable[[], Awaitable[bytes]]:
    """Returns a function that calls mosec over persistent HTTP connections.

    Waits until mosec responds.
    """
    host, _, port = address.rpartition(":")
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    head = (
        f"POST /inference HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(content)}\r\n\r\n"
    ).encode()

    async def ask() -> bytes:
        reader, writer = idle.pop() if idle else await asyncio.open_connection(host, int(port))
        writer.write(head + content)
        status, *fields = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        length = next(
            int(field.split(":")[1])
            for field in fields
            if field.lower().startswith("content-length")
        )
        answer = await reader.readexactly(length)
        assert " 200 " in status, status
        idle.append((reader, writer))
        return answer

    for _ in range(100):
        try:
            await ask()
        except (OSError, AssertionError, asyncio.IncompleteReadError):
            await asyncio.sleep(0.2)
        else:
            break
    return ask


if __name__ == "__main__":
    kind, listen, file, count = sys.argv[1:]
    if kind == "mosec":
        serve_mosec(listen, file, int(count))
    else:
        asyncio.run(serve(listen, echo if kind == "echo" else naive(session(file, int(count)))))
