"""Resizes of one channel, each equal to that of the library it is named after.

The filters of Pillow, PyTorch, scikit-image and OpenCV are linear and separable, so each resize is
two banded matrices (`cxreval.imaging.resample`). The libraries differ in the kernel and in where
they round: Pillow after each pass, OpenCV at the end, the others nowhere. OpenCV's bilinear resize
has two taps an axis and whole numbers, so it gathers samples instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, partial

import numpy as np
import numpy.typing as npt

from cxreval.imaging import kernels
from cxreval.imaging.fixed_point import fixed_point
from cxreval.imaging.resample import Axis, Resampling, resampling, wanted_taps
from cxreval.preprocessing import Interpolation, Library, Resize

_CHUNK_ROWS = 2048  # of the first pass, which is in float32
_LARGE_PASS = 2**24
_GATHERED_ROWS = 32  # at a time, so that sums and gathered samples stay in the processor's cache
_CACHED_SIZES = 64

Samples = npt.NDArray[np.uint8] | npt.NDArray[np.uint16] | npt.NDArray[np.float32]
Resizer = Callable[[Samples, Axis, Axis], Samples]
"""Returns the wanted outputs of one channel (H, W), given its axes down and across.

uint8 gives uint8; the resizes of float give float32 in the units of the channel."""


def resizer(resize: Resize) -> Resizer:
    """Returns the function that carries out a valid and normalised resize."""
    interpolation, library = resize.interpolation, resize.library
    if interpolation == Interpolation.NEAREST:
        return partial(_pick, _NEAREST[library])
    if library == Library.PILLOW:
        return partial(_pillow, kernels.antialiased(*_KERNELS[interpolation]))
    if library == Library.OPENCV:
        return _OPENCV[interpolation]
    if library == Library.TORCH:
        return partial(_float, _torch(resize))
    order = 3 if interpolation == Interpolation.BICUBIC else 1
    taps = kernels.scikit_image(
        order, antialias=bool(resize.antialias), mirrored=library == Library.SCIKIT_IMAGE
    )
    return partial(_clipped if order == 3 else _float, taps)


def _torch(resize: Resize) -> kernels.Taps:
    if resize.interpolation == Interpolation.AREA:
        return kernels.torch_area
    if resize.antialias:
        return kernels.antialiased(*_KERNELS[resize.interpolation], np.float32)
    return _INTERPOLATED[resize.interpolation]


_KERNELS: Mapping[Interpolation, tuple[kernels.Kernel, float]] = {
    Interpolation.AREA: (kernels.box, 0.5),
    Interpolation.BILINEAR: (kernels.triangle, 1.0),
    Interpolation.BICUBIC: (kernels.cubic(-0.5), 2.0),
    Interpolation.LANCZOS: (kernels.lanczos(3), 3.0),
}
"""Pillow's kernels and their support; those of PyTorch's antialias are equal."""

_INTERPOLATED: Mapping[Interpolation, kernels.Taps] = {
    Interpolation.BILINEAR: kernels.interpolated(kernels.triangle, 1),
    Interpolation.BICUBIC: kernels.interpolated(kernels.cubic(-0.75), 2),
}
"""PyTorch's interpolation without antialias."""

_NEAREST = {
    Library.PILLOW: kernels.nearest_pillow,
    Library.OPENCV: kernels.nearest_opencv,
    Library.TORCH: kernels.nearest_torch,
    Library.SCIKIT_IMAGE: kernels.nearest_scikit_image,
}


def _pick(
    nearest: Callable[[int, int, kernels.Positions], kernels.Positions],
    channel: Samples,
    down: Axis,
    across: Axis,
) -> Samples:
    rows, columns = (nearest(axis.size_in, axis.size_out, axis.outputs) for axis in (down, across))
    return channel[rows[:, np.newaxis], columns]


