"""A minimal third-party inference server (Open Inference Protocol v2) with faults on demand."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from google.rpc import status_pb2
from grpc_status import rpc_status

from cxreval.api.oip import grpc_predict_v2_pb2 as oip
from cxreval.api.oip import grpc_predict_v2_pb2_grpc as oip_grpc

COLUMNS = 14


class NaiveServer(oip_grpc.GRPCInferenceServiceServicer):
    """Returns the mean of the bytes for images, and 0.5 for tensors.

    `mood(n)`, called with the number of the request, may return a status to fail with or other
    values to return. `certificate`: files of key and chain, to serve TLS.
    """

    def __init__(
        self,
        token: str = "",
        datatype: str = "BYTES",
        mood: Callable[[int], Any] = lambda _: None,
        certificate: tuple[Path, Path] | None = None,
        largest_bytes: int = 4 << 20,
    ) -> None:
        self.token, self.datatype, self.mood = token, datatype, mood
        self.versions, self.platform = ["3"], "naive"
        self.times: list[float] = []
        self.shapes: list[tuple[int, ...]] = []
        self._lock = threading.Lock()
        self._server = grpc.server(
            ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", largest_bytes)]
        )
        oip_grpc.add_GRPCInferenceServiceServicer_to_server(self, self._server)
        if certificate:
            key, chain = (file.read_bytes() for file in certificate)
            port = self._server.add_secure_port(
                "127.0.0.1:0", grpc.ssl_server_credentials([(key, chain)])
            )
        else:
            port = self._server.add_insecure_port("127.0.0.1:0")
        self.address = f"127.0.0.1:{port}"

    def ModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._check(context)
        shape = [-1, 1] if self.datatype == "BYTES" else [-1, 1, 224, 224]
        tensor = oip.ModelMetadataResponse.TensorMetadata(
            name="pixels", datatype=self.datatype, shape=shape
        )
        return oip.ModelMetadataResponse(
            name=request.name, versions=self.versions, platform=self.platform, inputs=[tensor]
        )

    def ModelInfer(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._check(context)
        with self._lock:
            self.times.append(time.monotonic())
            self.shapes.append(tuple(request.inputs[0].shape))
            number = len(self.times)
        spoiled = self.mood(number)
        if isinstance(spoiled, grpc.StatusCode):
            context.abort(spoiled, f"in a bad mood, but I know {self.token}")
        if isinstance(spoiled, status_pb2.Status):
            context.abort_with_status(rpc_status.to_status(spoiled))
        assert request.inputs[0].name == "pixels"
        raw = request.raw_input_contents[0]
        scale = np.frombuffer(raw[4:], np.uint8).mean() / 255 if self.datatype == "BYTES" else 0.5
        rows = np.full((1, COLUMNS), scale) if spoiled is None else np.atleast_2d(spoiled)
        output = oip.ModelInferResponse.InferOutputTensor(
            name="out", datatype="FP32", shape=rows.shape
        )
        output.contents.fp32_contents.extend(rows.ravel())
        return oip.ModelInferResponse(model_name=request.model_name, outputs=[output])

    def _check(self, context: grpc.ServicerContext) -> None:
        if (
            self.token
            and ("authorization", f"Bearer {self.token}") not in context.invocation_metadata()
        ):
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")

    def __enter__(self) -> NaiveServer:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(0).wait(timeout=60)
