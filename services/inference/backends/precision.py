"""Half precision: the conversion of a model, and how far its answers may then be off."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16

from cxreval.datasets import phantom
from cxreval.errors import ModelUnsupported
from cxreval.imaging.preprocess import profile_of
from cxreval.preprocessing import Preprocessing

FP16_TOLERANCE = 2e-3
"""Largest absolute difference between half-precision answers and those of the saved file."""


def half_precision(file: str | bytes) -> bytes:
    """Returns the model in a file, or of this content, with float16 weights and arithmetic.

    Inputs and outputs stay float32.
    """
    model = onnx.load_model(file) if isinstance(file, str) else onnx.load_model_from_string(file)
    converted = convert_float_to_float16(model, keep_io_types=True)
    return bytes(converted.SerializeToString())


def phantoms(preprocessing: Preprocessing) -> npt.NDArray[Any]:
    """Returns drawn radiographs of 32 patients, preprocessed."""
    apply = profile_of(preprocessing).apply
    pictures = [phantom.render(phantom.draw_studies(0, patient)[0], 0) for patient in range(32)]
    return np.concatenate([apply(picture) for picture in pictures])


def check_half_precision(
    answers: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]
) -> None:
    """Raises `ModelUnsupported` if the answers differ by more than `FP16_TOLERANCE`."""
    difference = float(np.abs(answers - expected).max())
    if not difference <= FP16_TOLERANCE:  # NaN is not within the tolerance
        limit = f"at most {FP16_TOLERANCE:g}"
        raise ModelUnsupported(
            f"in half precision the model's answers differ by {difference:.3g}; "
            f"expected {limit}: this server runs models in half precision",
            field="model",
            expected=limit,
            found=f"{difference:.3g}",
        )
