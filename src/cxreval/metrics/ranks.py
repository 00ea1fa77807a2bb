"""Computes ranks of numbers, 1 for the smallest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def lowest_ranks(values: NDArray[np.float64]) -> NDArray[np.intp]:
    """Returns the ranks along the first axis; equal values share the lowest of their ranks."""
    columns = np.ascontiguousarray(np.moveaxis(values, 0, -1))
    order = np.argsort(columns, axis=-1)
    ordered = np.take_along_axis(columns, order, axis=-1)
    ranks = np.zeros(columns.shape, np.intp)
    ranks[..., 1:] = np.where(
        ordered[..., 1:] != ordered[..., :-1], np.arange(1, columns.shape[-1]), 0
    )
    result = np.empty_like(ranks)
    np.put_along_axis(result, order, 1 + np.maximum.accumulate(ranks, axis=-1), axis=-1)
    return np.moveaxis(result, -1, 0)


def mean_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the ranks along the first axis; equal values share the mean of their ranks."""
    highest = len(values) + 1 - lowest_ranks(-values)
    shared: NDArray[np.float64] = (lowest_ranks(values) + highest) / 2
    return shared
