"""Weights with which libraries resample along one axis.

Each function returns, for some outputs of a resize from `size_in` to `size_out` samples, the input
positions that an output is computed from and their weights, both of shape (outputs, taps).
Positions outside 0 to `size_in` - 1 count as black.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

GAUSSIAN_TRUNCATE = 4.0
"""Radius of the kernel of `scipy.ndimage.gaussian_filter`, in standard deviations."""

OPENCV_BITS = 11
"""OpenCV interpolates 8-bit images with weights of this many fractional bits."""

_OPENCV_AREA_EPSILON = 1e-3  # smaller parts of a sample are left out
_SPLINE_POLE = math.sqrt(3) - 2
_SPLINE_RADIUS = 20  # the pole to the power of 20 is 4e-12

Positions = npt.NDArray[np.int64]
Weights = npt.NDArray[np.float64]
Kernel = Callable[[Weights], Weights]


Taps = Callable[[int, int, Positions], tuple[Positions, Weights]]
"""Returns positions and weights, given `size_in`, `size_out` and the wanted outputs."""


def box(x: Weights) -> Weights:
    """Returns 1 within half a sample of the center."""
    return np.where((x > -0.5) & (x <= 0.5), 1.0, 0.0)


def triangle(x: Weights) -> Weights:
    """Returns the kernel of linear interpolation."""
    return np.asarray(np.maximum(0.0, 1 - np.abs(x)))


def cubic(a: float) -> Kernel:
    """Returns Keys' cubic kernel; `a` is its slope at 1."""

    def kernel(x: Weights) -> Weights:
        x = np.abs(x)
        near = ((a + 2) * x - (a + 3)) * x * x + 1
        far = (((x - 5) * x + 8) * x - 4) * a
        return np.where(x < 1, near, np.where(x < 2, far, 0.0))

    return kernel


def lanczos(radius: int) -> Kernel:
    """Returns the Lanczos kernel."""
    return lambda x: np.where(np.abs(x) < radius, np.sinc(x) * np.sinc(x / radius), 0.0)


def antialiased(kernel: Kernel, support: float, precision: type[Any] = np.float64) -> Taps:
    """Returns the taps of Pillow and of PyTorch's antialias: a kernel that widens when it shrinks.

    `support` is the radius of the kernel where it does not shrink. Pillow computes the weights in
    float64, PyTorch in float32.
    """

    def taps(size_in: int, size_out: int, outputs: Positions) -> tuple[Positions, Weights]:
        scale = precision(size_in / size_out)
        stretch = max(scale, precision(1))
        radius = precision(support) * stretch
        centers = (outputs + 0.5).astype(precision) * scale
        first = np.maximum(0, (centers - radius + 0.5).astype(np.int64))
        last = np.minimum(size_in, (centers + radius + 0.5).astype(np.int64))
        positions = first[:, np.newaxis] + np.arange(math.ceil(radius) * 2 + 1)
        distance = (positions - centers[:, np.newaxis] + 0.5) * (precision(1) / stretch)
        weights = np.where(positions < last[:, np.newaxis], kernel(distance), 0.0)
        return positions, weights / weights.sum(axis=1, keepdims=True)

    return taps


def interpolated(kernel: Kernel, radius: int) -> Taps:
    """Returns the taps of PyTorch's interpolation between 2 * `radius` samples, without a filter.

    Samples outside the image are those at its border.
    """

    def taps(size_in: int, size_out: int, outputs: Positions) -> tuple[Positions, Weights]:
        scale = np.float32(size_in / size_out)
        centers = (outputs + 0.5).astype(np.float32) * scale - np.float32(0.5)
        positions, weights = _between(kernel, radius, centers)
        return positions.clip(0, size_in - 1), weights

    return taps


def opencv(kernel: Kernel, radius: int) -> Taps:
    """Returns the taps of OpenCV's interpolation of 8 bits: whole numbers, 2**11 for 1."""

    def taps(size_in: int, size_out: int, outputs: Positions) -> tuple[Positions, Weights]:
        centers = ((outputs + 0.5) * _opencv_scale(size_in, size_out) - 0.5).astype(np.float32)
        positions, weights = _between(kernel, radius, centers)
        weights /= weights.sum(axis=1, keepdims=True)
        return positions.clip(0, size_in - 1), _opencv_fixed(weights)

    return taps


def _opencv_scale(size_in: int, size_out: int) -> float:
    return 1 / (size_out / size_in)


def _opencv_fixed(weights: Weights) -> Weights:
    return np.asarray(np.rint(weights * 2**OPENCV_BITS))


def _between(kernel: Kernel, radius: int, centers: npt.NDArray[Any]) -> tuple[Positions, Weights]:
    left = np.floor(centers)
    positions = left.astype(np.int64)[:, np.newaxis] + np.arange(1 - radius, 1 + radius)
    fraction = (centers - left).astype(np.float64)
    if kernel is triangle:  # without the rounding of its differences
        return positions, np.stack([1 - fraction, fraction], axis=1)
    return positions, kernel(np.arange(1 - radius, 1 + radius) - fraction[:, np.newaxis])


def opencv_area(size_in: int, size_out: int, outputs: Positions) -> tuple[Positions, Weights]:
    """Returns the taps of OpenCV's `INTER_AREA` when it shrinks: the part of each sample."""
    scale = _opencv_scale(size_in, size_out)
    start = outputs[:, np.newaxis] * scale
    stop = np.minimum(start + scale, size_in)
    positions = np.floor(start).astype(np.int64) + np.arange(math.ceil(scale) + 1)
    parts = np.minimum(positions + 1, stop) - np.maximum(positions, start)
    parts = np.where((parts > _OPENCV_AREA_EPSILON) & (positions < size_in), parts, 0.0)
    return positions, parts / (stop - start)


