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
    inputs: slice | Positions
    weights: Array  # (outputs, inputs)


@dataclass(frozen=True, slots=True)
class Resampling:
    """A linear map of samples to `size_out` samples."""

    size_out: int
    blocks: tuple[_Block, ...]
    needed: Positions
    """The input samples that the outputs depend on, in ascending order."""

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
def resampling(taps: Taps, axis: Axis, *, bits: int | None = None) -> Resampling:
    """Returns the matrix that computes the wanted outputs of an axis.

    The weights are float32; or whole numbers in float64, 2**bits for 1, so that sums of products
    with 8-bit samples are exact.

    Raises:
        ImageTooLarge: it would have more than `MAX_WEIGHTS`.
    """
    outputs = axis.outputs
    wanted = len(outputs)
    _check_weights(axis, wanted)
    positions, weights = taps(axis.size_in, axis.size_out, outputs)
    if bits is None:
        return banded(axis.size_in, positions, weights.astype(np.float32))
    return banded(axis.size_in, positions, np.trunc(weights * 2**bits + np.copysign(0.5, weights)))


def _check_weights(axis: Axis, wanted: int) -> None:
    # No kernel has more than nine taps for each input sample that an output skips, plus fifty.
    if wanted * (9 * axis.size_in / axis.size_out + 50) > 2 * MAX_WEIGHTS:
        expected = "an image of usual proportions"
        message = (
            f"image has a side of {axis.size_in} pixels, too long to resize it to "
            f"{axis.size_out}; expected {expected}"
        )
        raise ImageTooLarge(message, field="image", expected=expected)


def banded(size_in: int, positions: Positions, weights: Weights | Array) -> Resampling:
    """Returns the matrix whose row i holds `weights[i]` in the columns `positions[i]`.

    Positions outside 0 to `size_in` are dropped; weights at equal positions are added.
    """
    needed = np.unique(positions)
    needed = needed[(needed >= 0) & (needed < size_in)]
    return Resampling(len(weights), tuple(_blocks(size_in, positions, weights)), needed)


def _blocks(size_in: int, positions: Positions, weights: Weights | Array) -> Iterator[_Block]:
    for begin in range(0, len(weights), _BLOCK_ROWS):
        outputs = slice(begin, min(begin + _BLOCK_ROWS, len(weights)))
        columns, values = positions[outputs], weights[outputs]
        used = (columns >= 0) & (columns < size_in)
        inside = columns[used] if used.any() else np.zeros(1, np.int64)
        low, high = int(inside.min()), int(inside.max()) + 1
        inputs: slice | Positions = slice(low, high)
        columns, width = columns - low, high - low
        distinct = np.unique(inside)
        if 2 * distinct.size <= width:  # without a filter, a resize skips samples
            inputs, columns = distinct, np.searchsorted(distinct - low, columns)
            width = distinct.size
        matrix = np.zeros((len(values), width), weights.dtype)
        rows = np.broadcast_to(np.arange(len(values))[:, np.newaxis], columns.shape)
        np.add.at(matrix, (rows[used], columns[used]), values[used])
        matrix.flags.writeable = False  # shared by every caller of the cache
        yield _Block(outputs, inputs, matrix)
