"""Declared preprocessing in words."""

from __future__ import annotations

from cxreval.preprocessing import (
    CropKind,
    EqualizeKind,
    Interpolation,
    Library,
    Preprocessing,
    ResizeTo,
    Square,
    TensorType,
)

_LIBRARIES = {
    Library.PILLOW: "Pillow",
    Library.OPENCV: "OpenCV",
    Library.SCIKIT_IMAGE: "scikit-image",
    Library.TORCH: "PyTorch",
    Library.TORCHXRAYVISION: "TorchXRayVision",
}
_EQUALIZED = {
    EqualizeKind.MINMAX: "stretched from its darkest to its brightest pixel",
    EqualizeKind.HISTOGRAM: "equalized by its histogram",
}
_SQUARED = {
    Square.CROP: "cropped to the central square",
    Square.PAD: "made square by black borders",
}
_CROPPED = {
    CropKind.CENTER: "the center of {} is taken",
    CropKind.FIVE: "center and four corners of {} are taken (the answer is their mean)",
    CropKind.TEN: (
        "center and four corners of {} are taken, also mirrored (the answer is their mean)"
    ),
}


def steps_in_words(steps: Preprocessing) -> dict[str, str]:
    """Returns what each step does to an image, by the step's name, in order.

    Steps that do nothing are left out; the steps are valid and normalised.
    """
    color = "three channels, gray repeated" if steps.channels == 3 else "gray"
    words = {"read": f"read as {color}", "levels": _levels(steps)}
    words["square"] = _SQUARED.get(steps.square, "")
    words["resize"] = _resized(steps) if steps.resize.to != ResizeTo.NONE else ""
    if steps.crop.kind != CropKind.NONE:
        words["crop"] = _CROPPED[steps.crop.kind].format(_size(steps.crop.size))
    words["values"] = _values(steps)
    words["tensor"] = f"{steps.dtype} in the order {steps.layout}"
    return {name: text for name, text in words.items() if text}


def describe(steps: Preprocessing) -> str:
    """Returns a sentence about what happens to an image; the steps are valid and normalised."""
    words = steps_in_words(steps)
    values, tensor = words.pop("values"), words.pop("tensor")
    crop = words.pop("crop", "")
    sentence = f"The image is {_joined([*words.values()])}"
    if crop:
        sentence += f"; {crop}"
    return f"{sentence}; {values}, as {tensor}."


def _levels(steps: Preprocessing) -> str:
    equalize = steps.equalize
    if equalize.kind == EqualizeKind.CLAHE:
        tiles = f"{equalize.tiles}x{equalize.tiles} tiles"
        return f"equalized by CLAHE with clip limit {equalize.clip:g} and {tiles}"
    return _EQUALIZED.get(equalize.kind, "")


def _resized(steps: Preprocessing) -> str:
    resize = steps.resize
    if resize.to == ResizeTo.EXACT:
        target = f"to {_size(resize.size)}"
    else:
        side = "short" if resize.to == ResizeTo.SHORT_SIDE else "long"
        target = f"so that its {side} side is {resize.size[0]}"
    antialias = ""
    if resize.interpolation not in (Interpolation.NEAREST, Interpolation.AREA):
        antialias = " and antialias" if resize.antialias else " without antialias"
    return f"resized with {_LIBRARIES[resize.library]} ({resize.interpolation}{antialias}) {target}"


def _values(steps: Preprocessing) -> str:
    if steps.dtype == TensorType.UINT8:
        return "values are 0 for black to 255 for white"
    black, white = steps.value_range
    text = f"values are {black:g} for black to {white:g} for white"
    if steps.mean:
        text += f", minus {_numbers(steps.mean)}"
    if steps.std:
        text += f", divided by {_numbers(steps.std)}"
    return text


def _size(size: tuple[int, ...]) -> str:
    return f"{size[0]}x{size[1]}"


def _numbers(values: tuple[float, ...]) -> str:
    return f"{values[0]:g}" if len(set(values)) == 1 else str([float(f"{v:g}") for v in values])


def _joined(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
