"""Places for labels in a crowded picture, so that none covers another or a mark."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.leaderboard.charts.svg import Box, Label

_GAP = 4  # beside a label, so that two numbers are not read as one


class Crowd:
    """What a picture has so far: boxes that no label may cover, and boxes that it should not."""

    def __init__(self, inside: Box, hard: Sequence[Box], soft: Sequence[Box]) -> None:
        self._inside = inside
        self._hard = _array(hard)
        self._soft = _array(soft)

    def place(self, candidates: Sequence[Label], most_covered: int) -> Label | None:
        """Returns the first candidate that has room, and keeps its place for it.

        Returns None if every candidate leaves the picture, covers a hard box or an earlier label,
        or covers more than `most_covered` soft boxes.
        """
        for label in candidates:
            box = label.box
            if not _within(box, self._inside) or _covered(box, self._hard):
                continue
            if _covered(box, self._soft) <= most_covered:
                taken = Box(box.left - _GAP, box.top, box.right + _GAP, box.bottom)
                self._hard = np.vstack([self._hard, _array([taken])])
                return label
        return None


def _array(boxes: Sequence[Box]) -> NDArray[np.float64]:
    """Returns the boxes, shape (boxes, 4)."""
    rows = [(box.left, box.top, box.right, box.bottom) for box in boxes]
    return np.array(rows, np.float64).reshape(-1, 4)


def _covered(box: Box, others: NDArray[np.float64]) -> int:
    left, top, right, bottom = others.T
    meets = (box.left < right) & (left < box.right) & (box.top < bottom) & (top < box.bottom)
    return int(meets.sum())


def _within(box: Box, other: Box) -> bool:
    return (
        other.left <= box.left
        and box.right <= other.right
        and other.top <= box.top
        and box.bottom <= other.bottom
    )
