"""What can be known of a file to be handed in without a server: its digest, and whether it fits its
manifest."""

from __future__ import annotations

import zipfile
from functools import partial
from pathlib import Path

from cxreval.client import file_sha256
from cxreval.datasets.benchmark import BenchmarkSpec
from cxreval.datasets.prediction_file import read_predictions
from cxreval.errors import (
    ArtifactTooLarge,
    CheckpointUnreadable,
    CxrevalError,
    DigestMismatch,
    MalformedField,
)
from cxreval.extras import require_extra
from cxreval.files import MAX_ARTIFACT_BYTES
from cxreval.imaging.preprocess import profile_of
from cxreval.manifest.document import Document
from cxreval.manifest.model import UPLOADED, CheckpointFormat, Kind, Manifest
from cxreval.model_interface import check as check_interface


def facts(file: Path) -> dict[str, str]:
    """Digest and size of a file."""
    return {"sha256": file_sha256(file), "size_bytes": str(file.stat().st_size)}


def problems(
    file: Path, known: dict[str, str], document: Document, benchmark: BenchmarkSpec
) -> list[CxrevalError]:
    """Returns what is wrong with a file; what it holds is added to `known`."""
    found, manifest = [], document.manifest
    for step in (_digest, partial(_content, benchmark)):
        try:
            step(file, known, manifest)
        except CxrevalError as error:
            found.append(error)
    return found


def _digest(file: Path, known: dict[str, str], manifest: Manifest) -> None:
    declared, found = manifest.artifact_sha256, known["sha256"]
    if declared and declared != found:
        field = "manifest.artifact_sha256"
        raise DigestMismatch(
            f"{file} has sha256 {found}; {field} is {declared}", field=field, expected=declared
        )
    size, expected = int(known["size_bytes"]), f"1 to {MAX_ARTIFACT_BYTES} bytes"
    if not size:
        raise MalformedField(
            f"{file} is empty; expected {expected}", field="artifact", expected=expected
        )
    if size > MAX_ARTIFACT_BYTES:
        raise ArtifactTooLarge(
            f"{file} has {size} bytes; expected {expected}", field="artifact", expected=expected
        )


def _content(
    benchmark: BenchmarkSpec, file: Path, known: dict[str, str], manifest: Manifest
) -> None:
    if manifest.kind is Kind.PREDICTIONS:
        images, _ = read_predictions(file, benchmark.findings)
        known |= {"images": str(len(set(images))), "columns": ", ".join(benchmark.findings)}
    elif manifest.kind is Kind.CHECKPOINT:
        check_checkpoint(file, known, manifest)
    elif manifest.kind and manifest.kind not in UPLOADED:
        message = f"kind {manifest.kind} comes without a file"
        raise MalformedField(message, field="artifact", expected="no file")


def check_checkpoint(file: Path, known: dict[str, str], manifest: Manifest) -> None:
    """Checks a checkpoint against its manifest; what it holds is added to `known`.

    Raises:
        SubmissionFault: inference would refuse the checkpoint, or it is not a PyTorch file.
    """
    if manifest.format is CheckpointFormat.ONNX:
        _onnx(file, known, manifest)
    elif manifest.format is CheckpointFormat.PYTORCH_STATE_DICT:
        _pickle(file)


def _pickle(file: Path) -> None:
    """PyTorch writes zip archives, and wrote bare pickles before 1.6; it is not opened further
    here."""
    with file.open("rb") as stream:
        start = stream.read(2)
    if not (zipfile.is_zipfile(file) or start.startswith(b"\x80")):
        raise CheckpointUnreadable(
            f"{file} is no PyTorch checkpoint", field="artifact", expected="a state dict"
        )


def _onnx(file: Path, known: dict[str, str], manifest: Manifest) -> None:
    require_extra("onnx", f"checking the ONNX file {file}", "onnx")
    from cxreval.onnx_file.reading import read  # noqa: PLC0415 -- needs the extra
    from cxreval.onnx_file.signature import check, described, inputs  # noqa: PLC0415

    model = read(file)
    known |= {
        "inputs": described(inputs(model.graph)) or "none",
        "outputs": described(model.graph.output) or "none",
    }
    interface, columns = manifest.interface, len(manifest.output_names) or None
    if interface is None:
        check(model, columns=columns)
        return
    check_interface(interface, "manifest")
    check(model, interface, profile_of(interface.preprocessing).shape, columns)
