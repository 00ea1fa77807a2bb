"""The record of declared preprocessing, its canonical form and its digest.

The steps are carried out in this order: channels, `equalize`, `square`, `resize`, `crop`, scaling
to `value_range`, `mean` and `std`, `dtype`, `layout`. docs/preprocessing.md says which call of
which library each of them equals.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from cxreval.forms import Flag, Number, Text, Whole, declared

SMALLEST_SIDE, LARGEST_SIDE = 16, 2048
"""Bounds of each side of a resized or cropped image, in pixels."""


class Square(StrEnum):
    """How an image is made square before it is resized."""

    NONE = "none"
    CROP = "crop"
    PAD = "pad"


class ResizeTo(StrEnum):
    """What the size of a resize means."""

    NONE = "none"
    SHORT_SIDE = "short-side"
    LONG_SIDE = "long-side"
    EXACT = "exact"


class Interpolation(StrEnum):
    """Interpolation of a resize."""

    NEAREST = "nearest"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    LANCZOS = "lanczos"
    AREA = "area"


class Library(StrEnum):
    """Library whose resize is meant, where libraries differ.

    Pillow and OpenCV resize 8 bits, scikit-image and PyTorch the full depth in float.
    TorchXRayVision resizes values in [-1024, 1024] with scikit-image, with zeros outside the image.
    """

    PILLOW = "pillow"
    OPENCV = "opencv"
    SCIKIT_IMAGE = "scikit-image"
    TORCH = "torch"
    TORCHXRAYVISION = "torchxrayvision"


class CropKind(StrEnum):
    """Which crops of the resized image the model sees."""

    NONE = "none"
    CENTER = "center"
    FIVE = "five"
    TEN = "ten"


class EqualizeKind(StrEnum):
    """Equalization of the gray levels."""

    NONE = "none"
    MINMAX = "minmax"
    HISTOGRAM = "histogram"
    CLAHE = "clahe"


class Layout(StrEnum):
    """Order of the axes of the model's input."""

    NCHW = "NCHW"
    NHWC = "NHWC"


