"""Draws what a model sees of an image."""

from __future__ import annotations

import imagecodecs
import numpy as np
import numpy.typing as npt

from cxreval.imaging.image import Image
from cxreval.imaging.preprocess import profile_of
from cxreval.preprocessing import Layout, Preprocessing, TensorType

_GAP = 4  # white columns between crops


def preview_png(image: Image, preprocessing: Preprocessing) -> bytes:
    """Returns a PNG of the tensors of an image, with mean and std undone, crops side by side.

    Black and white are those of `value_range`. It is gray if the channels are equal.
    """
    steps = preprocessing.normalised
    tensors = profile_of(steps).apply(image)
    if steps.layout != Layout.NHWC:
        tensors = np.moveaxis(tensors, 1, 3)
    levels = _levels(tensors.astype(np.float32), steps)
    gap = np.full((levels.shape[1], _GAP, levels.shape[3]), 255, np.uint8)
    parts = [part for crop in levels for part in (gap, crop)][1:]
    picture = np.concatenate(parts, axis=1)
    if (picture == picture[..., :1]).all():
        picture = picture[..., 0]
    return bytes(imagecodecs.png_encode(np.ascontiguousarray(picture)))


def _levels(values: npt.NDArray[np.float32], steps: Preprocessing) -> npt.NDArray[np.uint8]:
    """Returns values (..., C) as levels from 0 to 255."""
    if steps.dtype != TensorType.UINT8:
        black, white = steps.value_range
        std, mean = (
            np.array(steps.std or (1,), np.float32),
            np.array(steps.mean or (0,), np.float32),
        )
        values = values * std + mean
        values = (values - np.float32(black)) * np.float32(255 / (white - black))
    return np.rint(values).clip(0, 255).astype(np.uint8)
