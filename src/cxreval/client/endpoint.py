"""Client of a submitter's server that speaks the Open Inference Protocol v2.

Such a server may be slow, limit the rate of requests, and be unavailable at times.
"""

from __future__ import annotations

import contextlib
import math
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
from cxreval.fields import printable, split_host_port
from cxreval.retry import TRANSIENT, Backoff, RetryPolicy
from cxreval.wire.limits import MAX_MESSAGE_BYTES
from cxreval.wire.status import CODES, DETAILS_KEY

K = TypeVar("K")

CALL_SECONDS = 60.0
"""Deadline of one request."""

IN_FLIGHT = 8
"""Maximum number of requests in flight."""

_TRANSIENT_CODES = frozenset(CODES[error] for error in TRANSIENT)
# gRPC libraries answer RESOURCE_EXHAUSTED with one of these texts to a message above their limit.
_TOO_LARGE = ("larger than max", "exceeds maximum size")
_MAX_PAUSE_SECONDS = 10.0
_MAX_RETRY_INFO_SECONDS = 60.0
_SHOWN_CHARACTERS = 200
_SHOWN_VERSIONS = 10


TENSOR_TYPES = {"FP32": "<f4", "FP16": "<f2", "UINT8": "|u1"}
"""Data types of tensors of images, with their bytes as NumPy names them."""

_OUTPUT_TYPES = {"FP32": "<f4", "FP16": "<f2", "FP64": "<f8"}
_CONTENTS = {"FP32": "fp32_contents", "FP64": "fp64_contents"}  # FP16 has raw contents only
_MOST_DIMENSIONS = 8


@dataclass(frozen=True, slots=True)
class ModelInput:
    """The input of a model: encoded images, or tensors of one of `TENSOR_TYPES`; `rank` is its
    number of dimensions."""

    name: str
    datatype: str
    rank: int

    @property
    def takes_images(self) -> bool:
        """Whether it takes encoded images."""
        return self.datatype == "BYTES"


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model's metadata; `platform` and `versions` are shortened and printable."""

    input: ModelInput
    platform: str
    versions: tuple[str, ...]


class EndpointClient:
    """Client of one model of one server. Use as a context manager.

    Args:
        address: the numeric address to connect to, such as `ipv4:192.0.2.1:443`.
        authority: the declared `host:port`; the certificate must be valid for its host.
        tls: whether to use TLS, with gRPC's root certificates or those in
            GRPC_DEFAULT_SSL_ROOTS_FILE_PATH.
        model: name of the model on that server.
        token: sent as `authorization: Bearer` if not empty; redacted in errors.
        requests_per_second: maximum request rate, retries included.
        retry_seconds: longest time without a response before the client gives up.
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
        retry_seconds: float,
    ) -> None:
        host, _ = split_host_port(authority)
        options: list[tuple[str, int | str]] = [
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            ("grpc.default_authority", authority),
            ("grpc.enable_retries", 0),  # retries count against the rate, so they are made here
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
        self._next_request = 0.0
        self._policy = RetryPolicy(
            max_pause=_MAX_PAUSE_SECONDS, deadline_seconds=retry_seconds, from_progress=True
        )
        self._backoff = Backoff(self._policy)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._channel.close()

    def describe(self, tensor: str = "") -> ModelInfo:
        """Returns the model's metadata, with the input `tensor`.

        Without a name, that is an input of encoded images, else the only input.

        Raises:
            EndpointUnavailable: the server did not respond in time.
            EndpointRefused: the server refused the request, or the model takes neither encoded
                images nor one tensor of images.
        """
        request = oip.ModelMetadataRequest(name=self._model)
        answer = self._result(
            self._stub.ModelMetadata, request, self._send(self._stub.ModelMetadata, request)
        )
        inputs = [
            ModelInput(one.name, one.datatype, len(one.shape))
            for one in answer.inputs
            if one.datatype in ("BYTES", *TENSOR_TYPES) and tensor in ("", one.name)
        ]
        inputs.sort(key=lambda one: not one.takes_images)
        if not inputs or (len(answer.inputs) > 1 and not (tensor or inputs[0].takes_images)):
            declared = ", ".join(f"{one.name} {one.datatype}" for one in answer.inputs)
            expected = (
                f"{f'an input {tensor!r}' if tensor else 'an input'} of BYTES for encoded images, "
                f"or one of {', '.join(TENSOR_TYPES)}; preprocessing.tensor names one of several"
            )
            raise EndpointRefused(
                f"the model takes {self._redacted(declared) or 'no input'}; expected {expected}",
                expected=expected,
            )
        return ModelInfo(
            inputs[0],
            self._redacted(answer.platform),
            tuple(map(self._redacted, answer.versions[:_SHOWN_VERSIONS])),
        )

    def predict_many(
        self,
        to: ModelInput,
        images: Iterable[tuple[K, bytes | NDArray[Any]]],
        in_flight: int = IN_FLIGHT,
        output: str = "",
    ) -> Iterator[tuple[K, NDArray[Any]]]:
        """Yields the model's output for each image, in order, floating point of shape (rows, ...).

        One request is sent per image: an encoded image, or a tensor of one or more rows. Up to
        `in_flight` requests are sent ahead. `output` is the name of the output, where there are
        several.

        Raises:
            EndpointUnavailable: the server did not respond for `retry_seconds`.
            EndpointRefused: the server refused a request permanently, or its output is not a
                tensor of float32, float16 or float64.
        """
        waiting: deque[tuple[K, Any, Any]] = deque()
        try:
            for key, image in images:
                request = _request(self._model, to, image)
                waiting.append((key, request, self._send(self._stub.ModelInfer, request)))
                if len(waiting) >= in_flight:
                    yield self._receive(output, *waiting.popleft())
            while waiting:
                yield self._receive(output, *waiting.popleft())
        finally:
            for _, _, future in waiting:
                future.cancel()

    def _receive(self, name: str, key: K, request: Any, future: Any) -> tuple[K, NDArray[Any]]:
        answer = self._result(self._stub.ModelInfer, request, future)
        named = [index for index, output in enumerate(answer.outputs) if name in ("", output.name)]
        if len(named) != 1 or answer.outputs[named[0]].datatype not in _OUTPUT_TYPES:
            outputs = str(
                [(output.name, output.datatype, list(output.shape)) for output in answer.outputs]
            )
            wanted = f"an output {name!r}" if name else "one output"
            raise EndpointRefused(
                f"the model returned {self._redacted(outputs)}; expected {wanted} of "
                f"{', '.join(_OUTPUT_TYPES)}; outputs.tensor names one of several"
            )
        return key, _output(answer, named[0])

    def _send(self, method: Any, request: Any) -> Any:
        """Sends a request as soon as the rate allows it; returns its future."""
        now = time.monotonic()
        wait = self._next_request - now
        self._next_request = max(now, self._next_request) + self._interval
        if wait > 0:
            time.sleep(wait)
        return method.future(request, timeout=CALL_SECONDS, metadata=self._metadata)

    def _result(self, method: Any, request: Any, future: Any) -> Any:
        """Returns the response; sends the request again after transient errors."""
        while True:
            try:
                answer = future.result()
            except grpc.RpcError as error:
                answered = self._described(error)
                if not _is_transient(error):
                    raise EndpointRefused(f"the server answered {answered}") from None
                seconds, delay = self._policy.deadline_seconds, _retry_seconds(error)
            else:
                self._backoff.progressed()
                return answer
            message = f"no response for {seconds:.0f} s; the last status was {answered}"
            self._backoff.wait(EndpointUnavailable(message), at_least=delay)
            future = self._send(method, request)

    def _described(self, error: Any) -> str:
        return f"{error.code().name}: {self._redacted(error.details() or '')}"

    def _redacted(self, text: str) -> str:
        """Returns the server's text shortened and printable, without the token if it repeats it."""
        text = text.replace(self._token, "***") if self._token else text
        return printable(text[:_SHOWN_CHARACTERS])


