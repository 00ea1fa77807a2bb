"""Checks the input and the output of a model, of which there must be one each."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from cxreval.errors import ModelInputMismatch, ModelOutputMismatch, ModelUnsupported
from cxreval.onnx_file.reading import not_onnx, read
from cxreval.onnx_file.runtime import check_runtime_support

MAX_COLUMNS = 10_000
"""Maximum number of values that a model may return for an image."""

MAX_BATCH = 2048
"""Maximum number of images of one run, where the file fixes it."""

MAX_RUN_BYTES = 256 << 20
"""Maximum size in bytes of the input of one run, where the file fixes the batch size."""

_MAX_NAME = 1000  # each answer repeats the name of the output
_FLOAT32: np.dtype[Any] = np.dtype(np.float32)
_DTYPES: dict[int, np.dtype[Any]] = {
    onnx.TensorProto.FLOAT: _FLOAT32,
    onnx.TensorProto.UINT8: np.dtype(np.uint8),
}


@dataclass(frozen=True, slots=True)
class Signature:
    """The input and the output of a model.

    `image_shape` is (channels, height, width). `batch` is the batch size that the file fixes, None
    if it is free. `dtype` is float32 or uint8.
    """

    input_name: str
    image_shape: tuple[int, int, int]
    batch: int | None
    output_name: str
    dtype: np.dtype[Any] = _FLOAT32

    @property
    def image_bytes(self) -> int:
        """Size in bytes of one image as input of the model."""
        return math.prod(self.image_shape) * self.dtype.itemsize


def inspect(
    file: Path, image_shape: tuple[int, int, int] | None = None, columns: int | None = None
) -> Signature:
    """Returns the signature of an ONNX file, after all checks that do not need a run.

    Args:
        file: the model.
        image_shape: shape of the images of the model's preprocessing profile; if it is None, the
            file must fix the shape.
        columns: number of values that the model must return for an image; None for any number.

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
    """Returns the signature of a model that `read` returned; may remove weights from the model.

    Raises:
        ModelNotOnnx: the input or the output has a name that is not text.
        ModelInputMismatch: the model does not have exactly one input of shape (N, *image_shape) and
            dtype float32 or, without `image_shape`, uint8.
        ModelOutputMismatch: the model does not have exactly one output of shape (N, columns) and
            dtype float32.
        ModelUnsupported: the runtime does not have an operator, or the operator does not accept its
            inputs; or the name of the input or output is longer than 1,000 characters.
    """
    input_name, batch, shape, dtype = _input(model.graph, image_shape)
    output_name = _output(model.graph)
    for name in (input_name, output_name):
        if not isinstance(name, str):
            raise not_onnx(f"name {name!r} is not valid UTF-8")
        if len(name) > _MAX_NAME:
            expected = f"at most {_MAX_NAME} characters"
            raise ModelUnsupported(
                f"the name of an input or output has {len(name)} characters; expected {expected}",
                field="model",
                expected=expected,
                found=len(name),
            )
    stated = _columns(model.graph.output[0])
    inferred = _columns(check_runtime_support(model).graph.output[0])
    check_columns(stated if inferred is None else inferred, columns)
    return Signature(input_name, shape, batch, output_name, dtype)


def check_columns(columns: int | None, expected: int | None) -> None:
    """Raises `ModelOutputMismatch` if a known number of columns is not the expected one."""
    if columns is None or (0 < columns <= MAX_COLUMNS and expected in (None, columns)):
        return
    wanted = f"1 to {MAX_COLUMNS}" if expected is None else str(expected)
    raise ModelOutputMismatch(
        f"model returns {columns} columns; expected {wanted}",
        field="model.outputs",
        expected=f"{wanted} columns",
        found=f"{columns} columns",
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
    """Returns name, fixed batch size, image shape and dtype of the input."""
    dtypes = {
        kind: dtype for kind, dtype in _DTYPES.items() if dtype == _FLOAT32 or not image_shape
    }
    kinds = " or ".join(str(dtype) for dtype in dtypes.values())
    expected = f"one {kinds} input of shape {_text(None, *(image_shape or ('C', 'H', 'W')))}"
    values = inputs(graph)
    actual = described(values) or "no input"
    mismatch = ModelInputMismatch(
        f"model takes {actual}; expected {expected}",
        field="model.inputs",
        expected=expected,
        found=actual,
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
        message = f"model takes {actual}: {nbytes} bytes; expected {expected}"
        raise ModelInputMismatch(message, field="model.inputs", expected=expected, found=actual)
    if batch and batch > MAX_BATCH:
        expected = f"a batch of at most {MAX_BATCH} images"
        message = f"model takes {actual}; expected {expected}"
        raise ModelInputMismatch(message, field="model.inputs", expected=expected, found=actual)
    return values[0].name, batch, (channels, height, width), dtype


def _output(graph: onnx.GraphProto) -> str:
    """Returns the name of the output."""
    expected = "one float32 output of shape (N, columns)"
    actual = described(graph.output) or "no output"
    if (
        len(graph.output) == 1
        and graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    ):
        dimensions = _dimensions(graph.output[0])
        if dimensions is None or len(dimensions) == 2:
            name: str = graph.output[0].name
            return name
    raise ModelOutputMismatch(
        f"model returns {actual}; expected {expected}",
        field="model.outputs",
        expected=expected,
        found=actual,
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
    # A negative size is free, as in the runtime.
    return [
        size.dim_value if size.HasField("dim_value") and size.dim_value >= 0 else None
        for size in tensor.shape.dim
    ]


def _described(value: onnx.ValueInfoProto) -> str:
    """Returns name, type and shape of an input or output, as text."""
    dimensions = _dimensions(value)
    number = value.type.tensor_type.elem_type
    known = number in onnx.TensorProto.DataType.values()
    kind = onnx.TensorProto.DataType.Name(number).lower() if known else f"of unknown type {number}"
    shape = "of unstated shape" if dimensions is None else _text(*dimensions)
    return f"{value.name!r} {kind} {shape}"


def _text(*dimensions: int | str | None) -> str:
    """Returns a shape as text, with N for a free size."""
    return f"({', '.join('N' if size is None else str(size) for size in dimensions)})"
