"""Resampling along one axis as a banded matrix, built once for each image size.

Blurring, interpolation and zero padding are linear, so a resize is `A @ image @ B.T`. An output
sample depends on few neighbouring input samples, so the matrix is stored as small dense blocks
along its diagonal, which BLAS multiplies.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

GAUSSIAN_TRUNCATE = 4.0
"""Radius of the kernel of `scipy.ndimage.gaussian_filter`, in standard deviations."""

PILLOW_PRECISION_BITS = 22
"""Pillow resizes 8-bit images in fixed point with this many fractional bits."""

_BLOCK_ROWS = 8  # fastest of 4 to 112 for 1024 -> 224 on one core: wider blocks multiply more zeros
_CACHED_SIZES = 64

Array = npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class _Block:
    outputs: slice
    inputs: slice
    weights: Array  # (outputs, inputs)


@dataclass(frozen=True, slots=True)
class Resampling:
    """A linear map of `size_in` samples to `size_out` samples."""

    size_in: int
    size_out: int
    blocks: tuple[_Block, ...]

    @property
    def needed(self) -> slice:
        """The input samples that the outputs depend on."""
        return slice(
            min(block.inputs.start for block in self.blocks),
            max(block.inputs.stop for block in self.blocks),
        )

    def down(self, image: npt.NDArray[np.generic]) -> Array:
        """Resamples rows: (size_in, W) to (size_out, W), in the dtype of the weights."""
        out = np.empty((self.size_out, image.shape[1]), self.blocks[0].weights.dtype)
        for block in self.blocks:
            np.matmul(
                block.weights,
                image[block.inputs].astype(out.dtype, copy=False),
                out=out[block.outputs],
            )
        return out

    def across(self, image: npt.NDArray[np.generic]) -> Array:
        """Resamples columns: (H, size_in) to (H, size_out), in the dtype of the weights."""
        out = np.empty((image.shape[0], self.size_out), self.blocks[0].weights.dtype)
        for block in self.blocks:
            columns = image[:, block.inputs].astype(out.dtype, copy=False)
            np.matmul(columns, block.weights.T, out=out[:, block.outputs])
        return out


@lru_cache(maxsize=_CACHED_SIZES)
def gaussian_bilinear(size_in: int, size_out: int) -> Resampling:
    """Returns the map of `skimage.transform.resize(mode="constant")`, order 1, in float32.

    When it shrinks: a Gaussian blur with sigma (size_in / size_out - 1) / 2; then bilinear
    interpolation at the pixel centres. Samples outside the image are zero.
    """
    scale = size_in / size_out
    kernel = _gaussian_kernel(max(0.0, (scale - 1) / 2))
    radius = len(kernel) // 2
    centres = (np.arange(size_out) + 0.5) * scale - 0.5
    left = np.floor(centres).astype(np.int64)
    fraction = (centres - left)[:, np.newaxis]
    taps = (1 - fraction) * np.append(kernel, 0) + fraction * np.append(0, kernel)
    return _banded(size_in, left - radius, taps.astype(np.float32))


def _gaussian_kernel(sigma: float) -> npt.NDArray[np.float64]:
    """Returns the 2 * radius + 1 weights of `scipy.ndimage.gaussian_filter`; their sum is 1."""
    radius = int(GAUSSIAN_TRUNCATE * sigma + 0.5)
    if radius == 0:
        return np.ones(1)
    weights = np.exp(-0.5 / sigma**2 * np.arange(-radius, radius + 1) ** 2)
    return np.asarray(weights / weights.sum())


@lru_cache(maxsize=_CACHED_SIZES)
def pillow_bilinear(size_in: int, size_out: int, start: int, stop: int) -> Resampling:
    """Returns outputs `start` to `stop` (exclusive) of Pillow's BILINEAR resize of 8-bit samples.

    The resize is from `size_in` to `size_out` samples. The weights are Pillow's fixed-point ones,
    as whole numbers in float64: sums of products with 8-bit samples stay below 2**31, so they are
    exact, and `from_fixed_point` then gives the same bytes as Pillow.
    """
    scale = size_in / size_out
    support = max(scale, 1.0)  # Pillow widens the triangle when it shrinks
    centres = (np.arange(start, stop) + 0.5) * scale
    first = np.maximum(0, (centres - support + 0.5).astype(np.int64))
    last = np.minimum(size_in, (centres + support + 0.5).astype(np.int64))
    positions = first[:, np.newaxis] + np.arange(math.ceil(support) * 2 + 1)
    distance = np.abs((positions - centres[:, np.newaxis] + 0.5) / support)
    taps = np.where(positions < last[:, np.newaxis], np.maximum(0.0, 1 - distance), 0.0)
    taps /= taps.sum(axis=1, keepdims=True)
    return _banded(size_in, first, np.floor(taps * 2**PILLOW_PRECISION_BITS + 0.5))


def from_fixed_point(values: Array) -> npt.NDArray[np.uint8]:
    """Rounds fixed point to 8 bits, as Pillow does after each pass."""
    rounded: Array = (values + 2 ** (PILLOW_PRECISION_BITS - 1)) * 2.0**-PILLOW_PRECISION_BITS
    return np.minimum(rounded, 255).astype(np.uint8)


def _banded(size_in: int, first: npt.NDArray[np.int64], taps: Array) -> Resampling:
    """Returns the matrix whose row i holds `taps[i]` from column `first[i]` on.

    Taps outside 0 to `size_in` are dropped.
    """
    return Resampling(size_in, len(taps), tuple(_blocks(size_in, first, taps)))


def _blocks(size_in: int, first: npt.NDArray[np.int64], taps: Array) -> Iterator[_Block]:
    for begin in range(0, len(taps), _BLOCK_ROWS):
        outputs = slice(begin, min(begin + _BLOCK_ROWS, len(taps)))
        left = max(0, int(first[outputs].min()))
        right = min(size_in, int(first[outputs].max()) + taps.shape[1])
        weights = np.zeros((outputs.stop - outputs.start, right - left), taps.dtype)
        for row, (start, values) in enumerate(zip(first[outputs], taps[outputs], strict=True)):
            low, high = max(left, start), min(right, start + len(values))
            weights[row, low - left : high - left] = values[low - start : high - start]
        weights.flags.writeable = False  # shared by every caller of the cache
        yield _Block(outputs, slice(left, right), weights)
