"""From the bytes of a PNG, JPEG or DICOM file to pixels, or a named refusal.

Bytes come from anywhere, so nothing is decoded before the header was read and its size found within
the limits. The codecs are lenient (they fill what is missing with gray, ignore checksums at the
end, and take a header's word for the size), and a half-read radiograph would be scored as if it
were whole: completeness is checked here.
"""

from __future__ import annotations

from cxreval.errors import ImageTooLarge
from cxreval.imaging.image import Image, unreadable
from cxreval.imaging.jpeg import JPEG_SIGNATURE, decode_jpeg
from cxreval.imaging.png import PNG_SIGNATURE, decode_png

MAX_IMAGE_BYTES = 64 * 1024 * 1024
"""Default limit for an encoded image, in bytes."""

MAX_IMAGE_PIXELS = 64_000_000
"""Default limit for width times height; decoded, an image takes at most eight bytes a pixel."""

REVISION = 1
"""Rises when the same bytes give other pixels: what was kept of older ones is then not used any
more."""


def decode(
    data: bytes, *, max_bytes: int = MAX_IMAGE_BYTES, max_pixels: int = MAX_IMAGE_PIXELS
) -> Image:
    """Decodes a PNG (any depth and color type), an 8-bit gray or color JPEG, or a gray DICOM image
    of one frame.

    Returns:
        uint8, or uint16 for a 16-bit PNG and DICOM of more than 8 bits; (H, W) for gray, (H, W, 2)
        gray and alpha, (H, W, 3) RGB and palette, (H, W, 4) RGB and alpha. Gray of fewer than 8
        bits is scaled to 8. DICOM comes as
        it is meant to be seen, with white the largest value: see `cxreval.imaging.dicom`.

    Raises:
        ImageTooLarge: more than `max_bytes` encoded or, by its header, more than `max_pixels`.
        ImageUnreadable: empty, of another format, animated, truncated, corrupt, or with pixel data
            that do not fill
            the size in the header. JPEG has no checksum: flipped bits or a missing last block go
            unnoticed.
    """
    if len(data) > max_bytes:
        message = f"image has {len(data)} bytes; expected at most {max_bytes}"
        raise ImageTooLarge(
            message, field="image", expected=f"at most {max_bytes} bytes", bytes=len(data)
        )
    if data.startswith(PNG_SIGNATURE):
        return decode_png(data, max_pixels)
    if data.startswith(JPEG_SIGNATURE):
        return decode_jpeg(data, max_pixels)
    if data[128:132] == b"DICM":
        from cxreval.imaging.dicom import decode_dicom  # noqa: PLC0415 -- pydicom, which no other format waits for

        return decode_dicom(data, max_pixels)
    raise unreadable("neither PNG, JPEG nor DICOM" if data else "zero bytes")
