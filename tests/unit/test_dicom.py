"""DICOM: every transfer syntax, the mapping of stored values to gray levels, and refusals."""

from __future__ import annotations

import contextlib
import io
import logging
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.sequence import Sequence

import cxreval.imaging.dicom  # noqa: F401 -- its warning filter: files are made while tests are collected
from cxreval.errors import CxrevalError, ImageTooLarge, ImageUnreadable
from cxreval.imaging.decode import decode

SAMPLES = Path(pydicom.__file__).parent / "data/test_files"
RNG = np.random.default_rng(0)
GRAY12 = (np.add.outer(np.arange(64), np.arange(48)) * 36 + RNG.integers(0, 40, (64, 48))).astype(
    np.uint16
)
GRAY8 = (GRAY12 >> 4).astype(np.uint8)
PATIENT = "Doe^Jane^Secret"


def dicom(
    pixels: np.ndarray,
    *,
    syntax: str = uid.ExplicitVRLittleEndian,
    code: bytes = b"",
    stored: int = 0,
    **elements: Any,
) -> bytes:
    """Returns a file with one gray frame, `pixels` or its compressed `code`, and more elements."""
    dataset = Dataset()
    dataset.PatientName, dataset.PatientID = PATIENT, PATIENT
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.BitsAllocated = pixels.dtype.itemsize * 8
    dataset.BitsStored = stored or dataset.BitsAllocated
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(np.issubdtype(pixels.dtype, np.signedinteger))
    for name, value in elements.items():
        setattr(dataset, name, value)
    order = ">" if syntax == uid.ExplicitVRBigEndian else "<"
    raw = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    dataset.PixelData = encapsulate([code]) if code else raw
    dataset["PixelData"].VR = "OB" if code or dataset.BitsAllocated == 8 else "OW"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.UID(syntax)
    dataset.file_meta.MediaStorageSOPClassUID = uid.DigitalXRayImageStorageForPresentation
    dataset.file_meta.MediaStorageSOPInstanceUID = uid.generate_uid(entropy_srcs=["test"])
    file = io.BytesIO()
    pydicom.dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()


def full_range(pixels: np.ndarray, stored: int) -> np.ndarray:
    """Returns the expected image of a file without a window."""
    return np.rint(pixels.astype(np.float64) / ((1 << stored) - 1) * 65535).astype(np.uint16)


@pytest.mark.parametrize(
    "syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian]
)
def test_uncompressed_values_fill_the_range_of_their_bits(syntax: str) -> None:
    np.testing.assert_array_equal(
        decode(dicom(GRAY12, syntax=syntax, stored=12)), full_range(GRAY12, 12)
    )
    np.testing.assert_array_equal(decode(dicom(GRAY8, syntax=syntax)), GRAY8)


def rle(pixels: np.ndarray) -> bytes:
    """Encodes as PackBits segments of literals, most significant byte first."""
    planes = [pixels >> 8, pixels & 255] if pixels.dtype == np.uint16 else [pixels]
    segments = []
    for plane in planes:
        rows = plane.astype(np.uint8).tobytes()
        runs = [rows[start : start + 128] for start in range(0, len(rows), 128)]
        segment = b"".join(bytes((len(run) - 1,)) + run for run in runs)
        segments.append(segment + b"\0" * (len(segment) % 2))
    offsets = np.cumsum([64, *map(len, segments)])[:-1]
    header = np.zeros(16, "<u4")
    header[0], header[1 : 1 + len(offsets)] = len(segments), offsets
    return header.tobytes() + b"".join(segments)


LOSSLESS: dict[str, tuple[str, Callable[[np.ndarray], bytes]]] = {
    "RLE": (uid.RLELossless, rle),
    "JPEG lossless": (
        uid.JPEGLosslessSV1,
        lambda pixels: imagecodecs.ljpeg_encode(pixels, bitspersample=12),
    ),
    "JPEG-LS": (uid.JPEGLSLossless, imagecodecs.jpegls_encode),
    "JPEG 2000": (
        uid.JPEG2000Lossless,
        lambda pixels: imagecodecs.jpeg2k_encode(
            pixels, reversible=True, level=0, codecformat="j2k"
        ),
    ),
}


