"""The type of a decoded image, and what all formats share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from cxreval.errors import ImageTooLarge, ImageUnreadable

Image = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
"""A decoded image: (H, W), or (H, W, C) with 1 to 4 channels: gray, gray and alpha, RGB, RGB and
alpha."""


def unreadable(problem: str) -> ImageUnreadable:
    """Returns the error for an unreadable image; `problem` must not name a patient."""
    expected = "a complete PNG, JPEG or DICOM image"
    return ImageUnreadable(
        f"image is unreadable: {problem}; expected {expected}", field="image", expected=expected
    )


def run_codec(codec: Callable[[bytes], Image], data: bytes, problem: str) -> Image:
    """Returns what a codec makes of the data.

    Raises:
        ImageUnreadable: the codec cannot read them; the message begins with `problem`.
        MemoryError: memory does not suffice.
    """
    try:
        return codec(data)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 -- any exception means that the codec cannot read it
        raise unreadable(f"{problem}: {error}") from None


def check_pixels(width: int, height: int, max_pixels: int) -> None:
    """Checks the size in a header, before memory is allocated for it.

    Raises:
        ImageUnreadable: a side is zero.
        ImageTooLarge: it has more than `max_pixels`.
    """
    if width == 0 or height == 0:
        raise unreadable(f"its header says {width}x{height} pixels")
    if width * height > max_pixels:
        message = (
            f"image is {width}x{height}, {width * height} pixels; expected at most {max_pixels}"
        )
        expected = f"at most {max_pixels} pixels"
        raise ImageTooLarge(message, field="image", expected=expected, width=width, height=height)
