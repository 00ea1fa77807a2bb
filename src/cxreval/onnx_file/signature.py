"""The one input and the one output that a model must have."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from cxreval.errors import ModelInputMismatch, ModelOutputMismatch
from cxreval.onnx_file.reading import not_onnx, read
from cxreval.onnx_file.runtime import check_runtime_support

MAX_COLUMNS = 10_000
"""Most values a model may give for an image."""

MAX_RUN_BYTES = 256 << 20
"""Largest input of one run that a file may fix: its batch of images."""

_FLOAT32: np.dtype[Any] = np.dtype(np.float32)
_DTYPES: dict[int, np.dtype[Any]] = {
    onnx.TensorProto.FLOAT: _FLOAT32,
    onnx.TensorProto.UINT8: np.dtype(np.uint8),
}


@dataclass(frozen=True, slots=True)
class Signature:
    """The input and the output of a model.

    `image_shape` is (channels, height, width). `batch` is the number of images that the file fixes,
    None if it is free. `dtype` is float32 or uint8.
    """

    input_name: str
    image_shape: tuple[int, int, int]
    batch: int | None
    output_name: str
    dtype: np.dtype[Any] = _FLOAT32

    @property
    def image_bytes(self) -> int:
        """Bytes of one image as the model takes it."""
        return math.prod(self.image_shape) * self.dtype.itemsize


def inspect(
    file: Path, image_shape: tuple[int, int, int] | None = None, columns: int | None = None
) -> Signature:
    """Reads an ONNX file and checks everything that can be known without running it.

    Args:
        file: the model.
        image_shape: what the model's preprocessing profile gives; without one, the file must fix
            the shape.
        columns: how many values the model must give for an image; None for any number.

    Raises:
        ModelNotOnnx, ModelExternalData, ModelInputMismatch, ModelOutputMismatch, ModelUnsupported:
            as `read` and `check` do.
    """
    return check(read(file), image_shape, columns)


def check(
    model: onnx.ModelProto,
    image_shape: tuple[int, int, int] | None = None,
    columns: int | None = None,
) -> Signature:
    """Checks a model as `read` returns it; its weights may be gone afterwards.

    Raises:
        ModelNotOnnx: the input or the output has a name that is not text.
        ModelInputMismatch: it does not have exactly one input of shape (N, *image_shape): of
            float32, or, without a profile, of uint8.
        ModelOutputMismatch: it does not have exactly one output: float32, of two dimensions, of as
            many columns as `columns` says.
        ModelUnsupported: the runtime does not have its operators, or cannot run them on what they
            are given.
    """
    input_name, batch, shape, dtype = _input(model.graph, image_shape)
    output_name = _output(model.graph)
    for name in (input_name, output_name):
        if not isinstance(name, str):
            raise not_onnx(f"name {name!r} is not valid UTF-8")
    stated = _columns(model.graph.output[0])
    found = _columns(check_runtime_support(model).graph.output[0])
    check_columns(stated if found is None else found, columns)
    return Signature(input_name, shape, batch, output_name, dtype)


def check_columns(found: int | None, expected: int | None) -> None:
    """Raises `ModelOutputMismatch` if a model is known to give a wrong number of columns."""
    if found is None or (0 < found <= MAX_COLUMNS and expected in (None, found)):
        return
    wanted = f"1 to {MAX_COLUMNS}" if expected is None else str(expected)
    raise ModelOutputMismatch(
        f"model gives {found} columns; expected {wanted}",
        field="model.outputs",
        expected=f"{wanted} columns",
        found=f"{found} columns",
    )


def inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """Returns the inputs of a graph. Files of IR version 3 list their weights among them."""
    weights = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in weights]


def described(values: Iterable[onnx.ValueInfoProto]) -> str:
    """Returns name, type and shape of inputs or outputs, as text."""
    return ", ".join(_described(value) for value in values)


def _input(
    graph: onnx.GraphProto, image_shape: tuple[int, int, int] | None
) -> tuple[str, int | None, tuple[int, int, int], Any]:
    """Returns name, fixed batch size, image shape and data type of the one input."""
    dtypes = {
        kind: dtype for kind, dtype in _DTYPES.items() if dtype == _FLOAT32 or not image_shape
    }
    kinds = " or ".join(str(dtype) for dtype in dtypes.values())
    expected = f"one {kinds} input of shape {_text(None, *(image_shape or ('C', 'H', 'W')))}"
    values = inputs(graph)
    found = described(values) or "no input"
    mismatch = ModelInputMismatch(
        f"model takes {found}; expected {expected}",
        field="model.inputs",
        expected=expected,
        found=found,
    )
    if len(values) != 1 or values[0].type.tensor_type.elem_type not in dtypes:
        raise mismatch
    dtype = dtypes[values[0].type.tensor_type.elem_type]
    dimensions = _dimensions(values[0])
    if dimensions is None or len(dimensions) != 4 or 0 in dimensions:
        raise mismatch
    batch, *sizes = dimensions
    wanted = image_shape or (None, None, None)
    shape = tuple(size or want for size, want in zip(sizes, wanted, strict=True))
    if (image_shape and shape != image_shape) or None in shape:
        raise mismatch
    channels, height, width = (size for size in shape if size)
    nbytes = dtype.itemsize * math.prod((batch or 1, channels, height, width))
    if nbytes > MAX_RUN_BYTES:
        expected = f"an input of at most {MAX_RUN_BYTES} bytes"
        message = f"model takes {found}: {nbytes} bytes; expected {expected}"
        raise ModelInputMismatch(message, field="model.inputs", expected=expected, found=found)
    return values[0].name, batch, (channels, height, width), dtype


def _output(graph: onnx.GraphProto) -> str:
    """Returns the name of the one output."""
    expected = "one float32 output of shape (N, columns)"
    found = described(graph.output) or "no output"
    if (
        len(graph.output) == 1
        and graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    ):
        dimensions = _dimensions(graph.output[0])
        if dimensions is None or len(dimensions) == 2:
            name: str = graph.output[0].name
            return name
    raise ModelOutputMismatch(
        f"model gives {found}; expected {expected}",
        field="model.outputs",
        expected=expected,
        found=found,
    )


def _columns(output: onnx.ValueInfoProto) -> int | None:
    """Returns the second size of an output, None if it is free or unknown."""
    dimensions = _dimensions(output)
    return dimensions[1] if dimensions and len(dimensions) == 2 else None


def _dimensions(value: onnx.ValueInfoProto) -> list[int | None] | None:
    """Returns the sizes, None where free; None if the file states no shape."""
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    # The runtime, too, takes a negative size for a free one.
    return [
        size.dim_value if size.HasField("dim_value") and size.dim_value >= 0 else None
        for size in tensor.shape.dim
    ]


def _described(value: onnx.ValueInfoProto) -> str:
    dimensions = _dimensions(value)
    number = value.type.tensor_type.elem_type
    known = number in onnx.TensorProto.DataType.values()
    kind = onnx.TensorProto.DataType.Name(number).lower() if known else f"of unknown type {number}"
    shape = "of unstated shape" if dimensions is None else _text(*dimensions)
    return f"{value.name!r} {kind} {shape}"


def _text(*dimensions: int | str | None) -> str:
    return f"({', '.join('N' if size is None else str(size) for size in dimensions)})"
