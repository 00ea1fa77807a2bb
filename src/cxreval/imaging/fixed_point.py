"""One pass of Pillow's resize of 8 bits, to the last bit, with BLAS in float32.

Pillow computes each sample in whole numbers and rounds it to 8 bits. A product in float32 is off
by less than a bound, so it rounds to the same 8 bits unless it is that close to a half. The few
samples that are close are computed again in whole numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from cxreval.imaging.kernels import Positions, Taps
from cxreval.imaging.resample import Array, Axis, Resampling, banded, wanted_taps

PRECISION_BITS = 22
"""Pillow resizes 8-bit images in fixed point with this many fractional bits."""

_CACHED_SIZES = 64
_PART_TAPS = 2**20

Bytes = npt.NDArray[np.uint8]
Whole = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class FixedPoint:
    """A pass along an axis: `weights` (outputs, taps) in fixed point, at `positions`.

    `matrix` has the same weights in float32, and `margin` is the bound of its error.
    """

    matrix: Resampling
    positions: Positions  # among the needed samples
    weights: Whole
    margin: float

    def across(self, image: npt.NDArray[np.generic]) -> Bytes:
        """Resamples columns: (H, size_in) to (H, size_out)."""
        columns = self.matrix.columns(image)
        out, row, output = self._rounded(self.matrix.across(image))
        for part in self._parts(len(row)):
            taps = columns[row[part, np.newaxis], self.positions[output[part]]]
            out[row[part], output[part]] = _exact(taps, self.weights[output[part]])
        return out

    def down(self, rows: npt.NDArray[np.generic]) -> Bytes:
        """Resamples rows, of which there are only the needed ones: to (size_out, W)."""
        out, output, column = self._rounded(self.matrix.down_needed(rows))
        for part in self._parts(len(output)):
            taps = rows[self.positions[output[part]], column[part, np.newaxis]]
            out[output[part], column[part]] = _exact(taps, self.weights[output[part]])
        return out

    def _parts(self, count: int) -> list[slice]:
        """Returns slices of so many samples that their taps fit the memory."""
        step = max(1, _PART_TAPS // self.weights.shape[1])
        return [slice(start, start + step) for start in range(0, count, step)]

    def _rounded(self, values: Array) -> tuple[Bytes, Positions, Positions]:
        """Returns the values in 8 bits, and rows and columns of those too close to a half."""
        values += 0.5
        out = np.floor(values)
        values -= out
        values -= 0.5
        close = np.flatnonzero(np.abs(values, out=values) > 0.5 - self.margin)
        return np.clip(out, 0, 255, out=out).astype(np.uint8), *np.divmod(close, values.shape[1])


@lru_cache(maxsize=_CACHED_SIZES)
def fixed_point(taps: Taps, axis: Axis) -> FixedPoint:
    """Returns the pass that computes the wanted outputs of an axis.

    Raises:
        ImageTooLarge: it would have more than `MAX_WEIGHTS` weights.
    """
    positions, weights = wanted_taps(taps, axis)
    whole = np.trunc(weights * 2**PRECISION_BITS + np.copysign(0.5, weights))
    # The weights have at most 23 bits, so they are exact in float32. A sum of n products with 8
    # bits is off by at most n * 2**-24 * 255 times the sum of the weights (Higham, Accuracy and
    # Stability of Numerical Algorithms, section 3.1); the margin is twice that.
    terms = np.count_nonzero(whole, axis=1).max() + 2
    margin = 2 * terms * 2.0**-24 * 256 * np.abs(whole).sum(axis=1).max() / 2**PRECISION_BITS
    matrix = banded(axis.size_in, positions, (whole / 2**PRECISION_BITS).astype(np.float32))
    needed = np.arange(axis.size_in)[matrix.needed]
    among = np.searchsorted(needed, positions).clip(max=len(needed) - 1)
    return FixedPoint(matrix, among, whole.astype(np.int64), float(margin))


def _exact(taps: npt.NDArray[np.generic], weights: Whole) -> Bytes:
    sums = (taps.astype(np.int64) * weights).sum(axis=1)
    levels = (sums + 2 ** (PRECISION_BITS - 1)) >> PRECISION_BITS
    return np.asarray(levels.clip(0, 255), np.uint8)
