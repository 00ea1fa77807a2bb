"""Which pixels of an image a model sees: the square, the size of the resize, and the crops."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cxreval.errors import ImageTooLarge
from cxreval.imaging.image import Image
from cxreval.imaging.resample import Axis
from cxreval.preprocessing import CropKind, Preprocessing, ResizeTo, Square

MAX_SQUARE_PIXELS = 2**26
"""Limit for the pixels of an image with its black borders."""

MAX_RESIZED_PIXELS = 2**24
"""Limit for the height times width of a resized image that is not cropped."""

MAX_RESIZED_SIDE = 2**23
"""Limit for the height and for the width of a resized image before it is cropped."""


def squared(channel: Image, square: Square) -> Image:
    """Returns the central square of the short side, or the image between two black borders.

    Raises:
        ImageTooLarge: with its borders it has more than `MAX_SQUARE_PIXELS`.
    """
    height, width = channel.shape
    if square == Square.NONE or height == width:
        return channel
    if square == Square.CROP:
        side = min(height, width)
        top, left = height // 2 - side // 2, width // 2 - side // 2
        return channel[top : top + side, left : left + side]
    side = max(height, width)
    _check_size(side, side, MAX_SQUARE_PIXELS, "made square")
    top, left = (side - height) // 2, (side - width) // 2
    padded = np.zeros((side, side), channel.dtype)
    padded[top : top + height, left : left + width] = channel
    return padded


def _check_size(height: int, width: int, limit: int, when: str) -> None:
    if height * width > limit:
        expected = f"at most {limit} pixels"
        message = f"image is {height} pixels high and {width} wide when {when}; expected {expected}"
        raise ImageTooLarge(message, field="image", expected=expected, width=width, height=height)


def axes(sides: tuple[int, ...], steps: Preprocessing) -> tuple[Axis, Axis]:
    """Returns the axes of the resize, down and across, with the outputs that the crops need.

    Raises:
        ImageTooLarge: the resized image has a side of more than `MAX_RESIZED_SIDE`, or is not
            cropped and has more than `MAX_RESIZED_PIXELS`.
    """
    height, width = sides
    sizes = _resized(height, width, steps)
    if steps.resize.to != ResizeTo.NONE:
        _check_size(max(sizes), 1, MAX_RESIZED_SIDE, "resized")
    if steps.crop.kind == CropKind.NONE:
        if steps.resize.to != ResizeTo.NONE:
            _check_size(*sizes, MAX_RESIZED_PIXELS, "resized")
        return Axis(height, sizes[0], (0,), sizes[0]), Axis(width, sizes[1], (0,), sizes[1])
    down, across = (
        Axis(side, size, _starts(size - crop, steps.crop.kind), crop)
        for side, size, crop in zip(sides, sizes, steps.crop.size, strict=True)
    )
    return down, across


def _resized(height: int, width: int, steps: Preprocessing) -> tuple[int, int]:
    size = steps.resize.size
    if steps.resize.to == ResizeTo.NONE:
        return height, width
    if steps.resize.to == ResizeTo.EXACT:
        return size[0], size[1]
    short, long = sorted((height, width))
    if steps.resize.to == ResizeTo.SHORT_SIDE:
        short, long = size[0], size[0] * long // short
    else:
        short, long = max(1, round(short * (size[0] / long))), size[0]
    return (short, long) if height <= width else (long, short)


def _starts(free: int, kind: CropKind) -> tuple[int, ...]:
    """Returns where crops start along an axis with `free` outputs more than a crop."""
    if kind == CropKind.CENTER:
        return (_center(free),)
    return tuple(sorted({0, _center(free), free - _center(free), free}))


def _center(free: int) -> int:
    return round(free / 2)


def cropped(
    tensor: npt.NDArray[np.generic], down: Axis, across: Axis, kind: CropKind
) -> npt.NDArray[np.generic]:
    """Returns the crops (crops, C, H, W) of the tensor (C, H, W) of all outputs that they need.

    Top left, top right, bottom left, bottom right, center; then those of the mirrored image.
    """
    if kind in (CropKind.NONE, CropKind.CENTER):
        return tensor[np.newaxis]
    down_free, across_free = down.size_out - down.length, across.size_out - across.length
    crops = [(0, 0), (0, across_free), (down_free, 0), (down_free, across_free)]
    crops.append((_center(down_free), _center(across_free)))

    def crop(row: int, column: int) -> npt.NDArray[np.generic]:
        top, left = np.searchsorted(down.outputs, row), np.searchsorted(across.outputs, column)
        return tensor[:, top : top + down.length, left : left + across.length]

    five = [crop(row, column) for row, column in crops]
    if kind == CropKind.FIVE:
        return np.stack(five)
    mirrored = [crop(row, across_free - column)[:, :, ::-1] for row, column in crops]
    return np.stack([*five, *mirrored])
