"""On a GPU, models run there in full and half precision, with the results of the CPU."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from cxreval.onnx_file.signature import inspect
from services.inference.backends.precision import FP16_TOLERANCE
from services.inference.backends.session import Execution, OnnxSession
from tests.support import onnx_models
from tests.support.inference import (
    InferenceService,
    load_request,
    random_images,
    rows,
    stub,
    tensor_request,
)

# Skipped even with REQUIRE_PARTS=1: CI has no GPU.
pytestmark = pytest.mark.skipif(
    shutil.which("nvidia-smi") is None
    or "CUDAExecutionProvider" not in onnxruntime.get_available_providers(),
    reason="no NVIDIA GPU here, or not onnxruntime-gpu",
)

IMAGES = random_images(8)


@pytest.mark.parametrize(("fp16", "tolerance"), [(False, 1e-4), (True, FP16_TOLERANCE)])
def test_the_session_has_cuda_and_agrees_with_numpy(
    tmp_path: Path, fp16: bool, tolerance: float
) -> None:
    file = tmp_path / f"{onnx_models.classifier(tmp_path)}.onnx"
    execution = Execution("cuda", fp16=fp16)
    session = OnnxSession(file, inspect(file), threads=1, execution=execution)

    assert session.provider == "CUDAExecutionProvider"
    np.testing.assert_allclose(session.run(IMAGES), onnx_models.expected(IMAGES), atol=tolerance)


def test_the_service_answers_from_the_gpu(tmp_path: Path) -> None:
    with InferenceService(tmp_path, "--provider", "cuda") as service, service.connect() as channel:
        digest = onnx_models.classifier(service.models)
        stub(channel).RepositoryModelLoad(load_request(digest))
        answer = rows(stub(channel).ModelInfer(tensor_request(digest, IMAGES)))

    np.testing.assert_allclose(answer, onnx_models.expected(IMAGES), atol=1e-4)
    assert '"provider": "CUDAExecutionProvider"' in (tmp_path / "inference.log").read_text()
