"""Tells kinds of PyTorch files apart by their content, without opening what is in them.

Files of other kinds are those of `cxreval.foreign_files`. This module does not import PyTorch.
"""

from __future__ import annotations

import re
import struct
import zipfile
from enum import StrEnum
from pathlib import Path, PurePosixPath

from cxreval.errors import CheckpointUnreadable, ModelTooLarge
from cxreval.fields import printable
from cxreval.foreign_files import foreign_kind
from cxreval.manifest.model import CheckpointFormat

MAX_FILE_BYTES = 1024**3
"""Maximum size of a PyTorch file, and of what it unpacks to; a conversion needs several times as
much memory."""

MAX_HEADER_BYTES = 100_000_000
"""Maximum size of the header of a safetensors file, as its format says."""

WRAPPERS = (
    "state_dict", "model_state_dict", "model", "net", "network", "module", "weights",
)  # fmt: skip
"""Keys under which training scripts store the network, beside the epoch and the optimizer."""

# torchvision before 0.2.1 named the layers within a dense layer `norm.1`, `conv.2` and so on.
OLD_DENSE_LAYER = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\.")

_LENGTH = struct.Struct("<Q")


class FileKind(StrEnum):
    """What a file is, as messages name it."""

    SAFETENSORS = "a safetensors file"
    PICKLE = "a file of torch.save"
    TORCHSCRIPT = "a TorchScript module (torch.jit.save)"
    TORCH_EXPORT = "a program of torch.export.save"
    ONNX = "an ONNX file"
    OTHER = "of no known format"


_STARTS = {
    b"\x80": FileKind.PICKLE,  # opens a pickle
    b"\x08": FileKind.ONNX,  # the field `ir_version`
}

FORMATS = {
    CheckpointFormat.PYTORCH_STATE_DICT: (FileKind.SAFETENSORS, FileKind.PICKLE),
    CheckpointFormat.TORCHSCRIPT: (FileKind.TORCHSCRIPT,),
    CheckpointFormat.TORCH_EXPORT: (FileKind.TORCH_EXPORT,),
}
"""The kinds of files of each format that is converted."""


def check_file(file: Path, form: CheckpointFormat) -> FileKind:
    """Returns the kind of a file, which is one of those of its format.

    Raises:
        CheckpointUnreadable: it is of another kind; the message says which, and what to do.
        ModelTooLarge: it has more than `MAX_FILE_BYTES`, or unpacks to more.
    """
    size = file.stat().st_size
    if size > MAX_FILE_BYTES:
        raise _too_large(f"the file has {size} bytes")
    kind = kind_of(file)
    if kind not in FORMATS[form]:
        what, cure = _named(file, kind)
        expected = " or ".join(FORMATS[form])
        raise CheckpointUnreadable(
            f"the file is {what}; expected {expected} for format {form}: {cure}",
            field="artifact",
            expected=expected,
            found=what,
        )
    return kind


def _named(file: Path, kind: FileKind) -> tuple[str, str]:
    """Returns what a file of another kind is, and what to do."""
    right = next((known for known, kinds in FORMATS.items() if kind in kinds), None)
    if kind is FileKind.ONNX:
        right = CheckpointFormat.ONNX
    if right:
        return kind, f"set format: {right}"
    foreign = foreign_kind(file)
    if foreign:  # the file has another name where it is converted
        return foreign.what, foreign.cure.replace(printable(str(file)), "FILE")
    return kind, "submit another file"


def kind_of(file: Path) -> FileKind:
    """Returns the kind that a file's start, and the names in it if it is an archive, show.

    Raises `ModelTooLarge` for an archive that unpacks to more than `MAX_FILE_BYTES`.
    """
    with file.open("rb") as stream:
        start = stream.read(64)
    if start.startswith(b"PK"):
        return _archive(file)
    if _starts_safetensors(start, file.stat().st_size):
        return FileKind.SAFETENSORS
    for magic, kind in _STARTS.items():
        if start.startswith(magic):
            return kind
    return FileKind.OTHER


def _starts_safetensors(start: bytes, size: int) -> bool:
    if len(start) <= _LENGTH.size or start[_LENGTH.size : _LENGTH.size + 1] != b"{":
        return False
    header = _LENGTH.unpack_from(start)[0]
    return bool(header <= min(MAX_HEADER_BYTES, size - _LENGTH.size))


def _archive(file: Path) -> FileKind:
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return FileKind.OTHER
    if (size := sum(entry.file_size for entry in entries)) > MAX_FILE_BYTES:
        raise _too_large(f"the file unpacks to {size} bytes")
    names = {PurePosixPath(entry.filename).name for entry in entries}
    if "constants.pkl" in names and "data.pkl" in names:
        return FileKind.TORCHSCRIPT
    if names & {"archive_format", "serialized_exported_program.json"}:
        return FileKind.TORCH_EXPORT
    if "data.pkl" in names:
        return FileKind.PICKLE
    return FileKind.OTHER


def _too_large(problem: str) -> ModelTooLarge:
    expected = f"at most {MAX_FILE_BYTES} bytes of a PyTorch file"
    message = f"{problem}; expected {expected}: export a larger network to ONNX yourself"
    return ModelTooLarge(message, field="artifact", expected=expected)
