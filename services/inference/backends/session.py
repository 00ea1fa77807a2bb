"""Runs ONNX models with onnxruntime.

`cxreval.onnx_file` has checked the file before. Here the runtime opens it, and a warm-up on two
generated images shows what only a run can show: how wide the output is, and which batch is worth
running.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from cxreval.errors import (
    CxrevalError,
    ModelOutputMismatch,
    ModelUnsupported,
    ServiceOverloaded,
    ServiceUnavailable,
)
from cxreval.imaging.preprocess import Profile
from cxreval.onnx_file.reading import first_line
from cxreval.onnx_file.signature import MAX_COLUMNS, Signature
from services.inference.backends.precision import check_half_precision, half_precision, phantoms
from services.inference.backends.watchdog import Watchdog

Array = npt.NDArray[np.float32]
Images = npt.NDArray[Any]  # float32 or uint8

RUNTIME = f"onnxruntime {ort.__version__}"
PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
"""onnxruntime's names of its execution providers."""

PLATFORM = "onnxruntime_onnx"
"""The Open Inference Protocol's name of this kind of model."""

_WORTH_IT = 0.9  # a larger batch must take less than this share of the time per image
_HARMLESS_SECONDS = 0.005  # a run this short delays no other request noticeably

# onnxruntime has no status of its own for this; the words are those of its CPU and CUDA allocators.
_MEMORY = re.compile(
    r"bad_alloc|failed to allocate memory|out of memory|CUDA_ERROR_OUT_OF_MEMORY", re.IGNORECASE
)

ort.set_default_logger_severity(4)  # its exceptions already say what its log lines would repeat

watchdog = Watchdog()
"""The time limits of all runs of this process."""


@dataclass(frozen=True, slots=True)
class Execution:
    """Provider and precision of all runs.

    `provider` is one of `PROVIDERS`, or empty for CUDA if available. `fp16` is half precision;
    without it, models run as saved.
    """

    provider: str = ""
    fp16: bool = False

    def provider_names(self) -> list[str]:
        """Returns onnxruntime's providers in order; the CPU runs what the others lack."""
        wanted = {"": ("cuda", "cpu"), "tensorrt": ("tensorrt", "cuda", "cpu")}.get(
            self.provider, (self.provider, "cpu")
        )
        names = dict.fromkeys(PROVIDERS[name] for name in wanted)
        return [name for name in names if name in ort.get_available_providers()]

    def __str__(self) -> str:
        """Text for the provenance of a result."""
        return f"{self.provider or 'auto'}, {'fp16' if self.fp16 else 'as saved'}"