def opencv_area_enlarged(
    size_in: int, size_out: int, outputs: Positions
) -> tuple[Positions, Weights]:
    """Returns the taps of OpenCV's `INTER_AREA` along an axis if either axis is enlarged."""
    left = np.floor(outputs * _opencv_scale(size_in, size_out)).astype(np.int64)
    fraction = ((outputs + 1) - (left + 1) * (size_out / size_in)).astype(np.float32)
    fraction = np.where(fraction <= 0, 0, fraction - np.floor(fraction))
    positions = left[:, np.newaxis] + np.arange(2)
    weights = _opencv_fixed(np.stack([1 - fraction, fraction], axis=1))
    return positions.clip(0, size_in - 1), weights


def torch_area(size_in: int, size_out: int, outputs: Positions) -> tuple[Positions, Weights]:
    """Returns the taps of PyTorch's `area`: the mean of all samples that an output touches."""
    start = (outputs * size_in // size_out)[:, np.newaxis]
    stop = -((outputs + 1) * -size_in // size_out)[:, np.newaxis]
    positions = start + np.arange(-(-size_in // size_out) + 1)
    return positions, (positions < stop) / (stop - start)


def scikit_image(order: int, *, antialias: bool, mirrored: bool) -> Taps:
    """Returns the taps of `skimage.transform.resize` of order 1 or 3, before it clips.

    When it shrinks with `antialias`: a Gaussian blur with sigma (size_in / size_out - 1) / 2. Then
    an interpolation, for order 3 with a cubic spline. Outside, the image is `mirrored` (mode
    "reflect") or zero (mode "constant"; for order 1 only).
    """
    kernel, radius = (triangle, 1) if order == 1 else (_spline, 2)

    def taps(size_in: int, size_out: int, outputs: Positions) -> tuple[Positions, Weights]:
        sigma = max(0.0, (size_in / size_out - 1) / 2) if antialias else 0.0
        blur = _gaussian(sigma)
        if order == 3:
            blur = np.convolve(blur, _SPLINE_FILTER)
        centers = (outputs + 0.5) * (size_in / size_out) - 0.5
        positions, between = _between(kernel, radius, centers)
        weights = np.zeros((len(outputs), len(blur) + 2 * radius - 1))
        for tap in range(2 * radius):
            weights[:, tap : tap + len(blur)] += between[:, tap, np.newaxis] * blur
        first = positions[:, :1] - len(blur) // 2
        positions = first + np.arange(weights.shape[1])
        return _mirror(positions, size_in) if mirrored else positions, weights

    return taps


def _gaussian(sigma: float) -> Weights:
    """Returns the 2 * radius + 1 weights of `scipy.ndimage.gaussian_filter`; their sum is 1."""
    radius = int(GAUSSIAN_TRUNCATE * sigma + 0.5)
    if radius == 0:
        return np.ones(1)
    weights = np.exp(-0.5 / sigma**2 * np.arange(-radius, radius + 1) ** 2)
    return np.asarray(weights / weights.sum())


def _spline(x: Weights) -> Weights:
    x = np.abs(x)
    return np.where(x < 1, 2 / 3 - x**2 + x**3 / 2, np.maximum(0.0, 2 - x) ** 3 / 6)


_SPLINE_FILTER = math.sqrt(3) * _SPLINE_POLE ** np.abs(
    np.arange(-_SPLINE_RADIUS, _SPLINE_RADIUS + 1)
)
"""Weights that make samples the coefficients of a cubic B-spline through them (Unser, 1999)."""


def _mirror(positions: Positions, size: int) -> Positions:
    """Mirrors positions outside the image at its first and last sample."""
    period = max(1, 2 * (size - 1))
    folded = np.abs(positions) % period
    return np.asarray(np.minimum(folded, period - folded))


def nearest_pillow(size_in: int, size_out: int, outputs: Positions) -> Positions:
    """Returns the input position of each output; Pillow adds up the steps between them."""
    scale = size_in / size_out
    steps = np.full(int(outputs[-1]) + 1, scale)
    steps[0] = scale * 0.5
    positions: Positions = np.add.accumulate(steps)[outputs].astype(np.int64)
    return positions.clip(0, size_in - 1)


def nearest_opencv(size_in: int, size_out: int, outputs: Positions) -> Positions:
    """Returns the input position of each output."""
    positions: Positions = np.floor(outputs * _opencv_scale(size_in, size_out)).astype(np.int64)
    return positions.clip(0, size_in - 1)


def nearest_torch(size_in: int, size_out: int, outputs: Positions) -> Positions:
    """Returns the input position of each output, computed in float32."""
    scale = np.float32(size_in) / np.float32(size_out)
    positions: Positions = np.floor(outputs.astype(np.float32) * scale).astype(np.int64)
    return positions.clip(0, size_in - 1)


def nearest_scikit_image(size_in: int, size_out: int, outputs: Positions) -> Positions:
    """Returns the input position of each output."""
    centers = (outputs + 0.5) * (size_in / size_out) - 0.5
    positions: Positions = np.floor(centers + 0.5).astype(np.int64)
    return positions.clip(0, size_in - 1)
