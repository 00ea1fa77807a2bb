"""Benchmark: 14 AUROCs by cxreval, scikit-learn, torchmetrics and SciPy's ranks: time and memory.

    .venv/bin/python -m bench.auroc [--rows 22433 1000000] [--rounds 5]

22,433 rows are NIH's labels and a real model's predictions if CXREVAL_SHARED (or ../shared) has
them; other sizes are random, with NIH's prevalences. Everything runs on one thread. Each size runs
in fresh processes, with the sort that NumPy selects and with its AVX2 sort, for all implementations
alike. The implementations run in turn; the medians and their ratios are printed, and all results
must agree.

On AMD Zen 4 NumPy selects its AVX-512 sort, whose compress-store is microcode there and several
times slower than the AVX2 sort (numpy/x86-simd-sort#6, open; numpy/numpy#32690). The workaround is
`NPY_DISABLE_CPU_FEATURES="AVX512_ICL X86_V4"`.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import importlib
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxreval.datasets.nih import FINDINGS
from cxreval.metrics.auroc import auroc

Table = tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.int64]]
"""Probabilities and labels, shape (rows, 14), and the patient of each row."""

SHARED = Path(os.environ.get("CXREVAL_SHARED", Path(__file__).parents[2] / "shared"))
PUBLISHED_ROWS, PUBLISHED_PATIENTS = 22_433, 6_187
MEMORY_ROWS = 1_000_000
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
AVX2_SORT = {"NPY_DISABLE_CPU_FEATURES": "AVX512_ICL X86_V4"}
NO_HEAP = {"MALLOC_MMAP_THRESHOLD_": "65536"}  # freed arrays are returned to the system at once

PREVALENCES = (
    0.103,
    0.025,
    0.119,
    0.177,
    0.051,
    0.056,
    0.013,
    0.047,
    0.042,
    0.021,
    0.022,
    0.015,
    0.030,
    0.002,
)
"""Share of positives in NIH ChestX-ray14, finding by finding."""


def main() -> None:
    """Prints a table of times for each size, then the memory."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[PUBLISHED_ROWS, MEMORY_ROWS])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.2f}, NumPy {np.__version__}")
    for rows in arguments.rows:
        for sort, environment in (("NumPy's choice of sort", {}), ("AVX2 sort", AVX2_SORT)):
            seconds = alone(environment, times, rows, arguments.rounds)
            print(f"\n{rows:,} rows, {sort}")
            for name, taken in seconds.items():
                ratio = taken / seconds["ours"]
                print(
                    f"  {name:<14} {taken * 1e3:10.1f} ms"
                    f" {taken / rows / 14 * 1e9:7.1f} ns a score {ratio:7.1f}x"
                )
    print(f"\nPeak memory above the predictions and labels, {MEMORY_ROWS:,} rows")
    for name in CONTESTANTS:
        print(f"  {name:<14} {alone(NO_HEAP, peak_bytes, name) / MEMORY_ROWS:10.1f} bytes a row")
    print(f"load average {os.getloadavg()[0]:.2f}")


def alone(environment: dict[str, str], function: Callable[..., Any], *arguments: object) -> Any:
    """Returns the function's result from a fresh process with these environment variables.

    NumPy reads them when it is imported.
    """
    before = dict(os.environ)
    os.environ.update(ONE_THREAD | environment)
    try:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            return process.submit(function, *arguments).result()
    finally:
        os.environ.clear()
        os.environ.update(before)


def times(rows: int, rounds: int) -> dict[str, float]:
    """Returns the median seconds of each implementation.

    Raises `AssertionError` if the results differ by more than a rounding error.
    """
    probabilities, labels, _ = table(rows)
    runs = {name: prepare(probabilities, labels) for name, prepare in CONTESTANTS.items()}
    answers = {name: run() for name, run in runs.items()}
    for name, answer in answers.items():
        # torchmetrics computes in float32.
        np.testing.assert_allclose(
            answer, answers["ours"], rtol=0, atol=1e-5 if name == "torchmetrics" else 1e-12
        )
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in taken.items()}


