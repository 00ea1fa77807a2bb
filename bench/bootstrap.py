"""Benchmark: 2,000 resamples of the patients for 14 findings, and a loop of scikit-learn's AUROC.

    .venv/bin/python -m bench.bootstrap [--replicates 2000] [--naive 20] [--rounds 3]

The rows are those of `bench.auroc`: 22,433 of 6,187 patients. The loop runs the first `--naive`
resamples of the same sequence, and its time is scaled; its values must equal cxreval's. Both run on
one thread, in turn; the medians are printed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from bench.auroc import AVX2_SORT, PUBLISHED_ROWS, alone, table
from cxreval.metrics.resampling import FindingResampler, patient_weights

SEED = 14


def main() -> None:
    """Prints both times and their ratio, with both of NumPy's sorts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--replicates", type=int, default=2000)
    parser.add_argument("--naive", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(
        f"load average {os.getloadavg()[0]:.2f}, NumPy {np.__version__}, "
        f"{arguments.replicates} replicates, 14 findings"
    )
    for sort, environment in (("NumPy's choice of sort", {}), ("AVX2 sort", AVX2_SORT)):
        ours, naive = alone(
            environment, times, arguments.replicates, arguments.naive, arguments.rounds
        )
        print(
            f"{sort:<22}  ours {ours:6.2f} s   loop {naive:7.1f} s, scaled"
            f"   ratio {naive / ours:.0f}x"
        )
    print(f"load average {os.getloadavg()[0]:.2f}")


def times(replicates: int, naive_replicates: int, rounds: int) -> tuple[float, float]:
    """Returns the median seconds of cxreval and of the loop, the latter scaled up."""
    probabilities, labels, patients = table(PUBLISHED_ROWS)
    ours, naive = [], []
    for _ in range(rounds):
        start = time.perf_counter()
        values = resampled(probabilities, labels, patients, replicates)
        ours.append(time.perf_counter() - start)
        start = time.perf_counter()
        expected = loop(probabilities, labels, patients, naive_replicates)
        naive.append((time.perf_counter() - start) * replicates / naive_replicates)
        np.testing.assert_allclose(values[:naive_replicates], expected, rtol=0, atol=1e-12)
    return statistics.median(ours), statistics.median(naive)


def resampled(
    probabilities: NDArray[np.float32],
    labels: NDArray[np.bool_],
    patients: NDArray[np.int64],
    replicates: int,
) -> NDArray[np.float64]:
    """Returns cxreval's AUROCs, (replicates, 14), including the preparation of the scores."""
    count = int(patients.max()) + 1
    columns = zip(probabilities.T, labels.T, strict=True)
    findings = [FindingResampler(scores, positive, patients, count) for scores, positive in columns]
    return np.concatenate(
        [
            np.column_stack(
                [finding.replicates(weights, auroc_only=True)["auroc"] for finding in findings]
            )
            for weights in patient_weights(SEED, count, replicates)
        ]
    )


def loop(
    probabilities: NDArray[np.float32],
    labels: NDArray[np.bool_],
    patients: NDArray[np.int64],
    replicates: int,
) -> NDArray[np.float64]:
    """Returns the same by repeating each patient's rows as often as the patient was drawn."""
    weights = next(patient_weights(SEED, int(patients.max()) + 1, replicates))
    aurocs = []
    for drawn in weights.T:
        rows = np.repeat(np.arange(patients.size), drawn[patients].astype(np.int64))
        aurocs.append(roc_auc_score(labels[rows], probabilities[rows], average=None))
    return np.array(aurocs)


if __name__ == "__main__":
    main()
