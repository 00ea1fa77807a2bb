"""Computes the replicates of metrics by the bootstrap over patients.

A resample draws as many patients as there are, with replacement, and takes all images of each
patient as often as the patient was drawn (Field and Welsh, Journal of the Royal Statistical Society
B 69, 2007). Images of one patient are correlated, so that drawing images would give intervals that
are too narrow.

The draws depend only on the benchmark's seed and number of patients. Every submission therefore has
the same resamples, and the difference of two replicate vectors is the paired difference of two
submissions.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cxreval.metrics.calibration import BINS, bins
from cxreval.metrics.registry import SPECIFICITIES
from cxreval.metrics.sparse import PIECE, CountMatrix, ValueMatrix
from cxreval.metrics.thresholds import required_negatives

_CHUNK = 256
"""Number of resamples computed together: many for long NumPy loops, few enough for the cache."""

_EXACT = 1 << 23
"""Number of drawn images from which float32 cannot hold twice their count; float64 is used."""

_BLOCK = 32
"""Number of rows in a block of a running sum."""


def patient_weights(
    seed: int, patient_count: int, replicates: int
) -> Iterator[NDArray[np.float32]]:
    """Yields how often each resample draws each patient, in shape (patient_count, up to 256).

    The numbers come from the raw 64-bit words of PCG64, a stream that NumPy guarantees not to
    change, so that a report can be recomputed at any time.
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
    """Computes the replicates of a finding's metrics by sparse products.

    The order of the negatives between two neighbouring scores of positives does not matter, only
    the number of them from each patient. The sparse matrix `_negatives` holds these numbers; its
    product with the patients' weights gives the counts for many resamples at once.
    """

    def __init__(
        self,
        scores: NDArray[np.float32],
        positive: NDArray[np.bool_],
        patients: NDArray[np.int64],
        patient_count: int,
    ) -> None:
        """Arranges the images of a finding.

        `scores`, `positive` and `patients` have shape (n,); a patient is a number from 0 to
        `patient_count` - 1.
        """
        values = np.unique(scores[positive])
        low = scores[~positive]
        rows = np.searchsorted(values, low)
        tied = np.isin(low, values)
        # Row d has the negatives above the positives' distinct score d - 1 and not above score d;
        # the last row has those above all scores.
        self._negatives = CountMatrix(rows, patients[~positive], (values.size + 1, patient_count))
        self._tied_rows, tied_rows = np.unique(rows[tied], return_inverse=True)
        self._tied = CountMatrix(
            tied_rows, patients[~positive][tied], (self._tied_rows.size, patient_count)
        )
        rows = np.searchsorted(values, scores[positive])
        self._positives = CountMatrix(rows, patients[positive], (values.size, patient_count))
        self._images = scores.size

    def replicates(
        self, weights: NDArray[np.float32], *, auroc_only: bool = False
    ) -> dict[str, NDArray[np.float64]]:
        """Returns the replicates of AUROC, average precision and sensitivities, by metric.

        Each has shape (replicates,), NaN where only one class is present.

        Args:
            weights: shape (patient_count, replicates), whole numbers.
            auroc_only: whether to leave out all other metrics.
        """
        most = weights.max(initial=0)
        dtype = np.dtype(np.float64 if self._images * most >= _EXACT else weights.dtype)
        # A patient is rarely drawn more than ten times, and bytes are added faster than floats.
        drawn = weights.astype(np.uint8 if PIECE * most <= np.iinfo(np.uint8).max else dtype)
        hits, tied = self._positives.times(drawn, dtype), self._tied.times(drawn, dtype)
        below = _running_sum(self._negatives.times(drawn, dtype))
        negatives, below = below[-1].astype(np.float64), below[:-1]
        positives = hits.sum(axis=0, dtype=np.float64)
        positives[(positives == 0) | (negatives == 0)] = np.nan
        below[self._tied_rows] -= tied
        ordered = 2 * _dot(hits, below) + _dot(hits[self._tied_rows], tied)
        replicates = {"auroc": ordered / (2 * positives * np.maximum(negatives, 1))}
        if auroc_only:
            return replicates
        reached = positives - _running_sum(hits.copy()) + hits
        # Where no image is reached the precision is undefined, but its weight is 0.
        precision = reached / np.maximum(reached + (negatives - below), 1)
        replicates["average_precision"] = _dot(hits, precision) / positives
        for name, specificity in SPECIFICITIES.items():
            enough = below >= required_negatives(specificity, negatives.astype(np.int64))
            reached_share = np.sum(hits, axis=0, where=enough, dtype=np.float64) / positives
            replicates[name] = reached_share
        return replicates


def _dot(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.float64]:
    """Returns the sums over rows of the products, in float64, so that counts stay exact."""
    summed: NDArray[np.float64] = np.einsum(
        "ij,ij->j", first, second, dtype=np.float64, casting="safe"
    )
    return summed


def _running_sum(rows: NDArray[np.floating]) -> NDArray[np.floating]:
    """Returns `np.cumsum` over the rows, in place; five times faster, as it adds whole rows."""
    in_blocks = len(rows) - len(rows) % _BLOCK
    blocks = rows[:in_blocks].reshape(-1, _BLOCK, rows.shape[1])
    for row in range(1, _BLOCK):
        blocks[:, row] += blocks[:, row - 1]
    np.cumsum(blocks[:, -1], axis=0, out=blocks[:, -1])
    blocks[1:, :-1] += blocks[:-1, -1:]
    rest = rows[max(in_blocks - 1, 0) :]
    np.cumsum(rest, axis=0, out=rest)
    return rows


class CalibrationResampler:
    """Computes the replicates of a finding's calibration metrics by one sparse product.

    Its matrix holds sums of the finding's probabilities by patient and bin.
    """

    METRICS = frozenset({"brier", "calibration_error"})
    """Names of the metrics that `replicates` computes."""

    def __init__(
        self,
        probabilities: NDArray[np.float32],
        positive: NDArray[np.bool_],
        patients: NDArray[np.int64],
        patient_count: int,
    ) -> None:
        """Sums a finding's probabilities; arguments as for `FindingResampler`."""
        gap = probabilities - positive.astype(np.float64)
        # A row of gaps for each bin, then a row of squares and one of numbers of images.
        rows = np.concatenate(
            [bins(probabilities), np.full_like(patients, BINS), np.full_like(patients, BINS + 1)]
        )
        values = np.concatenate([gap, np.square(gap), np.ones_like(gap)])
        self._sums = ValueMatrix(rows, np.tile(patients, 3), values, (BINS + 2, patient_count))

    def replicates(self, weights: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
        """Returns the replicates of Brier score and calibration error, by metric.

        Each has shape (replicates,), NaN where no image is drawn.
        """
        *gaps, squares, images = self._sums @ weights.astype(np.float64)
        images[images == 0] = np.nan
        return {"brier": squares / images, "calibration_error": np.abs(gaps).sum(axis=0) / images}
