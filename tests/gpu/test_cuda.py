"""On a machine with a GPU: a model really runs there, and answers what the CPU answers."""

import shutil

import numpy as np
import onnxruntime
import pytest

from services.inference.backends.onnx import OnnxModel, inspect
from tests.support import onnx_models
from tests.support.inference import random_images

# Not a part that CI must have: its machine has no GPU.
pytestmark = pytest.mark.skipif(
    shutil.which("nvidia-smi") is None or "CUDAExecutionProvider" not in onnxruntime.get_available_providers(),
    reason="no NVIDIA GPU here, or not onnxruntime-gpu",
)


def test_the_session_has_cuda_and_agrees_with_numpy(tmp_path):
    file = tmp_path / f"{onnx_models.classifier(tmp_path)}.onnx"
    model = OnnxModel(file, inspect(file), threads=1, max_batch=8)
    assert model.provider == "CUDAExecutionProvider"
    images = random_images(8)
    np.testing.assert_allclose(model.run([images]), onnx_models.expected(images), atol=1e-4)
