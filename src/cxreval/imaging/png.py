"""Decodes PNG files, after checks of header, chunks, checksums and the amount of pixel data."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import imagecodecs
import numpy as np

from cxreval.imaging.image import Image, check_pixels, run_codec, unreadable
from cxreval.imaging.metadata import check_png_metadata

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

_MAX_CHUNKS = 65_536
_MOST_INFLATED = 1032  # bytes for each compressed byte: deflate copies 258 bytes for two bits
_PALETTE = 3
_ANCILLARY = 0x20  # bit of the first letter of a kind

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_ADAM7_PASSES = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
"""First column, first row, column step and row step of each pass of an interlaced PNG."""


@dataclass(frozen=True, slots=True)
class _Header:
    width: int
    height: int
    depth: int
    color: int
    interlaced: bool

    @property
    def inflated_size(self) -> int:
        """Size of the uncompressed pixel data in bytes, with the filter byte of each row."""
        passes = _ADAM7_PASSES if self.interlaced else ((0, 0, 1, 1),)
        sizes = (
            (-(-(self.width - x) // dx), -(-(self.height - y) // dy)) for x, y, dx, dy in passes
        )
        return sum(
            rows * (1 + -(-columns * self.depth * _CHANNELS[self.color] // 8))
            for columns, rows in sizes
            if columns > 0 < rows
        )


def decode_png(data: bytes, max_pixels: int) -> Image:
    """Decodes a PNG of any depth and color type; `data` starts with `PNG_SIGNATURE`.

    Raises:
        ImageTooLarge, ImageUnreadable: see `decode`.
    """
    header = _read_header(data, max_pixels)
    chunks = list(_chunks(data))
    check_png_metadata(chunks)
    pixel_data = b"".join(content for kind, content in chunks if kind == b"IDAT")
    _check_inflated_size(pixel_data, header.inflated_size)
    if header.color == _PALETTE:
        _check_palette(header, chunks, pixel_data)
    return _decoded(_without_comments(data, chunks))


def encode_png(image: Image) -> bytes:
    """Returns an image as a PNG file of its depth and channels, without compression.

    The size of the file follows from shape and type of the image.
    """
    height, width, *channels = image.shape
    color = next(kind for kind, count in _CHANNELS.items() if [count] == (channels or [1]))
    depth = 8 * image.dtype.itemsize
    rows = np.ascontiguousarray(image, image.dtype.newbyteorder(">")).view(np.uint8)
    filtered = np.zeros((height, 1 + rows.size // height), np.uint8)  # each row begins with a 0
    filtered[:, 1:] = rows.reshape(height, -1)
    header = width.to_bytes(4) + height.to_bytes(4) + bytes((depth, color, 0, 0, 0))
    return _file([(b"IHDR", header), (b"IDAT", zlib.compress(filtered.data, level=0))])


def _decoded(data: bytes) -> Image:
    return run_codec(imagecodecs.png_decode, data, "PNG decoder")


def _without_comments(data: bytes, chunks: Sequence[tuple[bytes, memoryview]]) -> bytes:
    """Returns the file without ancillary chunks that do not affect a pixel.

    The codec would inflate compressed text and color profiles, each to megabytes.
    """
    kept = [pair for pair in chunks if not pair[0][0] & _ANCILLARY or pair[0] == b"tRNS"]
    if len(kept) == len(chunks):
        return data
    return _file(kept)


def _file(chunks: Iterable[tuple[bytes, memoryview | bytes]]) -> bytes:
    """Returns a PNG file of these chunks, and IEND."""
    parts: list[bytes | memoryview] = [PNG_SIGNATURE]
    for kind, content in (*chunks, (b"IEND", b"")):
        checksum = zlib.crc32(content, zlib.crc32(kind))
        parts += [len(content).to_bytes(4), kind, content, checksum.to_bytes(4)]
    return b"".join(parts)


def _check_palette(
    header: _Header, chunks: Sequence[tuple[bytes, memoryview]], pixel_data: bytes
) -> None:
    """Checks that the palette has every index of the pixel data; the codec makes others black."""
    palettes = [content for kind, content in chunks if kind == b"PLTE"]
    if len(palettes) != 1 or not palettes[0] or len(palettes[0]) % 3:
        raise unreadable("PNG without a palette, or with a malformed one")
    entries = len(palettes[0]) // 3
    # The same file as gray has the indexes as values, scaled to 8 bits.
    start = header.width.to_bytes(4) + header.height.to_bytes(4)
    form = bytes((header.depth, 0, 0, 0, header.interlaced))
    indexes = _decoded(_file([(b"IHDR", start + form), (b"IDAT", pixel_data)]))
    largest = int(indexes.max()) // (255 // ((1 << header.depth) - 1))
    if largest >= entries:
        raise unreadable(f"PNG has palette index {largest}; its palette has {entries} entries")


def _read_header(data: bytes, max_pixels: int) -> _Header:
    if len(data) < 33 or data[8:16] != b"\0\0\0\x0dIHDR":
        raise unreadable("PNG without a header")
    width, height = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    depth, color, compression, filtering, interlacing = data[24:29]
    check_pixels(width, height, max_pixels)
    if depth not in _DEPTHS.get(color, ()) or compression or filtering or interlacing > 1:
        raise unreadable(f"PNG header with bit depth {depth} and color type {color}")
    return _Header(width, height, depth, color, bool(interlacing))


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Yields kind and content of every chunk up to IEND, with its checksum verified."""
    view = memoryview(data)
    start = len(PNG_SIGNATURE)
    for _ in range(_MAX_CHUNKS):
        kind, end = (
            data[start + 4 : start + 8],
            start + 12 + int.from_bytes(data[start : start + 4]),
        )
        if len(kind) < 4 or end > len(data):
            raise unreadable("PNG is truncated")
        if zlib.crc32(view[start + 4 : end - 4]) != int.from_bytes(data[end - 4 : end]):
            raise unreadable(
                f"PNG chunk {kind.decode('latin-1')!r} at byte {start} does not match its checksum"
            )
        if kind == b"acTL":
            raise unreadable("PNG is animated")
        if kind == b"IEND":
            return
        yield kind, view[start + 8 : end - 4]
        start = end
    raise unreadable(f"PNG has more than {_MAX_CHUNKS} chunks")


def _check_inflated_size(compressed: bytes, expected: int) -> None:
    """Checks the amount of pixel data: libpng ignores rows beyond those of the header."""
    complete = expected <= _MOST_INFLATED * len(compressed)  # checked before memory is allocated
    try:
        if complete:
            complete = len(imagecodecs.deflate_decode(compressed, out=expected)) == expected
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 -- too much data and corrupt data have the same class
        complete = False
    if not complete:
        raise unreadable("PNG pixel data are corrupt or do not fill the size in the header")
