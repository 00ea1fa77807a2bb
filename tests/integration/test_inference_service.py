"""The inference service over gRPC: results under load, errors, and the models' life cycle."""

from __future__ import annotations

import itertools
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cxreval import build_info
from cxreval.api.inference.v1 import capabilities_service_pb2, capabilities_service_pb2_grpc
from cxreval.api.oip import grpc_predict_v2_pb2 as pb
from cxreval.client import InferenceClient
from cxreval.errors import CxrevalError, ServiceUnavailable
from cxreval.imaging.decode import MAX_IMAGE_PIXELS, decode
from cxreval.imaging.preprocess import PROFILES, profile_of
from cxreval.preprocessing import PRESETS
from cxreval.wire.status import from_rpc_error
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

IMAGES = random_images(3, seed=1)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InferenceService]:
    with InferenceService(
        tmp_path_factory.mktemp("inference"), "--max-queued-images", "512"
    ) as running:
        yield running
        assert running.stop() == 0


@pytest.fixture(scope="module")
def oip(service: InferenceService) -> Iterator[Any]:
    with service.connect() as channel:
        yield stub(channel)


@pytest.fixture(scope="module")
def model(service: InferenceService, oip: Any) -> str:
    """A loaded model that accepts images by the profile `xrv-224`."""
    digest = onnx_models.classifier(service.models)
    oip.RepositoryModelLoad(load_request(digest, "xrv-224", onnx_models.COLUMNS))
    return digest


def error_of(call: Callable[[], Any]) -> CxrevalError:
    with pytest.raises(grpc.RpcError) as raised:
        call()
    return from_rpc_error(raised.value)


# --- answers --------------------------------------------------------------------------------------


def test_tensor_request_is_answered_by_the_model(oip: Any, model: str) -> None:
    answer = oip.ModelInfer(tensor_request(model, IMAGES))

    assert (answer.model_name, answer.model_version) == (model, "1")
    assert (answer.outputs[0].name, answer.outputs[0].datatype) == ("probabilities", "FP32")
    np.testing.assert_allclose(
        rows(answer), onnx_models.expected(IMAGES), atol=onnx_models.TOLERANCE
    )


def test_typed_contents_are_answered_as_raw_ones(oip: Any, model: str) -> None:
    request = tensor_request(model, IMAGES[:1])
    request.inputs[0].contents.fp32_contents.extend(IMAGES[0].ravel().tolist())
    request.ClearField("raw_input_contents")
    images = image_request(model, [png()])
    images.inputs[0].contents.bytes_contents.append(png())
    images.ClearField("raw_input_contents")

    expected = rows(oip.ModelInfer(tensor_request(model, IMAGES[:1])))
    np.testing.assert_allclose(rows(oip.ModelInfer(request)), expected, atol=1e-5)
    expected = rows(oip.ModelInfer(image_request(model, [png()])))
    np.testing.assert_allclose(rows(oip.ModelInfer(images)), expected, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3, 4], ids=["gray", "rgb", "rgba"])
def test_encoded_image_is_preprocessed_by_the_models_profile(
    oip: Any, model: str, channels: int
) -> None:
    image = png(320, 256, channels)

    answer = rows(oip.ModelInfer(image_request(model, [image])))

    tensor = PROFILES["xrv-224"].apply(decode(image))
    np.testing.assert_allclose(answer, onnx_models.expected(tensor), atol=onnx_models.TOLERANCE)


def test_real_rgba_radiograph_is_accepted(oip: Any, model: str, shared: Path) -> None:
    files = sorted((shared / "nih-chestxray14" / "images").glob("*.png"))
    rgba = next(
        file for file in files if file.read_bytes()[25] == 6
    )  # color type of the PNG header

    answer = rows(oip.ModelInfer(image_request(model, [rgba.read_bytes(), files[0].read_bytes()])))

    tensors = np.concatenate(
        [PROFILES["xrv-224"].apply(decode(file.read_bytes())) for file in (rgba, files[0])]
    )
    np.testing.assert_allclose(answer, onnx_models.expected(tensors), atol=onnx_models.TOLERANCE)


