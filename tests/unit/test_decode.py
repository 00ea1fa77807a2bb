"""`decode` accepts the supported images and refuses all others early, with a named error."""

from __future__ import annotations

import contextlib
import time
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxreval.errors import CxrevalError, ImageTooLarge, ImageUnreadable
from cxreval.imaging.decode import decode

RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 256, (37, 53), dtype=np.uint8)
PNG = imagecodecs.png_encode(GRAY)
JPEG = imagecodecs.jpeg8_encode(GRAY, level=90)


def png_chunk(kind: bytes, content: bytes = b"") -> bytes:
    return len(content).to_bytes(4) + kind + content + zlib.crc32(kind + content).to_bytes(4)


def png_with_header(data: bytes, width: int, height: int) -> bytes:
    """Returns the PNG with another size in its header and a valid checksum."""
    header = width.to_bytes(4) + height.to_bytes(4) + data[24:29]
    return data[:8] + png_chunk(b"IHDR", header) + data[33:]


def jpeg_with_size(data: bytes, width: int, height: int) -> bytes:
    frame = data.index(b"\xff\xc0") + 5
    return data[:frame] + height.to_bytes(2) + width.to_bytes(2) + data[frame + 4 :]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [None, 2, 3, 4])
def test_png_of_every_depth_and_channel_count_comes_back_unchanged(
    dtype: type[np.uint8 | np.uint16], channels: int | None
) -> None:
    shape = (37, 53) if channels is None else (37, 53, channels)
    image = RNG.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)
    decoded = decode(imagecodecs.png_encode(image))
    assert decoded.dtype == dtype
    np.testing.assert_array_equal(decoded, image)


@pytest.mark.parametrize("level", [1, 9])
@pytest.mark.parametrize("side", [1, 37, 3000])
def test_png_of_one_color_is_read_however_small_its_pixel_data(side: int, level: int) -> None:
    image = np.full((side, side), 255, np.uint16)
    np.testing.assert_array_equal(decode(imagecodecs.png_encode(image, level=level)), image)


def test_palette_png_becomes_rgb() -> None:
    rows = zlib.compress(
        b"\x00\x00\x01\x00\x01\x00"
    )  # two rows of two pixels, each after its filter byte
    header = (2).to_bytes(4) + (2).to_bytes(4) + bytes((8, 3, 0, 0, 0))
    palette = bytes((10, 20, 30, 200, 100, 50))
    chunks = (
        png_chunk(b"IHDR", header)
        + png_chunk(b"PLTE", palette)
        + png_chunk(b"IDAT", rows)
        + png_chunk(b"IEND")
    )
    expected = [[[10, 20, 30], [200, 100, 50]], [[200, 100, 50], [10, 20, 30]]]
    np.testing.assert_array_equal(decode(PNG[:8] + chunks), expected)


def test_one_bit_gray_png_is_scaled_to_eight_bits() -> None:
    header = (4).to_bytes(4) + (1).to_bytes(4) + bytes((1, 0, 0, 0, 0))
    data = (
        PNG[:8]
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", zlib.compress(b"\x00\xa0"))
        + png_chunk(b"IEND")
    )
    np.testing.assert_array_equal(decode(data), [[255, 0, 255, 0]])


def test_interlaced_png_is_read() -> None:
    # 3x2 gray, Adam7: passes 1 (one pixel), 5 has no row here; 4: column 2; 6: column 1; 7: row 1.
    rows = b"\x00\x01" + b"\x00\x03" + b"\x00\x02" + b"\x00\x04\x05\x06"
    header = (3).to_bytes(4) + (2).to_bytes(4) + bytes((8, 0, 0, 0, 1))
    data = (
        PNG[:8]
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", zlib.compress(rows))
        + png_chunk(b"IEND")
    )
    np.testing.assert_array_equal(decode(data), [[1, 2, 3], [4, 5, 6]])


@pytest.mark.parametrize("shape", [(37, 53), (37, 53, 3)])
def test_jpeg_gray_and_color_are_read(shape: tuple[int, ...]) -> None:
    flat = np.full(shape, 90, np.uint8)
    decoded = decode(imagecodecs.jpeg8_encode(flat, level=95))
    assert decoded.shape == shape
    np.testing.assert_allclose(decoded.astype(int), 90, atol=2)


@pytest.mark.parametrize("data", [PNG, JPEG], ids=["png", "jpeg"])
def test_no_truncation_is_accepted(data: bytes) -> None:
    for length in range(len(data)):
        with pytest.raises(ImageUnreadable):
            decode(data[:length])


