"""No image takes much memory or time before it is refused, and each error says what is wrong.

The images are decoded in one child with little memory and processor time.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import uid

from cxreval.errors import ImageUnreadable
from cxreval.imaging.decode import decode
from tests.support.limited import outcomes
from tests.unit.test_dicom import dicom

PROGRAM = """
from cxreval.imaging import dicom
from cxreval.imaging.decode import decode
def opened(file):
    return list(decode(file.read_bytes()).shape)
"""


# --- PNG ------------------------------------------------------------------------------------------


def chunk(kind: bytes, content: bytes) -> bytes:
    """Returns a chunk of a PNG file."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(
        ">I", zlib.crc32(kind + content)
    )  # fmt: skip


def png(
    width: int,
    height: int,
    depth: int,
    color: int,
    rows: bytes,
    before: bytes = b"",
    interlaced: int = 0,
) -> bytes:
    """Returns a PNG file; `rows` have a filter byte each, `before` are chunks before IDAT."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlaced)
    return b"".join([
        b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), before, chunk(b"IDAT", zlib.compress(rows)),
        chunk(b"IEND", b""),
    ])  # fmt: skip


ZEROS = zlib.compress(bytes(8_000_000), 9)
GRAY = bytes(8 * 9)


def with_chunks(kind: bytes, content: bytes, count: int) -> Callable[[], bytes]:
    """Returns a function that makes an 8x8 PNG file with a chunk, repeated."""
    return lambda: png(8, 8, 8, 0, GRAY, chunk(kind, content) * count)


# --- JPEG -----------------------------------------------------------------------------------------

JPEG = bytes(imagecodecs.jpeg8_encode(np.zeros((8, 8), np.uint8)))


def large_jpeg(scans: int) -> bytes:
    """Returns a JPEG file that states 64 million pixels, with a scan repeated."""
    frame = JPEG.index(b"\xff\xc0")
    scan = JPEG.index(b"\xff\xda")
    tall = JPEG[: frame + 5] + struct.pack(">HH", 8000, 8000) + JPEG[frame + 9 : scan]
    return tall + JPEG[scan:-2] * scans + b"\xff\xd9"


def endless_marker() -> bytes:
    """Returns a JPEG file whose pixel data are ten million bytes 0xff."""
    return JPEG[:-2] + b"\xff" * 10_000_000 + b"\0" + b"\xff\xd9"


# --- DICOM ----------------------------------------------------------------------------------------

PLAIN = bytes(dicom(np.zeros((8, 8), np.uint16), stored=12, syntax=uid.ExplicitVRLittleEndian))


def with_element(tag: int, form: bytes, value: bytes) -> Callable[[], bytes]:
    """Returns a function that makes a DICOM file with one more element."""
    at = PLAIN.index(struct.pack("<HH", 0x7FE0, 0x10))
    head = struct.pack("<HH2s2xI", tag >> 16, tag & 0xFFFF, form, len(value))
    return lambda: PLAIN[:at] + head + value + PLAIN[at:]


def item(content: bytes) -> bytes:
    """Returns an item of a sequence."""
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content


def look_up_table(data: bytes) -> bytes:
    """Returns an item with a look-up table."""
    descriptor = struct.pack("<HH2sHHHH", 0x28, 0x3002, b"US", 6, 0, 0, 16)
    return item(descriptor + struct.pack("<HH2s2xI", 0x28, 0x3006, b"OW", len(data)) + data)


def nested(levels: int) -> bytes:
    """Returns sequences in sequences."""
    value = b""
    for _ in range(levels):
        inner = item(value)
        value = struct.pack("<HH2s2xI", 0x28, 0x3010, b"SQ", len(inner)) + inner
    return item(value)


def jpeg_2000(change: Callable[[bytearray], None], side: int = 2000) -> bytes:
    """Returns a DICOM file with a JPEG 2000 code stream whose segment COD is changed."""
    pixels = np.zeros((side, side), np.uint16)
    code = bytes(imagecodecs.jpeg2k_encode(pixels, codecformat="j2k", level=0, reversible=True))
    at = code.index(b"\xff\x52")
    end = at + 2 + int.from_bytes(code[at + 2 : at + 4])
    style = bytearray(code[at + 4 : end])
    change(style)
    changed = b"\xff\x52" + (len(style) + 2).to_bytes(2) + bytes(style)
    return bytes(
        dicom(pixels, stored=12, syntax=uid.JPEG2000Lossless, code=code[:at] + changed + code[end:])
    )


def small_precincts(style: bytearray) -> None:
    """Makes precincts of 2x2 samples: 700 bytes took 8 GB and 20 seconds."""
    style[0] |= 1
    style += bytes([0x11] * (style[5] + 1))


def small_tiles() -> bytes:
    """Returns a DICOM file with a JPEG 2000 code stream of 62,500 tiles."""
    pixels = np.zeros((2000, 2000), np.uint16)
    code = bytearray(imagecodecs.jpeg2k_encode(pixels, codecformat="j2k", level=0, reversible=True))
    code[24:32] = struct.pack(">II", 8, 8)
    return bytes(dicom(pixels, stored=12, syntax=uid.JPEG2000Lossless, code=bytes(code)))


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "PNG, side of 2 billion": (lambda: png(2**31 - 1, 2**31 - 1, 8, 0, b""), "at most"),
    "PNG, pixels that inflate to more": (lambda: png(8, 8, 8, 0, bytes(100_000_000)), "not fill"),
    "PNG, 64 million pixels of nothing": (lambda: png(8000, 8000, 16, 6, b""), "do not fill"),
    "PNG, animated": (with_chunks(b"acTL", bytes(8), 1), "animated"),
    "PNG, unknown critical chunk": (with_chunks(b"ABCD", bytes(8), 1), "PNG decoder"),
    "PNG, many chunks": (with_chunks(b"tEXt", b"a\0b", 70_000), "chunks"),
    "PNG, no palette": (lambda: png(8, 8, 8, 3, GRAY), "without a palette"),
    "PNG, palette of 4 bytes": (
        lambda: png(8, 8, 8, 3, GRAY, chunk(b"PLTE", bytes(4))), "malformed"
    ),
    "JPEG, 32 scans of 64 million pixels": (lambda: large_jpeg(32), "32 scans of 64000000 pixels"),
    "JPEG, a thousand scans": (lambda: large_jpeg(1000), "1000 scans"),
    "DICOM, millions of windows": (
        with_element(0x00281050, b"UC", b"1\\" * 10_000_000), "(0028,1050) has 20000000 bytes"
    ),
    "DICOM, millions of rows": (
        with_element(0x00280010, b"UV", bytes(40_000_000)), "(0028,0010) has 40000000 bytes"
    ),
    "DICOM, millions of items": (
        with_element(0x00283010, b"SQ", item(b"") * 5_000_000), "(0028,3010) has 40000000 bytes"
    ),
    "DICOM, large look-up table": (
        with_element(0x00283010, b"SQ", look_up_table(bytes(400_000))), "(0028,3006) has 400000"
    ),
    "DICOM, sequences in sequences": (
        with_element(0x00283010, b"SQ", nested(3000)), "does not follow the standard"
    ),
    "DICOM, JPEG 2000 with small precincts": (lambda: jpeg_2000(small_precincts), "precincts"),
    "DICOM, JPEG 2000 with small code blocks": (
        lambda: jpeg_2000(lambda style: style.__setitem__(slice(6, 8), b"\0\0")), "code blocks"
    ),
    "DICOM, JPEG 2000 with many layers": (
        lambda: jpeg_2000(lambda style: style.__setitem__(slice(2, 4), b"\xff\xff")), "65535 layers"
    ),
    "DICOM, JPEG 2000 with many levels": (
        lambda: jpeg_2000(lambda style: style.__setitem__(5, 32)), "32 resolution levels"
    ),
    "DICOM, JPEG 2000 with many tiles": (small_tiles, "62500 tiles"),
}  # fmt: skip


def inflating(kind: bytes) -> Callable[[], bytes]:
    """Returns a function that makes a PNG file with chunks that inflate to 24 GB."""
    start = b"a\0\1\0\0\0" if kind == b"iTXt" else b"a\0\0"
    return with_chunks(kind, start + ZEROS, 3000)


HOSTILE["PNG, color profiles that inflate to 24 GB"] = (inflating(b"iCCP"), "metadata take more")
HOSTILE["PNG, XMP that inflates to 24 GB"] = (
    with_chunks(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + ZEROS, 3000),
    "metadata take more",
)

HARMLESS: dict[str, Callable[[], bytes]] = {
    "PNG, zTXt": inflating(b"zTXt"),
    "PNG, iTXt": inflating(b"iTXt"),
    "JPEG, endless marker": endless_marker,
}


@pytest.fixture(scope="module")
def decoded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, Any]]:
    """The error or shape of each image."""
    files = {kind: content for kind, (content, _) in HOSTILE.items()} | HARMLESS
    return outcomes(PROGRAM, files, tmp_path_factory.mktemp("images"))


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_image_is_refused_by_name_within_small_limits(
    decoded: dict[str, tuple[str, Any]], kind: str
) -> None:
    reason, message = decoded[kind]
    assert reason in ("IMAGE_UNREADABLE", "IMAGE_TOO_LARGE")
    assert HOSTILE[kind][1] in message
    assert len(message) < 500


@pytest.mark.parametrize("kind", HARMLESS)
def test_what_no_pixel_depends_on_takes_no_time(
    decoded: dict[str, tuple[str, Any]], kind: str
) -> None:
    assert decoded[kind] == ("opened", [8, 8])


# --- palettes -------------------------------------------------------------------------------------


@given(depth=st.sampled_from([1, 2, 4, 8]), interlaced=st.booleans(), data=st.data())
def test_a_palette_index_is_a_color_or_an_error_and_never_black(
    depth: int, interlaced: bool, data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, (1 << depth) - 1))
    entries = data.draw(st.integers(1, 1 << depth))
    # One pixel, in the highest bits of its byte; the filters of a first row change nothing.
    rows = bytes([data.draw(st.sampled_from([0, 1, 2])), index << 8 - depth])
    colors = chunk(b"PLTE", bytes([200, 100, 50]) * entries)
    content = png(1, 1, depth, 3, rows, colors, int(interlaced))
    if index < entries:
        np.testing.assert_array_equal(decode(content), [[[200, 100, 50]]])
        return
    with pytest.raises(ImageUnreadable) as caught:
        decode(content)
    says = f"PNG has palette index {index}; its palette has {entries} entries"
    assert says in caught.value.message


def test_a_palette_with_transparency_and_comments_is_read_as_before() -> None:
    before = chunk(b"PLTE", bytes(range(6))) + chunk(b"tRNS", b"\x80") + chunk(b"tEXt", b"a\0b")
    content = png(2, 1, 8, 3, b"\0\0\1", before)
    plain = png(2, 1, 8, 3, b"\0\0\1", chunk(b"PLTE", bytes(range(6))) + chunk(b"tRNS", b"\x80"))
    np.testing.assert_array_equal(decode(content), imagecodecs.png_decode(plain))


@pytest.mark.parametrize(
    "options", [{}, {"level": 40}, {"reversible": True}, {"resolutions": 3}], ids=str
)
def test_honest_jpeg_2000_passes_the_checks(options: dict[str, Any]) -> None:
    pixels = np.random.default_rng(0).integers(0, 4096, (300, 200), dtype=np.uint16)
    code = bytes(imagecodecs.jpeg2k_encode(pixels, codecformat="j2k", **options))
    content = bytes(dicom(pixels, stored=12, syntax=uid.JPEG2000, code=code))
    assert decode(content).shape == (300, 200)
