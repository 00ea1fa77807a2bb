"""Refuses metadata of PNG and JPEG files that change what a viewer shows.

Models get the pixels as they are stored. Libraries disagree on whether to turn an image as its
metadata say, and none of those that models are trained with applies a gamma or a color profile. So
an image that a viewer shows turned, stretched or in other grays is refused, with the cure.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import numpy.typing as npt

from cxreval.errors import ImageUnreadable
from cxreval.imaging.image import unreadable

Values = npt.NDArray[np.float64]
Curve = Callable[[Values], Values]

APP0, APP1, APP2 = 0xE0, 0xE1, 0xE2

MOST_STRETCH = 0.01
"""Largest difference of a pixel's sides, as a share: densities are often rounded."""

_MOST_TONE = 0.04  # of white; gamma 2.2 differs from sRGB by 0.03
_MAX_INFLATED = 4 << 20  # of all metadata of a file; a color profile takes kilobytes
_ORIENTATION = 0x0112
_TURNED = range(2, 9)  # 1 is upright; viewers ignore other values
_XMP_ORIENTATION = re.compile(rb"tiff:Orientation\s*(?:=\s*[\"']|>)\s*([2-8])")
_TEXT = (b"tEXt", b"zTXt", b"iTXt")
_TEXT_KEYS = re.compile(rb"XML:com\.adobe\.xmp|Raw profile type (?:exif|app1|xmp)", re.IGNORECASE)


def check_png_metadata(chunks: Iterable[tuple[bytes, memoryview]]) -> None:
    """Checks the chunks of a PNG file: eXIf, text with Exif or XMP, gAMA, cICP, iCCP, pHYs.

    Raises:
        ImageUnreadable: a viewer would turn or stretch the image, or show other grays.
    """
    inflated = _Inflated()
    for kind, view in chunks:
        if kind == b"eXIf":
            _check_exif(bytes(view))
        elif kind in _TEXT:
            _check_text(kind, view, inflated)
        elif kind == b"gAMA":
            _check_gamma(int.from_bytes(view))
        elif kind == b"cICP":
            _check_coding_points(bytes(view))
        elif kind == b"iCCP":
            _check_profile(inflated.read(bytes(view).partition(b"\0")[2][1:]))
        elif kind == b"pHYs":
            check_aspect(int.from_bytes(view[:4]), int.from_bytes(view[4:8]))


def check_jpeg_metadata(segments: Iterable[tuple[int, bytes]]) -> None:
    """Checks marker and content of a JPEG file's segments: JFIF's density, Exif, XMP, profile.

    Raises:
        ImageUnreadable: a viewer would turn or stretch the image, or show other grays.
    """
    profile = []
    for marker, segment in segments:
        if marker == APP0 and segment.startswith(b"JFIF\0"):
            check_aspect(int.from_bytes(segment[8:10]), int.from_bytes(segment[10:12]))
        elif marker == APP1:
            _check_exif(segment)
            _check_xmp(segment)
        elif marker == APP2 and segment.startswith(b"ICC_PROFILE\0"):
            profile.append((segment[12:13], segment[14:]))
    if profile:
        _check_profile(b"".join(part for _, part in sorted(profile)))


def check_aspect(horizontal: float, vertical: float) -> None:
    """Checks that pixels are square, by their densities or their sizes; 0 says nothing.

    Raises:
        ImageUnreadable: they differ by more than `MOST_STRETCH`.
    """
    if horizontal > 0 < vertical and abs(horizontal / vertical - 1) > MOST_STRETCH:
        raise changed(
            f"its metadata give pixels the aspect ratio {horizontal:g}:{vertical:g}",
            "square pixels: resample the image, or correct the metadata",
        )


def _turned(orientation: str) -> ImageUnreadable:
    return changed(
        f"its metadata say to turn it ({orientation})",
        "pixels stored as they are shown: turn the image and remove the orientation, as "
        "`magick IN -auto-orient OUT` does",
    )


def changed(problem: str, expected: str) -> ImageUnreadable:
    """Returns the error for an image whose metadata change what a viewer shows."""
    message = f"a viewer shows this image otherwise than its pixels are: {problem}"
    return ImageUnreadable(f"{message}; expected {expected}", field="image", expected=expected)


class _Inflated:
    """Decompresses the metadata of one file, in sum at most `_MAX_INFLATED` bytes."""

    def __init__(self) -> None:
        self._left = _MAX_INFLATED

    def read(self, compressed: bytes) -> bytes:
        """Returns the content; an empty one if it is corrupt, which viewers ignore.

        Raises:
            ImageUnreadable: the file's metadata are too large.
        """
        inflater = zlib.decompressobj()
        try:
            content = inflater.decompress(compressed, self._left + 1)
        except zlib.error:
            return b""
        self._left -= len(content)
        if self._left < 0:
            raise unreadable(f"PNG metadata take more than {_MAX_INFLATED} bytes")
        return content


# --- orientation ----------------------------------------------------------------------------------


def _check_exif(content: bytes) -> None:
    """Checks the orientation in Exif data; malformed data are ignored, as viewers do."""
    tiff = content.removeprefix(b"Exif\0").removeprefix(b"\0")
    for orientation in _exif_orientations(tiff):
        if orientation in _TURNED:
            raise _turned(f"Exif orientation {orientation}")


