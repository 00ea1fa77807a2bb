"""Declared preprocessing: what a model needs done to an image before it sees it.

A declaration is data. `cxreval.imaging` carries it out, a manifest states it, and its digest is
part of every result.
"""

from cxreval.preprocessing.record import (
    ANTIALIAS,
    LARGEST_SIDE,
    PRESETS,
    SMALLEST_SIDE,
    Activation,
    Crop,
    CropKind,
    Equalize,
    EqualizeKind,
    Interpolation,
    Layout,
    Library,
    Outputs,
    Preprocessing,
    Resize,
    ResizeTo,
    Square,
    TensorType,
    pair,
)
from cxreval.preprocessing.rules import preprocessing_problems

__all__ = [
    "ANTIALIAS",
    "LARGEST_SIDE",
    "PRESETS",
    "SMALLEST_SIDE",
    "Activation",
    "Crop",
    "CropKind",
    "Equalize",
    "EqualizeKind",
    "Interpolation",
    "Layout",
    "Library",
    "Outputs",
    "Preprocessing",
    "Resize",
    "ResizeTo",
    "Square",
    "TensorType",
    "pair",
    "preprocessing_problems",
]
