"""ONNX files: what a stranger's file must be before the runtime may open it, and how it is run with onnxruntime.

A file is parsed and checked as data first: nothing it names outside itself is opened. Then the runtime opens it, and
two made-up images show what really comes out.
"""

from __future__ import annotations

import contextlib
import math
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnx.checker
import onnxruntime as ort
from google.protobuf.message import DecodeError

from cxreval.errors import (
    CxrevalError,
    ModelExternalData,
    ModelInputMismatch,
    ModelNotOnnx,
    ModelOutputMismatch,
    ModelUnsupported,
    ServiceOverloaded,
)
from cxreval.wire.limits import MIB

Array = npt.NDArray[np.float32]

RUNTIME = f"onnxruntime {ort.__version__}"
PLATFORM = "onnxruntime_onnx"
"""What the Open Inference Protocol calls this kind of model."""

MAX_MODEL_BYTES = (1 << 31) - 1
"""Largest file: protobuf, and so ONNX without external data, ends at 2 GiB."""

MAX_COLUMNS = 10_000
"""Most values a model may give for an image."""

MAX_RUN_BYTES = 256 * MIB
"""Largest input of one run that a file may fix: its batch of images of float32."""

_MAX_TEXT = 300  # characters of a foreign error message that are passed on

ort.set_default_logger_severity(4)  # what goes wrong comes back as an exception; its log lines would repeat it


@dataclass(frozen=True, slots=True)
class Signature:
    """The one input and the one output of a model.

    `image_shape` is (channels, height, width). `batch` is the number of images that the file fixes, None if it is free.
    """

    input_name: str
    image_shape: tuple[int, int, int]
    batch: int | None
    output_name: str


def inspect(file: Path, image_shape: tuple[int, int, int] | None = None) -> Signature:
    """Reads an ONNX file as data, without opening anything that it names.

    Args:
        file: the model.
        image_shape: what the model's preprocessing profile gives; without one, the file must fix the shape.

    Raises:
        ModelNotOnnx: the file is not a valid ONNX model.
        ModelExternalData: it keeps weights in other files.
        ModelInputMismatch: it does not have exactly one input, float32, of shape (N, *image_shape).
        ModelOutputMismatch: it does not have exactly one output, float32, of two dimensions.
    """
    model = _parse(file)
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise ModelExternalData(
                f"tensor {tensor.name!r} keeps its data in another file; expected one self-contained ONNX file",
                field="model",
                expected="tensors stored inside the file",
                tensor=tensor.name,
            )
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        raise _not_onnx(_short(error)) from None
    input_name, batch, shape = _input(model.graph, image_shape)
    return Signature(input_name, shape, batch, _output(model.graph))