class TensorType(StrEnum):
    """Type of the values of the model's input."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    UINT8 = "uint8"


@dataclass(frozen=True, slots=True)
class Resize:
    """A resize; `size` is one number, or (height, width) for `exact`.

    Without `antialias`, the resize is the one that the library's own function does by default.
    """

    to: ResizeTo = declared("What the size means.", None, ResizeTo.SHORT_SIDE, ResizeTo.NONE)
    size: tuple[int, ...] = declared(
        "Size in pixels; for exact also [height, width].",
        Whole(SMALLEST_SIDE, LARGEST_SIDE),
        (256,),
        (),
        2,
    )
    interpolation: Interpolation = declared(
        "Interpolation.", None, Interpolation.BILINEAR, Interpolation.BILINEAR
    )
    antialias: bool | None = declared("Whether a filter precedes shrinking.", Flag(), True, None)
    library: Library = declared(
        "Library whose resize is meant.", None, Library.PILLOW, Library.PILLOW
    )


@dataclass(frozen=True, slots=True)
class Crop:
    """Crops of the resized image; `size` is one number, or (height, width)."""

    kind: CropKind = declared("Which crops.", None, CropKind.CENTER, CropKind.NONE)
    size: tuple[int, ...] = declared(
        "Size in pixels, one number or [height, width].",
        Whole(SMALLEST_SIDE, LARGEST_SIDE),
        (224,),
        (),
        2,
    )


@dataclass(frozen=True, slots=True)
class Equalize:
    """Equalization of the gray levels, of each channel; `clip` and `tiles` are for CLAHE.

    `minmax` makes the darkest value of the image black and the brightest white, in full depth; the
    other kinds are on 8 bits.
    """

    kind: EqualizeKind = declared("Kind.", None, EqualizeKind.CLAHE, EqualizeKind.NONE)
    clip: float | None = declared("Clip limit of CLAHE.", Number(0.1, 100), 2.0, None)
    tiles: int | None = declared("Tiles of CLAHE along each side.", Whole(1, 64), 8, None)


ANTIALIAS: Mapping[Library, Mapping[Interpolation, tuple[bool, ...]]] = {
    Library.PILLOW: {
        Interpolation.NEAREST: (False,),
        Interpolation.BILINEAR: (True,),
        Interpolation.BICUBIC: (True,),
        Interpolation.LANCZOS: (True,),
        Interpolation.AREA: (True,),
    },
    Library.OPENCV: {
        Interpolation.NEAREST: (False,),
        Interpolation.BILINEAR: (False,),
        Interpolation.BICUBIC: (False,),
        Interpolation.LANCZOS: (False,),
        Interpolation.AREA: (True,),
    },
    Library.SCIKIT_IMAGE: {
        Interpolation.NEAREST: (False,),
        Interpolation.BILINEAR: (True, False),
        Interpolation.BICUBIC: (True, False),
    },
    Library.TORCH: {
        Interpolation.NEAREST: (False,),
        Interpolation.BILINEAR: (True, False),
        Interpolation.BICUBIC: (True, False),
        Interpolation.AREA: (True,),
    },
    Library.TORCHXRAYVISION: {Interpolation.BILINEAR: (True,)},
}
"""The interpolations that each library has, and what `antialias` may be; its default first."""

_REVISION = 1  # increases when the same steps give other values


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """The steps from a decoded image to a model's input."""

    channels: int = declared("Channels: 1 or 3.", Whole(1, 3), 3, 3)
    value_range: tuple[float, ...] = declared(
        "Values of black and white before mean and std, for 8 and 16 bits alike.",
        Number(-65535, 65535),
        (0.0, 1.0),
        (0.0, 1.0),
        2,
    )
    square: Square = declared("How the image is made square first.", None, Square.NONE, Square.NONE)
    resize: Resize = declared("Resize.", None, None, Resize())
    crop: Crop = declared("Crops.", None, None, Crop())
    equalize: Equalize = declared("Equalization.", None, None, Equalize())
    mean: tuple[float, ...] = declared(
        "Subtracted, one value a channel.", Number(-65535, 65535), (0.485, 0.456, 0.406), (), 3
    )
    std: tuple[float, ...] = declared(
        "Divided by, one value a channel.", Number(1e-6, 65535), (0.229, 0.224, 0.225), (), 3
    )
    layout: Layout = declared("Order of the axes.", None, Layout.NCHW, Layout.NCHW)
    dtype: TensorType = declared(
        "Type of the values.", None, TensorType.FLOAT32, TensorType.FLOAT32
    )
    tensor: str = declared(
        "Name of the model's input that takes the image, where it has several.",
        Text(200, "a name"),
        "image",
        "",
    )

    @property
    def normalised(self) -> Preprocessing:
        """The same steps in normal form: declarations that give equal values have equal ones.

        A declaration that is invalid stays invalid.
        """
        square, resize, crop = self.square, _normalised_resize(self.resize), self.crop
        if square != Square.NONE and resize.to in (ResizeTo.SHORT_SIDE, ResizeTo.LONG_SIDE):
            resize = dataclasses.replace(resize, to=ResizeTo.EXACT, size=pair(resize.size))
        crop = Crop(crop.kind, () if crop.kind == CropKind.NONE else pair(crop.size))
        if crop == Crop(CropKind.CENTER, resize.size) and resize.to == ResizeTo.EXACT:
            crop = Crop()
        clahe = self.equalize.kind == EqualizeKind.CLAHE
        clip, tiles = (self.equalize.clip, self.equalize.tiles) if clahe else (None, None)
        mean, std = _floats(self.mean), _floats(self.std)
        return dataclasses.replace(
            self,
            value_range=_floats(self.value_range),
            resize=resize,
            crop=crop,
            equalize=Equalize(self.equalize.kind, None if clip is None else float(clip), tiles),
            mean=mean if any(mean) else (),
            std=std if set(std) != {1.0} else (),
        )

    @property
    def canonical(self) -> str:
        """The canonical JSON of what affects a value of the input; equal for equal steps."""
        steps: dict[str, Any] = dataclasses.asdict(self.normalised)
        del steps["tensor"]
        steps["revision"] = _REVISION
        return json.dumps(steps, sort_keys=True, separators=(",", ":"))

    @property
    def preset(self) -> str:
        """The name of the preset with the same steps; empty if there is none."""
        return _PRESET_NAMES.get(self.canonical, "")

    @property
    def digest(self) -> str:
        """The digest of the preset with the same steps, else the sha256 of the canonical JSON."""
        earlier = _EARLIER_DIGESTS.get(self.preset)
        return earlier or hashlib.sha256(self.canonical.encode()).hexdigest()

    @property
    def name(self) -> str:
        """The name of the preset, else `declared-` and the first 12 characters of the digest."""
        return self.preset or f"declared-{self.digest[:12]}"


