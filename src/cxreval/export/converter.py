"""Converts a PyTorch file to ONNX; a program that runs only inside `cxreval.sandbox`.

`python -m cxreval.export.converter REQUEST FILE` reads the images for comparison from standard
input, as NumPy writes an array, and the request as JSON. It writes the ONNX file, a line break and
an answer in JSON to standard output.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from torch import nn

from cxreval.child_limits import limit_this_process
from cxreval.errors import (
    CheckpointMismatch,
    CxrevalError,
    InvalidProbability,
    ModelInputMismatch,
    ModelOutputMismatch,
    ModelTooLarge,
    ModelUnsupported,
    NotDeterministic,
    ParityFailed,
)
from cxreval.export import programs, weights
from cxreval.export.architectures import NetworkSpec
from cxreval.export.conversion_request import MAX_CPU_SECONDS, TOLERANCE, Request
from cxreval.export.onnx_export import INPUT_NAME, onnx_bytes
from cxreval.export.probabilities import Probabilities, selected
from cxreval.export.pytorch_file import check_file
from cxreval.export.state_dict import read_state_dict
from cxreval.export.systems import (
    CHEXNET_OUTPUTS,
    TORCHXRAYVISION_MODELS,
    take_thresholds,
    torchxrayvision_network,
)
from cxreval.export.torch_libraries import torchxrayvision
from cxreval.files import MAX_FILE_BYTES
from cxreval.manifest.model import CheckpointFormat
from cxreval.preprocessing import Activation

_MEMORY_BYTES = 8 * 1024**3
_OPEN_FILES = 256

Images = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class _Opened:
    """A network, the names of its columns, and what is known of it.

    `named`: it is a library's network, built by name; `scripted`: it is a TorchScript module;
    `batch`: its batch size, if that is fixed.
    """

    network: nn.Module
    outputs: tuple[str, ...]
    activation: Activation
    thresholds: torch.Tensor | None = None
    named: bool = False
    scripted: bool = False
    batch: int | None = None


def main() -> None:
    """Converts the file that the command line names."""
    request, file = Request.from_json(sys.argv[1]), Path(sys.argv[2])
    images: Images = np.load(io.BytesIO(sys.stdin.buffer.read()), allow_pickle=False)
    stdout = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # Libraries may print; only the answer goes to the original standard output.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    limit_this_process(
        memory_bytes=_MEMORY_BYTES,
        cpu_seconds=MAX_CPU_SECONDS,
        file_bytes=MAX_FILE_BYTES,
        open_files=_OPEN_FILES,
    )
    content = b""
    try:
        content, answer = convert(request, file, images)
    except MemoryError:
        expected = f"at most {_MEMORY_BYTES >> 30} GiB"
        message = f"the conversion needs more memory than it may take; expected {expected}"
        answer = _refusal(ModelTooLarge(message, field="artifact", expected=expected))
    except CxrevalError as error:
        answer = _refusal(error)
    stdout.write(content)
    stdout.write(b"\n" + json.dumps(answer).encode())
    stdout.flush()


def _refusal(error: CxrevalError) -> dict[str, Any]:
    return {"reason": error.reason, "message": error.message, "metadata": error.metadata}


def convert(request: Request, file: Path, images: Images) -> tuple[bytes, dict[str, Any]]:
    """Returns the ONNX file, and the names of its columns with the largest difference to PyTorch.

    Args:
        request: what to convert it to.
        file: the PyTorch file.
        images: images as the network takes them, (N, ...), on which ONNX and PyTorch are compared.

    Raises:
        SubmissionFault: the file is not what the request says, or cannot be converted.
        ParityFailed: no ONNX file of a network that was built by name agrees with it.
        MemoryError: there is not enough memory.
    """
    # The fused kernel of transformers has no form in ONNX.
    torch.backends.mha.set_fastpath_enabled(False)
    kind = check_file(file, request.format)
    match request.format:
        case CheckpointFormat.TORCHSCRIPT:
            network = programs.open_torchscript(file)
            opened = _Opened(network, request.outputs, request.activation, scripted=True)
        case CheckpointFormat.TORCH_EXPORT:
            network, batch = programs.open_program(file)
            opened = _Opened(network, request.outputs, request.activation, batch=batch)
        case _:
            opened = _named(request, read_state_dict(file, kind), images)
    columns = [column for column, name in enumerate(opened.outputs) if name]
    outputs = tuple(filter(None, opened.outputs))
    module = Probabilities(
        opened.network,
        columns,
        opened.activation,
        None if opened.thresholds is None else opened.thresholds[columns],
        request.tensor,
    )
    _check_outputs(opened, request.tensor, images)
    expected = _expected(module, images, outputs)
    content, difference = _exported(module, opened, images, expected)
    return content, {"outputs": outputs, "largest_difference": difference}


def _named(request: Request, tensors: Mapping[str, torch.Tensor], images: Images) -> _Opened:
    """Returns a network that is built by name, with its weights."""
    activation = request.activation
    if activation is not Activation.SOFTMAX_POSITIVE:
        activation = Activation.SIGMOID  # the networks return logits
    if images.ndim != 4 or images.dtype != np.float32 or images.shape[1] not in (1, 3):
        expected = "float32 images in the layout NCHW for a network that is built by name"
        message = f"the images are {images.dtype} of shape {images.shape[1:]}; expected {expected}"
        raise ModelInputMismatch(message, field="preprocessing", expected=expected)
    name = request.architecture
    if name in TORCHXRAYVISION_MODELS:
        own = dict(tensors)
        thresholds = take_thresholds(name, own)
        network = torchxrayvision_network(name)
        weights.load(network, own)
        labels = tuple(torchxrayvision.models.model_urls[name]["labels"])
        return _Opened(network, labels, activation, thresholds, named=True)
    outputs = CHEXNET_OUTPUTS if name == "chexnet" else request.outputs
    if not outputs:
        expected = "the finding of each column"
        message = f"output_names is missing; expected {expected}"
        raise ModelOutputMismatch(message, field="output_names", expected=expected)
    pairs = 2 if activation is Activation.SOFTMAX_POSITIVE else 1
    _, channels, height, width = images.shape
    spec = NetworkSpec(name, pairs * len(outputs), channels, (height, width))
    try:
        fitted = weights.fitted(spec.state(), tensors)
    except CheckpointMismatch as error:
        raise _with_hint(error, spec, tensors) from None
    network = spec.build()
    network.load_state_dict(fitted, strict=False)
    return _Opened(network, outputs, activation, named=True)


def _with_hint(
    error: CheckpointMismatch, spec: NetworkSpec, tensors: Mapping[str, torch.Tensor]
) -> CheckpointMismatch:
    """Returns the error, with the architecture of the same family that fits, if there is one."""
    for other in spec.similar():
        try:
            wanted = other.state()
            fits = not weights.mismatch(wanted, weights.renamed(wanted, tensors))
        except CheckpointMismatch:
            continue
        if fits:
            message = f"{error.message}; these weights are of {other.name}, not {spec.name}"
            return CheckpointMismatch(message, **error.metadata | {"fits": other.name})
    return error


def _check_outputs(opened: _Opened, tensor: str, images: Images) -> None:
    """Checks that one run gives a value, or a pair of values, for each declared column."""
    answer = selected(_run(opened.network, images[:1]), tensor)
    count = len(opened.outputs)
    if opened.activation is Activation.SOFTMAX_POSITIVE:
        shapes: tuple[tuple[int, ...], ...] = ((1, 2 * count), (1, count, 2))
    else:
        shapes = ((1, count),)
    if tuple(answer.shape) not in shapes:
        expected = f"{' or '.join(map(str, shapes))} for the {count} columns of output_names"
        found = tuple(answer.shape)
        message = f"the network returns a tensor of shape {found} for an image; expected {expected}"
        raise ModelOutputMismatch(message, field="output_names", expected=expected)


def _run(network: nn.Module, images: Images) -> Any:
    # TorchXRayVision prints a warning about completely dark images.
    try:
        with torch.inference_mode(), redirect_stdout(io.StringIO()):
            return network(torch.from_numpy(images))
    except CxrevalError:
        raise
    except Exception as error:  # noqa: BLE001 -- a stranger's network can raise anything
        raise programs.not_run(error, images.shape, str(images.dtype)) from None


def _expected(module: nn.Module, images: Images, outputs: tuple[str, ...]) -> Images:
    """Returns PyTorch's probabilities (N, columns), one image at a time."""
    rows = [_run(module, images[n : n + 1]).float().numpy() for n in range(len(images))]
    again = _run(module, images[:1]).float().numpy()
    if not np.array_equal(again, rows[0], equal_nan=True):
        expected = "the same answer for the same image"
        message = (
            f"PyTorch answers differently when it sees an image again; expected {expected}: call "
            "model.eval() before you save it"
        )
        raise NotDeterministic(message, field="artifact", expected=expected)
    answers = np.concatenate(rows)
    bad = ~np.isfinite(answers) | (answers < 0) | (answers > 1)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        value, finding = float(answers[row, column]), outputs[column]
        logits = np.isfinite(answers).all()
        cure = "; these look like logits: set outputs.activation to sigmoid" if logits else ""
        raise InvalidProbability(
            f"PyTorch returns {value:.6g} for {finding} with this file; expected a probability "
            f"from 0 to 1{cure}",
            field=finding,
            expected="a probability from 0 to 1",
        )
    return answers


