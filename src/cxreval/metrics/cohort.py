"""The labelled images that a report is about, as plain arrays: labels, patients, slices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """Some of the images: those whose `dimension` (`sex`, `age`, `view`) has this `value`. `rows`:
    shape (n,), bool."""

    dimension: str
    value: str
    rows: NDArray[np.bool_]

    @property
    def name(self) -> str:
        """How a report calls it, for example `sex=F`."""
        return f"{self.dimension}={self.value}"


@dataclass(frozen=True, slots=True, eq=False)
class Cohort:
    """n images in a fixed order.

    `labels`: shape (n, findings), True where the finding is present. `known`: same shape, False
    where nobody knows;
    such a cell counts nowhere. `patients`: shape (n,), numbers from 0 to `patient_count` - 1.
    """

    findings: tuple[str, ...]
    labels: NDArray[np.bool_]
    known: NDArray[np.bool_]
    patients: NDArray[np.int64]
    patient_count: int
    slices: tuple[Slice, ...] = ()
