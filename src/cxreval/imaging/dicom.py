"""Decodes DICOM files with one gray frame, to the values meant for display.

A frame that stores gray as three channels, as secondary captures do, is gray if its channels agree.

pydicom reads the header, and only the elements that affect a pixel, so neither an error nor a log
line can name a patient. The codecs of the other formats decode the pixel data.

A stored value of one channel goes through the modality LUT or rescale, then the first VOI LUT or
window, and MONOCHROME1 is inverted. If the file has neither VOI LUT nor window, or three channels,
the range of its stored bits is the range of the image, as in TorchXRayVision. All of this is one
table, with an entry for each value of the stored bits.
"""

from __future__ import annotations

import io
import logging
import math
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.encaps import generate_fragments, parse_basic_offsets
from pydicom.filereader import read_dataset
from pydicom.uid import UID

from cxreval.errors import CxrevalError, ImageTooLarge, ImageUnreadable
from cxreval.imaging.dicom_file import elements_start, has_meta, inflated, is_explicit
from cxreval.imaging.image import Image, check_pixels, run_codec, unreadable
from cxreval.imaging.jpeg import LOSSLESS, PLAIN, decode_stream
from cxreval.imaging.jpeg_2000 import check_code_stream, code_stream
from cxreval.imaging.metadata import changed, check_aspect

# Its log lines and warnings quote the file, which may name a patient.
logging.getLogger("pydicom").disabled = True
warnings.filterwarnings("ignore", module=r"pydicom\.")

Values = npt.NDArray[np.float64]

_MAX_HEADER_READS = 100_000  # a radiograph's header takes hundreds; each may create an object
_MAX_SEQUENCE_BYTES = 1 << 19  # three look-up tables of 65,536 entries, and their descriptions
_MAX_LUT_BYTES = 1 << 17
_MAX_VALUE_BYTES = 1 << 10  # pydicom makes an object of each value of an element
_PIXELS = "DICOM pixel data"
_GRAY = ("MONOCHROME1", "MONOCHROME2")
_COLOR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_MOST_COLOR = 2 / 255  # largest difference between channels that agree: what lossy codecs cause
_LUT_DESCRIPTOR, _LUT_DATA = 0x00283002, 0x00283006
_MODALITY_LUT, _VOI_LUT, _PIXEL_DATA = 0x00283000, 0x00283010, 0x7FE00010
_UNDEFINED_LENGTH = 0xFFFFFFFF
_TAGS = [
    0x00181164,  # Imager Pixel Spacing
    0x00280002,  # Samples per Pixel
    0x00280004,  # Photometric Interpretation
    0x00280006,  # Planar Configuration
    0x00280008,  # Number of Frames
    0x00280010,  # Rows
    0x00280011,  # Columns
    0x00280030,  # Pixel Spacing
    0x00280034,  # Pixel Aspect Ratio
    0x00280100,  # Bits Allocated
    0x00280101,  # Bits Stored
    0x00280102,  # High Bit
    0x00280103,  # Pixel Representation
    0x00281050,  # Window Center
    0x00281051,  # Window Width
    0x00281052,  # Rescale Intercept
    0x00281053,  # Rescale Slope
    0x00281056,  # VOI LUT Function
    _MODALITY_LUT,
    _VOI_LUT,
    0x00700041,  # Image Horizontal Flip
    0x00700042,  # Image Rotation
    0x20500020,  # Presentation LUT Shape
    _PIXEL_DATA,
]


@dataclass(frozen=True, slots=True)
class _Frame:
    """The description of the pixel data in the header."""

    rows: int
    columns: int
    allocated: int
    stored: int
    high_bit: int
    signed: bool
    photometric: str
    samples: int  # channels
    planar: bool  # one channel after the other
    little_endian: bool

    @property
    def halved(self) -> bool:
        """Whether uncompressed data have one pair of Cb and Cr for two pixels."""
        return self.photometric == "YBR_FULL_422"

    @property
    def values(self) -> int:
        """Number of values of the uncompressed pixel data."""
        return self.rows * self.columns * (2 if self.halved else self.samples)

    @property
    def nbytes(self) -> int:
        """Size of the uncompressed pixel data in bytes."""
        return self.values * self.allocated // 8