@pytest.mark.parametrize(("syntax", "encode"), LOSSLESS.values(), ids=LOSSLESS)
def test_losslessly_compressed_values_are_the_uncompressed_ones(
    syntax: str, encode: Callable[[np.ndarray], bytes]
) -> None:
    code = bytes(encode(GRAY12))
    np.testing.assert_array_equal(
        decode(dicom(GRAY12, syntax=syntax, code=code, stored=12)), full_range(GRAY12, 12)
    )


def test_lossy_jpeg_of_8_and_12_bits_is_close() -> None:
    eight = dicom(
        GRAY8, syntax=uid.JPEGBaseline8Bit, code=imagecodecs.jpeg8_encode(GRAY8, level=95)
    )
    code = imagecodecs.jpeg8_encode(GRAY12, level=95, bitspersample=12)
    twelve = dicom(GRAY12, syntax=uid.JPEGExtended12Bit, code=code, stored=12)
    np.testing.assert_allclose(decode(eight).astype(int), GRAY8, atol=4)
    np.testing.assert_allclose(decode(twelve), full_range(GRAY12, 12).astype(int), atol=16 * 40)


def test_real_files_of_one_image_in_seven_syntaxes_give_one_image() -> None:
    names = (
        "MR_small",
        "MR_small_RLE",
        "MR_small_bigendian",
        "MR_small_implicit",
        "MR_small_jp2klossless",
    )
    images = [
        decode((SAMPLES / f"{name}.dcm").read_bytes())
        for name in (*names, "MR_small_jpeg_ls_lossless")
    ]
    assert all(np.array_equal(image, images[0]) for image in images)
    stored = pydicom.dcmread(SAMPLES / "MR_small.dcm")
    expected = apply_voi_lut(stored.pixel_array, stored)  # in the range of signed 16 bits
    np.testing.assert_allclose(images[0], expected + 32768, atol=0.5001)


@pytest.mark.parametrize("stored", range(8, 17))
def test_every_number_of_stored_bits_fills_the_range(stored: int) -> None:
    pixels = RNG.integers(0, 1 << stored, (20, 30)).astype(np.uint16)
    pixels[0, :2] = 0, (1 << stored) - 1
    image = decode(dicom(pixels, stored=stored))
    assert image.dtype == (np.uint8 if stored == 8 else np.uint16)
    assert (image.min(), image.max()) == (0, np.iinfo(image.dtype).max)


def test_bits_beside_the_stored_bits_are_ignored() -> None:
    overlaid = GRAY12 | np.uint16(0xF000)
    np.testing.assert_array_equal(decode(dicom(overlaid, stored=12)), full_range(GRAY12, 12))
    np.testing.assert_array_equal(
        decode(dicom(GRAY12 << 4 | 5, stored=12, HighBit=15)), full_range(GRAY12, 12)
    )


