"""Somebody's own inference server: the Open Inference Protocol v2 as a tutorial would have it, with moods."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np

from cxreval.api.oip import grpc_predict_v2_pb2 as oip
from cxreval.api.oip import grpc_predict_v2_pb2_grpc as oip_grpc

COLUMNS = 14


class NaiveServer(oip_grpc.GRPCInferenceServiceServicer):
    """Answers with the mean of the bytes, or of the tensor. `mood(n)`, with the number of the request, may spoil it."""

    def __init__(self, token: str = "", datatype: str = "BYTES", mood: Callable[[int], Any] = lambda _: None) -> None:
        self.token, self.datatype, self.mood = token, datatype, mood
        self.times: list[float] = []
        self._lock = threading.Lock()
        self._server = grpc.server(ThreadPoolExecutor(8))
        oip_grpc.add_GRPCInferenceServiceServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def ModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._check(context)
        shape = [-1, 1] if self.datatype == "BYTES" else [-1, 1, 224, 224]
        tensor = oip.ModelMetadataResponse.TensorMetadata(name="pixels", datatype=self.datatype, shape=shape)
        return oip.ModelMetadataResponse(name=request.name, versions=["3"], platform="naive", inputs=[tensor])

    def ModelInfer(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._check(context)
        with self._lock:
            self.times.append(time.monotonic())
            number = len(self.times)
        spoiled = self.mood(number)
        if isinstance(spoiled, grpc.StatusCode):
            context.abort(spoiled, f"in a bad mood, but I know {self.token}")
        assert request.inputs[0].name == "pixels"
        raw = request.raw_input_contents[0]
        scale = np.frombuffer(raw[4:], np.uint8).mean() / 255 if self.datatype == "BYTES" else 0.5
        values = [scale] * COLUMNS if spoiled is None else spoiled
        output = oip.ModelInferResponse.InferOutputTensor(name="out", datatype="FP32", shape=[1, len(values)])
        output.contents.fp32_contents.extend(values)
        return oip.ModelInferResponse(model_name=request.model_name, outputs=[output])

    def _check(self, context: grpc.ServicerContext) -> None:
        if self.token and ("authorization", f"Bearer {self.token}") not in context.invocation_metadata():
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")

    def __enter__(self) -> NaiveServer:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(0).wait()