def _exported(
    module: nn.Module, opened: _Opened, images: Images, expected: Images
) -> tuple[bytes, float]:
    """Returns the first ONNX file that agrees with PyTorch, and the largest difference.

    It takes any number of images if the network can be exported so, else one.
    """
    one, two = torch.from_numpy(images[:1]), torch.from_numpy(images[[0, 0]])
    examples = (one,) if opened.batch == 1 else (two, one)
    exporters = (True,) if opened.scripted else (True, False)
    problem: Exception = RuntimeError()
    for example, traced in itertools.product(examples, exporters):
        try:
            with torch.no_grad():
                content = onnx_bytes(module, example, traced=traced)
            difference = _difference(content, images, expected, together=example is two)
        except Exception as error:  # noqa: BLE001 -- a graph can make the libraries raise anything
            if programs.out_of_memory(error):
                raise MemoryError from None
            problem = error
            continue
        if difference <= TOLERANCE:  # false for NaN
            return content, difference
        problem = _differs(difference, opened)
    raise problem if isinstance(problem, CxrevalError) else programs.unsupported(problem)


def _difference(content: bytes, images: Images, expected: Images, *, together: bool) -> float:
    """Returns the largest difference of the ONNX file's answers, one by one and `together`."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])

    def answer(batch: Images) -> Images:
        rows: Images = session.run(None, {INPUT_NAME: batch})[0]
        return rows.astype(np.float32)

    answers = [np.concatenate([answer(images[n : n + 1]) for n in range(len(images))])]
    if together:
        answers.append(answer(images))
    return max(float(np.abs(rows - expected).max()) for rows in answers)


def _differs(difference: float, opened: _Opened) -> CxrevalError:
    expected = f"at most {TOLERANCE:g}"
    message = (
        f"the ONNX file differs from PyTorch by {difference:.3g} in a probability; "
        f"expected {expected}"
    )
    if opened.named:
        return ParityFailed(message, field="artifact", expected=expected, found=difference)
    cure = "; export the model to ONNX on your machine and set format: onnx"
    return ModelUnsupported(message + cure, field="artifact", expected=expected, found=difference)


if __name__ == "__main__":
    main()
