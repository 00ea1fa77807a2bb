"""Runs a submission's model on two images, on this machine, and judges its outputs."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from cxreval import sandbox
from cxreval.bundle import whole
from cxreval.cli import output
from cxreval.datasets.phantom import draw_studies, encode_png, render
from cxreval.errors import (
    CxrevalError,
    ImageUnreadable,
    ModelCrashed,
    ModelTooLarge,
    ModelTooSlow,
    ModelUnsupported,
    NotDeterministic,
    SandboxUnavailable,
)
from cxreval.extras import require_extra
from cxreval.fields import printable
from cxreval.imaging.image import Image
from cxreval.imaging.preprocess import profile_of
from cxreval.manifest.model import Manifest
from cxreval.metrics.predictions import invalid_probability
from cxreval.model_interface import ModelInterface, output_mismatch, probabilities
from cxreval.preprocessing import Activation, Outputs

if TYPE_CHECKING:  # needs the extra
    from cxreval.onnx_file.signature import Signature

IMAGES = 2
"""Number of images on which a model is tried."""

_PROGRAM = "cxreval.export.trial"  # not imported here, because it imports onnxruntime
_REFUSED = 3
_SECONDS = 120.0
_PATIENTS = (1, 6)  # phantoms
_SUM_TOLERANCE = 1e-3
_MESSAGE_BYTES = 1000


@dataclass(frozen=True, slots=True)
class Picture:
    """An image that a model is tried on."""

    name: str
    pixels: Image


def pictures(files: Sequence[Path]) -> list[Picture]:
    """Returns the decoded images, and phantoms if they are fewer than `IMAGES`.

    Raises:
        ImageUnreadable, ImageTooLarge: a file is no image that the platform reads.
        ExtraMissing: the codecs of images are not installed.
    """
    given = []
    for file in files:
        require_extra("images", f"reading the image {file}", "imagecodecs")
        from cxreval.imaging.decode import decode  # noqa: PLC0415 -- needs the extra

        try:
            given.append(Picture(file.name, decode(file.read_bytes())))
        except ImageUnreadable as error:
            raise ImageUnreadable(f"{file}: {error.message}", **error.metadata) from None
    return given + list(_phantoms()[: max(0, IMAGES - len(given))])


@lru_cache(maxsize=1)
def _phantoms() -> tuple[Picture, ...]:
    studies = [draw_studies(0, patient)[0] for patient in _PATIENTS]
    return tuple(Picture(f"phantom {study.image}", render(study, 0)) for study in studies)


def try_model(
    models: Sequence[tuple[Path, Signature]],
    files: Sequence[Path],
    sha256: str,
    manifest: Manifest,
    findings: Collection[str],
    images: Sequence[Picture],
) -> tuple[dict[str, str], list[str]]:
    """Runs a checkpoint on images; returns facts, and notes on what looks wrong.

    Args:
        models: its ONNX files with their signatures; none if its file is of PyTorch, which is
            converted first.
        files: all its files.
        sha256: the digest of the artifact.
        manifest: its manifest, with preprocessing.
        findings: findings of the benchmark, whose columns are judged; all named ones, if there are
            none.
        images: what `pictures` returned.

    Raises:
        ExtraMissing: what it needs is not installed.
        SandboxUnavailable: a PyTorch file needs a sandbox.
        SubmissionFault: the platform would refuse the model.
    """
    steps = manifest.declared_preprocessing
    if steps is None:
        return {}, []
    require_extra("inference", "running the model on two images", "onnxruntime")
    names, activation = manifest.output_names, (manifest.outputs or Outputs()).activation
    with tempfile.TemporaryDirectory() as directory:
        if not models:
            models, names = _converted(files[0], sha256, manifest, Path(directory), images)
            activation = Activation.NONE
        elif len(models) < len(files):
            try:
                models = _embedded(models, files, manifest, Path(directory))
            except ModelTooLarge as error:  # the platform runs it from its archive
                return {}, [f"the model was not run here: {error.message}"]
        profile = profile_of(steps)
        tensors = [profile.apply(image.pixels) for image in images]
        raw = [_repeated(path, signature, tensors) for path, signature in models]
    each = [[probabilities(rows, activation).mean(axis=0) for rows in model] for model in raw]
    values = np.mean(np.array(each, np.float32), axis=0)
    if values.shape[1] != len(names):
        raise output_mismatch(f"{values.shape[1]} columns for {len(names)} names", activation)
    judged = [number for number, name in enumerate(names) if name in findings]
    judged = judged or [number for number, name in enumerate(names) if name]
    values = values[:, judged]
    _check(values, [names[number] for number in judged], images)
    low, high = float(values.min()), float(values.max())
    facts = {"tried on": f"{', '.join(i.name for i in images)}: {low:.3g} to {high:.3g}"}
    return facts, _notes(values, raw, activation)


def _embedded(
    models: Sequence[tuple[Path, Signature]],
    files: Sequence[Path],
    manifest: Manifest,
    directory: Path,
) -> list[tuple[Path, Signature]]:
    """Returns models as files that contain the weights of other files.

    Raises `ModelTooLarge` if one would be larger than an ONNX file can be.
    """
    from cxreval.onnx_file.bundled import inspect_bundle  # noqa: PLC0415 -- needs the extra

    signatures = iter([signature for _, signature in models])  # in the order of the models
    sections = {file.name: whole(file) for file in files}
    embedded = []
    for model in inspect_bundle(
        sections, manifest.ensemble, lambda _: next(signatures), embed=True
    ):
        path = directory / model.name
        path.write_bytes(model.content)
        embedded.append((path, model.signature))
    return embedded


def _check(
    values: npt.NDArray[np.float32], names: Sequence[str], images: Sequence[Picture]
) -> None:
    wrong = [n for n, row in enumerate(values) if not ((row >= 0) & (row <= 1)).all()]
    if wrong:
        raise invalid_probability(images[wrong[0]].name, names, values[wrong], len(wrong))


def _notes(
    values: npt.NDArray[np.float32],
    raw: Sequence[Sequence[npt.NDArray[Any]]],
    activation: Activation,
) -> list[str]:
    """Returns sentences on valid probabilities (images, findings) that are rarely right."""
    notes = []
    if (values == values[0]).all():
        notes.append(
            "all images got the same probabilities: the preprocessing may not be the one of the "
            "training, or the weights were not loaded"
        )
    elif values.shape[1] > 1 and (values == values[:, :1]).all():
        notes.append("all findings of an image got the same probability: look at the last layer")
    if values.shape[1] > 1 and (abs(values.sum(axis=1) - 1) < _SUM_TOLERANCE).all():
        notes.append(
            "the probabilities of an image sum to 1, as of a softmax: findings can occur together, "
            "so a sigmoid is usual"
        )
    logits = np.concatenate([np.ravel(rows) for model in raw for rows in model])
    if activation is Activation.SIGMOID and ((logits >= 0) & (logits <= 1)).all():
        notes.append(
            "the model's outputs are within 0 and 1 before the sigmoid, so they look like "
            "probabilities already: remove outputs.activation"
        )
    return notes


def _converted(
    file: Path, sha256: str, manifest: Manifest, directory: Path, images: Sequence[Picture]
) -> tuple[list[tuple[Path, Signature]], tuple[str, ...]]:
    """Returns the ONNX file of a PyTorch file with its signature, and the names of its columns."""
    from cxreval.cli.export import PACKAGES  # noqa: PLC0415 -- declares options of a command

    require_extra("export", f"converting {file}", *PACKAGES)
    require_extra("images", f"converting {file}", "imagecodecs")
    from cxreval.export.conversion import convert_checkpoint  # noqa: PLC0415 -- needs the extra
    from cxreval.onnx_file.signature import inspect  # noqa: PLC0415

    paths = []
    for number, image in enumerate(images):
        paths.append(directory / f"{number}.png")
        paths[-1].write_bytes(encode_png(_gray(image.pixels)))
    path, steps = directory / "model.onnx", manifest.declared_preprocessing
    with output.errors.status(f"converting {file.name} to ONNX"):
        names, _ = convert_checkpoint(
            dataclasses.replace(manifest, artifact_sha256=sha256), file, path, paths
        )
    interface = ModelInterface(dataclasses.replace(steps, tensor="")) if steps else None
    shape = profile_of(steps).shape if steps else None
    return [(path, inspect(path, interface, shape, len(names)))], names


def _repeated(
    path: Path, signature: Signature, tensors: Sequence[npt.NDArray[Any]]
) -> list[npt.NDArray[Any]]:
    """Returns what `_run` does, after the first image was run a second time, at the end.

    Raises:
        NotDeterministic: its outputs differ.
    """
    *outputs, again = _run(path, signature, [*tensors, tensors[0]])
    if not np.array_equal(outputs[0], again, equal_nan=True):
        from cxreval.onnx_file.randomness import random_operators  # noqa: PLC0415
        from cxreval.onnx_file.reading import parse  # noqa: PLC0415

        drawn = ", ".join(random_operators(parse(whole(path)))) or "none that is known"
        expected = "equal answers to one image"
        raise NotDeterministic(
            f"the model answered one image twice and differently; expected {expected}: call "
            f"model.eval() before you export it. Operators that draw random numbers: {drawn}",
            field="model",
            expected=expected,
        )
    return outputs


def _run(
    path: Path, signature: Signature, tensors: Sequence[npt.NDArray[Any]]
) -> list[npt.NDArray[Any]]:
    """Returns a model's output (crops, ...) for the tensors (crops, ...) of each image.

    The model runs in the sandbox if this machine has one, else in a process with limits.
    """
    path = path.resolve()
    words = (signature.input_name, signature.output_name, str(signature.batch or 0))
    environment = None
    try:
        command = sandbox.command(_PROGRAM, [*words, sandbox.INPUT], path)
    except SandboxUnavailable:
        command = [sys.executable, "-s", "-P", "-m", _PROGRAM, *words, str(path)]
        environment = sandbox.environment() | sandbox.interpreter_environment()
    with (
        tempfile.TemporaryFile() as stdin,
        tempfile.TemporaryFile() as stdout,
        tempfile.TemporaryFile() as stderr,
    ):
        for tensor in tensors:
            np.save(stdin, tensor, allow_pickle=False)
        stdin.seek(0)
        try:
            status = subprocess.run(  # noqa: S603 -- bubblewrap and this interpreter
                command,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                timeout=_SECONDS,
                check=False,
                env=environment,
            ).returncode
        except subprocess.TimeoutExpired:
            raise _too_slow() from None
        if status:
            raise _ended(path, status, stderr)
        stdout.seek(0)
        return [_output(stdout, len(tensor)) for tensor in tensors]


def _output(stdout: BinaryIO, crops: int) -> npt.NDArray[Any]:
    try:
        rows = np.load(stdout, allow_pickle=False)
    except (ValueError, OSError, EOFError, MemoryError):
        raise _crashed("it gave no output") from None
    if rows.dtype.kind != "f" or rows.shape[:1] != (crops,):
        found = f"output of {rows.dtype} and shape {rows.shape} for {crops} images"
        raise output_mismatch(found, Activation.NONE)
    return np.asarray(rows)


def _ended(path: Path, status: int, stderr: BinaryIO) -> CxrevalError:
    """Returns the error of a run that ended with a status other than 0."""
    stderr.seek(max(0, stderr.seek(0, 2) - _MESSAGE_BYTES))
    said = printable(stderr.read().decode(errors="replace").strip().rpartition("\n")[2])
    if status == _REFUSED:
        expected = "a model that runs"
        message = said or f"the runtime refuses {path.name}"
        return ModelUnsupported(message, field="model", expected=expected)
    number = -status if status < 0 else status - 128  # as the sandbox reports a signal
    if number == signal.SIGXCPU:
        return _too_slow()
    if "MemoryError" in said or "bad_alloc" in said:
        return ModelTooLarge("no memory to run the model", field="model")
    return _crashed(f"exit status {status}{f', {said}' if said else ''}")


def _too_slow() -> ModelTooSlow:
    expected = f"two images in less than {_SECONDS:g} s, one minute of processor time"
    return ModelTooSlow(
        f"the model did not finish; expected {expected}", field="model", expected=expected
    )


def _crashed(problem: str) -> ModelCrashed:
    expected = "a model that runs"
    message = f"the process of the model ended: {problem}; expected {expected}"
    return ModelCrashed(message, field="model", expected=expected, found=problem)


def _gray(pixels: Image) -> npt.NDArray[np.uint8]:
    """Returns an image as 8 bits of gray, for the comparison of a conversion."""
    gray = pixels if pixels.ndim == 2 else pixels[..., 0]
    return (gray if gray.dtype == np.uint8 else gray >> 8).astype(np.uint8)
