"""Converts a submitted PyTorch file to the ONNX file that is evaluated, in the sandbox."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from cxreval import sandbox
from cxreval.errors import (
    CxrevalError,
    DigestMismatch,
    ImageUnreadable,
    ModelCrashed,
    ModelInputMismatch,
    ModelTooLarge,
    ModelTooSlow,
    ParityFailed,
    SubmissionFault,
)
from cxreval.export.conversion_request import MAX_CPU_SECONDS, TOLERANCE, Request
from cxreval.fields import printable
from cxreval.files import file_sha256
from cxreval.imaging.decode import decode
from cxreval.imaging.preprocess import Profile, profile_of
from cxreval.manifest.model import CheckpointFormat, Manifest
from cxreval.preprocessing import Outputs, Preprocessing

TIMEOUT_SECONDS = 240.0
"""Wall-clock limit of a conversion."""

_PACKAGES = (
    "torch", "torchvision", "torchxrayvision", "timm", "monai", "onnx", "onnxscript",
)  # fmt: skip
"""Packages that determine the bytes of an ONNX file; their versions are recorded as evidence."""

_CONVERTER = "cxreval.export.converter"  # not imported here, because it imports PyTorch
_COMPARED = 8  # an image may have ten crops
_ANSWER_BYTES = 65536
_MESSAGE_CHARACTERS = 1000

Images = npt.NDArray[Any]


def convert_checkpoint(
    manifest: Manifest, weights: Path, path: Path, images: Sequence[Path]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Converts a PyTorch file to the ONNX file `path` and compares both on `images`.

    The ONNX file takes images as the manifest's preprocessing produces them, and returns
    probabilities: the activation of `manifest.outputs` is part of its graph. The same file and
    package versions give the same bytes.

    Returns the name of each output column, and the evidence as short texts.

    Raises:
        DigestMismatch: the file is not the one that the manifest names.
        SubmissionFault: the file is not what the manifest says, or cannot be converted; the class
            and the message say why.
        SandboxUnavailable: this machine has no sandbox.
        ParityFailed: a probability differs from PyTorch's.
        ImageUnreadable: one of `images` is not a complete image.
    """
    if (digest := file_sha256(weights)) != manifest.artifact_sha256:
        message = f"the file has sha256 {digest}; expected {manifest.artifact_sha256}"
        raise DigestMismatch(message, field="sha256", expected=manifest.artifact_sha256)
    outputs = manifest.outputs or Outputs()
    request = Request(
        manifest.format or CheckpointFormat.PYTORCH_STATE_DICT,
        manifest.architecture,
        manifest.output_names,
        outputs.activation,
        outputs.tensor,
    )
    profile = profile_of(manifest.declared_preprocessing or Preprocessing())
    batch, images_sha256 = _batch(images, profile)
    answer = _converted(request, weights, path, batch)
    return tuple(answer["outputs"]), {
        **({"architecture": manifest.architecture} if manifest.architecture else {}),
        "conversion_images": str(len(images)),
        "conversion_images_sha256": images_sha256,
        "conversion_largest_difference": f"{answer['largest_difference']:.3g}",
        "conversion_tolerance": f"{TOLERANCE:g}",
        **{f"{package}_version": version(package) for package in _PACKAGES},
    }


def _batch(images: Sequence[Path], profile: Profile) -> tuple[Images, str]:
    """Returns the first tensors of the images, (N, *one tensor), and the digest of the images.

    The digest is that of the lines `name SP sha256 LF`, one per image in order.
    """
    digest, tensors = hashlib.sha256(), []
    for file in images:
        data = file.read_bytes()
        digest.update(f"{file.name} {hashlib.sha256(data).hexdigest()}\n".encode())
        try:
            tensor = profile.apply(decode(data))
        except ImageUnreadable as error:
            raise ImageUnreadable(f"{file}: {error.message}", **error.metadata) from None
        tensors.append(tensor)
    if len({tensor.shape[1:] for tensor in tensors}) != 1:
        expected = "a resize or a crop, so that all images have one size"
        message = f"a PyTorch file takes images of one size; expected {expected}"
        raise ModelInputMismatch(message, field="preprocessing.resize", expected=expected)
    return np.ascontiguousarray(np.concatenate(tensors)[:_COMPARED]), digest.hexdigest()


def _converted(request: Request, weights: Path, path: Path, batch: Images) -> dict[str, Any]:
    """Writes the ONNX file and returns the converter's answer; removes the file on an error."""
    with (
        path.open("w+b") as stdout,
        tempfile.TemporaryFile() as stderr,
        tempfile.TemporaryFile() as stdin,
    ):
        np.save(stdin, batch)
        stdin.seek(0)
        try:
            process = sandbox.run_module(
                _CONVERTER,
                (request.to_json(),),
                weights,
                stdout,
                stderr,
                stdin=stdin,
                timeout=TIMEOUT_SECONDS,
            )
            if process.returncode:
                raise _ended(process.returncode, stderr)
            return _answer(stdout)
        except subprocess.TimeoutExpired:
            path.unlink()
            raise _too_slow(TIMEOUT_SECONDS) from None
        except CxrevalError:
            path.unlink()
            raise


def _answer(stdout: BinaryIO) -> dict[str, Any]:
    """Returns the answer at the end of the output, and removes it from there.

    A stranger's code may have written it, so every part is checked.
    """
    size = stdout.seek(0, os.SEEK_END)
    stdout.seek(max(0, size - _ANSWER_BYTES))
    text = stdout.read().rpartition(b"\n")[2]
    try:
        answer = json.loads(text)
        if "reason" in answer:
            raise _refused(answer)
        outputs = [_text(name) for name in answer["outputs"]]
        difference = float(answer["largest_difference"])
        if not 0 <= difference <= TOLERANCE:  # true for NaN
            raise ValueError(difference)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise _crashed("it answered wrongly") from None
    stdout.truncate(size - len(text) - 1)
    return {"outputs": outputs, "largest_difference": difference}


def _refused(answer: dict[str, Any]) -> CxrevalError:
    kind = CxrevalError.by_reason[answer["reason"]]
    if not issubclass(kind, SubmissionFault | ParityFailed):
        raise TypeError(kind)
    metadata = {str(key): _text(value) for key, value in answer["metadata"].items()}
    return kind(_text(answer["message"]), **metadata)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    value.encode()  # refuses lone surrogates
    return printable(value[:_MESSAGE_CHARACTERS])


def _ended(status: int, stderr: BinaryIO) -> CxrevalError:
    """Returns the error of a converter that ended without an answer."""
    stderr.seek(max(0, stderr.seek(0, os.SEEK_END) - _ANSWER_BYTES))
    written = stderr.read()
    number = -status if status < 0 else status - 128  # as the sandbox reports a signal
    if number == signal.SIGXCPU:
        return _too_slow(MAX_CPU_SECONDS)
    if b"bad_alloc" in written or b"MemoryError" in written:
        expected = "a smaller network"
        message = f"the conversion needs more memory than it may take; expected {expected}"
        return ModelTooLarge(message, field="artifact", expected=expected)
    names = {entry.value: entry.name for entry in signal.Signals}
    return _crashed(names.get(number, f"exit status {status}"))


def _too_slow(seconds: float) -> ModelTooSlow:
    expected = f"at most {seconds:g} s"
    message = f"the conversion took more than {seconds:g} s; the process was ended"
    return ModelTooSlow(message, field="artifact", expected=expected)


def _crashed(problem: str) -> ModelCrashed:
    return ModelCrashed(
        f"the process that converts the file ended: {problem}",
        field="artifact",
        expected="a file that can be converted",
        found=problem,
    )
