"""The banded resize matrices equal SciPy's (used by scikit-image) and their definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cxreval.errors import ImageTooLarge
from cxreval.imaging import kernels
from cxreval.imaging.fixed_point import PRECISION_BITS, FixedPoint, fixed_point
from cxreval.imaging.resample import Axis, resampling, wanted_taps
from cxreval.imaging.resize import resizer
from cxreval.preprocessing import Interpolation, Library, Resize, ResizeTo

XRV = kernels.scikit_image(1, antialias=True, mirrored=False)
TAPS = {
    "box": kernels.antialiased(kernels.box, 0.5),
    "triangle": kernels.antialiased(kernels.triangle, 1.0),
    "cubic": kernels.antialiased(kernels.cubic(-0.5), 2.0),
    "lanczos": kernels.antialiased(kernels.lanczos(3), 3.0),
    "triangle without filter": kernels.interpolated(kernels.triangle, 1),
    "cubic without filter": kernels.interpolated(kernels.cubic(-0.75), 2),
    "torch area": kernels.torch_area,
    "opencv area": kernels.opencv_area,
    "spline": kernels.scikit_image(3, antialias=True, mirrored=True),
    "blur": kernels.scikit_image(1, antialias=True, mirrored=True),
}


def pillow_bilinear(size_in: int, size_out: int, start: int, stop: int) -> FixedPoint:
    return fixed_point(TAPS["triangle"], Axis(size_in, size_out, (start,), stop - start))


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
def test_zero_padded_blur_and_interpolation_equal_scipy(side: int, size: int, seed: int) -> None:
    image = np.random.default_rng(seed).uniform(-1, 1, (side, side))
    matrix = resampling(XRV, Axis(side, size, (0,), size))
    result = matrix.across(matrix.down(image))
    np.testing.assert_allclose(result, scipy_resize(image, size), atol=2e-6)


@given(side=st.integers(1, 3000), size=st.integers(1, 300))
def test_pillow_weights_sum_to_one_so_that_a_flat_image_stays_flat(side: int, size: int) -> None:
    matrix = pillow_bilinear(side, size, 0, size)
    flat = np.full((1, side), 255, np.uint8)
    np.testing.assert_array_equal(matrix.across(flat), np.full((1, size), 255))


@given(side=st.integers(1, 2000), start=st.integers(0, 200), length=st.integers(1, 60))
def test_pillow_part_equals_the_part_of_the_whole(side: int, start: int, length: int) -> None:
    row = np.random.default_rng(side).integers(0, 256, (1, side), dtype=np.uint8)
    whole = pillow_bilinear(side, 260, 0, 260).across(row)
    part = pillow_bilinear(side, 260, start, start + length).across(row)
    np.testing.assert_array_equal(part, whole[:, start : start + length])


def test_pillow_halving_weights_the_four_nearest_by_a_triangle() -> None:
    weights = pillow_bilinear(16, 8, 3, 4).matrix.across(np.eye(16, dtype=np.uint8))[:, 0]
    np.testing.assert_allclose(weights[5:9], [1 / 8, 3 / 8, 3 / 8, 1 / 8])
    assert weights.sum() == pytest.approx(1)


@settings(max_examples=40)
@given(
    side=st.integers(1, 900),
    size=st.integers(1, 300),
    name=st.sampled_from(["box", "triangle", "cubic", "lanczos"]),
    levels=st.sampled_from([(0, 256), (0, 2), (254, 256), (127, 129)]),
)
def test_fixed_point_equals_sums_of_whole_numbers(
    side: int, size: int, name: str, levels: tuple[int, int]
) -> None:
    axis = Axis(side, size, (0,), size)
    image = np.random.default_rng(side).integers(*levels, (9, side), dtype=np.uint8)
    positions, weights = TAPS[name](side, size, axis.outputs)
    whole = np.trunc(weights * 2**PRECISION_BITS + np.copysign(0.5, weights)).astype(np.int64)
    sums = (image[:, positions.clip(0, side - 1)] * whole).sum(axis=2) + 2 ** (PRECISION_BITS - 1)
    expected = (sums >> PRECISION_BITS).clip(0, 255)
    matrix = fixed_point(TAPS[name], axis)
    np.testing.assert_array_equal(matrix.across(image), expected)
    rows = np.ascontiguousarray(image.T)[matrix.matrix.needed]
    np.testing.assert_array_equal(matrix.down(rows), expected.T)


@settings(max_examples=40)
@given(
    shape=st.tuples(st.integers(1, 200), st.integers(1, 200)),
    size=st.tuples(st.integers(16, 100), st.integers(16, 100)),
    levels=st.sampled_from([(0, 256), (0, 2), (254, 256)]),
)
def test_opencvs_bilinear_equals_sums_of_whole_numbers(
    shape: tuple[int, int], size: tuple[int, int], levels: tuple[int, int]
) -> None:
    image = np.random.default_rng(shape).integers(*levels, shape, dtype=np.uint8)
    down, across = (Axis(*sides, (0,), sides[1]) for sides in zip(shape, size, strict=True))
    taps = kernels.opencv(kernels.triangle, 1)
    rows, row_weights = (part.astype(np.int64) for part in wanted_taps(taps, down))
    columns, column_weights = (part.astype(np.int64) for part in wanted_taps(taps, across))
    first = (image[:, columns] * column_weights).sum(axis=2) >> 4
    expected = ((first[rows] * row_weights[:, :, np.newaxis] >> 16).sum(axis=1) + 2) >> 2
    resize = Resize(ResizeTo.EXACT, size, Interpolation.BILINEAR, None, Library.OPENCV)
    for channel in (image, np.repeat(image, 3).reshape(*shape, 3)[:, :, 1]):  # whole, and a view
        np.testing.assert_array_equal(resizer(resize)(channel, down, across), expected)


@pytest.mark.parametrize("name", TAPS)
@settings(max_examples=15)
@given(side=st.integers(1, 3000), size=st.integers(1, 300))
def test_every_kernel_keeps_a_flat_image_flat(name: str, side: int, size: int) -> None:
    if name == "opencv area" and side < size:
        return  # OpenCV interpolates then
    flat = np.ones((1, side), np.float32)
    matrix = resampling(TAPS[name], Axis(side, size, (0,), size))
    np.testing.assert_allclose(matrix.across(flat), np.ones((1, size)), atol=2e-6)
    np.testing.assert_allclose(matrix.down(flat.T), np.ones((size, 1)), atol=2e-6)


@given(
    side=st.integers(1, 2000),
    size=st.integers(60, 300),
    starts=st.sets(st.integers(0, 40), min_size=1, max_size=4),
    name=st.sampled_from(sorted(TAPS)),
)
def test_wanted_outputs_equal_those_of_the_whole(
    side: int, size: int, starts: set[int], name: str
) -> None:
    row = np.random.default_rng(side).integers(0, 256, (1, side)).astype(np.float32)
    axis = Axis(side, size, tuple(sorted(starts)), 20)
    whole = resampling(TAPS[name], Axis(side, size, (0,), size)).across(row)
    part = resampling(TAPS[name], axis).across(row)
    np.testing.assert_allclose(part, whole[:, axis.outputs], atol=1e-3)


def test_a_side_that_needs_too_many_weights_is_refused() -> None:
    with pytest.raises(ImageTooLarge, match="too long to resize it to 2048"):
        resampling(TAPS["cubic"], Axis(64_000_000, 2048, (0,), 2048))
