"""Preprocessing profiles: the steps of a declaration, from a decoded image to a model's input.

Each profile agrees with the libraries that its declaration names, on the same decoded image, within
its `tolerance`. `cxreval.preprocessing` has the declarations, docs/preprocessing.md their meaning.

- `channels`: gray is repeated for 3 channels; alpha is dropped. For 1 channel, color becomes gray
  by ITU-R 601 like Pillow's `convert("L")`; with the library torchxrayvision, the first channel is
  taken, as TorchXRayVision does.
- Depth: Pillow, OpenCV, `equalize`, and uint8 without a resize in float are on 8 bits; 16 bits
  become 8 by round(x / 257). PyTorch and scikit-image resize the full depth, in float32.
- `square`: the central square of the short side, from side // 2 - short // 2 on, or black on both
  sides of the short side.
- `resize`: `short-side` makes the long side floor(size * long / short), as torchvision does;
  `long-side` makes the short side round(size / long * short), as MONAI does.
- `crop`: the center is at round((side - crop) / 2), to even; five and ten crops are in the order of
  torchvision's `FiveCrop` and `TenCrop`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from cxreval.errors import InvalidTensor
from cxreval.imaging.description import describe
from cxreval.imaging.equalize import equalize_clahe, equalize_histogram
from cxreval.imaging.geometry import axes, cropped, squared
from cxreval.imaging.image import Image
from cxreval.imaging.resample import Axis
from cxreval.imaging.resize import Samples, resizer
from cxreval.preprocessing import (
    PRESETS,
    CropKind,
    EqualizeKind,
    Layout,
    Library,
    Preprocessing,
    ResizeTo,
    TensorType,
    preprocessing_problems,
)

Tensor = npt.NDArray[np.float32] | npt.NDArray[np.float16] | npt.NDArray[np.uint8]

_CROPS = {CropKind.NONE: 1, CropKind.CENTER: 1, CropKind.FIVE: 5, CropKind.TEN: 10}
_EIGHT_BITS = (Library.PILLOW, Library.OPENCV)


@dataclass(frozen=True, slots=True)
class Profile:
    """A versioned transform from a decoded image to tensors of `shape` and `dtype`.

    `shape` is (C, H, W) or (H, W, C), by the declared layout; a side that depends on the image is
    None. An image gives `crops` tensors; with several, the answer is the mean over the crops.
    `digest` changes with anything that affects a value. `tolerance` is the largest absolute
    difference to the libraries that the steps are named after. `description` is a sentence.
    """

    name: str
    digest: str
    description: str
    shape: tuple[int | None, int | None, int | None]
    dtype: np.dtype[np.float32 | np.float16 | np.uint8]
    crops: int
    tolerance: float
    transform: Callable[[Image], Tensor]

    @property
    def tensor_shape(self) -> tuple[int | None, ...]:
        """Shape of all tensors of an image, (crops, *shape)."""
        return self.crops, *self.shape

    def apply(self, image: Image) -> Tensor:
        """Transforms an image as `decode` returns it.

        Returns:
            contiguous array of shape (crops, *shape) and of `dtype`.

        Raises:
            InvalidTensor: the image is not uint8 or uint16, is empty, or has another shape than
                (H, W) or (H, W, 1 to 4).
            ImageTooLarge: made square it has more than `MAX_SQUARE_PIXELS`, resized and not cropped
                more than `MAX_RESIZED_PIXELS`, or a side is too long to be resized.
        """
        well_formed = image.ndim == 2 or (image.ndim == 3 and image.shape[2] <= 4)
        if image.dtype not in (np.uint8, np.uint16) or not well_formed or image.size == 0:
            expected = "uint8 or uint16 of shape (H, W) or (H, W, 1 to 4)"
            message = f"image is {image.dtype} of shape {image.shape}; expected {expected}"
            raise InvalidTensor(message, field="image", expected=expected)
        return self.transform(image)


@lru_cache(maxsize=256)
def profile_of(preprocessing: Preprocessing) -> Profile:
    """Returns the profile that carries out declared preprocessing.

    Raises the first of `preprocessing_problems` if it is invalid.
    """
    for problem in preprocessing_problems(preprocessing, "preprocessing"):
        raise problem
    steps = preprocessing.normalised
    return Profile(
        name=steps.name,
        digest=steps.digest,
        description=describe(steps),
        shape=_shape(steps),
        dtype=np.dtype(str(steps.dtype)),
        crops=_CROPS[steps.crop.kind],
        tolerance=_tolerance(steps),
        transform=_transform(steps),
    )


def _shape(steps: Preprocessing) -> tuple[int | None, int | None, int | None]:
    fixed = steps.crop.kind != CropKind.NONE or steps.resize.to == ResizeTo.EXACT
    height, width = (steps.crop.size or steps.resize.size) if fixed else (None, None)
    if steps.layout == Layout.NHWC:
        return height, width, steps.channels
    return steps.channels, height, width


def _tolerance(steps: Preprocessing) -> float:
    """Returns the largest difference that rounding may cause.

    One of 255 levels for OpenCV, whose rounding depends on the processor, and for uint8 from a
    resize in float; 3e-5 of the range for PyTorch, which computes positions in float32; 2e-6 for
    scikit-image. Pillow's resize is equal.
    """
    of_range = {Library.OPENCV: 1 / 255, Library.TORCH: 3e-5, Library.SCIKIT_IMAGE: 2e-6}
    share = of_range.get(steps.resize.library, 0.0) if steps.resize.to != ResizeTo.NONE else 0.0
    if steps.dtype == TensorType.UINT8:
        return 1.0 if share else 0.0
    if steps.resize.library == Library.TORCHXRAYVISION:
        share = 1e-3 / 2048
    black, white = steps.value_range
    spread = min(steps.std, default=1.0)
    largest = max(abs(value - mean) for value in steps.value_range for mean in steps.mean or (0,))
    precision = 2**-10 if steps.dtype == TensorType.FLOAT16 else 2**-22
    return (share * abs(white - black) + precision * largest) / spread


def _transform(steps: Preprocessing) -> Callable[[Image], Tensor]:
    """Returns the function that carries out valid steps."""
    resize = None if steps.resize.to == ResizeTo.NONE else resizer(steps.resize)
    finish = _Finish(steps)
    in_bytes = (
        (resize is not None and steps.resize.library in _EIGHT_BITS)
        or (resize is None and steps.dtype == TensorType.UINT8)
        or steps.equalize.kind in (EqualizeKind.HISTOGRAM, EqualizeKind.CLAHE)
    )

    def transform(image: Image) -> Tensor:
        channels = _channels(image, steps)
        black, white = _levels(channels, steps)
        if in_bytes:
            channels = [_to_8_bits(channel, black, white) for channel in channels]
            black, white = 0, 255
        channels = [squared(_equalize(channel, steps), steps.square) for channel in channels]
        down, across = axes(channels[0].shape, steps)
        samples: list[Samples]
        if resize is None:
            samples = list(channels)
        elif steps.resize.library == Library.TORCHXRAYVISION:
            samples = [_xrv(resize, channels[0], black, white, down, across)]
            black, white = (int(level) for level in steps.value_range)
        else:
            samples = [resize(channel, down, across) for channel in channels]
        tensors = cropped(finish(samples, black, white), down, across, steps.crop.kind)
        if steps.layout == Layout.NHWC:
            tensors = np.moveaxis(tensors, 1, 3)
        return np.ascontiguousarray(tensors)

    return transform


def _channels(image: Image, steps: Preprocessing) -> list[Image]:
    """Returns the channels to process: gray, or red, green and blue."""
    if image.ndim == 2:
        return [image]
    first = [image[:, :, 0]]
    if image.shape[2] < 3 or steps.resize.library == Library.TORCHXRAYVISION:
        return first
    if steps.channels == 3:
        return [image[:, :, channel] for channel in range(3)]
    red, green, blue = (image[:, :, channel].astype(np.uint32) for channel in range(3))
    luma = (red * 19595 + green * 38470 + blue * 7471 + 2**15) >> 16
    return [luma.astype(np.uint8) if image.dtype == np.uint8 else luma.astype(np.uint16)]


def _levels(channels: list[Image], steps: Preprocessing) -> tuple[int, int]:
    """Returns the sample values that are black and white."""
    if steps.equalize.kind != EqualizeKind.MINMAX:
        return 0, int(np.iinfo(channels[0].dtype).max)
    return min(int(channel.min()) for channel in channels), max(
        int(channel.max()) for channel in channels
    )


def _to_8_bits(channel: Image, black: int, white: int) -> npt.NDArray[np.uint8]:
    if (black, white) == (0, 255):
        return channel.astype(np.uint8, copy=False)
    if (black, white) == (0, 65535):
        return ((channel.astype(np.uint32) + 128) // 257).astype(np.uint8)
    levels = np.arange(int(np.iinfo(channel.dtype).max) + 1) - black
    table = np.rint(levels * (255 / max(1, white - black))).clip(0, 255).astype(np.uint8)
    return np.asarray(table[channel])


def _equalize(channel: Image, steps: Preprocessing) -> Image:
    kind, clip, tiles = steps.equalize.kind, steps.equalize.clip, steps.equalize.tiles
    if kind == EqualizeKind.HISTOGRAM:
        return equalize_histogram(channel.astype(np.uint8, copy=False))
    if kind == EqualizeKind.CLAHE and clip and tiles:
        return equalize_clahe(channel.astype(np.uint8, copy=False), clip, tiles)
    return channel


def _xrv(
    resize: Callable[..., Samples],
    gray: Image,
    black: int,
    white: int,
    down: Axis,
    across: Axis,
) -> Samples:
    """Returns TorchXRayVision's `XRayResizer` of gray that `normalize` scaled, float32."""
    scaled = gray.astype(np.float32)
    if black:
        scaled -= black
    scaled /= max(1, white - black)
    scaled *= 2
    scaled -= 1
    scaled *= 1024
    out = resize(scaled, down, across)
    low, high = scaled.min(), scaled.max()
    # Zero padding darkens or brightens the border; scikit-image clips this unless 0 is in range.
    if not low <= 0 <= high and out.min() <= 0 <= out.max():
        low, high = min(low, np.float32(0)), max(high, np.float32(0))
    return np.asarray(np.clip(out, low, high))


class _Finish:
    """Scales to `value_range`, subtracts the mean, divides, and sets the type."""

    def __init__(self, steps: Preprocessing) -> None:
        self._steps = steps
        self._mean = np.array(steps.mean or (0.0,) * steps.channels, np.float32)
        self._std = np.array(steps.std or (1.0,) * steps.channels, np.float32)

    def __call__(self, samples: list[Samples], black: int, white: int) -> Tensor:
        """Returns a tensor (C, H, W) of the channels, or of the one for all."""
        low, high = self._steps.value_range
        values = np.stack(samples).astype(np.float32)
        if (black, white) != (low, high):
            values -= black
            values /= max(1, white - black)
            values *= high - low
            values += low
        out = np.subtract(values, self._mean[:, np.newaxis, np.newaxis])  # repeats one for all
        out /= self._std[:, np.newaxis, np.newaxis]
        if self._steps.dtype == TensorType.UINT8:
            out = np.rint(out, out=out).clip(0, 255)
        return out.astype(str(self._steps.dtype), copy=False)


PROFILES = {name: profile_of(preset) for name, preset in PRESETS.items()}
"""The profiles of the presets, by name."""
