"""From the bytes of a PNG or JPEG file to pixels, or a named refusal.

Bytes come from anywhere, so nothing is decoded before the header was read and its size found within the limits. The
codecs are lenient (they fill what is missing with gray, ignore checksums at the end, and take a header's word for the
size), and a half-read radiograph would be scored as if it were whole: completeness is checked here.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import imagecodecs
import numpy as np
import numpy.typing as npt

from cxreval.errors import ImageTooLarge, ImageUnreadable

MAX_IMAGE_BYTES = 64 * 1024 * 1024
"""Default limit for an encoded image, in bytes."""

MAX_IMAGE_PIXELS = 64_000_000
"""Default limit for width times height; decoded, an image takes at most eight bytes a pixel."""

Image = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
"""A decoded image: (H, W), or (H, W, C) with 1 to 4 channels: gray, gray and alpha, RGB, RGB and alpha."""

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_JPEG_SIGNATURE = b"\xff\xd8\xff"

_MAX_PNG_CHUNKS = 65_536
_MAX_JPEG_SCANS = 32  # encoders write about ten; each costs a pass over all pixels
_MAX_JPEG_SEGMENTS = 10_000


def decode(data: bytes, *, max_bytes: int = MAX_IMAGE_BYTES, max_pixels: int = MAX_IMAGE_PIXELS) -> Image:
    """Decodes a PNG (any depth and color type) or an 8-bit gray or color JPEG.

    Returns:
        uint8, or uint16 for a 16-bit PNG; (H, W) for gray, (H, W, 2) gray and alpha, (H, W, 3) RGB and palette,
        (H, W, 4) RGB and alpha. Gray of fewer than 8 bits is scaled to 8.

    Raises:
        ImageTooLarge: more than `max_bytes` encoded or, by its header, more than `max_pixels`.
        ImageUnreadable: empty, neither PNG nor JPEG, animated, truncated, corrupt, or with pixel data that do not fill
            the size in the header. JPEG has no checksum: flipped bits or a missing last block go unnoticed.
    """
    if len(data) > max_bytes:
        message = f"image has {len(data)} bytes; expected at most {max_bytes}"
        raise ImageTooLarge(message, field="image", expected=f"at most {max_bytes} bytes", bytes=len(data))
    if data.startswith(_PNG_SIGNATURE):
        return _decode_png(data, max_pixels)
    if data.startswith(_JPEG_SIGNATURE):
        return _decode_jpeg(data, max_pixels)
    raise _unreadable("neither PNG nor JPEG" if data else "zero bytes")


def _unreadable(problem: str) -> ImageUnreadable:
    expected = "a complete PNG or JPEG image"
    return ImageUnreadable(f"image is unreadable: {problem}; expected {expected}", field="image", expected=expected)


def _check_pixels(width: int, height: int, max_pixels: int) -> None:
    if width == 0 or height == 0:
        raise _unreadable(f"its header says {width}x{height} pixels")
    if width * height > max_pixels:
        message = f"image is {width}x{height}, {width * height} pixels; expected at most {max_pixels}"
        expected = f"at most {max_pixels} pixels"
        raise ImageTooLarge(message, field="image", expected=expected, width=width, height=height)


# --- PNG --------------------------------------------------------------------------------------------------------------

_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_ADAM7_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""First column, first row, column step and row step of each pass of an interlaced PNG."""


