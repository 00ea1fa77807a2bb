"""The labels, patients and slices of the images of a report, as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_SLICES = 50
"""Maximum number of slices of a report."""

MAX_SLICE_CHARACTERS = 100
"""Maximum length of the name of a slice."""


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """The images that share one value of a dimension: `sex`, `age` or `view`.

    `rows`: shape (n,), bool, True for the images of the slice.
    """

    dimension: str
    value: str
    rows: NDArray[np.bool_]

    @property
    def name(self) -> str:
        """The name of the slice in a report, for example `sex=F`."""
        return f"{self.dimension}={self.value}"


@dataclass(frozen=True, slots=True, eq=False)
class Cohort:
    """The labels and patients of n images, in a fixed order.

    `labels`: shape (n, findings), bool, True where the finding is present. `known`: same shape,
    False where the label is unknown; metrics ignore such labels. `patients`: shape (n,), numbers
    from 0 to `patient_count` - 1.
    """

    findings: tuple[str, ...]
    labels: NDArray[np.bool_]
    known: NDArray[np.bool_]
    patients: NDArray[np.int64]
    patient_count: int
    slices: tuple[Slice, ...] = ()