def _pillow(taps: kernels.Taps, channel: Samples, down: Axis, across: Axis) -> Samples:
    """Resizes like Pillow: across, then down, in fixed point, with 8 bits after each pass.

    Since version 13, Pillow resizes down first if the height shrinks much more than the width; then
    one 8-bit level may differ. Here the order does not depend on a version; only an image with very
    many rows is resized down first, because the first pass would take gigabytes.
    """
    rows, columns = fixed_point(taps, down), fixed_point(taps, across)
    picked = channel[rows.matrix.needed]
    if len(picked) * columns.matrix.size_out > _LARGE_PASS:
        return columns.across(rows.down(picked))
    first = np.empty((len(picked), columns.matrix.size_out), np.uint8)
    for start in range(0, len(picked), _CHUNK_ROWS):
        part = slice(start, start + _CHUNK_ROWS)
        first[part] = columns.across(picked[part])
    return rows.down(first)


def _float(taps: kernels.Taps, channel: Samples, down: Axis, across: Axis) -> Samples:
    return _product(channel, resampling(taps, down), resampling(taps, across))


def _product(channel: Samples, rows: Resampling, columns: Resampling) -> npt.NDArray[np.float32]:
    """Returns both passes in float32, the one that leaves fewer samples first."""
    height, width = channel.shape
    if rows.size_out * width <= columns.size_out * height:
        return columns.across(rows.down(channel)).astype(np.float32, copy=False)
    return rows.down(columns.across(channel)).astype(np.float32, copy=False)


def _clipped(taps: kernels.Taps, channel: Samples, down: Axis, across: Axis) -> Samples:
    out = _float(taps, channel, down, across)
    clipped: Samples = np.clip(out, channel.min(), channel.max()).astype(np.float32)
    return clipped


def _opencv(taps: kernels.Taps, channel: Samples, down: Axis, across: Axis) -> Samples:
    """Resizes like OpenCV: weights of 11 bits, rounded to 8 bits at the end."""
    rows, columns = resampling(taps, down), resampling(taps, across)
    values = _product(channel, rows, columns)
    values *= 4.0**-kernels.OPENCV_BITS
    values += 0.5
    return np.clip(values, 0, 255, out=values).astype(np.uint8)


def _opencv_linear(taps: kernels.Taps, channel: Samples, down: Axis, across: Axis) -> Samples:
    """Resizes like OpenCV's `INTER_LINEAR`, whose second pass drops bits of each product."""
    rows, row_weights = _two_taps(taps, down)
    columns, column_weights = _two_taps(taps, across)
    samples = np.ascontiguousarray(channel)  # else each gathering copies it
    out = np.empty((rows.shape[1], columns.shape[1]), np.uint8)
    for start in range(0, len(out), _GATHERED_ROWS):
        part = slice(start, start + _GATHERED_ROWS)
        picked = samples.take(rows[:, part].ravel(), axis=0, mode="clip")
        first, second = (picked.take(tap, axis=1, mode="clip").astype(np.int32) for tap in columns)
        first *= column_weights[0]
        second *= column_weights[1]
        first += second
        first >>= 4
        both = first.reshape(2, -1, columns.shape[1])
        both *= row_weights[:, part, np.newaxis]
        both >>= 16
        upper, lower = both
        upper += lower
        upper += 2
        upper >>= 2
        out[part] = upper
    return out


@lru_cache(maxsize=_CACHED_SIZES)
def _two_taps(taps: kernels.Taps, axis: Axis) -> tuple[kernels.Positions, npt.NDArray[np.int32]]:
    """Returns positions and whole weights of the wanted outputs, both of shape (2, outputs)."""
    positions, weights = wanted_taps(taps, axis)
    return np.ascontiguousarray(positions.T), np.ascontiguousarray(weights.T, np.int32)


def _opencv_area(channel: Samples, down: Axis, across: Axis) -> Samples:
    if down.size_in < down.size_out or across.size_in < across.size_out:
        return _opencv_linear(kernels.opencv_area_enlarged, channel, down, across)
    values = _float(kernels.opencv_area, channel, down, across)
    return np.rint(values).clip(0, 255).astype(np.uint8)


_OPENCV: Mapping[Interpolation, Resizer] = {
    Interpolation.AREA: _opencv_area,
    Interpolation.BILINEAR: partial(_opencv_linear, kernels.opencv(kernels.triangle, 1)),
    Interpolation.BICUBIC: partial(_opencv, kernels.opencv(kernels.cubic(-0.75), 2)),
    Interpolation.LANCZOS: partial(_opencv, kernels.opencv(kernels.lanczos(4), 4)),
}
