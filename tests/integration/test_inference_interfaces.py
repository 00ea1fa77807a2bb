"""Models as people have them: layouts, types, several outputs, activations, images of any size."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import imagecodecs
import numpy as np
import onnx
import pytest

from cxreval.api.oip import grpc_predict_v2_pb2 as pb
from cxreval.client import InferenceClient
from cxreval.errors import (
    CxrevalError,
    ImageTooLarge,
    InvalidTensor,
    MalformedField,
    ModelNotFound,
)
from cxreval.imaging.decode import decode
from cxreval.imaging.preprocess import profile_of
from cxreval.model_interface import ModelInterface, preset, probabilities
from cxreval.preprocessing import (
    PRESETS,
    Activation,
    Crop,
    CropKind,
    Layout,
    Outputs,
    Preprocessing,
    Resize,
    ResizeTo,
    TensorType,
)
from cxreval.wire.status import from_rpc_error
from tests.support import odd_onnx, onnx_models
from tests.support.inference import (
    InferenceService,
    image_request,
    load_request,
    png,
    rows,
    stub,
    tensor_request,
)

STEPS = Preprocessing(
    resize=Resize(ResizeTo.SHORT_SIDE, (64,)), crop=Crop(CropKind.CENTER, (48, 64))
)
TEN = replace(STEPS, crop=Crop(CropKind.TEN, (48, 48)))
RAW = preset("raw")
FILES = [png(64 + 16 * index, 200 - 24 * index, channels=1 + index % 2 * 2) for index in range(6)]
PAIRS = Outputs(activation=Activation.SOFTMAX_POSITIVE)
SECONDS = 60.0


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InferenceService]:
    directory = tmp_path_factory.mktemp("inference")
    cache = ("--image-cache-dir", str(directory / "images"), "--image-cache-mib", "64")
    with InferenceService(directory, "--threads", "1", *cache) as running:
        yield running
        assert running.stop() == 0


@pytest.fixture(scope="module")
def client(service: InferenceService) -> Iterator[InferenceClient]:
    with InferenceClient(service.address) as connected:
        yield connected


@pytest.fixture(scope="module")
def oip(service: InferenceService) -> Iterator[Any]:
    with service.connect() as channel:
        yield stub(channel)


def stored(service: InferenceService, file: onnx.ModelProto) -> str:
    return onnx_models.store(service.models, file.SerializeToString())


def logits_of(
    kind: str, shape: str, axes: str, gives: str = "float[N,3] p", last: str = "p = Identity(y)"
) -> onnx.ModelProto:
    """Returns a model of three logits: 4 times the mean of an image, less 0, 2 and 4."""
    means = f"x = Cast <to = 1> (image) m = ReduceMean <axes = [{axes}], keepdims = 0> (x)"
    body = "s = Mul(m, four) t = Reshape(s, column) y = Sub(t, shifts)"
    weights = "float[1] four = {4}, int64[2] column = {-1, 1}, float[3] shifts = {0, 2, 4}"
    return odd_onnx.text(
        f"{body} {last}", takes=f"{kind}[{shape}] image", gives=gives, weights=weights, mean=means
    )


def expected_logits(steps: Preprocessing, file: bytes, scale: float = 1.0) -> np.ndarray:
    """Returns what `logits_of` returns for the crops of an image, in float64."""
    tensors = profile_of(steps).apply(decode(file)).astype(np.float64)
    means = tensors.mean(axis=(1, 2, 3)) * scale
    return 4 * means[:, np.newaxis] - np.array([0, 2, 4])


NCHW = ("float", "N,3,48,64", "1, 2, 3")
TWICE = {"gives": "float[N,6] p", "last": "z = Neg(y) c = Concat <axis = 1> (z, y) "
         "k = Constant <value = int64[3] {-1, 2, 3}> () r = Reshape(c, k) "
         "q = Transpose <perm = [0, 2, 1]> (r) "}  # fmt: skip
MODELS: dict[str, tuple[ModelInterface, onnx.ModelProto]] = {
    "sigmoid": (
        ModelInterface(STEPS, Outputs(activation=Activation.SIGMOID)), logits_of(*NCHW),
    ),
    "channels last": (
        ModelInterface(
            replace(STEPS, layout=Layout.NHWC), Outputs(activation=Activation.SIGMOID)
        ),
        logits_of("float", "N,48,64,3", "1, 2, 3"),
    ),
    "float16": (
        ModelInterface(
            replace(STEPS, dtype=TensorType.FLOAT16), Outputs(activation=Activation.SIGMOID)
        ),
        logits_of("float16", "N,3,48,64", "1, 2, 3", "float16[N,3] p", "p = Cast <to = 10> (y)"),
    ),
    "bytes, channels last, float64": (
        ModelInterface(
            replace(
                STEPS, dtype=TensorType.UINT8, value_range=(0.0, 255.0), layout=Layout.NHWC
            ),
            Outputs(activation=Activation.SIGMOID),
        ),
        logits_of("uint8", "N,48,64,3", "1, 2, 3", "double[N,3] p", "p = Cast <to = 11> (y)"),
    ),
    "pairs": (
        ModelInterface(STEPS, PAIRS),
        logits_of(*NCHW, "float[N,3,2] p", TWICE["last"] + "p = Identity(q)"),
    ),
    "flat pairs": (
        ModelInterface(STEPS, PAIRS),
        logits_of(
            *NCHW, "float[N,6] p",
            TWICE["last"] + "six = Constant <value = int64[2] {-1, 6}> () p = Reshape(q, six)",
        ),
    ),
    "one of two outputs, of four dimensions": (
        ModelInterface(STEPS, Outputs("p", Activation.SIGMOID)),
        logits_of(
            *NCHW, "float[N,3] y, float[N,3,1,1] p",
            "a = Constant <value = int64[2] {2, 3}> () p = Unsqueeze(y, a)",
        ),
    ),
    "ten crops, fixed batch": (
        ModelInterface(TEN, Outputs(activation=Activation.SIGMOID)),
        logits_of("float", "4,3,48,48", "1, 2, 3", "float[4,3] p"),
    ),
    "images as they are": (
        ModelInterface(RAW.preprocessing, Outputs(activation=Activation.SIGMOID)),
        logits_of("uint8", "N,1,H,W", "1, 2, 3"),
    ),
    "short side only": (
        ModelInterface(
            Preprocessing(channels=1, resize=Resize(ResizeTo.SHORT_SIDE, (40,))),
            Outputs(activation=Activation.SIGMOID),
        ),
        logits_of("float", "N,1,H,W", "1, 2, 3"),
    ),
}  # fmt: skip


def expected(interface: ModelInterface, file: bytes) -> np.ndarray:
    """Returns the probabilities of `logits_of`, the mean over the crops."""
    logits = expected_logits(interface.preprocessing, file)
    pairs = interface.outputs.activation is Activation.SOFTMAX_POSITIVE
    return np.asarray((1 / (1 + np.exp(-logits * (2 if pairs else 1)))).mean(axis=0))


@pytest.mark.parametrize("name", MODELS)
def test_a_model_gives_the_probabilities_of_its_interface(
    service: InferenceService, client: InferenceClient, name: str
) -> None:
    interface, file = MODELS[name]
    digest = stored(service, file)

    client.load(digest, interface, 3)
    answers = client.predict_many(digest, interface, enumerate(FILES))

    tolerance = 5e-3 if "float16" in name else 1e-4
    for index, row in answers:
        np.testing.assert_allclose(row, expected(interface, FILES[index]), atol=tolerance)


# --- images of any size ---------------------------------------------------------------------------


def test_images_of_different_sizes_may_come_in_one_request_and_to_several_models(
    service: InferenceService, client: InferenceClient, oip: Any
) -> None:
    interface, file = MODELS["images as they are"]
    fixed, other = MODELS["channels last"]
    first, second = stored(service, file), stored(service, other)
    client.load(first, interface, 3)
    client.load(second, fixed, 3)

    request = image_request(first, FILES)
    request.parameters["models"].string_param = second
    answer = oip.ModelInfer(request)

    for raw, meant in zip(answer.raw_output_contents, (interface, fixed), strict=True):
        np.testing.assert_allclose(
            np.frombuffer(raw, "<f4").reshape(-1, 3),
            np.stack([expected(meant, one) for one in FILES]),
            atol=1e-4,
        )


def test_many_requests_at_once_get_the_answers_of_their_own_images(
    service: InferenceService, client: InferenceClient, oip: Any
) -> None:
    interface, file = MODELS["images as they are"]
    digest = stored(service, file)
    client.load(digest, interface, 3)
    meant = [expected(interface, one) for one in FILES]
    started = threading.Barrier(8)

    def ask(number: int) -> None:
        started.wait(SECONDS)
        order = np.random.default_rng(number).permutation(len(FILES))
        answer = oip.ModelInfer(image_request(digest, [FILES[index] for index in order]))
        np.testing.assert_allclose(rows(answer), [meant[index] for index in order], atol=1e-4)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(8), timeout=SECONDS))


@pytest.mark.parametrize("faulty", [b"no image", b""])
def test_a_faulty_image_among_others_is_named_by_its_place(
    service: InferenceService, client: InferenceClient, oip: Any, faulty: bytes
) -> None:
    interface, file = MODELS["images as they are"]
    digest = stored(service, file)
    client.load(digest, interface, 3)

    error = error_of(oip, image_request(digest, [FILES[0], FILES[1], faulty, FILES[2]]))

    assert error.reason == "IMAGE_UNREADABLE"
    assert error.metadata["field"] == "inputs[0].contents[2]"


def test_an_image_that_becomes_too_large_a_tensor_is_refused_with_the_cure(
    service: InferenceService, client: InferenceClient, oip: Any
) -> None:
    steps = replace(RAW.preprocessing, channels=3)
    digest = stored(service, logits_of("uint8", "N,3,H,W", "1, 2, 3"))
    interface = ModelInterface(steps, Outputs(activation=Activation.SIGMOID))
    client.load(digest, interface, 3)
    large = bytes(imagecodecs.png_encode(np.zeros((4800, 4800), np.uint8), level=9))

    error = error_of(oip, image_request(digest, [FILES[0], large]))

    assert isinstance(error, ImageTooLarge)
    assert "makes 65 MiB of the image; expected at most 64 MiB: declare a resize" in error.message
    client.predict(digest, interface, FILES[0])  # the next image is answered


def test_tensors_of_any_size_are_taken_by_a_model_of_images_as_they_are(
    service: InferenceService, client: InferenceClient, oip: Any
) -> None:
    interface, file = MODELS["images as they are"]
    digest = stored(service, file)
    client.load(digest, interface, 3)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 1, 31, 57), np.uint8)
    request = tensor_request(digest, pixels, "image")
    request.inputs[0].datatype = "UINT8"

    answer = rows(oip.ModelInfer(request))

    logits = 4 * pixels.mean(axis=(1, 2, 3))[:, np.newaxis] - np.array([0, 2, 4])
    np.testing.assert_allclose(answer, 1 / (1 + np.exp(-logits)), atol=1e-4)
    for shape in ([2, 3, 31, 57], [2, 31, 57], [2, 1, 0, 57], [1, 1, 10**5, 10**5], [-2, 1, 3, 3]):
        del request.inputs[0].shape[:]
        request.inputs[0].shape.extend(shape)
        assert isinstance(error_of(oip, request), InvalidTensor)
    metadata = oip.ModelMetadata(pb.ModelMetadataRequest(name=digest))
    assert list(metadata.inputs[0].shape) == [-1, 1, -1, -1]


# --- requests -------------------------------------------------------------------------------------


def error_of(oip: Any, request: Any) -> CxrevalError:
    call = oip.RepositoryModelLoad if "Load" in type(request).__name__ else oip.ModelInfer
    with pytest.raises(grpc.RpcError) as raised:
        call(request, timeout=SECONDS)
    return from_rpc_error(raised.value)


def test_a_column_of_images_is_taken_like_a_list(
    service: InferenceService, client: InferenceClient, oip: Any
) -> None:
    interface, file = MODELS["sigmoid"]
    digest = stored(service, file)
    client.load(digest, interface, 3)
    request = image_request(digest, FILES)
    listed = rows(oip.ModelInfer(request))

    request.inputs[0].shape.append(1)

    np.testing.assert_array_equal(rows(oip.ModelInfer(request)), listed)
    for shape in ([6, 2], [6, 1, 1], [3, 1], [0, 1], [1, 6], []):
        del request.inputs[0].shape[:]
        request.inputs[0].shape.extend(shape)
        assert isinstance(error_of(oip, request), InvalidTensor)


def test_a_model_that_another_caller_loaded_otherwise_is_refused_until_it_is_loaded_again(
    service: InferenceService, client: InferenceClient
) -> None:
    logits = ModelInterface(STEPS)
    digest = stored(service, logits_of(*NCHW))
    sigmoid = ModelInterface(STEPS, Outputs(activation=Activation.SIGMOID))
    client.load(digest, logits, 3)
    raw_values = client.predict(digest, logits, FILES[0])

    client.load(digest, sigmoid, 3)

    with pytest.raises(ModelNotFound, match="load it for that interface first"):
        client.predict(digest, logits, FILES[0])
    np.testing.assert_allclose(
        client.predict(digest, sigmoid, FILES[0]),
        probabilities(raw_values[np.newaxis], Activation.SIGMOID)[0],
    )
    client.load(digest, logits, 3)
    np.testing.assert_array_equal(client.predict(digest, logits, FILES[0]), raw_values)


def test_the_name_of_a_preset_means_its_interface(
    service: InferenceService, client: InferenceClient, oip: Any
) -> None:
    digest = onnx_models.classifier(service.models)
    oip.RepositoryModelLoad(load_request(digest, "xrv-224"))
    answer = client.predict(digest, preset("xrv-224"), FILES[0])

    client.load(digest, preset("xrv-224"), onnx_models.COLUMNS)
    request = image_request(digest, FILES[:1])
    request.parameters["profile"].string_param = "xrv-224"

    np.testing.assert_array_equal(rows(oip.ModelInfer(request))[0], answer)
    request.parameters["profile"].string_param = "raw"
    assert isinstance(error_of(oip, request), ModelNotFound)


@pytest.mark.parametrize(
    ("interface", "field"),
    [
        ("", "parameters[interface]"),
        ("xrv-224", "parameters[interface]"),
        ("[" * 10_000, "parameters[interface]"),
        (" " * 100_000, "parameters[interface]"),
        ('{"preprocessing": {"channels": 7}}', "parameters[interface].preprocessing.channels"),
        (
            ModelInterface(replace(STEPS, mean=(0.5,))).json,
            "parameters[interface].preprocessing.mean",
        ),
        (
            ModelInterface(
                Preprocessing(
                    resize=Resize(ResizeTo.SHORT_SIDE, (2048,)), crop=Crop(CropKind.TEN, (2048,))
                )
            ).json,
            "parameters[interface].preprocessing.crop.size",
        ),
    ],
)
def test_an_interface_that_is_none_is_refused_with_its_field(
    service: InferenceService, oip: Any, interface: str, field: str
) -> None:
    request = load_request(onnx_models.classifier(service.models))
    request.parameters["interface"].string_param = interface

    assert error_of(oip, request).metadata["field"] == field


def test_an_interface_and_a_profile_exclude_each_other(service: InferenceService, oip: Any) -> None:
    request = load_request(onnx_models.classifier(service.models), "xrv-224")
    request.parameters["interface"].string_param = RAW.json

    error = error_of(oip, request)

    assert isinstance(error, MalformedField)
    assert "both interface and profile" in error.message


def test_every_preset_is_among_the_capabilities_with_its_digest(client: InferenceClient) -> None:
    stated = {profile.name: profile for profile in client.capabilities().profiles}

    assert {name: stated[name].digest for name in stated} == {
        name: steps.digest for name, steps in PRESETS.items()
    }
    assert stated["raw"].shape == (1, -1, -1)


def test_files_are_kept_apart_by_layout_and_type_in_the_image_cache(
    service: InferenceService, client: InferenceClient, tmp_path: Path
) -> None:
    for name in ("sigmoid", "channels last", "float16", "sigmoid"):
        interface, file = MODELS[name]
        digest = stored(service, file)
        client.load(digest, interface, 3)
        row = client.predict(digest, interface, FILES[0])
        np.testing.assert_allclose(row, expected(interface, FILES[0]), atol=5e-3)
