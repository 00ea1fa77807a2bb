"""Converts a submitted state dict to the ONNX file that is evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cxreval.datasets.nih import FINDINGS
from cxreval.export.checkpoint import read_checkpoint
from cxreval.export.onnx_export import export_onnx
from cxreval.export.parity import check_parity
from cxreval.export.seed import metadata
from cxreval.export.systems import build
from cxreval.manifest.model import Manifest

_PACKAGES = ("torch", "torchvision", "torchxrayvision", "onnx", "onnxscript")
"""Packages that determine the bytes of an ONNX file; their versions are recorded as evidence."""


def convert_state_dict(
    manifest: Manifest, weights: Path, path: Path, images: Sequence[Path]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Converts a state dict to the ONNX file `path` and compares it with PyTorch on `images`.

    Returns the finding of each output column, and the evidence as short texts. The same weights and
    package versions give the same bytes.

    Raises:
        CheckpointUnreadable: the file is not a state dict, or contains more than tensors: a
            submitter's pickle is never run.
        CheckpointMismatch: the weights belong to another architecture, have another number of
            outputs, or are not finite in float32.
        InvalidProbability: PyTorch itself returns a value that is not finite.
        SandboxUnavailable: this machine has no sandbox.
        ParityFailed: a probability differs from PyTorch's.
        ImageUnreadable: one of `images` is not a complete image.
    """
    checkpoint = read_checkpoint(weights, manifest.artifact_sha256, tensors_only=True)
    system = build(manifest.architecture, checkpoint, manifest.output_names)
    export_onnx(system.exported, system.profile.shape, path, metadata(system, checkpoint))
    report = check_parity(system, checkpoint, path, images)
    return FINDINGS, {
        "architecture": manifest.architecture,
        "conversion_images": str(report.images),
        "conversion_images_sha256": report.images_sha256,
        "conversion_largest_difference": f"{report.largest_difference:.3g}",
        "conversion_tolerance": f"{report.tolerance:g}",
        **{f"{package}_version": report.versions[package] for package in _PACKAGES},
    }
