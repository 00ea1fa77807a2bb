"""Any bytes give an image, a row or a named error, and the next request is answered correctly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from typing import Any

import grpc
import imagecodecs
import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import uid

from cxreval.api.oip import grpc_predict_v2_pb2 as pb
from cxreval.errors import CxrevalError
from cxreval.imaging.decode import decode
from tests.extended.mutations import mutated
from tests.support import onnx_models
from tests.support.inference import (
    InferenceService,
    image_request,
    load_request,
    png,
    random_images,
    rows,
    stub,
    tensor_request,
)
from tests.unit.test_dicom import GRAY8, GRAY12, dicom

pytestmark = pytest.mark.timeout(600)

RGB = np.stack([GRAY8, GRAY8[::-1], GRAY8], axis=2)
RGBA = np.dstack([RGB, np.full_like(GRAY8, 255)])
IMAGES = [
    *(bytes(imagecodecs.png_encode(pixels)) for pixels in (GRAY8, GRAY12, RGB, RGBA)),
    *(bytes(imagecodecs.jpeg8_encode(pixels)) for pixels in (GRAY8, RGB)),
    dicom(GRAY12, stored=12),
    dicom(GRAY8, syntax=uid.JPEGBaseline8Bit, code=bytes(imagecodecs.jpeg8_encode(GRAY8))),
    dicom(
        GRAY8,
        syntax=uid.JPEG2000Lossless,
        code=bytes(imagecodecs.jpeg2k_encode(GRAY8, codecformat="j2k")),
    ),
]
MAX_PIXELS = 1 << 16
INFER = "/inference.GRPCInferenceService/ModelInfer"
REFUSALS = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}

many = settings(max_examples=5000, deadline=None, suppress_health_check=list(HealthCheck))


@many
@given(content=mutated(IMAGES))
def test_decoder_gives_a_picture_within_the_limit_or_a_named_refusal(content: bytes) -> None:
    refusal, pixels = None, None
    try:
        pixels = decode(content, max_pixels=MAX_PIXELS)
    except CxrevalError as error:
        refusal = error
    if pixels is None:
        assert refusal is not None
        assert refusal.metadata["field"]
    else:
        assert pixels.dtype in (np.uint8, np.uint16, np.float32)
        assert 0 < pixels.shape[0] * pixels.shape[1] <= MAX_PIXELS


@dataclass(frozen=True)
class Served:
    """The service with one model, and the expected response to a valid request."""

    channel: grpc.Channel
    good: pb.ModelInferRequest
    images: pb.ModelInferRequest
    answer: np.ndarray

    def check_answer_to(self, content: bytes, allowed: Set[grpc.StatusCode] = REFUSALS) -> None:
        """Sends a request's bytes; expects a response or an allowed error.

        The next valid request must be answered correctly.
        """
        call = self.channel.unary_unary(INFER).future(content, timeout=30)
        if call.exception() is None:
            return
        assert call.code() in allowed, (call.code(), call.details())
        np.testing.assert_allclose(
            rows(stub(self.channel).ModelInfer(self.good)), self.answer, atol=1e-5
        )


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with (
        InferenceService(tmp_path_factory.mktemp("fuzz"), "--threads", "1") as service,
        service.connect() as channel,
    ):
        digest = onnx_models.classifier(service.models)
        stub(channel).RepositoryModelLoad(load_request(digest, "xrv-224"))
        good = tensor_request(digest, random_images(1))
        answer = rows(stub(channel).ModelInfer(good))
        yield Served(channel, good, image_request(digest, [png(), png(seed=1)]), answer)


Change = Callable[[pb.ModelInferRequest], None]
INTEGERS = st.sampled_from([0, 1, 2, 14, 224, -1, 2**31, 2**63 - 1, -(2**63)]) | st.integers(
    -(2**63), 2**63 - 1
)
WORDS = [
    "",
    "image",
    "image_sha256",
    "image_tensor",
    "probabilities",
    "FP32",
    "BYTES",
    "UINT8",
    "1",
]
TEXTS = st.sampled_from(WORDS) | st.text(max_size=8)
PARAMETERS = (
    st.sampled_from(["models", "timeout", "priority", "binary_data", "profile", "classification"])
    | TEXTS
)


def _shape(values: list[int]) -> Change:
    def change(request: pb.ModelInferRequest) -> None:
        for tensor in request.inputs:
            tensor.shape[:] = values

    return change


def _field(name: str, value: str) -> Change:
    def change(request: pb.ModelInferRequest) -> None:
        for tensor in request.inputs:
            setattr(tensor, name, value)

    return change


def _top(name: str, value: str) -> Change:
    return lambda request: setattr(request, name, value)


def _parameter(name: str, kind: str, value: Any) -> Change:
    return lambda request: setattr(request.parameters[name], kind, value)


def _raw(cut: int, more: bytes, times: int) -> Change:
    def change(request: pb.ModelInferRequest) -> None:
        content = (
            request.raw_input_contents[0][: -cut or None] if request.raw_input_contents else b""
        )
        request.raw_input_contents[:] = [content + more] * times

    return change


def _length(value: int) -> Change:
    """Raw contents whose first element claims to have this length."""

    def change(request: pb.ModelInferRequest) -> None:
        if request.raw_input_contents:
            request.raw_input_contents[0] = (
                value.to_bytes(4, "little") + request.raw_input_contents[0][4:]
            )

    return change


def _contents(kind: str, values: list[Any]) -> Change:
    def change(request: pb.ModelInferRequest) -> None:
        del request.raw_input_contents[:]
        for tensor in request.inputs:
            getattr(tensor.contents, kind).extend(values)

    return change


def _twice(request: pb.ModelInferRequest) -> None:
    request.inputs.extend(list(request.inputs))  # a copy: extend() would not end on itself


def _output(name: str) -> Change:
    return lambda request: request.outputs.add(name=name) and None


CHANGES = st.one_of(
    st.builds(_shape, st.lists(INTEGERS, max_size=6)),
    st.builds(_field, st.sampled_from(["name", "datatype"]), TEXTS),
    st.builds(_top, st.sampled_from(["model_name", "model_version", "id"]), TEXTS),
    st.builds(_parameter, PARAMETERS, st.just("string_param"), TEXTS),
    st.builds(_parameter, PARAMETERS, st.just("int64_param"), INTEGERS),
    st.builds(_parameter, PARAMETERS, st.just("bool_param"), st.booleans()),
    st.builds(_raw, st.integers(0, 300_000), st.binary(max_size=8), st.integers(0, 3)),
    st.builds(_length, st.integers(0, 2**32 - 1)),
    st.builds(_contents, st.just("fp32_contents"), st.lists(st.floats(width=32), max_size=4)),
    st.builds(_contents, st.just("bytes_contents"), st.lists(st.binary(max_size=8), max_size=4)),
    st.builds(_contents, st.just("int64_contents"), st.lists(INTEGERS, max_size=4)),
    st.builds(_output, TEXTS),
    st.just(_twice),
)


@many
@given(changes=st.lists(CHANGES, min_size=1, max_size=4), of_images=st.booleans())
def test_a_changed_request_gets_an_answer_or_a_named_refusal(
    served: Served, changes: list[Change], of_images: bool
) -> None:
    request = pb.ModelInferRequest()
    request.CopyFrom(served.images if of_images else served.good)
    for change in changes:
        change(request)
    served.check_answer_to(request.SerializeToString())


@many
@given(data=st.data())
def test_changed_bytes_of_a_request_get_an_answer_or_a_named_refusal(
    served: Served, data: st.DataObject
) -> None:
    content = data.draw(mutated([served.images.SerializeToString()]))
    # Bytes that are not a message are refused by gRPC itself.
    served.check_answer_to(
        content, allowed=REFUSALS if _parses(content) else REFUSALS | {grpc.StatusCode.INTERNAL}
    )


def _parses(content: bytes) -> bool:
    try:
        pb.ModelInferRequest.FromString(content)
    except DecodeError:
        return False
    return True
