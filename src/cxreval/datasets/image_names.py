"""The names of a benchmark's images: their paths below the folder of images, with `/`.

A label table may call an image otherwise: without its extension or its folders, or with folders
above the one of images.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from cxreval.errors import DatasetInvalid
from cxreval.fields import shown

IMAGES_DIRECTORY = "images"
"""The folder of a data set that has its images; a data set without it has them beside its table."""

IMAGE_PATH = (
    "a path of 1 to 255 printable characters below the folder of images, with / and without . or .."
)
IMAGE_EXTENSIONS = (".png", ".jpg", ".jpeg", ".dcm", ".dicom")

_PNG, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
_JPEG, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
_DICOM = (b"DICM", b"\2\0", b"\x08\0")  # without preamble, or only its first elements
_END_BYTES = 1 << 10  # some writers add zeros or a comment after the end of a JPEG


def images_root(directory: Path) -> Path:
    """Returns the folder that the names of a data set's images are relative to."""
    root = directory / IMAGES_DIRECTORY
    return root if root.is_dir() else directory


def is_image_path(value: object) -> bool:
    """Returns whether a value can be the name of an image: a path that stays in its folder."""
    if not isinstance(value, str) or not 0 < len(value) <= 255 or not value.isprintable():
        return False
    if value != value.strip() or "\\" in value:
        return False
    return not {"", ".", ".."} & set(value.split("/"))


def find_images(root: Path, patterns: Sequence[str] = ()) -> list[str]:
    """Returns the names of the images below a folder, sorted.

    `patterns`: globs relative to the folder, such as `valid/**/*.jpg`; without any, all PNG, JPEG
    and DICOM files by their extension.

    Raises:
        DatasetInvalid: a pattern is malformed or leaves the folder, or a name cannot be listed.
    """
    if patterns:
        found = {name for pattern in patterns for name in _matching(root, pattern)}
    else:
        found = {
            name for name in _matching(root, "**/*") if name.lower().endswith(IMAGE_EXTENSIONS)
        }
    for name in found:
        if not is_image_path(name):
            message = f"{root} has an image {shown(name)!r}; expected {IMAGE_PATH}; rename it"
            raise DatasetInvalid(message, file=root, image=shown(name), expected=IMAGE_PATH)
    return sorted(found)


def _matching(root: Path, pattern: str) -> Iterable[str]:
    """Returns the names of the files that match a glob, hidden ones left out."""
    if ".." in PurePosixPath(pattern).parts:
        raise _bad_pattern(root, pattern)
    try:
        names = [file.relative_to(root).as_posix() for file in root.glob(pattern) if file.is_file()]
    except (ValueError, NotImplementedError, IndexError):  # what pathlib raises for such patterns
        raise _bad_pattern(root, pattern) from None
    return [name for name in names if not any(part.startswith(".") for part in name.split("/"))]


def _bad_pattern(root: Path, pattern: str) -> DatasetInvalid:
    expected = "a pattern below the folder, such as '**/*.jpg'"
    message = f"--images is {shown(pattern)!r}; expected {expected}"
    return DatasetInvalid(message, file=root, field="images", expected=expected)


class ImageMatcher:
    """Finds the image that a cell of a label table means.

    It is the image with exactly that path. Otherwise it is the only image with whose path the cell
    ends, or whose path ends with the cell, whole parts between slashes and extensions apart.
    """

    def __init__(self, images: Sequence[str]) -> None:
        self._images = dict.fromkeys(images)  # a set with an order, so that messages are the same
        self._stems = _index((_stem(image), image) for image in images)
        self._tails: dict[str, tuple[str, ...]] | None = None

    def find(self, cell: str) -> tuple[str, ...]:
        """Returns the image that a cell means: one, none, or two of those that fit alike."""
        name = cell.strip().replace("\\", "/").removeprefix("./")
        if name in self._images:
            return (name,)
        stem = _stem(name)
        for tail in _tails(stem):
            if tail in self._stems:
                return self._stems[tail]
        if self._tails is None:  # of many images it takes long, and few tables need it
            self._tails = _index(
                (tail, image) for image in self._images for tail in _tails(_stem(image))
            )
        return self._tails.get(stem, ())


def _index(pairs: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """Returns the image of each key, or two of several."""
    index: dict[str, tuple[str, ...]] = {}
    for key, image in pairs:
        index[key] = (*index.get(key, ()), image)[:2]
    return index


def _stem(name: str) -> str:
    """Returns a path without the extension of an image."""
    lower = name.lower()
    end = next((end for end in IMAGE_EXTENSIONS if lower.endswith(end)), "")
    return name[: len(name) - len(end)]


def _tails(name: str) -> list[str]:
    """Returns a path, and the same without its first folders, longest first."""
    parts = name.split("/", 64)
    return ["/".join(parts[start:]) for start in range(len(parts))]


def is_complete_image(file: Path) -> bool:
    """Returns whether a file is a PNG or JPEG from beginning to end, or begins as DICOM.

    A partial download of a PNG or JPEG has no end. DICOM has no mark there; decoding finds it.
    """
    with file.open("rb") as stream:
        start = stream.read(132)
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - _END_BYTES))
        end = stream.read()
    if start.startswith(_PNG):
        return end.endswith(_PNG_END)
    if start.startswith(_JPEG):
        return _JPEG_END in end
    return start[128:] == b"DICM" or start.startswith(_DICOM)
