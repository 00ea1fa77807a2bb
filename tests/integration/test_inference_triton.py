"""An unmodified Triton client works: the Open Inference Protocol by message and in use."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from cxreval.api.oip import grpc_predict_v2_pb2 as pb
from cxreval.imaging.decode import decode
from cxreval.imaging.preprocess import PROFILES
from tests.conftest import REPOSITORY
from tests.support import onnx_models
from tests.support.inference import InferenceService, png

SCRIPT = REPOSITORY / "tests" / "support" / "triton_client.py"


def run_script(*arguments: str) -> dict[str, Any]:
    """Returns the output of the script, which runs in a process of its own."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The responses that Triton's client got from the service."""
    directory = tmp_path_factory.mktemp("triton")
    image = directory / "image.png"
    image.write_bytes(png())
    with InferenceService(directory, "--threads", "1") as service:
        digest = onnx_models.classifier(service.models)
        yield run_script("walk", service.address, digest, str(image)) | {
            "digest": digest,
            "png": image.read_bytes(),
        }


def test_every_message_and_rpc_has_tritons_numbers_and_types() -> None:
    theirs = run_script("descriptors", "tritonclient.grpc.service_pb2")
    theirs["fields"] |= run_script("descriptors", "tritonclient.grpc.model_config_pb2")["fields"]
    mine = run_script("descriptors", pb.__name__)

    assert len(mine["rpcs"]) == 12
    for kind in ("rpcs", "fields"):
        assert mine[kind] == {name: theirs[kind].get(name) for name in mine[kind]}


def test_server_metadata_names_the_server(seen: dict[str, Any]) -> None:
    assert (seen["live"], seen["ready"]) == (True, True)
    assert seen["server"]["name"] == "cxreval"
    assert seen["server"]["extensions"] == ["model_repository", "model_configuration", "statistics"]


def test_config_and_statistics_are_read(seen: dict[str, Any]) -> None:
    config, statistics = seen["config"]["config"], seen["statistics"]["model_stats"][0]

    assert config["name"] == statistics["name"] == seen["digest"]
    assert config["max_batch_size"] > 1
    assert config["input"][0] == {
        "name": "image_tensor",
        "data_type": "TYPE_FP32",
        "dims": ["1", "224", "224"],
        "optional": True,
    }
    assert config["output"] == [{"name": "probabilities", "data_type": "TYPE_FP32", "dims": ["14"]}]
    assert statistics["version"] == "1"
    assert statistics["inference_stats"]["success"]["count"] == "5"
    assert statistics["inference_count"] == "11"


def test_model_is_ready_exactly_while_it_is_loaded(seen: dict[str, Any]) -> None:
    states = [seen[f"ready_{moment}"] for moment in ("before_load", "after_load", "after_unload")]

    assert states == [False, True, False]
    assert seen["index"] == {"models": [{"name": seen["digest"], "version": "1", "state": "READY"}]}


def test_metadata_names_both_inputs_and_the_output(seen: dict[str, Any]) -> None:
    assert seen["metadata"] == {
        "name": seen["digest"],
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [
            {"name": "image_tensor", "datatype": "FP32", "shape": ["-1", "1", "224", "224"]},
            {"name": "image", "datatype": "BYTES", "shape": ["-1"]},
        ],
        "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": ["-1", "14"]}],
    }


def test_tensor_and_image_are_answered_by_the_model(seen: dict[str, Any]) -> None:
    tensors = np.random.default_rng(0).uniform(-1024, 1024, (3, 1, 224, 224)).astype(np.float32)
    image = PROFILES["xrv-224"].apply(decode(seen["png"]))

    assert seen["id"] == "a-1"
    np.testing.assert_allclose(
        seen["from_tensor"], onnx_models.expected(tensors), atol=onnx_models.TOLERANCE
    )
    np.testing.assert_allclose(
        seen["from_image"], onnx_models.expected(image), atol=onnx_models.TOLERANCE
    )


def test_stream_answers_in_order_and_survives_an_error(seen: dict[str, Any]) -> None:
    first, second, third, fourth = seen["stream"]

    np.testing.assert_allclose(first[1], seen["from_tensor"], atol=1e-5)
    np.testing.assert_allclose(second[1], seen["from_image"], atol=1e-5)
    assert [first[0], second[0], fourth[0]] == ["0", "1", "3"]
    assert third.startswith("MODEL_NOT_FOUND: model 'no-such-model' is not loaded")


def test_error_has_its_code_and_says_what_to_do(seen: dict[str, Any]) -> None:
    code, message = seen["error"]

    assert code == "StatusCode.NOT_FOUND"
    assert "RepositoryModelLoad" in message