def test_monochrome1_is_inverted() -> None:
    inverted = decode(dicom(GRAY12, stored=12, PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_array_equal(inverted, full_range(4095 - GRAY12, 12))


def color(space: str, gray: np.ndarray, tint: int = 0) -> np.ndarray:
    """Returns gray as three channels (H, W, 3) of a color space; `tint` changes the third."""
    middle = np.full_like(gray, (np.iinfo(gray.dtype).max + 1) // 2)
    planes = [gray, gray, gray] if space == "RGB" else [gray, middle, middle]
    planes[2] = (planes[2].astype(np.int64) + tint).clip(0, np.iinfo(gray.dtype).max)
    return np.stack(planes, axis=2).astype(gray.dtype)


def secondary_capture(
    space: str, gray: np.ndarray, compression: str = "", tint: int = 0, **elements: Any
) -> bytes:
    """Returns a file that stores gray as three channels."""
    pixels = color(space, gray, tint)
    elements = {"SamplesPerPixel": 3, "PlanarConfiguration": 0} | elements
    if compression == "planar":
        # The helper stores the values in the order of the array.
        data, elements["PlanarConfiguration"] = np.moveaxis(pixels, 2, 0).reshape(pixels.shape), 1
        return dicom(data, PhotometricInterpretation=space, **elements)
    if compression == "halved":
        pairs = pixels.reshape(len(pixels), -1, 2, 3)
        data = np.concatenate((pairs[:, :, :, 0], pairs[:, :, 0, 1:]), axis=2)
        data = data.reshape(len(pixels), -1, 2)
        return dicom(data, PhotometricInterpretation="YBR_FULL_422", **elements)
    code, syntax = b"", uid.ExplicitVRLittleEndian
    if compression == "rle":
        code, syntax = rle_planes(pixels), uid.RLELossless
    elif compression == "jpeg":
        code, syntax = imagecodecs.jpeg8_encode(pixels, 95), uid.JPEGBaseline8Bit
        code = (
            code
            if space == "RGB"
            else imagecodecs.jpeg8_encode(pixels, 95, colorspace="YCBCR", outcolorspace="YCBCR")
        )
    elif compression == "jpeg 2000":
        code = imagecodecs.jpeg2k_encode(pixels, codecformat="j2k", level=0, mct=space == "RGB")
        syntax = uid.JPEG2000Lossless
    elif compression == "jpeg-ls":
        code, syntax = imagecodecs.jpegls_encode(pixels), uid.JPEGLSLossless
    return dicom(pixels, syntax=syntax, code=code, PhotometricInterpretation=space, **elements)


def rle_planes(pixels: np.ndarray) -> bytes:
    """Encodes each byte of each channel as a segment of literals, most significant byte first."""
    size = pixels.dtype.itemsize
    planes = [
        (pixels[:, :, channel] >> 8 * byte & 255).astype(np.uint8).tobytes()
        for channel in range(3)
        for byte in reversed(range(size))
    ]
    segments = [
        b"".join(
            bytes([len(run) - 1]) + run
            for run in (plane[at : at + 128] for at in range(0, len(plane), 128))
        )
        for plane in planes
    ]
    offsets = [64 + sum(map(len, segments[:index])) for index in range(len(segments))]
    header = [len(segments), *offsets, *[0] * (15 - len(segments))]
    return np.array(header, "<u4").tobytes() + b"".join(segments)


@pytest.mark.parametrize("compression", ["", "planar", "rle", "jpeg", "jpeg 2000", "jpeg-ls"])
@pytest.mark.parametrize("space", ["RGB", "YBR_FULL"])
def test_gray_in_three_channels_is_read_as_gray(space: str, compression: str) -> None:
    image = decode(secondary_capture(space, GRAY8, compression))
    assert (image.shape, image.dtype) == (GRAY8.shape, np.uint8)
    # A lossy codec of smooth gray with noise changes a value by few levels.
    assert np.abs(image.astype(int) - GRAY8).max() <= (6 if compression == "jpeg" else 0)


@pytest.mark.parametrize("compression", ["", "planar", "rle"])
def test_16_bits_in_three_channels_are_read_in_full(compression: str) -> None:
    np.testing.assert_array_equal(
        decode(secondary_capture("RGB", GRAY12 * 16, compression)), GRAY12 * 16
    )


def test_uncompressed_gray_with_halved_color_is_read() -> None:
    np.testing.assert_array_equal(decode(secondary_capture("YBR_FULL", GRAY8, "halved")), GRAY8)


@pytest.mark.parametrize("compression", ["", "planar", "halved", "rle", "jpeg", "jpeg-ls"])
@pytest.mark.parametrize("space", ["RGB", "YBR_FULL"])
def test_color_is_refused_and_slight_color_of_a_codec_is_not(space: str, compression: str) -> None:
    space = "YBR_FULL" if compression == "halved" else space
    with pytest.raises(ImageUnreadable, match="in color"):
        decode(secondary_capture(space, GRAY8, compression, tint=-40))
    decode(secondary_capture(space, GRAY8, compression, tint=-1))


def test_color_files_of_other_programs_are_refused_as_color() -> None:
    files = sorted(SAMPLES.glob("SC_rgb_*.dcm"))
    in_color = 0
    for file in files:
        with pytest.raises(ImageUnreadable) as refused:
            decode(file.read_bytes())
        in_color += "in color" in str(refused.value)
    assert in_color >= len(files) - 5  # two frames, 32 bits, or a wrong header


def test_window_and_inversion_are_not_for_color() -> None:
    data = secondary_capture("RGB", GRAY8, WindowCenter=10, WindowWidth=5, RescaleSlope=-1)
    np.testing.assert_array_equal(decode(data), GRAY8)


def test_signed_values_begin_at_the_smallest() -> None:
    signed = (GRAY12.astype(np.int16) - 2048).astype(np.int16)
    np.testing.assert_array_equal(decode(dicom(signed, stored=12)), full_range(GRAY12, 12))


WINDOWS: dict[str, dict[str, Any]] = {
    "linear": {"WindowCenter": 1800, "WindowWidth": 1000},
    "first of two": {"WindowCenter": [1800, 5], "WindowWidth": [1000, 10]},
    "linear exact": {"WindowCenter": 1800, "WindowWidth": 1000, "VOILUTFunction": "LINEAR_EXACT"},
    "sigmoid": {"WindowCenter": 1800, "WindowWidth": 1000, "VOILUTFunction": "SIGMOID"},
    "rescaled": {
        "WindowCenter": 500,
        "WindowWidth": 900,
        "RescaleSlope": "0.5",
        "RescaleIntercept": "-100",
    },
}


@pytest.mark.parametrize("elements", WINDOWS.values(), ids=WINDOWS)
@pytest.mark.parametrize("signed", [False, True])
def test_windows_are_those_of_pydicom(elements: dict[str, Any], signed: bool) -> None:
    pixels = (GRAY12.astype(np.int32) - 2048).astype(np.int16) if signed else GRAY12
    data = dicom(pixels, stored=12, **elements)
    dataset = pydicom.dcmread(io.BytesIO(data))
    expected = apply_voi_lut(apply_modality_lut(pixels, dataset), dataset)
    slope, intercept = (
        float(dataset.get("RescaleSlope", 1)),
        float(dataset.get("RescaleIntercept", 0)),
    )
    low = (-2048 if signed else 0) * slope + intercept
    np.testing.assert_allclose(decode(data), (expected - low) / (4095 * slope) * 65535, atol=0.5001)


def test_narrowest_linear_window_is_a_threshold() -> None:
    image = decode(dicom(GRAY12, stored=12, WindowCenter=1800, WindowWidth=1))
    np.testing.assert_array_equal(image, np.where(GRAY12 > 1799.5, 65535, 0))


def test_negative_slope_turns_the_gray_around_once() -> None:
    image = decode(dicom(GRAY12, stored=12, RescaleSlope="-1", RescaleIntercept="4095"))
    np.testing.assert_array_equal(image, full_range(4095 - GRAY12, 12))


def lut(entries: np.ndarray, first: int, bits: int) -> Sequence:
    item = Dataset()
    item.LUTDescriptor = [len(entries) % 65536, first, bits]
    item.LUTData = entries.astype("<u2").tobytes()
    item["LUTDescriptor"].VR, item["LUTData"].VR = "US", "OW"
    return Sequence([item])


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian])
def test_voi_and_modality_tables_are_looked_up(bits: int, syntax: str) -> None:
    entries = (np.linspace(0, 1, 3000) ** 0.5 * ((1 << bits) - 1)).astype(np.uint16)
    index = np.clip(GRAY12.astype(int) - 500, 0, 2999)
    expected = np.rint(entries[index] / ((1 << bits) - 1) * 65535)
    for name in ("VOILUTSequence", "ModalityLUTSequence"):
        data = dicom(GRAY12, stored=12, syntax=syntax, **{name: lut(entries, 500, bits)})
        np.testing.assert_array_equal(decode(data), expected)


def test_voi_table_is_preferred_to_a_window() -> None:
    entries = np.arange(4096)[::-1]
    elements = {"VOILUTSequence": lut(entries, 0, 12), "WindowCenter": 5, "WindowWidth": 10}
    np.testing.assert_array_equal(
        decode(dicom(GRAY12, stored=12, **elements)), full_range(4095 - GRAY12, 12)
    )


# --- refusals -------------------------------------------------------------------------------------

HUGE = np.zeros((1, 1), np.uint16)
JPEG12 = imagecodecs.jpeg8_encode(GRAY12, level=95, bitspersample=12)
J2K = bytes(LOSSLESS["JPEG 2000"][1](GRAY12))
JLS = bytes(LOSSLESS["JPEG-LS"][1](GRAY12))

BAD: dict[str, tuple[bytes, str]] = {
    "two frames": (dicom(GRAY8, NumberOfFrames=2), "2 frames"),
    "color without its channels": (
        dicom(GRAY8, SamplesPerPixel=3, PhotometricInterpretation="RGB"),
        "asks for 9216",
    ),
    "palette": (dicom(GRAY8, PhotometricInterpretation="PALETTE COLOR"), "not gray"),
    "one channel of RGB": (dicom(GRAY8, PhotometricInterpretation="RGB"), "not gray"),
    "three channels of gray": (
        dicom(color("RGB", GRAY8), SamplesPerPixel=3),
        "not gray",
    ),
    "32 bits": (dicom(GRAY8, BitsAllocated=32, BitsStored=32, HighBit=31), "32 bits stored"),
    "4 bits": (dicom(GRAY8, BitsStored=4, HighBit=3), "4 bits stored"),
    "more bits than allocated": (dicom(GRAY8, BitsStored=12, HighBit=11), "12 bits stored"),
    "more rows than data": (dicom(GRAY8, Rows=65), "3072 bytes, and the header asks for 3120"),
    "no rows": (dicom(GRAY8, Rows=0), "48x0 pixels"),
    "lying JPEG": (
        dicom(GRAY12, syntax=uid.JPEGExtended12Bit, code=JPEG12, stored=12, Rows=63),
        "not the 48x63",
    ),
    "lying JPEG, smaller": (
        dicom(GRAY12, syntax=uid.JPEGExtended12Bit, code=JPEG12, stored=12, Rows=65),
        "not the",
    ),
    "lying JPEG 2000": (
        dicom(GRAY12, syntax=uid.JPEG2000Lossless, code=J2K, stored=12, Rows=65),
        "not the 48x65",
    ),
    "lying JPEG-LS": (
        dicom(GRAY12, syntax=uid.JPEGLSLossless, code=JLS, stored=12, Rows=65),
        "not the 48x65",
    ),
    "JPEG 2000 that is none": (
        dicom(GRAY12, syntax=uid.JPEG2000, code=JPEG12, stored=12),
        "no JPEG 2000",
    ),
    "no pixels": ((SAMPLES / "rtplan.dcm").read_bytes(), "not gray"),
    "window of no width": (dicom(GRAY8, WindowCenter=1, WindowWidth=0), "width 0"),
    "unknown function": (
        dicom(GRAY8, WindowCenter=1, WindowWidth=2, VOILUTFunction=PATIENT[:16]),
        "unknown VOI LUT",
    ),
    "slope of zero": (dicom(GRAY8, RescaleSlope="0"), "no finite gray"),
    "infinite slope": (
        dicom(GRAY8, RescaleSlope="1e308", RescaleIntercept="1e308"),
        "no finite gray",
    ),
    "table too short": (dicom(GRAY8, VOILUTSequence=lut(np.arange(9), 0, 1)), "of 1 bits"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("data", "problem"), BAD.values(), ids=BAD)
def test_what_cannot_be_scored_is_refused_with_its_problem(data: bytes, problem: str) -> None:
    with pytest.raises(ImageUnreadable, match=problem) as refusal:
        decode(data)
    assert PATIENT not in refusal.value.message


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("syntax", "encode"), [*LOSSLESS.values(), (uid.JPEGExtended12Bit, lambda _: JPEG12)]
)
def test_no_truncation_of_compressed_pixels_is_accepted(
    syntax: str, encode: Callable[[np.ndarray], bytes]
) -> None:
    code = bytes(encode(GRAY12))
    for length in range(1, len(code) - 40, max(1, len(code) // 60)):
        with pytest.raises(ImageUnreadable):
            decode(dicom(GRAY12, syntax=syntax, code=code[:length], stored=12))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.JPEGExtended12Bit])
def test_no_truncation_of_a_file_is_accepted(syntax: str) -> None:
    data = dicom(
        GRAY12, syntax=syntax, code=JPEG12 if syntax == uid.JPEGExtended12Bit else b"", stored=12
    )
    for length in range(0, len(data) - 8, 7):
        with pytest.raises(ImageUnreadable):
            decode(data[:length])


def test_gigantic_header_is_refused_before_memory_is_taken() -> None:
    data = dicom(HUGE, Rows=60_000, Columns=60_000)
    tracemalloc.start()
    with pytest.raises(ImageTooLarge, match="60000x60000"):
        decode(data)
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


def test_run_lengths_that_never_end_are_cut_off_at_the_size_of_the_image() -> None:
    header = np.zeros(16, "<u4")
    header[:2] = 1, 64
    bomb = header.tobytes() + b"\x81\xff" * 4_000_000  # half a gigabyte
    data = dicom(GRAY8, syntax=uid.RLELossless, code=bomb)
    start = time.perf_counter()
    with pytest.raises(ImageUnreadable):
        decode(data)
    assert time.perf_counter() - start < 1


@pytest.mark.filterwarnings("ignore")
def test_header_of_millions_of_tiny_elements_is_refused_soon() -> None:
    whole = dicom(GRAY8)
    place = whole.index(b"\x28\x00\x02\x00US")
    items = b"\xfe\xff\x00\xe0\x00\x00\x00\x00" * 2_000_000
    sequence = (
        b"\x27\x00\x10\x00SQ\x00\x00\xff\xff\xff\xff" + items + b"\xfe\xff\xdd\xe0\x00\x00\x00\x00"
    )
    start = time.perf_counter()
    with pytest.raises(ImageUnreadable, match="reads"):
        decode(whole[:place] + sequence + whole[place:])
    assert time.perf_counter() - start < 10


@pytest.mark.filterwarnings("ignore")
def test_header_nested_without_end_is_refused() -> None:
    whole = dicom(GRAY8)
    place = whole.index(b"\x28\x00\x02\x00US")
    level = b"\x27\x00\x10\x00SQ\x00\x00\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    with pytest.raises(ImageUnreadable, match="DICOM"):
        decode(whole[:place] + level * 50_000)


@pytest.mark.filterwarnings("ignore")
def test_nothing_of_the_patient_is_said_or_logged(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    good = dicom(GRAY8, SpecificCharacterSet="ISO_IR 100", PatientComments=PATIENT)
    said = []
    with caplog.at_level(logging.DEBUG):
        for position in range(132, len(good) - GRAY8.size, 3):
            try:
                decode(good[:position] + bytes((good[position] ^ 0x41,)) + good[position + 1 :])
            except CxrevalError as refusal:
                said.append(f"{refusal.message} {refusal.metadata}")
    said += [caplog.text, *capfd.readouterr()]
    assert len(said) > 10
    assert not any("Doe" in text or "Secret" in text for text in said)


@pytest.mark.filterwarnings("ignore")
@given(position=st.integers(128, len(BAD["lying JPEG"][0]) - 1), value=st.integers(0, 255))
def test_corrupt_file_never_leaks_a_foreign_error(position: int, value: int) -> None:
    data = dicom(GRAY12, syntax=uid.JPEGExtended12Bit, code=JPEG12, stored=12)
    with contextlib.suppress(CxrevalError):
        decode(data[:position] + bytes((value,)) + data[position + 1 :])
