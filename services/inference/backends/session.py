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
        watchdog.watch(options, self._run_seconds)
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
                else first_line(error)
            )
            raise ModelUnsupported(
                f"the runtime failed on {count} images: {late}",
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
        """Inputs and outputs are tied to the device once a run, instead of node by node."""
        binding = self._session.io_binding()
        binding.bind_cpu_input(self.signature.input_name, np.ascontiguousarray(images))
        binding.bind_output(self.signature.output_name)
        self._session.run_with_iobinding(binding, options)
        return binding.copy_outputs_to_cpu()[0]

    def each(self, images: Images) -> Array:
        """The answers to images (n, C, H, W), each run alone; (n, columns)."""
        return np.concatenate([self.run([image[np.newaxis]]) for image in images])

    def _generated(self) -> Images:
        generator, shape = np.random.default_rng(0), (2, *self.signature.image_shape)
        if self.signature.dtype == np.uint8:
            return generator.integers(0, 256, shape, np.uint8)
        return generator.standard_normal(shape, np.float32)

    def _useful_batch(self, answers: Array) -> int:
        """The largest batch worth running, from what runs of twice the size each time take."""
        images = self._generated()
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


def _session(file: Path, threads: int, execution: Execution) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # Threads that spin while they wait take the cores that decode the next images.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        content = half_precision(file) if execution.fp16 else str(file)
        session = ort.InferenceSession(content, options, providers=execution.provider_names())
    except Exception as error:  # noqa: BLE001 - onnxruntime raises bare RuntimeErrors of its own for each status
        raise ModelUnsupported(
            # The runtime names the file by its path; where this server keeps its files is nobody's
            # business.
            f"the runtime refuses the model: {first_line(str(error).replace(str(file), 'the file'))}",
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
