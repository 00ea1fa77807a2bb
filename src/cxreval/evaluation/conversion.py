"""PyTorch state dicts: what inference runs is the ONNX file that is made of one here."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cxreval.client import Lease, Manifest, RegistryClient
from cxreval.errors import CheckpointUnreadable, ConversionUnavailable, SandboxUnavailable
from cxreval.evaluation.sources import download

COMPARED_IMAGES = 4
"""Images of the benchmark on which the ONNX file is compared with what it was made of."""

Converter = Callable[
    [Manifest, Path, Path, Sequence[Path]], tuple[tuple[str, ...], Mapping[str, str]]
]
"""Converts the first file, a state dict that the manifest describes, to the second, an ONNX file, and
compares both on images. Returns the finding in each column of the output, and the evidence."""


@dataclass(frozen=True, slots=True)
class Converted:
    """An ONNX file that the registry has.

    `outputs`: the finding in each column of its output; `evidence`: how it was made.
    """

    sha256: str
    outputs: tuple[str, ...]
    evidence: Mapping[str, str]


def convert(
    registry: RegistryClient, lease: Lease, converter: Converter | None, images: Sequence[Path]
) -> Converted:
    """Downloads the submission's state dict, converts it, and uploads the result under the lease.

    Raises:
        ConversionUnavailable: this worker has no converter, or no sandbox to open the file in.
        CheckpointUnreadable: the file is no state dict, or holds more than tensors.
        CheckpointMismatch: the weights are another architecture's, or not finite in float32.
        InvalidProbability: the state dict gives what is not a number.
        ParityFailed: the ONNX file does not answer like the state dict.
        ArtifactCorrupt: the file did not arrive as it was handed in.
    """
    if converter is None:
        message = "this worker cannot convert PyTorch state dicts: it lacks the extra, pip install 'cxreval[export]'"
        raise ConversionUnavailable(message)
    manifest = lease.submission.manifest
    with tempfile.TemporaryDirectory() as directory:
        weights, onnx_file = (
            Path(directory).resolve() / "checkpoint",
            Path(directory) / "model.onnx",
        )
        download(registry, manifest.artifact_sha256, weights)
        try:
            outputs, evidence = converter(manifest, weights, onnx_file, images)
        except SandboxUnavailable as error:
            raise ConversionUnavailable(error.message, **error.metadata) from None
        except CheckpointUnreadable as error:
            raise CheckpointUnreadable(
                error.message.replace(str(weights), "the checkpoint"), field="artifact"
            ) from None
        sha256 = registry.upload_derived_artifact(lease, onnx_file)
    return Converted(sha256, outputs, {"converted_sha256": sha256, **evidence})
