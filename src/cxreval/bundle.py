"""The archive of a submission that has several files: a plain tar, read and written like a file.

Each file follows a header of 512 bytes and is padded with zeros to a multiple of 512; two blocks of
zeros end the archive (the ustar format of POSIX.1-1988). A header states name and size, and nothing
else that could differ. So the archive follows from its files, and every other archive of the same
files is refused.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import struct
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO

from cxreval.errors import BundleInvalid, DigestMismatch, MalformedField
from cxreval.fields import SHA256, SHA256_FORM, field_error, printable
from cxreval.files import file_sha256
from cxreval.forms import Matching, declared

MAX_FILES = 64
"""Maximum number of files of a submission."""

_BLOCK = 512
_END = bytes(2 * _BLOCK)
_PIECE_BYTES = 1 << 20
# Names that Windows takes for devices, with any ending, and a final dot, which it drops.
_DEVICE = (
    r"(?:[Cc][Oo][Nn]|[Pp][Rr][Nn]|[Aa][Uu][Xx]|[Nn][Uu][Ll]|(?:[Cc][Oo][Mm]|[Ll][Pp][Tt])[0-9])"
)
_FILE_NAME = rf"(?!{_DEVICE}(?![^.]))[A-Za-z0-9](?:[A-Za-z0-9._-]{{0,98}}[A-Za-z0-9_-])?"
_NAMED_DIGEST = re.compile(rf"[A-Za-z0-9._-]{{1,100}}:{SHA256.pattern}")
_SIZE = re.compile(rb"[0-7]{11}")


_NAME_FORM = Matching(
    _FILE_NAME, "a file name of letters, digits, `.`, `_` and `-`, without folders"
)


class Ensemble(StrEnum):
    """How the probabilities of several models become one."""

    MEAN = "mean"


@dataclass(frozen=True, slots=True)
class SubmittedFile:
    """One of several files of a submission."""

    name: str = declared(
        "Name of the file, without folders.",
        _NAME_FORM,
        "model.onnx",
    )
    sha256: str = declared("sha256 of the file.", Matching(SHA256.pattern, SHA256_FORM), "", "")


@dataclass(frozen=True, slots=True)
class Section:
    """The bytes of a file: `nbytes` from `start` on in the file `path`, which may be an archive."""

    path: Path
    start: int
    nbytes: int

    def read(self, offset: int, nbytes: int) -> bytes:
        """Returns bytes of the section; `offset` and `nbytes` must be within it."""
        with self.path.open("rb") as content:
            content.seek(self.start + offset)
            return content.read(nbytes)


def whole(file: Path) -> Section:
    """Returns the section that is all of a file."""
    return Section(file, 0, file.stat().st_size)


def is_file_name(name: str) -> bool:
    """Returns whether a submitted file may have this name; it has no folders then."""
    return bool(re.fullmatch(_FILE_NAME, name))


def model_names(names: Sequence[str]) -> list[str]:
    """Returns the names of ONNX files among the names of files."""
    return [name for name in names if name.lower().endswith(".onnx")]


def files_text(files: Sequence[SubmittedFile]) -> str:
    """Returns names and digests of files as text, which `files_of` reads."""
    return " ".join(f"{file.name}:{file.sha256}" for file in files)


def files_of(text: str, field: str) -> tuple[SubmittedFile, ...]:
    """Returns the names and digests of files in a text that `files_text` wrote.

    Raises `MalformedField` for any other text.
    """
    if not text:
        return ()
    words = text.split(" ")
    if len(words) > MAX_FILES or not all(_NAMED_DIGEST.fullmatch(word) for word in words):
        raise field_error(field, text, f"NAME:SHA256 of at most {MAX_FILES} files")
    return tuple(SubmittedFile(*word.split(":")) for word in words)


# --- writing --------------------------------------------------------------------------------------


def opened(files: Sequence[Path], *, bundled: bool) -> io.BufferedReader:
    """Opens the artifact of a submission: the archive of its files, or its only file.

    The archive is made while it is read; nothing is stored.
    """
    if bundled:
        return io.BufferedReader(_Archive(files), _PIECE_BYTES)
    (file,) = files
    return file.open("rb")


def artifact_sha256(files: Sequence[Path], *, bundled: bool) -> str:
    """Returns the sha256 of the artifact that `opened` opens."""
    with opened(files, bundled=bundled) as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def arranged(files: Sequence[Path], manifest_files: Sequence[SubmittedFile]) -> list[Path]:
    """Returns the files in the order of a manifest's, or as they are if the manifest has none.

    Raises:
        MalformedField: the manifest has other files, or two files have one name.
    """
    _check_unique([file.name for file in files])
    if not manifest_files:
        return list(files)
    given = {file.name: file for file in files}
    names = [file.name for file in manifest_files]
    missing = [name for name in names if name not in given]
    unknown = [name for name in given if name not in names]
    if missing or unknown:
        problem = f"lack {', '.join(missing)}" if missing else f"have also {', '.join(unknown)}"
        expected = f"the files of the manifest: {', '.join(names)}"
        raise MalformedField(
            f"the given files {problem}; expected {expected}", field="files", expected=expected
        )
    return [given[name] for name in names]


def described(
    files: Sequence[Path], manifest_files: Sequence[SubmittedFile]
) -> tuple[SubmittedFile, ...]:
    """Returns name and sha256 of each file, for a manifest.

    Args:
        files: as `arranged` returns them.
        manifest_files: what the manifest states so far; a sha256 in it must be that of the file.

    Raises:
        MalformedField: a name is not one of a submitted file, or there are too many files.
        DigestMismatch: the manifest states another sha256.
    """
    if len(files) > MAX_FILES:
        raise field_error("files", f"{len(files)} files", f"at most {MAX_FILES}")
    for file in files:
        _NAME_FORM.check("files", file.name)
    stated = {file.name: file.sha256 for file in manifest_files}
    found = tuple(SubmittedFile(file.name, file_sha256(file)) for file in files)
    for index, actual in enumerate(found):
        expected = stated.get(actual.name)
        if expected and expected != actual.sha256:
            field = f"manifest.files[{index}].sha256"
            raise DigestMismatch(
                f"{actual.name} has sha256 {actual.sha256}; {field} is {expected}",
                field=field,
                expected=expected,
            )
    return found


def _check_unique(names: Sequence[str]) -> None:
    """Raises `MalformedField` for names that are equal, or equal but for their case."""
    seen: set[str] = set()
    for name in names:
        if name.lower() in seen:
            raise field_error("files", name, "each name once, in any case")
        seen.add(name.lower())


def _header(name: str, nbytes: int) -> bytes:
    """Returns the header of a regular file: mode 0644, no owner, time 0."""
    number = b"%07o\0"
    header = struct.pack(
        "100s8s8s8s12s12s8sc100s6s2s32s32s8s8s155s12x",
        name.encode(), number % 0o644, number % 0, number % 0, b"%011o\0" % nbytes, b"%011o\0" % 0,
        b" " * 8, b"0", b"", b"ustar\0", b"00", b"", b"", number % 0, number % 0, b"",
    )  # fmt: skip
    return header[:148] + b"%06o\0 " % sum(header) + header[156:]


class _Archive(io.RawIOBase):
    """A readable stream of an archive's bytes, which are made from the files while it is read."""

    def __init__(self, files: Sequence[Path]) -> None:
        super().__init__()
        self._starts: list[int] = []
        self._parts: list[bytes | Path] = []
        self._nbytes = self._position = 0
        for file in files:
            size = file.stat().st_size
            self._append(_header(file.name, size), _BLOCK)
            self._append(file, size)
            self._append(bytes(-size % _BLOCK), -size % _BLOCK)
        self._append(_END, len(_END))

    def _append(self, part: bytes | Path, nbytes: int) -> None:
        if nbytes:
            self._starts.append(self._nbytes)
            self._parts.append(part)
            self._nbytes += nbytes

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._nbytes}[whence]
        self._position = max(0, origin + offset)
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        """Reads from one part; a file that became shorter ends the archive there."""
        view, position = memoryview(buffer), self._position
        if position >= self._nbytes:
            return 0
        index = bisect_right(self._starts, position) - 1
        start, part = self._starts[index], self._parts[index]
        end = (*self._starts, self._nbytes)[index + 1]
        nbytes = min(len(view), end - position)
        if isinstance(part, bytes):
            piece = part[position - start :][:nbytes]
        else:
            piece = Section(part, 0, end - start).read(position - start, nbytes)
        view[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)


