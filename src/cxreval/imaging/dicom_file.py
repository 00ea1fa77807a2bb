"""Finds the transfer syntax of a DICOM file, and where its elements begin, without pydicom."""

from __future__ import annotations

import zlib

from cxreval.imaging.image import unreadable

PREFIX = b"DICM"
_PREAMBLE = 128
_MAX_INFLATED = 1 << 28
_META = b"\x02\0"
_IDENTIFYING = b"\x08\0"  # group of the first elements of a file without file meta information
_LAST_FIRST = 0x0070  # its largest element that files begin with


def is_dicom(data: bytes) -> bool:
    """Returns whether a file is DICOM: with its preamble, or without it or its meta information.

    Without both, it begins with an element of the group 0008, in little endian.
    """
    return elements_start(data) is not None


def elements_start(data: bytes) -> int | None:
    """Returns where the first element begins: after preamble and prefix; None if it is no DICOM."""
    if data[_PREAMBLE : _PREAMBLE + 4] == PREFIX:
        return _PREAMBLE + 4
    if data.startswith(PREFIX):
        return 4
    element, length = int.from_bytes(data[2:4], "little"), int.from_bytes(data[4:8], "little")
    if data.startswith(_META) and is_explicit(data, 0):
        return 0
    if data.startswith(_IDENTIFYING) and element <= _LAST_FIRST:
        return 0 if is_explicit(data, 0) or 0 < length < len(data) else None
    return None


def has_meta(data: bytes, start: int) -> bool:
    """Returns whether file meta information is expected: not where elements of 0008 come first."""
    return data[start : start + 2] != _IDENTIFYING


def is_explicit(data: bytes, start: int) -> bool:
    """Returns whether an element states its type, in two capital letters."""
    letters = data[start + 4 : start + 6]
    return len(letters) == 2 and letters.isalpha() and letters.isupper()


def inflated(data: bytes) -> bytes:
    """Returns the elements of a deflated file.

    Raises:
        ImageUnreadable: they are corrupt, truncated or larger than 256 MiB.
    """
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        content = inflater.decompress(data, _MAX_INFLATED)
    except zlib.error:
        content = b""
    if not inflater.eof:
        raise unreadable(
            f"DICOM deflated elements are corrupt, truncated or larger than {_MAX_INFLATED} bytes"
        )
    return content
