"""Encoded images in inference: the decoded cache, digests, several models, ten crops."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from cxreval.api.oip import grpc_predict_v2_pb2 as pb
from cxreval.errors import CxrevalError
from cxreval.imaging.decode import decode
from cxreval.imaging.preprocess import PROFILES
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
from tests.unit.test_dicom import GRAY12, dicom

FILES = [png(64 + 8 * index, 80, seed=index) for index in range(8)]


def start(directory: Path, images: Path) -> InferenceService:
    return InferenceService(directory, "--image-cache-dir", str(images), "--image-cache-mib", "64")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache") / "images"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, images: Path) -> Iterator[InferenceService]:
    with start(tmp_path_factory.mktemp("inference"), images) as running:
        yield running
        assert running.stop() == 0


@pytest.fixture(scope="module")
def oip(service: InferenceService) -> Iterator[Any]:
    with service.connect() as channel:
        yield stub(channel)


@pytest.fixture(scope="module")
def model(service: InferenceService, oip: Any) -> str:
    return load(service, oip, seed=0)


@pytest.fixture(scope="module")
def second(service: InferenceService, oip: Any) -> str:
    return load(service, oip, seed=1)


@pytest.fixture(scope="module")
def color(service: InferenceService, oip: Any) -> str:
    """A model with three channels and ten crops."""
    return load(service, oip, "imagenet-224-tencrop", channels=3, scale=200.0)


def load(service: InferenceService, oip: Any, profile: str = "xrv-224", **model: Any) -> str:
    digest = onnx_models.classifier(service.models, **model)
    oip.RepositoryModelLoad(load_request(digest, profile))
    return digest


def error_of(call: Callable[[], Any]) -> CxrevalError:
    with pytest.raises(grpc.RpcError) as raised:
        call()
    return from_rpc_error(raised.value)


def digest_request(model: str, digests: Sequence[str]) -> pb.ModelInferRequest:
    request = image_request(model, [digest.encode() for digest in digests])
    request.inputs[0].name = "image_sha256"
    return request


def for_models(request: pb.ModelInferRequest, *models: str) -> pb.ModelInferRequest:
    request.parameters["models"].string_param = ",".join(models)
    return request


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def lookups(service: InferenceService) -> tuple[float, float]:
    """Numbers of cache hits and misses so far."""
    figures = service.metrics()
    hit, miss = (
        f'cxreval_inference_cached_images_total{{outcome="{outcome}"}}'
        for outcome in ("hit", "miss")
    )
    return figures.get(hit, 0.0), figures.get(miss, 0.0)


# --- decoded once ---------------------------------------------------------------------------------


def test_second_model_over_the_same_images_decodes_none(
    service: InferenceService, oip: Any, model: str, second: str
) -> None:
    first = rows(oip.ModelInfer(image_request(model, FILES)))
    hits, misses = lookups(service)
    again = rows(oip.ModelInfer(image_request(model, FILES)))
    other = rows(oip.ModelInfer(image_request(second, FILES)))

    assert lookups(service) == (hits + 2 * len(FILES), misses)
    np.testing.assert_allclose(again, first, rtol=0, atol=1e-6)
    tensors = np.concatenate([PROFILES["xrv-224"].apply(decode(file)) for file in FILES])
    np.testing.assert_allclose(first, onnx_models.expected(tensors), atol=onnx_models.TOLERANCE)
    np.testing.assert_allclose(
        other, onnx_models.expected(tensors, seed=1), atol=onnx_models.TOLERANCE
    )


def test_another_process_finds_what_this_one_decoded_also_after_kill_9(
    service: InferenceService, oip: Any, model: str, images: Path, tmp_path: Path
) -> None:
    expected = rows(oip.ModelInfer(image_request(model, FILES)))
    shutil.copytree(service.models, tmp_path / "models")
    with start(tmp_path, images) as other:
        for _ in range(2):
            with other.connect() as channel:
                there = stub(channel)
                there.RepositoryModelLoad(load_request(model, "xrv-224"))
                np.testing.assert_allclose(
                    rows(there.ModelInfer(image_request(model, FILES))), expected, atol=1e-6
                )
            assert lookups(other) == (len(FILES), 0)
            other.kill()
            other.start()


def test_cache_that_is_taken_away_makes_no_request_fail(
    service: InferenceService, tmp_path: Path
) -> None:
    shutil.copytree(service.models, tmp_path / "models")
    with start(tmp_path, tmp_path / "images") as other, other.connect() as channel:
        there = stub(channel)
        model = onnx_models.classifier(other.models)
        there.RepositoryModelLoad(load_request(model, "xrv-224"))
        shutil.rmtree(tmp_path / "images")
        (tmp_path / "images").write_bytes(b"no directory")
        for _ in range(2):
            assert rows(there.ModelInfer(image_request(model, FILES))).shape == (
                len(FILES),
                onnx_models.COLUMNS,
            )
        assert other.log.read_text().count("cache of preprocessed images does not work") == 1


# --- named by digest ------------------------------------------------------------------------------


def test_image_that_was_sent_before_may_be_named_by_its_digest(
    oip: Any, model: str, second: str
) -> None:
    oip.ModelInfer(image_request(model, FILES))
    by_bytes = rows(oip.ModelInfer(image_request(second, FILES)))
    by_digest = rows(oip.ModelInfer(digest_request(second, [sha256(file) for file in FILES])))
    np.testing.assert_allclose(by_digest, by_bytes, rtol=0, atol=1e-6)


def test_digest_of_an_image_that_was_never_sent_is_not_found(oip: Any, model: str) -> None:
    oip.ModelInfer(image_request(model, FILES))
    unknown = sha256(b"never sent")
    error = error_of(lambda: oip.ModelInfer(digest_request(model, [sha256(FILES[0]), unknown])))
    assert (error.reason, error.metadata["field"]) == ("IMAGE_NOT_CACHED", "inputs[0].contents[1]")
    assert (error.metadata["image"], error.metadata["profile"]) == (unknown, "xrv-224")


@pytest.mark.parametrize(
    "digest", ["", "f" * 63, "F" * 64, "../" * 21 + "a", "f" * 65, "\x00" * 64]
)
def test_digest_of_another_form_is_refused(oip: Any, model: str, digest: str) -> None:
    error = error_of(lambda: oip.ModelInfer(digest_request(model, ["0" * 64, digest])))
    assert (error.reason, error.metadata["field"]) == ("INVALID_TENSOR", "inputs[0].contents[1]")


# --- several models -------------------------------------------------------------------------------


def test_request_for_several_models_decodes_once_and_answers_for_each(
    service: InferenceService, oip: Any, model: str, second: str, color: str
) -> None:
    files = [png(96, 88, seed=index) for index in range(100, 105)]
    _, misses = lookups(service)
    decoded = service.metrics()["cxreval_inference_preprocess_seconds_count"]

    answer = oip.ModelInfer(for_models(image_request(model, files), second, color))

    assert service.metrics()["cxreval_inference_preprocess_seconds_count"] - decoded == len(files)
    assert lookups(service)[1] - misses == 2 * len(files)  # for each of two profiles
    assert answer.model_name == model
    names = ["probabilities", f"{second}:probabilities", f"{color}:probabilities"]
    assert [output.name for output in answer.outputs] == names
    for index, name in enumerate((model, second, color)):
        alone = rows(oip.ModelInfer(image_request(name, files)))
        found = np.frombuffer(answer.raw_output_contents[index], "<f4").reshape(
            tuple(answer.outputs[index].shape)
        )
        np.testing.assert_allclose(found, alone, rtol=0, atol=1e-5)


BAD: dict[str, tuple[Callable[[str, str], pb.ModelInferRequest], str, str]] = {
    "named twice": (
        lambda model, second: for_models(image_request(model, FILES), second, second),
        "MALFORMED_FIELD",
        "parameters[models]",
    ),
    "itself": (
        lambda model, _: for_models(image_request(model, FILES), model),
        "MALFORMED_FIELD",
        "parameters[models]",
    ),
    "unknown": (
        lambda model, _: for_models(image_request(model, FILES), "f" * 64),
        "MODEL_NOT_FOUND",
        "model_name",
    ),
    "nothing": (
        lambda model, _: for_models(image_request(model, FILES), ""),
        "MODEL_NOT_FOUND",
        "model_name",
    ),
    "too many": (
        lambda model, _: for_models(image_request(model, FILES), *map(str, range(64))),
        "MALFORMED_FIELD",
        "parameters[models]",
    ),
    "tensor": (
        lambda model, second: for_models(tensor_request(model, random_images(1)), second),
        "INVALID_TENSOR",
        "inputs[0].name",
    ),
}


@pytest.mark.parametrize(("request_of", "reason", "field"), BAD.values(), ids=BAD)
def test_bad_list_of_models_is_named_and_the_next_request_works(
    oip: Any,
    model: str,
    second: str,
    request_of: Callable[[str, str], pb.ModelInferRequest],
    reason: str,
    field: str,
) -> None:
    error = error_of(lambda: oip.ModelInfer(request_of(model, second)))
    assert (error.reason, error.metadata["field"]) == (reason, field)
    assert rows(oip.ModelInfer(image_request(model, FILES))).shape == (
        len(FILES),
        onnx_models.COLUMNS,
    )


def test_outputs_are_not_chosen_among_several_models(oip: Any, model: str, second: str) -> None:
    request = for_models(image_request(model, FILES), second)
    request.outputs.add(name="probabilities")
    assert error_of(lambda: oip.ModelInfer(request)).metadata["field"] == "outputs"


def test_bad_image_for_several_models_leaves_nothing_admitted_at_any(
    service: InferenceService, oip: Any, model: str
) -> None:
    bad = [FILES[0], b"no image"]
    other = load(service, oip, seed=9)
    for _ in range(3):
        error = error_of(lambda: oip.ModelInfer(for_models(image_request(model, bad), other)))
        assert (error.reason, error.metadata["field"]) == (
            "IMAGE_UNREADABLE",
            "inputs[0].contents[1]",
        )
    assert service.metrics()["cxreval_inference_admitted_images"] == 0


# --- ten crops, DICOM -----------------------------------------------------------------------------


def test_answer_of_a_ten_crop_profile_is_the_mean_over_the_crops(oip: Any, color: str) -> None:
    files = [png(300, 400, 3, seed=index) for index in range(3)]
    answer = rows(oip.ModelInfer(image_request(color, files)))

    crops = np.stack([PROFILES["imagenet-224-tencrop"].apply(decode(file)) for file in files])
    by_crop = rows(oip.ModelInfer(tensor_request(color, crops.reshape(30, 3, 224, 224)))).reshape(
        3, 10, -1
    )
    np.testing.assert_allclose(answer, by_crop.mean(axis=1), atol=1e-6)
    assert np.ptp(by_crop, axis=1).max() > 0.01, "the crops differ"


def test_dicom_is_taken_like_any_image_and_a_bad_one_says_nothing_of_the_patient(
    oip: Any, model: str
) -> None:
    data = dicom(GRAY12, stored=12, PhotometricInterpretation="MONOCHROME1")
    answer = rows(oip.ModelInfer(image_request(model, [data])))
    tensor = PROFILES["xrv-224"].apply(decode(data))
    np.testing.assert_allclose(answer, onnx_models.expected(tensor), atol=onnx_models.TOLERANCE)

    error = error_of(lambda: oip.ModelInfer(image_request(model, [data, data[:-100]])))
    assert (error.reason, error.metadata["field"]) == ("IMAGE_UNREADABLE", "inputs[0].contents[1]")
    assert "Doe" not in f"{error.message}{error.metadata}"
