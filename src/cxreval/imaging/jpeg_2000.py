"""Checks the headers of a JPEG 2000 code stream, before the codec allocates memory for them.

OpenJPEG allocates structures for each tile, precinct, code block and layer that a header states: a
stream of 700 bytes can take gigabytes and half a minute. See ISO/IEC 15444-1, annex A.
"""

from __future__ import annotations

from collections.abc import Iterator

from cxreval.imaging.image import unreadable

MAX_BYTES = 1 << 24
"""Maximum length of a code stream; the codec decodes about 8 MB a second."""

MAX_PIXELS = 1 << 24
"""Maximum number of pixels; the largest radiographs have about 15 million."""

_JP2 = b"\0\0\0\x0cjP  \r\n\x87\n"
_MAX_BOXES = 1000
_MAX_TILES = 1024
_MAX_LEVELS = 10
_MAX_LAYERS = 256
_FEWEST_BLOCK_BITS = 8  # code blocks of 16x16 samples
_FEWEST_PRECINCT_BITS = 6  # precincts of 64x64 samples
_START = b"\xff\x4f\xff\x51"
_SIZE, _STYLE, _COMPONENT_STYLE, _TILE, _DATA, _END = 0x51, 0x52, 0x53, 0x90, 0x93, 0xD9
_MAX_SEGMENTS = 20_000


def code_stream(data: bytes) -> bytes:
    """Returns the code stream of a JP2 file, whose boxes some programs put in DICOM; else the data.

    Raises:
        ImageUnreadable: there is no code stream, or a palette that the pixels are indexes of.
    """
    if not data.startswith(_JP2):
        return data
    position = 0
    for _ in range(_MAX_BOXES):
        length, kind = int.from_bytes(data[position : position + 4]), data[position + 4 :][:4]
        header = 8
        if length == 1:
            length, header = int.from_bytes(data[position + 8 : position + 16]), 16
        end = position + length if length else len(data)
        if end > len(data) or end < position + header:
            break
        content = data[position + header : end]
        if kind == b"jp2h" and b"pclr" in content:
            raise unreadable("JPEG 2000 with a palette")
        if kind == b"jp2c":
            return content
        position = end
    raise unreadable("JPEG 2000 file without a code stream")


def check_code_stream(code: bytes, rows: int, columns: int, components: int = 1) -> None:
    """Checks that a code stream has its components of the size, and stays within the limits.

    Raises:
        ImageUnreadable: it does not, or a header is malformed.
    """
    if not code.startswith(_START):
        raise unreadable("pixel data are no JPEG 2000 code stream")
    if len(code) > MAX_BYTES or rows * columns > MAX_PIXELS:
        size = f"{len(code)} bytes and {rows * columns} pixels"
        raise unreadable(f"JPEG 2000 of {size}, above {MAX_BYTES} or {MAX_PIXELS}")
    for marker, segment in _segments(code):
        if marker == _SIZE:
            _check_size(segment, rows, columns, components)
        elif marker == _STYLE:
            layers = int.from_bytes(segment[2:4])
            _check_limit("layers", layers, _MAX_LAYERS)
            _check_style(segment[5:], precincts=bool(segment[0] & 1))
        elif marker == _COMPONENT_STYLE:  # of one component; its number takes one byte
            _check_style(segment[2:], precincts=bool(segment[1] & 1))


def _segments(code: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields marker and content of the segments of the main header and of each tile part's."""
    position, part_end = 2, 0
    for _ in range(_MAX_SEGMENTS):
        if position >= len(code) or code[position : position + 2] == b"\xff\xd9":
            return
        marker, length = code[position + 1], int.from_bytes(code[position + 2 : position + 4])
        if code[position] != 0xFF:
            raise unreadable("JPEG 2000 with a malformed header")
        if marker == _DATA:
            if part_end <= position:
                raise unreadable("JPEG 2000 with a malformed tile")
            position = part_end
            continue
        segment = code[position + 4 : position + 2 + length]
        if length < 3 or len(segment) != length - 2:
            raise unreadable("JPEG 2000 with a malformed header")
        if marker == _TILE:
            part_end = position + int.from_bytes(segment[2:6]) if any(segment[2:6]) else len(code)
        yield marker, segment
        position += 2 + length
    raise unreadable(f"JPEG 2000 with more than {_MAX_SEGMENTS} segments")


def _check_size(segment: bytes, rows: int, columns: int, components: int) -> None:
    """Checks the size of the image, its number of components and that of its tiles."""
    right, bottom, left, top, width, height, tile_left, tile_top = (
        int.from_bytes(segment[at : at + 4]) for at in range(2, 34, 4)
    )
    if (bottom - top, right - left) != (rows, columns) or segment[34:36] != components.to_bytes(2):
        raise unreadable(f"DICOM pixel data are not the {columns}x{rows} of the header")
    if not (width and height) or tile_left > left or tile_top > top:
        raise unreadable("JPEG 2000 with malformed tiles")
    tiles = -(-(right - tile_left) // width) * -(-(bottom - tile_top) // height)
    _check_limit("tiles", tiles, _MAX_TILES)


def _check_style(style: bytes, *, precincts: bool) -> None:
    """Checks the number of resolutions and the sizes of code blocks and precincts."""
    if len(style) < 5:
        raise unreadable("JPEG 2000 with a malformed header")
    _check_limit("resolution levels", style[0], _MAX_LEVELS)
    if style[1] + style[2] + 4 < _FEWEST_BLOCK_BITS:
        raise unreadable("JPEG 2000 with code blocks that are too small")
    sizes = style[5:] if precincts else b""
    if any(
        size & 15 < _FEWEST_PRECINCT_BITS or size >> 4 < _FEWEST_PRECINCT_BITS for size in sizes
    ):
        raise unreadable("JPEG 2000 with precincts that are too small")


def _check_limit(name: str, count: int, most: int) -> None:
    if count > most:
        raise unreadable(f"JPEG 2000 with {count} {name}, more than {most}")
