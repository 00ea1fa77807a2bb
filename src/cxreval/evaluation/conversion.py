"""Converts submitted PyTorch files to the ONNX files that inference runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cxreval.client import Lease, Manifest, WorkerClient
from cxreval.errors import ConversionUnavailable, SandboxUnavailable
from cxreval.evaluation.sources import download
from cxreval.files import work_directory
from cxreval.model_interface import ModelInterface

COMPARED_IMAGES = 4
"""Number of images on which the ONNX file is compared with PyTorch."""

Converter = Callable[
    [Manifest, Path, Path, Sequence[Path]], tuple[tuple[str, ...], Mapping[str, str]]
]
"""Converts a PyTorch file to ONNX: called with the manifest, both files, and images for comparison.

Returns the finding of each output column, and the evidence of the comparison.
"""


@dataclass(frozen=True, slots=True)
class Converted:
    """A converted ONNX file in the registry.

    `outputs`: the finding of each output column; `evidence`: the provenance of the conversion.
    `interface`: it has one input, and its one output are probabilities; None if the manifest
    declares no preprocessing.
    """

    sha256: str
    outputs: tuple[str, ...]
    evidence: Mapping[str, str]
    interface: ModelInterface | None


def convert(
    registry: WorkerClient, lease: Lease, converter: Converter | None, images: Sequence[Path]
) -> Converted:
    """Downloads the submission's PyTorch file, converts it, and uploads the result.

    Raises:
        ConversionUnavailable: this worker has no converter, or no sandbox to open the file in.
        SubmissionFault: the file is not what the manifest says, or cannot be converted.
        ParityFailed: the outputs of the ONNX file differ from those of PyTorch.
        ArtifactCorrupt: the downloaded bytes do not match their digest.
    """
    if converter is None:
        message = (
            "this worker cannot convert PyTorch files; "
            "install the extra on it: pip install 'cxreval[export]'"
        )
        raise ConversionUnavailable(message)
    manifest = lease.submission.manifest
    with work_directory() as directory:
        weights, onnx_file = directory / "checkpoint", directory / "model.onnx"
        download(registry, manifest.artifact_sha256, weights)
        try:
            outputs, evidence = converter(manifest, weights, onnx_file, images)
        except SandboxUnavailable as error:
            raise ConversionUnavailable(error.message, **error.metadata) from None
        sha256 = registry.upload_derived_artifact(lease, onnx_file)
    steps = manifest.declared_preprocessing
    interface = ModelInterface(replace(steps, tensor="")) if steps else None
    return Converted(sha256, outputs, {"converted_sha256": sha256, **evidence}, interface)
