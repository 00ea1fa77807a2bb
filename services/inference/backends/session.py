"""Opens and runs an ONNX file with onnxruntime, in the process of a model host."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from cxreval.errors import (
    ModelTooLarge,
    ModelUnsupported,
    ServiceOverloaded,
    ServiceUnavailable,
)
from cxreval.model_interface import output_mismatch, probabilities
from cxreval.onnx_file.messages import plain
from cxreval.onnx_file.signature import Signature
from services.inference.backends.precision import half_precision

Array = npt.NDArray[np.float32]
Images = npt.NDArray[Any]  # float32, float16 or uint8

RUNTIME = f"onnxruntime {ort.__version__}"
PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
"""onnxruntime's names of its execution providers."""

PLATFORM = "onnxruntime_onnx"
"""The Open Inference Protocol's name of this kind of model."""

# onnxruntime has no status of its own for this; the words are those of its CPU and CUDA allocators.
_MEMORY = re.compile(
    r"bad_alloc|failed to allocate memory|out of memory|CUDA_ERROR_OUT_OF_MEMORY", re.IGNORECASE
)

_WEIGHTS_DIRECTORY = "session.model_external_initializers_file_folder_path"

ort.set_default_logger_severity(4)  # its exceptions already say what its log lines would repeat


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

    @property
    def gpu(self) -> bool:
        """Whether a session may use a GPU."""
        return self.provider_names() != [PROVIDERS["cpu"]]

    @property
    def device(self) -> str:
        """The execution provider that onnxruntime tries first, a key of `PROVIDERS`."""
        first = self.provider_names()[0]
        return next(name for name, provider in PROVIDERS.items() if provider == first)

    def __str__(self) -> str:
        """Text for the provenance of a result."""
        return f"{self.provider or 'auto'}, {'fp16' if self.fp16 else 'as saved'}"


AS_SAVED = Execution()


class OnnxSession:
    """A model in an onnxruntime session."""

    def __init__(
        self,
        file: Path | bytes,
        signature: Signature,
        *,
        threads: int,
        execution: Execution,
        weights: Path | None = None,
    ) -> None:
        """Opens the session, which takes seconds.

        Args:
            file: the model's file, or its content.
            signature: that of the model.
            threads: threads of a run.
            execution: provider and precision.
            weights: the directory of the file that has the weights of a model given by content.

        Raises:
            ModelUnsupported: the runtime refuses the file.
            ModelTooLarge: memory does not suffice for it.
            ServiceUnavailable: the configured provider does not work on this machine.
        """
        self._signature = signature
        self._session = _session(file, threads, execution, weights)
        self.provider: str = self._session.get_providers()[0]
        self._on_gpu = self.provider != PROVIDERS["cpu"]  # on a CPU, no data are moved

    def run(self, images: Images) -> Array:
        """Runs images (n, C, H, W) as one batch, padded to the size that the file fixes.

        Returns:
            the probabilities (n, columns), after the activation.

        Raises:
            ModelUnsupported: the run fails.
            ModelTooLarge: memory does not suffice.
            ServiceOverloaded: the GPU's memory does not suffice, which other models share.
            ModelOutputMismatch: the output is not one row of 1 to `MAX_COLUMNS` columns per image,
                or not of floating point.
        """
        count, batch = len(images), self._signature.batch
        if batch is not None and count < batch:
            padding = np.zeros((batch - count, *images.shape[1:]), images.dtype)
            images = np.concatenate((images, padding))
        try:
            output = np.asarray(self._bound_run(images) if self._on_gpu else self._run(images))
        except Exception as error:  # noqa: BLE001 - onnxruntime's classes have no usable base
            if not is_memory(error):
                raise ModelUnsupported(
                    f"the runtime failed on {count} images: {plain(error)}",
                    field="model",
                    expected="a model that runs",
                ) from None
            if self._on_gpu:
                raise ServiceOverloaded(f"no memory to run {count} images", unit="memory") from None
            raise ModelTooLarge(f"no memory to run {count} images") from None
        if output.dtype.kind != "f" or output.shape[:1] != (len(images),):
            found = f"output of {output.dtype} and shape {output.shape} for {len(images)} images"
            raise output_mismatch(found, self._signature.activation)
        return probabilities(output, self._signature.activation)[:count]

    def _run(self, images: Images) -> Any:
        return self._session.run(
            [self._signature.output_name], {self._signature.input_name: images}
        )[0]

    def _bound_run(self, images: Images) -> Any:
        """Runs with inputs and outputs bound to the device, which saves copies between nodes."""
        binding = self._session.io_binding()
        binding.bind_cpu_input(self._signature.input_name, np.ascontiguousarray(images))
        binding.bind_output(self._signature.output_name)
        self._session.run_with_iobinding(binding)
        return binding.copy_outputs_to_cpu()[0]


def is_memory(error: BaseException) -> bool:
    """Returns whether an error says that memory did not suffice."""
    return isinstance(error, MemoryError) or bool(_MEMORY.search(str(error)))


def _session(
    file: Path | bytes, threads: int, execution: Execution, weights: Path | None
) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # Spinning threads would use the cores that decode the next images.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if weights:
        options.add_session_config_entry(_WEIGHTS_DIRECTORY, str(weights))
    source = str(file) if isinstance(file, Path) else file
    try:
        content = half_precision(source) if execution.fp16 else source
        session = ort.InferenceSession(content, options, providers=execution.provider_names())
    except Exception as error:  # noqa: BLE001 - onnxruntime's classes have no usable base
        if is_memory(error):
            raise ModelTooLarge("no memory to open the model") from None
        # The message contains the path of the file, which callers must not learn.
        hidden = source if isinstance(source, str) else f"{weights}/"
        raise ModelUnsupported(
            f"the runtime refuses the model: {plain(str(error).replace(hidden, 'the file'))}",
            field="model",
            expected=f"operators of {RUNTIME}",
        ) from None
    # A GPU build lists CUDA as available on machines without a GPU; the session then uses the CPU.
    provider = session.get_providers()[0]
    if execution.provider and provider != PROVIDERS[execution.provider]:
        message = f"models run on {provider} here; this server was told to use {execution.provider}"
        raise ServiceUnavailable(message, expected=execution.provider, found=provider)
    return session