def _exif_orientations(tiff: bytes) -> Iterator[int]:
    """Yields the values of the orientation in the first directory of a TIFF header."""
    if tiff[:4] not in (b"II*\0", b"MM\0*"):
        return
    little = tiff.startswith(b"II")

    def number(start: int, size: int) -> int:
        return int.from_bytes(tiff[start : start + size], "little" if little else "big")

    directory = number(4, 4)
    for index in range(number(directory, 2)):
        entry = directory + 2 + 12 * index
        if entry + 12 > len(tiff):
            return
        size = {1: 1, 3: 2, 4: 4}.get(number(entry + 2, 2))  # BYTE, SHORT, LONG
        if number(entry, 2) == _ORIENTATION and size:
            yield number(entry + 8, size)


def _check_xmp(content: bytes) -> None:
    if match := _XMP_ORIENTATION.search(content):
        raise _turned(f"XMP orientation {match[1].decode()}")


def _check_text(kind: bytes, view: memoryview, inflated: _Inflated) -> None:
    """Checks text that has XMP, or Exif in hexadecimal digits, as ImageMagick writes it."""
    key, _, content = bytes(view).partition(b"\0")
    if not _TEXT_KEYS.fullmatch(key):
        return
    if kind == b"zTXt":
        content = inflated.read(content[1:])
    elif kind == b"iTXt":
        compressed, rest = content[:1] == b"\1", content[2:].split(b"\0", 2)
        content = inflated.read(rest[-1]) if compressed else rest[-1]
    _check_xmp(content)
    digits = b"".join(content.split()[2:])  # after the name of the profile and its length
    try:
        raw = bytes.fromhex(digits.decode("ascii"))
    except ValueError:
        return
    _check_exif(raw)
    _check_xmp(raw)


# --- gray -----------------------------------------------------------------------------------------


def _check_tones(curve: Curve, name: str) -> None:
    """Checks that a curve, from a stored value to light, is about that of sRGB."""
    stored = np.linspace(0, 1, 65)
    with np.errstate(all="ignore"):
        light = np.clip(curve(stored), 0, 1)
    shown = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    if not np.abs(shown - stored).max() <= _MOST_TONE:
        raise changed(
            f"{name} changes its grays",
            "grays of sRGB or gamma 2.2: convert the image to sRGB and remove the profile or "
            "gamma, or only remove them if they are wrong",
        )


def _check_gamma(exponent: int) -> None:
    """Checks gAMA: the exponent from light to stored values, times 100,000."""
    if exponent:
        _check_tones(lambda stored: stored ** (100_000 / exponent), f"gamma 1/{exponent / 1e5:g}")


def _check_coding_points(content: bytes) -> None:
    """Checks cICP: the transfer function is that of sRGB or gamma 2.2, the range is full."""
    if len(content) == 4 and (content[1] not in (4, 13) or content[3] != 1):
        _check_tones(np.zeros_like, f"cICP with transfer function {content[1]}")


def _check_profile(profile: bytes) -> None:
    """Checks the tone curves of an ICC profile; see ICC.1:2022, 7.2 and 10.6."""
    if profile[36:40] != b"acsp":
        return  # viewers ignore it
    curves = dict(_curves(profile))
    needed = {b"GRAY": (b"kTRC",), b"RGB ": (b"rTRC", b"gTRC", b"bTRC")}.get(profile[16:20], ())
    for tag in needed or (b"none",):
        _check_tones(curves.get(tag, np.zeros_like), "its color profile")


def _curves(profile: bytes) -> Iterator[tuple[bytes, Curve]]:
    """Yields the tone curves that a profile has, by their tags."""
    for index in range(min(int.from_bytes(profile[128:132]), 100)):
        entry = profile[132 + 12 * index : 144 + 12 * index]
        start, size = int.from_bytes(entry[4:8]), int.from_bytes(entry[8:12])
        if entry[1:4] == b"TRC" and (curve := _curve(profile[start : start + size])):
            yield entry[:4], curve


def _curve(content: bytes) -> Curve | None:
    """Returns a curve of the type `curv` or `para`; None if it is malformed."""
    if content.startswith(b"curv"):
        count = int.from_bytes(content[8:12])
        numbers = content[12 : 12 + 2 * count]
        return _sampled(np.frombuffer(numbers, ">u2")) if len(numbers) == 2 * count else None
    count = {0: 1, 1: 3, 2: 4, 3: 5, 4: 7}.get(int.from_bytes(content[8:10]), 0)
    numbers = content[12 : 12 + 4 * count]
    if not content.startswith(b"para") or len(numbers) != 4 * count or not count:
        return None
    return _parametric(*(np.frombuffer(numbers, ">i4") / 65536))


def _sampled(table: npt.NDArray[np.uint16]) -> Curve:
    """Returns a curve through the entries of a table; none is a line, and one is an exponent."""
    if len(table) == 0:
        return np.copy
    if len(table) == 1:
        return lambda stored: np.asarray(stored ** (float(table[0]) / 256))
    return lambda stored: np.interp(stored, np.linspace(0, 1, len(table)), table / 65535)


def _parametric(*numbers: float) -> Curve:
    """Returns a parametric curve: (a x + b)^g + e above its limit, c x + f below."""
    power, a, b = (*numbers, 1.0, 0.0)[:3] if len(numbers) == 1 else numbers[:3]
    slope = numbers[3] if len(numbers) > 4 else 0.0
    limit = numbers[4] if len(numbers) > 4 else -b / a if a else 0.0
    above, below = numbers[5:7] if len(numbers) == 7 else (0.0, 0.0)
    if len(numbers) == 4:
        above = below = numbers[3]

    def curve(stored: Values) -> Values:
        base = np.maximum(a * stored + b, 0.0)
        return np.where(stored >= limit, base**power + above, slope * stored + below)

    return curve
