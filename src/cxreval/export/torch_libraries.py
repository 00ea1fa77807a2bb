"""Imports torchvision, timm and TorchXRayVision, also with a CPU-only PyTorch.

The torchvision wheel on PyPI is built for CUDA. With a CPU-only torch its C++ operators do not
load, and importing torchvision fails where it registers `nms` and `qnms`, which are then
undeclared. Declaring both schemas is enough: the classification models use neither.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import warnings
from pathlib import Path
from typing import Any

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def _declare_missing_operators() -> object:
    """Declares the schemas unless torchvision's binary does.

    The declarations live as long as the returned object.
    """
    loader: Any = torch.ops
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return None
    try:
        for binary in Path(spec.origin).parent.glob("_C*"):
            loader.load_library(str(binary))
    except OSError:
        library_type: Any = torch.library.Library
        library = library_type("torchvision", "DEF")
        for schema in _SCHEMAS:
            library.define(schema)
        return library
    return None


_declarations = _declare_missing_operators()

with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
    # They warn at import about parts that are not used here.
    warnings.simplefilter("ignore")
    import timm  # needs torchvision
    import torchvision
    import torchxrayvision

__all__ = ["timm", "torchvision", "torchxrayvision"]
