"""What can be known of a file to be handed in without a server: its digest, and whether it fits its
manifest."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from cxreval.client import file_sha256
from cxreval.datasets.benchmark import BenchmarkSpec
from cxreval.datasets.prediction_file import read_predictions
from cxreval.errors import (
    ArtifactTooLarge,
    CheckpointUnreadable,
    CxrevalError,
    DigestMismatch,
    MalformedField,
    ModelExternalData,
    ModelInputMismatch,
    ModelNotOnnx,
    ModelOutputMismatch,
)
from cxreval.imaging.preprocess import PROFILES
from cxreval.manifest.document import Document
from cxreval.manifest.model import UPLOADED, CheckpointFormat, Kind, Manifest
from cxreval.wire.limits import MAX_ARTIFACT_BYTES

_FLOAT = onnx.TensorProto.FLOAT


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
    elif manifest.kind is Kind.CHECKPOINT and manifest.format is CheckpointFormat.ONNX:
        _onnx(file, known, manifest)
    elif (
        manifest.kind is Kind.CHECKPOINT and manifest.format is CheckpointFormat.PYTORCH_STATE_DICT
    ):
        _pickle(file)
    elif manifest.kind and manifest.kind not in UPLOADED:
        message = f"kind {manifest.kind} comes without a file"
        raise MalformedField(message, field="artifact", expected="no file")


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
    try:
        graph = onnx.load(file, load_external_data=False).graph
    except (DecodeError, OSError, ValueError) as error:
        raise ModelNotOnnx(f"{file} cannot be read as ONNX: {error}", field="artifact") from None
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in graph.initializer):
        raise ModelExternalData(
            f"{file} keeps weights in other files; expected one file", field="artifact"
        )
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    known |= {"inputs": _described(inputs), "outputs": _described(graph.output)}
    profile = PROFILES.get(manifest.preprocessing_profile)
    if not _is_one(inputs, (None, *profile.shape) if profile else None):
        shape = (
            f" of shape (N, {', '.join(map(str, profile.shape))}), as {profile.name} gives it"
            if profile
            else ""
        )
        expected = f"one float32 input{shape}"
        message = f"{file} has inputs {known['inputs']}; expected {expected}"
        raise ModelInputMismatch(message, field="manifest.preprocessing_profile", expected=expected)
    columns = len(manifest.output_names)
    if not _is_one(graph.output, (None, columns or None)):
        expected = f"one float32 output of shape (N, {columns or 'columns'}), a column for each of output_names"
        message = f"{file} has outputs {known['outputs']}; expected {expected}"
        raise ModelOutputMismatch(message, field="manifest.output_names", expected=expected)


def _is_one(values: Sequence[Any], shape: tuple[int | None, ...] | None) -> bool:
    """Whether it is one float32 tensor whose stated sizes agree; None for a size or a shape that
    may be any."""
    if len(values) != 1 or values[0].type.tensor_type.elem_type != _FLOAT:
        return False
    found = _shape(values[0])
    if found is None or shape is None:
        return True
    same = (None in pair or pair[0] == pair[1] for pair in zip(found, shape, strict=False))
    return len(found) == len(shape) and all(same)


def _described(values: Sequence[Any]) -> str:
    return "; ".join(_words(values)) or "none"


def _words(values: Sequence[Any]) -> Iterator[str]:
    for value in values:
        number = value.type.tensor_type.elem_type
        kind = (
            onnx.TensorProto.DataType.Name(number).lower()
            if number in onnx.TensorProto.DataType.values()
            else "?"
        )
        sizes = _shape(value)
        shape = (
            "?"
            if sizes is None
            else ", ".join("N" if size is None else str(size) for size in sizes)
        )
        yield f"{value.name!r} {kind} ({shape})"


def _shape(value: Any) -> tuple[int | None, ...] | None:
    """The sizes, None where they are left open; None when the model says nothing about them."""
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return tuple(
        size.dim_value if size.HasField("dim_value") and size.dim_value >= 0 else None
        for size in tensor.shape.dim
    )
