"""Multiplies sparse matrices by dense ones, with NumPy alone.

SciPy has both products, but it is larger than everything else that `cxreval score` needs.
`CountMatrix` is as fast as SciPy; it adds whole numbers, whose sums are exact in any order.
`ValueMatrix` adds in the same order as SciPy, so that its results are equal to the last bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

PIECE = 16
"""Number of entries in a piece of a row; each piece is summed first, then the pieces of a row."""


class CountMatrix:
    """A sparse matrix whose entry (r, c) is the number of times that the pair (r, c) was given."""

    def __init__(
        self, rows: NDArray[np.int64], columns: NDArray[np.int64], shape: tuple[int, int]
    ) -> None:
        """Counts pairs; `rows` and `columns` have shape (n,) and hold one pair for each count."""
        row_count, column_count = shape
        members = columns[np.argsort(rows * column_count + columns, kind="stable")]
        lengths = np.bincount(rows, minlength=row_count)
        starts = np.cumsum(lengths) - lengths
        pieces = -(-lengths // PIECE)
        first_pieces = np.cumsum(pieces) - pieces
        owners = np.repeat(np.arange(row_count), pieces)
        skipped = PIECE * (np.arange(owners.size) - first_pieces[owners])
        order, steps = _steps(
            starts[owners] + skipped, np.minimum(lengths[owners] - skipped, PIECE)
        )
        self._members = [members[step] for step in steps]
        position = np.empty(owners.size, np.int64)
        position[order] = np.arange(owners.size)
        self._rows, steps = _steps(first_pieces, pieces)
        self._pieces = [position[step] for step in steps]
        self._row_count = row_count

    def times(self, dense: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Returns the product with `dense`, shape (columns, m), as shape (rows, m) of `dtype`.

        Both hold whole numbers. `PIECE` times the largest entry of `dense` must fit its dtype.
        """
        product = np.zeros((self._row_count, dense.shape[1]), dtype)
        if self._members:
            sums = _sum_steps(dense, self._members, dense.dtype)
            product[self._rows] = _sum_steps(sums, self._pieces, dtype)
        return product


def _steps(
    starts: NDArray[np.int64], lengths: NDArray[np.int64]
) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
    """Arranges groups of consecutive entries in steps; step i has entry i of each group.

    Returns the numbers of the non-empty groups, longest first, and the entries of each step. Step i
    has an entry of each group that is longer than i; these are the first groups in that order.
    """
    order = np.argsort(-lengths, kind="stable")
    order = order[: np.count_nonzero(lengths)]
    starts, lengths = starts[order], lengths[order]
    longest = int(lengths[0]) if lengths.size else 0
    counts = np.searchsorted(-lengths, -np.arange(longest), side="left")
    return order, [starts[:count] + step for step, count in enumerate(counts)]


def _sum_steps(
    rows: NDArray[Any], steps: list[NDArray[np.int64]], dtype: np.dtype[Any]
) -> NDArray[Any]:
    """Returns the sum of each group's rows, in the order of `_steps`."""
    sums = rows.take(steps[0], axis=0).astype(dtype, copy=False)
    for step in steps[1:]:
        sums[: step.size] += rows.take(step, axis=0)
    return sums


class ValueMatrix:
    """A matrix of float64 with few rows, some sparse; values for the same cell are added."""

    def __init__(
        self,
        rows: NDArray[np.int64],
        columns: NDArray[np.int64],
        values: NDArray[np.float64],
        shape: tuple[int, int],
    ) -> None:
        """Builds the matrix; `rows`, `columns` and `values` have shape (n,)."""
        cells, size = rows * shape[1] + columns, shape[0] * shape[1]
        sums = np.bincount(cells, values, size).astype(np.float64, copy=False).reshape(shape)
        present = np.bincount(cells, minlength=size).reshape(shape) > 0
        self._rows: list[tuple[NDArray[np.float64], NDArray[np.int64] | None]] = []
        for row_sums, row_present in zip(sums, present, strict=True):
            used = np.flatnonzero(row_present)
            # Above half full, multiplying zeros is faster than copying rows of `dense`.
            full = used.size > shape[1] // 2
            self._rows.append((row_sums, None) if full else (row_sums[used], used))

    def __matmul__(self, dense: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns the product with `dense`, shape (columns, m), as shape (rows, m)."""
        # einsum adds row after row, as SciPy does; `@` calls BLAS, which adds in another order.
        return np.stack(
            [
                np.einsum("k,kj->j", values, dense if used is None else dense.take(used, axis=0))
                for values, used in self._rows
            ]
        )
