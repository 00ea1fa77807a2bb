"""A board of two real models: their predictions on 22,433 radiographs, scored in this process."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from cxreval.client import ClaimedMetric, Manifest, Predictions, WorkerClient
from cxreval.datasets.truth import Truth, load_truth
from tests.support.scoring import describe
from tests.support.system import claim, manifest, predictions

NAME = "nih-22433"
REPLICATES = 100

_WORKER = {
    "cpu": "AMD EPYC 9654", "cpu_cores": "16", "threads": "8", "device": "cpu",
    "images_per_second": "41.7", "profile": "xrv-224",
    "started": "2026-11-30T13:02:11+00:00", "finished": "2026-11-30T13:12:20+00:00",
}  # fmt: skip
"""What a worker says about a run, made up."""


def fill(client: WorkerClient, directory: Path, shared: Path) -> dict[str, str]:
    """Creates the board with three rows, a claim and a queued submission.

    `directory`: an empty directory. `shared`: the directory of real data. Returns the names of the
    submissions by model; the queued one is `queued`.
    """
    data = directory / NAME
    tables = {model: table(shared, model) for model in ("densenet121", "resnet50")}
    images = sorted(tables["densenet121"][1])
    labels = shared / "nih-chestxray14" / "Data_Entry_2017_v2020.csv"
    spec = describe(data, NAME, images, labels, REPLICATES)
    spec = replace(spec, title="NIH ChestX-ray14, official test images with predictions")
    client.create_benchmark(spec)
    truth = load_truth(spec, data)
    client.record_image_list(NAME, list(truth.rows))
    dense, residual = (probabilities(each, truth) for each in tables.values())
    rows = {
        "DenseNet-121": (manifest("DenseNet-121", outputs=spec.findings), dense),
        "ResNet-50": (manifest("ResNet-50", outputs=spec.findings), residual),
        "Mean of both": (predictions("Mean of both"), (dense + residual) / 2),
    }
    names: dict[str, str] = {}
    for number, (model, (declared, values)) in enumerate(rows.items()):
        file = directory / "model"
        file.write_text(str(number))
        names[model] = client.submit(NAME, _described(declared), file).name
        publish(client, truth, values, _WORKER)
    names["claim"] = client.submit(NAME, _described(claim("A published figure", 0.842))).name
    file.write_text("queued")
    waiting = manifest("Not yet run", outputs=spec.findings)
    names["queued"] = client.submit(NAME, waiting, file).name
    return names


def table(shared: Path, model: str) -> tuple[list[str], list[str], np.ndarray]:
    """Returns the header, the images and the values of a model's predictions."""
    with gzip.open(shared / "predictions" / model / "preds.csv.gz", "rt") as file:
        header, *rows = csv.reader(file)
    values = np.array([row[1:] for row in rows], np.float32)
    return header, [row[0] for row in rows], values


def probabilities(of: tuple[list[str], list[str], np.ndarray], truth: Truth) -> np.ndarray:
    """Returns the probabilities with the images and findings in the order of the truth."""
    header, images, values = of
    places = {image: place for place, image in enumerate(images)}
    columns = [header.index(f"prob_{finding}") - 1 for finding in truth.spec.findings]
    return np.ascontiguousarray(values[[places[image] for image in truth.rows]][:, columns])


def _described(declared: Manifest) -> Manifest:
    return replace(
        declared,
        organisation="Example University Hospital",
        source_url="https://example.org/models",
        claimed_metrics=(ClaimedMetric("auroc", 0.84),),
    )


def publish(
    client: WorkerClient, truth: Truth, values: np.ndarray, provenance: Mapping[str, str]
) -> None:
    """Runs the next evaluation of the queue: records the predictions and their report."""
    images = tuple(truth.rows)
    lease = client.lease_evaluation("worker", [NAME])
    assert lease
    for start in range(0, len(images), 4096):
        part = slice(start, start + 4096)
        client.append_predictions(lease, Predictions(images[part], values[part]))
    recorded = truth.table()
    recorded.add(images, values)
    client.complete_evaluation(lease, truth.report(recorded), provenance)
