"""Client of somebody else's server that speaks the Open Inference Protocol v2: slow, limited, and
away at times."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
import numpy as np
from google.rpc import error_details_pb2, status_pb2
from numpy.typing import NDArray

from cxreval.api.oip import grpc_predict_v2_pb2 as oip
from cxreval.api.oip import grpc_predict_v2_pb2_grpc as oip_grpc
from cxreval.errors import EndpointRefused, EndpointUnavailable
from cxreval.fields import printable
from cxreval.wire.limits import MAX_MESSAGE_BYTES
from cxreval.wire.status import DETAILS_KEY

K = TypeVar("K")

CALL_SECONDS = 60.0
"""Longest wait for one answer."""

IN_FLIGHT = 8
"""Most requests on their way at once."""

_PASSING = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
)
# How gRPC libraries call a message that is above their limit, by the status that also means "not
# now".
_TOO_LARGE = ("larger than max", "exceeds maximum size")
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.2, 10.0
_SHOWN_CHARACTERS = 200
_SHOWN_VERSIONS = 10


@dataclass(frozen=True, slots=True)
class ModelInput:
    """What a model takes: `takes_images`, encoded ones, or a float32 tensor; `rank` is its number
    of dimensions."""

    name: str
    takes_images: bool
    rank: int


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a server says about a model; `platform` and `versions` cut, and printable."""

    input: ModelInput
    platform: str
    versions: tuple[str, ...]


