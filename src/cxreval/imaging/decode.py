"""Decodes PNG, JPEG and DICOM files, or raises a named error.

The bytes are not trusted: nothing is decoded before the header has been read and its size is within
the limits. The codecs are lenient (they fill missing parts with gray, ignore checksums at the end,
and trust the size in the header), and a truncated radiograph would be scored as if it were
complete. So completeness is checked here.
"""

from __future__ import annotations

from cxreval.errors import ImageTooLarge
from cxreval.imaging.image import Image, unreadable
from cxreval.imaging.jpeg import JPEG_SIGNATURE, decode_jpeg
from cxreval.imaging.png import PNG_SIGNATURE, decode_png

MAX_IMAGE_BYTES = 64 * 1024 * 1024
"""Default limit for an encoded image, in bytes."""

MAX_IMAGE_PIXELS = 64_000_000
"""Default limit for width times height; a decoded image takes at most eight bytes a pixel."""

REVISION = 2
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
    if data[128:132] == b"DICM":
        from cxreval.imaging.dicom import decode_dicom  # noqa: PLC0415 -- only DICOM needs pydicom

        return decode_dicom(data, max_pixels)
    raise unreadable("neither PNG, JPEG nor DICOM" if data else "zero bytes")


def check_bytes(data: bytes, max_bytes: int = MAX_IMAGE_BYTES) -> None:
    """Raises `ImageTooLarge` if an encoded image has more bytes than the limit."""
    if len(data) > max_bytes:
        message = f"image has {len(data)} bytes; expected at most {max_bytes}"
        raise ImageTooLarge(
            message, field="image", expected=f"at most {max_bytes} bytes", bytes=len(data)
        )
