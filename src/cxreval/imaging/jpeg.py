"""Decodes JPEG files, after a check that they are complete."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial

import imagecodecs
import numpy as np

from cxreval.imaging.image import Image, check_pixels, run_codec, unreadable
from cxreval.imaging.metadata import check_jpeg_metadata

JPEG_SIGNATURE = b"\xff\xd8\xff"

_MAX_SCANS = 32  # encoders write about ten
_MAX_SCANNED_PIXELS = 200_000_000  # of all scans; each costs a pass over all pixels
_MAX_SEGMENTS = 10_000

PLAIN = (0xC0, 0xC1, 0xC2)
"""Frame markers that image files use: baseline, extended sequential, progressive; Huffman coded."""

LOSSLESS = 0xC3
"""Frame marker of the lossless process, which only DICOM uses."""

_SOF = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_SOS, _EOI = 0xDA, 0xD9
_MARKER = re.compile(rb"\xff+[^\x00\xff]", re.DOTALL)
# A search begins once in each run of 0xff: a long run would take quadratic time.
_MARKER_AFTER_SCAN = re.compile(rb"(?<!\xff)\xff+[^\x00\xd0-\xd7\xff]", re.DOTALL)

# Entropy-coded noise; then, for files with restart markers, each marker with its own noise.
_NOISE = bytes((167 * i + 31) % 251 for i in range(64))
_TAIL = _NOISE + b"".join(bytes((0xFF, 0xD0 + i % 8)) + _NOISE[i:] for i in range(32))


def decode_jpeg(data: bytes, max_pixels: int) -> Image:
    """Decodes an 8-bit gray or color JPEG file; `data` starts with `JPEG_SIGNATURE`.

    Raises:
        ImageTooLarge, ImageUnreadable: see `decode`.
    """
    image = decode_stream(data, max_pixels)
    check_jpeg_metadata((marker, segment) for marker, segment, _ in _segments(data))
    return image


def decode_stream(
    data: bytes,
    max_pixels: int,
    *,
    frames: Sequence[int] = PLAIN,
    precisions: Sequence[int] = (8,),
    color_space: str | None = None,
) -> Image:
    """Decodes a JPEG, whatever its metadata, of a process in `frames` and a depth in `precisions`.

    Colors become RGB; with a `color_space` they are of that space, and stay in it.

    Returns:
        uint8 for up to 8 bits, else uint16; (H, W) or (H, W, 3).

    Raises:
        ImageTooLarge, ImageUnreadable: see `decode`.
    """
    scan_ends = _scan_ends(data, max_pixels, frames, precisions)
    image = _decode_complete(data, color_space)
    # The decoder fills missing data with gray and reports nothing. Noise appended to each scan
    # changes an incomplete image; after a complete scan it is skipped.
    begins, ends = [0, *scan_ends], [*scan_ends, len(data)]
    probe = _TAIL.join(data[begin:end] for begin, end in zip(begins, ends, strict=True))
    if not np.array_equal(image, _decode_complete(probe, color_space)):
        raise unreadable("JPEG pixel data do not fill the size in the header")
    return image


def _decode_complete(data: bytes, color_space: str | None) -> Image:
    decode = partial(imagecodecs.jpeg8_decode, colorspace=color_space, outcolorspace=color_space)
    return run_codec(decode, data, "JPEG decoder")


def _scan_ends(
    data: bytes, max_pixels: int, frames: Sequence[int], precisions: Sequence[int]
) -> list[int]:
    """Checks the frame header and every segment; returns where the data of each scan end."""
    scan_ends: list[int] = []
    headers, pixels = 0, 0
    for marker, segment, end in _segments(data):
        if marker in _SOF:
            headers += 1
            pixels = _check_frame(marker, segment, max_pixels, frames, precisions)
        if marker == _SOS:
            scan_ends.append(end)
    if headers != 1 or not 0 < len(scan_ends) <= _MAX_SCANS:
        raise unreadable(f"JPEG with {headers} frames and {len(scan_ends)} scans")
    if pixels * len(scan_ends) > _MAX_SCANNED_PIXELS:
        scans = f"{len(scan_ends)} scans of {pixels} pixels"
        raise unreadable(f"JPEG has {scans}, more than {_MAX_SCANNED_PIXELS} pixels in all")
    return scan_ends


def _segments(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Yields marker, content and end of every segment up to EOI.

    A scan ends with its entropy-coded data.
    """
    position = 2
    for _ in range(_MAX_SEGMENTS):
        match = _MARKER.match(data, position)
        if not match:
            raise unreadable("JPEG is truncated, or a marker is missing")
        marker, position = data[match.end() - 1], match.end()
        if marker == _EOI:
            return
        size = int.from_bytes(data[position : position + 2])
        segment = data[position + 2 : position + size]
        position += size
        if size < 2 or position > len(data):
            raise unreadable("JPEG is truncated")
        if marker == _SOS:
            following = _MARKER_AFTER_SCAN.search(data, position)
            position = following.start() if following else len(data)
        yield marker, segment, position
    raise unreadable(f"JPEG has more than {_MAX_SEGMENTS} segments")


def _check_frame(
    marker: int, segment: bytes, max_pixels: int, frames: Sequence[int], precisions: Sequence[int]
) -> int:
    """Returns the number of pixels in a frame header."""
    if len(segment) < 6:
        raise unreadable("JPEG frame header is truncated")
    precision, components = segment[0], segment[5]
    width, height = int.from_bytes(segment[3:5]), int.from_bytes(segment[1:3])
    check_pixels(width, height, max_pixels)
    if marker not in frames or precision not in precisions or components not in (1, 3):
        raise unreadable(
            f"JPEG of process SOF{marker - 0xC0} with {components} channels of {precision} bits"
        )
    return width * height
