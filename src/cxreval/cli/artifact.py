"""What can be known of the files of a submission without a server: their digest, and whether they
fit their manifest."""

from __future__ import annotations

import contextlib
import os
import zipfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from cxreval.bundle import (
    arranged,
    artifact_sha256,
    described,
    is_file_name,
    model_names,
    opened,
    whole,
)
from cxreval.datasets.benchmark import BenchmarkSpec
from cxreval.datasets.prediction_file import read_predictions
from cxreval.errors import (
    ArtifactTooLarge,
    CheckpointUnreadable,
    CxrevalError,
    DigestMismatch,
    ExtraMissing,
    MalformedField,
    ModelNotOnnx,
)
from cxreval.extras import require_extra
from cxreval.files import MAX_ARTIFACT_BYTES, MAX_FILE_BYTES
from cxreval.imaging.preprocess import profile_of
from cxreval.manifest.document import Document
from cxreval.manifest.model import UPLOADED, CheckpointFormat, Kind, Manifest
from cxreval.model_interface import check as check_interface


def is_bundle(files: Sequence[Path], manifest: Manifest) -> bool:
    """Returns whether files are submitted as one archive."""
    return len(files) > 1 or bool(manifest.files)


def examine(
    files: Sequence[Path], document: Document, benchmark: BenchmarkSpec
) -> tuple[dict[str, str], list[CxrevalError]]:
    """Returns what is known of the files of a submission, and what is wrong with them."""
    manifest = document.manifest
    try:
        files = arranged(with_data(files), manifest.files)
    except CxrevalError as error:
        return {}, [error]
    bundled = is_bundle(files, manifest)
    known = {
        "sha256": artifact_sha256(files, bundled=bundled),
        "size_bytes": str(_nbytes(files, bundled=bundled)),
    }
    problems = []
    for step in (_digest, partial(_content, benchmark)):
        try:
            step(files, known, manifest)
        except CxrevalError as error:
            problems.append(error)
    return known, problems


def _nbytes(files: Sequence[Path], *, bundled: bool) -> int:
    with opened(files, bundled=bundled) as content:
        return content.seek(0, os.SEEK_END)


def with_data(files: Sequence[Path]) -> list[Path]:
    """Returns the files, and those beside an ONNX file in which it has weights.

    Files that cannot be read here, which a later check reports, are taken to have none elsewhere.
    """
    complete = {file.name: file for file in files}
    for model in [complete[name] for name in model_names(list(complete))]:
        with contextlib.suppress(ModelNotOnnx, ExtraMissing):
            require_extra("onnx", f"reading the ONNX file {model}", "onnx")
            from cxreval.onnx_file.reading import data_names  # noqa: PLC0415 -- needs the extra

            for name in data_names(model):
                if is_file_name(name) and (beside := model.parent / name).is_file():
                    complete.setdefault(name, beside)
    return [*files, *(file for file in complete.values() if file not in files)]


def _digest(files: Sequence[Path], known: dict[str, str], manifest: Manifest) -> None:
    declared, found = manifest.artifact_sha256, known["sha256"]
    named = f"the archive of {', '.join(map(str, files))}" if len(files) > 1 else str(files[0])
    if declared and declared != found:
        field = "manifest.artifact_sha256"
        raise DigestMismatch(
            f"{named} has sha256 {found}; {field} is {declared}", field=field, expected=declared
        )
    if is_bundle(files, manifest):
        described(files, manifest.files)
    check_sizes(files, manifest)


def check_sizes(files: Sequence[Path], manifest: Manifest) -> None:
    """Raises `MalformedField` for an empty file, `ArtifactTooLarge` for too many bytes."""
    bundled = is_bundle(files, manifest)
    most, expected = (MAX_ARTIFACT_BYTES if bundled else MAX_FILE_BYTES), "at least one byte"
    for file in files:
        if not file.stat().st_size:
            raise MalformedField(
                f"{file} is empty; expected {expected}", field="file", expected=expected
            )
    if (size := _nbytes(files, bundled=bundled)) > most:
        expected = f"at most {most} bytes"
        raise ArtifactTooLarge(
            f"{', '.join(map(str, files))} have {size} bytes; expected {expected}",
            field="artifact",
            expected=expected,
        )


def _content(
    benchmark: BenchmarkSpec, files: Sequence[Path], known: dict[str, str], manifest: Manifest
) -> None:
    if manifest.kind is Kind.PREDICTIONS:
        images, _, covered = read_predictions(_only(files, manifest), benchmark.findings)
        known |= {"images": str(len(set(images))), "columns": ", ".join(covered)}
    elif manifest.kind is Kind.CHECKPOINT:
        check_checkpoint(files, known, manifest)
    elif manifest.kind and manifest.kind not in UPLOADED:
        message = f"kind {manifest.kind} comes without a file"
        raise MalformedField(message, field="artifact", expected="no file")


def check_checkpoint(files: Sequence[Path], known: dict[str, str], manifest: Manifest) -> None:
    """Checks a checkpoint against its manifest; what it holds is added to `known`.

    Raises:
        SubmissionFault: inference would refuse the checkpoint, or it is not a PyTorch file.
        MalformedField: there are several files for a format that has one.
    """
    if manifest.format is CheckpointFormat.ONNX:
        _onnx(files, known, manifest)
    elif manifest.format is CheckpointFormat.PYTORCH_STATE_DICT:
        _pickle(_only(files, manifest))
    elif manifest.format:
        _only(files, manifest)


def _only(files: Sequence[Path], manifest: Manifest) -> Path:
    """Returns the only file. Raises `MalformedField` if there are several."""
    if is_bundle(files, manifest):
        what, expected = manifest.format or manifest.kind, "one file; only ONNX may have several"
        message = f"{what} has {len(files)} files; expected {expected}"
        raise MalformedField(message, field="files", expected=expected)
    return files[0]


def _pickle(file: Path) -> None:
    """PyTorch writes zip archives, and wrote bare pickles before 1.6; it is not opened further
    here."""
    with file.open("rb") as stream:
        start = stream.read(2)
    if not (zipfile.is_zipfile(file) or start.startswith(b"\x80")):
        raise CheckpointUnreadable(
            f"{file} is no PyTorch checkpoint", field="artifact", expected="a state dict"
        )


def _onnx(files: Sequence[Path], known: dict[str, str], manifest: Manifest) -> None:
    require_extra("onnx", f"checking the ONNX file {files[0]}", "onnx")
    from cxreval.onnx_file.bundled import inspect_bundle  # noqa: PLC0415 -- needs the extra
    from cxreval.onnx_file.reading import read  # noqa: PLC0415
    from cxreval.onnx_file.signature import check, described, inputs  # noqa: PLC0415

    interface = manifest.interface
    if interface:
        check_interface(interface, "manifest")
    fitting = partial(
        check,
        interface=interface,
        image_shape=profile_of(interface.preprocessing).shape if interface else None,
        columns=len(manifest.output_names) or None,
    )
    if is_bundle(files, manifest):
        sections = {file.name: whole(file) for file in files}
        for bundled in inspect_bundle(sections, manifest.ensemble, fitting):
            known[f"{bundled.name} inputs"] = described(inputs(bundled.graph))
            known[f"{bundled.name} outputs"] = described(bundled.graph.output)
        return
    model = read(files[0])
    known |= {
        "inputs": described(inputs(model.graph)) or "none",
        "outputs": described(model.graph.output) or "none",
    }
    fitting(model)