def _normalised_resize(resize: Resize) -> Resize:
    if resize.to == ResizeTo.NONE:
        return Resize()
    allowed = ANTIALIAS[resize.library].get(resize.interpolation, (False,))
    antialias = allowed[0] if resize.antialias is None else resize.antialias
    size = pair(resize.size) if resize.to == ResizeTo.EXACT else resize.size
    return dataclasses.replace(resize, size=size, antialias=antialias)


def pair(size: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the size as (height, width)."""
    return size * 2 if len(size) == 1 else size


def _floats(values: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(float(value) + 0.0 for value in values)  # -0.0 becomes 0.0


def _imagenet(short_side: int, crop: CropKind) -> Preprocessing:
    return Preprocessing(
        resize=Resize(ResizeTo.SHORT_SIDE, (short_side,)),
        crop=Crop(crop, (224,)),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )


def _xrv(size: int) -> Preprocessing:
    return Preprocessing(
        channels=1,
        value_range=(-1024.0, 1024.0),
        square=Square.CROP,
        resize=Resize(ResizeTo.EXACT, (size, size), library=Library.TORCHXRAYVISION),
    )


PRESETS: Mapping[str, Preprocessing] = {
    "imagenet-224": _imagenet(224, CropKind.CENTER),
    "imagenet-224-tencrop": _imagenet(256, CropKind.TEN),
    "raw": Preprocessing(channels=1, value_range=(0.0, 255.0), dtype=TensorType.UINT8),
    "xrv-224": _xrv(224),
    "xrv-512": _xrv(512),
}
"""Declarations with a name."""

_PRESET_NAMES = {declaration.canonical: name for name, declaration in PRESETS.items()}

# Results were recorded with these digests before preprocessing could be declared.
_EARLIER_DIGESTS: dict[str, str] = {
    "imagenet-224": "6cd42fb05223c3948bcfedb455a5eedf606c442eef2ed5900d17e07a22a1a55d",
    "imagenet-224-tencrop": "359336468b2eef820b2e8e25689a49e71a4cdd52efb3d441fac1d94b62d8cc92",
    "xrv-224": "73e7f26805a9011e327e0c4b2d7ae9d9e935943ae05578d6bcdb5f4d5697a352",
    "xrv-512": "ddc678d511d554d51219617462fffb31af46748b415068706f13cbadd487ace6",
}


class Activation(StrEnum):
    """What turns a model's outputs into probabilities."""

    NONE = "none"
    SIGMOID = "sigmoid"
    SOFTMAX_POSITIVE = "softmax-positive"


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where a model's probabilities are.

    `softmax-positive` takes two columns a finding, negative then positive, as (N, K, 2) or (N, 2K).
    """

    tensor: str = declared(
        "Name of the model's output, where it has several.",
        Text(200, "a name"),
        "probabilities",
        "",
    )
    activation: Activation = declared(
        "Function from outputs to probabilities.", None, Activation.NONE, Activation.NONE
    )
