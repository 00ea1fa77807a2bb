"""Decodes PNG, JPEG and DICOM files, or raises a named error.

The bytes are not trusted: nothing is decoded before the header has been read and its size is within
the limits. The codecs are lenient (they fill missing parts with gray, ignore checksums at the end,
and trust the size in the header), and a truncated radiograph would be scored as if it were
complete. So completeness is checked here.
"""

from __future__ import annotations

import re

from cxreval.errors import ImageTooLarge
from cxreval.imaging.dicom_file import is_dicom
from cxreval.imaging.image import Image, unreadable
from cxreval.imaging.jpeg import JPEG_SIGNATURE, decode_jpeg
from cxreval.imaging.png import PNG_SIGNATURE, decode_png

MAX_IMAGE_BYTES = 64 * 1024 * 1024
"""Default limit for an encoded image, in bytes."""

MAX_IMAGE_PIXELS = 64_000_000
"""Default limit for width times height; a decoded image takes at most eight bytes a pixel."""

_NONE = "neither PNG, JPEG nor DICOM"
_OTHERS = tuple(
    (re.compile(start, re.DOTALL), name)
    for start, name in (
        (rb"II\*\0|MM\0\*|II\+\0|MM\0\+", "a TIFF file"),
        (rb"GIF8[79]a", "a GIF file"),
        (rb"BM.{4}\0\0\0\0", "a BMP file"),
        (rb"RIFF.{4}WEBP", "a WebP file"),
        (rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51", "a JPEG 2000 file"),
        (rb"\xff\x0a|\0\0\0\x0cJXL ", "a JPEG XL file"),
        (rb".{4}ftyp(?:avif|avis)", "an AVIF file"),
        (rb".{4}ftyp(?:heic|heix|mif1|msf1)", "a HEIC file"),
        (rb"\x1f\x8b", "a gzip file"),
        (rb"PK\x03\x04", "a zip file"),
        (rb"\x93NUMPY", "a NumPy file"),
        (rb".{344}(?:n\+1|ni1)\0", "a NIfTI file"),
        (rb"\s*<(?:!DOCTYPE|html|\?xml|svg)", "a text of HTML or XML"),
    )
)
"""Beginnings of files that people take for images that are read."""

REVISION = 3
"""Increases when the same bytes give other pixels or an error; older cached images are then not
used."""


def decode(
    data: bytes, *, max_bytes: int = MAX_IMAGE_BYTES, max_pixels: int = MAX_IMAGE_PIXELS
) -> Image:
    """Decodes a PNG, an 8-bit gray or color JPEG, or a gray DICOM image of one frame.

    A PNG may have any depth and color type.

    Returns:
        uint8, or uint16 for a 16-bit PNG and DICOM of more than 8 bits; (H, W) for gray, (H, W, 2)
        gray and alpha, (H, W, 3) RGB and palette, (H, W, 4) RGB and alpha. Gray of fewer than 8
        bits is scaled to 8. DICOM values are those meant for display, with white the largest: see
        `cxreval.imaging.dicom`.

    Raises:
        ImageTooLarge: it has more than `max_bytes` or, by its header, more than `max_pixels`.
        ImageUnreadable: it is empty, of another format, animated, truncated or corrupt, or its
            pixel data do not fill the size in the header. JPEG has no checksum, so flipped bits or
            a missing last block are not detected.
        MemoryError: memory does not suffice.
    """
    check_bytes(data, max_bytes)
    if data.startswith(PNG_SIGNATURE):
        return decode_png(data, max_pixels)
    if data.startswith(JPEG_SIGNATURE):
        return decode_jpeg(data, max_pixels)
    if is_dicom(data):
        from cxreval.imaging.dicom import decode_dicom  # noqa: PLC0415 -- only DICOM needs pydicom

        return decode_dicom(data, max_pixels)
    raise unreadable(_named(data))


def _named(data: bytes) -> str:
    """Returns what bytes are that are no image of these formats."""
    if not data:
        return "zero bytes"
    name = next((name for start, name in _OTHERS if start.match(data)), "")
    return f"{name}, neither PNG, JPEG nor DICOM; convert it" if name else _NONE


def check_bytes(data: bytes, max_bytes: int = MAX_IMAGE_BYTES) -> None:
    """Raises `ImageTooLarge` if an encoded image has more bytes than the limit."""
    if len(data) > max_bytes:
        message = f"image has {len(data)} bytes; expected at most {max_bytes}"
        raise ImageTooLarge(
            message, field="image", expected=f"at most {max_bytes} bytes", bytes=len(data)
        )
