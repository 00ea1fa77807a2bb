"""Compares an ONNX file with the PyTorch model it came from, image by image."""

from __future__ import annotations

import contextlib
import hashlib
import io
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch

from cxreval.datasets.nih import FINDINGS
from cxreval.errors import DatasetInvalid, ImageUnreadable, InvalidProbability, ParityFailed
from cxreval.export.checkpoint import Checkpoint
from cxreval.export.onnx_export import INPUT_NAME, OUTPUT_NAME
from cxreval.export.systems import SeedSystem
from cxreval.files import file_sha256
from cxreval.imaging.decode import decode
from cxreval.imaging.preprocess import Profile

TOLERANCE = 1e-5
"""Largest accepted absolute difference of two float32 probabilities."""

_BATCH = 8
_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
_PACKAGES = (
    "cxreval",
    "torch",
    "torchvision",
    "torchxrayvision",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "numpy",
)

Progress = Callable[[int, int], None]
"""Called with the number of images compared and the number of all images."""

Batch = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ParityReport:
    """Differences between the probabilities of the ONNX file and of the original.

    `differences` has each finding's largest absolute difference over all images, and
    `largest_difference` is the largest of these. `images_sha256` is the digest of the lines
    `name SP sha256 LF`, one per image in order.
    """

    system: str
    version: str
    preprocessing_profile: str
    profile_digest: str
    checkpoint_sha256: str
    checkpoint_whole_pickle: bool
    onnx_sha256: str
    images: int
    images_sha256: str
    tolerance: float
    largest_difference: float
    differences: dict[str, float]
    versions: dict[str, str]


def find_images(directory: Path) -> list[Path]:
    """Returns the PNG and JPEG files of a directory, sorted by name.

    Raises `DatasetInvalid` if there are none.
    """
    files = directory.iterdir() if directory.is_dir() else ()
    images = sorted(file for file in files if file.suffix.lower() in _IMAGE_SUFFIXES)
    if not images:
        expected = "a directory of PNG or JPEG images"
        raise DatasetInvalid(
            f"{directory} holds no image; expected {expected}", field="parity", expected=expected
        )
    return images


def check_parity(
    system: SeedSystem,
    checkpoint: Checkpoint,
    onnx_file: Path,
    images: Sequence[Path],
    progress: Progress = lambda _done, _total: None,
) -> ParityReport:
    """Runs the original and the ONNX file on the same images, both on the CPU in float32.

    Raises:
        ParityFailed: a probability differs by more than `TOLERANCE`, or is finite in the original
            only.
        InvalidProbability: the original returns a value that is not finite, so its weights are
            wrong.
        ImageUnreadable: a file is not a complete image.
    """
    session = onnxruntime.InferenceSession(onnx_file, providers=["CPUExecutionProvider"])
    largest = np.zeros(len(FINDINGS), np.float32)
    images_digest = hashlib.sha256()
    done = 0
    for names, batch in _batches(images, system.profile):
        expected = _original_answer(system, batch)
        (answer,) = session.run([OUTPUT_NAME], {INPUT_NAME: batch})
        largest = np.maximum(largest, np.abs(answer - expected).max(axis=0))
        images_digest.update(names.encode())
        done += len(batch)
        progress(done, len(images))
    _check(system, largest)
    return ParityReport(
        system=system.name,
        version=system.version,
        preprocessing_profile=system.profile.name,
        profile_digest=system.profile.digest,
        checkpoint_sha256=checkpoint.sha256,
        checkpoint_whole_pickle=checkpoint.whole_pickle,
        onnx_sha256=file_sha256(onnx_file),
        images=len(images),
        images_sha256=images_digest.hexdigest(),
        tolerance=TOLERANCE,
        largest_difference=float(largest.max()),
        differences={
            finding: float(value) for finding, value in zip(FINDINGS, largest, strict=True)
        },
        versions={"python": platform.python_version()}
        | {package: version(package) for package in _PACKAGES},
    )


def _batches(images: Sequence[Path], profile: Profile) -> Iterator[tuple[str, Batch]]:
    """Yields for each batch the lines of names and digests, and the tensor (N, *profile.shape)."""
    for start in range(0, len(images), _BATCH):
        lines, tensors = [], []
        for file in images[start : start + _BATCH]:
            data = file.read_bytes()
            lines.append(f"{file.name} {hashlib.sha256(data).hexdigest()}\n")
            try:
                tensors.append(profile.apply(decode(data)))
            except ImageUnreadable as error:
                raise ImageUnreadable(f"{file}: {error.message}", **error.metadata) from None
        yield "".join(lines), np.concatenate(tensors)


def _original_answer(system: SeedSystem, batch: Batch) -> Batch:
    """Returns the original's probabilities of the benchmark's findings, (N, 14)."""
    # TorchXRayVision prints a warning about completely dark images.
    with torch.inference_mode(), contextlib.redirect_stdout(io.StringIO()):
        answer: Batch = system.original(torch.from_numpy(batch)).numpy()[:, system.columns]
    finite = np.isfinite(answer).all(axis=0)
    if not finite.all():
        finding, expected = FINDINGS[int(np.argmin(finite))], "finite probabilities"
        message = (
            f"PyTorch returns a value that is not finite for {finding} with these weights; "
            f"expected {expected}"
        )
        raise InvalidProbability(message, field=finding, expected=expected)
    return answer


def _check(system: SeedSystem, largest: Batch) -> None:
    if largest.max() <= TOLERANCE:  # false for NaN
        return
    worst = int(np.argmax(largest))
    message = (
        f"the export of {system.name} differs from its original by {largest[worst]:.3g} "
        f"in {FINDINGS[worst]}; expected at most {TOLERANCE:g}"
    )
    raise ParityFailed(
        message,
        field=FINDINGS[worst],
        expected=f"at most {TOLERANCE:g}",
        found=f"{largest[worst]:.3g}",
    )