def _parse(file: Path) -> onnx.ModelProto:
    size = file.stat().st_size
    if size > MAX_MODEL_BYTES:
        raise _not_onnx(f"it has {size} bytes; expected at most {MAX_MODEL_BYTES}")
    try:
        model = onnx.load_model(file, format="protobuf", load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise _not_onnx(_short(error)) from None
    if not model.ir_version or not model.graph.node:
        raise _not_onnx("it holds no graph")
    return model


def _not_onnx(problem: str) -> ModelNotOnnx:
    return ModelNotOnnx(f"file is not a valid ONNX model: {problem}", field="model", expected="a valid ONNX model")


def _short(error: Exception | str) -> str:
    return str(error).strip().partition("\n")[0][:_MAX_TEXT]


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of a file, wherever it hides."""
    yield from _graph_tensors(model.graph)
    for training in model.training_info:
        yield from _graph_tensors(training.initialization)
        yield from _graph_tensors(training.algorithm)
    for function in model.functions:
        yield from _attribute_tensors(function.attribute_proto)
        for node in function.node:
            yield from _attribute_tensors(node.attribute)


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _attribute_tensors(node.attribute)


def _attribute_tensors(attributes: Sequence[onnx.AttributeProto]) -> Iterator[onnx.TensorProto]:
    for attribute in attributes:
        yield from (attribute.t, *attribute.tensors)
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)
        for graph in (attribute.g, *attribute.graphs):
            yield from _graph_tensors(graph)


def _input(
    graph: onnx.GraphProto, image_shape: tuple[int, int, int] | None
) -> tuple[str, int | None, tuple[int, int, int]]:
    """Name, fixed batch size and image shape of the one input."""
    expected = f"one float32 input of shape {_text(None, *(image_shape or ('C', 'H', 'W')))}"
    weights = {tensor.name for tensor in graph.initializer}  # files of IR version 3 list them as inputs, too
    inputs = [value for value in graph.input if value.name not in weights]
    found = ", ".join(_described(value) for value in inputs) or "no input"
    mismatch = ModelInputMismatch(
        f"model takes {found}; expected {expected}", field="model.inputs", expected=expected, found=found
    )
    if len(inputs) != 1 or inputs[0].type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
        raise mismatch
    dimensions = _dimensions(inputs[0])
    if dimensions is None or len(dimensions) != 4 or dimensions[0] == 0:
        raise mismatch
    batch, *sizes = dimensions
    wanted = image_shape or (None, None, None)
    shape = tuple(size or want for size, want in zip(sizes, wanted, strict=True))
    if (image_shape and shape != image_shape) or None in shape:
        raise mismatch
    channels, height, width = (size for size in shape if size)
    nbytes = 4 * math.prod((batch or 1, channels, height, width))
    if nbytes > MAX_RUN_BYTES:
        expected = f"an input of at most {MAX_RUN_BYTES} bytes"
        message = f"model takes {found}: {nbytes} bytes; expected {expected}"
        raise ModelInputMismatch(message, field="model.inputs", expected=expected, found=found)
    return inputs[0].name, batch, (channels, height, width)


def _output(graph: onnx.GraphProto) -> str:
    """Name of the one output. A shape that the file does not state is left to the warm-up."""
    expected = "one float32 output of shape (N, columns)"
    found = ", ".join(_described(value) for value in graph.output) or "no output"
    if len(graph.output) == 1 and graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
        dimensions = _dimensions(graph.output[0])
        if dimensions is None or len(dimensions) == 2:
            return graph.output[0].name
    raise ModelOutputMismatch(
        f"model gives {found}; expected {expected}", field="model.outputs", expected=expected, found=found
    )


def _dimensions(value: onnx.ValueInfoProto) -> list[int | None] | None:
    """Sizes, None where free; None if the file states no shape."""
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    # The runtime, too, takes a negative size for a free one.
    return [size.dim_value if size.HasField("dim_value") and size.dim_value >= 0 else None for size in tensor.shape.dim]


def _described(value: onnx.ValueInfoProto) -> str:
    dimensions = _dimensions(value)
    number = value.type.tensor_type.elem_type
    known = number in onnx.TensorProto.DataType.values()
    kind = onnx.TensorProto.DataType.Name(number).lower() if known else f"of unknown type {number}"
    return f"{value.name!r} {kind} {_text(*dimensions) if dimensions is not None else 'of unstated shape'}"


def _text(*dimensions: int | str | None) -> str:
    return f"({', '.join('N' if size is None else str(size) for size in dimensions)})"


# onnxruntime has no status of its own for this; the words are those of its CPU and CUDA allocators.
_MEMORY = re.compile(r"bad_alloc|failed to allocate memory|out of memory|CUDA_ERROR_OUT_OF_MEMORY", re.IGNORECASE)


class OnnxModel:
    """A model in an onnxruntime session, warmed up.

    `columns` is the width of its output, `max_batch` the most images that one run may hold: what was asked for, the
    number that the file fixes, or one, for a model whose answer to an image depends on the others in its batch.
    """

    def __init__(
        self, file: Path, signature: Signature, *, threads: int, max_batch: int, run_seconds: float = 60.0
    ) -> None:
        """Opens the session (seconds) and runs the warm-up. A run is ended after `run_seconds`.

        Raises:
            ModelUnsupported: the runtime refuses the file, or it fails when it runs.
            ModelOutputMismatch: it does not give one row of floats per image.
        """
        self.signature = signature
        self._session = _session(file, threads)
        self.provider: str = self._session.get_providers()[0]
        self.columns = 0
        self._run_seconds = run_seconds
        self.max_batch = min(max_batch, signature.batch or max_batch)
        self._warm_up()

    def run(self, pieces: Sequence[Array]) -> Array:
        """Runs pieces of images (n, C, H, W) as one batch; (sum of n, columns), rows in the order of the images.

        Raises:
            ModelUnsupported: the runtime fails on these images, or does not finish them in time.
            ServiceOverloaded: there is no memory even for one image; nothing says that it is the model's fault.
            ModelOutputMismatch: not one row of 1 to `MAX_COLUMNS` columns came for each image.
        """
        images = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        count = len(images)
        if self.signature.batch is not None and count < self.signature.batch:
            padding = np.zeros((self.signature.batch - count, *images.shape[1:]), np.float32)
            images = np.concatenate((images, padding))
        try:
            output = self._run_in_time(images, count)
        except ServiceOverloaded:
            if count == 1 or self.signature.batch is not None:
                raise
            half = count // 2
            return np.concatenate([self.run([images[:half]]), self.run([images[half:]])])
        if (
            output.ndim != 2
            or output.shape[0] != len(images)
            or not 0 < output.shape[1] <= MAX_COLUMNS
            or self.columns not in (0, output.shape[1])
        ):
            expected = f"one row of 1 to {MAX_COLUMNS} columns per image"
            raise ModelOutputMismatch(
                f"output for {len(images)} images has shape {output.shape}; expected {expected}",
                field="model.outputs",
                expected=expected,
                found=str(output.shape),
            )
        return np.asarray(output[:count], np.float32)

    def _run_in_time(self, images: Array, count: int) -> npt.NDArray[np.generic]:
        options = ort.RunOptions()
        # A graph may loop for ever; the runtime looks at this between two nodes.
        timer = threading.Timer(self._run_seconds, setattr, (options, "terminate", True))
        timer.daemon = True
        timer.start()
        try:
            (output,) = self._session.run([self.signature.output_name], {self.signature.input_name: images}, options)
        except Exception as error:  # noqa: BLE001 - onnxruntime raises bare RuntimeErrors of its own for each status
            if _MEMORY.search(str(error)):
                raise ServiceOverloaded(f"no memory to run {count} images", unit="memory") from None
            late = f"it was ended after {self._run_seconds:g} s" if options.terminate else _short(error)
            raise ModelUnsupported(
                f"the runtime failed on {count} images: {late}", field="model", expected="a model that runs"
            ) from None
        finally:
            timer.cancel()
        return np.asarray(output)

    def _warm_up(self) -> None:
        """Learns the output's width, and whether images may share a batch."""
        images = np.random.default_rng(0).standard_normal((2, *self.signature.image_shape), np.float32)
        alone = [self.run([image[np.newaxis]]) for image in images]
        self.columns = alone[0].shape[1]
        if self.max_batch == 1:
            return
        # Not every exported graph keeps its word about a free batch dimension; an answer must not depend on who else
        # asked at the same time.
        together = None
        with contextlib.suppress(CxrevalError):
            together = self.run([images])
        if together is None or not np.allclose(together, np.concatenate(alone), rtol=1e-3, atol=1e-4, equal_nan=True):
            self.max_batch = 1


def _session(file: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # Threads that spin while they wait take the cores that decode the next images.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    cpu = ["CPUExecutionProvider"]
    # A GPU build lists CUDA as available on machines without one; the session then falls back to the CPU and says so.
    gpu = ["CUDAExecutionProvider"] if "CUDAExecutionProvider" in ort.get_available_providers() else []
    try:
        return ort.InferenceSession(str(file), options, providers=gpu + cpu)
    except Exception as error:  # noqa: BLE001 - onnxruntime raises bare RuntimeErrors of its own for each status
        raise ModelUnsupported(
            # The runtime names the file by its path; where this server keeps its files is nobody's business.
            f"the runtime refuses the model: {_short(str(error).replace(str(file), 'the file'))}",
            field="model",
            expected=f"operators of {RUNTIME}",
        ) from None
