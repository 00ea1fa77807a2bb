"""ONNX files: what a stranger's file must be before the runtime may open it, and how it is run with
onnxruntime.

A file is parsed and checked as data first: nothing it names outside itself is opened. Then the
runtime opens it, and two made-up images show what really comes out.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import re
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.checker
import onnxruntime as ort
from google.protobuf.message import DecodeError
from onnxruntime.transformers.float16 import convert_float_to_float16

from cxreval.datasets import phantom
from cxreval.errors import (
    CxrevalError,
    ModelExternalData,
    ModelInputMismatch,
    ModelNotOnnx,
    ModelOutputMismatch,
    ModelUnsupported,
    ServiceOverloaded,
    ServiceUnavailable,
)
from cxreval.files import MAX_ARTIFACT_BYTES
from cxreval.imaging.preprocess import Profile
from cxreval.wire.limits import MIB

Array = npt.NDArray[np.float32]
Images = npt.NDArray[Any]  # float32 or uint8

RUNTIME = f"onnxruntime {ort.__version__}"
PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
"""onnxruntime's names of what can run a model."""

PROFILE_KEY = "cxreval.preprocessing_profile"
"""Where a file's metadata names its profile; `cxreval export` writes it."""

PLATFORM = "onnxruntime_onnx"
"""What the Open Inference Protocol calls this kind of model."""

MAX_MODEL_BYTES = MAX_ARTIFACT_BYTES
"""Largest file."""

MAX_COLUMNS = 10_000
"""Most values a model may give for an image."""

MAX_RUN_BYTES = 256 * MIB
"""Largest input of one run that a file may fix: its batch of images."""

FP16_TOLERANCE = 2e-3
"""Largest absolute difference of a half-precision model's answers to those of the file as it is."""

_MAX_TEXT = 300  # characters of a foreign error message that are passed on
_WORTH_IT = 0.9  # of the time an image takes: a larger batch has to save that much
_WATCH_SECONDS = 0.1
_HARMLESS_SECONDS = 0.005  # a run as short as this makes nobody wait

ort.set_default_logger_severity(
    4
)  # what goes wrong comes back as an exception; its log lines would repeat it


@dataclass(frozen=True, slots=True)
class Execution:
    """How models are run: on one of `PROVIDERS`, empty for CUDA where there is one; in half
    precision or as saved."""

    provider: str = ""
    fp16: bool = False

    def provider_names(self) -> list[str]:
        """Best first; the CPU runs what the others lack."""
        wanted = {"": ("cuda", "cpu"), "tensorrt": ("tensorrt", "cuda", "cpu")}.get(
            self.provider, (self.provider, "cpu")
        )
        names = dict.fromkeys(PROVIDERS[name] for name in wanted)
        return [name for name in names if name in ort.get_available_providers()]

    def __str__(self) -> str:
        """For whoever reads a result."""
        return f"{self.provider or 'auto'}, {'fp16' if self.fp16 else 'as saved'}"


_FLOAT32: np.dtype[Any] = np.dtype(np.float32)
_DTYPES: dict[int, np.dtype[Any]] = {
    onnx.TensorProto.FLOAT: _FLOAT32,
    onnx.TensorProto.UINT8: np.dtype(np.uint8),
}


@dataclass(frozen=True, slots=True)
class Signature:
    """The one input and the one output of a model.

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


def inspect(file: Path, image_shape: tuple[int, int, int] | None = None) -> Signature:
    """Reads an ONNX file as data, without opening anything that it names.

    Args:
        file: the model.
        image_shape: what the model's preprocessing profile gives; without one, the file must fix
            the shape.

    Raises:
        ModelNotOnnx: the file is not a valid ONNX model.
        ModelExternalData: it keeps weights in other files.
        ModelInputMismatch: it does not have exactly one input of shape (N, *image_shape): of
            float32, or, without a profile, of uint8.
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
    input_name, batch, shape, dtype = _input(model.graph, image_shape)
    return Signature(input_name, shape, batch, _output(model.graph), dtype)


