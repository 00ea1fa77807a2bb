"""Client of an inference service: sends encoded images, returns probabilities."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cxreval.api.inference.v1 import capabilities_service_pb2, capabilities_service_pb2_grpc
from cxreval.api.oip import grpc_predict_v2_pb2 as oip
from cxreval.api.oip import grpc_predict_v2_pb2_grpc as oip_grpc
from cxreval.bundle import Ensemble, SubmittedFile, files_text
from cxreval.client._calls import ServiceClient, translated
from cxreval.client.models import Capabilities, ProfileInfo
from cxreval.errors import ModelOutputMismatch, ServiceUnavailable
from cxreval.model_interface import ModelInterface
from cxreval.wire import request_id
from cxreval.wire.channel import TlsFiles

K = TypeVar("K")
LOAD_SECONDS = 300.0
INFER_SECONDS = 120.0
"""Deadline of a request: longer than a service's time limit of a run (60 s by default), so that a
run that is too slow is reported as such."""


class InferenceClient(ServiceClient):
    """Client for the Open Inference Protocol; models are named by the sha256 of their file."""

    service = "inference service"

    def __init__(self, target: str, tls: TlsFiles | None = None) -> None:
        super().__init__(target, tls)
        self._stub: Any = oip_grpc.GRPCInferenceServiceStub(self._channel)
        self._capabilities: Any = capabilities_service_pb2_grpc.CapabilitiesServiceStub(
            self._channel
        )

    def capabilities(self) -> Capabilities:
        """Returns the service's profiles, limits, runtime and repeat tolerance.

        Raises:
            ServiceUnavailable: the service is of an earlier version and states no tolerance.
        """
        answer = self._call(
            self._capabilities.GetCapabilities, capabilities_service_pb2.GetCapabilitiesRequest()
        )
        if not answer.HasField("repeat_tolerance"):
            message = "the inference service states no repeat_tolerance; upgrade it"
            raise ServiceUnavailable(message, field="repeat_tolerance")
        return Capabilities(
            profiles=tuple(
                ProfileInfo(profile.name, profile.digest, tuple(profile.shape), profile.description)
                for profile in answer.profiles
            ),
            max_message_bytes=answer.max_message_bytes,
            max_image_bytes=answer.max_image_bytes,
            max_image_pixels=answer.max_image_pixels,
            max_model_bytes=answer.max_model_bytes,
            runtime=answer.runtime,
            repeat_tolerance=answer.repeat_tolerance,
            device=answer.device,
            threads=answer.threads,
            version=answer.version,
            python=answer.python,
            platform=answer.platform,
        )

    def ready(self, model: str) -> bool:
        """Returns whether the model is loaded."""
        return bool(self._call(self._stub.ModelReady, oip.ModelReadyRequest(name=model)).ready)

    def load(
        self,
        model: str,
        interface: ModelInterface,
        output_columns: int,
        owner: str = "",
        files: Sequence[SubmittedFile] = (),
        ensemble: Ensemble | None = None,
    ) -> None:
        """Loads a model for an interface; it must return `output_columns` probabilities per image.

        `owner` is whose model it is; the loads of one owner leave room for those of others. `files`
        are those of a model that is an archive, `ensemble` how several models of it become one.
        """
        parameters = {
            "owner": oip.ModelRepositoryParameter(string_param=owner),
            "interface": oip.ModelRepositoryParameter(string_param=interface.json),
            "output_columns": oip.ModelRepositoryParameter(int64_param=output_columns),
        }
        if files:
            parameters["files"] = oip.ModelRepositoryParameter(string_param=files_text(files))
        if ensemble:
            parameters["ensemble"] = oip.ModelRepositoryParameter(string_param=ensemble)
        request = oip.RepositoryModelLoadRequest(model_name=model, parameters=parameters)
        self._call(self._stub.RepositoryModelLoad, request, LOAD_SECONDS)

    def unload(self, model: str) -> None:
        """Unloads a model once its running requests have ended."""
        self._call(
            self._stub.RepositoryModelUnload,
            oip.RepositoryModelUnloadRequest(model_name=model),
            LOAD_SECONDS,
        )

    def predict(self, model: str, interface: ModelInterface, image: bytes) -> NDArray[np.float32]:
        """Returns the model's probabilities for one encoded image, float32 of shape (columns,)."""
        request = _request(model, interface.digest, image)
        return _row(self._call(self._stub.ModelInfer, request, INFER_SECONDS))

    def predict_many(
        self,
        model: str,
        interface: ModelInterface,
        images: Iterable[tuple[K, bytes]],
        in_flight: int = 32,
    ) -> Iterator[tuple[K, NDArray[np.float32]]]:
        """Yields the model's probabilities for each encoded image, in order.

        Up to `in_flight` requests are sent ahead. The keys are not sent to the service.

        Raises:
            ModelNotFound: the model is not loaded for `interface`; load it again.
        """
        waiting: deque[tuple[K, Any]] = deque()
        digest = interface.digest
        try:
            for key, image in images:
                waiting.append((key, self._send(model, digest, image)))
                if len(waiting) >= in_flight:
                    yield self._receive(*waiting.popleft())
            while waiting:
                yield self._receive(*waiting.popleft())
        finally:
            for _, future in waiting:
                future.cancel()

    def _send(self, model: str, interface: str, image: bytes) -> Any:
        request = _request(model, interface, image)
        return self._stub.ModelInfer.future(
            request, timeout=INFER_SECONDS, metadata=request_id.outgoing()
        )

    def _receive(self, key: K, future: Any) -> tuple[K, NDArray[np.float32]]:
        with translated(self._peer):
            return key, _row(future.result())


def _request(model: str, interface: str, image: bytes) -> oip.ModelInferRequest:
    tensor = oip.ModelInferRequest.InferInputTensor(name="image", datatype="BYTES", shape=[1])
    raw = len(image).to_bytes(4, "little") + image
    parameters = {"interface": oip.InferParameter(string_param=interface)}
    return oip.ModelInferRequest(
        model_name=model, parameters=parameters, inputs=[tensor], raw_input_contents=[raw]
    )


def _row(answer: oip.ModelInferResponse) -> NDArray[np.float32]:
    if (
        len(answer.outputs) != 1
        or answer.outputs[0].datatype != "FP32"
        or len(answer.raw_output_contents) != 1
    ):
        outputs, expected = (
            [(output.name, output.datatype) for output in answer.outputs],
            "one FP32",
        )
        message = f"the model returned outputs {outputs}; expected {expected}"
        raise ModelOutputMismatch(message, field="outputs", expected=expected)
    return np.frombuffer(answer.raw_output_contents[0], dtype="<f4").astype(np.float32, copy=False)