def decode_dicom(data: bytes, max_pixels: int) -> Image:
    """Decodes a DICOM file with one gray frame of 8 to 16 bits; black is 0.

    Transfer syntaxes: uncompressed (implicit, explicit, big endian, deflated), RLE, JPEG baseline,
    extended and lossless, JPEG-LS, JPEG 2000 and high-throughput JPEG 2000. A file without file
    meta information is uncompressed, implicit or explicit.

    Returns:
        (H, W); uint8 for 8 stored bits, else uint16 over its whole range.

    Raises:
        ImageTooLarge, ImageUnreadable: see `decode`.
    """
    try:
        syntax, dataset = _read(data)
        frame = _frame(dataset, little_endian=syntax != _BIG_ENDIAN)
        check_pixels(frame.columns, frame.rows, max_pixels)
        _check_display(dataset, frame)
        table = _table(dataset, frame)
        codes = _codes(_SYNTAXES[syntax](_pixel_data(dataset), frame), frame)
        if frame.samples == 3:
            codes = _gray(codes, frame, _CONVERTED.get(syntax, (frame.photometric,)))
    except (CxrevalError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 -- pydicom raises any class; its messages may quote the file
        raise _unreadable(f"does not follow the standard ({type(error).__name__})") from None
    image: Image = table[codes]
    if image.min() == image.max() and codes.min() != codes.max():
        raise _unreadable("has one gray only after its window or look-up table; correct these")
    return image


def _unreadable(problem: str) -> ImageUnreadable:
    return unreadable(f"DICOM {problem}")


# --- the header -----------------------------------------------------------------------------------


class _BoundedReader(io.BytesIO):
    """A file with a limited number of reads: each element of a header may create an object."""

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        if self.reads > _MAX_HEADER_READS:
            raise _unreadable(f"header takes more than {_MAX_HEADER_READS} reads")
        return super().read(size)


def _read(data: bytes) -> tuple[str, Dataset]:
    """Returns the transfer syntax and the elements in `_TAGS`.

    pydicom's own `dcmread` would inflate a deflated file without a limit.
    """
    start = elements_start(data) or 0
    file = _BoundedReader(data)
    file.seek(start)
    bare = not has_meta(data, start)
    plain = _EXPLICIT if is_explicit(data, start) else _IMPLICIT
    syntax = plain if bare else _stated_syntax(file)
    if syntax == _DEFLATED:
        file = _BoundedReader(inflated(data[file.tell() :]))
    implicit, little_endian = syntax == _IMPLICIT, syntax != _BIG_ENDIAN
    dataset = read_dataset(file, implicit, little_endian, specific_tags=list(_TAGS))
    if bare and _PIXEL_DATA in dataset and _is_encapsulated(dataset):
        raise _unreadable(
            "has compressed pixel data and does not say how: no file meta information"
        )
    for tag in _TAGS:
        if tag != _PIXEL_DATA:
            sequence = tag in (_MODALITY_LUT, _VOI_LUT)
            _check_length(dataset, tag, _MAX_SEQUENCE_BYTES if sequence else _MAX_VALUE_BYTES)
    return syntax, dataset


def _stated_syntax(file: _BoundedReader) -> str:
    """Returns the transfer syntax in the file meta information at the position of the file."""
    meta = read_dataset(
        file, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, *_: tag.group != 2
    )
    syntax = str(meta.get("TransferSyntaxUID", ""))
    if syntax not in _SYNTAXES:
        name = UID(syntax).name  # the UID itself, if it is no standard one
        named = f"{name} ({syntax})" if name != syntax else "unknown"
        if re.fullmatch(r"1\.2\.840\.10008\.1\.2[.\d]{1,16}", name):
            named = name
        raise _unreadable(f"of transfer syntax {named}; convert it to an uncompressed one")
    return syntax


def _is_encapsulated(dataset: Dataset) -> bool:
    return bool(getattr(dataset.get_item(_PIXEL_DATA), "length", 0) == _UNDEFINED_LENGTH)


def _check_length(dataset: Dataset, tag: int, most_bytes: int) -> None:
    """Checks the length of an element before pydicom makes objects of its bytes."""
    if tag in dataset:
        value = dataset.get_item(tag).value
        if isinstance(value, bytes) and len(value) > most_bytes:
            element = f"({tag >> 16:04x},{tag & 0xFFFF:04x})"
            raise _unreadable(f"element {element} has {len(value)} bytes, more than {most_bytes}")


def _frame(dataset: Dataset, *, little_endian: bool) -> _Frame:
    photometric = str(dataset.get("PhotometricInterpretation", "missing"))
    samples, frames = (
        int(dataset.get("SamplesPerPixel", 1)),
        int(dataset.get("NumberOfFrames") or 1),
    )
    if samples != (1 if photometric in _GRAY else 3) or photometric not in (*_GRAY, *_COLOR):
        raise _unreadable(
            "is not gray: its photometric interpretation is not MONOCHROME1, MONOCHROME2, RGB or "
            f"YBR, or does not fit its {samples} samples per pixel"
        )
    if frames != 1:
        raise _unreadable(f"with {frames} frames; only one can be scored")
    for element in (
        "Rows",
        "Columns",
        "BitsAllocated",
        "BitsStored",
        "HighBit",
        "PixelRepresentation",
    ):
        if element not in dataset:
            raise _unreadable(f"without {element}")
    allocated, stored, high_bit = (
        int(dataset.BitsAllocated),
        int(dataset.BitsStored),
        int(dataset.HighBit),
    )
    if (
        allocated not in (8, 16)
        or not 8 <= stored <= allocated
        or not stored - 1 <= high_bit < allocated
    ):
        raise _unreadable(f"with {stored} bits stored, {allocated} allocated, high bit {high_bit}")
    return _Frame(
        rows=int(dataset.Rows),
        columns=int(dataset.Columns),
        allocated=allocated,
        stored=stored,
        high_bit=high_bit,
        signed=int(dataset.PixelRepresentation) == 1,
        photometric=photometric,
        samples=samples,
        planar=samples == 3 and int(dataset.get("PlanarConfiguration", 0)) == 1,
        little_endian=little_endian,
    )


def _pixel_data(dataset: Dataset) -> bytes:
    if _PIXEL_DATA not in dataset:
        raise _unreadable("without pixel data, or truncated")
    return bytes(dataset.PixelData)


# --- pixel data -----------------------------------------------------------------------------------

Samples = npt.NDArray[np.integer[Any]]


def _size_mismatch(frame: _Frame) -> ImageUnreadable:
    return _unreadable(f"pixel data are not the {frame.columns}x{frame.rows} of the header")


def _codes(samples: Samples, frame: _Frame) -> npt.NDArray[np.uint16]:
    """Returns the stored bits of each sample as an unsigned number, without its other bits."""
    shape = (frame.rows, frame.columns)
    if samples.shape != (shape if frame.samples == 1 else (*shape, 3)):
        raise _size_mismatch(frame)
    codes = samples.astype(np.uint16)
    codes >>= frame.high_bit + 1 - frame.stored
    codes &= (1 << frame.stored) - 1
    return codes


def _raw(data: bytes, frame: _Frame, order: str = "<") -> Samples:
    if len(data) < frame.nbytes:
        raise _unreadable(
            f"pixel data have {len(data)} bytes, and the header asks for {frame.nbytes}"
        )
    dtype = np.dtype(f"{order}u{frame.allocated // 8}")
    values = np.frombuffer(data, dtype, frame.values)
    if frame.samples == 1:
        return values.reshape(frame.rows, frame.columns)
    if frame.halved:
        return _full(values.reshape(frame.rows, -1, 4), frame)
    if frame.planar:
        return np.moveaxis(values.reshape(3, frame.rows, frame.columns), 0, 2)
    return values.reshape(frame.rows, frame.columns, 3)


def _full(pairs: Samples, frame: _Frame) -> Samples:
    """Returns Y, Cb and Cr of each pixel, from Y, Y, Cb, Cr of each two; see PS3.3 C.7.6.3.1.2."""
    color = np.repeat(pairs[:, :, 2:], 2, axis=1)
    gray = pairs[:, :, :2].reshape(frame.rows, frame.columns, 1)
    return np.concatenate((gray, color), axis=2)


def _gray(
    codes: npt.NDArray[np.uint16], frame: _Frame, spaces: Sequence[str]
) -> npt.NDArray[np.uint16]:
    """Returns the gray of three channels (H, W, 3) of one of the color spaces, if they agree."""
    white = (1 << frame.stored) - 1
    most = _MOST_COLOR * white
    first = codes[:, :, 0]
    for space in spaces:
        expected = first if space == "RGB" else (white + 1) // 2
        color = (np.abs(codes[:, :, n].astype(np.int32) - expected) for n in (1, 2))
        if all(difference.max() <= most for difference in color):
            return first
    raise _unreadable("is in color, and a radiograph is gray; expected channels that agree")


def _big_endian(data: bytes, frame: _Frame) -> Samples:
    return _raw(data, frame, ">")


def _rle(data: bytes, frame: _Frame) -> Samples:
    code = _code_stream(data)
    plain = imagecodecs.dicomrle_decode(code, f"<u{frame.allocated // 8}", out=frame.nbytes)
    # Its segments hold one channel after the other, each with all its pixels.
    planes = replace(frame, planar=frame.samples == 3, photometric="YBR_FULL")
    return _raw(bytes(plain), planes)


def _jpeg(data: bytes, frame: _Frame) -> Samples:
    code = _code_stream(data)
    try:
        return decode_stream(
            code,
            frame.rows * frame.columns,
            frames=(*PLAIN, LOSSLESS),
            precisions=range(8, 17),
            color_space="YCBCR" if frame.samples == 3 else None,
        )
    except ImageTooLarge:
        raise _size_mismatch(frame) from None


def _jpeg_ls(data: bytes, frame: _Frame) -> Samples:
    code = _code_stream(data).rstrip(b"\0")
    # CharLS would spend seconds on zeros after the last bits.
    if not code.endswith(b"\xff\xd9"):
        raise _unreadable("pixel data are truncated")
    header = code.find(b"\xff\xf7")
    sides = code[header + 5 : header + 9]
    # The two headers must agree before the codec allocates memory.
    size = (int.from_bytes(sides[:2]), int.from_bytes(sides[2:]))
    if size != (frame.rows, frame.columns) or code[header + 9] != frame.samples:
        raise _size_mismatch(frame)
    return run_codec(imagecodecs.jpegls_decode, code, _PIXELS)


def _jpeg_2000(data: bytes, frame: _Frame) -> Samples:
    code = code_stream(_code_stream(data))
    check_code_stream(code, frame.rows, frame.columns, frame.samples)
    return run_codec(imagecodecs.jpeg2k_decode, code, _PIXELS)


def _code_stream(data: bytes) -> bytes:
    """Returns the joined fragments of the one frame."""
    file = io.BytesIO(data)
    parse_basic_offsets(file)
    return b"".join(generate_fragments(file))


_IMPLICIT = "1.2.840.10008.1.2"
_EXPLICIT = "1.2.840.10008.1.2.1"
_DEFLATED = "1.2.840.10008.1.2.1.99"
_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_SYNTAXES: dict[str, Callable[[bytes, _Frame], Samples]] = {
    _IMPLICIT: _raw,
    _EXPLICIT: _raw,
    _DEFLATED: _raw,
    _BIG_ENDIAN: _big_endian,
    "1.2.840.10008.1.2.4.50": _jpeg,  # baseline
    "1.2.840.10008.1.2.4.51": _jpeg,  # extended, 12 bits
    "1.2.840.10008.1.2.4.57": _jpeg,  # lossless
    "1.2.840.10008.1.2.4.70": _jpeg,  # lossless, first-order prediction
    "1.2.840.10008.1.2.4.80": _jpeg_ls,  # lossless
    "1.2.840.10008.1.2.4.81": _jpeg_ls,  # near-lossless
    "1.2.840.10008.1.2.4.90": _jpeg_2000,  # lossless
    "1.2.840.10008.1.2.4.91": _jpeg_2000,
    "1.2.840.10008.1.2.4.201": _jpeg_2000,  # high throughput, lossless
    "1.2.840.10008.1.2.4.202": _jpeg_2000,  # high throughput, lossless, by resolution
    "1.2.840.10008.1.2.4.203": _jpeg_2000,  # high throughput
    "1.2.840.10008.1.2.5": _rle,
}


# JPEG files hold either space whatever the header says, and the codec of JPEG 2000 converts to RGB.
_CONVERTED = {
    syntax: _COLOR[:2] for syntax, read in _SYNTAXES.items() if read in (_jpeg, _jpeg_2000)
}


# --- grayscale ------------------------------------------------------------------------------------


def _check_display(dataset: Dataset, frame: _Frame) -> None:
    """Refuses elements that make a viewer invert, turn, mirror or stretch the image.

    Those that turn it belong to presentation states and not to images.
    """
    shape = str(dataset.get("PresentationLUTShape") or "IDENTITY").upper()
    inverse = shape == "INVERSE" and frame.photometric == "MONOCHROME1"
    if shape != "IDENTITY" and not inverse:
        raise changed(
            "its presentation LUT shape does not fit its photometric interpretation",
            "IDENTITY, or INVERSE for MONOCHROME1",
        )
    flipped = str(dataset.get("ImageHorizontalFlip") or "N").upper() != "N"
    if flipped or _first(dataset, "ImageRotation"):
        raise changed(
            "Image Rotation or Image Horizontal Flip turns it",
            "pixels stored as they are shown, without these elements",
        )
    for element in ("PixelAspectRatio", "PixelSpacing", "ImagerPixelSpacing"):
        sides = dataset.get(element)
        if sides is not None and not isinstance(sides, (str, int, float)) and len(sides) == 2:
            check_aspect(float(sides[1]), float(sides[0]))


def _table(dataset: Dataset, frame: _Frame) -> Image:
    """Returns the gray value of each code that the stored bits can hold."""
    values = np.arange(1 << frame.stored, dtype=np.float64)
    if frame.signed:
        values[1 << (frame.stored - 1) :] -= 1 << frame.stored
    with np.errstate(all="ignore"):
        if frame.samples == 1:
            fractions = _presented(*_modality(values, dataset, frame), dataset, frame)
        else:
            fractions = values / values.max()
    if not np.isfinite(fractions).all():
        raise _unreadable("with a rescale or window that gives no finite gray")
    if frame.photometric == "MONOCHROME1":
        fractions = 1 - fractions
    if frame.stored == 8:
        return np.rint(fractions * 255).astype(np.uint8)
    return np.rint(fractions * 65535).astype(np.uint16)


def _modality(values: Values, dataset: Dataset, frame: _Frame) -> tuple[Values, float, float]:
    """Returns values after the modality LUT or rescale, and their smallest and largest possible.

    See PS3.3 C.11.1.
    """
    if _MODALITY_LUT in dataset and dataset[_MODALITY_LUT].value:
        values, top = _looked_up(values, dataset[_MODALITY_LUT].value[0], frame)
        return values, 0, top
    slope, intercept = _first(dataset, "RescaleSlope"), _first(dataset, "RescaleIntercept")
    values = values * (1.0 if slope is None else slope) + (intercept or 0.0)
    return values, values.min(), values.max()


def _presented(values: Values, low: float, high: float, dataset: Dataset, frame: _Frame) -> Values:
    """Returns values as fractions of white.

    The first VOI LUT decides, else the first window, else their range; see PS3.3 C.11.2.
    """
    if _VOI_LUT in dataset and dataset[_VOI_LUT].value:
        values, top = _looked_up(values, dataset[_VOI_LUT].value[0], frame)
        return values / top
    if (center := _first(dataset, "WindowCenter")) is None or (
        width := _first(dataset, "WindowWidth")
    ) is None:
        return (values - low) / (high - low)
    function = str(dataset.get("VOILUTFunction") or "LINEAR").upper()
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise _unreadable("with an unknown VOI LUT function")
    if not (width >= 1 if function == "LINEAR" else width > 0):
        raise _unreadable(f"with a window of width {width:g}")
    if function == "SIGMOID":
        return np.asarray(1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700))))
    if function == "LINEAR":
        center, width = center - 0.5, width - 1
    if width == 0:
        return (values > center).astype(np.float64)
    return np.clip((values - center) / width + 0.5, 0, 1)