def test_answers_do_not_depend_on_the_batch_they_travelled_in(
    service: InferenceService, oip: Any, model: str
) -> None:
    """Mixed sizes, tensors and images, unary calls and a stream, all concurrently."""
    slow = onnx_models.slow_classifier(service.models, layers=3)
    oip.RepositoryModelLoad(load_request(slow))
    tensors = random_images(60, seed=2)
    files = [png(seed=index) for index in range(20)]
    slow_alone, alone = (
        np.concatenate(
            [rows(oip.ModelInfer(tensor_request(digest, tensors[i : i + 1]))) for i in range(60)]
        )
        for digest in (slow, model)
    )
    files_alone = np.concatenate(
        [rows(oip.ModelInfer(image_request(model, [file]))) for file in files]
    )
    before = service.metrics()

    requests = [(tensor_request(slow, tensors[a:b]), slow_alone[a:b]) for a, b in _slices(60)]
    requests += [(tensor_request(model, tensors[a:b]), alone[a:b]) for a, b in _slices(60)]
    requests += [(image_request(model, files[a:b]), files_alone[a:b]) for a, b in _slices(20)]
    order = np.random.default_rng(0).permutation(len(requests))
    with ThreadPoolExecutor(1) as streaming:
        streamed = streaming.submit(
            lambda: list(oip.ModelStreamInfer(request for request, _ in requests))
        )
        futures = [
            (oip.ModelInfer.future(requests[index][0]), requests[index][1]) for index in order
        ]
        for future, expected in futures:
            np.testing.assert_allclose(rows(future.result(timeout=60)), expected, atol=1e-5)
        for answer, (_, expected) in zip(streamed.result(timeout=60), requests, strict=True):
            assert not answer.error_message
            np.testing.assert_allclose(rows(answer.infer_response), expected, atol=1e-5)

    figures = _increase(service, before)
    images = figures["cxreval_inference_batch_images_sum"]
    assert images == 2 * sum(len(expected) for _, expected in requests)
    assert images / figures["cxreval_inference_batch_images_count"] > 1.5, "batches formed"
    oip.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name=slow))


def _slices(total: int) -> list[tuple[int, int]]:
    """Slices of 1, 2, 3, 1, 5, 19, ... items, one of them larger than a batch."""
    bounds = np.minimum(np.cumsum([0, 1, 2, 3, 1, 5, 19, 1, 1, 17, 10, 60]), total)
    return [(int(a), int(b)) for a, b in itertools.pairwise(bounds) if a < b]


def _increase(service: InferenceService, before: dict[str, float]) -> dict[str, float]:
    return {name: value - before.get(name, 0.0) for name, value in service.metrics().items()}


def test_nan_outputs_are_reported_as_they_are(service: InferenceService, oip: Any) -> None:
    digest = onnx_models.nan_output(service.models)
    oip.RepositoryModelLoad(load_request(digest, "xrv-224"))

    assert np.isnan(rows(oip.ModelInfer(tensor_request(digest, IMAGES)))).all()


def test_model_of_fixed_batch_size_answers_requests_of_any_size(
    service: InferenceService, oip: Any
) -> None:
    digest = onnx_models.classifier(service.models, batch=1)
    oip.RepositoryModelLoad(load_request(digest))

    answer = rows(oip.ModelInfer(tensor_request(digest, IMAGES)))

    np.testing.assert_allclose(answer, onnx_models.expected(IMAGES), atol=onnx_models.TOLERANCE)


# --- bad requests ---------------------------------------------------------------------------------


