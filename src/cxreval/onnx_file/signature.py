"""Checks the input and the output of a model that an interface means."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from cxreval.errors import ModelInputMismatch, ModelOutputMismatch, ModelUnsupported
from cxreval.model_interface import (
    MAX_COLUMNS,
    MAX_TENSOR_BYTES,
    ModelInterface,
    columns_of,
)
from cxreval.onnx_file.reading import not_onnx, read
from cxreval.onnx_file.runtime import check_runtime_support
from cxreval.preprocessing import Activation, Layout

MAX_BATCH = 2048
"""Maximum number of images of one run, where the file fixes it."""

MAX_RUN_BYTES = 256 << 20
"""Maximum size in bytes of the input of one run, where the file fixes the batch size."""

_MOST_SHOWN = 8  # inputs or outputs in a message
_MAX_NAME = 1000  # each answer repeats the name of the output
_FLOAT32: np.dtype[Any] = np.dtype(np.float32)
_DTYPES: dict[int, np.dtype[Any]] = {
    onnx.TensorProto.FLOAT: _FLOAT32,
    onnx.TensorProto.FLOAT16: np.dtype(np.float16),
    onnx.TensorProto.UINT8: np.dtype(np.uint8),
}
_OUTPUT_TYPES = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)


Shape = tuple[int | None, int | None, int | None]
"""Shape of an image as input, in the order of the layout; a size is None if it depends on the
image."""


@dataclass(frozen=True, slots=True)
class Signature:
    """The input and the output of a model.

    `image_shape` is (channels, height, width), or (height, width, channels) for NHWC; sizes are
    None if images are not resized. `batch` is the batch size that the file fixes, None if it is
    free. `dtype` is float32, float16 or uint8. `activation` is applied to the output.
    """

    input_name: str
    image_shape: Shape
    batch: int | None
    output_name: str
    dtype: np.dtype[Any] = _FLOAT32
    activation: Activation = Activation.NONE

    @property
    def sizes_differ(self) -> bool:
        """Whether the size of the input depends on the image."""
        return None in self.image_shape

    @property
    def image_bytes(self) -> int:
        """Size in bytes of one image as input of the model; the largest where sizes differ."""
        sizes = [size for size in self.image_shape if size is not None]
        if len(sizes) < len(self.image_shape):
            return MAX_TENSOR_BYTES
        return math.prod(sizes) * self.dtype.itemsize


def inspect(
    file: Path,
    interface: ModelInterface | None = None,
    image_shape: Shape | None = None,
    columns: int | None = None,
) -> Signature:
    """Returns the signature of an ONNX file, after all checks that do not need a run.

    Args:
        file: the model.
        interface: how the model is meant; None if it gets tensors of its own only.
        image_shape: shape of the profile of the interface's preprocessing; without an interface,
            the file must fix the shape.
        columns: number of probabilities that the model must return for an image; None for any
            number.

    Raises:
        ModelNotOnnx, ModelExternalData, ModelInputMismatch, ModelOutputMismatch, ModelUnsupported:
            as `read` and `check` do.
    """
    return check(read(file), interface, image_shape, columns)


def check(
    model: onnx.ModelProto,
    interface: ModelInterface | None = None,
    image_shape: Shape | None = None,
    columns: int | None = None,
) -> Signature:
    """Returns the signature of a model that `read` returned; may remove weights from the model.

    Raises:
        ModelNotOnnx: the input or the output has a name that is not text.
        ModelInputMismatch: the model does not have an input of the interface's type and shape, or
            needs further inputs. Without an interface: one input of float32, float16 or uint8 and
            a fixed shape (N, a, b, c).
        ModelOutputMismatch: the model does not have an output of float32, float16 or float64 with
            `columns` probabilities for each image.
        ModelUnsupported: the runtime does not have an operator, or the operator does not accept its
            inputs; or the name of the input or output is longer than 1,000 characters.
    """
    taken = _input(model.graph, interface)
    batch, shape = _image_shape(taken, interface, image_shape or (None, None, None))
    returned = _output(model.graph, interface.outputs.tensor if interface else "")
    for name in (taken.name, returned.name):
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
    activation = interface.outputs.activation if interface else Activation.NONE
    dtype = _DTYPES[taken.type.tensor_type.elem_type]
    signature = Signature(taken.name, shape, batch, returned.name, dtype, activation)
    _check_run(taken, signature)
    stated, found = _dimensions(returned), described([returned])
    if stated is not None:
        columns_of(stated, activation, found)
    inferred = next(
        value
        for value in check_runtime_support(model).graph.output
        if value.name == signature.output_name
    )
    check_columns(_columns(stated, _dimensions(inferred), activation, found), columns)
    return signature


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
    each = [_described(value) for value in islice(values, _MOST_SHOWN + 1)]
    return ", ".join([*each[:_MOST_SHOWN], *(["..."] if len(each) > _MOST_SHOWN else [])])


def _input(graph: onnx.GraphProto, interface: ModelInterface | None) -> onnx.ValueInfoProto:
    """Returns the input that takes the image."""
    values, name = inputs(graph), interface.preprocessing.tensor if interface else ""
    picked = [value for value in graph.input if value.name == name] if name else values
    if not picked:
        expected = (
            f"an input {name!r}, as preprocessing.tensor says; name one of the model's inputs there"
            if name
            else "an input for the image"
        )
        raise _input_mismatch(described(graph.input) or "no input", expected)
    if not name and len(picked) > 1:
        raise _input_mismatch(
            described(picked),
            "one input: the platform has only the image; set preprocessing.tensor to the name of "
            "the image's input, and give the others a default (an initializer) in the file",
        )
    others = [value for value in values if value.name != picked[0].name]
    if others:
        raise _input_mismatch(
            described(values),
            f"a default (an initializer) for {described(others)}: the platform has only the image, "
            f"which is {name!r}",
        )
    return picked[0]


def _image_shape(
    value: onnx.ValueInfoProto, interface: ModelInterface | None, wanted: Shape
) -> tuple[int | None, Shape]:
    """Returns the batch size that an input fixes, and the shape of one image."""
    dimensions, elem_type = _dimensions(value), value.type.tensor_type.elem_type
    dtypes = [str(dtype) for dtype in _DTYPES.values()]
    kinds = interface.preprocessing.dtype.value if interface else " or ".join(dtypes)
    nhwc = interface is not None and interface.preprocessing.layout is Layout.NHWC
    free = zip(wanted, "HWC" if nhwc else "CHW", strict=True)
    sizes = [name if size is None else size for size, name in free]
    mismatch = _input_mismatch(
        described([value]),
        f"one {kinds} input of shape {_text(None, *sizes)}"
        + _cure(dimensions, elem_type, interface, wanted),
    )
    if elem_type not in _DTYPES or (interface and str(_DTYPES[elem_type]) != kinds):
        raise mismatch
    if dimensions is None or len(dimensions) != len(wanted) + 1 or 0 in dimensions:
        raise mismatch
    batch, *found = dimensions
    if interface:
        if any(size not in (None, want) for size, want in zip(found, wanted, strict=True)):
            raise mismatch
        found = [*wanted]
    elif None in found:
        raise mismatch
    first, second, third = found
    return batch, (first, second, third)


def _check_run(value: onnx.ValueInfoProto, signature: Signature) -> None:
    """Raises `ModelInputMismatch` if the file fixes a run that is too large."""
    batch = signature.batch
    nbytes = (batch or 1) * signature.image_bytes
    if nbytes > MAX_RUN_BYTES:
        expected = f"an input of at most {MAX_RUN_BYTES} bytes"
        raise _input_mismatch(f"{described([value])}: {nbytes} bytes", expected)
    if batch and batch > MAX_BATCH:
        raise _input_mismatch(described([value]), f"a batch of at most {MAX_BATCH} images")


def _cure(
    dimensions: Sequence[int | None] | None,
    elem_type: int,
    interface: ModelInterface | None,
    wanted: Shape,
) -> str:
    """Returns which field of the manifest to change so that an input fits, as part of a message."""
    if interface is None:
        return ""
    if dimensions is not None and len(dimensions) == 2:
        return "; submit predictions of a model of table rows as a table with kind: predictions"
    if elem_type not in _DTYPES:
        return "; let the model take one of float32, float16, uint8 (a Cast as its first node)"
    steps = interface.preprocessing
    instead = f", with all steps instead of {steps.preset}" if steps.preset else ""
    if (dtype := str(_DTYPES[elem_type])) != steps.dtype:
        return f"; or set preprocessing.dtype: {dtype}{instead}"
    if dimensions is None or len(dimensions) != len(wanted) + 1 or 0 in dimensions:
        return ""
    return _cure_of_shape(dimensions[1:], steps.layout, wanted) + instead


def _cure_of_shape(found: Sequence[int | None], layout: Layout, wanted: Shape) -> str:
    """Returns which field to change so that images of shape `found` are made."""
    nhwc = layout is Layout.NHWC
    here, there = (2, 0) if nhwc else (0, 2)
    if found[there] == wanted[here] != found[here]:
        return f"; or set preprocessing.layout: {Layout.NCHW if nhwc else Layout.NHWC}"
    if found[here] in (1, 3) and found[here] != wanted[here]:
        return f"; or set preprocessing.channels: {found[here]}"
    size = "preprocessing.resize and preprocessing.crop to the model's size"
    free = "export the model with free height and width, " if None in wanted else ""
    return f"; {free}or set {size}"


def _input_mismatch(found: str, expected: str) -> ModelInputMismatch:
    return ModelInputMismatch(
        f"model takes {found}; expected {expected}",
        field="model.inputs",
        expected=expected,
        found=found,
    )


def _output(graph: onnx.GraphProto, name: str) -> onnx.ValueInfoProto:
    """Returns the output that has the probabilities."""
    values = [value for value in graph.output if not name or value.name == name]
    if len(values) == 1 and values[0].type.tensor_type.elem_type in _OUTPUT_TYPES:
        return values[0]
    if not values and name:
        expected = f"an output {name!r}, as outputs.tensor says; name one of the model's there"
    elif len(values) > 1:
        expected = "one output; set outputs.tensor to the name of the one with the probabilities"
    elif values and not values[0].type.HasField("tensor_type"):
        expected = "a tensor; convert with options={'zipmap': False} if this is of sklearn-onnx"
    else:
        expected = "one output of float32, float16 or float64 with a row of columns per image"
    found = described(graph.output) or "no output"
    raise ModelOutputMismatch(
        f"model returns {found}; expected {expected}",
        field="model.outputs",
        expected=expected,
        found=found,
    )


def _columns(
    stated: Sequence[int | None] | None,
    inferred: Sequence[int | None] | None,
    activation: Activation,
    found: str,
) -> int | None:
    """Returns the number of probabilities of an image, None if it is free or unknown."""
    known = None
    for dimensions in (stated, inferred):
        with contextlib.suppress(ModelOutputMismatch):  # of the inferred one; a run shows which
            columns = None if dimensions is None else columns_of(dimensions, activation, found)
            known = known if columns is None else columns
    return known


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