def test_every_flipped_byte_of_a_png_is_noticed() -> None:
    for position in range(len(PNG)):
        with pytest.raises((ImageUnreadable, ImageTooLarge)):
            decode(PNG[:position] + bytes((PNG[position] ^ 0x10,)) + PNG[position + 1 :])


def test_jpeg_cut_short_and_closed_with_an_end_marker_is_refused() -> None:
    with pytest.raises(ImageUnreadable, match="do not fill the size"):
        decode(JPEG[: len(JPEG) // 2] + b"\xff\xd9")


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "zero bytes"),
        (b"GIF89a" + bytes(20), "neither PNG, JPEG nor DICOM"),
        (bytes(128) + b"DICM" + bytes(20), "DICOM of transfer syntax unknown"),
        (PNG[:8] + PNG[33:], "without a header"),
        (PNG[:33] + png_chunk(b"acTL", bytes(8)) + PNG[33:], "animated"),
        (PNG[:33] + PNG[-12:], "do not fill the size"),
        (PNG[:33] + png_chunk(b"IDAT") * 70_000 + PNG[33:], "chunks"),
        (PNG[:24] + b"\x07" + PNG[25:], "bit depth 7"),
        (JPEG[:2] + b"\xff\xd9", "0 frames"),
        (JPEG.replace(b"\xff\xc0", b"\xff\xc9", 1), "SOF9"),
        (JPEG.replace(b"\xff\xc0\x00\x0b\x08", b"\xff\xc0\x00\x0b\x0c", 1), "12 bits"),
        (JPEG[:2] + b"\xff\xfe\x00\x02" * 20_000 + JPEG[2:], "segments"),
    ],
)
def test_unreadable_bytes_are_refused_with_their_problem(data: bytes, problem: str) -> None:
    with pytest.raises(ImageUnreadable, match=problem) as refusal:
        decode(data)
    assert refusal.value.metadata["field"] == "image"


@pytest.mark.parametrize(
    "bomb", [png_with_header(PNG, 30_000, 30_000), jpeg_with_size(JPEG, 30_000, 30_000)]
)
def test_bomb_is_refused_from_its_header_at_once(bomb: bytes) -> None:
    start = time.perf_counter()
    with pytest.raises(ImageTooLarge, match=r"30000x30000.*at most 64000000") as refusal:
        decode(bomb)
    assert time.perf_counter() - start < 0.05
    assert (refusal.value.metadata["width"], refusal.value.metadata["height"]) == ("30000", "30000")


@pytest.mark.parametrize(
    "size", [(53, 36), (53, 38), (26, 37), (106, 37), (8000, 8000), (1, 1), (0, 37)]
)
def test_png_header_that_lies_about_the_size_of_its_data_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ImageUnreadable):
        decode(png_with_header(PNG, *size))


@pytest.mark.parametrize("size", [(53, 60), (53, 4000), (120, 37), (0, 37)])
def test_jpeg_header_that_asks_for_more_than_its_data_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ImageUnreadable):
        decode(jpeg_with_size(JPEG, *size))


def test_limits_name_what_was_found_and_allowed() -> None:
    with pytest.raises(ImageTooLarge, match=f"{len(PNG)} bytes; expected at most 100"):
        decode(PNG, max_bytes=100)
    with pytest.raises(ImageTooLarge, match="53x37, 1961 pixels; expected at most 1960"):
        decode(PNG, max_pixels=1960)
    assert decode(PNG, max_bytes=len(PNG), max_pixels=1961).shape == (37, 53)


@given(
    start=st.sampled_from([PNG[:8], PNG[:33], JPEG[:3], JPEG[:200], b""]),
    rest=st.binary(max_size=300),
)
def test_arbitrary_bytes_never_leak_a_foreign_error(start: bytes, rest: bytes) -> None:
    with contextlib.suppress(CxrevalError):
        decode(start + rest)


@given(position=st.integers(0, len(JPEG) - 1), value=st.integers(0, 255))
def test_corrupt_jpeg_never_leaks_a_foreign_error(position: int, value: int) -> None:
    with contextlib.suppress(CxrevalError):
        decode(JPEG[:position] + bytes((value,)) + JPEG[position + 1 :])


def test_real_radiographs_are_read_gray_or_rgba(shared: Path) -> None:
    shapes = {
        decode(file.read_bytes()).shape
        for file in sorted((shared / "nih-chestxray14/images").glob("*.png"))
    }
    assert shapes == {(1024, 1024), (1024, 1024, 4)}
