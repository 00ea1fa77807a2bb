"""Benchmark: a script in its sandbox beside the same script without one.

    .venv/bin/python -m bench.isolation [--rounds N]

It prints what a run in the sandbox takes more than the bare script, and how many images a second a
script reads inside and outside. Both are run in turn; the medians are printed. The radiographs are
those of CXREVAL_SHARED or ../shared.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cxreval.reproduction.isolation.bubblewrap import Bubblewrap
from cxreval.reproduction.isolation.contract import Run
from tests.conftest import REPOSITORY

SECONDS = 300.0
EMPTY = "import os; open(os.environ['CXREVAL_OUT'], 'w').write('a\\n1\\n')"
READS = """
import hashlib, os, time
images, names = os.environ["CXREVAL_IMAGES"], open(os.environ["CXREVAL_LIST"]).read().split()
def read():
    for name in names:
        with open(os.path.join(images, name), "rb") as file:
            hashlib.sha256(file.read()).digest()
read()
started, count = time.perf_counter(), 0
while time.perf_counter() - started < 3.0:
    read()
    count += len(names)
open(os.environ["CXREVAL_OUT"], "w").write(str(count / (time.perf_counter() - started)))
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    shared = Path(os.environ.get("CXREVAL_SHARED", REPOSITORY.parent / "shared"))
    files = sorted((shared / "nih-chestxray14/images").glob("*.png"))
    if not files:
        sys.exit("no radiographs: set CXREVAL_SHARED to a directory with nih-chestxray14/images")
    isolation = Bubblewrap()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        for part in ("source", "images"):
            (directory / part).mkdir()
        for file in files:
            shutil.copyfile(file, directory / "images" / file.name)
        (directory / "list.txt").write_text("\n".join(file.name for file in files))
        (directory / "source/empty.py").write_text(EMPTY)
        (directory / "source/reads.py").write_text(READS)
        print(f"{len(files)} radiographs, load {os.getloadavg()[0]:.1f}, {rounds} rounds")
        inside, outside = [], []
        for _ in range(rounds):
            inside.append(seconds(lambda: isolation.run(run(directory, "empty.py"))))
            outside.append(seconds(lambda: bare(directory, "empty.py")))
        above = statistics.median(inside) - statistics.median(outside)
        print(
            f"run: {statistics.median(inside):.3f} s in the sandbox,"
            f" {statistics.median(outside):.3f} s bare, {above:.3f} s above (bar 0.5)"
        )
        rates = [
            (
                float(isolation.run(run(directory, "reads.py")).predictions()),
                float(bare(directory, "reads.py")),
            )
            for _ in range(rounds)
        ]
        medians = [statistics.median(column) for column in zip(*rates, strict=True)]
        ratio = statistics.median(first / second for first, second in rates)
        print(
            f"reading: {medians[0]:.0f} images/s in the sandbox, {medians[1]:.0f} outside,"
            f" ratio {ratio:.3f} (bar 0.97)"
        )


def run(directory: Path, entry_point: str) -> Run:
    return Run(
        source=directory / "source",
        entry_point=entry_point,
        environment=None,
        interpreter=Path(sys.executable),
        images=directory / "images",
        list_file=directory / "list.txt",
        seed=0,
    )


def bare(directory: Path, entry_point: str) -> str:
    """Runs a script without a sandbox; returns what it wrote."""
    variables = {
        "CXREVAL_IMAGES": str(directory / "images"),
        "CXREVAL_LIST": str(directory / "list.txt"),
        "CXREVAL_OUT": str(directory / "out.csv"),
    }
    interpreter = Path(sys.executable).resolve()
    subprocess.run(
        [str(interpreter), "-s", "-B", str(directory / "source" / entry_point)],
        env=variables,
        check=True,
        timeout=SECONDS,
    )
    return (directory / "out.csv").read_text()


def seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