def _looked_up(values: Values, item: Dataset, frame: _Frame) -> tuple[Values, float]:
    """Returns the look-up table's entries for values, and the largest possible entry."""
    _check_length(item, _LUT_DESCRIPTOR, _MAX_VALUE_BYTES)
    _check_length(item, _LUT_DATA, _MAX_LUT_BYTES)
    entries, first, bits = (int(number) for number in item.LUTDescriptor)
    entries = entries or 1 << 16
    if frame.signed and first >= 1 << 15:
        first -= 1 << 16
    if not 8 <= bits <= 16:
        raise _unreadable(f"with a look-up table of {bits} bits")
    data = item.LUTData
    if isinstance(data, bytes):
        packed = bits == 8 and len(data) < 2 * entries
        data = np.frombuffer(data, np.uint8 if packed else "<u2" if frame.little_endian else ">u2")
    table = np.asarray(data, np.float64).reshape(-1)
    if len(table) < entries:
        raise _unreadable(
            f"with a look-up table of {len(table)} entries that says it has {entries}"
        )
    index = np.clip(np.rint(values) - first, 0, entries - 1).astype(np.int64)
    return np.minimum(table[index], (1 << bits) - 1), float((1 << bits) - 1)


def _first(dataset: Dataset, element: str) -> float | None:
    """Returns the first value of an element; None if it has none."""
    value = dataset.get(element)
    if value is None or value == "":
        return None
    number = float(value if isinstance(value, (int, float, str)) else value[0])
    if not math.isfinite(number):
        raise _unreadable(f"with {element} {number}")
    return number