def _png_header(width: int, height: int) -> bytes:
    """A PNG with a size in its header and no data."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0" * 1000)),
    ]
    body = b"".join(
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in [*chunks, (b"IEND", b"")]
    )
    return b"\x89PNG\r\n\x1a\n" + body


BAD_IMAGES = {
    "zero bytes": (b"", "IMAGE_UNREADABLE"),
    "truncated": (png()[:-40], "IMAGE_UNREADABLE"),
    "not an image": (b"GIF89a" + bytes(100), "IMAGE_UNREADABLE"),
    "lying header": (_png_header(500, 500), "IMAGE_UNREADABLE"),
    "30000 x 30000 bomb": (_png_header(30_000, 30_000), "IMAGE_TOO_LARGE"),
}


@pytest.mark.parametrize(("image", "reason"), BAD_IMAGES.values(), ids=BAD_IMAGES)
def test_bad_image_is_named_by_its_index_and_the_next_request_works(
    oip: Any, model: str, image: bytes, reason: str
) -> None:
    error = error_of(lambda: oip.ModelInfer(image_request(model, [png(), image, png()])))

    assert (error.reason, error.metadata["field"]) == (reason, "inputs[0].contents[1]")
    assert error.metadata["expected"]
    assert rows(oip.ModelInfer(image_request(model, [png()]))).shape == (1, onnx_models.COLUMNS)


def _two_inputs(request: pb.ModelInferRequest) -> None:
    request.inputs.append(request.inputs[0])


def _short_raw(request: pb.ModelInferRequest) -> None:
    request.raw_input_contents[0] = request.raw_input_contents[0][:-1]


def _few_values(request: pb.ModelInferRequest) -> None:
    request.ClearField("raw_input_contents")
    request.inputs[0].contents.fp32_contents.extend([1.0, 2.0])


def _both_contents(request: pb.ModelInferRequest) -> None:
    request.inputs[0].contents.fp32_contents.append(1.0)


def _input(**fields: Any) -> Callable[[pb.ModelInferRequest], None]:
    def change(request: pb.ModelInferRequest) -> None:
        for name, value in fields.items():
            request.inputs[0].ClearField(name)
            request.inputs[0].MergeFrom(pb.ModelInferRequest.InferInputTensor(**{name: value}))

    return change


BAD_TENSORS: dict[str, tuple[Callable[[pb.ModelInferRequest], Any], str]] = {
    "no input": (lambda request: request.ClearField("inputs"), "inputs"),
    "two inputs": (_two_inputs, "inputs"),
    "unknown name": (_input(name="pixels"), "inputs[0].name"),
    "wrong type": (_input(datatype="FP16"), "inputs[0].datatype"),
    "wrong size": (_input(shape=[3, 1, 224, 225]), "inputs[0].shape"),
    "wrong rank": (_input(shape=[3, 224, 224]), "inputs[0].shape"),
    "no images": (_input(shape=[0, 1, 224, 224]), "inputs[0].shape"),
    "negative count": (_input(shape=[-1, 1, 224, 224]), "inputs[0].shape"),
    "huge count": (_input(shape=[1 << 60, 1, 224, 224]), "raw_input_contents[0]"),
    "truncated contents": (_short_raw, "raw_input_contents[0]"),
    "too few typed values": (_few_values, "inputs[0].contents.fp32_contents"),
    "both contents": (_both_contents, "inputs[0].contents"),
    "unknown output": (lambda request: request.outputs.add(name="logits"), "outputs[0].name"),
    "two raw contents": (
        lambda request: request.raw_input_contents.append(b""),
        "raw_input_contents",
    ),
}


@pytest.mark.parametrize(("change", "field"), BAD_TENSORS.values(), ids=BAD_TENSORS)
def test_bad_tensor_is_named_and_the_next_request_works(
    oip: Any, model: str, change: Callable[[pb.ModelInferRequest], Any], field: str
) -> None:
    request = tensor_request(model, IMAGES)
    change(request)

    error = error_of(lambda: oip.ModelInfer(request))

    assert (error.reason, error.metadata["field"]) == ("INVALID_TENSOR", field)
    assert error.metadata["expected"]
    assert rows(oip.ModelInfer(tensor_request(model, IMAGES))).shape == (3, onnx_models.COLUMNS)


@pytest.mark.parametrize(
    ("raw", "shape", "field"),
    [
        (b"\x05\0\0\0abc", [1], "raw_input_contents[0]"),
        (b"\x05\0", [1], "raw_input_contents[0]"),
        (b"\xff\xff\xff\xffabc", [1], "raw_input_contents[0]"),
        (b"\x01\0\0\0a", [2], "raw_input_contents[0]"),
        (b"", [1], "raw_input_contents[0]"),
        (b"", [0], "inputs[0].shape"),
        (b"\x01\0\0\0a", [1, 2], "inputs[0].shape"),
    ],
)
def test_malformed_bytes_tensor_is_named(
    oip: Any, model: str, raw: bytes, shape: list[int], field: str
) -> None:
    request = image_request(model, [])
    request.raw_input_contents[0] = raw
    request.inputs[0].ClearField("shape")
    request.inputs[0].shape.extend(shape)

    error = error_of(lambda: oip.ModelInfer(request))

    assert (error.reason, error.metadata["field"]) == ("INVALID_TENSOR", field)


def test_unknown_parameter_of_a_request_is_refused_not_ignored(oip: Any, model: str) -> None:
    request = tensor_request(model, IMAGES)
    request.parameters["sequence_id"].int64_param = 1

    error = error_of(lambda: oip.ModelInfer(request))

    assert (error.reason, error.metadata["field"]) == ("MALFORMED_FIELD", "parameters[sequence_id]")


def test_unknown_model_and_version_are_not_found(oip: Any, model: str) -> None:
    unknown = error_of(lambda: oip.ModelInfer(tensor_request("f" * 64, IMAGES)))
    version = tensor_request(model, IMAGES)
    version.model_version = "2"

    assert (unknown.reason, unknown.metadata["field"]) == ("MODEL_NOT_FOUND", "model_name")
    assert error_of(lambda: oip.ModelInfer(version)).metadata["field"] == "model_version"
    assert (
        error_of(lambda: oip.ModelMetadata(pb.ModelMetadataRequest(name="x"))).reason
        == "MODEL_NOT_FOUND"
    )


def test_request_that_never_fits_the_queue_is_refused_with_the_limit(oip: Any, model: str) -> None:
    error = error_of(lambda: oip.ModelInfer(image_request(model, [b"x"] * 513)))

    assert (error.reason, error.metadata["expected"]) == ("INVALID_TENSOR", "at most 512 images")


# --- the life of a model --------------------------------------------------------------------------

BAD_MODELS: dict[str, tuple[Callable[[Path], str], str]] = {
    "not ONNX": (onnx_models.not_onnx, "MODEL_NOT_ONNX"),
    "external data": (onnx_models.external_data, "MODEL_EXTERNAL_DATA"),
    "custom operator": (onnx_models.custom_operator, "MODEL_UNSUPPORTED"),
    "wrong input": (
        lambda directory: onnx_models.classifier(directory, size=112),
        "MODEL_INPUT_MISMATCH",
    ),
    "wrong output": (onnx_models.image_output, "MODEL_OUTPUT_MISMATCH"),
    "wrong width": (
        lambda directory: onnx_models.classifier(directory, columns=13),
        "MODEL_OUTPUT_MISMATCH",
    ),
}


@pytest.mark.parametrize(("build", "reason"), BAD_MODELS.values(), ids=BAD_MODELS)
def test_bad_model_is_refused_listed_with_its_reason_and_harms_no_other(
    service: InferenceService, oip: Any, model: str, build: Callable[[Path], str], reason: str
) -> None:
    digest = build(service.models)

    error = error_of(
        lambda: oip.RepositoryModelLoad(load_request(digest, "xrv-224", onnx_models.COLUMNS))
    )

    assert error.reason == reason
    assert error.metadata["field"].startswith("model")
    listed = {item.name: item for item in oip.RepositoryIndex(pb.RepositoryIndexRequest()).models}
    assert (listed[digest].state, listed[digest].reason) == (
        "UNAVAILABLE",
        f"{reason}: {error.message}",
    )
    assert not oip.ModelReady(pb.ModelReadyRequest(name=digest)).ready
    assert rows(oip.ModelInfer(tensor_request(model, IMAGES))).shape == (3, onnx_models.COLUMNS)


def _parameter(key: str, **value: Any) -> Callable[[pb.RepositoryModelLoadRequest], None]:
    return lambda request: request.parameters[key].MergeFrom(pb.ModelRepositoryParameter(**value))


BAD_LOADS: dict[str, tuple[Callable[[pb.RepositoryModelLoadRequest], None], str, str]] = {
    "unknown profile": (
        _parameter("profile", string_param="xrv-9"),
        "UNKNOWN_PROFILE",
        "parameters[profile]",
    ),
    "profile not text": (
        _parameter("profile", int64_param=1),
        "MALFORMED_FIELD",
        "parameters[profile]",
    ),
    "no columns": (
        _parameter("output_columns", int64_param=0),
        "MALFORMED_FIELD",
        "parameters[output_columns]",
    ),
    "unknown parameter": (
        _parameter("config", string_param="{}"),
        "MALFORMED_FIELD",
        "parameters[config]",
    ),
    "path for a name": (
        lambda request: setattr(request, "model_name", "../../etc/passwd"),
        "MALFORMED_FIELD",
        "model_name",
    ),
    "repository": (
        lambda request: setattr(request, "repository_name", "hub"),
        "MALFORMED_FIELD",
        "repository_name",
    ),
    "nowhere to be had": (
        lambda request: setattr(request, "model_name", "0" * 64),
        "ARTIFACT_NOT_FOUND",
        "model_name",
    ),
}


@pytest.mark.parametrize(("change", "reason", "field"), BAD_LOADS.values(), ids=BAD_LOADS)
def test_bad_load_is_refused(
    oip: Any, change: Callable[[pb.RepositoryModelLoadRequest], None], reason: str, field: str
) -> None:
    request = load_request("a" * 64)
    change(request)

    error = error_of(lambda: oip.RepositoryModelLoad(request))

    assert (error.reason, error.metadata["field"]) == (reason, field)


def test_cached_file_with_other_bytes_is_not_loaded(service: InferenceService, oip: Any) -> None:
    digest = onnx_models.classifier(service.models, seed=50)
    whole = (service.models / f"{digest}.onnx").read_bytes()
    (service.models / f"{digest}.onnx").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))

    assert (
        error_of(lambda: oip.RepositoryModelLoad(load_request(digest))).reason
        == "ARTIFACT_NOT_FOUND"
    )


def test_loads_of_one_model_at_one_time_are_one_load_and_later_ones_none(
    service: InferenceService, oip: Any
) -> None:
    digest = onnx_models.classifier(service.models, seed=51)
    before = service.metrics()

    for future in [
        oip.RepositoryModelLoad.future(load_request(digest, "xrv-224")) for _ in range(8)
    ]:
        future.result(timeout=60)
    oip.RepositoryModelLoad(load_request(digest))

    loads = _increase(service, before)[
        'cxreval_inference_model_load_seconds_count{outcome="loaded"}'
    ]
    assert loads == 1
    oip.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name=digest))


def test_load_that_fails_leaves_the_model_that_was_ready(oip: Any, model: str) -> None:
    error = error_of(lambda: oip.RepositoryModelLoad(load_request(model, "imagenet-224")))

    assert error.reason == "MODEL_INPUT_MISMATCH"
    assert oip.ModelReady(pb.ModelReadyRequest(name=model)).ready
    assert rows(oip.ModelInfer(image_request(model, [png()]))).shape == (1, onnx_models.COLUMNS)


def test_image_for_a_model_without_a_profile_is_refused_until_it_is_loaded_with_one(
    service: InferenceService, oip: Any
) -> None:
    digest = onnx_models.classifier(service.models, seed=52)
    oip.RepositoryModelLoad(load_request(digest))

    assert (
        "without a profile"
        in error_of(lambda: oip.ModelInfer(image_request(digest, [png()]))).message
    )

    oip.RepositoryModelLoad(load_request(digest, "xrv-224"))
    assert rows(oip.ModelInfer(image_request(digest, [png()]))).shape == (1, onnx_models.COLUMNS)


def test_least_recently_used_model_makes_room(tmp_path: Path) -> None:
    with (
        InferenceService(tmp_path, "--max-loaded-models", "2") as service,
        service.connect() as channel,
    ):
        oip = stub(channel)
        first, second, third = (
            onnx_models.classifier(service.models, seed=seed) for seed in range(3)
        )
        for digest in (first, second):
            oip.RepositoryModelLoad(load_request(digest))
        oip.ModelInfer(tensor_request(first, IMAGES))
        oip.RepositoryModelLoad(load_request(third))

        ready = {
            item.name for item in oip.RepositoryIndex(pb.RepositoryIndexRequest(ready=True)).models
        }
        assert ready == {first, third}
        assert service.metrics()["cxreval_inference_models_loaded"] == 2
        assert (
            error_of(lambda: oip.ModelInfer(tensor_request(second, IMAGES))).reason
            == "MODEL_NOT_FOUND"
        )


def test_unload_completes_running_requests_and_refuses_later_ones(
    service: InferenceService, oip: Any
) -> None:
    digest = onnx_models.slow_classifier(service.models, layers=4)
    oip.RepositoryModelLoad(load_request(digest))
    running = oip.ModelInfer.future(tensor_request(digest, random_images(32)))
    _wait_for(lambda: service.metrics()["cxreval_inference_admitted_images"] == 32)

    oip.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name=digest))

    assert rows(running.result(timeout=60)).shape == (32, 8)
    assert (
        error_of(lambda: oip.ModelInfer(tensor_request(digest, IMAGES))).reason == "MODEL_NOT_FOUND"
    )
    unload = pb.RepositoryModelUnloadRequest(model_name=digest)
    assert error_of(lambda: oip.RepositoryModelUnload(unload)).reason == "MODEL_NOT_FOUND"


def _wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "condition did not come true"
        time.sleep(0.005)


# --- what the server says about itself ------------------------------------------------------------


def test_capabilities_name_profiles_limits_runtime_and_tolerance(service: InferenceService) -> None:
    with service.connect() as channel:
        ask: Any = capabilities_service_pb2_grpc.CapabilitiesServiceStub(channel)
        answer = ask.GetCapabilities(capabilities_service_pb2.GetCapabilitiesRequest())

    assert {item.name: (item.digest, tuple(item.shape)) for item in answer.profiles} == {
        name: (
            steps.digest,
            tuple(size or -1 for size in profile_of(steps).shape),
        )
        for name, steps in PRESETS.items()
    }
    assert answer.max_image_pixels == MAX_IMAGE_PIXELS
    assert answer.runtime.startswith("onnxruntime ")
    assert (answer.HasField("repeat_tolerance"), answer.repeat_tolerance) == (True, 0.0)
    assert (answer.device, answer.threads > 0) == ("cpu", True)
    stated = {"version": answer.version, "python": answer.python, "platform": answer.platform}
    assert stated == build_info()


def test_a_service_of_an_earlier_version_states_no_tolerance_and_is_asked_again_later() -> None:
    class Earlier(capabilities_service_pb2_grpc.CapabilitiesServiceServicer):
        def GetCapabilities(self, request: Any, context: Any) -> Any:
            return capabilities_service_pb2.GetCapabilitiesResponse(runtime="onnxruntime 1.32.0")

    server = grpc.server(ThreadPoolExecutor(1))
    capabilities_service_pb2_grpc.add_CapabilitiesServiceServicer_to_server(Earlier(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with (
            InferenceClient(f"127.0.0.1:{port}") as client,
            pytest.raises(ServiceUnavailable, match="upgrade it"),
        ):
            client.capabilities()
    finally:
        server.stop(0).wait(10)


def test_health_and_server_metadata_answer(service: InferenceService, oip: Any) -> None:
    with service.connect() as channel:
        check: Any = health_pb2_grpc.HealthStub(channel)
        for name in (
            "",
            "inference.GRPCInferenceService",
            "cxreval.api.inference.v1.CapabilitiesService",
        ):
            assert check.Check(health_pb2.HealthCheckRequest(service=name)).status == 1
    extensions = oip.ServerMetadata(pb.ServerMetadataRequest()).extensions
    assert extensions == ["model_repository", "model_configuration", "statistics"]


def test_health_follows_the_cache_that_models_are_loaded_from(tmp_path: Path) -> None:
    response = health_pb2.HealthCheckResponse
    with InferenceService(tmp_path) as service, service.connect() as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(
            health_pb2.HealthCheckRequest(), timeout=30
        )
        seen = [next(watch).status]
        service.models.rename(tmp_path / "away")
        seen.append(next(watch).status)
        (tmp_path / "away").rename(service.models)
        seen.append(next(watch).status)
        watch.cancel()
    assert seen == [response.SERVING, response.NOT_SERVING, response.SERVING]


def test_health_has_a_name_for_each_model_that_tells_the_truth(
    service: InferenceService, oip: Any
) -> None:
    digest = onnx_models.classifier(service.models, seed=41)
    with service.connect() as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        with pytest.raises(grpc.RpcError) as unknown:
            health.Check(health_pb2.HealthCheckRequest(service=digest))
        assert unknown.value.code() == grpc.StatusCode.NOT_FOUND
        watch = health.Watch(health_pb2.HealthCheckRequest(service=digest), timeout=20)
        seen = [next(watch).status]
        oip.RepositoryModelLoad(load_request(digest))
        assert health.Check(health_pb2.HealthCheckRequest(service=digest)).status == 1
        seen.append(next(watch).status)
        oip.RepositoryModelLoad(load_request(digest, "xrv-224"))  # reloads it for a profile
        assert health.Check(health_pb2.HealthCheckRequest(service=digest)).status == 1
        oip.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name=digest))
        seen.append(next(watch).status)
        watch.cancel()
    response = health_pb2.HealthCheckResponse
    assert seen == [response.SERVICE_UNKNOWN, response.SERVING, response.NOT_SERVING]


def test_config_reports_the_results_of_the_warm_up(
    service: InferenceService, oip: Any, model: str
) -> None:
    config = oip.ModelConfig(pb.ModelConfigRequest(name=model)).config
    tensor, *images = config.input

    assert (config.name, config.backend, config.platform) == (
        model,
        "onnxruntime",
        "onnxruntime_onnx",
    )
    assert (tensor.name, tensor.data_type, list(tensor.dims)) == (
        "image_tensor",
        pb.TYPE_FP32,
        [1, 224, 224],
    )
    assert [(one.name, one.data_type) for one in images] == [
        ("image", pb.TYPE_STRING),
        ("image_sha256", pb.TYPE_STRING),
    ]
    assert [list(one.dims) for one in config.output] == [[onnx_models.COLUMNS]]
    # A fast model is batched; on a CPU, a slow one would gain nothing.
    assert config.max_batch_size > 1
    slow = onnx_models.slow_classifier(service.models, layers=30, seed=5)
    oip.RepositoryModelLoad(load_request(slow))
    assert oip.ModelConfig(pb.ModelConfigRequest(name=slow)).config.max_batch_size <= 2
    oip.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name=slow))
    assert (
        error_of(lambda: oip.ModelConfig(pb.ModelConfigRequest(name=slow))).reason
        == "MODEL_NOT_FOUND"
    )


def test_statistics_count_what_a_model_did(service: InferenceService, oip: Any) -> None:
    digest = onnx_models.classifier(service.models, seed=42)
    oip.RepositoryModelLoad(load_request(digest, "xrv-224"))
    (before,) = oip.ModelStatistics(pb.ModelStatisticsRequest(name=digest, version="1")).model_stats
    for request in (
        tensor_request(digest, IMAGES),
        image_request(digest, [png()]),
        tensor_request(digest, IMAGES[:1]),
    ):
        oip.ModelInfer(request)
    oip.ModelInfer.future(tensor_request(digest, IMAGES * np.float32(2)), timeout=20).result(
        timeout=60
    )
    (after,) = oip.ModelStatistics(pb.ModelStatisticsRequest(name=digest)).model_stats
    every = {one.name for one in oip.ModelStatistics(pb.ModelStatisticsRequest()).model_stats}

    assert (before.inference_count, before.execution_count, before.last_inference) == (0, 0, 0)
    assert (after.inference_count, after.execution_count) == (8, 4)
    assert {runs.batch_size: runs.compute_infer.count for runs in after.batch_stats} == {1: 2, 3: 2}
    assert time.time() - after.last_inference / 1000 < 60
    spent = after.inference_stats
    parts = [spent.queue, spent.compute_input, spent.compute_infer, spent.compute_output]
    assert [part.count for part in (spent.success, *parts)] == [4] * 5
    assert spent.fail.count == 0
    assert 0 < sum(part.ns for part in parts) <= spent.success.ns
    assert digest in every
    missing = pb.ModelStatisticsRequest(name="f" * 64)
    assert error_of(lambda: oip.ModelStatistics(missing)).reason == "MODEL_NOT_FOUND"


def test_model_of_8_bit_pixels_takes_uint8(service: InferenceService, oip: Any) -> None:
    digest = onnx_models.uint8_classifier(service.models)
    oip.RepositoryModelLoad(load_request(digest))
    images = np.random.default_rng(3).integers(0, 256, (2, 1, 224, 224), np.uint8)
    request = tensor_request(digest, images)
    request.inputs[0].datatype = "UINT8"

    assert oip.ModelMetadata(pb.ModelMetadataRequest(name=digest)).inputs[0].datatype == "UINT8"
    want = onnx_models.expected(images.astype(np.float32))
    np.testing.assert_allclose(rows(oip.ModelInfer(request)), want, atol=onnx_models.TOLERANCE)
    typed = pb.ModelInferRequest(model_name=digest, inputs=request.inputs)
    typed.inputs[0].contents.uint_contents.extend(images.ravel().tolist())
    np.testing.assert_allclose(rows(oip.ModelInfer(typed)), want, atol=onnx_models.TOLERANCE)
    typed.inputs[0].contents.uint_contents[7] = 256
    assert (
        error_of(lambda: oip.ModelInfer(typed)).metadata["field"]
        == "inputs[0].contents.uint_contents"
    )
    request.inputs[0].datatype = "FP32"
    assert error_of(lambda: oip.ModelInfer(request)).metadata["expected"] == "UINT8"
    assert (
        error_of(lambda: oip.RepositoryModelLoad(load_request(digest, "xrv-224"))).reason
        == "MODEL_INPUT_MISMATCH"
    )


def test_one_command_serves_a_file_under_its_name(tmp_path: Path) -> None:
    digest = onnx_models.classifier(tmp_path, profile="xrv-224")
    file = (tmp_path / f"{digest}.onnx").rename(tmp_path / "chexnet.onnx")
    with InferenceService(tmp_path, "--model", str(file), "--model", f"again={file}") as service:
        with service.connect() as channel:
            oip, health = stub(channel), health_pb2_grpc.HealthStub(channel)
            answers = [
                rows(oip.ModelInfer(image_request(name, [png()])))
                for name in ("chexnet", "again", digest)
            ]
            assert oip.ModelInfer(image_request("chexnet", [png()])).model_name == "chexnet"
            for name in ("chexnet", digest):
                assert oip.ModelReady(pb.ModelReadyRequest(name=name)).ready
                assert health.Check(health_pb2.HealthCheckRequest(service=name)).status == 1
        assert service.stop() == 0
    np.testing.assert_array_equal(answers[0], answers[1])
    np.testing.assert_array_equal(answers[0], answers[2])


def test_models_make_room_by_the_size_of_their_files(tmp_path: Path) -> None:
    with (
        InferenceService(tmp_path, "--max-models-mib", "1") as service,
        service.connect() as channel,
    ):
        oip = stub(channel)
        digests = [
            onnx_models.classifier(service.models, seed=seed, columns=3000) for seed in (1, 2, 3)
        ]
        for digest in digests:  # 188 KiB each
            oip.RepositoryModelLoad(load_request(digest))
        large = onnx_models.classifier(service.models, seed=4, columns=9999)  # 625 KiB
        oip.RepositoryModelLoad(load_request(large))
        ready = [
            one.name for one in oip.RepositoryIndex(pb.RepositoryIndexRequest(ready=True)).models
        ]
    assert sorted(ready) == sorted([*digests[1:], large])


def test_metrics_hold_every_figure_of_the_service(
    service: InferenceService, oip: Any, model: str
) -> None:
    oip.ModelInfer(image_request(model, [png()]))
    figures = service.metrics()

    for name in (
        "batch_images_count",
        "queue_seconds_count",
        "preprocess_seconds_count",
        "models_loaded",
        'images_total{outcome="answered"}',
        'model_load_seconds_count{outcome="loaded"}',
    ):
        assert figures[f"cxreval_inference_{name}"] > 0, name
    assert figures["cxreval_inference_dropped_images_total"] == 0
    assert figures["cxreval_inference_admitted_images"] == 0


def test_endless_models_block_neither_other_loads_nor_the_end_of_the_process(
    tmp_path: Path,
) -> None:
    with (
        InferenceService(tmp_path, "--run-seconds", "0.5") as service,
        service.connect() as channel,
    ):
        oip = stub(channel)
        endless = [onnx_models.endless(service.models, seed=seed) for seed in range(3)]
        loads = [
            oip.RepositoryModelLoad.future(load_request(digest, "xrv-224")) for digest in endless
        ]
        oip.RepositoryModelLoad(load_request(onnx_models.classifier(service.models)), timeout=20)

        reasons = {error_of(partial(load.result, timeout=60)).reason for load in loads}
        assert reasons == {"MODEL_TOO_SLOW"}
        assert service.stop() == 0


def test_request_for_another_profile_than_the_model_is_loaded_for_is_refused(
    service: InferenceService, oip: Any
) -> None:
    digest = onnx_models.any_channels(service.models)
    oip.RepositoryModelLoad(load_request(digest, "xrv-224"))
    request = image_request(digest, [png()])
    request.parameters["profile"].string_param = "xrv-224"
    before = rows(oip.ModelInfer(request))

    oip.RepositoryModelLoad(load_request(digest, "imagenet-224"))  # by another client
    error = error_of(lambda: oip.ModelInfer(request))

    assert (error.reason, error.metadata["field"]) == ("MODEL_NOT_FOUND", "parameters[profile]")
    oip.RepositoryModelLoad(load_request(digest, "xrv-224"))
    np.testing.assert_array_equal(rows(oip.ModelInfer(request)), before)


def test_millions_of_empty_images_are_refused_unread(oip: Any, model: str) -> None:
    request = image_request(model, [png()])
    request.raw_input_contents[0] = bytes(40 << 20)

    few = error_of(lambda: oip.ModelInfer(request))
    request.inputs[0].shape[:] = [10 << 20]
    many = error_of(lambda: oip.ModelInfer(request))

    assert (few.metadata["field"], few.metadata["found"]) == (
        "raw_input_contents[0]",
        "more than 1 elements",
    )
    assert (many.metadata["field"], many.metadata["found"]) == (
        "inputs[0].shape",
        "10485760 images",
    )