# --- reading --------------------------------------------------------------------------------------


def sections(archive: Path, files: Sequence[SubmittedFile]) -> dict[str, Section]:
    """Returns where each file is in an archive, after checking that it is the archive of the files.

    Nothing is unpacked.

    Raises:
        BundleInvalid: the archive differs from the one that `opened` makes of files with these
            names and digests, or two names are equal but for their case.
    """
    try:
        _check_unique([file.name for file in files])
    except MalformedField as error:
        raise BundleInvalid(error.message, field="manifest.files") from None
    found: dict[str, Section] = {}
    with archive.open("rb") as content:
        total = os.fstat(content.fileno()).st_size
        for file in files:
            nbytes = _declared_size(content.read(_BLOCK), file.name)
            found[file.name] = Section(archive, content.tell(), nbytes)
            if found[file.name].start + nbytes > total:
                raise _invalid(file.name, f"{file.name} is cut off", f"all of its {nbytes} bytes")
            if (sha256 := _sha256(content, nbytes)) != file.sha256:
                expected = f"{file.sha256}, as in the manifest"
                raise _invalid(file.name, f"{file.name} has sha256 {sha256}", expected)
            if content.read(-nbytes % _BLOCK).strip(b"\0"):
                raise _invalid(file.name, f"data follows the end of {file.name}", "zeros")
        if content.read(len(_END) + 1) != _END:
            expected = f"its end: the manifest has {len(files)} files"
            raise _invalid(files[-1].name, f"more than zeros follow {files[-1].name}", expected)
    return found


def _declared_size(header: bytes, name: str) -> int:
    """Returns the size in a file's header, which must be that of `_header`."""
    size = header[124:135]
    nbytes = int(size, 8) if _SIZE.fullmatch(size) else 0
    if header == _header(name, nbytes):
        return nbytes
    found = printable(header[:100].partition(b"\0")[0].decode("ascii", "replace"))
    problem = f"the archive has {found!r}" if found != name else f"the header of {name} is unusual"
    raise _invalid(name, problem, f"the plain header of the regular file {name}")


def _sha256(content: BinaryIO, nbytes: int) -> str:
    digest = hashlib.sha256()
    while nbytes and (piece := content.read(min(nbytes, _PIECE_BYTES))):
        digest.update(piece)
        nbytes -= len(piece)
    return digest.hexdigest()


def _invalid(name: str, problem: str, expected: str) -> BundleInvalid:
    message = f"the submitted archive is not that of the manifest's files: {problem}"
    return BundleInvalid(
        f"{message}; expected {expected}; submit the files with `cxreval submit`",
        field="artifact",
        expected=expected,
        file=name,
    )