class EndpointClient:
    """Asks one model of one server. Use as a context manager.

    Args:
        address: the numeric address to connect to, such as `ipv4:192.0.2.1:443`.
        authority: `host:port` as it was declared; the certificate is held against its host.
        tls: whether to speak TLS, trusting gRPC's roots, or those in
            GRPC_DEFAULT_SSL_ROOTS_FILE_PATH.
        model: name of the model there.
        token: sent as `authorization: Bearer`, if not empty; no error repeats it.
        requests_per_second: most requests in a second, repeated ones included.
        patience_seconds: how long the server may fail without one answer between.
    """

    def __init__(
        self,
        address: str,
        authority: str,
        *,
        tls: bool,
        model: str,
        token: str,
        requests_per_second: float,
        patience_seconds: float,
    ) -> None:
        host = authority.rpartition(":")[0].strip("[]")
        options: list[tuple[str, int | str]] = [
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            ("grpc.default_authority", authority),
            ("grpc.enable_retries", 0),  # every request counts against the rate
            ("grpc.enable_http_proxy", 0),
            ("grpc.max_reconnect_backoff_ms", 2000),
        ]
        if tls:
            options.append(("grpc.ssl_target_name_override", host))
            self._channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(), options)
        else:
            self._channel = grpc.insecure_channel(address, options)
        self._stub: Any = oip_grpc.GRPCInferenceServiceStub(self._channel)
        self._model = model
        self._token = token
        self._metadata = [("authorization", f"Bearer {token}")] if token else []
        self._interval = 1 / requests_per_second
        self._patience_seconds = patience_seconds
        self._next_request = 0.0
        self._answered = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._channel.close()

    def describe(self) -> ModelInfo:
        """What the server says about the model.

        Raises:
            EndpointUnavailable: no answer came in time.
            EndpointRefused: it refused, or the model takes neither encoded images nor one float32
                tensor.
        """
        request = oip.ModelMetadataRequest(name=self._model)
        answer = self._result(
            self._stub.ModelMetadata, request, self._send(self._stub.ModelMetadata, request)
        )
        inputs = [
            ModelInput(tensor.name, tensor.datatype == "BYTES", len(tensor.shape))
            for tensor in answer.inputs
            if tensor.datatype in ("BYTES", "FP32")
        ]
        inputs.sort(key=lambda tensor: not tensor.takes_images)
        if not inputs or (len(answer.inputs) > 1 and not inputs[0].takes_images):
            found = (
                ", ".join(f"{tensor.name} {tensor.datatype}" for tensor in answer.inputs)
                or "no input"
            )
            expected = "an input of BYTES for encoded images, or one of FP32"
            raise EndpointRefused(
                f"the model takes {self._said(found)}; expected {expected}", expected=expected
            )
        return ModelInfo(
            inputs[0],
            self._said(answer.platform),
            tuple(map(self._said, answer.versions[:_SHOWN_VERSIONS])),
        )

    def predict_many(
        self, to: ModelInput, images: Iterable[tuple[K, bytes | NDArray[np.float32]]]
    ) -> Iterator[tuple[K, NDArray[np.float32]]]:
        """The model's output for each image, in order: one request an image, shape (rows, columns).

        Images are encoded, or tensors with one row or several.

        Raises:
            EndpointUnavailable: the server failed for `patience_seconds` without one answer.
            EndpointRefused: it refused a request for good, or its answer is no float32 tensor of
                two dimensions.
        """
        waiting: deque[tuple[K, Any, Any]] = deque()
        try:
            for key, image in images:
                request = _request(self._model, to, image)
                waiting.append((key, request, self._send(self._stub.ModelInfer, request)))
                if len(waiting) >= IN_FLIGHT:
                    yield self._receive(*waiting.popleft())
            while waiting:
                yield self._receive(*waiting.popleft())
        finally:
            for _, _, future in waiting:
                future.cancel()

    def _receive(self, key: K, request: Any, future: Any) -> tuple[K, NDArray[np.float32]]:
        answer = self._result(self._stub.ModelInfer, request, future)
        if (
            len(answer.outputs) != 1
            or answer.outputs[0].datatype != "FP32"
            or len(answer.outputs[0].shape) != 2
        ):
            found = str(
                [(output.name, output.datatype, list(output.shape)) for output in answer.outputs]
            )
            raise EndpointRefused(
                f"the model gave {self._said(found)}; expected one output of FP32 with 2 dimensions"
            )
        return key, _output(answer)

    def _send(self, method: Any, request: Any) -> Any:
        """Sends a request as soon as the rate allows it."""
        now = time.monotonic()
        wait = self._next_request - now
        self._next_request = max(now, self._next_request) + self._interval
        if wait > 0:
            time.sleep(wait)
        return method.future(request, timeout=CALL_SECONDS, metadata=self._metadata)

    def _result(self, method: Any, request: Any, future: Any) -> Any:
        """The answer, after as many tries as patience allows."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                answer = future.result()
            except grpc.RpcError as error:
                if error.code() not in _PASSING or any(
                    words in (error.details() or "") for words in _TOO_LARGE
                ):
                    raise EndpointRefused(f"the server answered {self._shown(error)}") from None
                wait = max(pause, _retry_seconds(error))
                if time.monotonic() + wait > self._answered + self._patience_seconds:
                    message = f"no answer for {self._patience_seconds:.0f} s; the last was {self._shown(error)}"
                    raise EndpointUnavailable(message) from None
            else:
                self._answered = time.monotonic()
                return answer
            time.sleep(wait)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            future = self._send(method, request)

    def _shown(self, error: Any) -> str:
        return f"{error.code().name}: {self._said(error.details() or '')}"

    def _said(self, text: str) -> str:
        """What the server says as it may be shown and kept; it may have repeated the token."""
        text = text.replace(self._token, "***") if self._token else text
        return printable(text[:_SHOWN_CHARACTERS])


def _retry_seconds(error: Any) -> float:
    """How long the server asks to wait, at most a minute."""
    details = dict(error.trailing_metadata() or ()).get(DETAILS_KEY)
    retry = error_details_pb2.RetryInfo()
    with contextlib.suppress(Exception):  # whatever a stranger sends there
        for detail in status_pb2.Status.FromString(details).details:
            if detail.Unpack(retry):
                return float(min(max(retry.retry_delay.ToTimedelta().total_seconds(), 0.0), 60.0))
    return 0.0


def _request(
    model: str, to: ModelInput, image: bytes | NDArray[np.float32]
) -> oip.ModelInferRequest:
    if isinstance(image, bytes):
        shape: list[int] = [1] * max(to.rank, 1)
        raw = len(image).to_bytes(4, "little") + image
    else:
        shape, raw = list(image.shape), image.astype("<f4", copy=False).tobytes()
    datatype = "BYTES" if isinstance(image, bytes) else "FP32"
    tensor = oip.ModelInferRequest.InferInputTensor(name=to.name, datatype=datatype, shape=shape)
    return oip.ModelInferRequest(model_name=model, inputs=[tensor], raw_input_contents=[raw])


def _output(answer: oip.ModelInferResponse) -> NDArray[np.float32]:
    """The one float32 output as (rows, columns)."""
    output = answer.outputs[0]
    if answer.raw_output_contents:
        raw = answer.raw_output_contents[0]
        values = np.frombuffer(raw[: len(raw) // 4 * 4], "<f4").astype(np.float32)
    else:
        values = np.array(output.contents.fp32_contents, np.float32)
    rows, columns = output.shape
    if rows < 1 or columns < 1 or values.size != rows * columns:
        message = f"the model gave {values.size} values for shape {list(output.shape)}"
        raise EndpointRefused(message, expected="as many values as its shape says")
    return values.reshape(rows, columns)
