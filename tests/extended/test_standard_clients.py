"""The client libraries of Triton, KServe and MLServer, each in an environment of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from cxreval.imaging.decode import decode
from cxreval.imaging.preprocess import PROFILES
from tests.conftest import REPOSITORY, missing
from tests.support import onnx_models
from tests.support.inference import InferenceService, load_request, png, stub
from tests.support.standard_clients import IMAGES, VERSIONS

pytestmark = pytest.mark.timeout(900)

SCRIPT = REPOSITORY / "tests" / "support" / "standard_clients.py"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InferenceService]:
    with InferenceService(tmp_path_factory.mktemp("inference"), "--threads", "1") as running:
        yield running


@pytest.fixture(scope="module", params=VERSIONS)
def answers(
    request: pytest.FixtureRequest,
    service: InferenceService,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Any]:
    """What one library received."""
    directory = tmp_path_factory.mktemp(request.param)
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", directory], check=True, timeout=60
    )
    python = directory / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    try:
        done = subprocess.run(
            [*install, VERSIONS[request.param]],
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    except subprocess.TimeoutExpired:
        missing(f"pip does not install {VERSIONS[request.param]} in ten minutes")
    if done.returncode:
        missing(f"pip cannot install {VERSIONS[request.param]}: {done.stderr[-300:]}")
    image = directory / "image.png"
    image.write_bytes(png())
    model = onnx_models.classifier(service.models)
    with service.connect() as channel:
        stub(channel).RepositoryModelLoad(load_request(model, "xrv-224"))
    command = [python, SCRIPT, request.param, service.address, model, image]
    called = subprocess.run(
        command, capture_output=True, text=True, timeout=100, check=False, env={}
    )
    assert called.returncode == 0, called.stderr
    return dict(json.loads(called.stdout))


def test_every_default_request_is_answered_by_the_model(answers: dict[str, Any]) -> None:
    image = PROFILES["xrv-224"].apply(decode(png()))
    expected = {"tensor": IMAGES, "image": image, "named output": image}

    names = [name for name in answers if name.partition(",")[0] in expected]
    assert len(names) >= 2
    for name in names:
        np.testing.assert_allclose(
            answers[name],
            onnx_models.expected(expected[name.partition(",")[0]]),
            atol=onnx_models.TOLERANCE,
        )


def test_the_metadata_have_inputs_of_different_names(answers: dict[str, Any]) -> None:
    if "metadata" not in answers:  # KServe's client has no call for it
        assert (answers["live"], answers["ready"]) == (True, True)
        return
    names = [value["name"] for value in answers["metadata"]["inputs"]]
    assert names == ["image_tensor", "image"]


def test_what_would_change_an_answer_is_refused_by_name(answers: dict[str, Any]) -> None:
    named = ("sequence_end", "priority", "timeout", "classification")
    for name, message in zip(named, answers.get("refused", ()), strict=False):
        assert f"has {name!r}, which is not offered; leave it out" in message
