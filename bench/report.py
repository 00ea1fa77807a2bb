"""Benchmark: the official test split through the scoring service, until the report is received.

    .venv/bin/python -m bench.report [--rounds 5] [--replicates 2000]

Labels, patients and slices are NIH's (CXREVAL_SHARED or ../shared), 25,596 images; the predictions
are random but correlated with the labels. Client and service are two processes on loopback. The
lower bound is the same report computed in the client's process, without a service.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import grpc
import numpy as np

from bench.auroc import SHARED
from cxreval.client import ScoringClient
from cxreval.client.models import Predictions
from cxreval.datasets.truth import Truth, load_truth
from cxreval.metrics.report import Report
from tests.support.scoring import describe, scoring_service, serialised

SPLIT = SHARED / "nih-chestxray14"
BATCH = 256


def main() -> None:
    """Prints the median seconds of both, and the size of the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--replicates", type=int, default=2000)
    arguments = parser.parse_args()
    print(
        f"load average {os.getloadavg()[0]:.2f}, {len(os.sched_getaffinity(0))} cores, "
        f"grpcio {grpc.__version__}"
    )
    images = (SPLIT / "test_list.txt").read_text().split()
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "test-split"
        spec = describe(
            data, "test-split", images, SPLIT / "Data_Entry_2017_v2020.csv", arguments.replicates
        )
        truth = load_truth(spec, data)
        predictions = drawn(truth)
        streamed, computed = [], []
        with scoring_service(Path(scratch) / "scoring.log", **{"test-split": data}) as service:
            client = ScoringClient(service.address)
            for _ in range(arguments.rounds):
                start = time.perf_counter()
                report = client.score(spec, predictions)
                streamed.append(time.perf_counter() - start)
                start = time.perf_counter()
                floor = in_process(truth, predictions)
                computed.append(time.perf_counter() - start)
                assert serialised(report) == serialised(floor)
    whole, alone = statistics.median(streamed), statistics.median(computed)
    print(
        f"{spec.image_count:,} images, {report.patient_count:,} patients, "
        f"{report.replicate_count:,} replicates"
    )
    print(
        f"  through the service {whole:5.2f} s   in process {alone:5.2f} s"
        f"   ratio {alone / whole:.2f}"
    )
    print(
        f"  {len(report.metrics)} values, {len(serialised(report)) / 2**20:.2f} MiB"
        " with the evidence"
    )
    print(f"load average {os.getloadavg()[0]:.2f}")


def drawn(truth: Truth) -> list[Predictions]:
    """Returns predictions that are uniform, and higher where the finding is present."""
    images, labels = list(truth.rows), truth.cohort.labels
    probabilities = np.random.default_rng(14).random(labels.shape, np.float32)
    probabilities[labels] = np.sqrt(probabilities[labels])
    parts = [slice(first, first + BATCH) for first in range(0, len(images), BATCH)]
    return [Predictions(tuple(images[part]), probabilities[part]) for part in parts]


def in_process(truth: Truth, predictions: list[Predictions]) -> Report:
    """Computes the same report without a service."""
    table = truth.table()
    for batch in predictions:
        table.add(batch.images, batch.probabilities)
    return truth.report(table)


if __name__ == "__main__":
    main()
