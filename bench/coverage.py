"""Benchmark: coverage of the 95 % intervals on 500 clustered random data sets of a known AUROC.

    .venv/bin/python -m bench.coverage [--draws 500] [--patients 400] [--replicates 2000]

A patient has 1 to 60 images; most have few. Images of one patient share a normal patient effect on
their scores, and most of their labels. A negative's score is N(0, 1 + t²) and a positive's
N(m, 1 + t²), where t is the standard deviation of the patient effect, so that the AUROC of an
infinite benchmark is Φ(m / sqrt(2 (1 + t²))). The script prints how many intervals contain it:
percentiles over resampled patients, as in every report; the clustered DeLong intervals; and, for
comparison, both with every image treated as a patient of its own.
"""

from __future__ import annotations

import argparse
import os
import time

import numpy as np
from cxreval.metrics.score import INTERVAL_PERCENTILES
from numpy.typing import NDArray
from scipy.special import ndtr

from cxreval.metrics.auroc import auroc
from cxreval.metrics.delong import covariance, placement_sums
from cxreval.metrics.resampling import FindingResampler, patient_weights

SHIFT, PATIENT_EFFECT = 1.6, 1.0
AUROC = float(ndtr(SHIFT / np.sqrt(2 * (1 + PATIENT_EFFECT**2))))
ILL, POSITIVE_IF_ILL, POSITIVE_IF_NOT = 0.3, 0.6, 0.02
MOST_IMAGES = 60

Draw = tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.int64]]
"""Scores, labels and patients, each of shape (images,)."""


def main() -> None:
    """Prints the coverage and the mean width of the intervals."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--patients", type=int, default=400)
    parser.add_argument("--replicates", type=int, default=2000)
    arguments = parser.parse_args()
    start = time.perf_counter()
    methods: dict[str, list[tuple[float, float]]] = {}
    for seed in range(arguments.draws):
        scores, positive, patients = draw(seed, arguments.patients)
        images = np.arange(patients.size)
        for name, clusters in (("patients", patients), ("images", images)):
            bootstrap = percentiles(scores, positive, clusters, seed, arguments.replicates)
            methods.setdefault(f"bootstrap over {name}", []).append(bootstrap)
            methods.setdefault(f"DeLong over {name}", []).append(delong(scores, positive, clusters))
    print(
        f"{arguments.draws} draws of {arguments.patients} patients, AUROC {AUROC:.4f}, "
        f"load {os.getloadavg()[0]:.2f}"
    )
    for name, intervals in methods.items():
        low, high = np.array(intervals).T
        coverage = np.mean((low <= AUROC) & (high >= AUROC))
        print(f"  {name:<24} coverage {coverage:6.1%}   mean width {np.mean(high - low):.4f}")
    print(f"{time.perf_counter() - start:.0f} s")


def draw(seed: int, patient_count: int) -> Draw:
    """Returns one random benchmark with one model's scores."""
    generator = np.random.default_rng(seed)
    sizes = np.minimum(1 + generator.geometric(0.25, patient_count) ** 2 // 3, MOST_IMAGES)
    patients = np.repeat(np.arange(patient_count), sizes)
    ill = generator.random(patient_count) < ILL
    positive = (
        generator.random(patients.size) < np.where(ill, POSITIVE_IF_ILL, POSITIVE_IF_NOT)[patients]
    )
    effects = generator.normal(0, PATIENT_EFFECT, patient_count)
    scores = effects[patients] + generator.standard_normal(patients.size) + SHIFT * positive
    return scores.astype(np.float32), positive, patients


def percentiles(
    scores: NDArray[np.float32],
    positive: NDArray[np.bool_],
    clusters: NDArray[np.int64],
    seed: int,
    replicates: int,
) -> tuple[float, float]:
    """Returns the bootstrap's 95 % interval with resampled clusters."""
    count = int(clusters[-1]) + 1
    resampler = FindingResampler(scores, positive, clusters, count)
    chunks = patient_weights(seed, count, replicates)
    values = np.concatenate(
        [resampler.replicates(weights, auroc_only=True)["auroc"] for weights in chunks]
    )
    low, high = np.percentile(values, INTERVAL_PERCENTILES)
    return float(low), float(high)


def delong(
    scores: NDArray[np.float32], positive: NDArray[np.bool_], clusters: NDArray[np.int64]
) -> tuple[float, float]:
    """Returns the analytic 95 % interval."""
    area, sums = (
        auroc(scores, positive),
        placement_sums(scores, positive, clusters, int(clusters[-1]) + 1),
    )
    assert area is not None, "both classes are always drawn"
    assert sums is not None
    reach = 1.959964 * float(np.sqrt(covariance(sums, sums) or 0))
    return area - reach, area + reach


if __name__ == "__main__":
    main()
