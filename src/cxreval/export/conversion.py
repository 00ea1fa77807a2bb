"""A submitted state dict to the ONNX file that is evaluated in its place."""

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
"""What an ONNX file's bytes depend on; their versions are evidence."""


def convert_state_dict(
    manifest: Manifest, weights: Path, path: Path, images: Sequence[Path]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Writes `path` and compares it with PyTorch on `images`.

    Returns the finding in each column of the output, and the evidence, one short text a fact. The same weights and versions give the same bytes.

    Raises:
        CheckpointUnreadable: the file is no state dict, or holds more than tensors: a stranger's
            pickle is never run.
        CheckpointMismatch: the weights are another architecture's, have another number of outputs,
            or are not finite in float32.
        InvalidProbability: PyTorch itself gives what is not a number.
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
