"""The bootstrap over patients: every metric of a finding under many resamples at once.

A replicate draws as many patients as there are, with replacement, and takes all images of each
patient as often as the patient was drawn (Field and Welsh, Journal of the Royal Statistical Society
B 69, 2007). Images of one patient are alike, so that drawing images instead would promise too much.

The draws depend on the benchmark's seed and the number of its patients and on nothing else: every
submission meets the same resamples, and the difference of two replicate vectors is the paired
difference of two submissions.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy  # its parts are loaded when they are first used
from numpy.typing import NDArray

from cxreval.metrics.calibration import BINS, bins
from cxreval.metrics.registry import SPECIFICITIES
from cxreval.metrics.thresholds import required_negatives

_CHUNK = 256
"""Replicates computed together: enough to keep NumPy's loops long, few enough for a core's
cache."""

_EXACT = 1 << 23
"""Number of images below which float32 counts exactly, doubled ones included; beyond it float64
does."""

_BLOCK = 32
"""Rows that one step of a running sum skips."""


def patient_weights(
    seed: int, patient_count: int, replicates: int
) -> Iterator[NDArray[np.float32]]:
    """How often each replicate draws each patient, in pieces of shape (patient_count, at most 256).

    The numbers come from the raw 64-bit words of PCG64, a stream that NumPy promises never to
    change, so that a report can be computed again in years.
    """
    generator = np.random.PCG64(seed)
    for first in range(0, replicates, _CHUNK):
        count = min(_CHUNK, replicates - first)
        words = generator.random_raw(count * patient_count).reshape(count, patient_count)
        drawn = ((words >> np.uint64(32)) * np.uint64(patient_count) >> np.uint64(32)).astype(
            np.int64
        )
        cells = drawn * count + np.arange(count)[:, np.newaxis]
        yield (
            np.bincount(cells.ravel(), minlength=patient_count * count)
            .reshape(patient_count, count)
            .astype(np.float32)
        )


class FindingResampler:
    """One finding's scores, arranged once so that each replicate costs two sparse products.

    Between two neighbouring scores of positives it does not matter how the negatives are ordered,
    only how many of
    each patient there are: that is the sparse matrix `_negatives`, whose product with the patients'
    weights counts them for all replicates at once.
    """

    def __init__(
        self,
        scores: NDArray[np.float32],
        positive: NDArray[np.bool_],
        patients: NDArray[np.int64],
        patient_count: int,
    ) -> None:
        """`scores`, `positive` and `patients` have shape (n,); patients are numbers below
        `patient_count`."""
        values = np.unique(scores[positive])
        low = scores[~positive]
        place = np.searchsorted(values, low)
        tied = np.isin(low, values)
        # Row d: negatives above the positives' score d - 1 and not above score d; the last row:
        # those above all.
        self._negatives = _counts(place, patients[~positive], (values.size + 1, patient_count))
        self._tied_rows, row = np.unique(place[tied], return_inverse=True)
        self._tied = _counts(row, patients[~positive][tied], (self._tied_rows.size, patient_count))
        at = np.searchsorted(values, scores[positive])
        self._positives = _counts(at, patients[positive], (values.size, patient_count))
        self._images = scores.size

    def replicates(
        self, weights: NDArray[np.float32], *, auroc_only: bool = False
    ) -> dict[str, NDArray[np.float64]]:
        """The metrics that walk along thresholds, by name, each of shape (replicates,), NaN where
        only one class is.

        Args:
            weights: shape (patient_count, replicates), whole numbers.
            auroc_only: leave out all other metrics.
        """
        if self._images * weights.max(initial=0) >= _EXACT:
            weights = weights.astype(np.float64)
        hits, tied = self._positives @ weights, self._tied @ weights
        below = _running_sum(self._negatives @ weights)
        negatives, below = below[-1].astype(np.float64), below[:-1]
        positives = hits.sum(axis=0, dtype=np.float64)
        positives[(positives == 0) | (negatives == 0)] = np.nan
        below[self._tied_rows] -= tied
        ordered = 2 * _dot(hits, below) + _dot(hits[self._tied_rows], tied)
        found = {"auroc": ordered / (2 * positives * np.maximum(negatives, 1))}
        if auroc_only:
            return found
        reached = positives - _running_sum(hits.copy()) + hits
        # Where nothing is reached the precision has no meaning, and no weight.
        precision = reached / np.maximum(reached + (negatives - below), 1)
        found["average_precision"] = _dot(hits, precision) / positives
        for name, specificity in SPECIFICITIES.items():
            enough = below >= required_negatives(specificity, negatives.astype(np.int64))
            found[name] = np.sum(hits, axis=0, where=enough, dtype=np.float64) / positives
        return found


def _dot(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.float64]:
    """Sum over rows of the products, in float64, so that counts stay exact."""
    summed: NDArray[np.float64] = np.einsum(
        "ij,ij->j", first, second, dtype=np.float64, casting="safe"
    )
    return summed


def _running_sum(rows: NDArray[np.floating]) -> NDArray[np.floating]:
    """`np.cumsum` over the rows, in place. NumPy's own walks down column by column, five times
    slower."""
    whole = len(rows) - len(rows) % _BLOCK
    blocks = rows[:whole].reshape(-1, _BLOCK, rows.shape[1])
    for row in range(1, _BLOCK):
        blocks[:, row] += blocks[:, row - 1]
    np.cumsum(blocks[:, -1], axis=0, out=blocks[:, -1])
    blocks[1:, :-1] += blocks[:-1, -1:]
    rest = rows[max(whole - 1, 0) :]
    np.cumsum(rest, axis=0, out=rest)
    return rows


class CalibrationResampler:
    """One finding's probabilities, summed by patient and bin once, so that a replicate costs one
    sparse product."""

    METRICS = frozenset({"brier", "calibration_error"})
    """What `replicates` computes."""

    def __init__(
        self,
        probabilities: NDArray[np.float32],
        positive: NDArray[np.bool_],
        patients: NDArray[np.int64],
        patient_count: int,
    ) -> None:
        """Arguments as for `FindingResampler`."""
        gap = probabilities - positive.astype(np.float64)
        # A row for each bin's gaps, then one for the squares and one for the number of images.
        rows = np.concatenate(
            [bins(probabilities), np.full_like(patients, BINS), np.full_like(patients, BINS + 1)]
        )
        values = np.concatenate([gap, np.square(gap), np.ones_like(gap)])
        self._sums = scipy.sparse.csr_array(
            (values, (rows, np.tile(patients, 3))), shape=(BINS + 2, patient_count)
        )

    def replicates(self, weights: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
        """Brier score and calibration error by name, each of shape (replicates,), NaN where no
        image is."""
        *gaps, squares, images = self._sums @ weights.astype(np.float64)
        images[images == 0] = np.nan
        return {"brier": squares / images, "calibration_error": np.abs(gaps).sum(axis=0) / images}


def _counts(
    rows: NDArray[np.int64], patients: NDArray[np.int64], shape: tuple[int, int]
) -> scipy.sparse.csr_array:
    """How many images fall into each row and patient."""
    return scipy.sparse.csr_array((np.ones(rows.size, np.float32), (rows, patients)), shape=shape)
