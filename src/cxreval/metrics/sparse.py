"""Products of a sparse matrix and a dense one, with NumPy alone.

SciPy has both products, but it is larger than everything else that `cxreval score` needs.
`CountMatrix` is as fast as SciPy's; its sums of whole numbers are exact, so their order is free.
`ValueMatrix` adds in the order of SciPy's, so its results are SciPy's to the last bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

PIECE = 16
"""Entries of a row that are summed together before the pieces of the row are summed."""


class CountMatrix:
    """A sparse matrix whose entry (r, c) is the number of times that the pair (r, c) was given."""

    def __init__(
        self, rows: NDArray[np.int64], columns: NDArray[np.int64], shape: tuple[int, int]
    ) -> None:
        """`rows` and `columns` have shape (n,): one pair for each count."""
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

        Both hold whole numbers. The type of `dense` must hold `PIECE` times its largest entry.
        """
        product = np.zeros((self._row_count, dense.shape[1]), dtype)
        if self._members:
            sums = _sum_steps(dense, self._members, dense.dtype)
            product[self._rows] = _sum_steps(sums, self._pieces, dtype)
        return product


def _steps(
    starts: NDArray[np.int64], lengths: NDArray[np.int64]
) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
    """Arranges groups of consecutive entries so that step i takes the entry i of each group.

    Returns the non-empty groups, longest first, and for each step the entries of the groups that
    are long enough: the first ones in that order.
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
    """A matrix of float64 with few rows, some of them sparse; values of one cell are added up."""

    def __init__(
        self,
        rows: NDArray[np.int64],
        columns: NDArray[np.int64],
        values: NDArray[np.float64],
        shape: tuple[int, int],
    ) -> None:
        """`rows`, `columns` and `values` have shape (n,)."""
        cells, size = rows * shape[1] + columns, shape[0] * shape[1]
        sums = np.bincount(cells, values, size).astype(np.float64, copy=False).reshape(shape)
        present = np.bincount(cells, minlength=size).reshape(shape) > 0
        self._rows: list[tuple[NDArray[np.float64], NDArray[np.int64] | None]] = []
        for row_sums, row_present in zip(sums, present, strict=True):
            used = np.flatnonzero(row_present)
            # A row that is half full is faster with its zeros than with a copy of what it meets.
            full = used.size > shape[1] // 2
            self._rows.append((row_sums, None) if full else (row_sums[used], used))

    def __matmul__(self, dense: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns the product with `dense`, shape (columns, m), as shape (rows, m)."""
        # einsum adds row after row, as SciPy does; `@` would call BLAS, whose order is its own.
        return np.stack(
            [
                np.einsum("k,kj->j", values, dense if used is None else dense.take(used, axis=0))
                for values, used in self._rows
            ]
        )
