"""The inference service runs models of several files, from their archive."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
import pytest

from cxreval.bundle import Ensemble
from cxreval.client import InferenceClient
from cxreval.errors import (
    BundleInvalid,
    MalformedField,
    ModelExternalData,
    ModelNotOnnx,
    SubmissionFault,
)
from cxreval.model_interface import preset
from cxreval.wire.status import from_rpc_error
from tests.support import bundles, odd_onnx, onnx_models
from tests.support.inference import (
    Array,
    InferenceService,
    load_request,
    random_images,
    rows,
    stub,
    tensor_request,
)

IMAGES = random_images(5)
WIDTH = onnx_models.COLUMNS


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InferenceService]:
    with InferenceService(tmp_path_factory.mktemp("inference"), "--threads", "1") as running:
        yield running


@pytest.fixture(scope="module")
def client(service: InferenceService) -> Iterator[InferenceClient]:
    with InferenceClient(service.address) as connected:
        yield connected


def answers(service: InferenceService, digest: str) -> Array:
    with service.connect() as channel:
        return rows(stub(channel).ModelInfer(tensor_request(digest, IMAGES)))


def load(
    service: InferenceService,
    client: InferenceClient,
    files: Sequence[Path],
    ensemble: Ensemble | None = None,
) -> str:
    digest, listed = bundles.store(service.models, files)
    client.load(digest, preset("xrv-224"), WIDTH, files=listed, ensemble=ensemble)
    return digest


def test_a_model_with_its_weights_in_another_file_answers_as_the_one_file_does(
    service: InferenceService, client: InferenceClient, tmp_path: Path
) -> None:
    digest = load(service, client, bundles.with_external_data(tmp_path))
    alone = onnx_models.classifier(service.models)
    client.load(alone, preset("xrv-224"), WIDTH)

    assert np.array_equal(answers(service, digest), answers(service, alone))
    assert list(service.models.glob("*")) == list(service.models.glob("*.onnx"))


def test_an_ensemble_answers_the_mean_of_its_models(
    service: InferenceService, client: InferenceClient, tmp_path: Path
) -> None:
    seeds = (3, 4, 5)
    digest = load(service, client, bundles.members(tmp_path, seeds), Ensemble.MEAN)
    each = []
    for seed in seeds:
        alone = onnx_models.classifier(service.models, seed=seed)
        client.load(alone, preset("xrv-224"), WIDTH)
        each.append(answers(service, alone))

    mean = np.mean(each, axis=0, dtype=np.float64).astype(np.float32)

    assert np.array_equal(answers(service, digest), mean)
    assert not np.allclose(mean, each[0])


def test_models_of_an_ensemble_may_share_a_file_of_weights(
    service: InferenceService, client: InferenceClient, tmp_path: Path
) -> None:
    files = bundles.with_external_data(tmp_path)
    (tmp_path / "second.onnx").write_bytes(files[0].read_bytes())

    digest = load(service, client, [*files, tmp_path / "second.onnx"], Ensemble.MEAN)

    expected = onnx_models.expected(IMAGES)
    assert np.allclose(answers(service, digest), expected, atol=onnx_models.TOLERANCE)


def test_an_archive_of_other_files_than_stated_is_refused_and_the_loaded_one_stays(
    service: InferenceService, client: InferenceClient, tmp_path: Path
) -> None:
    digest, listed = bundles.store(service.models, bundles.with_external_data(tmp_path, seed=7))
    client.load(digest, preset("xrv-224"), WIDTH, files=listed)
    before = answers(service, digest)
    other = replace(listed[1], sha256="0" * 64)

    for files in ((listed[0], other), listed[::-1], listed[:1]):
        with pytest.raises(BundleInvalid) as caught:
            client.load(digest, preset("xrv-224"), WIDTH, files=files)
        assert caught.value.metadata["file"] in ("model.onnx", "weights.bin")
    with pytest.raises(ModelNotOnnx):
        client.load(digest, preset("xrv-224"), WIDTH)

    assert np.array_equal(answers(service, digest), before)


def test_the_model_of_an_ensemble_that_fails_is_named(
    service: InferenceService, client: InferenceClient, tmp_path: Path
) -> None:
    digest = onnx_models.columns(tmp_path, 1)
    first = (tmp_path / f"{digest}.onnx").rename(tmp_path / "first.onnx")
    second = tmp_path / "second.onnx"
    odd = odd_onnx.only_a_run_shows()["operator version that the runtime does not implement"]
    wider = (tmp_path / f"{onnx_models.columns(tmp_path, 3)}.onnx").read_bytes()
    for content, reason in ((odd, "MODEL_UNSUPPORTED"), (wider, "MODEL_OUTPUT_MISMATCH")):
        second.write_bytes(content)
        name, listed = bundles.store(service.models, [first, second])
        with pytest.raises(SubmissionFault) as caught:
            client.load(name, preset("xrv-224"), 1, files=listed, ensemble=Ensemble.MEAN)
        assert caught.value.reason == reason
        assert caught.value.message.startswith("second.onnx: ")


def test_weights_outside_of_the_archive_are_not_opened(
    service: InferenceService, client: InferenceClient, tmp_path: Path
) -> None:
    files = bundles.with_external_data(tmp_path)
    for location in ("/etc/passwd", "input"):
        bundles.elsewhere(files[0], location=location, offset="0")
        digest, listed = bundles.store(service.models, files)
        with pytest.raises(ModelExternalData, match="expected one of weights"):
            client.load(digest, preset("xrv-224"), WIDTH, files=listed)


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("files", "model.onnx"),
        ("files", f"../x:{'0' * 64}"),
        ("files", " ".join([f"x:{'0' * 64}"] * 65)),
        ("ensemble", "median"),
        ("ensemble", "mean"),
    ],
)
def test_a_malformed_parameter_is_named(
    service: InferenceService, parameter: str, value: str
) -> None:
    request = load_request("0" * 64, "xrv-224")
    request.parameters[parameter].string_param = value
    with service.connect() as channel, pytest.raises(grpc.RpcError) as caught:
        stub(channel).RepositoryModelLoad(request)
    error = from_rpc_error(caught.value)
    assert isinstance(error, MalformedField)
    assert error.metadata["field"] == f"parameters[{parameter}]"
