"""Resampling along one axis as a banded matrix, built once for each image size.

Blurring, interpolation and zero padding are linear, so a resize is `A @ image @ B.T`. An output
sample depends on few neighbouring input samples, so the matrix is stored as small dense blocks
along its diagonal, which BLAS multiplies.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from cxreval.errors import ImageTooLarge
from cxreval.imaging.kernels import Positions, Taps, Weights

MAX_WEIGHTS = 2**23
"""Most weights of a matrix: an image of extreme proportions would fill the memory."""

_BLOCK_ROWS = 8  # fastest of 4 to 112 for 1024 -> 224 on one core: wider blocks multiply more zeros
_CACHED_SIZES = 64

Array = npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a resize, and which of its `size_out` outputs are wanted.

    These are `length` outputs from each of `starts` on.
    """

    size_in: int
    size_out: int
    starts: tuple[int, ...]
    length: int

    @property
    def outputs(self) -> Positions:
        """The wanted outputs in ascending order, each once."""
        if len(self.starts) == 1:
            return np.arange(self.starts[0], self.starts[0] + self.length)
        return np.unique(np.add.outer(self.starts, np.arange(self.length)))


@dataclass(frozen=True, slots=True)
class _Block:
    outputs: slice
    inputs: slice  # of the needed samples
    weights: Array  # (outputs, inputs)


@dataclass(frozen=True, slots=True)
class Resampling:
    """A linear map of samples to `size_out` samples, of which it needs the `needed` ones."""

    size_out: int
    needed: slice | Positions
    blocks: tuple[_Block, ...]

    def down(self, image: npt.NDArray[np.generic]) -> Array:
        """Resamples rows: (size_in, W) to (size_out, W), in the dtype of the weights."""
        return self.down_needed(image[self.needed])

    def down_needed(self, rows: npt.NDArray[np.generic]) -> Array:
        """Resamples rows of which there are only the needed ones."""
        out = np.empty((self.size_out, rows.shape[1]), self.blocks[0].weights.dtype)
        for block in self.blocks:
            inputs = rows[block.inputs].astype(out.dtype, copy=False)
            np.matmul(block.weights, inputs, out=out[block.outputs])
        return out

    def columns(self, image: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """Returns the needed columns."""
        if isinstance(self.needed, slice):
            return image[:, self.needed]
        return image.take(self.needed, axis=1, mode="clip")  # faster than an index

    def across(self, image: npt.NDArray[np.generic]) -> Array:
        """Resamples columns: (H, size_in) to (H, size_out), in the dtype of the weights."""
        columns = self.columns(image)
        out = np.empty((image.shape[0], self.size_out), self.blocks[0].weights.dtype)
        for block in self.blocks:
            inputs = columns[:, block.inputs].astype(out.dtype, copy=False)
            np.matmul(inputs, block.weights.T, out=out[:, block.outputs])
        return out


@lru_cache(maxsize=_CACHED_SIZES)
def resampling(taps: Taps, axis: Axis) -> Resampling:
    """Returns the matrix, in float32, that computes the wanted outputs of an axis.

    Raises:
        ImageTooLarge: it would have more than `MAX_WEIGHTS`.
    """
    positions, weights = wanted_taps(taps, axis)
    return banded(axis.size_in, positions, weights.astype(np.float32))


def wanted_taps(taps: Taps, axis: Axis) -> tuple[Positions, Weights]:
    """Returns positions and weights of the wanted outputs of an axis.

    Raises:
        ImageTooLarge: there would be more than `MAX_WEIGHTS`.
    """
    outputs = axis.outputs
    # No kernel has more than nine taps for each input sample that an output skips, plus fifty.
    if len(outputs) * (9 * axis.size_in / axis.size_out + 50) > 2 * MAX_WEIGHTS:
        expected = "an image of usual proportions"
        message = (
            f"image has a side of {axis.size_in} pixels, too long to resize it to "
            f"{axis.size_out}; expected {expected}"
        )
        raise ImageTooLarge(message, field="image", expected=expected)
    return taps(axis.size_in, axis.size_out, outputs)


def banded(size_in: int, positions: Positions, weights: Array) -> Resampling:
    """Returns the matrix whose row i holds `weights[i]` in the columns `positions[i]`.

    Positions outside 0 to `size_in` are dropped; weights at equal positions are added.
    """
    inside = (positions >= 0) & (positions < size_in)
    used = np.unique(positions[inside])
    needed: slice | Positions = used
    if len(used) == used[-1] + 1 - used[0]:
        needed = slice(int(used[0]), int(used[-1]) + 1)
    # Without a filter, a resize skips samples; the blocks are those of a matrix without them.
    columns = np.searchsorted(used, positions)
    return Resampling(len(weights), needed, tuple(_blocks(columns, inside, weights)))


def _blocks(columns: Positions, inside: npt.NDArray[np.bool_], weights: Array) -> Iterator[_Block]:
    for begin in range(0, len(weights), _BLOCK_ROWS):
        outputs = slice(begin, min(begin + _BLOCK_ROWS, len(weights)))
        used, values = inside[outputs], weights[outputs]
        row, _ = np.nonzero(used)
        column = columns[outputs][used]
        low, high = int(column.min()), int(column.max()) + 1
        matrix = np.zeros((len(values), high - low), weights.dtype)
        np.add.at(matrix, (row, column - low), values[used])
        matrix.flags.writeable = False  # shared by every caller of the cache
        yield _Block(outputs, slice(low, high), matrix)