@dataclass(frozen=True, slots=True)
class _PngHeader:
    width: int
    height: int
    bits_per_pixel: int
    interlaced: bool

    @property
    def inflated_size(self) -> int:
        """Bytes of the pixel data before compression: every row of every pass with its filter byte."""
        passes = _ADAM7_PASSES if self.interlaced else ((0, 0, 1, 1),)
        sizes = ((-(-(self.width - x) // dx), -(-(self.height - y) // dy)) for x, y, dx, dy in passes)
        return sum(rows * (1 + -(-columns * self.bits_per_pixel // 8)) for columns, rows in sizes if columns > 0 < rows)


def _decode_png(data: bytes, max_pixels: int) -> Image:
    header = _png_header(data, max_pixels)
    pixel_data = b"".join(content for kind, content in _png_chunks(data) if kind == b"IDAT")
    _check_inflated_size(pixel_data, header.inflated_size)
    try:
        image: Image = imagecodecs.png_decode(data)
    except Exception as error:  # noqa: BLE001 -- whatever the codec raises means that it cannot read the image
        raise _unreadable(f"PNG decoder: {error}") from None
    return image


def _png_header(data: bytes, max_pixels: int) -> _PngHeader:
    if len(data) < 33 or data[8:16] != b"\0\0\0\x0dIHDR":
        raise _unreadable("PNG without a header")
    width, height = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    depth, color, compression, filtering, interlacing = data[24:29]
    _check_pixels(width, height, max_pixels)
    if depth not in _PNG_DEPTHS.get(color, ()) or compression or filtering or interlacing > 1:
        raise _unreadable(f"PNG header with bit depth {depth} and color type {color}")
    return _PngHeader(width, height, depth * _PNG_CHANNELS[color], bool(interlacing))


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Kind and content of every chunk up to IEND, each with its checksum verified."""
    view = memoryview(data)
    start = len(_PNG_SIGNATURE)
    for _ in range(_MAX_PNG_CHUNKS):
        kind, end = data[start + 4 : start + 8], start + 12 + int.from_bytes(data[start : start + 4])
        if len(kind) < 4 or end > len(data):
            raise _unreadable("PNG is truncated")
        if zlib.crc32(view[start + 4 : end - 4]) != int.from_bytes(data[end - 4 : end]):
            raise _unreadable(f"PNG chunk {kind.decode('latin-1')!r} at byte {start} does not match its checksum")
        if kind == b"acTL":
            raise _unreadable("PNG is animated")
        if kind == b"IEND":
            return
        yield kind, view[start + 8 : end - 4]
        start = end
    raise _unreadable(f"PNG has more than {_MAX_PNG_CHUNKS} chunks")


def _check_inflated_size(compressed: bytes, expected: int) -> None:
    """libpng takes the rows that its header asks for and ignores what is left; a wrong header must not pass."""
    try:
        found = len(imagecodecs.deflate_decode(compressed, out=expected))
    except Exception:  # noqa: BLE001 -- the codec tells "too much" and "corrupt" apart only by number
        found = -1
    if found != expected:
        raise _unreadable("PNG pixel data are corrupt or do not fill the size in the header")


# --- JPEG -------------------------------------------------------------------------------------------------------------

_SOF_SUPPORTED = (0xC0, 0xC1, 0xC2)  # baseline, extended sequential, progressive; all Huffman coded
_SOF = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_SOS, _EOI = 0xDA, 0xD9
_JPEG_MARKER = re.compile(rb"\xff+[^\x00\xff]", re.DOTALL)
_JPEG_MARKER_AFTER_SCAN = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]", re.DOTALL)

# Entropy-coded noise; then, for files with restart markers, every one of them with noise of its own.
_NOISE = bytes((167 * i + 31) % 251 for i in range(64))
_TAIL = _NOISE + b"".join(bytes((0xFF, 0xD0 + i % 8)) + _NOISE[i:] for i in range(32))


def _decode_jpeg(data: bytes, max_pixels: int) -> Image:
    scan_ends = _jpeg_scan_ends(data, max_pixels)
    image = _decode_complete_jpeg(data)
    # The decoder paints what a scan lacks with gray and says nothing. Noise appended to each scan changes such an
    # image; after a complete scan it is skipped.
    begins, ends = [0, *scan_ends], [*scan_ends, len(data)]
    probe = _TAIL.join(data[begin:end] for begin, end in zip(begins, ends, strict=True))
    if not np.array_equal(image, _decode_complete_jpeg(probe)):
        raise _unreadable("JPEG pixel data do not fill the size in the header")
    return image


def _decode_complete_jpeg(data: bytes) -> Image:
    try:
        image: Image = imagecodecs.jpeg8_decode(data)
    except Exception as error:  # noqa: BLE001 -- whatever the codec raises means that it cannot read the image
        raise _unreadable(f"JPEG decoder: {error}") from None
    return image


def _jpeg_scan_ends(data: bytes, max_pixels: int) -> list[int]:
    """Checks the frame header and that every segment is whole; returns where each scan's data end."""
    scan_ends: list[int] = []
    frames = 0
    for marker, segment, end in _jpeg_segments(data):
        if marker in _SOF:
            frames += 1
            _check_jpeg_frame(marker, segment, max_pixels)
        if marker == _SOS:
            scan_ends.append(end)
    if frames != 1 or not 0 < len(scan_ends) <= _MAX_JPEG_SCANS:
        raise _unreadable(f"JPEG with {frames} frames and {len(scan_ends)} scans")
    return scan_ends


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Marker and content of every segment up to EOI, and where it ends; a scan ends with its entropy-coded data."""
    position = 2
    for _ in range(_MAX_JPEG_SEGMENTS):
        found = _JPEG_MARKER.match(data, position)
        if not found:
            raise _unreadable("JPEG is truncated or has no marker where one belongs")
        marker, position = data[found.end() - 1], found.end()
        if marker == _EOI:
            return
        size = int.from_bytes(data[position : position + 2])
        segment = data[position + 2 : position + size]
        position += size
        if size < 2 or position > len(data):
            raise _unreadable("JPEG is truncated")
        if marker == _SOS:
            following = _JPEG_MARKER_AFTER_SCAN.search(data, position)
            position = following.start() if following else len(data)
        yield marker, segment, position
    raise _unreadable(f"JPEG has more than {_MAX_JPEG_SEGMENTS} segments")


def _check_jpeg_frame(marker: int, segment: bytes, max_pixels: int) -> None:
    if len(segment) < 6:
        raise _unreadable("JPEG frame header is truncated")
    precision, components = segment[0], segment[5]
    _check_pixels(int.from_bytes(segment[3:5]), int.from_bytes(segment[1:3]), max_pixels)
    if marker not in _SOF_SUPPORTED or precision != 8 or components not in (1, 3):
        raise _unreadable(f"JPEG of process SOF{marker - 0xC0} with {components} channels of {precision} bits")