class OnnxModel:
    """A warmed-up model in an onnxruntime session.

    `columns` is the width of its output. `max_batch` is the most images of one run: the number that
    the file fixes; one, if the answer to an image depends on the rest of its batch; else the
    largest batch up to the setting that saves time, or takes negligible time, in the warm-up.
    `image_seconds` is the run time per image in the warm-up.
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
        """Opens the session, which takes seconds, and runs the warm-up.

        A run is ended after `run_seconds`. Half precision is checked on phantoms, preprocessed with
        `profile`. Without a profile it is checked on noise, which is a weak check: many networks
        are certain about noise, and rounding does not change their answers.

        Raises:
            ModelUnsupported: the runtime refuses the file, a run fails, or in half precision the
                answers differ by more than `FP16_TOLERANCE`.
            ModelOutputMismatch: the output is not one row of floats per image.
            ServiceUnavailable: the configured provider does not work on this machine.
        """
        self.signature = signature
        self._session = _session(file, threads, execution)
        self.provider: str = self._session.get_providers()[0]
        self._bound = self.provider != PROVIDERS["cpu"]  # on a CPU, no data are moved
        self.columns = 0
        self._run_seconds = run_seconds
        self.max_batch = min(max_batch, signature.batch or max_batch)
        answers = self.each(self._generated())
        self.columns = answers.shape[1]
        if execution.fp16:
            full = OnnxModel(file, signature, threads=threads, max_batch=1, run_seconds=run_seconds)
            images = self._generated() if profile is None else phantoms(profile)
            check_half_precision(self.each(images), full.each(images))
        self.image_seconds = self._seconds(self._generated()[:1])
        if self.max_batch > 1:
            self.max_batch = self._useful_batch(answers)

    def run(self, pieces: Sequence[Images]) -> Array:
        """Runs pieces of images (n, C, H, W) as one batch.

        Returns:
            (sum of n, columns), the rows in the order of the images.

        Raises:
            ModelUnsupported: the run fails or exceeds its time limit.
            ServiceOverloaded: memory does not suffice even for one image, which need not be the
                model's fault.
            ModelOutputMismatch: the output is not one row of 1 to `MAX_COLUMNS` columns per image.
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
        watchdog.watch(options, self._run_seconds)
        try:
            output = (
                self._bound_run(images, options)
                if self._bound
                else self._plain_run(images, options)
            )
        except Exception as error:  # noqa: BLE001 - onnxruntime's classes have no usable base
            if _MEMORY.search(str(error)):
                raise ServiceOverloaded(f"no memory to run {count} images", unit="memory") from None
            problem = (
                f"it was ended after {self._run_seconds:g} s"
                if options.terminate
                else first_line(error)
            )
            raise ModelUnsupported(
                f"the runtime failed on {count} images: {problem}",
                field="model",
                expected="a model that runs",
            ) from None
        finally:
            watchdog.forget(options)
        return np.asarray(output)

    def _plain_run(self, images: Images, options: ort.RunOptions) -> Any:
        return self._session.run(
            [self.signature.output_name], {self.signature.input_name: images}, options
        )[0]

    def _bound_run(self, images: Images, options: ort.RunOptions) -> Any:
        """Runs with inputs and outputs bound to the device, which saves copies between nodes."""
        binding = self._session.io_binding()
        binding.bind_cpu_input(self.signature.input_name, np.ascontiguousarray(images))
        binding.bind_output(self.signature.output_name)
        self._session.run_with_iobinding(binding, options)
        return binding.copy_outputs_to_cpu()[0]

    def each(self, images: Images) -> Array:
        """Runs each of the images (n, C, H, W) alone; returns (n, columns)."""
        return np.concatenate([self.run([image[np.newaxis]]) for image in images])

    def _generated(self) -> Images:
        generator, shape = np.random.default_rng(0), (2, *self.signature.image_shape)
        if self.signature.dtype == np.uint8:
            return generator.integers(0, 256, shape, np.uint8)
        return generator.standard_normal(shape, np.float32)

    def _useful_batch(self, answers: Array) -> int:
        """Returns the largest batch worth running; doubles the size while that saves time."""
        images = self._generated()
        # Some exported graphs declare a free batch dimension and do not support it. And an answer
        # must not depend on the other images of its batch.
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
        """Returns the shorter duration of two runs."""
        taken = []
        for _ in range(2):
            start = time.perf_counter()
            self.run([images])
            taken.append(time.perf_counter() - start)
        return min(taken)


def _session(file: Path, threads: int, execution: Execution) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # Spinning threads would use the cores that decode the next images.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        content = half_precision(file) if execution.fp16 else str(file)
        session = ort.InferenceSession(content, options, providers=execution.provider_names())
    except Exception as error:  # noqa: BLE001 - onnxruntime's classes have no usable base
        # The message contains the path of the file, which callers must not learn.
        problem = first_line(str(error).replace(str(file), "the file"))
        raise ModelUnsupported(
            f"the runtime refuses the model: {problem}",
            field="model",
            expected=f"operators of {RUNTIME}",
        ) from None
    # A GPU build lists CUDA as available on machines without a GPU; the session then uses the CPU.
    provider = session.get_providers()[0]
    if execution.provider and provider != PROVIDERS[execution.provider]:
        message = f"models run on {provider} here; this server was told to use {execution.provider}"
        raise ServiceUnavailable(message, expected=execution.provider, found=provider)
    return session
