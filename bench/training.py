"""Benchmark: the overlap of a declared list, and the membership signal of two real models.

    .venv/bin/python -m bench.training [--lists 20]

Needs CXREVAL_SHARED (or ../shared). The list has 100,000 of NIH's images. The models have not seen
the images of their predictions, so a list of randomly drawn patients must give a signal in one case
in twenty at most; NIH's own lists were not drawn at random among these images.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import os
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxreval.datasets.benchmark import read_list
from cxreval.datasets.benchmark_file import load_spec
from cxreval.datasets.nih import FINDINGS
from cxreval.datasets.training_list import TrainingData, TrainingUse, packed, unpacked
from cxreval.datasets.truth import load_truth, truth_of
from cxreval.metrics.contamination import PublicList, Scored, membership_signal
from cxreval.metrics.scorers import SCORERS

SHARED = Path(os.environ.get("CXREVAL_SHARED", Path(__file__).parents[2] / "shared"))
NIH = SHARED / "nih-chestxray14"
DECLARED, REPLICATES = 100_000, 500
SALT = "a-salt-of-the-bench"


def overlap() -> None:
    """Prints the time from a compressed list to the images that it covers."""
    truth = load_truth(load_spec("nih-chestxray14", NIH), NIH)
    assert truth.training is not None
    truth.training.prepare()  # as scoring does when it starts
    names = [*read_list(NIH / "train_val_list.txt"), *read_list(NIH / "test_list.txt")]
    names = names[-DECLARED:]
    for salt in ("", SALT):
        lines = [hashlib.sha256(f"{salt}{name}".encode()).hexdigest() for name in names]
        content = "\n".join(lines if salt else names).encode()
        digest = hashlib.sha256(content).hexdigest()
        data, sent = TrainingData(TrainingUse.IMAGES, digest, salt), packed(content)
        start, cpu = time.perf_counter(), time.process_time()
        exposure = truth.training.exposure(data, unpacked(sent, data))
        print(
            f"{DECLARED:,} {'hashes' if salt else 'images'}, {exposure.images.sum():,} of the "
            f"benchmark: {time.perf_counter() - start:.2f} s, "
            f"{time.process_time() - cpu:.2f} s of processor time"
        )


def predictions(model: str) -> tuple[list[str], NDArray[np.float32]]:
    """Returns the images of a published table, sorted, and their probabilities."""
    with gzip.open(SHARED / "predictions" / model / "preds.csv.gz", "rt") as file:
        table = {row["Image Index"]: row for row in csv.DictReader(file)}
    images = sorted(table)
    rows = [[table[image][f"prob_{finding}"] for finding in FINDINGS] for image in images]
    return images, np.array(rows, np.float32)


def signals(model: str, lists: int) -> None:
    """Prints the signals of a model that has seen none of the images."""
    images, probabilities = predictions(model)
    truth = truth_of(load_spec("nih-chestxray14", NIH), NIH, images)
    cohort = truth.cohort
    scored = Scored(SCORERS["2"], cohort, probabilities, 7, REPLICATES)
    generator = np.random.default_rng(2026)
    found = []
    for _ in range(lists):
        drawn = generator.random(cohort.patient_count) < 0.5
        signal = membership_signal(scored, PublicList("random", "", drawn[cohort.patients]))
        assert signal.difference is not None
        found.append((signal.difference, signal.signals))
    differences = [difference for difference, _ in found]
    print(
        f"{model}, {lists} random lists of half of the patients: {sum(hit for _, hit in found)} "
        f"signals, differences {min(differences):+.4f} to {max(differences):+.4f}"
    )
    for name in ("train_val_list", "test_list"):
        listed = {*read_list(NIH / f"{name}.txt")}
        members = np.array([image in listed for image in images])
        signal = membership_signal(scored, PublicList(name, "", members))
        bounds = signal.interval
        assert signal.difference is not None
        assert bounds is not None
        print(
            f"{model}, {name}: {signal.member_images:,} images, {signal.difference:+.4f} "
            f"({bounds.low:+.4f} to {bounds.high:+.4f})"
        )


def main() -> None:
    """Prints all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lists", type=int, default=20)
    options = parser.parse_args()
    overlap()
    for model in ("densenet121", "resnet50"):
        signals(model, options.lists)


if __name__ == "__main__":
    main()
