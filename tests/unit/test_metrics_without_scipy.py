"""What the metrics compute with NumPy alone equals SciPy to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
import scipy

from cxreval.metrics.ranking import QUANTILE_975
from cxreval.metrics.ranks import lowest_ranks, mean_ranks
from cxreval.metrics.sparse import PIECE, CountMatrix, ValueMatrix

RNG = np.random.default_rng(15)


def test_the_half_width_of_an_interval_is_the_normal_quantile() -> None:
    assert scipy.special.ndtri(0.975) == QUANTILE_975


@pytest.mark.parametrize("levels", [3, 1000])
def test_ranks_equal_scipys(levels: int) -> None:
    values = RNG.integers(0, levels, (50, 40)) / levels
    values[0, 0] = -np.inf
    expected = scipy.stats.rankdata(values, method="min", axis=0)
    np.testing.assert_array_equal(lowest_ranks(values), expected)
    np.testing.assert_array_equal(mean_ranks(values), scipy.stats.rankdata(values, axis=0))
    expected = scipy.stats.rankdata(values[:, 1], method="min")
    np.testing.assert_array_equal(lowest_ranks(values[:, 1]), expected)


@pytest.mark.parametrize("row_count", [0, 1, 2, 40, 3000])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_products_of_counts_equal_scipys(row_count: int, dtype: type[np.generic]) -> None:
    size = 4000 if row_count else 0
    rows = np.minimum(RNG.integers(0, max(row_count, 1), size), RNG.integers(0, 3000, size))
    columns = RNG.integers(0, 500, size)
    weights = RNG.integers(0, 255 // PIECE, (500, 30)).astype(np.float32)
    shape = (row_count, 500)
    expected = scipy.sparse.csr_array((np.ones(size, np.float32), (rows, columns)), shape=shape)
    product = CountMatrix(rows, columns, shape).times(weights.astype(dtype), np.dtype(np.float32))
    np.testing.assert_array_equal(product, expected @ weights)


def test_sums_of_values_equal_scipys_where_rows_are_sorted_by_patient() -> None:
    columns = np.sort(RNG.integers(0, 700, 5000))
    rows, values = RNG.integers(0, 12, 5000) ** 2 // 12, RNG.normal(size=5000)
    weights = RNG.integers(0, 9, (700, 30)).astype(np.float64)
    expected = scipy.sparse.csr_array((values, (rows, columns)), shape=(12, 700)) @ weights
    np.testing.assert_array_equal(ValueMatrix(rows, columns, values, (12, 700)) @ weights, expected)
