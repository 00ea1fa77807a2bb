"""Recognises the kind of a foreign file."""

from __future__ import annotations

import contextlib
import json
import re
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from cxreval.fields import printable
from cxreval.foreign_files import kinds
from cxreval.foreign_files.kinds import ENTRIES, STARTS, ForeignKind
from cxreval.foreign_files.pickles import has_transformers_names, pickle_kind
from cxreval.foreign_files.protobuf import protobuf_kind

_START_BYTES = 4096
_PICKLE_BYTES = 16 << 20
_HEADER_BYTES = 32 << 20  # of a safetensors file
_SHOWN = 3  # names in an archive
_PROTOCOL_0 = re.compile(rb"c[\w.]+\n\w+\n|\((?:dp|lp|i[\w.]+\n)")
_SAFETENSORS_START = 8  # the length of the header


def foreign_kind(file: Path) -> ForeignKind | None:
    """Returns the kind of a file or folder that cannot be submitted as a checkpoint.

    None for ONNX and PyTorch files that are complete as far as this shows, and for unknown content.
    """
    with contextlib.suppress(OSError):
        found = _folder(file) if file.is_dir() else _file(file)
        if found:
            kind, detail = found
            name = printable(str(file))
            return replace(
                kind,
                what=kind.what.replace("{detail}", printable(detail).replace("{file}", name)),
                cure=kind.cure.replace("{file}", name),
            )
    return None


_Found = tuple[ForeignKind, str] | None


def _folder(folder: Path) -> _Found:
    names = {path.name for path in folder.iterdir()} | {path.name for path in folder.glob("*/*")}
    for name, kind in ENTRIES.items():
        if name in names:
            return kind, ""
    return (kinds.HUGGING_FACE_FOLDER if "config.json" in names else kinds.FOLDER), ""


def _file(file: Path) -> _Found:
    with file.open("rb") as stream:
        start = stream.read(_START_BYTES)
    for (offset, magic), kind in STARTS.items():
        if start.startswith(magic, offset):
            return (kind, "") if isinstance(kind, ForeignKind) else (kinds.ARCHIVE, kind)
    if start.startswith(b"PK"):
        return _zip(file)
    if start.startswith(b"\x80") or _PROTOCOL_0.match(start):
        with file.open("rb") as stream:
            return pickle_kind(stream.read(_PICKLE_BYTES))
    if start[_SAFETENSORS_START : _SAFETENSORS_START + 1] == b"{":
        return _safetensors(file)
    if start and not start.strip(b"\0"):
        return kinds.ZEROS, ""
    text = _text(start)
    found = text or protobuf_kind(file)
    return (found, "") if found else None


def _zip(file: Path) -> _Found:
    try:
        with zipfile.ZipFile(file) as archive:
            paths = [PurePosixPath(entry) for entry in archive.namelist()]
            found = _entries(paths)
            pickled = next((path for path in paths if path.name == "data.pkl"), None)
            if pickled and not found and not any(path.name == "constants.pkl" for path in paths):
                with archive.open(str(pickled)) as stream:
                    return pickle_kind(stream.read(_PICKLE_BYTES))
            return found
    except zipfile.BadZipFile:
        return kinds.CUT_ZIP, ""
    except (ValueError, NotImplementedError, RuntimeError, KeyError, EOFError):
        return None  # of a form that no library writes; the converter refuses it


def _entries(paths: Sequence[PurePosixPath]) -> _Found:
    """Returns the kind that the names in a zip archive show; None for one of PyTorch."""
    parts = {part for path in paths for part in path.parts}
    for name, kind in ENTRIES.items():
        if name in parts:
            return kind, ""
    files = [path for path in paths if not str(path).endswith("/")]
    if files and all(path.suffix == ".npy" for path in files):
        return kinds.ARRAYS, ""
    torch = {"data.pkl", "archive_format", "serialized_exported_program.json"}
    if torch & {path.name for path in paths}:
        return None
    shown = ", ".join(path.name for path in files[:_SHOWN])
    return kinds.ARCHIVE, f"zip with {shown or 'nothing'}; `unzip {{file}}`"


def _safetensors(file: Path) -> _Found:
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(_SAFETENSORS_START), "little")
        header = stream.read(min(length, _HEADER_BYTES))
    if length > 100_000_000:
        return None
    end = _SAFETENSORS_START + length
    if end <= size:
        try:
            tensors = json.loads(header)
            offsets = [value["data_offsets"][1] for value in tensors.values() if "dtype" in value]
            end += max(offsets, default=0)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
            return None
        if has_transformers_names(tensors):
            return kinds.TRANSFORMERS, ""
    if end > size:
        return kinds.CUT_SAFETENSORS, f"{size} of {end} bytes"
    return None


def _text(start: bytes) -> ForeignKind | None:
    """Returns the kind of a text in ASCII or UTF-8."""
    text = start.removeprefix(b"\xef\xbb\xbf").strip()
    lowered = text[:1024].lower()
    if lowered.startswith(b"<!doctype html") or (lowered[:1] == b"<" and b"<html" in lowered):
        return kinds.HTML
    return _kind_of_text(lowered) if text and _is_text(start) else None


def _kind_of_text(lowered: bytes) -> ForeignKind:
    first_line = lowered.partition(b"\n")[0]
    if first_line.startswith((b"version https://git-lfs", b"version https://hawser")):
        return kinds.GIT_LFS
    if b"annex/objects/" in first_line:
        return kinds.GIT_ANNEX
    if first_line.startswith(b"<"):
        if b"<net " in lowered:
            return kinds.OPENVINO
        return kinds.STORE_ERROR if b"<error>" in lowered else kinds.TEXT
    is_table = b"," in first_line and first_line[:1] not in b"{["
    return kinds.TABLE if is_table else kinds.TEXT


def _is_text(start: bytes) -> bool:
    try:
        text = start.decode()
    except UnicodeDecodeError as error:
        if error.start < len(start) - 3:  # else the last character is cut off
            return False
        text = start[: error.start].decode()
    return all(letter >= " " or letter in "\t\r\n\f" for letter in text)
