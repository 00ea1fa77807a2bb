"""Benchmark: the time of the repeat sample as a share of an evaluation of 25,596 images.

    .venv/bin/python -m bench.repeat [CHECKPOINT.onnx]

Phantoms are predicted as a run does, and then one by one as the repeat sample is, three times in
turn; the medians are printed. Without a checkpoint, a DenseNet-121 with random weights is exported,
which needs the `export` extra.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.walk import CORES, ROUNDS, densenet, seconds
from cxreval.datasets import phantom
from cxreval.datasets.benchmark import image_list
from cxreval.datasets.nih import FINDINGS
from cxreval.evaluation.repeats import SAMPLE_IMAGES
from cxreval.evaluation.sources import Checkpoint
from tests.support.system import System, manifest

PATIENTS, RUN_IMAGES = 600, 25_596


def main() -> None:
    """Prints the time per image of a run and of the sample, and the sample's share."""
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        data = directory / "data"
        spec = phantom.generate(data, patients=PATIENTS, only="test")
        images = image_list(spec, data)
        files = [data / "images" / image for image in images]
        checkpoint, outputs = (
            (Path(sys.argv[1]), FINDINGS) if sys.argv[1:] else densenet(directory, files)
        )
        run, repeated, differences = [], [], []
        with System(directory, {spec.name: data}) as system:
            system.registry.create_benchmark(spec)
            system.registry.submit(spec.name, manifest(outputs=outputs), checkpoint)
            lease = system.registry.lease_evaluation("bench", [spec.name])
            assert lease
            sha256 = lease.submission.manifest.artifact_sha256
            source = Checkpoint(system.inference, lease, data / "images", sha256, outputs)

            def predict(one_by_one: bool) -> Callable[[], None]:
                return lambda: rows.update(source.rows(images, one_by_one=one_by_one))

            for _ in range(ROUNDS):
                rows: dict[str, np.ndarray] = {}
                run.append(seconds(predict(one_by_one=False)))
                first = np.stack([rows[image] for image in images])
                repeated.append(seconds(predict(one_by_one=True)))
                differences.append(abs(np.stack([rows[image] for image in images]) - first).max())
    batched, alone = (1000 * statistics.median(times) / len(images) for times in (run, repeated))
    share = SAMPLE_IMAGES * alone / (RUN_IMAGES * batched)
    print(f"{checkpoint.name}, {len(images)} images of 1024x1024, {CORES} cores")
    print(f"in a run    {batched:7.1f} ms an image")
    print(f"one by one  {alone:7.1f} ms an image, ratio {alone / batched:.2f}")
    print(f"largest difference {max(differences):.3g}")
    print(f"{SAMPLE_IMAGES} of {RUN_IMAGES:,} images: {share:.1%} of the run")


if __name__ == "__main__":
    main()