def profile_name(file: Path) -> str:
    """The preprocessing profile that a file says it is meant for; empty if it says none, or is no
    model."""
    try:
        model = _parse(file)
    except ModelNotOnnx:
        return ""
    return next((entry.value for entry in model.metadata_props if entry.key == PROFILE_KEY), "")


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
    return ModelNotOnnx(
        f"file is not a valid ONNX model: {problem}", field="model", expected="a valid ONNX model"
    )


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
) -> tuple[str, int | None, tuple[int, int, int], Any]:
    """Name, fixed batch size, image shape and data type of the one input."""
    dtypes = {
        kind: dtype for kind, dtype in _DTYPES.items() if dtype == _FLOAT32 or not image_shape
    }
    kinds = " or ".join(str(dtype) for dtype in dtypes.values())
    expected = f"one {kinds} input of shape {_text(None, *(image_shape or ('C', 'H', 'W')))}"
    weights = {
        tensor.name for tensor in graph.initializer
    }  # files of IR version 3 list them as inputs, too
    inputs = [value for value in graph.input if value.name not in weights]
    found = ", ".join(_described(value) for value in inputs) or "no input"
    mismatch = ModelInputMismatch(
        f"model takes {found}; expected {expected}",
        field="model.inputs",
        expected=expected,
        found=found,
    )
    if len(inputs) != 1 or inputs[0].type.tensor_type.elem_type not in dtypes:
        raise mismatch
    dtype = dtypes[inputs[0].type.tensor_type.elem_type]
    dimensions = _dimensions(inputs[0])
    if dimensions is None or len(dimensions) != 4 or dimensions[0] == 0:
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
    return inputs[0].name, batch, (channels, height, width), dtype


def _output(graph: onnx.GraphProto) -> str:
    """Name of the one output. A shape that the file does not state is left to the warm-up."""
    expected = "one float32 output of shape (N, columns)"
    found = ", ".join(_described(value) for value in graph.output) or "no output"
    if (
        len(graph.output) == 1
        and graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    ):
        dimensions = _dimensions(graph.output[0])
        if dimensions is None or len(dimensions) == 2:
            return graph.output[0].name
    raise ModelOutputMismatch(
        f"model gives {found}; expected {expected}",
        field="model.outputs",
        expected=expected,
        found=found,
    )


def _dimensions(value: onnx.ValueInfoProto) -> list[int | None] | None:
    """Sizes, None where free; None if the file states no shape."""
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
    return f"{value.name!r} {kind} {_text(*dimensions) if dimensions is not None else 'of unstated shape'}"


def _text(*dimensions: int | str | None) -> str:
    return f"({', '.join('N' if size is None else str(size) for size in dimensions)})"


# onnxruntime has no status of its own for this; the words are those of its CPU and CUDA allocators.
_MEMORY = re.compile(
    r"bad_alloc|failed to allocate memory|out of memory|CUDA_ERROR_OUT_OF_MEMORY", re.IGNORECASE
)


