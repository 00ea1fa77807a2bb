"""The banded resize matrices equal SciPy's (used by scikit-image) and their definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from cxreval.imaging.resample import (
    PILLOW_PRECISION_BITS,
    from_fixed_point,
    gaussian_bilinear,
    pillow_bilinear,
)


def scipy_resize(image: np.ndarray, size: int) -> np.ndarray:
    """Resizes a square float64 image like `skimage.transform.resize` before its clip.

    The mode is "constant".
    """
    sigma = max(0.0, (len(image) / size - 1) / 2)
    blurred = ndimage.gaussian_filter(image, sigma, mode="constant") if sigma > 0 else image
    return np.asarray(
        ndimage.zoom(blurred, size / len(image), order=1, mode="grid-constant", grid_mode=True)
    )


@given(
    side=st.integers(1, 500),
    size=st.sampled_from([1, 16, 224, 512]),
    seed=st.integers(0, 2**32 - 1),
)
def test_gaussian_bilinear_equals_scipy(side: int, size: int, seed: int) -> None:
    image = np.random.default_rng(seed).uniform(-1, 1, (side, side))
    resampling = gaussian_bilinear(side, size)
    result = resampling.across(resampling.down(image))
    np.testing.assert_allclose(result, scipy_resize(image, size), atol=2e-6)


@given(side=st.integers(1, 3000), size=st.integers(1, 300))
def test_pillow_weights_sum_to_one_so_that_a_flat_image_stays_flat(side: int, size: int) -> None:
    resampling = pillow_bilinear(side, size, 0, size)
    flat = np.full((1, side), 255, np.uint8)
    np.testing.assert_array_equal(
        from_fixed_point(resampling.across(flat)), np.full((1, size), 255)
    )


@given(side=st.integers(1, 2000), start=st.integers(0, 200), length=st.integers(1, 60))
def test_pillow_part_equals_the_part_of_the_whole(side: int, start: int, length: int) -> None:
    row = np.random.default_rng(side).integers(0, 256, (1, side), dtype=np.uint8)
    whole = pillow_bilinear(side, 260, 0, 260).across(row)
    part = pillow_bilinear(side, 260, start, start + length).across(row)
    np.testing.assert_array_equal(part, whole[:, start : start + length])


def test_pillow_halving_weights_the_four_nearest_by_a_triangle() -> None:
    impulses = np.eye(16, dtype=np.uint8)
    weights = pillow_bilinear(16, 8, 3, 4).across(impulses)[:, 0] / 2**PILLOW_PRECISION_BITS
    np.testing.assert_allclose(weights[5:9], [1 / 8, 3 / 8, 3 / 8, 1 / 8])
    assert weights.sum() == pytest.approx(1)
