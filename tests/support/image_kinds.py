"""Images of every kind that docs/compatibility.md lists, each with what happens to it.

`read`: the pixels are those of the plain image. `applied`: the pixels follow the metadata.
`ignored`: the pixels are those without the metadata. `refused`: an error with words of its message.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import pydicom
from pydicom import uid
from pydicom.encaps import encapsulate

from tests.unit.test_dicom import GRAY8, GRAY12, dicom, full_range

Pixels = npt.NDArray[Any]


@dataclass(frozen=True)
class Sample:
    """An image, with the pixels or the words of the error that are expected."""

    kind: str
    outcome: str
    make: Callable[[], bytes]
    expected: Pixels | str


# --- PNG and JPEG ---------------------------------------------------------------------------------

PNG = imagecodecs.png_encode(GRAY8)
FLAT = np.full((16, 24), 90, np.uint8)
JPEG = imagecodecs.jpeg8_encode(FLAT, level=95)
RGB = np.random.default_rng(1).integers(0, 256, (16, 24, 3), np.uint8)


def chunk(kind: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4) + kind + content + zlib.crc32(kind + content).to_bytes(4)


def png(*chunks: tuple[bytes, bytes], late: bool = False) -> bytes:
    """Returns the gray PNG with chunks after its header, or before its end."""
    at = len(PNG) - 12 if late else 33
    return PNG[:at] + b"".join(chunk(*pair) for pair in chunks) + PNG[at:]


def jpeg(*segments: tuple[int, bytes]) -> bytes:
    """Returns the gray JPEG with segments after its first marker."""
    added = (
        bytes((0xFF, marker)) + (len(content) + 2).to_bytes(2) + content
        for marker, content in segments
    )
    return JPEG[:2] + b"".join(added) + JPEG[2:]


def exif(orientation: int, order: str = "<", form: int = 3) -> bytes:
    """Returns a TIFF header with a software and an orientation."""
    start = b"II*\0" if order == "<" else b"MM\0*"
    entries = struct.pack(f"{order}HHII", 0x0131, 2, 4, 0)
    entry = struct.pack(f"{order}HHI", 0x0112, form, 1)
    value = struct.pack(f"{order}{'H' if form == 3 else 'I'}", orientation).ljust(4, b"\0")
    return start + struct.pack(f"{order}IH", 8, 2) + entries + entry + value + bytes(4)


def xmp(orientation: int, quoted: bool = True) -> bytes:
    value = f'="{orientation}"' if quoted else f">{orientation}</tiff:Orientation"
    return f"<rdf:Description tiff:Orientation{value}/>".encode()


def icc(space: bytes, curve: bytes) -> bytes:
    """Returns a color profile whose tone curves are all this one."""
    tags = [b"kTRC"] if space == b"GRAY" else [b"rTRC", b"gTRC", b"bTRC"]
    start = 132 + 12 * len(tags)
    header = bytes(16) + space + bytes(16) + b"acsp" + bytes(88)
    table = b"".join(tag + struct.pack(">II", start, len(curve)) for tag in tags)
    return header + len(tags).to_bytes(4) + table + curve


def gamma(value: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(value * 256))


def parametric(*values: float) -> bytes:
    form = {1: 0, 3: 1, 4: 2, 5: 3, 7: 4}[len(values)]
    numbers = (round(value * 65536) for value in values)
    return b"para" + bytes(4) + struct.pack(f">HH{len(values)}i", form, 0, *numbers)


SRGB = parametric(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
LINEAR = b"curv" + bytes(8)


def iccp(profile: bytes) -> tuple[bytes, bytes]:
    return b"iCCP", b"name\0\0" + zlib.compress(profile)


def app2(profile: bytes, parts: int = 1) -> list[tuple[int, bytes]]:
    size = -(-len(profile) // parts)
    pieces = [profile[n * size :][:size] for n in range(parts)]
    return [
        (0xE2, b"ICC_PROFILE\0" + bytes((n + 1, parts)) + piece) for n, piece in enumerate(pieces)
    ]


def jfif(horizontal: int, vertical: int) -> tuple[int, bytes]:
    return 0xE0, b"JFIF\0\1\1\0" + struct.pack(">HH", horizontal, vertical) + b"\0\0"


def raw_profile(kind: str, content: bytes) -> bytes:
    """Returns text with a profile in hexadecimal digits, as ImageMagick writes it."""
    return f"\n{kind}\n{len(content):8}\n{content.hex()}\n".encode()


def adobe_rgb() -> bytes:
    """Returns a JPEG whose Adobe marker says that its channels are red, green and blue."""
    code = imagecodecs.jpeg8_encode(
        RGB, level=100, colorspace="RGB", outcolorspace="RGB", subsampling="444"
    )
    assert b"Adobe" in code
    return bytes(code)


def cmyk() -> bytes:
    code = np.dstack((RGB, RGB[:, :, :1]))
    return bytes(imagecodecs.jpeg8_encode(code, colorspace="CMYK", outcolorspace="CMYK"))


TURNED, GRAYS, STRETCHED = "-auto-orient", "changes its grays", "aspect ratio"
UNTURNED = "an orientation of 1, or an invalid one"
EXIF_PNG, EXIF_JPEG = "PNG eXIf orientation", "JPEG Exif orientation"
IMAGES = [
    *[Sample(EXIF_PNG, "refused", lambda n=n: png((b"eXIf", exif(n))), TURNED) for n in (2, 3, 8)],
    Sample(EXIF_PNG, "refused", lambda: png((b"eXIf", exif(6, ">")), late=True), TURNED),
    Sample(EXIF_PNG, "refused", lambda: png((b"eXIf", exif(6, form=4))), TURNED),
    Sample(EXIF_JPEG, "refused", lambda: jpeg((0xE1, b"Exif\0\0" + exif(6))), TURNED),
    Sample(EXIF_JPEG, "refused", lambda: jpeg((0xE1, b"Exif\0\0" + exif(5, ">"))), TURNED),
    Sample(UNTURNED, "ignored", lambda: png((b"eXIf", exif(1))), GRAY8),
    Sample(UNTURNED, "ignored", lambda: png((b"eXIf", exif(9))), GRAY8),
    Sample(UNTURNED, "ignored", lambda: png((b"eXIf", exif(6)[:20])), GRAY8),
    Sample(UNTURNED, "ignored", lambda: jpeg((0xE1, b"Exif\0\0" + exif(1))), FLAT),
    Sample(UNTURNED, "ignored", lambda: jpeg((0xE1, xmp(1))), FLAT),
    Sample("XMP orientation", "refused", lambda: jpeg((0xE1, b"http:\0" + xmp(6))), TURNED),
    Sample("XMP orientation", "refused", lambda: jpeg((0xE1, xmp(6, quoted=False))), TURNED),
    Sample(
        "XMP orientation",
        "refused",
        lambda: png((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(6))),
        TURNED,
    ),
    Sample(
        "XMP orientation",
        "refused",
        lambda: png((b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(xmp(6)))),
        TURNED,
    ),
    Sample(
        "Exif in PNG text, as ImageMagick writes it",
        "refused",
        lambda: png(
            (
                b"zTXt",
                b"Raw profile type exif\0\0"
                + zlib.compress(raw_profile("exif", b"Exif\0\0" + exif(3))),
            )
        ),
        TURNED,
    ),
    Sample(
        "Exif in PNG text, as ImageMagick writes it",
        "refused",
        lambda: png((b"tEXt", b"Raw profile type APP1\0" + raw_profile("app1", exif(3)))),
        TURNED,
    ),
    Sample("PNG sRGB, or gAMA of 1/2.2", "ignored", lambda: png((b"sRGB", b"\0")), GRAY8),
    Sample(
        "PNG sRGB, or gAMA of 1/2.2", "ignored", lambda: png((b"gAMA", (45455).to_bytes(4))), GRAY8
    ),
    Sample(
        "PNG gAMA of another exponent",
        "refused",
        lambda: png((b"gAMA", (100_000).to_bytes(4))),
        GRAYS,
    ),
    Sample(
        "PNG gAMA of another exponent",
        "refused",
        lambda: png((b"gAMA", (55556).to_bytes(4))),
        GRAYS,
    ),
    Sample("PNG cICP of sRGB", "ignored", lambda: png((b"cICP", b"\1\x0d\0\1")), GRAY8),
    Sample(
        "PNG cICP of another transfer or a narrow range",
        "refused",
        lambda: png((b"cICP", b"\x09\x10\0\1")),
        GRAYS,
    ),
    Sample(
        "PNG cICP of another transfer or a narrow range",
        "refused",
        lambda: png((b"cICP", b"\1\x0d\0\0")),
        GRAYS,
    ),
    *[
        Sample("ICC profile with the tones of sRGB or gamma 2.2", "ignored", make, expected)
        for make, expected in (
            (lambda: png(iccp(icc(b"RGB ", SRGB))), GRAY8),
            (lambda: png(iccp(icc(b"GRAY", gamma(2.2)))), GRAY8),
            (lambda: jpeg(*app2(icc(b"GRAY", gamma(2.2)))), FLAT),
            (lambda: jpeg(*app2(icc(b"RGB ", SRGB), 3)[::-1]), FLAT),
            (lambda: png(iccp(b"no profile")), GRAY8),
        )
    ],
    *[
        Sample("ICC profile with other tones, or without tone curves", "refused", make, GRAYS)
        for make in (
            lambda: png(iccp(icc(b"GRAY", LINEAR))),
            lambda: png(iccp(icc(b"RGB ", gamma(1.8)))),
            lambda: png(iccp(icc(b"GRAY", gamma(float("0"))))),
            lambda: png(iccp(icc(b"GRAY", parametric(2.2, -1, 1)))),
            lambda: png(iccp(icc(b"GRAY", b"mft2" + bytes(60)))),
            lambda: png(iccp(icc(b"CMYK", gamma(2.2)))),
            lambda: jpeg(*app2(icc(b"GRAY", LINEAR), 2)),
        )
    ],
    Sample(
        "PNG pHYs or JFIF density of square pixels",
        "ignored",
        lambda: png((b"pHYs", struct.pack(">IIB", 3780, 3779, 1))),
        GRAY8,
    ),
    Sample("PNG pHYs or JFIF density of square pixels", "ignored", lambda: jpeg(jfif(0, 0)), FLAT),
    Sample(
        "PNG pHYs or JFIF density of other pixels",
        "refused",
        lambda: png((b"pHYs", struct.pack(">IIB", 2, 1, 0))),
        STRETCHED,
    ),
    Sample(
        "PNG pHYs or JFIF density of other pixels", "refused", lambda: jpeg(jfif(1, 2)), STRETCHED
    ),
    Sample(
        "PNG tRNS, sBIT, bKGD, times and other text",
        "ignored",
        lambda: png(
            (b"sBIT", b"\5"), (b"bKGD", b"\0\x90"), (b"tEXt", b'Comment\0tiff:Orientation="6"')
        ),
        GRAY8,
    ),
    Sample("animated PNG", "refused", lambda: png((b"acTL", bytes(8))), "animated"),
    Sample("JPEG with Adobe's marker for RGB", "applied", adobe_rgb, RGB),
    Sample("JPEG of CMYK or YCCK", "refused", cmyk, "4 channels"),
    *[
        Sample(
            "TIFF, GIF, BMP, WebP, AVIF, HEIC, JPEG XL, bare JPEG 2000, NIfTI, archives",
            "refused",
            lambda start=start: start + bytes(400),
            f"{name}, neither PNG",
        )
        for start, name in (
            (b"II*\0", "a TIFF file"),
            (b"GIF89a", "a GIF file"),
            (b"\xff\x4f\xff\x51", "a JPEG 2000 file"),
            (b"\0\0\0\x18ftypheic", "a HEIC file"),
            (b"\x1f\x8b", "a gzip file"),
            (b"<html>", "a text of HTML or XML"),
        )
    ],
]


# --- DICOM ----------------------------------------------------------------------------------------

DISPLAYED = full_range(GRAY12, 12)
HEADER = {"stored": 12}


def without_meta(syntax: str) -> bytes:
    """Returns the elements of a file alone, the first of them in group 0008."""
    dataset = pydicom.dcmread(io.BytesIO(dicom(GRAY12, syntax=syntax, stored=12)))
    dataset.SOPClassUID = uid.DigitalXRayImageStorageForPresentation
    file = io.BytesIO()
    implicit = syntax == uid.ImplicitVRLittleEndian
    del dataset.file_meta
    dataset.preamble = None
    pydicom.dcmwrite(
        file, dataset, implicit_vr=implicit, little_endian=True, enforce_file_format=False
    )
    return file.getvalue()


def encapsulated_without_meta() -> bytes:
    """Returns bare elements whose pixel data have the length of compressed ones."""
    data = without_meta(uid.ExplicitVRLittleEndian)
    start = data.index(b"\xe0\x7f\x10\0OW\0\0") + 8
    code = encapsulate([bytes(imagecodecs.jpeg8_encode(GRAY8))])
    return data[:start] + b"\xff" * 4 + code + b"\xfe\xff\xdd\xe0" + bytes(4)


def deflated() -> bytes:
    dataset = pydicom.dcmread(io.BytesIO(dicom(GRAY12, stored=12)))
    dataset.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
    file = io.BytesIO()
    pydicom.dcmwrite(file, dataset)
    return file.getvalue()


def compressed(syntax: str, code: bytes) -> bytes:
    return dicom(GRAY12, syntax=syntax, code=bytes(code), stored=12)


def high_throughput() -> bytes:
    return bytes(imagecodecs.htj2k_encode(GRAY12, reversible=True))


def jp2() -> bytes:
    return bytes(imagecodecs.jpeg2k_encode(GRAY12, reversible=True, level=0, codecformat="jp2"))


DICOM = [
    Sample("implicit, explicit, big endian", "read", lambda: dicom(GRAY12, **HEADER), DISPLAYED),
    Sample("deflated", "read", deflated, DISPLAYED),
    *[
        Sample(
            "high-throughput JPEG 2000 (HTJ2K)",
            "read",
            lambda syntax=syntax: compressed(syntax, high_throughput()),
            DISPLAYED,
        )
        for syntax in (uid.HTJ2KLossless, uid.HTJ2K)
    ],
    Sample(
        "JPEG 2000 with the boxes of a JP2 file",
        "read",
        lambda: compressed(uid.JPEG2000Lossless, jp2()),
        DISPLAYED,
    ),
    Sample("without preamble", "read", lambda: dicom(GRAY12, **HEADER)[132:], DISPLAYED),
    Sample("without preamble", "read", lambda: dicom(GRAY12, **HEADER)[128:], DISPLAYED),
    Sample(
        "without preamble and file meta information, uncompressed",
        "read",
        lambda: without_meta(uid.ExplicitVRLittleEndian),
        DISPLAYED,
    ),
    Sample(
        "without preamble and file meta information, uncompressed",
        "read",
        lambda: without_meta(uid.ImplicitVRLittleEndian),
        DISPLAYED,
    ),
    Sample(
        "without preamble and file meta information, uncompressed",
        "read",
        lambda: bytes(128) + b"DICM" + without_meta(uid.ExplicitVRLittleEndian),
        DISPLAYED,
    ),
    *[
        Sample(
            "MPEG, JPEG 2000 of several components, JPEG XL, deflated frames",
            "refused",
            lambda syntax=syntax: compressed(syntax, JPEG),
            name,
        )
        for syntax, name in (
            (uid.MPEG2MPML, "MPEG2 Main Profile"),
            (uid.JPEG2000MC, "JPEG 2000 Part 2"),
        )
    ],
    Sample(
        "MPEG, JPEG 2000 of several components, JPEG XL, deflated frames",
        "refused",
        lambda: compressed(uid.HTJ2KLossless, JPEG).replace(b".4.201", b".4.110"),
        "of transfer syntax 1.2.840.10008.1.2.4.110;",
    ),
    Sample(
        "without file meta information, compressed",
        "refused",
        encapsulated_without_meta,
        "no file meta information",
    ),
    Sample(
        "MONOCHROME1, also with presentation LUT shape INVERSE",
        "applied",
        lambda: dicom(
            GRAY8, PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE"
        ),
        255 - GRAY8,
    ),
    Sample(
        "presentation LUT shape IDENTITY",
        "ignored",
        lambda: dicom(GRAY8, PresentationLUTShape="IDENTITY"),
        GRAY8,
    ),
    *[
        Sample(
            "presentation LUT shape INVERSE of MONOCHROME2, LIN OD",
            "refused",
            lambda shape=shape: dicom(GRAY8, PresentationLUTShape=shape),
            "presentation LUT shape",
        )
        for shape in ("INVERSE", "LIN OD")
    ],
    Sample(
        "modality LUT or rescale; first VOI LUT or window",
        "applied",
        lambda: dicom(
            GRAY8, WindowCenter=[128, 1], WindowWidth=[256, 2], RescaleSlope=1, RescaleIntercept=0
        ),
        GRAY8,
    ),
    Sample(
        "a window or look-up table that leaves one gray",
        "refused",
        lambda: dicom(GRAY12, **HEADER, WindowCenter=-9000, WindowWidth=10),
        "one gray only",
    ),
    Sample(
        "pixel aspect ratio 1:1, equal spacings",
        "ignored",
        lambda: dicom(GRAY8, PixelAspectRatio=[1, 1], ImagerPixelSpacing=[0.139, 0.139]),
        GRAY8,
    ),
    *[
        Sample(
            "other pixel aspect ratios and spacings",
            "refused",
            lambda element=element: dicom(GRAY8, **{element: [2, 1]}),
            STRETCHED,
        )
        for element in ("PixelAspectRatio", "PixelSpacing", "ImagerPixelSpacing")
    ],
    Sample("image rotation or flip", "refused", lambda: dicom(GRAY8, ImageRotation=90), "turns it"),
    Sample(
        "image rotation or flip",
        "refused",
        lambda: dicom(GRAY8, ImageHorizontalFlip="Y"),
        "turns it",
    ),
    Sample(
        "overlays, shutters, pixel padding, patient orientation",
        "ignored",
        lambda: dicom(
            GRAY8, PixelPaddingValue=0, PatientOrientation=["R", "F"], ShutterShape="RECTANGULAR"
        ),
        GRAY8,
    ),
    Sample("several frames", "refused", lambda: dicom(GRAY8, NumberOfFrames=2), "2 frames"),
    Sample(
        "palette color, YBR of differing channels",
        "refused",
        lambda: dicom(GRAY8, PhotometricInterpretation="PALETTE COLOR"),
        "not gray",
    ),
]

SAMPLES = [*IMAGES, *DICOM]