class OnnxModel:
    """A model in an onnxruntime session, warmed up.

    `columns` is the width of its output, `max_batch` the most images that one run may hold: the
    number that the file fixes; one, for a model whose answer to an image depends on the others in
    its batch; or the largest batch that the warm-up found to save time, or to cost nobody any, and
    no more than was asked for. `image_seconds` is what an image took then.
    """

    def __init__(
        self,
        file: Path,
        signature: Signature,
        profile: Profile | None = None,
        *,
        threads: int,
        max_batch: int,
        run_seconds: float = 60.0,
        execution: Execution = Execution(),
    ) -> None:
        """Opens the session (seconds) and runs the warm-up. A run is ended after `run_seconds`.

        Half precision is judged by phantoms in the `profile` that the model is meant for; without
        one, by noise, which drives many a network to certain answers that no rounding moves.

        Raises:
            ModelUnsupported: the runtime refuses the file, it fails when it runs, or in half
                precision its answers differ by more than `FP16_TOLERANCE`.
            ModelOutputMismatch: it does not give one row of floats per image.
            ServiceUnavailable: the provider that was asked for does not work on this machine.
        """
        self.signature = signature
        self._session = _session(file, threads, execution)
        self.provider: str = self._session.get_providers()[0]
        self._bound = self.provider != PROVIDERS["cpu"]  # on a CPU there is nothing to move
        self.columns = 0
        self._run_seconds = run_seconds
        self.max_batch = min(max_batch, signature.batch or max_batch)
        answers = self.each(self._made_up())
        self.columns = answers.shape[1]
        if execution.fp16:
            full = OnnxModel(file, signature, threads=threads, max_batch=1, run_seconds=run_seconds)
            images = self._made_up() if profile is None else _phantoms(profile)
            _check_fp16(self.each(images), full.each(images))
        self.image_seconds = self._seconds(self._made_up()[:1])
        if self.max_batch > 1:
            self.max_batch = self._useful_batch(answers)

    def run(self, pieces: Sequence[Images]) -> Array:
        """Runs pieces of images (n, C, H, W) as one batch; (sum of n, columns), rows in the order
        of the images.

        Raises:
            ModelUnsupported: the runtime fails on these images, or does not finish them in time.
            ServiceOverloaded: there is no memory even for one image; nothing says that it is the
                model's fault.
            ModelOutputMismatch: not one row of 1 to `MAX_COLUMNS` columns came for each image.
        """
        images = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        count = len(images)
        if self.signature.batch is not None and count < self.signature.batch:
            padding = np.zeros((self.signature.batch - count, *images.shape[1:]), images.dtype)
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

    def _run_in_time(self, images: Images, count: int) -> npt.NDArray[np.generic]:
        options = ort.RunOptions()
        _watchdog.watch(options, self._run_seconds)
        try:
            output = (
                self._bound_run(images, options)
                if self._bound
                else self._plain_run(images, options)
            )
        except Exception as error:  # noqa: BLE001 - onnxruntime raises bare RuntimeErrors of its own for each status
            if _MEMORY.search(str(error)):
                raise ServiceOverloaded(f"no memory to run {count} images", unit="memory") from None
            late = (
                f"it was ended after {self._run_seconds:g} s"
                if options.terminate
                else _short(error)
            )
            raise ModelUnsupported(
                f"the runtime failed on {count} images: {late}",
                field="model",
                expected="a model that runs",
            ) from None
        finally:
            _watchdog.forget(options)
        return np.asarray(output)

    def _plain_run(self, images: Images, options: ort.RunOptions) -> Any:
        return self._session.run(
            [self.signature.output_name], {self.signature.input_name: images}, options
        )[0]

    def _bound_run(self, images: Images, options: ort.RunOptions) -> Any:
        """Inputs and outputs are tied to the device once a run, instead of node by node."""
        binding = self._session.io_binding()
        binding.bind_cpu_input(self.signature.input_name, np.ascontiguousarray(images))
        binding.bind_output(self.signature.output_name)
        self._session.run_with_iobinding(binding, options)
        return binding.copy_outputs_to_cpu()[0]

    def each(self, images: Images) -> Array:
        """The answers to images (n, C, H, W), each run alone; (n, columns)."""
        return np.concatenate([self.run([image[np.newaxis]]) for image in images])

    def _made_up(self) -> Images:
        generator, shape = np.random.default_rng(0), (2, *self.signature.image_shape)
        if self.signature.dtype == np.uint8:
            return generator.integers(0, 256, shape, np.uint8)
        return generator.standard_normal(shape, np.float32)

    def _useful_batch(self, answers: Array) -> int:
        """The largest batch worth running, from what runs of twice the size each time take."""
        images = self._made_up()
        # Not every exported graph keeps its word about a free batch dimension; an answer must not
        # depend on who else asked at the same time.
        together = None
        with contextlib.suppress(CxrevalError):
            together = self.run([images])
        if together is None or not np.allclose(
            together, answers, rtol=1e-3, atol=1e-4, equal_nan=True
        ):
            return 1
        if self.signature.batch:
            return self.max_batch
        useful = 1
        for size in itertools.takewhile(
            lambda size: size <= self.max_batch, (2**power for power in itertools.count(1))
        ):
            seconds = self._seconds(np.resize(images, (size, *images.shape[1:])))
            if seconds > _HARMLESS_SECONDS and seconds / size > _WORTH_IT * self.image_seconds:
                break
            useful, self.image_seconds = size, min(self.image_seconds, seconds / size)
        return useful

    def _seconds(self, images: Images) -> float:
        """What a run takes, the better of two."""
        taken = []
        for _ in range(2):
            start = time.perf_counter()
            self.run([images])
            taken.append(time.perf_counter() - start)
        return min(taken)


