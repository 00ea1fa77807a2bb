"""What client libraries send by default is answered, and what would change an answer is refused.

The requests are those that `tests/support/standard_clients.py` sends with the real libraries, in
`make test-full`, as they arrive.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
import pytest

from cxreval.api.oip import grpc_predict_v2_pb2 as pb
from cxreval.errors import CxrevalError
from cxreval.imaging.decode import decode
from cxreval.imaging.preprocess import PROFILES
from cxreval.wire.status import from_rpc_error
from services.inference.parameters import HONOURED, IGNORED, REFUSED
from tests.support import onnx_models
from tests.support.inference import (
    InferenceService,
    load_request,
    png,
    random_images,
    rows,
    stub,
)

IMAGES = random_images(2, seed=4)
PNG = png()
TENSOR, IMAGE = IMAGES.tobytes(), len(PNG).to_bytes(4, "little") + PNG
OWN = {"name": "image_tensor", "datatype": "FP32", "shape": IMAGES.shape}
ENCODED = {"name": "image", "datatype": "BYTES", "shape": [1]}
OUTPUT = {"name": "probabilities"}

Parameters = Mapping[str, Mapping[str, object]]
FINAL: Parameters = {"triton_enable_empty_final_response": {"bool_param": True}}
BINARY: Parameters = {"binary_data": {"bool_param": True}}
NP: Parameters = {"content_type": {"string_param": "np"}}


def size(content: bytes) -> Parameters:
    return {"binary_data_size": {"int64_param": len(content)}}


def contents(**values: Any) -> dict[str, Any]:
    return {"contents": values}


REQUESTS: dict[str, dict[str, Any]] = {
    "Triton, tensor": {"inputs": [OWN], "raw_input_contents": [TENSOR], "outputs": [OUTPUT]},
    "Triton, image": {"inputs": [ENCODED], "raw_input_contents": [IMAGE]},
    "Triton's load generator": {
        "inputs": [OWN],
        "raw_input_contents": [TENSOR],
        "parameters": FINAL,
    },
    "KServe, tensor": {
        "inputs": [OWN | {"parameters": size(TENSOR)}],
        "raw_input_contents": [TENSOR],
        "outputs": [OUTPUT | {"parameters": BINARY}],
        "parameters": {"binary_data_output": {"bool_param": True}},
    },
    "KServe, tensor, not binary": {
        "inputs": [OWN | contents(fp32_contents=IMAGES.ravel().tolist())],
        "outputs": [OUTPUT | {"parameters": {"binary_data": {"bool_param": False}}}],
        "parameters": {"binary_data_output": {"bool_param": False}},
    },
    "KServe, image": {
        "inputs": [ENCODED | {"parameters": size(IMAGE)}],
        "raw_input_contents": [IMAGE],
    },
    "MLServer, tensor": {
        "inputs": [OWN | {"parameters": NP} | contents(fp32_contents=IMAGES.ravel().tolist())],
        "parameters": NP,
    },
    "MLServer, tensor, raw": {
        "inputs": [OWN | {"parameters": NP} | contents()],
        "raw_input_contents": [TENSOR],
        "parameters": NP,
    },
    "MLServer, image": {
        "inputs": [
            ENCODED
            | {"shape": [1, 1], "parameters": {"content_type": {"string_param": "base64"}}}
            | contents(bytes_contents=[base64.b64encode(PNG)])
        ],
        "parameters": NP,
    },
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InferenceService]:
    with InferenceService(tmp_path_factory.mktemp("inference"), "--threads", "1") as running:
        yield running


@pytest.fixture(scope="module")
def oip(service: InferenceService) -> Iterator[Any]:
    with service.connect() as channel:
        yield stub(channel)


@pytest.fixture(scope="module")
def model(service: InferenceService, oip: Any) -> str:
    digest = onnx_models.classifier(service.models)
    oip.RepositoryModelLoad(load_request(digest, "xrv-224"))
    return digest


def named_image(directory: Path, name: str, seed: int = 0) -> str:
    """Writes the classifier with another name of its own tensor."""
    file = onnx.load(directory / f"{onnx_models.classifier(directory, seed=seed)}.onnx")
    file.graph.input[0].name = file.graph.node[0].input[0] = name
    return onnx_models.store(directory, file.SerializeToString())


def error_of(call: Callable[[], Any]) -> CxrevalError:
    with pytest.raises(grpc.RpcError) as raised:
        call()
    return from_rpc_error(raised.value)


@pytest.mark.parametrize("name", REQUESTS)
def test_the_default_request_of_a_client_library_is_answered(
    oip: Any, model: str, name: str
) -> None:
    answer = oip.ModelInfer(pb.ModelInferRequest(model_name=model, **REQUESTS[name]))

    images = PROFILES["xrv-224"].apply(decode(PNG)) if "image" in name else IMAGES
    np.testing.assert_allclose(
        rows(answer), onnx_models.expected(images), atol=onnx_models.TOLERANCE
    )


def value(kind: str, number: int = 1) -> dict[str, Any]:
    return {kind: "np" if kind == "string_param" else bool(number) if "bool" in kind else number}


@pytest.mark.parametrize("place", ["request", "input", "output"])
def test_every_ignored_parameter_leaves_the_answer_as_it_is(
    oip: Any, model: str, place: str
) -> None:
    parts: dict[str, dict[str, Any]] = {"request": {}, "input": dict(OWN), "output": dict(OUTPUT)}
    parts[place]["parameters"] = {
        key: value(kind, len(TENSOR)) for key, kind in IGNORED[place].items()
    }
    request = pb.ModelInferRequest(
        model_name=model,
        inputs=[parts["input"]],
        outputs=[parts["output"]],
        raw_input_contents=[TENSOR],
        **parts["request"],
    )

    np.testing.assert_allclose(
        rows(oip.ModelInfer(request)), onnx_models.expected(IMAGES), atol=onnx_models.TOLERANCE
    )


@pytest.mark.parametrize("name", [*REFUSED, "binary_data_siz", "x" * 300])
@pytest.mark.parametrize("place", ["request", "input", "output"])
def test_a_parameter_that_would_change_the_answer_is_refused_by_name(
    oip: Any, model: str, place: str, name: str
) -> None:
    parts: dict[str, dict[str, Any]] = {"request": {}, "input": dict(OWN), "output": dict(OUTPUT)}
    parts[place]["parameters"] = {name: {"int64_param": 1}}
    request = pb.ModelInferRequest(
        model_name=model,
        inputs=[parts["input"]],
        outputs=[parts["output"]],
        raw_input_contents=[TENSOR],
        **parts["request"],
    )

    error = error_of(lambda: oip.ModelInfer(request))

    assert error.reason == "MALFORMED_FIELD"
    assert error.metadata["field"].endswith(f"parameters[{name[:80]}]")
    assert ("leave it out" in error.message) == (name in REFUSED)


@pytest.mark.parametrize(
    ("place", "parameters", "problem"),
    [
        ("input", {"binary_data_size": {"int64_param": len(TENSOR) + 1}}, "the size of its raw"),
        ("input", {"binary_data_size": {"int64_param": -1}}, "the size of its raw"),
        ("input", {"binary_data_size": {"string_param": "1"}}, "not a int64_param"),
        ("input", {"content_type": {"string_param": "pd"}}, "one of np, str, base64"),
        ("input", {"content_type": {"bool_param": True}}, "not a string_param"),
        ("output", {"content_type": {"string_param": "base64"}}, "one of np, or no"),
        ("output", {"binary_data": {"string_param": "no"}}, "not a bool_param"),
        ("request", {"content_type": {"string_param": "base64"}}, "one of np, str, or no"),
    ],
)
def test_a_hint_that_does_not_fit_is_refused_with_what_was_expected(
    oip: Any, model: str, place: str, parameters: Parameters, problem: str
) -> None:
    parts: dict[str, dict[str, Any]] = {"request": {}, "input": dict(OWN), "output": dict(OUTPUT)}
    parts[place]["parameters"] = parameters
    request = pb.ModelInferRequest(
        model_name=model,
        inputs=[parts["input"]],
        outputs=[parts["output"]],
        raw_input_contents=[TENSOR],
        **parts["request"],
    )

    error = error_of(lambda: oip.ModelInfer(request))

    assert error.reason == "MALFORMED_FIELD"
    assert problem in error.message


def test_a_size_of_bytes_that_are_not_raw_is_refused(oip: Any, model: str) -> None:
    tensor = OWN | {"parameters": size(TENSOR)} | contents(fp32_contents=IMAGES.ravel().tolist())
    request = pb.ModelInferRequest(model_name=model, inputs=[tensor])

    assert "expected no such parameter" in error_of(lambda: oip.ModelInfer(request)).message


def test_text_that_is_not_base64_is_refused(oip: Any, model: str) -> None:
    tensor = ENCODED | {"parameters": {"content_type": {"string_param": "base64"}}}
    request = pb.ModelInferRequest(model_name=model, inputs=[tensor], raw_input_contents=[IMAGE])

    error = error_of(lambda: oip.ModelInfer(request))

    assert (error.reason, "as content_type says" in error.message) == ("INVALID_TENSOR", True)


def test_honoured_and_ignored_parameters_are_different() -> None:
    for place, names in HONOURED.items():
        assert not {*IGNORED[place], *REFUSED} & {*names}


# --- encoded images and a model's own tensor ------------------------------------------------------


@pytest.mark.parametrize("name", ["image", "image_sha256", "image_bytes", "image_tensor"])
def test_no_two_inputs_have_one_name_and_each_is_answered_under_it(
    service: InferenceService, oip: Any, name: str
) -> None:
    model = named_image(service.models, name)
    oip.RepositoryModelLoad(load_request(model, "xrv-224"))

    own, encoded = oip.ModelMetadata(pb.ModelMetadataRequest(name=model)).inputs
    config = oip.ModelConfig(pb.ModelConfigRequest(name=model)).config

    names = [value.name for value in config.input]
    assert names[:2] == [own.name, encoded.name]
    assert (own.name, own.datatype, encoded.datatype) == (name, "FP32", "BYTES")
    assert len({*names}) == 3
    for tensor, content, images in (
        (OWN | {"name": own.name}, TENSOR, IMAGES),
        (ENCODED | {"name": encoded.name}, IMAGE, PROFILES["xrv-224"].apply(decode(PNG))),
        (ENCODED, IMAGE, PROFILES["xrv-224"].apply(decode(PNG))),
    ):
        request = pb.ModelInferRequest(
            model_name=model, inputs=[tensor], raw_input_contents=[content]
        )
        np.testing.assert_allclose(
            rows(oip.ModelInfer(request)), onnx_models.expected(images), atol=onnx_models.TOLERANCE
        )


@pytest.mark.parametrize("name", ["image", "image_tensor"])
def test_images_to_a_model_without_a_profile_are_refused_with_type_and_shape(
    service: InferenceService, oip: Any, name: str
) -> None:
    model = named_image(service.models, name, seed=1)
    oip.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name=model))
    request = pb.ModelInferRequest(model_name=model, inputs=[ENCODED], raw_input_contents=[IMAGE])

    error = error_of(lambda: oip.ModelInfer(request))

    assert (error.reason, error.metadata["field"]) == ("INVALID_TENSOR", "inputs[0].datatype")
    for words in (
        "BYTES of shape [1]",
        "without a profile of preprocessing",
        f"{name!r} of FP32 and shape [N, 1, 224, 224]",
        "--preprocessing",
    ):
        assert words in error.message


def test_a_file_is_served_for_the_preset_of_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / f"{named_image(tmp_path, 'image')}.onnx"
    flags = ("--threads", "1", "--model", f"mine={file}", "--preprocessing", "xrv-224")
    with InferenceService(tmp_path, *flags) as running, running.connect() as channel:
        request = pb.ModelInferRequest(
            model_name="mine", inputs=[ENCODED], raw_input_contents=[IMAGE]
        )
        answer = stub(channel).ModelInfer(request, timeout=60)

    expected = onnx_models.expected(PROFILES["xrv-224"].apply(decode(PNG)))
    np.testing.assert_allclose(rows(answer), expected, atol=onnx_models.TOLERANCE)