def _is_transient(error: Any) -> bool:
    too_large = any(text in (error.details() or "") for text in _TOO_LARGE)
    return error.code() in _TRANSIENT_CODES and not too_large


def _retry_seconds(error: Any) -> float:
    """Returns the delay in the status's RetryInfo, at most a minute; 0 without one."""
    details = dict(error.trailing_metadata() or ()).get(DETAILS_KEY)
    retry = error_details_pb2.RetryInfo()
    with contextlib.suppress(Exception):  # the server is not trusted to send valid details
        for detail in status_pb2.Status.FromString(details).details:
            if detail.Unpack(retry):
                seconds = float(retry.retry_delay.ToTimedelta().total_seconds())
                return min(max(seconds, 0.0), _MAX_RETRY_INFO_SECONDS)
    return 0.0


def _request(model: str, to: ModelInput, image: bytes | NDArray[Any]) -> oip.ModelInferRequest:
    if isinstance(image, bytes):
        shape: list[int] = [1] * max(to.rank, 1)
        raw = len(image).to_bytes(4, "little") + image
    else:
        shape = list(image.shape)
        raw = image.astype(TENSOR_TYPES[to.datatype], copy=False).tobytes()
    tensor = oip.ModelInferRequest.InferInputTensor(name=to.name, datatype=to.datatype, shape=shape)
    return oip.ModelInferRequest(model_name=model, inputs=[tensor], raw_input_contents=[raw])


def _output(answer: oip.ModelInferResponse, index: int) -> NDArray[Any]:
    """Returns an output in its shape."""
    output, shape = answer.outputs[index], tuple(answer.outputs[index].shape)
    dtype, raws = np.dtype(_OUTPUT_TYPES[output.datatype]), answer.raw_output_contents
    if raws:
        raw = raws[index] if index < len(raws) else b""
        values = np.frombuffer(raw[: len(raw) // dtype.itemsize * dtype.itemsize], dtype)
    else:
        field = _CONTENTS.get(output.datatype)
        values = np.array(getattr(output.contents, field) if field else (), dtype)
    small = 1 < len(shape) <= _MOST_DIMENSIONS and min(shape) > 0
    if not small or values.size != math.prod(shape):
        expected = "two or more dimensions, and as many values as the shape says"
        message = (
            f"the model returned {values.size} values for shape {list(shape[:8])}; "
            f"expected {expected}"
        )
        raise EndpointRefused(message, expected=expected)
    return values.reshape(shape)