class _Watchdog:
    """Ends runs that take too long: a graph may loop for ever, and the runtime looks at `terminate`
    between two nodes.

    One thread looks at all runs now and then; a timer for each run would cost more than a small
    model's run.
    """

    def __init__(self) -> None:
        self._runs: dict[int, tuple[float, ort.RunOptions]] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def watch(self, options: ort.RunOptions, seconds: float) -> None:
        """Ends the run with these options after `seconds`."""
        self._runs[id(options)] = (time.monotonic() + seconds, options)
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._look, name="watchdog", daemon=True)
                    self._thread.start()

    def forget(self, options: ort.RunOptions) -> None:
        """The run has ended."""
        del self._runs[id(options)]

    def _look(self) -> None:
        while True:
            time.sleep(_WATCH_SECONDS)
            now = time.monotonic()
            for end, options in list(self._runs.values()):
                if now > end:
                    options.terminate = True


_watchdog = _Watchdog()


def _phantoms(profile: Profile) -> Images:
    """Drawn radiographs of 32 patients, as a model of this profile sees them."""
    pictures = [phantom.render(phantom.draw_studies(0, patient)[0], 0) for patient in range(32)]
    return np.concatenate(
        [profile.apply(picture).reshape(-1, *profile.shape) for picture in pictures]
    )


def _check_fp16(answers: Array, expected: Array) -> None:
    difference = float(np.abs(answers - expected).max())
    if not difference <= FP16_TOLERANCE:
        expected_text = f"at most {FP16_TOLERANCE:g}"
        raise ModelUnsupported(
            f"in half precision the model's answers differ by {difference:.3g}; expected {expected_text}: this server "
            "runs models in half precision",
            field="model",
            expected=expected_text,
            found=f"{difference:.3g}",
        )


def _session(file: Path, threads: int, execution: Execution) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # Threads that spin while they wait take the cores that decode the next images.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        content = _half_precision(file) if execution.fp16 else str(file)
        session = ort.InferenceSession(content, options, providers=execution.provider_names())
    except Exception as error:  # noqa: BLE001 - onnxruntime raises bare RuntimeErrors of its own for each status
        raise ModelUnsupported(
            # The runtime names the file by its path; where this server keeps its files is nobody's
            # business.
            f"the runtime refuses the model: {_short(str(error).replace(str(file), 'the file'))}",
            field="model",
            expected=f"operators of {RUNTIME}",
        ) from None
    # A GPU build lists CUDA as available on machines without one; the session then falls back to
    # the CPU and says so.
    if execution.provider and session.get_providers()[0] != PROVIDERS[execution.provider]:
        found = session.get_providers()[0]
        message = f"models run on {found} here; this server was told to use {execution.provider}"
        raise ServiceUnavailable(message, expected=execution.provider, found=found)
    return session


def _half_precision(file: Path) -> bytes:
    """The model with float16 weights and sums inside; what goes in and comes out stays as it is."""
    converted = convert_float_to_float16(onnx.load_model(file), keep_io_types=True)
    return bytes(converted.SerializeToString())