def peak_bytes(name: str) -> int:
    """Returns how much the process grows while the implementation runs. Linux only."""
    probabilities, labels, _ = table(MEMORY_ROWS)
    # A first run allocates what does not depend on the number of rows, such as imports.
    CONTESTANTS[name](probabilities[:1000], labels[:1000])()
    run = CONTESTANTS[name](probabilities, labels)
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = _status("VmRSS")
    run()
    return _status("VmHWM") - before


def _status(field: str) -> int:
    """Returns a size in bytes from /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def ours(probabilities: NDArray[np.float32], labels: NDArray[np.bool_]) -> Callable[[], Any]:
    """cxreval's implementation."""
    return lambda: list(map(auroc, probabilities.T, labels.T))


def scikit_learn(
    probabilities: NDArray[np.float32], labels: NDArray[np.bool_]
) -> Callable[[], Any]:
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415

    return lambda: roc_auc_score(labels, probabilities, average=None)


def torchmetrics(
    probabilities: NDArray[np.float32], labels: NDArray[np.bool_]
) -> Callable[[], Any]:
    """torchmetrics' exact mode, without its checks of the input."""
    # torchmetrics imports torchvision, which may not load without this module.
    importlib.import_module("cxreval.export.torch_libraries")
    import torch  # noqa: PLC0415
    from torchmetrics.functional.classification import multilabel_auroc  # noqa: PLC0415

    torch.set_num_threads(1)
    scores, truth = torch.from_numpy(probabilities), torch.from_numpy(labels.astype(np.int64))
    return lambda: multilabel_auroc(
        scores, truth, 14, average=None, thresholds=None, validate_args=False
    ).numpy()


def scipy_ranks(probabilities: NDArray[np.float32], labels: NDArray[np.bool_]) -> Callable[[], Any]:
    """The textbook formula: mean ranks of all rows, summed over the positives."""
    from scipy.stats import rankdata  # noqa: PLC0415

    positives = labels.sum(axis=0)
    pairs = positives * (len(labels) - positives)

    def run() -> NDArray[np.float64]:
        sums = [
            rankdata(scores)[positive].sum()
            for scores, positive in zip(probabilities.T, labels.T, strict=True)
        ]
        return np.asarray((sums - positives * (positives + 1) / 2) / pairs)

    return run


CONTESTANTS = {
    "ours": ours,
    "scikit-learn": scikit_learn,
    "torchmetrics": torchmetrics,
    "SciPy's ranks": scipy_ranks,
}


def table(rows: int) -> Table:
    """Returns the published table if it is available and has this size, else a random one."""
    file = SHARED / "predictions" / "densenet121" / "preds.csv.gz"
    return published(file) if rows == PUBLISHED_ROWS and file.is_file() else drawn(rows)


def published(file: Path) -> Table:
    """Returns a real model's predictions with NIH's labels."""
    with gzip.open(file, "rt") as lines:
        predicted = list(csv.DictReader(lines))
    with (SHARED / "nih-chestxray14" / "Data_Entry_2017_v2020.csv").open() as lines:
        entries = {row["Image Index"]: row for row in csv.DictReader(lines)}
    truth = [entries[row["Image Index"]] for row in predicted]
    present = [row["Finding Labels"].split("|") for row in truth]
    return (
        np.array(
            [[row[f"prob_{finding}"] for finding in FINDINGS] for row in predicted], np.float32
        ),
        np.array([[finding in names for finding in FINDINGS] for names in present]),
        np.unique([int(row["Patient ID"]) for row in truth], return_inverse=True)[1],
    )


def drawn(rows: int) -> Table:
    """Returns random scores that are higher for positives, with patients of very different sizes.

    There are as many patients per row as in the published table.
    """
    generator = np.random.default_rng(14)
    labels = generator.random((rows, 14), np.float32) < np.array(PREVALENCES, np.float32)
    probabilities = (
        generator.standard_normal((rows, 14), np.float32) + 1.4 * labels.astype(np.float32) - 3
    )
    np.negative(probabilities, out=probabilities)
    np.exp(probabilities, out=probabilities)
    probabilities += 1
    np.reciprocal(probabilities, out=probabilities)
    many = rows * PUBLISHED_PATIENTS // PUBLISHED_ROWS
    patients = np.minimum(many * generator.random(rows) ** 2, many - 1)
    return probabilities, labels, np.unique(patients.astype(np.int64), return_inverse=True)[1]


if __name__ == "__main__":
    main()
